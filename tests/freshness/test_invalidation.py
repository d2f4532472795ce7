"""Invalidation: one command for all answers that have something in common, stored or under way."""

import threading

import pytest

from askonce import ConfigError, NotCached, Policy, UsageError
from askonce.testing import ScriptedCall, Step, UpstreamError

from .conftest import Seen

REQUEST = {"model": "m-1", "messages": [{"role": "user", "content": "Are you still true?"}]}
STORES = ["memory", "sqlite"]


def ask(cache, call, request=REQUEST, **own):
    return cache.fetch(request, call.on(request), **own)


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    ("own", "aim", "dies"),
    [
        ({"scope": "support/triage/v3"}, {"scope": "support"}, True),
        ({"scope": "support/triage/v3"}, {"scope": "support/triage/v3"}, True),
        ({"scope": "support/triage/v3"}, {"scope": "support/tri"}, False),
        ({"scope": "support"}, {"scope": "support/triage"}, False),
        ({"tags": ["doc:42", "doc:7"]}, {"tag": "doc:42"}, True),
        ({"tags": ["doc:42"]}, {"tag": ["doc:1", "doc:42"]}, True),
        ({"tags": ["doc:42"]}, {"tag": "doc:4"}, False),
        ({}, {"model": "m-1"}, True),
        ({}, {"model": "m-2"}, False),
        ({}, {"everything": True}, True),
        ({}, {"request": REQUEST}, True),
        ({"scope": "a"}, {"request": REQUEST}, False),
        ({"scope": "a"}, {"request": REQUEST, "scope": "a"}, True),
    ],
)
def test_an_invalidation_reaches_what_it_names_and_nothing_else(make, kind, own, aim, dies):
    cache, call = make(kind), ScriptedCall()
    ask(cache, call, **own)
    cache.invalidate(**aim)
    assert ask(cache, call, **own).status.hit == (not dies)


@pytest.mark.parametrize("kind", STORES)
def test_an_invalidation_reaches_every_process(make, kind):
    one, other, call = make(kind), make(kind), ScriptedCall()
    ask(one, call, scope="a")
    assert ask(other, call, scope="a").status.hit
    one.invalidate(scope="a")
    assert not ask(other, call, scope="a").status.hit


@pytest.mark.parametrize("kind", STORES)
def test_a_dry_run_says_how_many_live_entries_would_die_and_kills_none(make, kind):
    cache, call = make(kind), ScriptedCall()
    for number in range(30):
        ask(cache, call, {"n": number}, scope="even" if number % 2 == 0 else "odd", tags=[f"n:{number}"])
    assert cache.invalidate(scope="even", dry_run=True) == 15
    assert cache.invalidate(tag=["n:1", "n:2"], dry_run=True) == 2
    assert cache.invalidate(everything=True, dry_run=True) == 30
    cache.invalidate(scope="odd")
    assert cache.invalidate(everything=True, dry_run=True) == 15
    assert ask(cache, call, {"n": 2}, scope="even", tags=["n:2"]).status.hit


@pytest.mark.parametrize("kind", STORES)
def test_a_dry_run_of_keys_or_of_a_request_counts_the_entries_that_are_there(make, clock, kind):
    cache, call = make(kind), ScriptedCall()
    keys = [
        ask(cache, call, {"n": number}, scope=f"s/{number}", ttl=9 if number == 3 else 90).key for number in range(4)
    ]
    stream = cache.fetch_stream({"n": 0}, lambda: iter(["a", "b"]), scope="s/0")
    assert list(stream) == ["a", "b"]
    absent = "7" * 64
    counts = [cache.invalidate(key=one, dry_run=True) for one in (*keys, absent, [*keys, *keys, absent])]
    assert counts == [2, 1, 1, 1, 0, 5]
    assert cache.invalidate(request={"n": 0}, scope="s/0", dry_run=True) == 2
    assert cache.invalidate(request={"n": 0}, scope="s/1", dry_run=True) == 0
    cache.invalidate(scope="s/1")
    cache.invalidate(key=keys[2])
    clock.move(60)
    assert [cache.invalidate(key=one, dry_run=True) for one in keys] == [2, 0, 0, 0]


@pytest.mark.parametrize("kind", STORES)
def test_a_dry_run_does_not_count_what_is_past_all_its_dates(make, clock, kind):
    cache, call = make(kind), ScriptedCall()
    ask(cache, call, {"n": 1}, ttl=1)
    ask(cache, call, {"n": 2})
    clock.move(60)
    assert cache.invalidate(everything=True, dry_run=True) == 1


@pytest.mark.parametrize("aim", [{}, {"scope": None}, {"tag": None, "key": None}, {"scope": []}, {"tag": ()}])
def test_an_invalidation_of_nothing_is_refused(make, aim):
    with pytest.raises(UsageError, match="everything=True"):
        make().invalidate(**aim)


@pytest.mark.parametrize(
    "aim",
    [{"scope": ""}, {"scope": "/a"}, {"scope": "a//b"}, {"tag": ""}, {"tag": "x" * 10_000}, {"key": "not hex"}],
)
def test_an_invalidation_of_what_cannot_be_named_is_refused(make, aim):
    with pytest.raises(ConfigError):
        make().invalidate(**aim)


def test_two_ways_at_once_are_refused_because_nobody_knows_whether_both_or_either_is_meant(make):
    with pytest.raises(UsageError, match="in one way"):
        make().invalidate(scope="a", tag="b")


