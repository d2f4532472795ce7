"""Many questions at once, answered by one call: the round trips of a batch grow by the hundred, not by the input.

The tests count the commands to the store, which do not depend on the load of the machine; times are in the slow tests.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from askonce import AsyncCache
from askonce.core.judge import Verdict
from askonce.engine.answer import Answer
from askonce.engine.question import NOTHING
from askonce.flight.guarded_store import BATCH
from askonce.store import StoreTrouble
from askonce.testing.proxy import Proxy
from askonce.testing.servers import Server
from tests.crowd import Crowd, eventually, gathered, heartbeat, idle
from tests.fixtures import patient
from tests.took import Took

pytestmark = pytest.mark.concurrency
GOOD = Verdict("")


def body(key: str) -> bytes:
    return b'"%s"' % key.encode()


class Call:
    """The call that answers a batch, as often as it is made, and what it was made for."""

    def __init__(self, seconds: float = 0.0, verdict: Verdict = GOOD) -> None:
        self.seconds = seconds
        self.verdict = verdict
        self.made: list[list[Any]] = []
        self.raises: Exception | None = None
        self.open: Callable[[], bool] = lambda: True

    async def sync(self, questions: Any) -> list[Answer]:
        """In a thread, which it blocks."""
        self.made.append(list(questions))
        self.wait()
        return self.answers(questions)

    async def tasks(self, questions: Any) -> list[Answer]:
        """In a task."""
        self.made.append(list(questions))
        await asyncio.to_thread(self.wait)
        return self.answers(questions)

    def wait(self) -> None:
        time.sleep(self.seconds)
        while not self.open():
            time.sleep(0.002)

    def answers(self, questions: Any) -> list[Answer]:
        if self.raises is not None:
            raise self.raises
        return [Answer(body(question.key.text), self.verdict, body(question.key.text)) for question in questions]


def questions(cache: Any, names: range) -> list[Any]:
    plan = cache._base._planner.plan(NOTHING)
    return [cache._base._question({"input": number}, plan) for number in names]


def asked(crowd: Crowd, cache: Any, call: Call, names: range) -> Any:
    """A future of what a batch brought."""
    from askonce.runtime.drive import drive

    made = questions(cache, names)
    if crowd.tasks:
        return crowd.loop.submit(cache._base._engine.ask_many(made, call.tasks))
    return crowd.start(lambda: drive(cache._base._engine.ask_many(made, call.sync)))


def ready(crowd: Crowd, cache: Any) -> None:
    """It is connected, and the server knows the scripts."""
    for number in itertools.count(1):
        (found,) = asked(crowd, cache, Call(), range(-number, 1 - number)).result(60)
        if found.status.stored:
            return


def right(found: Any) -> bool:
    """Whether each has the answer to its own question."""
    return all(bytes(one.value if one.body is None else one.body) == body(one.status.key) for one in found)


def counting(cache: Any) -> list[int]:
    """How often the store has answered callers from now on: exchanges with a server, transactions and reads of a file.

    Not what the background thread asks of the same file (renewals, counts): on a busy machine that falls in between.
    """
    store, count = cache._base._engine.store, [0]
    if store.kind == "redis":
        plain = store._wires[0].ask

        async def ask(data: bytes, number: int) -> Any:
            try:
                return await plain(data, number)
            finally:
                count[0] += 1

        store._wires[0].ask = ask
    else:
        plain = store._file.transaction

        def transaction(*arguments: Any, **named: Any) -> Any:
            try:
                return plain(*arguments, **named)
            finally:
                count[0] += threading.current_thread().name != "askonce-background"

        store._file.transaction = transaction
    return count


MANY = range(2 * BATCH)
SLICES = len(MANY) // BATCH


def test_a_batch_that_nobody_has_is_asked_claimed_called_for_and_stored_in_slices(crowd, shared):
    cache, call = crowd.cache(shared), Call()
    ready(crowd, cache)
    count = counting(cache)
    found = asked(crowd, cache, call, MANY).result(60)
    assert [len(made) for made in call.made] == [len(MANY)]
    assert right(found)
    assert all(one.status.stored for one in found)
    assert count[0] <= 4 * SLICES
    count[0] = 0
    again = asked(crowd, cache, call, MANY).result(60)
    assert all(one.status.hit for one in again)
    assert count[0] <= SLICES
    assert len(call.made) == 1


def test_what_others_are_called_for_is_waited_for_all_together(crowd, others, shared):
    leading, following, call, mine = others.cache(shared), crowd.cache(shared), Call(), Call()
    ready(crowd, following)
    going: list[bool] = []
    call.open = lambda: bool(going)
    first = asked(others, leading, call, MANY)
    eventually(lambda: call.made, "it is called")
    count = counting(following)
    second = asked(crowd, following, mine, MANY)
    gathered(following, len(MANY))
    claimed = 2 * SLICES + (SLICES if following._base._engine.store.kind == "redis" else 0)
    eventually(lambda: count[0] >= claimed, "it has claimed again, now that it hears")
    going.append(True)
    found = second.result(60)
    assert right(first.result(60))
    assert right(found)
    assert not mine.made
    assert {(one.status.hit, one.status.collapsed) for one in found} == {(False, True)}
    # Looks, claims, claims after listening, and the entries; one more round trip if a notice came late.
    assert count[0] <= 8 * SLICES
    idle(following)


@pytest.mark.parametrize("ending", ["refused", "failed"])
def test_what_may_not_be_stored_is_shared_and_what_failed_is_called_for_again(crowd, others, shared, ending):
    verdict = Verdict("refused") if ending == "refused" else GOOD
    leading, following, call, mine = others.cache(shared), crowd.cache(shared), Call(verdict=verdict), Call()
    call.raises = ZeroDivisionError() if ending == "failed" else None
    some = range(2 * BATCH)
    going: list[bool] = []
    call.open = lambda: bool(going)
    first = asked(others, leading, call, some)
    eventually(lambda: call.made, "it is called")
    second = asked(crowd, following, mine, some)
    gathered(following, len(some))
    going.append(True)
    if ending == "failed":
        assert isinstance(first.exception(60), ZeroDivisionError)
    else:
        assert right(first.result(60))
    found = second.result(60)
    assert right(found)
    assert sum(len(made) for made in mine.made) == (len(some) if ending == "failed" else 0)
    if ending == "refused":
        assert {one.status.detail for one in found} == {"refused"}
    idle(following)
    idle(leading)


def test_two_batches_of_one_process_that_overlap_pay_each_input_once(crowd, shared):
    cache, call = crowd.cache(shared), Call()
    going: list[bool] = []
    call.open = lambda: bool(going)
    futures = [asked(crowd, cache, call, range(at, at + 100)) for at in (0, 50, 25)]
    eventually(lambda: sum(len(made) for made in call.made) == 150, f"all are called for: {call.made}")
    going.append(True)
    assert all(right(future.result(60)) for future in futures)
    assert sum(len(made) for made in call.made) == 150


async def test_nobody_gets_what_a_call_of_a_batch_makes_of_its_cancellation() -> None:
    call, begun, cancelled, goes_on = Call(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def leaves(asked: Any) -> list[Answer]:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            await goes_on.wait()
            raise ConnectionError("it was closed") from None
        return call.answers(asked)

    async with AsyncCache("memory://", on_abandon="close") as cache:
        engine = cache._base.engine()
        first = asyncio.create_task(engine.ask_many(questions(cache, range(2)), leaves))
        await begun.wait()
        first.cancel()
        await cancelled.wait()
        second = asyncio.create_task(engine.ask_many(questions(cache, range(1, 3)), call.tasks))
        asyncio.get_running_loop().call_later(0.05, goes_on.set)  # when it was told whom to follow
        assert right(await second)
        assert "backoff" not in cache.stats()


def sharing(cache: Any) -> list[Any]:
    """The flights without a lease that lookups get from now on."""
    board, shared = cache._base._engine.board, list[Any]()
    plain = board.share_unleased

    def noted(*arguments: Any) -> Any:
        shared.append(plain(*arguments))
        return shared[-1]

    board.share_unleased = noted
    return shared


def test_a_batch_in_trouble_is_paid_once_by_all_who_ask_it(crowd, own_valkey):
    cache, call = crowd.cache(patient(own_valkey)), Call()
    ready(crowd, cache)
    own_valkey.command("CONFIG", "SET", "maxmemory", 1)
    going: list[bool] = []
    call.open = lambda: bool(going)
    shared = sharing(cache)
    futures = [asked(crowd, cache, call, range(200)) for _ in range(3)]
    try:
        eventually(lambda: sum(map(len, call.made)) == 200 and len(shared) == 600, "each input is called for once")
    except AssertionError as late:
        raise AssertionError(
            f"{late}: calls for {list(map(len, call.made))}, {len(shared)} shared, {cache.stats()}"
        ) from None
    finally:
        going.append(True)  # in any case: what hangs would hold up the end of the test
    found = [future.result(60) for future in futures]
    assert all(right(one) for one in found)
    # The batches share them in turn: whichever comes first to an input calls for it.
    assert len({one.key for made in call.made for one in made}) == sum(map(len, call.made)) == 200
    assert {one.status.detail for outcome in found for one in outcome} == {"store-full"}
    assert cache.stats()["trouble"] < 10, "a batch has a trouble once, and not each of its inputs"


def test_a_call_of_a_batch_that_could_not_read_hides_no_call_from_later_batches(crowd, own_valkey, monkeypatch):
    """It cannot know whether the call under way is from before an invalidation; those that read can."""
    cache, call = crowd.cache(patient(own_valkey)), Call()
    ready(crowd, cache)
    own_valkey.command("CONFIG", "SET", "maxmemory", 1)
    going: list[bool] = []
    call.open = lambda: bool(going)
    shared, futures = sharing(cache), []
    for number, calls in enumerate((1, 2, 2, 2)):
        with monkeypatch.context() as patch:
            if number == 1:
                patch.setattr(cache._base._engine._reader, "look_all", unreadable)
            futures.append(asked(crowd, cache, call, range(9)))
            eventually(lambda number=number: len(shared) == 9 * (number + 1), "it shares, or calls")
        eventually(lambda calls=calls: len(call.made) == calls, "it calls")
    going.append(True)
    assert all(right(future.result(60)) for future in futures)


async def unreadable(_: Any) -> Any:
    raise StoreTrouble("store-timeout")


@pytest.mark.slow
@pytest.mark.servers
def test_2048_inputs_a_millisecond_away_take_little_longer_than_their_call_and_stay_leased(crowd, valkey: Server):
    with Proxy(valkey) as proxy, heartbeat(2.0):
        cache, call = crowd.cache(proxy.url), Call(2.5)
        ready(crowd, cache)
        proxy.delay = 0.001
        took = Took()
        future = asked(crowd, cache, call, range(2048))
        other = Crowd(crowd.mode)
        try:
            mine = Call()
            elsewhere = other.cache(patient(valkey))
            eventually(lambda: call.made, "it is called")
            found = asked(other, elsewhere, mine, range(2048)).result(60)
            assert right(found)
            assert not mine.made, "their leases were renewed while they were called for"
        finally:
            other.close()
        assert right(future.result(60))
        assert took.seconds < 2.5 + 5
