"""A store in all kinds of trouble, from a row's own process: the cost for a caller, beyond the time of the call itself.

A caller may lose one store timeout for each of the two commands that open the breaker, and nothing afterwards. It never
sees an exception; otherwise the row would. The kinds of trouble are those of the engine's tests: a server that refuses,
and a way to a server that is dropped, cut, slow, garbled, or leads elsewhere.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import redis

from askonce import Cache
from askonce.flight.background import HEARTBEAT
from askonce.testing.proxy import Proxy
from bench import places
from bench.callers import Callers, run
from bench.compare import quantile
from bench.load import Load, Report, paid, work
from bench.places import Place
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import SLACK, Failed
from tests.crowd import eventually
from tests.engine.test_refusals import FACES
from tests.engine.test_rough_weather import TROUBLES, Sky

FIRST = 0.25  # s beyond the call, for lookups that meet the trouble
AFTER = 0.001  # s beyond the call while the breaker is open
BACK = 2.0  # s until the store serves again
CALL = 0.05  # s of an upstream call
CROWD = 10  # callers at once
THREADS = ("threads",)

_numbers = count()


class Told(NamedTuple):
    """One lookup: s beyond its call, whether it was paid, and its status."""

    over: float
    paid: bool
    status: str


class Asker(NamedTuple):
    """The callers of one cache."""

    c: Callers
    cache: Any

    async def ask(self, name: str = "", seconds: float = CALL) -> Told:
        """One lookup; without a name, of a new question."""
        name, took = name or f"new {next(_numbers)}", list[float]()
        request, value = question(name), answer(name)

        async def call() -> Any:
            began = time.perf_counter()
            await self.c.sleep(seconds)
            took.append(time.perf_counter() - began)
            return value

        began = time.perf_counter()
        outcome = await self.c.fetch(self.cache, request, call)
        return Told(time.perf_counter() - began - sum(took), bool(took), str(outcome.status))

    async def crowd(self, name: str = "") -> list[Told]:
        """Ten at once."""
        return await self.c.gather(*[self.ask(name) for _ in range(CROWD)])

    async def warm(self) -> None:
        """Store the known questions, and connect each thread."""
        for _ in range(2):
            await self.crowd("known")
        if "hit" not in (await self.ask("known")).status:
            raise Failed("what was stored is not served")

    async def back(self) -> float:
        """The s until an answer is stored again, asking every 20 ms."""
        began = time.monotonic()
        while "stored" not in (await self.ask(seconds=0.0)).status:
            if time.monotonic() > began + SLACK:
                raise Failed(f"the store was not used again within {SLACK:g} s")
            await self.c.sleep(0.02)
        return time.monotonic() - began


Trouble = Callable[[], object]


async def _met(asker: Asker, begin: Trouble, end: Trouble, lookups: int, part: float) -> Seen:
    """From the first lookup that meets the trouble to the first one that the store serves again."""
    await asker.c.block(begin)
    try:
        firsts = [await asker.ask("known"), *await asker.crowd(), *[await asker.ask() for _ in range(3)]]
        after = [await asker.ask(seconds=0.0) for _ in range(lookups)]
    finally:
        await asker.c.block(end)
    back = await asker.back()
    first, late = max(one.over for one in firsts), [one.over for one in after]
    visible = all("detail=store-" in one.status for one in (*firsts, *after) if one.paid)
    return Seen(
        f"first lookups at most {first * 1000:.0f} ms over their calls; then p50 {_us(late, 0.5)}, p99"
        f" {_us(late, 0.99)}, most {_us(late, 1.0)}; back after {back:.2f} s"
        + ("" if visible else "; not all visible"),
        first <= FIRST and quantile(late, part) <= AFTER and back <= BACK and visible,
        {"first_s": first, "after_s": quantile(late, part), "back_s": back, "visible": visible},
    )


def _us(values: list[float], part: float) -> str:
    return f"{quantile(values, part) * 1e6:.0f} us"


# --- a server that is away --------------------------------------------------------------------------------------------


async def _closed(asker: Asker, place: Place, lookups: int) -> Seen:
    return await _met(asker, place.running.stop, place.running.start, lookups, 0.99)


async def _frozen(asker: Asker, place: Place, lookups: int) -> Seen:
    return await _met(asker, place.running.freeze, place.running.thaw, lookups, 0.99)


async def _frozen_under_way(asker: Asker, place: Place, _: int) -> Seen:
    """Freeze the server between a lookup and its fill."""

    async def freeze() -> None:
        await asker.c.sleep(0.2)
        place.running.freeze()

    lookup, _nothing = await asker.c.gather(asker.ask("under way", 0.4), freeze())
    place.running.thaw()
    back = await asker.back()
    measured = f"{lookup.over * 1000:.0f} ms over the call; back after {back:.2f} s"
    return Seen(measured, lookup.over <= FIRST and back <= BACK, {"first_s": lookup.over, "back_s": back})


async def _restarted(asker: Asker, place: Place, _: int) -> Seen:
    """Restart it: its data and its scripts are lost."""
    await asker.c.block(place.running.stop)
    await asker.c.block(place.running.start)
    first, again = await asker.ask("known"), await asker.ask("known")
    back = 0.0 if "hit" in again.status else await asker.back()
    said = [one.status.split("; key")[0].removeprefix("askonce; ") for one in (first, again)]
    return Seen(
        f"first lookup {first.over * 1000:.1f} ms over its call ({said[0]}), the next {said[1]};"
        f" back after {back:.2f} s",
        first.over <= FIRST and first.paid and back <= BACK,
        {"first_s": first.over, "back_s": back},
    )


async def _idle(asker: Asker, place: Place, lookups: int) -> Seen:
    """Cut every idle connection, again and again."""
    seen, cuts = list[Told](), max(5, lookups // 200)
    for _ in range(cuts):
        await asker.c.block(place.running.kill_connections)
        seen += [await asker.ask("known"), *await asker.crowd("known")]
    calls, most = sum(one.paid for one in seen), max(one.over for one in seen)
    measured = f"{len(seen)} lookups after {cuts} cuts: {calls} paid calls, at most {most * 1000:.1f} ms"
    return Seen(measured, not calls and most <= FIRST, {"paid": calls, "first_s": most})


AWAY: dict[str, Callable[[Asker, Place, int], Awaitable[Seen]]] = {
    "closed": _closed,
    "frozen": _frozen,
    "frozen during a call": _frozen_under_way,
    "restarted empty": _restarted,
    "idle connections cut": _idle,
}


@row(heavy=True, stores=(places.valkey, places.redis), variants=AWAY)
def outages(case: Case, lookups: int = 5000) -> Seen:
    """Redis closed; Redis frozen; Redis restarted empty; idle connection cut.

    Bar: at most 0.25 s over the call's own time, then <= 1 ms (p99) while the breaker is open; back within 2 s; never
    an exception; an idle cut costs no paid call.

    `lookups` while the breaker is open.
    """

    async def told(c: Callers) -> Seen:
        async with c.cache(case.place.url) as cache:
            asker, number = Asker(c, cache), min(lookups, 1000) if case.quick else lookups
            await asker.warm()
            seen: Seen = await case.variant(asker, case.place, number)
            return seen

    seen: Seen = run(case.mode, told)
    return seen


# --- a store that says no ---------------------------------------------------------------------------------------------


@contextmanager
def _refusing(case: Case) -> Iterator[tuple[str, Trouble, Trouble]]:
    """A URL, what makes it refuse, and what ends that."""
    if case.place.server is None:
        with Cache(case.place.url) as cache:
            cache.fetch(question("any"), lambda: {"a": 1})  # the file then exists, and is its owner's
        other = sqlite3.connect(case.place.folder / "cache.db", isolation_level=None, check_same_thread=False)
        yield case.place.url, lambda: other.execute("BEGIN IMMEDIATE"), lambda: other.execute("ROLLBACK")
        other.close()
        return
    face = FACES[case.variant]
    with redis.Redis.from_url(case.place.url, single_connection_client=True) as admin:
        admin.execute_command(*["ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all"])
        url = case.place.url.replace("redis://", "redis://app:word@")
        yield url, partial(face.begin, admin), partial(face.end, admin)


@row(heavy=True, stores=(places.valkey, places.redis), variants={name: name for name in FACES})
def refusals(case: Case, lookups: int = 1000) -> Seen:
    """a server that answers and says no: full, read-only, no rights, another password, too many clients.

    Bar: 25 callers: 1 paid call; at most 0.25 s over the call, then <= 1 ms (p50); visible; back within 2 s.
    """

    async def told(c: Callers) -> Seen:
        with _refusing(case) as (url, begin, end):
            async with c.cache(url) as cache:
                asker = Asker(c, cache)
                await asker.warm()
                seen = await _met(asker, begin, end, min(lookups, 100) if case.quick else lookups, 0.5)
                await c.block(begin)
                calls = sum(one.paid for one in await c.gather(*[asker.ask("shared", 1.0) for _ in range(25)]))
                await c.block(end)
        return seen._replace(
            measured=f"{calls} paid call of 25 callers; {seen.measured}",
            passed=bool(seen.passed) and calls == 1,
            numbers={**seen.numbers, "paid": calls},
        )

    seen: Seen = run(case.mode, told)
    return seen


@row(heavy=True, stores=(places.sqlite,))
def refusals_sqlite(case: Case, lookups: int = 1000) -> Seen:
    """a SQLite file that another program writes to.

    Bar: 25 callers: 1 paid call; at most 0.25 s over the call, then <= 1 ms (p50); visible; back within 2 s.
    """
    return refusals(case, lookups)


# --- trouble during a call, and while others wait for it --------------------------------------------------------------

LASTS = 2.0  # s of trouble
KEPT = HEARTBEAT * 2 / 3  # s until a renewal succeeds again, in which a lease that was renewed by its rhythm lives on


@row(heavy=True, stores=(places.valkey, places.redis), variants=TROUBLES)
def troubles(case: Case) -> Seen:
    """a 9 s call and 5 followers elsewhere, while the way to the server drops, trickles, garbles, is cut; while it is
    frozen, full, paused, demoted, or takes rights away.

    Bar: 1 paid call where its lease can be kept, else 2; lookups at most 0.25 s over their call, then <= 1 ms (p50) if
    they meet it; visible; back within 2 s.

    The leader and its followers reach the server by ways of their own; a third process looks up meanwhile, through a
    proxy that is threads of this very process, and adds its switches to each lookup that still reads.
    """
    seconds = 9.0  # also if quick: the trouble must end before
    with ExitStack() as end:
        leading, following = (end.enter_context(Proxy(case.place.running)) for _ in range(2))
        sky = Sky(case.place.running, leading, following, end)
        assert sky.replica.running  # it must be in step first
        for way, load in ((leading, Load("leader", 3, seconds)), (following, Load("follower", 5, seconds))):
            place = case.place.bare._replace(url=way.url)
            case.workers.start(work, place, load, mode=case.mode).begin()
            eventually(lambda: paid(case.place) == 1, "the leader's call begins", SLACK)
        seen: Seen = run(case.mode, _meanwhile, sky, case.variant, leading.url)
        reports: list[Report] = case.workers.results(seconds)
    calls, asked = paid(case.place), [one for report in reports for one in report.asked]
    served, lasted = sum(not one.error for one in asked), seen.numbers["lasted_s"]
    most = 1 if lasted + seen.numbers["back_s"] <= KEPT else 2
    return seen._replace(
        measured=f"{lasted:.1f} s of it: {calls} paid call, {served} of {len(asked)} served; {seen.measured}",
        passed=bool(seen.passed) and calls <= most and served == len(asked),
        numbers={**seen.numbers, "paid": calls},
    )


async def _meanwhile(c: Callers, sky: Sky, trouble: Any, url: str) -> Seen:
    """Lookups over the leader's way."""
    async with c.cache(url) as cache:
        asker, lasted = Asker(c, cache), list[float]()

        def end() -> None:
            time.sleep(max(0.0, began + LASTS - time.monotonic()))
            trouble.end(sky)
            lasted.append(time.monotonic() - began)

        await asker.warm()
        await c.sleep(0.5)  # by then followers have claimed again, and only wait
        began = time.monotonic()
        seen = await _met(asker, lambda: trouble.begin(sky), end, 100, 0.5)
    seen = seen._replace(numbers={**seen.numbers, "lasted_s": lasted[0]})
    little = seen.numbers["first_s"] <= FIRST and seen.numbers["back_s"] <= BACK
    return seen if trouble.met else seen._replace(passed=little)
