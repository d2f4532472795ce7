"""The scenes of the demo, and the Report that they fill while it is shown.

Both sides of a row run at the same time, on the same questions, in as many processes: without a cache a process only
sleeps, so it slows nothing down. The provider counts the paid calls, in one file of receipts for each scene and side.

The promises are worked out from what was measured, like everything else: a demo that could not fail would show nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from askonce.cache.stores import open_store
from askonce.core.urls import without_prefix
from askonce.demo import load
from askonce.demo.load import COLD, LAST, Scale
from askonce.demo.processes import DemoFailed, Processes
from askonce.demo.worker import Counts, Job, WorkerSettings
from askonce.errors import ConfigError, StoreUnavailable
from askonce.events import log
from askonce.store import Store, StoreTrouble, inventory
from askonce.testing import Receipts

LOOK = 0.1  # s between two looks at what was paid so far
AT_REST = 0.4  # s that callers are given to settle down to waiting, before their leader is killed
LATE = 1.0  # s: how much longer than lease and call those who wait for a dead leader may wait


@dataclass(slots=True)
class Measured:
    """One side of a row: what was paid so far, and, once it is over, how long it took, s, and how it was served."""

    paid: int = 0
    seconds: float | None = None
    hits: int = 0
    collapsed: int = 0


@dataclass(slots=True)
class Row:
    """One load, without a cache and with askonce."""

    title: str
    asked: int
    distinct: int
    plain: Measured = field(default_factory=Measured)
    cached: Measured = field(default_factory=Measured)


@dataclass(frozen=True, slots=True)
class HitCost:
    """What a hit costs, us, measured one after the other in one thread."""

    p50: float
    p99: float
    hits: int


@dataclass(frozen=True, slots=True)
class Invalidation:
    """How long it took, s, and what those got who asked afterwards."""

    seconds: float
    asked: int
    paid: int
    old: int


@dataclass(frozen=True, slots=True)
class Crash:
    """A leader was killed: when another call began, and when the last of the `waiting` was served; s after the kill."""

    into_call: float
    waiting: int
    lease: float
    takeover: float
    call: float
    served: float
    paid: int


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that must hold, with the numbers by which it does or does not."""

    text: str
    kept: bool


@dataclass(slots=True)
class Report:
    """All that a run has shown so far."""

    store: str
    scale: Scale
    rows: list[Row] = field(default_factory=list)
    hit: HitCost | None = None
    invalidation: Invalidation | None = None
    crash: Crash | None = None
    wrong: int = 0
    trouble: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def promises(self) -> list[Promise]:
        """What must hold of what was measured so far."""
        return [*_of_rows(self), *_of_scenes(self)]

    @property
    def kept(self) -> bool:
        """Whether all promises were."""
        return all(promise.kept for promise in self.promises)


def _of_rows(report: Report) -> list[Promise]:
    if len(report.rows) < 3:
        return []
    *first, again = report.rows
    paid, distinct = sum(row.cached.paid for row in first), sum(row.distinct for row in first)
    served = sum(row.asked for row in report.rows)
    return [
        Promise(f"each question is paid once: {distinct} different questions, {paid} paid calls", paid == distinct),
        Promise(f"a repeated question costs nothing: {again.cached.paid} paid calls", not again.cached.paid),
        Promise(
            f"each caller gets the answer to its own question: {served - report.wrong:,} of {served:,}",
            not report.wrong,
        ),
    ]


def _of_scenes(report: Report) -> list[Promise]:
    found = []
    if (fresh := report.invalidation) is not None:
        text = f"no older answer after invalidate(): {fresh.old} of {fresh.asked}, paid calls: {fresh.paid}"
        found.append(Promise(text, fresh.old == 0 and fresh.paid == 1))
    if (crash := report.crash) is not None:
        most = crash.lease + crash.call + LATE
        text = f"a crash costs one more call and at most {most:.1f} s: {crash.paid} calls in all, {crash.served:.1f} s"
        found.append(Promise(text, crash.paid == 2 and crash.served <= most))
    if report.trouble:
        told = ", ".join(f"{count} {kind}" for kind, count in report.trouble.items())
        found.append(Promise(f"the store never failed: {told}", False))
    return found


