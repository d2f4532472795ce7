"""Who follows a call, and meets the store's trouble when it claims again, waits on: the call is under way, and paid.

A follower claims twice, because what is said between its claim and its subscription would be missed; and again whenever
it is connected anew. Each of these claims may fall into trouble that the call outlives.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from askonce.core.keys import Key
from askonce.core.lease import Ask, Follow
from askonce.core.tape import ENDED, FAILED, STORED, Notice
from askonce.engine.claims import Attempt
from askonce.flight.waiters import Waiter, WaitList
from askonce.runtime.exits import EXIT
from askonce.runtime.ownership import Owner
from askonce.runtime.threads import ThreadSignal
from askonce.store import StoreTrouble
from askonce.testing import ScriptedCall, Step
from askonce.testing.servers import Server
from tests.crowd import ASKED, HANG, PATIENCE, Crowd, eventually, gathered, heartbeat, results
from tests.engine.test_batches import Call, asked, right
from tests.took import Took

pytestmark = [pytest.mark.concurrency, pytest.mark.servers]

KINDS = ("store-timeout", "store-unreachable", "store-full")


class Claims:
    """Claims of one cache, which meet `trouble` if they are their caller's second or a later one, or (`first`) any.

    None meets it before so many `callers` were told to follow: who was not told asks upstream at once. `lost`: the
    store carries them out, and their replies are lost. `number` were asked, so many callers were `told`, and so many
    claims have `met` trouble.
    """

    def __init__(
        self,
        cache: Any,
        kind: str,
        callers: int = 1,
        *,
        trouble: bool = True,
        lost: bool = False,
        first: bool = False,
    ) -> None:
        self.kind, self.trouble, self.lost, self.first = kind, trouble, lost, first
        self.number = self.met = self.told = 0
        self._callers, self._mode = callers, cache._base._engine.mode
        store = cache._base._engine.store
        self._plain, store.claim = store.claim, self.claim

    async def claim(self, key: Any, ask: Ask) -> Any:
        self.number += 1
        bad = self.trouble and (self.first or ask.after > 0)
        while ask.after > 0 and self.told < self._callers:
            await self._mode.signal().wait(0.001)
        reply = await self._plain(key, ask) if self.lost or not bad else None
        self.told += not ask.after
        if bad:
            self.met += 1
            raise StoreTrouble(self.kind, "as the test wants it")
        return reply


@pytest.fixture
def elsewhere(valkey: Server) -> str:
    """The server by another name: trouble is counted for each name, so it is not the leader's, as in another process."""
    assert "127.0.0.1" in valkey.url
    return valkey.url.replace("127.0.0.1", "localhost")


def led(crowd: Crowd, url: str, call: ScriptedCall, *cues: Any) -> tuple[Any, Any]:
    """A cache whose caller leads a call under way, and that caller."""
    cache = crowd.cache(url)
    call.script(ASKED, *(cues or (HANG,)))
    future = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    return cache, future


