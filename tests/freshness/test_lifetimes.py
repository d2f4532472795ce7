"""Lifetimes: a hit never shortens one, only hot keys slide, and nothing passes its hard end."""

import contextlib
from typing import Any

import pytest

from askonce import ConfigError, NotCached, Policy
from askonce.testing import ScriptedCall, UpstreamError

from .conftest import Seen

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "How long do you live?"}]}
DAY = 86_400


def ask(cache, call, request=REQUEST, **own):
    return cache.fetch(request, call.on(request), **own)


def settle(cache):
    """Tell the store of all hits now, in the place of the background thread, who would within a second."""
    background = cache._base._engine.background
    background.hits.send(background._store)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_first_hit_on_a_24_hour_entry_leaves_its_lifetime_as_it_was(make, clock, kind, no_push):
    cache, call = make(kind, policy=Policy(ttl=DAY, jitter=0.0)), ScriptedCall()
    ask(cache, call)
    clock.move(60)
    first = ask(cache, call).status.ttl
    clock.move(60)
    assert first - ask(cache, call).status.ttl == pytest.approx(60, abs=1)
    assert first == pytest.approx(DAY - 60, abs=1)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize(("hits", "slides"), [(9, False), (10, True)])
def test_nine_hits_within_the_window_do_not_slide_a_life_and_ten_do(make, clock, kind, no_push, hits, slides):
    cache, call = make(kind, policy=Policy(ttl=100, hot_ttl=80, grace=0, jitter=0.0)), ScriptedCall()
    seen = Seen(cache)
    ask(cache, call)
    clock.move(75)
    for _ in range(hits):
        assert ask(cache, call).status.hit
    settle(cache)
    assert seen.count("slid") == slides
    clock.move(30)
    assert ask(cache, call).status.hit == slides


def test_ten_hits_over_three_windows_do_not_slide(make, clock, no_push):
    policy = Policy(ttl=4000, hot_ttl=4000, hot_window=600, jitter=0.0)
    cache, call = make(policy=policy), ScriptedCall()
    seen = Seen(cache)
    ask(cache, call)
    clock.move(2100)
    for _ in range(10):
        assert ask(cache, call).status.hit
        settle(cache)
        clock.move(180)
    assert not seen.count("slid")


def test_no_sliding_passes_max_age_however_hot_the_key(make, clock, no_push):
    policy = Policy(ttl=60, hot_ttl=60, max_age=200, grace=0, stale_if_error=0, jitter=0.0)
    cache, call = make(policy=policy), ScriptedCall()
    ask(cache, call)
    born = clock.now
    while True:
        clock.move(1)
        outcome = ask(cache, call)
        settle(cache)
        if call.calls > 1:
            break
        assert outcome.status.age <= 200
    assert 180 <= (clock.now - born) / 1e6 <= 201


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        ({"ttl": 60}, {}),
        ({"ttl": 60, "hot_ttl": 600}, {"ttl": 61}),
        ({"ttl": 60, "hot_ttl": 0}, {"ttl": 60}),
        ({"ttl": 60, "max_age": 60}, {"ttl": 60}),
        ({"ttl": 60}, {"ttl": 61, "max_age": 6000, "hot_ttl": 6000}),
    ],
)
def test_no_hits_of_others_lengthen_a_life_that_its_own_caller_limited(make, clock, kind, no_push, writer, reader):
    cache, call = make(kind, jitter=0.0), ScriptedCall()
    ask(cache, call, **writer)
    for _ in range(100):
        clock.move(1)
        assert (ask(cache, call, **reader).status.age or 0) <= 63, "60, and its grace"
        settle(cache)


@pytest.mark.parametrize("moment", ["error", "grace", "max-stale"])
def test_a_max_age_holds_for_answers_that_others_stored_with_a_longer_one(make, clock, moment):
    cache, call = make(policy=Policy(ttl=DAY, jitter=0.0)), ScriptedCall()
    own = {"ttl": 50, "max_age": 60, "grace": 10 if moment == "grace" else 0, "stale_if_error": 10}
    ask(cache, call)
    call.script(REQUEST, 503)
    clock.move(55)
    control = "max-stale" if moment == "max-stale" else None
    assert ask(cache, call, control=control, **own).status.age == 55
    clock.move(10)
    with pytest.raises(UpstreamError):
        ask(cache, call, control=control, **own)


def test_ttl_60_is_never_older_than_62_5_seconds_while_cold(make, clock):
    cache, call = make(), ScriptedCall()
    ask(cache, call, ttl=60)
    ages: list[float] = []
    with contextlib.suppress(NotCached):
        while len(ages) < 200:
            clock.move(0.5)
            ages.append(ask(cache, call, ttl=60, control="only-if-cached").status.age)
    assert 55 <= max(ages) <= 62


def test_a_caller_with_a_shorter_ttl_gets_nothing_older_than_he_says(make, clock):
    cache, call = make(policy=Policy(ttl=DAY, jitter=0.0)), ScriptedCall()
    ask(cache, call)
    clock.move(3600)
    assert ask(cache, call, control="only-if-cached").status.hit
    assert not ask(cache, call, ttl=60).status.hit
    assert call.calls == 2


@pytest.mark.waits
def test_jitter_only_shortens_and_spreads_what_was_filled_together(make):
    cache, call = make(policy=Policy(ttl=3600)), ScriptedCall()
    ends = []
    for number in range(2000):
        request = {"n": number}
        ask(cache, call, request)
        ends.append(ask(cache, call, request).status.ttl)
    assert max(ends) <= 3600
    assert min(ends) >= 3600 * 0.95 - 1
    buckets = [ends.count(second) for second in range(3420, 3601)]
    assert max(buckets) <= 3.5 * len(ends) / 180  # 2,000 are few: the bench holds 10,000 to twice the even share


@pytest.mark.parametrize(
    "policy",
    [{"ttl": -1}, {"ttl": float("nan")}, {"ttl": 600, "max_age": 60}, {"jitter": 2}, {"grace": -5}, {"hot_window": 0}],
)
def test_lifetimes_that_cannot_be_meant_are_refused_when_they_are_written(policy: dict[str, Any]):
    with pytest.raises(ConfigError):
        Policy(**policy)


def test_ttl_0_collapses_and_keeps_nothing(make):
    cache, call = make(), ScriptedCall()
    assert not ask(cache, call, ttl=0).status.stored
    assert not ask(cache, call, ttl=0).status.hit
    assert call.calls == 2
