"""A server that is closed, frozen, restarted empty, or hangs up on idle connections: what that costs a caller.

A caller may be late by one store timeout for each of the two commands that open the breaker, and by nothing afterwards;
he never sees an exception, or this row would. What is measured is the time beyond the call's own.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from askonce import AsyncCache, Cache, Outcome
from bench import places
from bench.places import MODES, Opener, Place
from bench.questions import answer, question
from bench.row import Failed, Reading, quantile

FIRST = 0.25  # s beyond the call, of lookups that meet the trouble
AFTER = 0.001  # s beyond the call while the breaker is open
BACK = 2.0  # s until the store serves again
CALL = 0.05  # s of an upstream call
CROWD = 10  # callers at once


class Told(NamedTuple):
    """One lookup: s beyond its call, whether it was paid, and its status."""

    over: float
    paid: bool
    status: str


class Asker(Protocol):
    """A cache of either mode, asked from here."""

    def ask(self, name: object, seconds: float = CALL) -> Told: ...
    def crowd(self, names: list[str], seconds: float = CALL) -> list[Told]: ...


def any_way(quick: bool) -> Iterator[Reading]:
    """Each trouble, in threads and in tasks, with Valkey; in full also with Redis."""
    openers: list[Opener] = [places.valkey] if quick else [places.valkey, places.redis]
    for opener in openers:
        for mode in MODES:
            for trouble in TROUBLES:
                yield met(opener, mode, trouble, 1000 if quick else 5000)


def met(opener: Opener, mode: str, trouble: str, count: int) -> Reading:
    """One trouble; `count` lookups while the breaker is open."""
    with opener() as place, ASKERS[mode](place.url) as asker:
        _warm(asker)
        return TROUBLES[trouble](f"{place.name}, {mode}, {trouble}", place, asker, count)


def _closed(case: str, place: Place, asker: Asker, count: int) -> Reading:
    place.running.stop()
    return _troubled(case, asker, count, place.running.start)


def _frozen(case: str, place: Place, asker: Asker, count: int) -> Reading:
    place.running.freeze()
    return _troubled(case, asker, count, place.running.thaw)


def _troubled(case: str, asker: Asker, count: int, mend: Callable[[], object]) -> Reading:
    """From the first lookup that meets the trouble to the first that is served from the store again."""
    firsts = [asker.ask("known"), *asker.crowd(_names(CROWD)), *[asker.ask(name) for name in _names(3)]]
    open_now = [asker.ask(name, 0.0).over for name in _names(count)]
    mend()
    back = _back(asker)
    first, after = max(told.over for told in firsts), quantile(open_now, 0.99)
    visible = all("detail=store-" in told.status for told in firsts)
    return Reading(
        case,
        f"first lookups at most {first * 1000:.0f} ms over their calls; breaker open: p50 {_us(open_now, 0.5)},"
        f" p99 {_us(open_now, 0.99)}, most {_us(open_now, 1.0)}; back after {back:.2f} s"
        + ("" if visible else "; not all visible"),
        first <= FIRST and after <= AFTER and back <= BACK and visible,
        {"first_s": first, "after_p99_s": after, "after_max_s": max(open_now), "back_s": back},
    )


def _frozen_under_way(case: str, place: Place, asker: Asker, _count: int) -> Reading:
    """The server freezes between a lookup and its fill."""
    timer = threading.Timer(0.2, place.running.freeze)
    timer.start()
    told = asker.ask("under way", 0.4)
    timer.join()
    place.running.thaw()
    back = _back(asker)
    return Reading(
        case,
        f"{told.over * 1000:.0f} ms over the call; back after {back:.2f} s",
        told.over <= FIRST and back <= BACK,
        {"over_s": told.over, "back_s": back},
    )


def _restarted(case: str, place: Place, asker: Asker, _count: int) -> Reading:
    """Its data are gone, and its scripts."""
    place.running.stop()
    place.running.start()
    first, again = asker.ask("known"), asker.ask("known")
    back = 0.0 if "hit" in again.status else _back(asker)
    return Reading(
        case,
        f"first lookup {first.over * 1000:.1f} ms over its call ({_said(first)}), the next {_said(again)};"
        f" back after {back:.2f} s",
        first.over <= FIRST and first.paid and back <= BACK,
        {"first_s": first.over, "back_s": back},
    )


def _idle(case: str, place: Place, asker: Asker, count: int) -> Reading:
    """Every connection is cut while nobody uses it, again and again."""
    told = []
    for _ in range(max(5, count // 200)):
        place.running.kill_connections()
        told += [asker.ask("known"), *asker.crowd(["known"] * CROWD)]
    paid, most = sum(one.paid for one in told), max(one.over for one in told)
    return Reading(
        case,
        f"{len(told)} lookups after {max(5, count // 200)} cuts: {paid} paid calls, at most {most * 1000:.1f} ms",
        not paid and most <= FIRST,
        {"paid": paid, "most_s": most},
    )


def _warm(asker: Asker) -> None:
    asker.ask("known")
    asker.crowd(["known"] * CROWD)  # each thread has its connection
    if "hit" not in asker.ask("known").status:
        raise Failed("what was stored is not served")


_numbers = itertools.count()


def _names(count: int) -> list[str]:
    """Questions that nobody asked before."""
    return [f"new {next(_numbers)}" for _ in range(count)]


def _back(asker: Asker) -> float:
    """s until an answer is stored again, asking every 20 ms."""
    began = time.monotonic()
    while time.monotonic() < began + 10:
        if "stored" in asker.ask(_names(1)[0], 0.0).status:
            return time.monotonic() - began
        time.sleep(0.02)
    raise Failed("the store was not used again within 10 s")


def _us(values: list[float], part: float) -> str:
    return f"{quantile(values, part) * 1e6:.0f} us"


def _said(told: Told) -> str:
    return told.status.split("; key")[0].removeprefix("askonce; ")


# callers of either mode


class _Threads:
    """Asks in threads of its own, which keep their connections; alone, in the row's thread."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._gate = threading.Barrier(CROWD + 1)
        self._jobs: list[tuple[str, float, Future[Told]]] = []
        for at in range(CROWD):
            threading.Thread(target=self._serve, args=(at,), daemon=True).start()

    def ask(self, name: object, seconds: float = CALL) -> Told:
        paid: list[float] = []
        request, value = question(name), answer(name)

        def call() -> Any:
            time.sleep(seconds)
            paid.append(seconds)
            return value

        began = time.perf_counter()
        outcome = self._cache.fetch(request, call)
        return _told(began, outcome, paid)

    def crowd(self, names: list[str], seconds: float = CALL) -> list[Told]:
        self._jobs = [(name, seconds, Future()) for name in names]
        self._gate.wait()
        return [future.result() for _, _, future in self._jobs]

    def _serve(self, at: int) -> None:
        while True:
            try:
                self._gate.wait()
            except threading.BrokenBarrierError:
                return
            name, seconds, future = self._jobs[at]
            try:
                future.set_result(self.ask(name, seconds))
            except BaseException as error:  # noqa: BLE001 - carried to the row
                future.set_exception(error)

    def close(self) -> None:
        self._gate.abort()


