"""What passes and why, what headers and contexts say, and what a hit looks like."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from askonce import Cache, NotCached, Policy
from tests.http.conftest import CHAT
from tests.http.upstreams import Scripted

WHO = {"authorization": "Bearer sk-1"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
URL = "https://api.example/v1/chat/completions"
GEMINI = {"contents": [{"parts": [{"text": "hi"}]}]}
ANSWER = {
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}
SENT_BACK = {
    "content-type": "application/json",
    "x-request-id": "req_1",
    "set-cookie": "_cfuvid=1",
    "x-ratelimit-remaining": "9",
    "transfer-encoding": "chunked",
    "cache-status": "edge; fwd=miss",
}


def answering(module: Any, body: Any = ANSWER, headers: Any = None) -> Scripted:
    packed = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Scripted(module, lambda request: module.Response(200, headers=headers, stream=module.ByteStream(packed)))


@pytest.fixture
def inner(module):
    return answering(module, headers=SENT_BACK)


@pytest.fixture
def client(module, cache, inner):
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        yield client


def status_of(cache: Cache, client: Any, url: str = URL, **request: Any) -> Any:
    """The one status of a POST."""
    with cache.watch() as seen:
        client.post(url, **({"json": CHAT} if not request.keys() & {"json", "content", "files"} else {}), **request)
    (status,) = seen
    return status


# --- hits ---


def test_a_hit_is_the_recorded_answer_less_what_was_the_first_callers_alone(client, inner):
    first, second = client.post(URL, json=CHAT), client.post(URL, json=CHAT)
    assert len(inner.requests) == 1
    assert second.status_code == 200
    assert second.content == first.content == json.dumps(ANSWER).encode()
    assert {"x-request-id", "content-type"} <= second.headers.keys() <= first.headers.keys() | {"age", "content-length"}
    assert {"set-cookie", "x-ratelimit-remaining", "transfer-encoding"}.isdisjoint(second.headers)
    assert {"set-cookie", "x-ratelimit-remaining"} <= first.headers.keys()
    assert second.headers["content-length"] == str(len(second.content))
    assert second.headers["age"] == "0"
    assert second.headers.get_list("cache-status")[0] == "edge; fwd=miss"
    assert second.headers.get_list("cache-status")[1].startswith("askonce; hit; ttl=")
    assert "askonce; fwd=miss; stored" in first.headers["cache-status"]
    assert second.elapsed.total_seconds() >= 0
    assert second.request.url == URL


def test_a_hit_can_be_read_as_a_stream(client, inner):
    client.post(URL, json=CHAT)
    with client.stream("POST", URL, json=CHAT) as response:
        assert b"".join(response.iter_bytes(7)) == json.dumps(ANSWER).encode()
    assert len(inner.requests) == 1


def test_a_key_seen_in_a_status_can_be_invalidated(cache, client, inner):
    cache.invalidate(key=status_of(cache, client).key)
    client.post(URL, json=CHAT)
    assert len(inner.requests) == 2


def test_an_http_call_can_be_invalidated_by_model_scope_and_tag(cache, client, inner):
    said = {"askonce-scope": "a/b", "askonce-tags": "doc:1, doc:2"}
    for number, aim in enumerate([{"model": "gpt-4.1-mini"}, {"scope": "a"}, {"tag": "doc:2"}], 1):
        client.post(URL, json=CHAT, headers=said)
        client.post(URL, json=CHAT, headers=said)
        assert len(inner.requests) == number
        cache.invalidate(**aim)


# --- what passes ---


@pytest.mark.parametrize(
    ("reason", "request_"),
    [
        ("tools", {"json": {**CHAT, "tools": TOOLS}}),
        ("server-tools", {"json": {**CHAT, "web_search_options": {"user_location": None}}}),
        ("not-json", {"content": b"not json"}),
        ("not-json", {"content": b"[1]"}),
        ("not-json", {"content": b""}),
        ("not-json", {"content": b"\xff\xfe"}),
        ("not-json", {"content": b"\xff\xfe", "headers": {"content-encoding": "Identity"}}),
        ("encoded-body", {"content": zlib.compress(b"{}"), "headers": {"Content-Encoding": "zstd, gzip"}}),
        ("streamed-body", {"content": iter([b"{}"])}),
        ("streamed-body", {"files": {"file": b"audio"}}),
        ("no-store", {"headers": {"cache-control": "no-store"}}),
    ],
)
def test_what_passes_goes_upstream_every_time_and_says_why(cache, client, inner, reason, request_):
    assert status_of(cache, client, **request_).detail == reason
    if reason != "streamed-body":
        assert status_of(cache, client, **request_).detail == reason
        assert len(inner.requests) == 2


def test_an_unknown_path_passes(cache, client):
    assert status_of(cache, client, "https://api.example/v1/moderations").detail == "unknown-path"


def test_a_cache_that_is_off_lets_everything_pass(module, inner):
    with Cache("memory://", mode="off") as cache, cache.http_client(module=module, inner=inner) as client:
        assert status_of(cache, client, headers={"askonce-scope": "a"}).detail == "off"
        assert b"askonce-scope" not in dict(inner.requests[0].headers)


def test_a_pass_is_the_inner_response_itself(module, cache):
    made = module.Response(200, stream=module.ByteStream(b"data: 1\n\n"))
    with cache.http_client(module=module, inner=Scripted(module, lambda request: made)) as client:
        assert client.post(URL, json={**CHAT, "stream": True, "tools": TOOLS}) is made
        assert "cache-status" not in made.headers


# --- what is said to us ---


def test_our_headers_are_heeded_and_do_not_go_upstream(cache, client, inner):
    keys = {
        status_of(cache, client, headers=said).key
        for said in ({}, {"askonce-scope": "a"}, {"askonce-variant": "2"}, {"askonce-variant": "0"})
    }
    assert len(keys) == 3
    said = {"askonce-ttl": "60", "askonce-tags": "t", "cache-control": "max-stale=5", "x-own": "1"}
    status_of(cache, client, headers=said)
    assert (
        inner.requests[-1].headers == client.build_request("POST", URL, json=CHAT, headers={"x-own": "1"}).headers.raw
    )
    assert 55 <= status_of(cache, client, headers=said).ttl <= 60


def test_the_body_that_goes_upstream_is_byte_for_byte_the_callers(cache, client, inner):
    raw = b'{ "messages":[ {"role":"user","content":"\\u00e9"} ],"model":"gpt-4.1-mini", "seed":1.0 }'
    status_of(cache, client, content=raw)
    assert inner.requests[0].body == raw


@pytest.mark.parametrize(
    "said", [{"askonce-scope": "a//b"}, {"askonce-ttl": "soon"}, {"askonce-ttl": "-1"}, {"askonce-tags": "x" * 201}]
)
def test_a_header_that_cannot_be_meant_passes_with_one_warning(cache, client, inner, caplog, said):
    with caplog.at_level(logging.WARNING, logger="askonce"):
        assert status_of(cache, client, headers=said).detail == "bad-settings"
        assert status_of(cache, client, headers=said).detail == "bad-settings"
    assert len([one for one in caplog.records if "went upstream without the cache" in one.message]) == 1
    assert not any(name.startswith(b"askonce-") for name, _ in inner.requests[0].headers)


def test_cache_control_of_the_request_is_heeded(cache, client, inner):
    status_of(cache, client)
    assert status_of(cache, client, headers={"cache-control": "max-age=600, unheard-of=1"}).hit
    assert status_of(cache, client, headers={"cache-control": "no-cache"}).fwd == "request"
    assert len(inner.requests) == 2
    assert status_of(cache, client, headers={"cache-control": "only-if-cached"}).hit


UNREADABLE = ("max-age=-1", "max-age=abc", "min-fresh=", 'max-age="60', "max-age=60, max-age=-1", "max-age=1e9")


@pytest.mark.parametrize("said", UNREADABLE)
def test_freshness_that_cannot_be_read_takes_no_stored_answer(cache, client, said):
    status_of(cache, client)
    assert status_of(cache, client, headers={"cache-control": said}).fwd == "request"
    huge = f'max-age="{"9" * 400}", min-fresh=0'
    assert status_of(cache, client, headers={"cache-control": huge}).hit


def test_a_header_wins_over_the_context_and_the_context_over_the_client(module, cache, inner):
    with cache.http_client(module=module, inner=inner, headers=WHO, scope="client", ttl=100) as client:
        plain = status_of(cache, client)
        with cache.scoped(scope="context"):
            within = status_of(cache, client)
            header = status_of(cache, client, headers={"askonce-scope": "header"})
        assert len({plain.key, within.key, header.key}) == 3
        with cache.scoped(tags=["t"]):
            assert status_of(cache, client).hit  # the client's scope, under the context's tags
        with cache.scoped(scope="header"):
            assert status_of(cache, client).hit


def test_a_handles_client_has_the_handles_settings(module, cache, inner):
    handle = cache.scoped(scope="support", policy=Policy(ttl=50))
    with handle.http_client(module=module, inner=inner, headers=WHO) as client:
        status_of(cache, client)
        hit = status_of(cache, client)
        assert hit.hit
        assert hit.ttl <= 50
        cache.invalidate(scope="support")
        assert not status_of(cache, client).hit


def test_the_context_in_which_a_client_is_made_is_not_its_own(module, cache, inner):
    with cache.scoped(scope="made-in"):
        client = cache.http_client(module=module, inner=inner)
    outside = status_of(cache, client).key
    with cache.scoped(scope="made-in"):
        assert status_of(cache, client).key != outside


def test_ignored_headers_do_not_count_and_unknown_ones_are_named_once(module, cache, inner):
    named: list[str] = []
    cache.on_event(lambda event: named.append(event.detail) if event.name == "unclassified" else None)
    with cache.http_client(module=module, inner=inner, headers=WHO, ignore_headers=["X-Turn"]) as client:
        first = status_of(cache, client, headers={"x-turn": "1", "x-kind": "a"})
        again = status_of(cache, client, headers={"x-turn": "2", "x-kind": "a"})
        other = status_of(cache, client, headers={"x-turn": "2", "x-kind": "b"})
    assert first.key == again.key != other.key
    assert named == ["x-kind"]


def test_store_if_and_max_bytes_hold_for_http_too(module, cache, inner):
    with cache.http_client(module=module, inner=inner, store_if=lambda answer: "error" in answer) as client:
        assert status_of(cache, client).detail == "store-if"
    with cache.http_client(module=module, inner=inner, policy=Policy(max_answer_bytes=10)) as client:
        assert status_of(cache, client).detail == "too-large"


# --- only-if-cached, in each SDK's own words ---


def openai_504(http_client: Any) -> tuple[Any, str]:
    client = openai.OpenAI(api_key="k", http_client=http_client)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(**CHAT, extra_headers={"cache-control": "only-if-cached"})
    body: Any = raised.value.body
    return raised.value, body["type"]


def anthropic_504(http_client: Any) -> tuple[Any, str]:
    client = anthropic.Anthropic(api_key="k", http_client=http_client)
    with pytest.raises(anthropic.InternalServerError) as raised:
        client.messages.create(
            model="m", max_tokens=9, messages=CHAT["messages"], extra_headers={"cache-control": "only-if-cached"}
        )
    body: Any = raised.value.body
    return raised.value, body["error"]["type"]


@pytest.mark.parametrize("ask", [openai_504, anthropic_504])
def test_only_if_cached_is_a_504_that_the_sdk_understands_and_does_not_retry(cache, ask):
    inner = answering(httpx2)
    with cache.watch() as seen:
        error, kind = ask(cache.http_client(inner=inner))
    assert error.status_code == 504
    assert kind == "not_cached"
    assert inner.requests == []
    assert len(seen) == 1


PASSING: dict[str, dict[str, Any]] = {
    "tools": {"json": {**CHAT, "tools": TOOLS}},
    "field-moods": {"json": {**CHAT, "moods": [{"a": 1}]}},
    "unknown-path": {"url": "https://api.example/v1/files"},
    "not-json": {"content": b"{"},
    "streamed-body": {"files": {"file": b"{}"}},
    "tenant-needed": {"headers": {"authorization": "Bearer ya29.short-lived"}},
    "bad-settings": {"headers": {"askonce-ttl": "soon"}},
    "no-store": {},
}


@pytest.mark.parametrize("reason", PASSING)
@pytest.mark.parametrize("said_by", ["header", "client", "handle", "context", "mode"])
def test_only_if_cached_does_not_pay_for_what_passes_either(module, inner, reason, said_by):
    """Whoever says it. With the mode of a job of CI, it went upstream."""
    directives = "only-if-cached, no-store" if reason == "no-store" else "only-if-cached"
    own = {"control": directives} if said_by in {"client", "handle", "context"} else {}
    more = PASSING[reason] | {"headers": dict(PASSING[reason].get("headers", {}))}
    if said_by == "header" or (said_by == "mode" and reason == "no-store"):
        more["headers"]["cache-control"] = directives
    with Cache("memory://", mode="only-if-cached" if said_by == "mode" else "on") as cache:
        maker, around = cache.scoped(**own) if said_by == "handle" else cache, cache.scoped(**own)
        client = maker.http_client(module=module, inner=inner, headers=WHO, **(own if said_by == "client" else {}))
        with around if said_by == "context" else contextlib.nullcontext(), client, cache.watch() as seen:
            got = client.post(**{"url": URL, **({} if {"content", "files"} & more.keys() else {"json": CHAT}), **more})
        assert (got.status_code, inner.requests) == (504, [])
        assert [(status.fwd, status.detail) for status in seen] == [("miss", reason)]


@pytest.mark.parametrize("streams", [False, True])
def test_a_504_says_whether_nothing_is_stored_or_the_store_is_away(module, inner, streams):
    """It said of a store that was down that it has no answer."""
    for url, detail in (("memory://", "only-if-cached"), ("redis://127.0.0.1:1/0", "store-refused")):
        with Cache(url) as cache, cache.http_client(module=module, inner=inner, headers=WHO) as client:
            got = client.post(URL, json={**CHAT, "stream": streams}, headers={"cache-control": "only-if-cached"})
            assert got.headers["cache-status"].endswith(f"detail={detail}")
            assert ("store failed" in got.json()["error"]["message"]) == detail.startswith("store-")
            with pytest.raises(NotCached, match="the store") as raised:
                cache.fetch(CHAT, lambda: ANSWER, control="only-if-cached")
            assert raised.value.detail == detail


def test_with_mode_off_only_if_cached_is_a_word_for_another_cache(module, inner):
    with Cache("memory://", mode="off") as cache, cache.http_client(module=module, inner=inner) as client:
        assert client.post(URL, json=CHAT, headers={"cache-control": "only-if-cached"}).status_code == 200


def test_only_if_cached_in_geminis_shape(module, cache):
    with cache.http_client(module=module, inner=answering(module)) as client:
        url = "https://g.example/v1beta/models/gemini-2.5-flash:generateContent"
        got = client.post(url, json=GEMINI, headers={"cache-control": "only-if-cached"})
        assert got.status_code == got.json()["error"]["code"] == 504
        assert got.json()["error"]["status"] == "NOT_CACHED"


def test_a_request_met_before_is_known_by_all_that_is_in_its_key_and_by_nothing_else(module, cache, inner, client):
    keys = {}
    for _ in range(3):
        for name, more in {
            "plain": {},
            "another body": {"json": {**CHAT, "seed": 1}},
            "another key": {"headers": {"authorization": "Bearer sk-2"}},
            "another header": {"headers": {"openai-organization": "o"}},
            "another query": {"url": URL + "?api-version=1"},
            "a scope": {"headers": {"askonce-scope": "a"}},
        }.items():
            keys.setdefault(name, set()).add(status_of(cache, client, **more).key)
        # What cannot change the answer is only another spelling of the same question.
        keys["plain"].add(status_of(cache, client, headers={"user-agent": "other"}).key)
        keys["plain"].add(status_of(cache, client, json=dict(reversed(CHAT.items()))).key)
    assert [len(found) for found in keys.values()] == [1] * 6
    assert len(set.union(*keys.values())) == 6
    assert len(inner.requests) == 6
    with cache.http_client(module=module, inner=inner, headers=WHO, tenant="acme") as other:
        assert status_of(cache, other).key not in keys["plain"]
    assert status_of(cache, client, headers={"cache-control": "no-store"}).detail == "no-store"
