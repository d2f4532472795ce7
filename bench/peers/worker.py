"""The process of one peer, run by the Python of that peer's environment: ``python -m bench.peers.worker ADAPTER ...``.

It reads orders, one line of JSON each, and answers each with a line: ``{"done": ...}`` or ``{"failed": reason}``. It
imports its peer with the first order, so that the time that this takes can be measured. What the peer prints goes
elsewhere.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

from bench.peers.adapter import Adapter, Place, Upstream
from bench.questions import question

WARM = 3  # lookups before those that are timed: another process has just used the processor


class Wrong(Exception):
    """A peer gave an answer that belongs to another question."""


class Work:
    """What a worker can be told to do."""

    def __init__(self, adapter: str, place: Place) -> None:
        self._adapter, self._place = adapter, place
        self._upstream = Upstream("")
        self._new = 0
        self._loop = asyncio.new_event_loop()
        self._questions: dict[str, list[Any]] = {}
        self.peer: Adapter

    def open(self) -> float:
        """Import the peer, and open it; the seconds that this took."""
        began = time.perf_counter()
        module, _, name = self._adapter.partition(":")
        adapter = getattr(importlib.import_module(f"bench.peers.adapters.{module}"), name)
        self.peer = adapter(self._place, self._upstream)
        return time.perf_counter() - began

    def first(self, url: str, name: str) -> float:
        """Import, open, and ask once; the seconds that all this took."""
        request = question(name)
        began = time.perf_counter()
        self.open()
        self._ask_all(url, [name], [self.peer.prepare(request)])
        return time.perf_counter() - began

    def fill(self, url: str, group: str, count: int, pause: float = 0.0) -> int:
        """Ask as many new questions, and each once more after a pause in s; the memory of this process in bytes."""
        names = [f"{group}-{number}" for number in range(count)]
        prepared = self._questions[group] = [self.peer.prepare(question(name)) for name in names]
        self._ask_all(url, names, prepared)
        time.sleep(pause)  # some peers store in the background
        self._ask_all(url, names, prepared)
        return resident()

    def hits(self, url: str, group: str, count: int) -> list[int]:
        """Ask these questions in turn, as many times in all; ns each."""
        kept = self._questions[group]
        self._new += count
        return self._ask_all(url, [], islice_from(kept, self._new, WARM + count))[WARM:]

    def misses(self, url: str, count: int) -> list[int]:
        """Ask as many new questions; ns each."""
        first, self._new = self._new, self._new + WARM + count
        names = [f"new-{os.getpid()}-{number}" for number in range(first, self._new)]
        return self._ask_all(url, names, [self.peer.prepare(question(name)) for name in names])[WARM:]

    def crowd(self, url: str, name: str, callers: int, at: float) -> list[Any]:
        """So many callers ask one question at a time of time.monotonic(): the end of each, or its error."""
        prepared = self.peer.prepare(question(name))
        self._upstream.url = url
        if inspect.iscoroutinefunction(self.peer.ask):
            return self._loop.run_until_complete(self._tasks(prepared, name, callers, at))
        with ThreadPoolExecutor(callers) as pool:
            return list(pool.map(lambda _: self._caller(prepared, name, at), range(callers)))

    def _caller(self, prepared: Any, name: str, at: float) -> Any:
        time.sleep(max(0.0, at - time.monotonic()))
        try:
            answer = self.peer.ask(prepared)
        except Exception as error:  # noqa: BLE001 - it is what the caller saw
            return type(error).__name__
        return self._ended(answer, name)

    async def _tasks(self, prepared: Any, name: str, callers: int, at: float) -> list[Any]:
        async def caller() -> Any:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            try:
                answer = await self.peer.ask(prepared)
            except Exception as error:  # noqa: BLE001 - it is what the caller saw
                return type(error).__name__
            return self._ended(answer, name)

        return list(await asyncio.gather(*[caller() for _ in range(callers)]))

    def _ended(self, answer: Any, name: str) -> Any:
        ended = time.monotonic()
        return ended if self.peer.text(answer).startswith(f"{name}: ") else Wrong.__name__

    def _ask_all(self, url: str, names: Sequence[str], prepared: Sequence[Any]) -> list[int]:
        """Ask one after another; ns each. Answers are compared with the names where there are some."""
        self._upstream.url = url
        if inspect.iscoroutinefunction(self.peer.ask):
            times, answers = self._loop.run_until_complete(_awaited(self.peer.ask, prepared))
        else:
            times, answers = _called(self.peer.ask, prepared)
        for name, answer in zip(names, answers, strict=False):
            if not self.peer.text(answer).startswith(f"{name}: "):
                raise Wrong(f"the answer to {name} was {self.peer.text(answer)[:40]}")
        return times


def _called(ask: Callable[[Any], Any], prepared: Sequence[Any]) -> tuple[list[int], list[Any]]:
    times, answers, now = [], [], time.perf_counter_ns
    for one in prepared:
        began = now()
        answer = ask(one)
        times.append(now() - began)
        answers.append(answer)
    return times, answers


async def _awaited(ask: Callable[[Any], Any], prepared: Sequence[Any]) -> tuple[list[int], list[Any]]:
    times, answers, now = [], [], time.perf_counter_ns
    for one in prepared:
        began = now()
        answer = await ask(one)
        times.append(now() - began)
        answers.append(answer)
    return times, answers


def islice_from(values: Sequence[Any], first: int, count: int) -> list[Any]:
    """So many values from a place on, from the beginning again after the end."""
    return list(islice(cycle(values), first % len(values), first % len(values) + count))


def resident() -> int:
    """The memory of this process in bytes, 0 where the system does not say."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123 - pathlib is not the peer's memory
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
    except OSError:
        return 0


def main(adapter: str, url: str, folder: str) -> None:
    """Do what is said until nobody speaks any more."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what a peer prints is no reply
    work = Work(adapter, Place(url, folder))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = {"done": getattr(work, order.pop("do"))(**order)}
        except Exception as error:  # noqa: BLE001 - it is the reason that the peer's row gives
            reply = {"failed": f"{type(error).__name__}: {error}"}
        os.write(replies, json.dumps(reply).encode() + b"\n")
    os._exit(0)  # a peer's threads must not keep it


if __name__ == "__main__":
    main(*sys.argv[1:])