class _Tasks:
    """Asks in tasks of one loop, which runs all the time in a thread of its own."""

    def __init__(self, cache: AsyncCache, loop: asyncio.AbstractEventLoop) -> None:
        self._cache = cache
        self._loop = loop

    def ask(self, name: object, seconds: float = CALL) -> Told:
        return self.crowd([f"{name}"], seconds)[0]

    def crowd(self, names: list[str], seconds: float = CALL) -> list[Told]:
        return asyncio.run_coroutine_threadsafe(self._crowd(names, seconds), self._loop).result()

    async def _crowd(self, names: list[str], seconds: float) -> list[Told]:
        return list(await asyncio.gather(*[self._ask(name, seconds) for name in names]))

    async def _ask(self, name: str, seconds: float) -> Told:
        paid: list[float] = []
        request, value = question(name), answer(name)

        async def call() -> Any:
            await asyncio.sleep(seconds)
            paid.append(seconds)
            return value

        began = time.perf_counter()
        outcome = await self._cache.fetch(request, call)
        return _told(began, outcome, paid)


def _told(began: float, outcome: Outcome, paid: list[float]) -> Told:
    return Told(time.perf_counter() - began - sum(paid), bool(paid), str(outcome.status))


@contextmanager
def _threads(url: str) -> Iterator[Asker]:
    with Cache(url) as cache:
        asker = _Threads(cache)
        try:
            yield asker
        finally:
            asker.close()


@contextmanager
def _tasks(url: str) -> Iterator[Asker]:
    loop = asyncio.new_event_loop()
    runner = threading.Thread(target=loop.run_forever)
    runner.start()
    cache = AsyncCache(url)
    try:
        yield _Tasks(cache, loop)
    finally:
        asyncio.run_coroutine_threadsafe(cache.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        runner.join()
        loop.close()


ASKERS = {"threads": _threads, "tasks": _tasks}
TROUBLES: dict[str, Callable[[str, Place, Asker, int], Reading]] = {
    "closed": _closed,
    "frozen": _frozen,
    "frozen during a call": _frozen_under_way,
    "restarted empty": _restarted,
    "idle connections cut": _idle,
}
