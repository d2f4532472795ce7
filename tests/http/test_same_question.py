"""Which requests are one question, through common clients: by host, path, body, and an operator's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache, RequestError
from askonce.testing.answers import answer
from tests.http.upstreams import Scripted

KEY = {"authorization": "Bearer sk-1"}
PROVIDERS: dict[str, Any] = {
    "/chat/completions": "openai.chat",
    "/responses": "openai.responses",
    "/embeddings": "openai.embeddings",
    "/v1/messages": "anthropic.messages",
}


def answered(request: Any) -> httpx2.Response:
    """What any provider would answer, whatever stands before the operation; a survey takes whatever it is given."""
    body = json.loads(request.read())
    kind: Any = next((kind for end, kind in PROVIDERS.items() if request.url.path.endswith(end)), "openai.chat")
    made = answer({"model": "m", "messages": [], "input": "?", **body}, kind)
    if kind == "openai.responses":
        made |= {"metadata": body.get("metadata", {}), "user": body.get("user")}
    return httpx2.Response(200, json=made)


class Asking:
    """A cache, a client of it, and the upstream behind."""

    def __init__(self, cache: Cache, **rules: Any) -> None:
        self.cache = cache
        self.inner = Scripted(httpx2, answered)
        self.client = cache.http_client(module=httpx2, inner=self.inner, headers=KEY, **rules)

    def post(self, url: str, body: Any, **more: Any) -> Any:
        """The answer's JSON and the status of each lookup."""
        with self.cache.watch() as seen:
            response = self.client.post(url, json=body, **more)
        return response.json(), seen

    @property
    def paid(self) -> int:
        return len(self.inner.requests)


@pytest.fixture
def asking(cache):
    return Asking(cache)


TURN = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": TURN}
OPENAI = "https://api.openai.com/v1"


# --- what may be left out ---


def test_bob_never_gets_alices_metadata_from_the_responses_api(asking):
    for who in ("alice", "bob", "alice"):
        got, _ = asking.post(f"{OPENAI}/responses", {"model": "m", "input": "Hi", "metadata": {"customer": who}})
        assert got["metadata"] == {"customer": who}
    assert asking.paid == 2


@pytest.mark.parametrize("url", [f"{OPENAI}/responses", "https://mine.openai.azure.com/openai/v1/responses"])
def test_a_response_says_who_asked_it(asking, url):
    for who in ("alice", "bob"):
        assert asking.post(url, {"model": "m", "input": "Hi", "user": who})[0]["user"] == who


def test_a_user_counts_where_nobody_knows_what_a_host_does_with_it(asking):
    for url, paid in ((f"{OPENAI}/chat/completions", 1), ("https://llm.internal/v1/chat/completions", 2)):
        before = asking.paid
        for who in ("alice", "bob", "alice"):
            asking.post(url, {**CHAT, "user": who})
        assert asking.paid - before == paid


def test_cache_control_in_a_block_is_no_other_question_and_goes_upstream_as_it_came(asking):
    def asked(**mark: Any) -> dict[str, Any]:
        return {**CHAT, "max_tokens": 5, "system": [{"type": "text", "text": "be brief", **mark}]}

    marked = asked(cache_control={"type": "ephemeral"})
    asking.post("https://api.anthropic.com/v1/messages", marked)
    assert asking.post("https://api.anthropic.com/v1/messages", asked())[1][0].hit
    assert json.loads(asking.inner.requests[0].body) == marked
    asking.post("https://gateway.example/v1/messages", marked)
    assert not asking.post("https://gateway.example/v1/messages", asked())[1][0].hit


# --- hosts that are the same ---


