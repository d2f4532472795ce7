"""What is booked, case by case: who asked, who paid, what was saved; and what is not lost and not counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache, Keys, NotCached, Policy, UsageError
from askonce.cache import savings
from askonce.core.codec import PLAIN
from askonce.core.judge import Verdict
from askonce.core.labels import OTHER
from askonce.core.providers.usage import Usage
from askonce.core.spent import Spent
from askonce.core.tallies import BALANCES, Push
from askonce.engine.answer import Answer
from askonce.flight.accounts import Accounts
from askonce.flight.bookings import Booking, Cost, Who
from askonce.flight.pricing import UNPRICED
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.testing.trial import Clock
from tests.crowd import eventually
from tests.engine.test_batches import Call, questions
from tests.support import opened_file
from tests.took import Took

PRICES = {"gpt-9*": {"input": 2, "output": 10}}
ONE = Spent(1, 100, 20, 0, 400_000)  # an answer of these tokens, without its duration


def chat(text: str = "hi", finish: str = "stop", put_in: int = 100, got_out: int = 20) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": put_in, "completion_tokens": got_out, "total_tokens": put_in + got_out}
    choices = [{"index": 0, "message": message, "finish_reason": finish}]
    return {"object": "chat.completion", "model": "gpt-9-mini", "choices": choices, "usage": usage}


def asked(text: str = "a", model: str = "gpt-9-mini") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def plain(spent: Spent) -> Spent:
    """Without the duration, which differs from run to run."""
    return spent - Spent(ms=spent.ms)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    policy = Policy(ttl=10.0, grace=100.0, stale_if_error=200.0, max_age=1000.0, jitter=0.0)
    with Cache("memory://", policy=policy, prices=PRICES, clock=clock) as made:
        yield made


def kinds(cache, **how: Any) -> dict[str, Spent]:
    total = cache.savings(**how).total
    return {kind: plain(getattr(total, kind)) for kind in ("led", "hits", "joined", "stale", "refreshes", "doubled")}


def test_a_call_and_two_hits(cache):
    for _ in range(3):
        cache.fetch(asked(), chat)
    found = kinds(cache)
    assert (found["led"], found["hits"]) == (ONE, ONE.times(2))
    total = cache.savings().total
    assert (plain(total.asked), plain(total.paid), plain(total.saved)) == (ONE.times(3), ONE, ONE.times(2))


def test_a_stale_answer_saves_its_call_and_its_refresh_is_subtracted(cache, clock):
    cache.fetch(asked(), chat)
    clock.tick(20_000)
    assert cache.fetch(asked(), chat).status.detail == "stale"
    eventually(lambda: kinds(cache)["refreshes"].calls, "the refresh is counted")
    found = kinds(cache)
    assert (found["stale"], found["refreshes"]) == (ONE, ONE)
    assert plain(cache.savings().total.saved) == Spent()


def test_an_old_answer_in_place_of_a_failure_saves_its_tokens_and_no_call(cache, clock):
    def failing() -> Any:
        raise TimeoutError

    cache.fetch(asked(), chat)
    clock.tick(150_000)  # past the grace
    assert cache.fetch(asked(), failing).status.fwd == "stale"
    found = kinds(cache)
    assert (found["led"], found["stale"], found["doubled"]) == (ONE, ONE, Spent(1))
    assert plain(cache.savings().total.saved) == ONE - Spent(1)


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_an_answer_that_is_not_stored_was_asked_and_paid_each_time(cache, finish):
    for _ in range(2):
        cache.fetch(asked(), lambda: chat(finish=finish))
    assert kinds(cache)["led"] == ONE.times(2)
    assert sum(cache.activity().unstored.values()) == 2


def test_a_failed_call_was_asked_and_paid_and_brought_no_tokens(cache):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.fetch(asked(), lambda: 1 / 0)
    total = cache.savings().total
    assert (total.asked.calls, total.paid.calls, total.asked.tokens) == (2, 2, 0)


class ConnectError(Exception):
    """As HTTP clients call it."""


def test_a_call_that_was_never_sent_is_no_call(cache):
    def refused() -> Any:
        raise ConnectError

    with pytest.raises(ConnectError):
        cache.fetch(asked(), refused)
    total = cache.savings().total
    assert (total.asked.calls, total.paid.calls, total.unanswered) == (0, 0, 1)


def silent(cache: Any) -> None:
    """Each lookup finds that it followed a flight which went silent, and takes over."""
    claims = cache._base.engine()._claims
    plain = claims._begun

    def begun(question: Any, attempt: Any) -> Any:
        attempt.silent = True
        return plain(question, attempt)

    claims._begun = begun


@pytest.mark.parametrize("raised", [TimeoutError, ConnectError, ZeroDivisionError])
@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("old", [(), (0,), (1,), (0, 1)])
def test_a_lookup_or_a_batch_counts_once_whatever_becomes_of_its_call(cache, clock, raised, takeover, old):
    """`old`: the inputs that have an old answer, which serves in place of trouble."""
    call = Call()
    for number in old:
        drive(cache._base.engine().ask_many(questions(cache, range(number, number + 1)), call.sync))
    if old:
        cache.fetch(asked(), chat)
    clock.tick(150_000)
    if takeover:
        silent(cache)
    call.raises = raised()
    for ask in (
        lambda: drive(cache._base.engine().ask_many(questions(cache, range(2)), call.sync)),
        lambda: cache.fetch(asked(), lambda: call.answers([])),
    ):
        with contextlib.suppress(raised):
            ask()
    total = cache.savings().total
    lookups, sent = len(old) + bool(old) + 2, raised is not ConnectError
    assert (total.asked.calls + total.unanswered, total.paid.calls) == (lookups, lookups - 2 + 2 * sent)


def test_a_batch_that_calls_twice_counts_once_and_paid_twice(tmp_path):
    with Cache(f"sqlite:///{tmp_path}/a.db") as one, Cache(f"sqlite:///{tmp_path}/a.db") as other:
        open_, call, mine = threading.Event(), Call(), Call()
        call.open, call.raises = open_.is_set, ZeroDivisionError()
        leading = threading.Thread(target=lambda: asked_in_vain(one, call))
        leading.start()
        eventually(lambda: call.made, "another process asks for one of the two")
        mine.open = lambda: open_.set() or True
        found = drive(other._base.engine().ask_many(questions(other, range(2)), mine.sync))
        leading.join(60)
        assert (len(found), [len(made) for made in mine.made]) == (2, [1, 1])
        total = other.savings().total
        eventually(lambda: other.savings().total.asked.calls == 2, "both have counted")
        total = other.savings().total
        assert (total.asked.calls, total.paid.calls, total.doubled.calls) == (2, 3, 1)


def asked_in_vain(cache: Any, call: Call) -> None:
    with contextlib.suppress(ZeroDivisionError):
        drive(cache._base.engine().ask_many(questions(cache, range(1)), call.sync))


def test_a_lookup_that_only_the_store_may_answer_is_unanswered(cache):
    with pytest.raises(NotCached):
        cache.fetch(asked(), chat, control="only-if-cached")
    assert cache.savings().total.unanswered == 1


def test_callers_that_share_a_flight_join_it_stored_or_not(cache):
    flights = cache._base.engine().board.flights
    for finish in ("stop", "length"):
        gate, begun = threading.Event(), threading.Event()

        def slow(finish: str = finish, gate: threading.Event = gate, begun: threading.Event = begun) -> Any:
            begun.set()
            gate.wait(60)
            return chat(finish=finish)

        threads = [threading.Thread(target=cache.fetch, args=(asked(finish), slow)) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(60)
        eventually(lambda: sum(one.followers for one in flights()) == 2, "two join the flight")
        gate.set()
        for thread in threads:
            thread.join()
    found = kinds(cache)
    assert (found["led"], found["joined"]) == (ONE.times(2), ONE.times(4))


async def after_a_leader_that(error: str, body: dict[str, Any], path: str) -> Any:
    """The savings of a caller that joined a call, whose end was its leader's alone, and then made its own."""
    calls, ends = [], asyncio.Event()

    async def upstream(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        if len(calls) == 1:
            await ends.wait()
            if error == "404":
                return httpx2.Response(404, json={"error": {"message": "not for this credential"}})
            raise getattr(httpx2, error)("slow", request=request)
        data = [{"object": "embedding", "index": 0, "embedding": [1.0]}]
        return httpx2.Response(200, json={"object": "list", "model": "m", "data": data} if "input" in body else chat())

    async with AsyncCache("memory://", tenant="t", prices=False) as cache:
        own: dict[str, Any] = {"module": httpx2, "inner": httpx2.MockTransport(upstream)}
        async with cache.http_client(timeout=1, **own) as first, cache.http_client(timeout=60, **own) as second:
            asking = [
                asyncio.ensure_future(one.post(f"https://api.example/v1/{path}", json=body, headers={"x-api-key": key}))
                for one, key in ((first, "a"), (second, "b"))
            ]
            flights = cache._base.engine().board.flights
            await asyncio.to_thread(eventually, lambda: sum(one.followers for one in flights()) == 1, "it is joined")
            ends.set()
            await asyncio.wait(asking)
            assert asking[1].result().status_code == 200
        return (await cache.savings()).total


@pytest.mark.parametrize("error", ["ReadTimeout", "ConnectTimeout", "PoolTimeout", "404"])
@pytest.mark.parametrize(
    ("path", "body"),
    [("chat/completions", asked()), ("embeddings", {"model": "m", "input": ["a"]})],
    ids=["chat", "batch"],
)
def test_who_joined_a_call_that_was_not_for_it_and_made_its_own_saved_nothing(error, path, body):
    """The time of the call that it had joined was saved, and of one that was never sent minus one call."""
    total = asyncio.run(after_a_leader_that(error, body, path))
    sent = error in {"ReadTimeout", "404"}
    assert (total.paid.calls, total.asked.calls, total.unanswered) == (1 + sent, 1 + sent, 1 - sent)
    assert total.saved.ms <= 0
    assert plain(total.saved) == Spent()


def test_values_without_a_usage_count_calls_and_seconds_only(cache):
    for _ in range(2):
        cache.get_or_set([{"role": "user", "content": "x"}], "gpt-9", lambda: (time.sleep(0.01), "text")[1])
    total = cache.savings().total
    assert (plain(total.led), plain(total.hits)) == (Spent(1), Spent(1))
    assert total.hits.ms == total.led.ms >= 10


def test_an_answer_inside_a_value_of_the_user_s_is_found(cache):
    cache.fetch(asked(), lambda: {"mine": [chat(), chat()], "at": 3})
    assert kinds(cache)["led"] == ONE.times(2) - Spent(1)


def test_an_answer_that_cannot_be_read_is_no_hit(cache):
    cache.fetch(asked(), chat)
    memory = cache._base.engine().store._memory
    (name,) = memory.entries
    kept = memory.entries[name]
    from askonce.core.model import read_head

    head = read_head(kept.data)
    import zlib

    broken = kept.data[: head.length] + b"[[["
    check = zlib.crc32(broken[120:], zlib.crc32(broken[:80]))
    memory.entries[name] = kept._replace(data=broken[:80] + check.to_bytes(4, "big") + broken[84:])
    assert cache.fetch(asked(), chat).status.fwd == "miss"
    found = kinds(cache)
    assert (found["led"], found["hits"]) == (ONE.times(2), Spent())


def test_rows_are_split_by_model_scope_tenant_and_day(cache):
    for model, scope, tenant in (("gpt-9", "a/b", "x"), ("gpt-9", "a", "y"), ("gpt-8", "a", "y")):
        for _ in range(2):
            cache.fetch(asked(model=model), chat, scope=scope, tenant=tenant)
    by = {
        one: {row.label: row.balance.asked.calls for row in cache.savings(by=one).rows}
        for one in ("model", "scope", "tenant")
    }
    assert by == {"model": {"gpt-9": 4, "gpt-8": 2}, "scope": {"a": 4, "a/b": 2}, "tenant": {"y": 4, "x": 2}}
    both = cache.savings(by=("tenant", "model"))
    assert {row.labels for row in both.rows} == {("x", "gpt-9"), ("y", "gpt-9"), ("y", "gpt-8")}
    (row,) = cache.savings(by="day").rows
    assert row.label == both.until.isoformat()
    assert sum((row.balance for row in both.rows), start=type(row.balance)()) == both.total


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"by": "modle"}, "write model"),
        ({"since": 0}, "at least 1"),
        ({"since": "x"}, "number of days"),
        ({"since": True}, "number"),
    ],
)
def test_a_wrong_argument_says_what_to_write(cache, how, told):
    with pytest.raises(UsageError, match=told):
        cache.savings(**how)


