"""A stream is an answer like any other: paid once, shared while it is written, and kept when it is whole."""

import threading
import time
from typing import Any

import pytest

from askonce import Policy, UsageError
from tests.took import Took

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Tell me a story."}]}
ITEMS = [{"word": word} for word in ("once", "upon", "a", "time")]


class Reading(threading.Thread):
    """A reader in a thread of its own."""

    def __init__(self, cache, upstream, **own):
        super().__init__(daemon=True)
        self.items: list[Any] = []
        self.error: BaseException | None = None
        self.status: Any = None
        self._open = lambda: cache.fetch_stream(REQUEST, upstream.open, **own)
        self._news = threading.Condition()
        self.start()

    def run(self):
        try:
            stream = self._open()
            self.status = stream.status
            for item in stream:
                with self._news:
                    self.items.append(item)
                    self._news.notify_all()
        except BaseException as error:
            self.error = error

    def wait_for(self, count):
        with self._news:
            assert self._news.wait_for(lambda: len(self.items) >= count, 8), (self.items, self.error)

    def whole(self):
        self.join(60)
        assert not self.is_alive()
        return self.items


def wait_until(what, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def test_a_stream_is_paid_once_and_replayed(make, upstream):
    cache = make()
    upstream.say(*ITEMS)
    upstream.ends()
    first = cache.fetch_stream(REQUEST, upstream.open)
    assert list(first) == ITEMS
    again = cache.fetch_stream(REQUEST, upstream.open)
    assert again.status.hit
    assert list(again) == ITEMS
    assert upstream.opened == 1


@pytest.mark.concurrency
def test_those_who_ask_while_it_runs_get_what_was_said_and_then_each_item_as_it_comes(make, upstream):
    cache, elsewhere = make(), make()
    leader = Reading(cache, upstream)
    upstream.say(*ITEMS[:2])
    leader.wait_for(2)
    late = [Reading(cache, upstream), Reading(elsewhere, upstream), Reading(elsewhere, upstream)]
    for reader in late:
        reader.wait_for(2)
    upstream.say(ITEMS[2])
    for reader in late:
        reader.wait_for(3)
    upstream.say(ITEMS[3])
    upstream.ends()
    assert all(reader.whole() == ITEMS for reader in [leader, *late])
    assert all(reader.status.collapsed for reader in late)
    assert upstream.opened == 1
    assert make().fetch_stream(REQUEST, upstream.open).status.hit


@pytest.mark.concurrency
def test_a_reader_who_stops_reading_slows_nobody(make, upstream):
    cache, elsewhere = make(), make()
    upstream.say(ITEMS[0])
    slow = cache.fetch_stream(REQUEST, upstream.open)
    assert next(slow) == ITEMS[0]
    quick, remote = Reading(cache, upstream), Reading(elsewhere, upstream)
    upstream.say(*ITEMS[1:])
    upstream.ends()
    assert quick.whole() == ITEMS
    assert remote.whole() == ITEMS
    assert list(slow) == ITEMS[1:]


@pytest.mark.concurrency
def test_what_its_last_reader_left_is_finished_and_kept(make, upstream):
    cache = make()
    upstream.say(ITEMS[0])
    stream = cache.fetch_stream(REQUEST, upstream.open)
    assert next(stream) == ITEMS[0]
    stream.close()
    upstream.say(*ITEMS[1:])
    upstream.ends()
    wait_until(lambda: cache.stats().get("stored"))
    again = cache.fetch_stream(REQUEST, upstream.open)
    assert list(again) == ITEMS
    assert upstream.opened == 1
    assert cache.stats()["abandoned.finish"] == 1


@pytest.mark.concurrency
def test_what_its_last_reader_here_left_goes_on_for_a_reader_elsewhere_beyond_the_limit(make, upstream):
    cache, elsewhere = make(policy=Policy(abandon_limit=0.05)), make()
    upstream.say(ITEMS[0])
    with cache.fetch_stream(REQUEST, upstream.open) as stream:
        assert next(stream) == ITEMS[0]
    other = Reading(elsewhere, upstream)
    other.wait_for(1)
    threading.Event().wait(0.1)
    upstream.say(*ITEMS[1:])
    upstream.ends()
    assert other.whole() == ITEMS
    assert upstream.opened == 1


def test_with_on_abandon_close_what_its_last_reader_left_is_closed_upstream_and_not_kept(make, upstream):
    cache = make(policy=Policy(on_abandon="close"))
    upstream.say(*ITEMS)
    with cache.fetch_stream(REQUEST, upstream.open) as stream:
        assert next(stream) == ITEMS[0]
    assert upstream.closed == 1
    upstream.ends()
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == ITEMS
    assert upstream.opened == 2


@pytest.mark.concurrency
def test_an_upstream_that_breaks_breaks_every_reader_and_nothing_is_kept(make, upstream):
    cache, elsewhere = make(), make()
    leader = Reading(cache, upstream)
    upstream.say(*ITEMS[:2])
    leader.wait_for(2)
    late = [Reading(cache, upstream), Reading(elsewhere, upstream)]
    for reader in late:
        reader.wait_for(2)
    upstream.ends(ConnectionResetError("the wire broke"))
    for reader in [leader, *late]:
        assert reader.whole() == ITEMS[:2]
        assert isinstance(reader.error, ConnectionError)
    assert isinstance(leader.error, ConnectionResetError)
    assert "ended early" in str(late[1].error)
    upstream.ends()
    assert not cache.fetch_stream(REQUEST, upstream.open).status.hit
    assert upstream.opened == 2


@pytest.mark.concurrency
def test_a_stream_over_the_cap_passes_through_and_is_not_kept(make, upstream):
    cache = make(policy=Policy(max_answer_bytes=100))
    items = [{"text": "x" * 40} for _ in range(6)]
    upstream.say(*items)
    upstream.ends()
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == items
    assert cache.stats()["unstored.too-large"] == 1
    assert not cache.fetch_stream(REQUEST, upstream.open).status.hit


@pytest.mark.waits
def test_a_stream_that_outgrows_the_cap_after_its_readers_left_is_closed_upstream(make, upstream):
    cache = make(policy=Policy(max_answer_bytes=200))
    upstream.say("short")
    stream = cache.fetch_stream(REQUEST, upstream.open)
    assert next(stream) == "short"
    stream.close()  # it goes on by itself, to be kept
    upstream.say(*["x" * 100] * 50)
    upstream.wait_until_closed()
    assert upstream.read < 10
    assert cache.stats()["unstored.too-large"] == 1


def test_an_item_that_is_not_json_reaches_the_reader_and_the_answer_is_not_kept(make, upstream):
    cache, odd = make(), object()
    upstream.say(ITEMS[0], odd, ITEMS[1])
    upstream.ends()
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == [ITEMS[0], odd, ITEMS[1]]
    assert cache.stats()["unstored.not-json"] == 1
    assert not cache.fetch_stream(REQUEST, upstream.open).status.hit


def test_an_empty_stream_is_not_kept(make, upstream):
    cache = make()
    upstream.ends()
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == []
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == []
    assert upstream.opened == 2


@pytest.mark.concurrency
def test_a_stream_that_opens_says_nothing_and_ends_is_what_who_waited_gets_too(make, upstream):
    cache, elsewhere = make(), make()
    leader = Reading(cache, upstream)
    wait_until(lambda: leader.status)
    there = Reading(elsewhere, upstream)
    wait_until(lambda: cache._base._engine.board.flights()[0].pump.followed)
    here = Reading(cache, upstream)
    wait_until(lambda: here.status)
    upstream.ends()
    assert [reader.whole() for reader in (leader, here, there)] == [[], [], []]
    assert [reader.error for reader in (leader, here, there)] == [None] * 3
    assert there.status.collapsed
    assert upstream.opened == 1


def test_an_upstream_that_cannot_be_opened_raises_what_it_raises(make):
    def refuse():
        raise PermissionError("no")

    cache = make()
    with pytest.raises(PermissionError):
        cache.fetch_stream(REQUEST, refuse)
    with pytest.raises(UsageError, match="iterator"):
        cache.fetch_stream(REQUEST, lambda: 42)


@pytest.mark.concurrency
def test_an_invalidation_keeps_out_a_stream_that_began_before_it(make, upstream):
    cache, elsewhere = make(), make()
    leader = Reading(cache, upstream, tags=["t"])
    upstream.say(ITEMS[0])
    leader.wait_for(1)
    remote = Reading(elsewhere, upstream, tags=["t"])
    remote.wait_for(1)
    cache.invalidate(tag="t")
    later = Reading(elsewhere, upstream, tags=["t"])
    wait_until(lambda: upstream.opened == 2)
    upstream.say(*ITEMS[1:])
    upstream.ends()
    assert leader.whole() == remote.whole() == later.whole() == ITEMS
    assert not later.status.collapsed
    assert cache.stats().get("refused", 0) == 1


@pytest.mark.waits
def test_a_paced_replay_takes_the_time_it_took(make, upstream):
    cache = make(replay="paced", replay_speed=2.0)

    def story():
        for item in ITEMS:
            threading.Event().wait(0.05)
            yield item

    list(cache.fetch_stream(REQUEST, story))
    took = Took()
    assert list(cache.fetch_stream(REQUEST, story)) == ITEMS
    assert took.wall >= 0.06
    assert took.seconds <= 0.6


def test_a_request_with_tools_passes(make, upstream):
    cache = make()
    upstream.say(*ITEMS)
    upstream.ends()
    request = {**REQUEST, "tools": [{"type": "function", "function": {"name": "f"}}]}
    for _ in range(2):
        stream = cache.fetch_stream(request, upstream.open)
        assert list(stream) == ITEMS
        assert stream.status.fwd == "bypass"
    assert upstream.opened == 2


def test_readers_get_copies_of_their_own(make, upstream):
    cache = make()
    upstream.say(*ITEMS)
    upstream.ends()
    for item in cache.fetch_stream(REQUEST, upstream.open):
        item["word"] = "mutated"
    assert list(cache.fetch_stream(REQUEST, upstream.open)) == ITEMS


def test_a_stream_and_a_value_of_one_question_are_kept_apart_and_forgotten_together(make, upstream):
    cache = make()
    upstream.say(*ITEMS)
    upstream.ends()
    list(cache.fetch_stream(REQUEST, upstream.open))
    cache.fetch(REQUEST, lambda: {"whole": True}).forget()
    assert not cache.fetch_stream(REQUEST, upstream.open).status.hit