def test_mirrors_and_regions_that_are_the_same_share_their_answers():
    same = {"llm.internal": "api.openai.com", "eu.llm.internal:8443": "llm.internal"}
    with Cache("memory://", same_as=same) as cache:
        asking = Asking(cache, tenant="us")
        asking.post(f"{OPENAI}/chat/completions", {**CHAT, "user": "alice"})
        for base in (
            *("http://llm.internal/v1", "http://llm.internal:4000/v1", "https://llm.internal/proxy/v1"),
            *("https://eu.llm.internal:8443/v1", OPENAI),
        ):
            assert asking.post(f"{base}/chat/completions", {**CHAT, "user": "bob"})[1][0].hit, base
        for base in ("https://other.internal/v1", "https://eu.llm.internal/v1"):
            assert not asking.post(f"{base}/chat/completions", CHAT)[1][0].hit, base


def test_hosts_are_the_same_for_the_client_that_is_told_so(cache):
    told, plain = Asking(cache, same_as={"llm.internal": "api.openai.com"}), Asking(cache)
    told.post("http://llm.internal/v1/chat/completions", CHAT)
    assert plain.post(f"{OPENAI}/chat/completions", CHAT)[1][0].hit
    assert not plain.post("http://llm.internal/v1/chat/completions", CHAT)[1][0].hit


