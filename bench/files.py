"""One SQLite file: opened by very many at once while it is new, and bounded in bytes whatever is written to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from askonce import Cache, NotCached
from bench.crew import SLACK, Crew, Desk
from bench.places import sqlite
from bench.questions import answer, question
from bench.row import Reading

OPENS, PROCESSES = 1000, 8
WRITERS = 4
FACTOR = 1.2
SIZES = (1_000, 4_000, 20_000, 100_000)  # of answers, in turn


def opens(quick: bool) -> Iterator[Reading]:
    """1,000 caches on one file that is not there yet, each with a thread of its own; each looks."""
    total, files = (80, 2) if quick else (OPENS, 5)
    failures: list[str] = []
    longest = 0.0
    for _ in range(files):
        with sqlite() as place, Crew() as crew:
            for _ in range(PROCESSES):
                crew.hire(open_all, place.url, total // PROCESSES)
            crew.ready()
            crew.start()
            for met in crew.results(120):
                failures += met.failures
                longest = max(longest, met.longest)
    yield Reading(
        f"{files} new files, {total} opens each by {PROCESSES} processes",
        f"{len(failures)} failures{': ' + failures[0] if failures else ''}; the longest open and read {longest:.2f} s",
        not failures,
        {"failures": len(failures), "longest_s": longest},
    )


def bound(quick: bool) -> Iterator[Reading]:
    """3 x max_bytes of answers, from 4 processes; the file with its log is looked at all the while."""
    for mebibytes in (8,) if quick else (8, 64):
        yield _bound(mebibytes << 20)


def _bound(room: int) -> Reading:
    with sqlite() as place, Crew() as crew:
        for number in range(WRITERS):
            crew.hire(write, place.url, room, 3 * room // WRITERS, number)
        crew.ready()
        crew.start()
        most = _watched(crew, place.folder)
        after = _size(place.folder)
    return Reading(
        f"max_bytes {room >> 20} MiB, {WRITERS} processes",
        f"{after / room:.2f} of max_bytes at the end, {most / room:.2f} at most",
        most <= FACTOR * room,
        {"end": after / room, "most": most / room},
    )


def _watched(crew: Crew, folder: Path) -> int:
    """The largest size seen until every worker has written."""
    most, waiting = 0, list(crew.hands)
    while waiting:
        most = max(most, _size(folder))
        waiting = [hand for hand in waiting if not hand.said()]
        time.sleep(0.01)
    for hand in crew.hands:
        hand.hear(SLACK)
    return most


def _size(folder: Path) -> int:
    """Of the file, its log and its index."""
    total = 0
    for one in folder.glob("cache.db*"):
        try:
            total += one.stat().st_size
        except FileNotFoundError:
            continue  # the log, as the last one closed
    return total


class Met(NamedTuple):
    """What the opens of one process met."""

    failures: list[str]
    longest: float


def open_all(desk: Desk, url: str, count: int) -> Met:
    """So many caches at one moment."""
    at = desk.ready()
    failures: list[str] = []
    times: list[float] = []

    def open_one() -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        began = time.monotonic()
        try:
            with Cache(url) as cache:
                _look(cache)
                times.append(time.monotonic() - began)
                failures.extend(name for name in cache.stats() if name.startswith("trouble."))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            failures.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=open_one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Met(failures, max(times, default=0.0))


def _look(cache: Cache) -> None:
    try:
        cache.fetch(question("nobody asked this"), lambda: None, control="only-if-cached")
    except NotCached:
        return


def write(desk: Desk, url: str, room: int, total: int, number: int) -> int:
    """Answers of about `total` bytes."""
    with Cache(url, max_bytes=room) as cache:
        desk.ready()
        written = count = 0
        while written < total:
            size = SIZES[count % len(SIZES)]
            value = answer(f"{number} {count}", size)
            cache.fetch(question(f"{number} {count}", 300), lambda value=value: value)  # type: ignore[misc]
            written += size
            count += 1
    return count
