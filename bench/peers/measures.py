"""What is measured. Each measure takes the peers in turn, and notes numbers or the reason why there are none.

A peer that fails once is left alone by that measure, and its reason stands in its row; the others go on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from askonce.testing import ValkeyServer
from bench.compare import median, quantile
from bench.peers.adapter import Place
from bench.peers.catalog import Peer, Use
from bench.peers.driver import Running, Silent, running, statement
from bench.peers.environments import Environment, ready
from bench.peers.upstream import Counted
from bench.workers import SETTLE, Failed

SIZES = {"2 KB": 2_000, "50 KB": 50_000}


class Extent(NamedTuple):
    """How much is measured: the full size, or a quick one that shows whether it works."""

    turns: int = 30  # of hits and misses
    hits: int = 25  # lookups in a turn
    misses: int = 10
    entries: int = 1_000  # of 2 KB; as many bytes of 50 KB
    pause: float = 0.2  # s between filling and reading, for peers that store in the background
    rounds: int = 3  # of stampedes, and of first hits
    imports: int = 5
    processes: int = 8
    callers: int = 25  # in each process
    call: float = 1.0  # s of a call in a stampede
    lost: float = 3.0  # s of the call whose process is killed
    limit: float = 60.0  # s that others wait for a killed one


FULL = Extent()
QUICK = Extent(turns=2, hits=10, misses=5, entries=20, rounds=1, imports=1, processes=2, callers=5, limit=12.0)

Notes = dict[str, dict[str, Any]]


class Bench:
    """One run: its peers with their environments and places, the upstream, and the notes of each peer."""

    def __init__(self, uses: Sequence[Use], folder: Path, extent: Extent, tell: Callable[[str], None]) -> None:
        self.peers = [peer for use in uses for peer in use.peers]
        self.extent, self.tell, self._folder = extent, tell, folder
        self.notes: Notes = {peer.name: {"failed": {}} for peer in self.peers}
        self._environments: dict[str, Environment | Failed] = {}
        self._places: dict[str, Place] = {}

    def prepare(self) -> None:
        """Make the environments that are missing; a peer that cannot be installed has only its reason."""
        for peer in self.peers:
            if peer.room.name not in self._environments:
                self.tell(f"environment: {peer.room.name}")
                self._environments[peer.room.name] = self._ready(peer)
            with self.noting(peer, "install"):
                found = self.environment(peer)
                self.notes[peer.name] |= {"size": found.size, "versions": found.versions}

    def _ready(self, peer: Peer) -> Environment | Failed:
        try:
            return ready(peer.room, self._folder)
        except Failed as failed:
            return failed

    def environment(self, peer: Peer) -> Environment:
        """The environment of a peer; Failed if there is none."""
        found = self._environments[peer.room.name]
        if isinstance(found, Failed):
            raise found
        return found

    @contextmanager
    def noting(self, peer: Peer, measure: str) -> Iterator[None]:
        """Note the reason if the peer fails."""
        try:
            yield
        except Failed as failed:
            self.notes[peer.name]["failed"][measure] = str(failed)
            self.tell(f"{peer.name}: no {measure}: {failed}")

    def installed(self) -> list[Peer]:
        return [peer for peer in self.peers if "install" not in self.notes[peer.name]["failed"]]

    @contextmanager
    def served(self) -> Iterator[Counted]:
        """The server, the folders and the upstream that all share; a database and a folder for each."""
        options = {"databases": 2 * len(self.peers) + 1}
        with ValkeyServer(options=options) as server, tempfile.TemporaryDirectory() as root, Counted() as upstream:
            for number, peer in enumerate(self.peers):
                folder = Path(root, str(number))
                folder.mkdir()
                on_file = peer.store == "SQLite"
                url = f"sqlite:///{folder / 'askonce.db'}" if on_file else f"{server.url.removesuffix('/0')}/{number}"
                self._places[peer.name] = Place(url, str(folder))
            yield upstream

    @contextmanager
    def running(self, peer: Peer, count: int = 1) -> Iterator[list[Running]]:
        """Workers of a peer."""
        with running(count, self.environment(peer).python, peer.adapter, self._places[peer.name]) as workers:
            yield workers

    def start(self, peer: Peer) -> Running:
        """A worker whose peer is not imported yet."""
        return Running(self.environment(peer).python, peer.adapter, self._places[peer.name])


def everything(bench: Bench) -> Notes:
    """All measures, one after another."""
    bench.prepare()
    with bench.served() as upstream:
        for measure in (lookups, starts, stampedes, killed):
            bench.tell(measure.__name__)
            measure(bench, upstream)
    return bench.notes


# --- hits, misses and memory ------------------------------------------------------------------------------------------


def lookups(bench: Bench, upstream: Counted) -> None:
    """Hits and misses, a few of each peer in turn; and the memory of each process before."""
    with ExitStack() as stack:
        workers: dict[Peer, Running] = {}
        for peer in bench.installed():
            with bench.noting(peer, "lookups"):
                (worker,) = stack.enter_context(bench.running(peer))
                _filled(bench, upstream, peer, worker)
                workers[peer] = worker
        times: dict[tuple[Peer, str, str], list[int]] = {}
        for _ in range(bench.extent.turns):
            for peer in list(workers):
                with bench.noting(peer, "lookups"):
                    _turn(bench, upstream, peer, workers[peer], times)
                if "lookups" in bench.notes[peer.name]["failed"]:
                    del workers[peer]
    for (peer, kind, size), found in times.items():
        bench.notes[peer.name].setdefault(kind, {})[size] = _summary(found)


def _filled(bench: Bench, upstream: Counted, peer: Peer, worker: Running) -> None:
    for size, length in SIZES.items():
        group, count, pause = f"kept-{length}", max(1, bench.extent.entries * 2_000 // length), bench.extent.pause
        memory = worker.ask("fill", url=upstream.url(length), group=group, count=count, pause=pause)
        bench.notes[peer.name].setdefault("memory", memory)  # with the small ones alone
        bench.tell(f"{peer.name}: {bench.extent.entries} entries of {size}")


def _turn(
    bench: Bench, upstream: Counted, peer: Peer, worker: Running, times: dict[tuple[Peer, str, str], list[int]]
) -> None:
    for size, length in SIZES.items():
        url, before = upstream.url(length), upstream.paid()
        if peer.cache:
            hits = worker.ask("hits", url=url, group=f"kept-{length}", count=bench.extent.hits)
            if paid := upstream.paid() - before:
                raise Failed(f"{paid} of {bench.extent.hits} lookups of stored answers were paid")
            times.setdefault((peer, "hit", size), []).extend(hits)
        misses = worker.ask("misses", url=url, count=bench.extent.misses)
        times.setdefault((peer, "miss", size), []).extend(misses)


def _summary(times: Sequence[float]) -> dict[str, float]:
    """Of ns, in us."""
    return {"p50": round(median(times) / 1e3, 1), "p99": round(quantile(times, 0.99) / 1e3, 1), "of": len(times)}


# --- the start of a process -------------------------------------------------------------------------------------------


def starts(bench: Bench, upstream: Counted) -> None:
    """The import statement, and everything from the import to the first hit, in new processes, in turn."""
    imports: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    for number in range(bench.extent.imports):
        for peer in bench.installed():
            if peer.cache and not bench.notes[peer.name]["failed"]:
                with bench.noting(peer, "start"):
                    python = bench.environment(peer).python
                    imports.setdefault(peer.name, []).append(statement(python, peer.room.imports))
                    if number < bench.extent.rounds:
                        firsts.setdefault(peer.name, []).append(_first(bench, upstream, peer))
    for name, seconds in imports.items():
        bench.notes[name]["import"] = round(median(seconds) * 1e3, 1)
        bench.notes[name]["first"] = round(median(firsts.get(name) or [0.0]) * 1e3, 1)


def _first(bench: Bench, upstream: Counted, peer: Peer) -> float:
    worker = bench.start(peer)
    try:
        seconds: float = worker.ask("first", url=upstream.url(2_000), name="kept-2000-0")
    finally:
        worker.end()
    return seconds


# --- many at once -----------------------------------------------------------------------------------------------------


def stampedes(bench: Bench, upstream: Counted) -> None:
    """One new question asked by all callers of all processes at one time; the peers in turn, in new processes."""
    extent = bench.extent
    seen: dict[str, list[tuple[int, float, int]]] = {}
    for number in range(extent.rounds):
        for peer in _caches(bench):
            if "stampede" in bench.notes[peer.name]["failed"]:
                continue
            with bench.noting(peer, "stampede"), bench.running(peer, extent.processes) as workers:
                found = _stampede(extent, upstream, workers, f"crowd-{number}-{bench.peers.index(peer)}")
                seen.setdefault(peer.name, []).append(found)
                bench.tell(f"{peer.name}: {found[0]} calls paid, {found[1]:.2f} s")
    for name, rounds in seen.items():
        bench.notes[name]["stampede"] = {
            "paid": sorted(paid for paid, _, _ in rounds),
            "seconds": round(median([seconds for _, seconds, _ in rounds]), 2),
            "errors": sum(errors for _, _, errors in rounds),
        }


def _caches(bench: Bench) -> list[Peer]:
    return [peer for peer in bench.installed() if peer.cache]


def _stampede(extent: Extent, upstream: Counted, workers: Sequence[Running], name: str) -> tuple[int, float, int]:
    """The calls paid, the seconds until the last caller had its answer, and the callers with an error."""
    url = upstream.url(2_000, extent.call)
    _warm(upstream, workers)
    at = time.monotonic() + SETTLE
    for worker in workers:
        worker.order("crowd", url=url, name=name, callers=extent.callers, at=at)
    ends = [end for worker in workers for end in worker.reply()]
    right = _right(ends)
    return upstream.paid(name), max(right) - at, len(ends) - len(right)


# --- a leader that is killed ------------------------------------------------------------------------------------------


def killed(bench: Bench, upstream: Counted) -> None:
    """The process whose call is under way is killed while others wait for it. All peers at once, for they only wait."""
    peers = _caches(bench)
    with ThreadPoolExecutor(len(peers)) as pool:
        list(pool.map(lambda peer: _killed(bench, upstream, peer), peers))


def _killed(bench: Bench, upstream: Counted, peer: Peer) -> None:
    extent, name = bench.extent, f"lost-{bench.peers.index(peer)}"
    url = upstream.url(2_000, extent.lost)
    with bench.noting(peer, "killed"), bench.running(peer, 3) as workers:
        leader, *others = workers
        _warm(upstream, workers)
        leader.order("crowd", url=url, name=name, callers=1, at=0.0)
        _until(lambda: upstream.paid(name) > 0, min(extent.limit, 30.0))
        for worker in others:
            worker.order("crowd", url=url, name=name, callers=5, at=0.0)
        time.sleep(extent.lost / 3)
        leader.kill()
        at = time.monotonic()
        ends = _ends(others, at, extent.limit)
        right = _right(ends)
        seconds, errors = round(max(right) - at, 1), len(ends) - len(right)
        bench.notes[peer.name]["killed"] = {"paid": upstream.paid(name), "seconds": seconds, "errors": errors}


def _ends(workers: Sequence[Running], at: float, limit: float) -> list[Any]:
    """What all callers saw within so many seconds."""
    try:
        return [end for worker in workers for end in worker.reply(max(0.1, at + limit - time.monotonic()))]
    except Silent:
        raise Failed(f"not all served within {limit:g} s") from None


def _right(ends: Sequence[Any]) -> list[float]:
    """The times of the callers that had an answer."""
    right = [end for end in ends if isinstance(end, float)]
    if not right:
        raise Failed(f"no caller had an answer: {ends[0]}")
    return right


def _warm(upstream: Counted, workers: Sequence[Running]) -> None:
    """Let each worker open its connections, with a question of its own."""
    for number, worker in enumerate(workers):
        worker.order("fill", url=upstream.url(2_000), group=f"warm-{number}", count=1)
    for worker in workers:
        worker.reply()


def _until(true: Callable[[], bool], limit: float) -> None:
    ends = time.monotonic() + limit
    while not true():
        if time.monotonic() > ends:
            raise Failed(f"the call did not begin within {limit:g} s")
        time.sleep(0.01)
