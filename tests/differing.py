"""Random callers of two questions, who want different things: what each gets, and what is counted of all of them.

Two caches over one store, whose clock is moved by hand. Each caller has a control, a policy, a judge and a call of its
own; some leave, and some of what they ask is invalidated meanwhile. `problems` says what broke a promise.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from askonce import AsyncCache, NotCached
from askonce.events import Status
from askonce.testing import UpstreamError

CONTROLS = (
    *[None] * 6,
    "no-cache",
    "no-store",
    "only-if-cached",
    "max-age=5",
    "max-age=0",
    "max-stale=100",
    "min-fresh=10",
    "stale-if-error=0",
    "no-cache, stale-if-error=1000",
)
POLICIES: tuple[dict[str, Any], ...] = (
    *[{}] * 8,
    {"ttl": 0},
    {"ttl": 10},
    {"grace": 0},
    {"stale_if_error": 0},
    {"on_abandon": "close"},
    {"max_flight": 0.001},
    {"ttl": 10, "max_age": 12},
)
ENDS = ("ok", "ok", "ok", "ok", "refused", "refused", 503, 400)
JUMPS = (1, 7, 20, 5_000, 90_000)  # s
SOON = (0, 0, 0.001, 0.003)  # s


@dataclass(eq=False)
class Caller:
    """One caller: what it wants, and what it got. `at`: the tick in which its own call began, 0 if it made none."""

    number: int
    question: str
    control: str | None
    own: dict[str, Any]
    end: object  # of its own call
    streams: bool
    takes: float  # s
    at: int = 0
    value: Any = None
    error: BaseException | None = None
    seen: list[Status] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether it was looked up, and got an answer."""
        return self.error is None and self.control != "no-store"


class World:
    """Some callers, their caches, and the clock of their store."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now = 1_750_000_000_000_000
        self.ticks = 0
        self.gone = 0  # the tick in which the last invalidation that has ended began
        self.callers: list[Caller] = []
        self.calls = 0
        self.wrong: list[str] = []
        self.url = f"memory://differing-{seed}"
        self.caches = [self.cache(), self.cache()]

    def cache(self) -> AsyncCache:
        return AsyncCache(self.url, clock=self.clock)

    def clock(self) -> int:
        self.now += 1
        return self.now

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def caller(self) -> Caller:
        draw, number = self.draw, len(self.callers)
        own, end = dict(draw.choice(POLICIES)), draw.choice(ENDS)
        if end == "refused":
            own["store_if"] = lambda _: False
        made = Caller(
            number, draw.choice("aab"), draw.choice(CONTROLS), own, end, draw.random() < 0.25, draw.choice(SOON)
        )
        self.callers.append(made)
        return made

    # what happens

    async def run(self) -> None:
        for _ in range(self.draw.choice((1, 2))):
            callers = [self.asks(self.caller()) for _ in range(self.draw.choice((3, 8, 14)))]
            await asyncio.gather(*callers, self.changes())
        for cache in self.caches:
            await cache.aclose(2)

    async def changes(self) -> None:
        for _ in range(6):
            await asyncio.sleep(self.draw.choice(SOON))
            if self.draw.random() < 0.6:
                self.now += self.draw.choice(JUMPS) * 1_000_000
            else:
                began = self.tick()
                await self.draw.choice(self.caches).invalidate(everything=True)
                self.gone = max(self.gone, began)

    async def asks(self, caller: Caller) -> None:
        await asyncio.sleep(self.draw.choice((*SOON, 0.008)))
        cache, gone = self.draw.choice(self.caches), self.gone
        with cache.watch() as caller.seen:
            asking = asyncio.ensure_future(self.answer(cache, caller))
            if self.draw.random() < 0.08:
                await asyncio.sleep(self.draw.choice(SOON))
                asking.cancel()
            try:
                caller.value = await asking
            except (Exception, asyncio.CancelledError) as error:
                caller.error = error
        if not isinstance(caller.error, asyncio.CancelledError):
            self.wrong += [f"{caller} {what}" for what, holds in self.rules(caller, gone).items() if not holds]

    async def answer(self, cache: AsyncCache, caller: Caller) -> Any:
        asked, own = {"q": caller.question}, {**caller.own, "control": caller.control}
        if caller.streams:
            items = [item async for item in await cache.fetch_stream(asked, lambda: self.items(caller), **own)]
            return items[0]
        return (await cache.fetch(asked, lambda: self.call(caller), **own)).value

    async def call(self, caller: Caller) -> Any:
        self.calls += 1
        caller.at = self.tick()
        await asyncio.sleep(caller.takes)
        if isinstance(caller.end, int):
            raise UpstreamError(caller.end, {})
        return {"by": caller.number, "at": caller.at, "end": caller.end}

    async def items(self, caller: Caller) -> AsyncIterator[Any]:
        yield await self.call(caller)
        await asyncio.sleep(caller.takes)
        yield {"last": True}

    # what is promised

    @staticmethod
    def rules(caller: Caller, gone: int) -> dict[str, bool]:
        """What must hold for a caller that stayed; `gone`: the last invalidation that had ended before it asked."""
        (status, *others), value, control = caller.seen or [Status("")], caller.value, caller.control
        found = value is not None
        return {
            "is seen once": len(caller.seen) == 1 and not others,
            "gets nothing from before an invalidation": not found or value["at"] >= gone,
            "gets nothing stored that its leader's judge refused": not (found and status.hit) or value["end"] == "ok",
            "stores nothing that its own judge refused": not (status.stored and caller.end == "refused"),
            "pays nothing": control != "only-if-cached" or not caller.at,
            "is answered from the store": control != "only-if-cached" or not found or status.hit,
            "gets an answer from upstream": control not in ("no-cache", "max-age=0") or not status.hit,
            "gets nothing older": control != "max-age=5" or not status.hit or (status.age or 0) < 5,
            "has its own call's answer": not found or _whose(status) != "own" or value["by"] == caller.number,
            "has another's answer": not found or _whose(status) != "another's" or value["by"] != caller.number,
        }

    async def counted(self) -> None:
        """Each lookup that got an answer was counted once, and each call that was paid."""
        async with self.cache() as cache:
            total = (await cache.savings()).total
            passed = (await cache.activity()).passed
        callers = self.callers
        no_store = sum(1 for one in callers if one.control == "no-store")
        answered = sum(one.answered for one in callers)
        without = sum(1 for one in callers if one.error is not None and not isinstance(one.error, NotCached))
        if total.paid.calls != self.calls - sum(1 for one in callers if one.control == "no-store" and one.at):
            self.wrong.append(f"{self.calls} calls were made: {total}")
        if not answered <= total.asked.calls <= answered + without:
            self.wrong.append(f"{answered} callers were answered: {total}")
        if passed.get("no-store", 0) != no_store:
            self.wrong.append(f"{no_store} callers said no-store: {passed}")


def _whose(status: Status) -> str:
    """Whose call brought an answer, by its status."""
    if status.hit or status.fwd == "stale":
        return "somebody's"
    return "another's" if status.collapsed else "own"


async def problems(seed: int) -> list[str]:
    """What broke a promise, in the world of this seed."""
    world = World(seed)
    await world.run()
    await world.counted()
    return world.wrong
