"""Stale answers: served at once while one worker refreshes, and instead of an upstream in trouble."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from askonce import Policy
from askonce.runtime import threads
from askonce.testing import ScriptedCall, UpstreamError

from .conftest import Seen

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Are you stale?"}]}
SHORT = Policy(ttl=60, grace=30, stale_if_error=600, max_age=6000, jitter=0.0)


def ask(cache, call, **own):
    return cache.fetch(REQUEST, call.on(REQUEST), **own)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_within_the_grace_everybody_gets_the_stale_answer_at_once_and_one_refreshes(make, clock, kind):
    cache, call = make(kind, policy=SHORT), ScriptedCall()
    seen = Seen(cache)
    old = ask(cache, call).value
    clock.move(70)
    call.delay = lambda question, nth: 0.2
    outcomes = [ask(cache, call) for _ in range(20)]
    assert all(outcome.value == old and outcome.status.detail == "stale" for outcome in outcomes)
    seen.wait("stored", 2)
    assert call.calls == 2
    assert seen.count("refresh", "stale") == 1
    fresh = ask(cache, call)
    assert fresh.value != old
    assert fresh.status.ttl > 50


def test_refreshes_are_bounded_and_one_too_many_is_given_up_counted_and_free_for_the_next(make, clock, monkeypatch):
    monkeypatch.setattr(threads, "BACKGROUND", 2)
    cache, call = make(policy=SHORT), ScriptedCall()
    seen, go = Seen(cache), threading.Event()
    requests = [{**REQUEST, "seed": seed} for seed in range(3)]
    for request in requests:
        cache.fetch(request, call.on(request))
    clock.move(70)

    def paid():
        assert go.wait(60)
        return {"new": True}

    assert [cache.fetch(request, paid).status.detail for request in requests] == ["stale"] * 3
    assert (seen.count("refresh"), seen.count("dropped", "too-many-refreshes")) == (3, 1)
    go.set()
    seen.wait("stored", 5)
    while seen.count("stored") < 6:  # its lease is given back in the background, and is then free
        cache.fetch(requests[2], paid)
        seen.wait("stored", 5)
    assert [cache.fetch(request, paid).value for request in requests] == [{"new": True}] * 3


def test_after_the_grace_a_caller_waits_for_the_new_answer(make, clock):
    cache, call = make(policy=SHORT), ScriptedCall()
    old = ask(cache, call).value
    clock.move(91)
    outcome = ask(cache, call)
    assert outcome.value != old
    assert outcome.status.fwd == "stale"


def test_a_key_in_use_is_refreshed_before_its_end_so_that_nobody_waits(make, clock):
    cache, call = make(policy=Policy(ttl=60, grace=0, jitter=0.0)), ScriptedCall()
    seen = Seen(cache)
    call.delay = lambda question, nth: 0.05
    ask(cache, call)
    for _ in range(400):
        clock.move(0.25)
        assert ask(cache, call).status.hit, "a caller waited"
        if seen.count("refresh"):
            seen.wait("stored", 1 + seen.count("refresh"))
    assert 1 <= seen.count("refresh", "early") <= 3


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("trouble", [503, 429, TimeoutError("slow"), ConnectionRefusedError("down")])
def test_an_old_answer_takes_the_place_of_an_upstream_in_trouble_and_says_so(make, clock, kind, trouble):
    cache, call = make(kind, policy=SHORT), ScriptedCall()
    old = ask(cache, call).value
    call.script(REQUEST, trouble)
    clock.move(100)
    outcome = ask(cache, call)
    assert outcome.value == old
    assert outcome.status.fwd == "stale"
    assert outcome.status.detail.startswith("upstream-")


@pytest.mark.parametrize("answer", [400, 401, 403, 404])
def test_an_error_that_is_an_answer_is_not_hidden_behind_an_old_one(make, clock, answer):
    cache, call = make(policy=SHORT), ScriptedCall()
    ask(cache, call)
    call.script(REQUEST, answer)
    clock.move(100)
    with pytest.raises(UpstreamError):
        ask(cache, call)


def test_a_failing_upstream_is_tried_at_a_growing_interval_by_one_worker_of_the_fleet(make, clock):
    workers = [make(policy=SHORT) for _ in range(4)]
    call = ScriptedCall()
    old = ask(workers[0], call).value
    call.script(REQUEST, 503)
    clock.move(100)
    tried = []
    for second in range(120):
        before = call.calls
        for worker in workers:
            assert ask(worker, call).value == old
        tried += [second] if call.calls > before else []
        assert call.calls - before <= 1
        clock.move(1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert gaps == sorted(gaps), gaps
    assert gaps[0] <= 2
    assert gaps[-1] >= 16
    assert call.calls <= 10


def test_a_retry_after_is_honoured_by_the_whole_fleet(make, clock):
    class Busy(Exception):
        status_code = 429
        response = SimpleNamespace(headers={"retry-after": "20"})

    one, other = make(policy=SHORT), make(policy=SHORT)
    call = ScriptedCall()
    ask(one, call)
    call.script(REQUEST, Busy())
    clock.move(100)
    ask(one, call)
    clock.move(15)
    ask(other, call)
    assert call.calls == 2
    clock.move(6)
    ask(other, call)
    assert call.calls == 3


def test_past_stale_if_error_the_error_is_the_callers(make, clock):
    cache, call = make(policy=SHORT), ScriptedCall()
    ask(cache, call)
    call.script(REQUEST, 503)
    clock.move(700)
    with pytest.raises(UpstreamError):
        ask(cache, call)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_stream_that_its_reader_left_is_no_trouble_of_upstreams(make, clock, kind):
    cache, numbers = make(kind, policy=SHORT, on_abandon="close"), itertools.count(1)

    def said():
        number = next(numbers)
        return iter([{"answer": number}, {"answer": number}])

    assert [item["answer"] for item in cache.fetch_stream(REQUEST, said)] == [1, 1]
    clock.move(100)
    with cache.fetch_stream(REQUEST, said) as left:
        assert next(left)["answer"] == 2
    asked = cache.fetch_stream(REQUEST, said)
    assert [item["answer"] for item in asked] == [3, 3]
    assert not asked.status.hit


def test_the_stale_if_error_directive_shortens_what_the_policy_allows(make, clock):
    cache, call = make(policy=SHORT), ScriptedCall()
    ask(cache, call)
    call.script(REQUEST, 503)
    clock.move(100)
    with pytest.raises(UpstreamError):
        ask(cache, call, control="stale-if-error=10")
    assert ask(cache, call).status.hit, "another caller allows more"


@pytest.mark.parametrize(
    ("control", "served"),
    [
        ("no-cache", ()),
        ("no-cache, stale-if-error=0", ()),
        ("no-cache, stale-if-error=100", (5, 30, 90, 155)),
        ("max-age=20", (5,)),
        ("max-age=20, stale-if-error=100", (5, 30, 90)),
        ("max-age=0, stale-if-error=20", (5,)),
        ("min-fresh=40", (5,)),
        ("min-fresh=40, stale-if-error=100", (5, 30, 90, 155)),
        ("no-cache, max-age=20, stale-if-error=20", (5, 30)),
        ("no-cache, max-stale", ()),
    ],
)
def test_a_stale_if_error_counts_from_where_the_other_directives_end(make, clock, control, served):
    policy = Policy(ttl=60, grace=0, stale_if_error=600, jitter=0.0)
    for age in (5, 30, 90, 155, 300):
        cache, call = make(policy=policy, prefix=str(age)), ScriptedCall()
        old = ask(cache, call).value
        call.script(REQUEST, 503)
        clock.move(age)
        if age in served:
            assert ask(cache, call, control=control).value == old
        else:
            with pytest.raises(UpstreamError):
                ask(cache, call, control=control)


def test_max_stale_takes_what_is_there_without_asking_and_min_fresh_does_not(make, clock):
    cache, call = make(policy=SHORT), ScriptedCall()
    old = ask(cache, call).value
    clock.move(200)
    outcome = ask(cache, call, control="max-stale=300")
    assert outcome.value == old
    assert outcome.status.hit
    assert outcome.status.ttl < 0
    assert call.calls == 1
    assert ask(cache, call, control="max-stale=100").value != old
    clock.move(45)
    assert not ask(cache, call, control="min-fresh=30").status.hit


@pytest.mark.concurrency
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_hundred_workers_on_a_stale_key_pay_one_call_a_round(make, clock, kind):
    cache, call = make(kind, policy=SHORT), ScriptedCall()
    seen = Seen(cache)
    ask(cache, call)
    for turn in range(1, 4):
        clock.move(70)
        call.delay = lambda question, nth: 0.1
        with ThreadPoolExecutor(100) as workers:
            got = list(workers.map(lambda _: ask(cache, call).status, range(100)))
        seen.wait("stored", turn + 1)
        assert all(status.hit for status in got)
        assert call.calls == turn + 1
