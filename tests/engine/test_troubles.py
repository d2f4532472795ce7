"""The store in trouble: closed, frozen, restarted empty, its connections cut.

A lookup never fails for it and never waits long: one store timeout, 0.2 s, and nothing once the breaker is open.
Trouble is never mistaken for a cold cache: the status names it, the events count it, the log warns once. While it
lasts, each process still collapses its own calls. The store is used again soon after it answers a probe.
"""

from __future__ import annotations

import logging

import pytest

from askonce import NotCached, StoreUnavailable
from askonce.testing import Step
from tests.crowd import ASKED, HANG, PATIENCE, eventually, gathered, results, values
from tests.fixtures import patient
from tests.took import Took, usual

pytestmark = [pytest.mark.concurrency, pytest.mark.servers]

ONCE = 0.25  # s over the call's own time, for a caller that meets the trouble
SILENT = 1.0  # s that a store may be silent, where that is tried: 0.2 s pass quickly on a busy machine
OPEN = 0.001  # s over it while the breaker is open
BACK = 2.0  # s after the store answers again


def timed(crowd, cache, request, call, times=1):
    """Outcomes of lookups one after another, and the seconds of each, measured where they are made."""
    if not crowd.tasks:
        found = []
        for _ in range(times):
            begun = Took()
            outcome = cache.fetch(request, call.on(request))
            found.append((outcome, begun.seconds))
        return found

    async def ask():
        found = []
        for _ in range(times):
            begun = Took()
            outcome = await cache.fetch(request, call.aio_on(request))
            found.append((outcome, begun.seconds))
        return found

    return crowd.loop.do(ask())


def warm(crowd, cache, call):
    """Connections open, scripts loaded, an answer stored: at once, unless the machine is too busy for a timeout."""
    eventually(lambda: timed(crowd, cache, "warm", call)[0][0].status.hit, "it is stored, and given")


def opened(cache):
    return cache.stats()["breaker"] != "closed"


def test_a_closed_store_is_met_once_and_left_alone_until_it_is_back(crowd, own_valkey, call, caplog):
    caplog.set_level(logging.WARNING, "askonce")
    cache = crowd.cache(patient(own_valkey))
    heard = []
    cache.on_event(lambda event: heard.append((event.name, event.detail)) if event.name != "lookup" else None)
    warm(crowd, cache, call)
    own_valkey.stop()
    ((outcome, took),) = timed(crowd, cache, "warm", call)
    assert took <= ONCE
    assert (outcome.status.hit, outcome.status.detail) == (False, "store-refused")
    assert ("trouble", "store-refused") in heard
    assert ("open", "store-refused") in heard
    assert cache.stats()["breaker"] == "store-refused"
    assert "breaker open (store-refused)" in repr(cache)
    found = timed(crowd, cache, "warm", call, times=101)
    assert {outcome.status.detail for outcome, _ in found} == {"store-refused"}
    assert usual(took for _, took in found) <= OPEN
    assert len(caplog.records) == 1
    assert "store-refused" in caplog.text
    own_valkey.start()
    eventually(lambda: not opened(cache), "the breaker closes", patience=BACK)
    assert ("back", "") in heard
    assert crowd.answer(cache, "warm", call).status.stored  # it came back empty
    assert crowd.answer(cache, "warm", call).status.hit
    own_valkey.stop()
    timed(crowd, cache, "warm", call)
    assert len(caplog.records) == 2  # a new trouble, a new warning


def test_a_frozen_store_costs_one_timeout_and_opens_the_breaker_at_the_second(crowd, own_valkey, call):
    cache = crowd.cache(own_valkey.url, socket_timeout=SILENT)
    warm(crowd, cache, call)
    own_valkey.freeze()
    try:
        for number in (1, 2):
            ((outcome, took),) = timed(crowd, cache, "warm", call)
            assert took <= SILENT + 0.05, number
            assert outcome.status.detail == "store-timeout"
        assert cache.stats()["breaker"] == "store-timeout"
        found = timed(crowd, cache, "warm", call, times=101)
        assert usual(took for _, took in found) <= OPEN
    finally:
        own_valkey.thaw()
    eventually(lambda: not opened(cache), "the breaker closes", patience=BACK)
    assert crowd.answer(cache, "warm", call).status.hit
    assert cache.stats()["trouble.store-timeout"] == 2


def test_a_store_that_freezes_during_a_call_costs_its_leader_one_timeout(crowd, own_valkey, call):
    call.script(ASKED, HANG)
    cache = crowd.cache(own_valkey.url, socket_timeout=SILENT)
    warm(crowd, cache, call)
    future = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    own_valkey.freeze()
    try:
        begun = Took()
        call.release()
        outcome = future.result(PATIENCE)
        assert begun.seconds <= SILENT + 0.1
        assert (outcome.status.stored, outcome.status.detail) == (False, "store-timeout")
    finally:
        own_valkey.thaw()


