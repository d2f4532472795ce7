"""Why lookups end as they do: through fetch, streams and HTTP clients, over each kind of store, for one tenant only."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache, Policy, UsageError
from askonce.core.why import REASONS, Why
from askonce.engine import explaining
from askonce.runtime.drive import drive
from askonce.testing.answers import answer
from tests.store.keeping import lose

ASKED: dict[str, Any] = {
    "model": "gpt-4.1-mini",
    "temperature": 0.5,
    "messages": [
        {"role": "system", "content": "You are terse. Today is 2026-11-26."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
}
URL = "https://api.openai.com/v1/chat/completions"
ANSWER = answer(ASKED, "openai.chat")
Make = Callable[..., Cache]


@pytest.fixture
def make(place: str) -> Iterator[Make]:
    """Caches over one store, as several processes have them."""
    made: list[Cache] = []

    def cache(**options: Any) -> Cache:
        made.append(Cache(place, prefix="why", **options))
        return made[-1]

    yield cache
    for one in made:
        one.close()


@pytest.fixture
def cache(make: Make) -> Cache:
    return make()


def told(cache: Cache, request: object, value: Any = ANSWER, **own: Any) -> Why:
    """Ask, and say why it went as it did."""
    why: Why = cache.fetch(request, lambda: value, **own).why()
    assert why.reason in REASONS
    assert why.sentence.isprintable()
    return why


def system(text: str) -> dict[str, Any]:
    return {**ASKED, "messages": [{"role": "system", "content": text}, ASKED["messages"][1]]}


def test_the_first_of_all_was_never_seen_and_the_second_is_a_hit(cache: Cache) -> None:
    assert told(cache, ASKED).reason == "never-seen"
    why = told(cache, ASKED)
    assert (why.reason, why.by) == ("hit", "a call")
    assert why.when == pytest.approx(time.time(), abs=60)


def test_a_date_in_the_system_prompt_is_named_and_recognised(cache: Cache) -> None:
    first = cache.fetch(ASKED, lambda: ANSWER)
    why = told(cache, system("You are terse. Today is 2026-11-27."))
    assert (why.reason, why.field, why.kind, why.nearest) == ("near", "messages[0].content", "digits", first.key)
    assert "looks like a timestamp or an id" in why.sentence
    assert "terse" not in why.sentence


def test_what_another_process_asked_is_compared_too(make: Make) -> None:
    with make() as other:
        key = other.fetch(ASKED, lambda: ANSWER).key
    why = told(make(), {**ASKED, "temperature": 0.7})
    assert (why.reason, why.field, why.kind, why.nearest) == ("near", "temperature", "value", key)


def test_a_request_is_explained_without_asking(cache: Cache) -> None:
    cache.fetch(ASKED, lambda: ANSWER, scope="support/triage")
    assert cache.why(ASKED, scope="support/triage").reason == "hit"
    assert (cache.why(ASKED).field, cache.why(ASKED).kind) == ("scope", "missing")
    assert cache.why(ASKED, scope="support/triage", variant=2).field == "variant"
    assert cache.stats()["lookups"] == 1


@pytest.mark.parametrize("how", ["scope", "tag", "model", "everything", "forget", "key"])
def test_what_invalidated_an_answer_is_named_with_its_time(cache: Cache, how: str) -> None:
    own: dict[str, Any] = {"scope": "support/triage", "tags": ["doc:42", "doc:7"]}
    outcome = cache.fetch(ASKED, lambda: ANSWER, **own)
    before = time.time()
    ways: dict[str, dict[str, Any]] = {
        "scope": {"scope": "support"},
        "tag": {"tag": ["other", "doc:42"]},
        "model": {"model": "gpt-4.1-mini"},
        "everything": {"everything": True},
        "key": {"key": outcome.key},
    }
    outcome.forget() if how == "forget" else cache.invalidate(**ways[how])
    names = {"scope": "scope support", "tag": "tag doc:42", "model": "model gpt-4.1-mini", "everything": "everything"}
    for why in (cache.why(ASKED, **own), told(cache, ASKED, **own)):
        assert (why.reason, why.by) == ("invalidated", names.get(how, "forget"))
        assert why.when == pytest.approx(before, abs=60)
    assert told(cache, ASKED, **own).reason == "hit"


def test_an_answer_that_expired_says_when(cache: Cache) -> None:
    cache.fetch(ASKED, lambda: ANSWER, ttl=0.05, policy=Policy(grace=0, stale_if_error=0))
    end = time.time()
    time.sleep(0.1)
    for why in (cache.why(ASKED), told(cache, ASKED, ttl=0.05)):
        assert why.reason == "expired"
        assert why.when == pytest.approx(end, abs=30)


def test_an_answer_past_its_grace_is_explained_when_nothing_of_it_is_left(make: Make) -> None:
    own: dict[str, Any] = {"ttl": 0.05, "policy": Policy(grace=0, stale_if_error=0, max_age=0.05)}
    with make() as other:
        other.fetch(ASKED, lambda: ANSWER, **own)
    time.sleep(0.1)
    assert told(make(), ASKED, **own).reason == "expired"


def test_an_answer_that_the_store_lost_before_its_end_was_evicted(cache: Cache) -> None:
    cache.fetch(ASKED, lambda: ANSWER)
    lose(cache._base.engine().store)
    for why in (cache.why(ASKED), told(cache, ASKED)):
        assert why.reason == "evicted"
        assert why.when == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ({**ANSWER, "choices": [{**ANSWER["choices"][0], "finish_reason": "length"}]}, "truncated"),
        ("", "empty"),
        ({"error": {"message": "no"}}, "error"),
    ],
)
def test_an_answer_that_was_not_stored_says_its_verdict(cache: Cache, value: object, word: str) -> None:
    assert told(cache, ASKED, value).reason == "never-seen"
    for why in (cache.why(ASKED), told(cache, ASKED, value)):
        assert (why.reason, why.by) == ("not-stored", word)


def test_a_call_that_failed_says_with_what(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        cache.fetch(ASKED, lambda: 1 / 0)
    why = told(cache, ASKED)
    assert (why.reason, why.by) == ("failed", "ZeroDivisionError")


@pytest.mark.parametrize(
    ("request_", "own", "rule"),
    [
        ({**ASKED, "tools": [{"type": "function", "function": {"name": "f"}}]}, {}, "tools"),
        ({**ASKED, "data_sources": [{"a": 1}]}, {}, "field-data_sources"),
        (ASKED, {"control": "no-store"}, "no-store"),
    ],
)
def test_a_request_that_passes_names_its_rule(cache: Cache, request_: Any, own: Any, rule: str) -> None:
    for why in (told(cache, request_, **own), cache.why(request_, **own)):
        assert (why.reason, why.by) == ("passed", rule)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"control": "no-cache"}, "requested"),
        ({"control": "max-age=5"}, "requested"),
        ({"control": "min-fresh=86400"}, "requested"),
        ({"control": "max-stale, max-age=5"}, "requested"),
        ({"ttl": 5}, "expired"),
        ({"ttl": 5, "control": "max-stale=4"}, "expired"),
        ({"ttl": 9, "max_age": 10}, "expired"),
        ({"max_age": 5}, "expired"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_that_does_not_do_for_one_caller_is_not_said_to_be_invalidated(
    own: Any, reason: str, streams: bool
) -> None:
    """It was, in the list of misses and on the dashboard: each refresh of a job looked like an invalidation."""
    now = [1_750_000_000_000_000]
    with Cache("memory://", clock=lambda: now[0]) as cache:

        def ask(**own: Any) -> Why:
            if not streams:
                return told(cache, ASKED, **own)
            stream = cache.fetch_stream(ASKED, lambda: iter([1]), **own)
            assert list(stream) == [1]
            return stream.why()

        ask()
        now[0] += 20_000_000
        assert cache.why(ASKED, stream=streams, **own).reason == reason
        assert ask(**own).reason == reason
        first, *_ = cache.misses(5)
        assert first.why.reason == cache.why(key=first.key).reason == reason
        now[0] += 1_000_000
        cache.invalidate(key=first.key)
        now[0] += 1_000_000
        ask(**own)
        assert cache.misses(1)[0].why.reason == "invalidated"


@pytest.mark.parametrize("age", [20, 86_500, 100_000])
@pytest.mark.parametrize("control", [None, "max-age=50", "max-age=90000", "min-fresh=9", "max-stale", "max-stale=500"])
def test_a_lookup_finds_what_was_said_of_it_before(age: int, control: str | None) -> None:
    now = [1_750_000_000_000_000]
    with Cache("memory://", clock=lambda: now[0], jitter=0.0) as cache:
        cache.fetch(ASKED, lambda: ANSWER)
        now[0] += age * 1_000_000
        said = cache.why(ASKED, control=control).reason
        assert said == told(cache, ASKED, control=control).reason


def test_what_a_job_asks_again_is_requested() -> None:
    with Cache("memory://job") as cache, Cache("memory://job", mode="refresh") as job:
        cache.fetch(ASKED, lambda: ANSWER)
        assert job.why(ASKED).reason == "requested"
        assert told(job, ASKED).reason == "requested"
        job.close()
        assert cache.misses(1)[0].why.reason == "requested"


def test_a_key_is_explained_by_what_became_of_it(cache: Cache) -> None:
    key = cache.fetch(ASKED, lambda: ANSWER).key
    assert cache.why(key=key).reason == "never-seen"  # why it was asked, for it is there
    other = cache.fetch(system("Today is 2027-01-01."), lambda: ANSWER).key
    assert (cache.why(key=other).reason, cache.why(key=other).field) == ("near", "messages[0].content")
    cache.invalidate(key=other)
    assert cache.why(key=other).reason == "invalidated"


def test_what_is_to_be_explained_is_said_in_one_way(cache: Cache) -> None:
    with pytest.raises(UsageError, match="in one way"):
        cache.why()
    with pytest.raises(UsageError, match="in one way"):
        cache.why(ASKED, key="0" * 64)


def test_misses_are_listed_with_their_why_newest_first(make: Make) -> None:
    with make() as cache:
        cache.fetch(ASKED, lambda: ANSWER, scope="a")
        cache.fetch(ASKED, lambda: ANSWER, scope="a")
        key = cache.fetch({**ASKED, "temperature": 1}, lambda: "", scope="a").key
    found = make().misses()
    assert [one.why.reason for one in found] == ["near", "never-seen"]
    first = found[0]
    assert (first.key, first.stored, first.detail, first.model, first.scope) == (
        key,
        False,
        "empty",
        ASKED["model"],
        "a",
    )
    assert (first.why.field, first.why.kind) == ("temperature", "value")
    assert len(make().misses(1)) == 1


def test_another_tenants_request_reveals_nothing_not_even_that_it_exists(cache: Cache) -> None:
    ann = cache.scoped(tenant="ann")
    ann.fetch(ASKED, lambda: ANSWER, tags=["doc:42"])
    cache.invalidate(tag="doc:42")
    for handle in (cache.scoped(tenant="bob"), cache):
        why = handle.why(ASKED)
        assert why == Why("never-seen", why.sentence, why.key)
    assert ann.why(ASKED, tags=["doc:42"]).reason == "invalidated"
    assert told(cache, {**ASKED, "temperature": 0.7}, tenant="bob").reason == "never-seen"


def test_a_label_that_only_shares_a_number_with_ones_own_is_not_named(cache: Cache) -> None:
    mine, theirs = colliding()
    cache.fetch(ASKED, lambda: ANSWER, tags=[mine])
    cache.invalidate(tag=theirs)
    why = cache.why(ASKED, tags=[mine])
    assert (why.reason, why.by) == ("invalidated", "")
    assert theirs not in why.sentence


def colliding() -> tuple[str, str]:
    """Two tags with one generation field."""
    from askonce.core.labels import field

    seen: dict[int, str] = {}
    for at in range(100_000):
        tag = f"doc:{at}"
        if (other := seen.setdefault(field("tag", tag), tag)) != tag:
            return other, tag
    raise AssertionError


# --- streams, tasks, HTTP ----------------------------------------------------------------------------------------


def test_a_stream_explains_itself(cache: Cache) -> None:
    items = ["Hello", " world"]
    first = cache.fetch_stream(ASKED, lambda: iter(items))
    assert list(first) == items
    assert first.why().reason == "never-seen"
    again = cache.fetch_stream(ASKED, lambda: iter(items))
    assert list(again) == items
    assert again.why().reason == "hit"
    changed = cache.fetch_stream({**ASKED, "temperature": 0}, lambda: iter(items))
    assert list(changed) == items
    assert changed.why().field == "temperature"
    assert (cache.why(ASKED).reason, cache.why(ASKED).kind) == ("near", "form")


def test_a_miss_in_another_form_is_listed_as_that(make: Make) -> None:
    with make() as cache:
        cache.fetch(ASKED, lambda: ANSWER)
        assert list(cache.fetch_stream(ASKED, lambda: iter(["Hello"]))) == ["Hello"]
        client = cache.http_client(inner=httpx2.MockTransport(said))
        for more in ({}, {"stream": True}):
            client.post("https://llm.example.com/v1/chat/completions", json={**ASKED, **more}).read()
    kinds = [(one.why.reason, one.why.kind) for one in make().misses()]
    assert kinds.count(("near", "form")) == 2


def said(request: Any) -> httpx2.Response:
    if json.loads(request.content).get("stream"):
        chunk = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]}
        text = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, text=text, headers={"content-type": "text/event-stream"})
    return httpx2.Response(200, json=ANSWER)


async def test_an_async_cache_explains_in_the_same_way(tmp_path: Path) -> None:
    async def call() -> Any:
        await asyncio.sleep(0)
        return ANSWER

    async with AsyncCache(f"sqlite:///{tmp_path / 'a.db'}") as cache:
        assert (await (await cache.fetch(ASKED, call)).why()).reason == "never-seen"
        both = await asyncio.gather(*(cache.fetch({**ASKED, "temperature": 1}, call) for _ in range(2)))
        assert sorted([(await one.why()).reason for one in both]) == ["joined", "near"]
        assert (await cache.why({**ASKED, "seed": 1})).kind == "extra"
        assert len(await cache.misses()) == 2


def client_of(cache: Cache, **own: Any) -> Any:
    def reply(request: Any) -> Any:
        return httpx2.Response(200, json=ANSWER, request=request)

    return cache.http_client(module=httpx2, inner=httpx2.MockTransport(reply), **own)


def post(client: Any, body: Any = ASKED, key: str = "sk-one", url: str = URL, **headers: str) -> Any:
    return client.post(url, json=body, headers={"authorization": f"Bearer {key}", **headers})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"body": {**ASKED, "temperature": 0.7}}, "temperature"),
        ({"body": system("You are terse. Today is 2027-01-01.")}, "messages[0].content"),
        ({"url": URL.replace("api.openai.com", "llm.example.com")}, "url"),
        ({"url": f"{URL}?api-version=2"}, "url"),
        ({"openai-beta": "assistants=v2"}, "header openai-beta"),
        ({"askonce-scope": "support"}, "scope"),
        ({"askonce-variant": "2"}, "variant"),
    ],
)
def test_a_response_of_an_http_client_explains_itself(cache: Cache, change: Any, field: str) -> None:
    client = client_of(cache)
    first = post(client)
    assert cache.why(first).reason == "never-seen"
    response = post(client, **change)
    why = cache.why(response)
    assert (why.reason, why.field) == ("near", field)
    assert cache.why(post(client)).reason == "hit"


def test_a_request_that_was_met_before_is_described_like_a_new_one(cache: Cache) -> None:
    client = client_of(cache)
    post(client)
    post(client)
    lose(cache._base.engine().store)
    response = post(client)  # its question is remembered, so its body is not read
    assert cache.why(response).reason == "evicted"
    assert cache.why(post(client, {**ASKED, "temperature": 1})).field == "temperature"
    assert len({one.seen.tree for one in _notes(cache) if one.name[:32].hex() == _key(response)}) == 1


def _notes(cache: Cache) -> Any:
    explainer = cache._base.engine().explainer
    drive(explainer.push())
    return drive(explainer.notes(b""))


def _key(response: Any) -> str:
    from askonce.cache.explained import status_in

    status = status_in(response.headers["cache-status"])
    assert status is not None
    return status.key


def test_another_credentials_request_reveals_nothing(cache: Cache) -> None:
    client = client_of(cache)
    post(client, key="sk-one")
    assert cache.why(post(client, key="sk-two")).reason == "never-seen"
    assert cache.why(post(client, {**ASKED, "temperature": 1}, key="sk-three")).reason == "never-seen"


def test_an_http_request_is_explained_before_it_is_sent(cache: Cache) -> None:
    client = client_of(cache, tenant="us")
    post(client)
    headers = {"authorization": "Bearer sk-one"}
    request = httpx2.Request("POST", URL, json={**ASKED, "temperature": 1}, headers=headers)
    assert cache.why(request, tenant="us").field == "temperature"
    assert cache.why(httpx2.Request("GET", URL, headers=headers)).by == "unknown-path"
    passed = post(client, {**ASKED, "tools": [{"type": "function", "function": {"name": "f"}}]})
    assert (cache.why(passed).reason, cache.why(passed).by) == ("passed", "tools")


# --- secrets -----------------------------------------------------------------------------------------------------


def test_with_encryption_notes_are_sealed_and_still_explain(make: Make) -> None:
    ring = {"2026-11": bytes(range(32))}
    cache = make(encryption=ring)
    cache.fetch(ASKED, lambda: ANSWER, scope="secret-scope", tags=["secret-tag"])
    cache.invalidate(tag="secret-tag")
    assert cache.why(ASKED, scope="secret-scope", tags=["secret-tag"]).by == "tag secret-tag"
    assert cache.why({**ASKED, "temperature": 1}, scope="secret-scope").field == "temperature"
    raw = b"".join(one.data for one in _raw(cache))
    assert raw
    assert not [word for word in (b"secret", b"gpt-4.1", b"flight") if word in raw]
    blind = make(encryption={"other": bytes(32)})
    assert blind.why(ASKED, scope="secret-scope").reason == "never-seen"
    assert blind.misses() == []


def test_without_encryption_no_word_of_a_request_or_an_answer_is_in_a_note(cache: Cache) -> None:
    cache.fetch(ASKED, lambda: ANSWER, scope="support")
    raw = b"".join(one.data + one.name + one.owner for one in _raw(cache))
    assert b"support" in raw
    assert not [word for word in (b"sky", b"terse", b"2026-11", b"Bearer") if word in raw]


def _raw(cache: Cache) -> Any:
    drive(cache._base.engine().explainer.push())
    return drive(cache._base.engine().store.notes(b""))


def test_a_store_in_trouble_is_the_reason_and_no_exception(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    with Cache(f"sqlite:///{folder}/a.db") as cache:
        folder.write_text("a file, and no folder")
        assert told(cache, ASKED).reason == "store-trouble"
        assert cache.why(ASKED).reason == "store-trouble"


async def test_of_many_misses_each_earlier_request_is_read_once_and_others_have_their_turns(monkeypatch):
    read: list[bytes] = []
    tree_of = explaining.tree_of

    def counted(packed: bytes) -> object:
        read.append(packed)
        return tree_of(packed)

    async def call() -> object:
        return ANSWER

    async with AsyncCache("memory://") as cache:
        for number in range(60):
            await cache.fetch({**ASKED, "messages": [{"role": "user", "content": f"{number} {number}"}] * 3}, call)
        monkeypatch.setattr(explaining, "tree_of", counted)
        turns: list[int] = []
        others = asyncio.create_task(counting(turns))
        assert len(await cache.misses(60)) == 60
        others.cancel()
    assert len(turns) >= 60
    assert len(read) < 60 * 8  # its own, and the few that are compared place by place; each with each would be 1,830


async def counting(turns: list[int]) -> None:
    """Count the turns of a loop."""
    while True:
        turns.append(len(turns))
        await asyncio.sleep(0)