def test_regions_of_vertex_that_are_the_same_are_so_in_the_path_too():
    same = {
        f"{region}-aiplatform.googleapis.com": "aiplatform.googleapis.com" for region in ("europe-west4", "us-east1")
    }
    gemini = {"contents": [{"parts": [{"text": "Hi"}]}]}
    part = {"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}
    with Cache("memory://", same_as=same) as cache:
        asking = Asking(cache, tenant="us")
        asking.inner.answer = lambda request: httpx2.Response(200, json={"candidates": [part]})
        hits = [
            asking.post(
                f"https://{host}/v1/projects/{project}/locations/{region}/publishers/google/models/g:generateContent",
                {**gemini, "labels": {"team": region}},
            )[1][0].hit
            for project in ("p", "q")
            for host, region in (
                ("europe-west4-aiplatform.googleapis.com", "europe-west4"),
                ("us-east1-aiplatform.googleapis.com", "us-east1"),
                ("aiplatform.googleapis.com", "global"),
            )
        ]
    assert hits == [False, True, True, False, True, True]


def test_who_asks_counts_at_hosts_that_are_the_same():
    with Cache("memory://", same_as={"llm.internal": "api.openai.com"}) as cache:
        asking = Asking(cache)
        asking.post(f"{OPENAI}/chat/completions", CHAT)
        other = {"headers": {"authorization": "Bearer sk-2"}}
        assert not asking.post("http://llm.internal/v1/chat/completions", CHAT, **other)[1][0].hit


# --- what names an operation ---


@pytest.mark.parametrize(
    ("url", "body", "why"),
    [
        ("https://forms.example/v1/surveys/7/responses", {"model": "m", "input": "very good"}, "unknown-path"),
        ("https://forms.example/v1/responses", {"survey": 7, "input": "very good"}, "body-mismatch"),
        ("https://desk.example/v1/tickets/5/messages", {**CHAT, "max_tokens": 5}, "unknown-path"),
        ("https://chat.example/v1/messages", {"channel": "c", "text": "hi"}, "body-mismatch"),
        ("https://forms.example/chat/completions", {"form": 7, "done": True}, "body-mismatch"),
        ("https://api.openai.com/v1/threads/t/messages", {"role": "user", "content": "hi"}, "unknown-path"),
        ("https://api.openai.com/v1/chat/completions/", CHAT, "unknown-path"),
    ],
)
def test_what_only_ends_like_an_operation_passes_every_time(asking, url, body, why):
    seen = [status for _ in range(3) for status in asking.post(url, body)[1]]
    assert [status.detail for status in seen] == [why] * 3
    assert asking.paid == 3


def test_only_a_post_is_looked_up(asking):
    with asking.cache.watch() as seen:
        for _ in range(2):
            asking.client.request("DELETE", f"{OPENAI}/embeddings", json={"model": "m", "input": "Hi"})
    assert [status.detail for status in seen] == ["unknown-path"] * 2


# --- batches ---


def test_a_batch_with_a_field_that_nobody_knows_is_one_question(asking):
    url = "https://llm.internal/v1/embeddings"
    asking.post(url, {"model": "m", "input": ["a", "b"], "late_chunking": True})
    got, seen = asking.post(url, {"model": "m", "input": ["b"], "late_chunking": True})
    assert not any(status.hit for status in seen)
    assert len(got["data"]) == 1
    assert asking.post(url, {"model": "m", "input": ["a", "b"], "late_chunking": True})[1][0].hit
    asking.post(url, {"model": "m", "input": ["a", "b"]})
    assert [status.hit for status in asking.post(url, {"model": "m", "input": ["b", "c"]})[1]] == [True, False]


# --- what only the user knows: every way in ---


def dated(request: Any) -> Any:
    """Without the first line of each text, which says what day it is."""

    def less(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: less(item) for name, item in value.items()}
        if isinstance(value, list):
            return [less(item) for item in value]
        return value.partition("\n")[2] or value if isinstance(value, str) else value

    return less(request)


Way = Callable[[Cache, str], tuple[bool, str]]  # asks a text; returns whether it was a hit, and what went upstream


def by_fetch(cache: Cache, text: str) -> tuple[bool, str]:
    outcome = cache.fetch({"model": "m", "messages": [{"role": "user", "content": text}]}, lambda: {"said": text})
    return outcome.status.hit, outcome.value["said"]


def by_get_or_set(cache: Cache, text: str) -> tuple[bool, str]:
    with cache.watch() as seen:
        said = cache.get_or_set([{"role": "user", "content": text}], "m", lambda **_: text)
    return seen[0].hit, said


def by_fetch_stream(cache: Cache, text: str) -> tuple[bool, str]:
    request = {"model": "m", "messages": [{"role": "user", "content": text}]}
    with cache.fetch_stream(request, lambda: iter([{"said": text}])) as stream:
        (item,) = stream
    return stream.status.hit, item["said"]


def by_http(cache: Cache, text: str) -> tuple[bool, str]:
    asking = Asking(cache)
    _, seen = asking.post(f"{OPENAI}/chat/completions", {"model": "m", "messages": [{"role": "user", "content": text}]})
    sent = [json.loads(request.body)["messages"][0]["content"] for request in asking.inner.requests]
    return seen[0].hit, sent[0] if sent else ""


def by_stream(cache: Cache, text: str) -> tuple[bool, str]:
    chunk = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}],
    }
    said = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
    asking = Asking(cache)
    asking.inner.answer = lambda request: httpx2.Response(
        200, content=said, headers={"content-type": "text/event-stream"}
    )
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}
    with cache.watch() as seen:
        asking.client.post(f"{OPENAI}/chat/completions", json=body)
    sent = [json.loads(request.body)["messages"][0]["content"] for request in asking.inner.requests]
    return seen[0].hit, sent[0] if sent else ""


WAYS = [by_fetch, by_get_or_set, by_fetch_stream, by_http, by_stream]


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize(
    ("rules", "one", "other"),
    [
        ({"normalize": dated}, "Monday\nWhat is DNS?", "Tuesday\nWhat is DNS?"),
        ({"fold": ["case", "space", "punctuation"]}, "What is DNS?", " what  is dns"),
    ],
)
def test_a_rule_makes_one_question_of_two_in_every_way_in(ask, rules, one, other):
    with Cache("memory://", **rules) as cache:
        hit, said = ask(cache, one)
        assert (hit, said) == (False, one), "what goes upstream stays as it is"
        assert ask(cache, other)[0]
        assert not ask(cache, f"{other} again")[0]