def test_threads_or_tasks_that_ask_while_the_store_is_down_share_one_call(crowd, own_valkey, call):
    cache = crowd.cache(patient(own_valkey))
    warm(crowd, cache, call)
    own_valkey.stop()
    timed(crowd, cache, "warm", call)
    assert opened(cache)
    call.script(ASKED, HANG)
    futures = crowd.asks(25, cache, ASKED, call)
    gathered(cache, 25, call)
    call.release()
    found = values(futures)
    assert call.paid(ASKED) == 1
    assert all(value == found[0] for value in found)
    assert len({id(value) for value in found}) == 25
    statuses = [outcome.status for outcome in results(futures)]
    assert sorted(status.collapsed for status in statuses) == [False] + [True] * 24
    call.script(ASKED, Step(hang=True, error=ZeroDivisionError()))
    futures = crowd.asks(5, cache, ASKED, call)
    gathered(cache, 5, call)
    call.release()
    assert {type(error) for error in results(futures)} == {ZeroDivisionError}
    assert call.paid(ASKED) == 2


def test_a_store_that_was_never_there_is_no_error(crowd, call):
    cache = crowd.cache("redis://127.0.0.1:1/0")
    ((outcome, took),) = timed(crowd, cache, ASKED, call)
    assert outcome.status.detail == "store-refused"
    assert took <= ONCE + 0.5  # redis-py is imported and a thread is started here, too
    assert call.calls == 1


def test_a_store_restarted_empty_costs_one_call_and_no_exception(crowd, own_valkey, call):
    cache = crowd.cache(patient(own_valkey))
    warm(crowd, cache, call)
    own_valkey.stop()
    own_valkey.start()
    outcome = crowd.answer(cache, "warm", call)
    assert (outcome.status.fwd, outcome.status.detail) == ("miss", "")
    assert outcome.status.stored
    assert crowd.answer(cache, "warm", call).status.hit
    assert call.calls == 2
    assert "trouble" not in cache.stats()


def test_a_leader_whose_store_is_restarted_empty_keeps_its_answer_to_itself(crowd, own_valkey, call):
    call.script(ASKED, HANG, "complete")
    cache = crowd.cache(patient(own_valkey))
    futures = crowd.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    own_valkey.stop()
    own_valkey.start()
    call.release()
    assert {outcome.status.stored for outcome in results(futures)} == {False}
    assert cache.stats()["refused.lost"] == 1
    assert call.calls == 1
    assert crowd.answer(cache, ASKED, call).status.stored


def test_an_idle_connection_that_was_cut_costs_no_paid_call(crowd, own_valkey, call):
    cache = crowd.cache(patient(own_valkey))
    warm(crowd, cache, call)
    for _ in range(3):
        assert own_valkey.kill_connections() >= 1
        assert timed(crowd, cache, "warm", call)[0][0].status.hit
    assert call.calls == 1
    assert "trouble" not in cache.stats()


def test_a_leader_and_its_followers_outlive_a_cut_of_all_connections(crowd, others, own_valkey, call):
    call.script(ASKED, HANG)
    leading, following = others.cache(patient(own_valkey)), crowd.cache(patient(own_valkey))
    first = others.ask(leading, ASKED, call)
    gathered(leading, 1, call)
    second = crowd.ask(following, ASKED, call)
    eventually(lambda: following.stats()["waiting"] == 1, "it follows")
    own_valkey.kill_connections()
    call.release()
    begun = Took()
    assert second.result(PATIENCE).value == first.result(PATIENCE).value
    assert begun.seconds < 2.0
    assert call.calls == 1


def test_a_strict_cache_raises_what_others_only_report(crowd, own_valkey, call):
    cache = crowd.cache(patient(own_valkey), strict=True)
    warm(crowd, cache, call)
    own_valkey.stop()
    for _ in range(2):  # met the trouble, then open
        error = crowd.ask(cache, "warm", call).exception(PATIENCE)
        assert isinstance(error, StoreUnavailable)
        assert isinstance(error, ConnectionError)
        assert error.kind == "store-refused"
    assert call.calls == 1


def test_a_strict_cache_does_not_lose_an_answer_that_is_paid_for(crowd, own_valkey, call):
    call.script(ASKED, HANG)
    cache = crowd.cache(patient(own_valkey), strict=True)
    future = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    own_valkey.stop()
    call.release()
    assert future.result(PATIENCE).status.detail == "store-refused"


def test_only_if_cached_means_it_while_the_store_is_down(crowd, own_valkey, call):
    cache = crowd.cache(patient(own_valkey))
    warm(crowd, cache, call)
    own_valkey.stop()
    error = crowd.ask(cache, "warm", call, control="only-if-cached").exception(PATIENCE)
    assert isinstance(error, NotCached)
    assert call.calls == 1


@pytest.mark.parametrize("what", [{"everything": True}, {"request": "warm"}, {"key": "0" * 64}])
def test_an_invalidation_that_cannot_be_done_raises(crowd, own_valkey, call, what):
    cache = crowd.cache(patient(own_valkey))
    warm(crowd, cache, call)
    own_valkey.stop()
    with pytest.raises(StoreUnavailable, match=r"repeat it|nothing was invalidated"):
        crowd.do(cache.invalidate, **what)


def test_a_file_that_cannot_be_is_a_visible_trouble_and_no_error(crowd, call, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    cache = crowd.cache(f"sqlite:///{tmp_path}/file/answers.db")
    outcome = crowd.answer(cache, ASKED, call)
    assert outcome.status.detail.startswith("store-")
    assert crowd.answer(cache, ASKED, call).status.detail.startswith("store-")
    assert call.calls == 2
    assert cache.stats()["trouble"] >= 1