@pytest.mark.parametrize("lost", [False, True], ids=["request", "reply"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_was_told_to_follow_a_call_gets_its_answer_whatever_its_next_claims_meet(
    crowd, others, valkey, elsewhere, call, kind, lost
):
    _, first = led(others, valkey.url, call)
    following = crowd.cache(elsewhere)
    claims = Claims(following, kind, 3, lost=lost)
    second = crowd.asks(3, following, ASKED, call)
    eventually(lambda: claims.met > 0, "one has claimed again")
    call.release()
    found = results([first, *second])
    assert {str(one.value) for one in found} == {str(found[0].value)}
    assert call.paid(ASKED) == 1
    assert all(one.status.fwd == "miss" and not one.status.detail for one in found[1:])


def test_who_meets_it_when_it_is_told_to_claim_again_waits_on(crowd, others, valkey, elsewhere, call):
    _, first = led(others, valkey.url, call)
    following = crowd.cache(elsewhere)
    claims = Claims(following, KINDS[0], trouble=False)
    second = crowd.asks(2, following, ASKED, call)
    eventually(lambda: claims.told == 2 and claims.number >= 4, "all were told, and have claimed again")
    claims.trouble = True
    for waiter in list(following._base._engine._claims.waiters):
        waiter.wake(None)  # as if its connection was made anew
    eventually(lambda: claims.met > 0, "a claim has met it")
    call.release()
    assert len({str(one.value) for one in results([first, *second])}) == 1
    assert call.paid(ASKED) == 1


def test_who_never_was_told_to_follow_asks_at_once(crowd, others, valkey, elsewhere, call):
    led(others, valkey.url, call, HANG, Step())
    following = crowd.cache(elsewhere)
    Claims(following, KINDS[0], first=True)
    took = Took()
    found = crowd.answer(following, ASKED, call)
    assert took.seconds < 4, "less than a lease"
    assert found.status.detail == KINDS[0]
    assert call.paid(ASKED) == 2
    call.release()


def test_a_call_that_fails_meanwhile_is_not_waited_for(crowd, others, valkey, elsewhere, call):
    _, first = led(others, valkey.url, call, Step(hang=True, error=RuntimeError("no")), Step())
    following = crowd.cache(elsewhere)
    claims = Claims(following, KINDS[0], 3)
    second = crowd.asks(3, following, ASKED, call)
    eventually(lambda: claims.met > 0, "one has claimed again")
    took = Took()
    call.release()
    assert isinstance(first.exception(PATIENCE), RuntimeError)
    found = results(second)
    assert took.seconds < 4, "less than a lease"
    assert all(one.value for one in found)
    assert call.paid(ASKED) > 1


@pytest.mark.parametrize("known", ["unread", "parked", "of this process", "read"])
def test_a_flight_that_is_known_to_be_over_is_not_followed_on(known):
    flight = (b"f" * 16, 7)
    waiter = Waiter(WaitList(Key(bytes(32), "v"), lambda _: None), ThreadSignal())
    waiter.follows, waiter.until = flight, time.monotonic() + PATIENCE
    attempt = Attempt(Owner(), waiter=waiter, named=Follow(*flight, 5000))
    still = attempt.follows_on(StoreTrouble(KINDS[0]))
    assert still is not None
    assert still[:2] == flight
    assert attempt.follows_on(StoreTrouble(EXIT)) is None, "nothing waits while Python ends"
    waiter.wake(Notice(ENDED, *flight, STORED))
    assert attempt.follows_on(StoreTrouble(KINDS[0])) is not None, "its answer is there to be read"
    if known == "unread":
        waiter.wake(Notice(ENDED, *flight, FAILED))
    elif known == "parked":
        waiter.parked = True
        waiter.wake(None)
    elif known == "read":
        waiter.over = flight
    else:
        attempt.ended = flight
    assert attempt.follows_on(StoreTrouble(KINDS[0])) is None


def test_a_call_of_which_nothing_is_heard_is_waited_for_as_long_as_its_lease(crowd, others, valkey, elsewhere, call):
    with heartbeat(1.5):
        leading, first = led(others, valkey.url, call, HANG, Step())
        leading._base._engine.background.renew = lambda *_: None
        following = crowd.cache(elsewhere)
        Claims(following, KINDS[0])
        took = Took()
        found = crowd.answer(following, ASKED, call)
        assert took.seconds < 4.5
        assert found.status.detail == KINDS[0]
        assert call.paid(ASKED) == 2
        call.release()
        assert first.result(PATIENCE).value


def test_who_follows_a_stream_reads_it_whatever_its_next_claims_meet(crowd, others, valkey, elsewhere):
    opened, on = list[int](), threading.Event()

    def stream() -> Iterator[str]:
        opened.append(1)
        yield "a"
        assert on.wait(PATIENCE)
        yield "b"

    async def streamed() -> Any:
        for item in stream():
            yield item

    leading, following = others.cache(valkey.url), crowd.cache(elsewhere)
    first = reads(others, leading, stream, streamed)
    eventually(lambda: opened == [1], "it is opened")
    claims = Claims(following, KINDS[0], 2)
    second = [reads(crowd, following, stream, streamed) for _ in range(2)]
    eventually(lambda: claims.met > 0, "one has claimed again")
    on.set()
    assert [one.result(PATIENCE) for one in (first, *second)] == [["a", "b"]] * 3
    assert opened == [1]


def reads(crowd: Crowd, cache: Any, stream: Callable[[], Any], streamed: Callable[[], Any]) -> Any:
    """A future of what one caller reads."""
    if not crowd.tasks:
        return crowd.start(lambda: list(cache.fetch_stream(ASKED, stream)))

    async def read() -> list[Any]:
        made = cache.fetch_stream(ASKED, streamed)
        return [item async for item in (await made if inspect.isawaitable(made) else made)]

    return crowd.loop.submit(read())


def test_a_batch_that_follows_one_elsewhere_waits_on_too(crowd, others, valkey, elsewhere):
    call, own, over = Call(), Call(), threading.Event()
    call.open = over.is_set
    leading, following = others.cache(valkey.url), crowd.cache(elsewhere)
    store = following._base._engine.store
    plain, met = store.together, list[int]()

    async def together(works: Any, **how: Any) -> list[Any]:
        again = [any(isinstance(one, Ask) and one.after for one in getattr(work, "args", ())) for work in works]
        replies = await plain(works, **how)
        if any(again):
            met.append(sum(again))
        return [StoreTrouble(KINDS[0]) if bad else reply for bad, reply in zip(again, replies, strict=True)]

    first = asked(others, leading, call, range(3))
    eventually(lambda: call.made, "it is called for")
    store.together = together
    second = asked(crowd, following, own, range(4))  # three that it follows, and one that it calls for
    eventually(lambda: met[:1] == [3], "it has claimed again what it follows")
    over.set()
    assert right(first.result(PATIENCE))
    assert right(second.result(PATIENCE))
    assert [len(made) for made in (*call.made, *own.made)] == [3, 1]