def test_what_passed_is_counted_by_reason_and_priced_by_nobody(cache):
    cache.fetch({**asked(), "tools": [{"type": "function", "function": {"name": "f"}}]}, chat)
    cache.fetch(asked(), chat, control="no-store")
    activity = cache.activity()
    assert sum(activity.passed.values()) == 2
    assert activity.passed["no-store"] == 1
    assert cache.savings().total.asked == Spent()


def test_the_hottest_keys_and_the_hours_are_told(cache):
    for _ in range(40):
        hot = cache.fetch(asked("hot"), chat)
    for number in range(3):
        cache.fetch(asked(str(number)), chat)
        cache.fetch(asked(str(number)), chat)
    activity = cache.activity()
    assert activity.hottest[0] == (hot.key, 39)
    assert len(activity.hottest) == 4
    (hour,) = activity.hours
    assert (hour.balance.hits.calls, hour.balance.led.calls) == (42, 4)
    assert (activity.calls.count, activity.hits.count) == (4, pytest.approx(42 / 16, abs=2))


def test_the_labels_of_an_encrypted_cache_are_encrypted_everywhere(tmp_path):
    keys = Keys({"k1": os.urandom(32)})
    url = f"sqlite:///{tmp_path}/sealed.db"
    with Cache(url, encryption=keys, prices=PRICES) as cache:
        for _ in range(2):
            cache.fetch(asked(), chat, scope="secret/scope", tenant="secret-tenant")
        cache.fetch(asked(), lambda: chat(finish="length"), scope="secret/scope", tenant="other")
        (first, *_) = cache.savings(by=("model", "scope", "tenant")).rows
        assert first.labels == ("gpt-9-mini", "secret/scope", "secret-tenant")
        assert cache.activity().unstored
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for word in (b"secret", b"gpt-9-mini", b"truncated"):
        assert word not in held
    with Cache(url, encryption=Keys({"k2": os.urandom(32)})) as stranger:
        (row,) = stranger.savings(by="model").rows
        assert row.label == "(encrypted)"