class Run:
    """One run. `look` is called whenever there is something new to be seen."""

    def __init__(self, url: str, prefix: str, folder: Path, report: Report, look: Callable[[], None]) -> None:
        self._url = url
        self._prefix = prefix
        self._folder = folder
        self._report = report
        self._scale = report.scale
        self._look = look

    async def play(self) -> None:
        """All scenes."""
        async with AsyncExitStack() as stack:
            plain, cached = await asyncio.gather(self._processes(None, stack), self._processes(self._url, stack))
            await self._row(
                "one new question, from all callers at once", load.at_once(self._scale, COLD), plain, cached
            )
            day = load.day(self._scale)
            await self._row("a day's questions", day, plain, cached)
            await cached.end()
            cached = await self._processes(self._url, stack)
            await self._row("the same day again, new processes", day, plain, cached)
            await plain.end()
            await self._hits(cached)
            await self._invalidation(cached)
            await self._crash(cached)

    async def _processes(self, url: str | None, stack: AsyncExitStack) -> Processes:
        settings = WorkerSettings(url, self._prefix, "", self._scale.median, self._scale.call)
        return await Processes.start(self._scale.processes, settings, stack)

    def _receipts(self, name: str) -> Receipts:
        return Receipts(self._folder / name)

    # what is asked and paid

    async def _row(self, title: str, lists: list[list[str]], plain: Processes, cached: Processes) -> None:
        asked = [question for one in lists for question in one]
        row = Row(title, len(asked), len(set(asked)))
        self._report.rows.append(row)
        number = len(self._report.rows)
        both = ((row.plain, plain, f"{number}-plain"), (row.cached, cached, f"{number}-cached"))
        for counts in await asyncio.gather(
            *(self._measure(measured, processes, lists, name) for measured, processes, name in both)
        ):
            self._report.wrong += counts.wrong

    async def _measure(self, measured: Measured, processes: Processes, lists: list[list[str]], name: str) -> Counts:
        receipts = self._receipts(name)
        async with self._watched(measured, receipts):
            counts, seconds = await processes.ask(lists, str(receipts.path))
        measured.seconds, measured.hits, measured.collapsed = seconds, counts.hits, counts.collapsed
        self._note(counts)
        self._look()
        return counts

    @contextlib.asynccontextmanager
    async def _watched(self, measured: Measured, receipts: Receipts) -> AsyncIterator[None]:
        async def look_often() -> None:
            while True:
                measured.paid = receipts.paid()
                self._look()
                await asyncio.sleep(LOOK)

        task = asyncio.create_task(look_often())
        try:
            yield
        finally:
            task.cancel()
            measured.paid = receipts.paid()

    def _note(self, counts: Counts) -> None:
        for kind, count in counts.trouble.items():
            self._report.trouble[kind] = self._report.trouble.get(kind, 0) + count

    # what a hit costs

    async def _hits(self, cached: Processes) -> None:
        asked = sorted({question for one in load.day(self._scale) for question in one})
        told = await cached.workers[0].run(Job("hits", [asked], number=self._scale.hits))
        cuts = statistics.quantiles(told["ns"], n=100)
        self._report.hit = HitCost(cuts[49] / 1000, cuts[98] / 1000, len(told["ns"]))
        self._look()

    # an invalidation

    async def _invalidation(self, cached: Processes) -> None:
        told = await cached.workers[0].run(Job("invalidate"))
        receipts = self._receipts("invalidation")
        everybody = load.at_once(self._scale, COLD)
        counts, _ = await cached.ask(everybody, str(receipts.path), since=told["begun"])
        self._note(counts)
        self._report.invalidation = Invalidation(told["seconds"], counts.asked, receipts.paid(), counts.old)
        self._look()

    # a crash

    async def _crash(self, cached: Processes) -> None:
        scale, receipts = self._scale, self._receipts("crash")
        await cached.all(Job("lease", number=scale.lease))
        leader, *others = cached.workers
        await leader.run(Job("stall"))
        led = asyncio.create_task(leader.run(Job("ask", [[LAST]], receipts=str(receipts.path))))
        await _begun(receipts)
        lists = load.at_once(scale, LAST)[: scale.callers * len(others)]
        waiting = asyncio.create_task(Processes(others).ask(lists, str(receipts.path)))
        await asyncio.sleep(AT_REST)
        killed = time.monotonic()
        leader.kill()
        with contextlib.suppress(DemoFailed):
            await led
        counts, _ = await waiting
        self._note(counts)
        first, *later = [receipt.at for receipt in receipts.rows()]
        self._report.crash = Crash(
            into_call=killed - first,
            waiting=counts.asked,
            lease=scale.lease,
            takeover=(later[0] if later else counts.last) - killed,
            call=scale.call,
            served=counts.last - killed,
            paid=1 + len(later),
        )
        self._look()


async def _begun(receipts: Receipts) -> None:
    """Wait until a call was paid."""
    while not receipts.paid():  # noqa: ASYNC110 - another process does it, and rings no bell
        await asyncio.sleep(0.01)


async def run(url: str | None, prefix: str, scale: Scale, look: Callable[[Report], None]) -> Report:
    """Play the demo at `url`, under a prefix of its own below `prefix`; without a URL in an SQLite file of its own.

    ConfigError for a URL that processes cannot share, StoreUnavailable when the store does not answer.
    """
    begun = time.monotonic()
    prefix = f"{prefix or 'askonce'}:demo-{os.urandom(4).hex()}"
    with tempfile.TemporaryDirectory(prefix="askonce-demo-") as folder:
        where = url or f"sqlite:///{folder}/askonce.db"
        store = _open(where, prefix)
        report = Report(without_prefix(store.address) if url else "an SQLite file for this run", scale)
        look(report)
        try:
            await Run(where, prefix, Path(folder), report, lambda: look(report)).play()
        finally:
            await _clean(store)
        report.seconds = time.monotonic() - begun
        look(report)
        return report


def _open(url: str, prefix: str) -> Store:
    if url.partition(":")[0].lower() == "memory":
        raise ConfigError(
            "memory:// is one process's own, and the demo has several processes: omit --url to use SQLite"
        )
    store = open_store(url, prefix=prefix)
    link = store.link()
    try:
        link.probe()
    except StoreTrouble as trouble:
        raise StoreUnavailable(f"{store.address.partition('#')[0]}: {trouble}", trouble.kind) from trouble
    finally:
        link.close()
    return store


async def _clean(store: Store) -> None:
    """Delete all entries of the demo from the store."""
    try:
        async for _ in inventory.raze(store):
            pass
    except StoreTrouble as trouble:
        log.warning("the entries of the demo could not be removed from the store: %s", trouble)
    finally:
        await store.close()