@pytest.mark.parametrize("ask", WAYS)
def test_a_cache_that_asks_exactly_never_gets_what_was_asked_otherwise(ask, tmp_path):
    url = f"sqlite:///{tmp_path}/answers.db"
    with (
        Cache(url) as exact,
        Cache(url, fold=["case"]) as folding,
        Cache(url, fold=["case", "space"]) as more,
        Cache(url, normalize=lambda request: request) as one,
        Cache(url, normalize=lambda request: {**request}) as other,
    ):
        for cache in (folding, more, one, other, exact):
            assert not ask(cache, "dns")[0]
        for cache in (folding, more, one, other, exact):
            assert ask(cache, "dns")[0]


def raises(_: Any) -> Any:
    raise KeyError("messages")


@pytest.mark.parametrize("ask", WAYS)
@pytest.mark.parametrize("function", [raises, lambda request: request.clear(), lambda _: {"a": object()}])
def test_a_request_of_which_nothing_is_made_passes_and_says_so(ask, function, caplog):
    with Cache("memory://", normalize=function) as cache:
        with cache.watch() as seen:
            for _ in range(2):
                assert ask(cache, "What is DNS?") == (False, "What is DNS?")
        assert [status.detail for status in seen] == ["normalize-failed"] * 2
    assert sum("normalize" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("ask", WAYS)
def test_a_function_is_asked_every_time_since_it_may_look_at_more_than_the_request(ask):
    who = ["alice"]
    with Cache("memory://", normalize=lambda request: [who[0], request]) as cache:
        assert not ask(cache, "Hi")[0]
        who[0] = "bob"
        assert not ask(cache, "Hi")[0]
        who[0] = "alice"
        assert ask(cache, "Hi")[0]


def test_each_input_of_a_batch_is_normalised():
    with Cache("memory://", normalize=dated) as cache:
        asking = Asking(cache)
        url = f"{OPENAI}/embeddings"
        asking.post(url, {"model": "m", "input": ["Monday\na", "Monday\nb"]})
        assert json.loads(asking.inner.requests[0].body)["input"] == ["Monday\na", "Monday\nb"]
        seen = asking.post(url, {"model": "m", "input": ["Tuesday\nb", "Tuesday\nc"]})[1]
        assert [status.hit for status in seen] == [True, False]
        assert json.loads(asking.inner.requests[1].body)["input"] == ["Tuesday\nc"]


def test_texts_to_be_embedded_are_not_folded():
    with Cache("memory://", fold=["case"]) as cache:
        asking = Asking(cache)
        for text in ("DNS", "dns"):
            assert not asking.post(f"{OPENAI}/embeddings", {"model": "m", "input": [text]})[1][0].hit


def test_a_clients_rules_add_to_those_of_its_cache():
    with Cache("memory://", fold=["case"]) as cache:
        asking = Asking(cache, fold=["space"])
        asking.post(f"{OPENAI}/chat/completions", CHAT)
        other = {**CHAT, "messages": [{"role": "user", "content": " hI "}]}
        assert asking.post(f"{OPENAI}/chat/completions", other)[1][0].hit


def test_what_was_asked_otherwise_is_invalidated_by_its_request():
    with Cache("memory://", fold=["case"]) as cache:
        by_fetch(cache, "DNS")
        cache.invalidate(request={"model": "m", "messages": [{"role": "user", "content": "dns"}]})
        assert not by_fetch(cache, "DNS")[0]
    with (
        Cache("memory://", normalize=raises) as cache,
        pytest.raises(RequestError, match="normalize raised KeyError"),
    ):
        cache.invalidate(request={"model": "m"})


def test_rules_hold_in_async_caches_too():
    async def asked() -> list[bool]:
        hits = []
        async with AsyncCache("memory://", fold=["case"], normalize=dated) as cache:
            for text in ("Monday\nDNS", "Tuesday\ndns"):
                request = {"model": "m", "messages": [{"role": "user", "content": text}]}

                async def call(text: str = text) -> Any:
                    return {"said": text}

                hits.append((await cache.fetch(request, call)).status.hit)
        return hits

    assert asyncio.run(asked()) == [False, True]