def test_after_so_many_labels_the_others_are_counted_together(cache):
    for number in range(140):
        cache.fetch(asked(model=f"m{number}"), lambda: "text", tags=[])
    rows = cache.savings(by="model").rows
    labels = {row.label: row.balance.asked.calls for row in rows}
    assert labels[OTHER] == 12
    assert len(labels) == 129


# --- what is not lost, and not counted twice


class Store:
    """A store that takes a push, and may lose its reply."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.lost = 0
        self.away = False

    async def tally(self, push: Push) -> None:
        if self.away:
            raise StoreTrouble("store-timeout")
        self.pushes.append(push)
        if self.lost:
            self.lost -= 1
            raise StoreTrouble("store-timeout")


def booked(accounts: Accounts, count: int = 1) -> None:
    for _ in range(count):
        accounts.book(Booking(Who("", PLAIN, "m"), "led", Spent(1), Cost(Usage(3, 4), 5), UNPRICED))


def test_a_push_whose_reply_was_lost_is_sent_again_as_it_was():
    accounts, store = Accounts(lambda: None), Store()
    store.lost = 2
    booked(accounts)
    accounts.send(store)
    booked(accounts, 2)
    accounts.send(store)
    accounts.send(store)
    accounts.send(store)
    numbers = [push.number for push in store.pushes]
    assert numbers == [1, 1, 1, 2]
    assert store.pushes[0] == store.pushes[1] == store.pushes[2]
    assert len({push.sender for push in store.pushes}) == 1


def test_what_the_store_does_not_take_is_kept_within_bounds_and_pushed_later():
    accounts, store = Accounts(lambda: None), Store()
    store.away = True
    for number in range(300):
        accounts.book(Booking(Who("", PLAIN, f"m{number}"), "led", Spent(1)))
        accounts.send(store)
    assert len(accounts._sending) == 1
    assert not accounts._bookings
    assert len(accounts._pending[""][BALANCES]) <= 129
    store.away = False
    accounts.send(store)
    accounts.send(store)
    counted = [tally for push in store.pushes for tally in push.tallies if tally.table == BALANCES]
    assert sum(tally.counts["ln"] for tally in counted) == 300
    assert len({tally.label for tally in counted}) <= 130


def test_a_hit_that_is_added_while_its_row_is_taken_is_counted_later(cache):
    cache.fetch(asked(), chat)
    cache.fetch(asked(), chat)
    accounts = cache._base.engine().background.accounts
    (row,) = accounts.rows.values()
    accounts._retire()
    assert not accounts.rows
    row.hits += 1  # by a thread that had it in its hand
    cache.savings()
    row.hits += 1
    assert kinds(cache)["hits"].calls == 3


def test_a_thread_that_has_nothing_to_push_is_left_alone():
    started = []
    accounts, store = Accounts(lambda: started.append(1)), Store()
    booked(accounts)
    for _ in range(20):
        accounts.send(store)
    assert accounts.idle
    assert started == [1]
    booked(accounts)
    assert started == [1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_counts_what_it_does_itself(tmp_path):
    cache = Cache(f"sqlite:///{tmp_path}/forked.db", prices=PRICES)
    for _ in range(3):
        cache.fetch(asked(), chat)
    child = os.fork()
    if not child:
        cache.fetch(asked(), chat)
        cache.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    found = kinds(cache)
    cache.close()
    assert (found["led"].calls, found["hits"].calls) == (1, 3)


async def streamed(text: str) -> Any:
    """The parts of an answer, one for each letter."""
    chunk = {"object": "chat.completion.chunk", "model": "gpt-9-mini"}
    for letter in text:
        yield {**chunk, "choices": [{"index": 0, "delta": {"content": letter}, "finish_reason": None}]}
        await asyncio.sleep(0)
    yield {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield {**chunk, "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}


async def test_an_async_cache_counts_streams_of_items_and_those_that_join_them():
    async def read():
        return len([item async for item in await cache.fetch_stream(asked(), lambda: streamed("ab"))])

    async with AsyncCache("memory://", prices=PRICES) as cache:
        assert await asyncio.gather(read(), read(), read()) == [4, 4, 4]
        assert await read() == 4
        total = (await cache.savings(since=1)).total
    assert (plain(total.led), plain(total.joined), plain(total.hits)) == (ONE, ONE.times(2), ONE)


async def test_a_stream_that_its_reader_leaves_is_paid_all_the_same():
    async with AsyncCache("memory://", prices=PRICES) as cache:
        stream = await cache.fetch_stream(asked(), lambda: streamed("01234"))
        await anext(stream)
        await stream.aclose()
        until = time.monotonic() + 60
        while cache._base.engine().board.flights() and time.monotonic() < until:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
        total = (await cache.savings()).total
    assert plain(total.led) == plain(total.asked) == ONE


def test_what_a_hit_saved_is_told_with_it(cache):
    assert cache.fetch(asked(), chat).saved == Spent()
    assert plain(cache.fetch(asked(), chat).saved) == ONE


def test_mode_off_writes_nothing(tmp_path):
    with Cache(f"sqlite:///{tmp_path}/off.db", mode="off") as cache:
        cache.fetch(asked(), chat)
    with Cache(f"sqlite:///{tmp_path}/off.db") as cache:
        assert cache.activity().passed == {}


def test_a_takeover_saves_nothing(cache):
    """Its caller had joined a flight, and then paid: both are counted."""
    engine = cache._base.engine()
    question = cache._base._question(asked(), cache._base._planner.plain)
    flight = engine.board.unleased(question.key, engine.mode.owner())
    flight.takeover = True
    engine.accounting.paid(flight, question, Answer(b"{}", Verdict("")), 0.0)
    engine.accounting.paid(flight, question, Answer(b"{}", Verdict("")), 0.0)  # its end is repeated
    found = kinds(cache)
    assert (found["doubled"], found["joined"], found["led"]) == (Spent(1), Spent(1), Spent())
    total = cache.savings().total
    assert (total.asked.calls, total.paid.calls, total.saved.calls) == (1, 1, 0)


def test_a_bug_in_the_accounts_stops_neither_them_nor_the_thread(cache, caplog):
    accounts = cache._base.engine().background.accounts
    accounts.note("", "no such table", b"x")
    accounts.book(Booking(Who("", PLAIN), "no such kind", Spent(1)))
    cache.fetch(asked(), chat)
    for _ in range(3):  # each turn meets one of them
        cache.savings()
    cache.fetch(asked(), chat)
    assert kinds(cache)["hits"].calls == 1
    assert "cannot count" in caplog.text


async def test_savings_are_added_up_in_turns_and_come_to_the_same(monkeypatch):
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def call() -> Any:
        return chat()

    async with AsyncCache("memory://", prices=PRICES) as cache:
        for number in range(9):
            for _ in range(number):
                await cache.fetch(asked(str(number), f"gpt-9-{number}"), call, tenant=str(number % 2))
        ways = ((), "model", ("tenant", "day"), ("day", "model"))
        whole = [await cache.savings(by=by) for by in ways]
        monkeypatch.setattr(savings, "AT_ONCE", 1)
        others = asyncio.create_task(other())
        await asyncio.sleep(0)
        turns.clear()
        assert [await cache.savings(by=by) for by in ways] == whole
        others.cancel()
    assert len(turns) >= 4 * 8
    assert [row.label for row in whole[1].rows] == [f"gpt-9-{number}" for number in range(8, 0, -1)]


KEYS = [
    "sk-proj-AbCdEf0123456789AbCdEf0123456789",
    "sk-ant-api03-AbCdEf0123456789AbCdEf0123456789",
    "Bearer AbCdEf0123456789AbCdEf0123456789",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_somebody_calls_a_tenant_or_a_model_is_in_no_sum(tmp_path, key):
    with Cache(f"sqlite:///{tmp_path}/a.db") as cache:
        for name in (key, "acme", "hf-research-team", "pk-production-europe", "550e8400-e29b-41d4-a716-446655440000"):
            cache.fetch(asked(), chat, tenant=name)
        cache.fetch(asked(model=key), chat, store_if=lambda _: False)
        tenants = {row.label for row in cache.savings(by="tenant").rows}
        assert len(tenants) == 6
        assert {OTHER, "acme", "hf-research-team", "pk-production-europe"} < tenants
        assert {row.label for row in cache.savings(by="model").rows} == {"gpt-9-mini", OTHER}
    with opened_file(tmp_path / "a.db") as rows:
        assert not [row for row in rows.execute("SELECT label FROM tallies") if key.encode() in row[0]]


def test_a_push_that_no_store_can_take_stops_no_later_one(cache, caplog, monkeypatch):
    store, sent = cache._base.engine().store, []
    tally = store.tally

    async def refused(push: Push) -> None:
        sent.append(push.number)
        if push.number == 1:
            raise OverflowError
        await tally(push)

    monkeypatch.setattr(store, "tally", refused)
    cache.fetch(asked(), chat)
    assert kinds(cache)["led"].calls == 0
    cache.fetch(asked(), chat)
    assert kinds(cache)["hits"].calls == 1
    assert sent == [1, 2]
    assert "cannot count" in caplog.text


@pytest.mark.parametrize("rate", [75, 999_999_999])
def test_a_usage_that_is_nonsense_takes_no_count_of_others_away(place, rate):
    with Cache(place, prefix="nonsense", prices={"gpt-9*": {"input": rate, "output": rate}}) as cache:
        for text in ("nonsense", "sense"):
            for _ in range(40):
                cache.fetch(asked(text), lambda text=text: chat(text, put_in=2**48 if text == "nonsense" else 100))
        found = kinds(cache)
        assert (found["led"].calls, found["hits"].calls) == (2, 78)
        assert found["hits"].tokens_in == 39 * (2**48 + 100)
        assert found["led"].nanodollars <= found["hits"].nanodollars == 2**62


async def test_a_batch_saves_the_tokens_of_what_it_finds_and_its_call_if_it_finds_all(provider):
    async with AsyncCache("memory://", prices={"embed*": {"input": 1, "output": 0}}) as cache:
        async with cache.http_client() as client:
            for inputs in (["one text", "two text"], ["one text", "six text"], ["six text", "two text", "one text"]):
                body = {"model": "embed-1", "input": inputs}
                await client.post(f"{provider.openai_url}/embeddings", json=body)
        total = (await cache.savings()).total
    each = (len("one text") + 2) // 4 + 1
    assert (total.led.calls, total.led.tokens, provider.calls) == (2, 3 * each, 2)
    assert (total.hits.calls, total.hits.tokens) == (1, 4 * each)
    assert total.hits.nanodollars == 4 * each * 1_000


def test_a_store_that_is_away_does_not_hold_up_the_end_of_a_cache():
    cache = Cache("redis://127.0.0.1:1", prices=PRICES)
    cache.fetch(asked(), chat)
    took = Took()
    cache.close()
    assert took.seconds < 2.5


def test_what_was_counted_is_pushed_first_on_a_machine_that_is_too_busy_for_it(cache, monkeypatch):
    plain = Accounts._pushed
    monkeypatch.setattr(Accounts, "_pushed", lambda self, store: (time.sleep(0.7), plain(self, store))[1])
    cache.fetch(asked(), chat)
    assert kinds(cache)["led"] == ONE