def test_a_thousand_tags_on_one_entry_are_refused_with_the_limit(make):
    with pytest.raises(ConfigError, match="64"):
        ask(make(), ScriptedCall(), tags=[f"t:{number}" for number in range(1000)])


# races that other caches shipped, each as a scripted interleaving


@pytest.mark.concurrency
@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize(
    "aim",
    [{"scope": "a"}, {"tag": "t"}, {"model": "m-1"}, {"everything": True}, {"request": REQUEST, "scope": "a"}],
)
def test_a_removal_during_a_load_keeps_the_load_out(make, kind, aim):
    cache, call = make(kind), ScriptedCall()
    got = []
    hang = ScriptedCall()
    hang.script(REQUEST, Step(hang=True))
    thread = threading.Thread(target=lambda: got.append(ask(cache, hang, scope="a", tags=["t"])))
    thread.start()
    hang.wait_until_paid()
    cache.invalidate(**aim)
    later = ask(cache, call, scope="a", tags=["t"])
    assert later.status.fwd == "miss"
    assert not later.status.collapsed
    hang.release()
    thread.join()
    assert got[0].status.detail in {"lost", "moved"}
    assert not got[0].status.stored
    assert ask(cache, call, scope="a", tags=["t"]).value == later.value


@pytest.mark.concurrency
@pytest.mark.parametrize("kind", STORES)
def test_a_tag_removed_during_a_background_refresh_is_not_undone_by_it(make, clock, kind):
    cache = make(kind, policy=Policy(ttl=60, grace=30, max_age=600, jitter=0.0))
    call = ScriptedCall()
    seen = Seen(cache)
    ask(cache, call, tags=["t"])
    clock.move(70)
    call.script(REQUEST, Step(hang=True))
    assert ask(cache, call, tags=["t"]).status.detail == "stale"
    call.wait_until_paid(times=2)
    cache.invalidate(tag="t")
    call.release()
    seen.wait("refused")
    call.script(REQUEST, "complete")
    assert not ask(cache, call, tags=["t"]).status.hit


def test_after_a_clear_an_upstream_in_trouble_is_not_covered_by_what_was_cleared(make, clock):
    cache, call = make(policy=Policy(ttl=60, stale_if_error=600, max_age=6000)), ScriptedCall()
    ask(cache, call)
    clock.move(100)
    cache.invalidate(everything=True)
    call.script(REQUEST, 503)
    with pytest.raises(UpstreamError):
        ask(cache, call)


@pytest.mark.concurrency
def test_a_clear_that_comes_while_the_call_is_failing_forbids_the_old_answer_too(make, clock):
    cache, call = make(policy=Policy(ttl=60, stale_if_error=600, max_age=6000)), ScriptedCall()
    ask(cache, call)
    clock.move(100)
    call.script(REQUEST, Step(hang=True, status=503))
    raised = []

    def asking():
        try:
            ask(cache, call)
        except UpstreamError as error:
            raised.append(error)

    thread = threading.Thread(target=asking)
    thread.start()
    call.wait_until_paid(times=2)
    cache.invalidate(everything=True)
    call.release()
    thread.join()
    assert raised


@pytest.mark.parametrize("kind", STORES)
def test_an_entry_that_was_shortened_and_filled_again_lives_by_its_new_dates(make, clock, kind):
    cache, call = make(kind, policy=Policy(jitter=0.0)), ScriptedCall()
    ask(cache, call, ttl=1000)
    clock.move(20)
    assert not ask(cache, call, ttl=10).status.hit
    clock.move(5)
    assert ask(cache, call, ttl=10).status.hit
    assert ask(cache, call, ttl=1000).status.ttl <= 5
    clock.move(6)
    with pytest.raises(NotCached):
        ask(cache, call, ttl=5, control="only-if-cached")


@pytest.mark.parametrize("kind", STORES)
def test_a_second_callers_tags_count_for_an_entry_made_without_them(make, kind):
    cache, call = make(kind), ScriptedCall()
    ask(cache, call)
    assert ask(cache, call, tags=["t"]).status.hit
    cache.invalidate(tag="t")
    assert not ask(cache, call, tags=["t"]).status.hit


@pytest.mark.parametrize("kind", STORES)
def test_a_reader_who_names_no_tags_does_not_get_an_entry_whose_own_tag_was_removed(make, kind):
    cache, call = make(kind), ScriptedCall()
    ask(cache, call, tags=["t"])
    other = make(kind)
    cache.invalidate(tag="t")
    assert not ask(other, call).status.hit


@pytest.mark.parametrize("kind", STORES)
def test_an_invalidation_of_something_else_costs_nobody_a_call(make, kind):
    cache, call = make(kind), ScriptedCall()
    ask(cache, call, tags=["mine"])
    for number in range(5):
        cache.invalidate(tag=f"other:{number}")
        assert ask(cache, call).status.hit
        assert ask(cache, call, tags=["mine"]).status.hit
    assert call.calls == 1


def test_a_new_prefix_leaves_the_old_workers_their_answers_and_gives_the_new_none(make):
    old, new, call = make(prefix="llm:v3"), make(prefix="llm:v4"), ScriptedCall()
    ask(old, call)
    assert not ask(new, call).status.hit
    assert ask(old, call).status.hit
    assert ask(new, call).status.hit
