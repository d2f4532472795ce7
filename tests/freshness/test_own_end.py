"""An answer lives no longer than the end it names, whatever its policy says; an answer that came old keeps its age."""

import json
import time

import httpx2
import pytest

from askonce import NotCached, Policy

from .conftest import Seen
from .test_lifetimes import DAY, settle

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Draw me a sheep."}]}
CHUNKS = [
    {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Baa."}}]},
    {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
GENEROUS = Policy(ttl=DAY, grace=DAY, stale_if_error=DAY, max_age=7 * DAY, jitter=0.0)


def drawn(seconds):
    """An answer whose picture can be had for so long."""
    return {"data": [{"url": f"https://cdn.example.com/sheep.png?expires={time.time() + seconds:.0f}&signature=s"}]}


def ask(cache, answer, **own):
    calls = []

    def call():
        calls.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer

    outcome = cache.fetch(REQUEST, call, **own)
    return outcome.status, len(calls)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_answer_that_names_its_end_is_fresh_until_then_and_not_stale_after_it(make, clock, kind):
    cache = make(kind, policy=GENEROUS)
    status, _ = ask(cache, drawn(100))
    assert status.stored
    clock.move(50)
    status, _ = ask(cache, drawn(100))
    assert status.hit
    assert status.ttl == pytest.approx(49, abs=2)
    clock.move(51)
    for control in ("max-stale", "stale-if-error=1000", "only-if-cached"):
        with pytest.raises((ConnectionError, NotCached)):
            ask(cache, ConnectionResetError("no"), control=control)
    status, calls = ask(cache, drawn(100))
    assert (status.hit, calls) == (False, 1)


def test_the_life_of_an_answer_that_names_its_end_does_not_slide(make, clock, no_push):
    cache = make(policy=Policy(ttl=DAY, hot_ttl=DAY, hot_threshold=2, max_age=7 * DAY, jitter=0.0))
    seen = Seen(cache)
    ask(cache, drawn(100))
    clock.move(80)
    for _ in range(10):
        assert ask(cache, drawn(100))[0].hit
    settle(cache)
    assert seen.count("slid") == 0
    clock.move(30)
    assert not ask(cache, drawn(100))[0].hit


def test_an_answer_whose_end_is_later_than_its_policy_lives_by_its_policy(make, clock):
    cache = make(policy=Policy(ttl=50, grace=0, jitter=0.0))
    ask(cache, drawn(1000))
    clock.move(40)
    assert ask(cache, drawn(1000))[0].hit
    clock.move(11)
    assert not ask(cache, drawn(1000))[0].hit


def test_an_answer_whose_end_has_passed_is_returned_and_not_kept(make):
    cache = make(policy=GENEROUS)
    for _ in range(2):
        status, calls = ask(cache, drawn(-10))
        assert (status.detail, status.stored, calls) == ("expired", False, 1)


def test_a_stream_that_names_its_end_lives_no_longer(make, clock):
    cache = make(policy=GENEROUS)
    items = [*CHUNKS[:1], {**CHUNKS[1], "expires_at": int(time.time()) + 100}]
    assert list(cache.fetch_stream(REQUEST, lambda: iter(items))) == items
    clock.move(50)
    assert cache.fetch_stream(REQUEST, lambda: iter(items)).status.hit
    clock.move(51)
    late = cache.fetch_stream(REQUEST, lambda: iter(items))
    assert not late.status.hit
    list(late)


@pytest.mark.parametrize("ahead", [-1000, 0, 1000, 10 * DAY])
@pytest.mark.parametrize("named", ["field", "url", "stream"])
@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT"])
def test_the_providers_clock_may_differ_from_ours_and_no_answer_lives_past_its_end(make, ahead, named, form):
    theirs = time.time() + ahead
    url = f"https://cdn.example.com/sheep.png?expires={theirs + 100:.0f}&signature=s"
    choice = {"index": 0, "message": {"role": "assistant", "content": url if named == "url" else "Baa."}}
    whole = {"choices": [{**choice, "finish_reason": "stop"}], "usage": {"expires_at": int(theirs) + 100}}
    events = [*CHUNKS[:1], {**CHUNKS[1], "expires_at": int(theirs) + 100}]
    lines = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    told = {"content": lines} if named == "stream" else {"json": whole}

    def answer(_):
        return httpx2.Response(200, headers={"Date": time.strftime(form, time.gmtime(theirs))}, **told)

    with make(policy=GENEROUS).http_client(module=httpx2, inner=httpx2.MockTransport(answer)) as client:
        for _ in range(2):
            body = {**REQUEST, "stream": named == "stream"}
            said = client.post("https://llm.example.com/v1/chat/completions", json=body).headers["cache-status"]
    if ahead < 0:
        assert "expired" in said  # rather too early: a Date may be older than the answer's way here
    else:
        assert "askonce; hit; ttl=" in said
        assert int(said.partition("ttl=")[2].partition(";")[0]) == pytest.approx(98, abs=3)


# --- Age ---


@pytest.fixture
def aged():
    """A client of a cache, to an upstream whose answers come out of a cache of its own, an hour old."""

    def answer(request):
        stream = b'"stream":true' in request.content.replace(b" ", b"")
        events = b"".join(b"data: %s\n\n" % str(chunk).replace("'", '"').encode() for chunk in CHUNKS)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Baa."}, "finish_reason": "stop"}
        told = {"content": events + b"data: [DONE]\n\n"} if stream else {"json": {"choices": [choice]}}
        return httpx2.Response(200, headers={"age": "3600"}, **told)

    return lambda cache: cache.http_client(module=httpx2, inner=httpx2.MockTransport(answer))


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_the_age_that_an_answer_came_with_is_kept_and_added_to(make, clock, aged, kind, stream):
    cache = make(kind, policy=Policy(ttl=2 * 3600, grace=0, jitter=0.0))

    def post(client, **headers):
        body = {**REQUEST, "stream": True} if stream else REQUEST
        return client.post("https://llm.example.com/v1/chat/completions", json=body, headers=headers)

    with aged(cache) as client:
        assert post(client).headers["age"] == "3600"
        clock.move(600)
        hit = post(client)
        assert hit.headers["cache-status"].startswith("askonce; hit")
        assert int(hit.headers["age"]) == pytest.approx(4200, abs=1)
        assert post(client, **{"cache-control": "max-age=3000"}).headers["age"] == "3600"  # asked again: too old
        clock.move(3601)  # its life began an hour before it came
        assert not post(client).headers["cache-status"].startswith("askonce; hit")


@pytest.mark.parametrize("said", ["9" * 40, "9" * 9999, "0, 99999999", "99999999,soon"])
def test_an_age_beyond_all_lives_or_one_of_several_keeps_an_answer_from_being_served(make, said):
    def answer(_):
        choice = {"index": 0, "message": {"role": "assistant", "content": "Baa."}, "finish_reason": "stop"}
        return httpx2.Response(200, headers={"age": said}, json={"choices": [choice]})

    with make().http_client(module=httpx2, inner=httpx2.MockTransport(answer)) as client:
        for _ in range(2):
            assert client.post("https://llm.example.com/v1/chat/completions", json=REQUEST).headers["age"] == said


def test_an_age_that_cannot_be_read_is_none(make):
    for said in ("-5", "soon", "1.5", ""):

        def answer(_, said=said):
            choice = {"index": 0, "message": {"role": "assistant", "content": "Baa."}, "finish_reason": "stop"}
            return httpx2.Response(200, headers={"age": said}, json={"choices": [choice]})

        cache = make()
        with cache.http_client(module=httpx2, inner=httpx2.MockTransport(answer), variant=said) as client:
            for age in (said, "0"):
                assert client.post("https://llm.example.com/v1/chat/completions", json=REQUEST).headers["age"] == age
