"""Whose answer it is: what distinguishes two callers of one service key counts, and what is always new is reported."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce import AsyncCache, Cache, ConfigError, Policy
from askonce.core.fresh_headers import AGAIN
from askonce.engine.planner import Planner
from askonce.events import Events
from askonce.http.request import SentRequest
from askonce.http.rules import ClientRules
from tests.core.test_headers import FAMILIES, LISTED, TOKEN
from tests.http.conftest import CHAT
from tests.http.test_requests import ANSWER, URL, WHO, answering, status_of
from tests.http.test_tenants import setting
from tests.http.upstreams import Scripted
from tests.profiles import examples

# Each header has two values by which a proxy, gateway or provider may tell callers apart, or answer differently.
TELLING = {
    **dict.fromkeys(("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Auth-Request-User", "X-Auth-Request-Email", "Remote-User", "Remote-Groups", "X-Remote-User", "X-WEBAUTH-USER", "X-Client-Id", "X-Client-Secret", "X-Client-Name", "X-User-Id", "X-Consumer-Username", "X-Credential-Identifier", "X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id", "X-Goog-IAP-JWT-Assertion", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data", "X-MS-CLIENT-PRINCIPAL", "X-MS-CLIENT-PRINCIPAL-ID", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "CF-Access-Client-Id", "CF-Access-Client-Secret", "Cf-Access-Jwt-Assertion", "X-Envoy-Peer-Metadata", "X-Tyk-User", "X-Portkey-Metadata", "X-Portkey-Virtual-Key", "Helicone-User-Id", "Helicone-Cache-Seed", "cf-aig-metadata", "x-litellm-end-user-id", "X-OpenWebUI-User-Email", "X-Title", "uberctx-user", "X-Session-Id", "sw8-correlation", "X-Vercel-OIDC-Token", "X-Openshift-User", "Tailscale-User-Login", "X-Foo-Of-Tomorrow", "CF-IPCountry", "Content-Language"), ("alice", "bob")),
    "Cookie": ("session=alice", "session=bob"),
    "Host": ("alice.internal", "bob.internal"),
    "X-Forwarded-Client-Cert": ("By=a;Subject=CN=alice", "By=a;Subject=CN=bob"),
    "X-Forwarded-For": ("10.0.0.1", "10.0.0.2"),
    "X-Real-IP": ("10.0.0.1", "10.0.0.2"),
    "Forwarded": ("for=10.0.0.1", "for=10.0.0.2"),
    "Via": ("1.1 alice", "1.1 bob"),
    "Origin": ("https://a.example", "https://b.example"),
    "Referer": ("https://a.example/", "https://b.example/"),
    "HTTP-Referer": ("https://a.example/", "https://b.example/"),
    "Accept": ("text/markdown", "text/html"),
    "Accept-Language": ("de", "fr"),
    "Content-Encoding": ("aes128gcm", "x-own"),
    "baggage": ("tenant=a,sentry-trace_id=1", "tenant=b,sentry-trace_id=1"),
    "tracestate": ("dd=s:1,sd-routing-key=a", "dd=s:1,sd-routing-key=b"),
    "X-Amzn-Trace-Id": ("Root=1;CalledFrom=a", "Root=1;CalledFrom=b"),
}  # fmt: skip


def personal(module: Any, name: str) -> Scripted:
    """An upstream whose answer says what stood in a header."""

    def answer(request: Any) -> Any:
        return module.Response(200, json={**ANSWER, "for": request.headers.get(name)})

    return Scripted(module, answer)


@pytest.mark.parametrize("tenant", [None, "us"], ids=["by key", "by tenant"])
@pytest.mark.parametrize("name", TELLING)
def test_two_callers_of_one_service_key_never_share_what_a_header_tells_apart(cache, name, tenant):
    inner = personal(httpx2, name)
    with cache.http_client(inner=inner, headers=WHO, tenant=tenant) as client:
        for value in TELLING[name] * 2:
            assert client.post(URL, json=CHAT, headers={name: value}).json()["for"] == value
    assert len(inner.requests) == 2


def test_a_session_cookie_tells_apart_though_answers_have_set_one_of_that_name(module, cache):
    inner = setting(module, "session")
    keys = []
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        client.post(URL, json=CHAT)
        for who in ("alice", "bob", "alice"):
            client.cookies.clear()
            keys.append(status_of(cache, client, headers={"cookie": f"session={who}"}).key)
    assert keys[0] == keys[2] != keys[1]


def test_a_cookie_that_each_answer_sets_anew_is_named_once(module, cache, caplog):
    inner = setting(module, "_cfuvid", "affinity")
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        for _ in range(AGAIN + 6):
            client.post(URL, json=CHAT)
    assert named(caplog) == ["cookie:affinity"]
    inner = setting(module, "_cfuvid", "affinity")
    with cache.http_client(module=module, inner=inner, headers=WHO, ignore_headers=["cookie:Affin*"]) as client:
        for _ in range(5):
            client.post(URL, json={**CHAT, "seed": 2})
    assert len(inner.requests) == 1


def named(caplog: Any) -> list[str]:
    """The headers that the log said are fresh."""
    return [record.args[0] for record in caplog.records if "none of them could be answered" in record.message]


def test_the_host_counts_where_it_is_not_the_urls(module, cache):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        plain = status_of(cache, client).key
        same = [status_of(cache, client, headers={"host": host}).key for host in ("API.example", "api.example:443")]
        other = [status_of(cache, client, headers={"host": host}).key for host in ("api.example:80", "other.example")]
    assert same == [plain, plain]
    assert len({plain, *other}) == 3


def test_an_accept_for_streams_is_plain_where_a_stream_is_asked_for_and_nowhere_else(module, cache):
    events = {"accept": "text/event-stream"}
    with cache.http_client(module=module, inner=answering(module), headers=WHO) as client:
        streams = [status_of(cache, client, json={**CHAT, "stream": True}, headers=more).key for more in ({}, events)]
        pieces = [status_of(cache, client, headers=more).key for more in ({}, events)]
    assert streams[0] == streams[1] == pieces[0] != pieces[1]


# --- what is said to us, and is none of ours ---


@pytest.mark.parametrize("name", ["askonce-tenant", "Askonce-Scop", "askonce-", "ASKONCE-USER"])
def test_a_header_that_is_none_of_ours_passes_with_one_warning_by_name_and_is_taken_off(module, cache, caplog, name):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        for _ in range(2):
            assert status_of(cache, client, headers={name: "bob"}).detail == "bad-settings"
        assert status_of(cache, client, "https://api.example/v1/models", headers={name: "b"}).detail == "bad-settings"
    assert [name.lower() in record.message for record in caplog.records] == [True]
    assert len(inner.requests) == 3
    assert not any(sent.lower().startswith(b"askonce-") for one in inner.requests for sent, _ in one.headers)


# --- connections that were signed in ---


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "negotiate"])
def test_after_a_ticket_nobody_is_told_by_what_a_request_does_not_say(module, cache, scheme):
    """The connection was signed in by Alice; Bob's client has not said whose it is, either, and is another client."""
    inner = answering(module)
    with cache.http_client(module=module, inner=inner) as alice, cache.http_client(module=module, inner=inner) as bob:
        assert status_of(cache, alice, headers={"authorization": f"{scheme} TlRM"}).detail == "tenant-needed"
        assert [status_of(cache, alice).detail for _ in range(2)] == ["tenant-needed"] * 2
        assert [status_of(cache, bob).fwd for _ in range(2)] == ["miss", ""]
    with cache.http_client(module=module, inner=inner, tenant="alice") as client:
        status_of(cache, client, headers={"authorization": f"{scheme} TlRM"})
        assert status_of(cache, client).hit


# --- what is new on every call ---

# Headers of tracers, gateways and session recorders, most of them listed; a new value in each call.
FRESH = ["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "sentry-trace", "newrelic", "x-newrelic-transaction", "x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-tags", "elastic-apm-traceparent", "uber-trace-id", "jaeger-debug-id", "x-ot-span-context", "ot-tracer-traceid", "ot-tracer-spanid", "x-honeycomb-trace", "x-instana-t", "x-instana-s", "x-dynatrace", "x-dtc", "sw8", "sw8-x", "sw8-correlation", "singularityheader", "x-amzn-trace-id", "x-cloud-trace-context", "grpc-trace-bin", "pinpoint-traceid", "eagleeye-traceid", "sofa-traceid", "x-trace-id", "x-request-id", "x-correlation-id", "request-id", "x-ms-client-request-id", "ms-cv", "x-client-request-id", "idempotency-key", "amz-sdk-invocation-id", "cf-ray", "x-vercel-id", "x-irid", "helicone-request-id", "helicone-session-id", "cf-aig-event-id", "cf-aig-otel-trace-id", "cf-aig-otel-parent-span-id", "x-portkey-trace-id", "x-portkey-span-id", "x-litellm-call-id", "x-litellm-trace-id", "x-litellm-session-id", "langsmith-trace", "opik_trace_id", "langfuse_trace_id", "x-claude-code-session-id", "x-session-id", "x-conversation-id", "session_id", "x-turn-id", "x-openwebui-chat-id", "x-bt-parent", "helicone-property-run", "x-timestamp", "uberctx-id", "correlation-context", "x-interaction-id", "forwarded", "cookie", "x-auth-token", "x-api-key"]  # fmt: skip


@pytest.mark.parametrize("name", FRESH)
def test_a_header_that_is_new_on_every_call_costs_nothing_or_is_named_once(cache, caplog, name):
    inner, value = answering(httpx2), iter(uuid.uuid4().hex for _ in itertools.count())
    events: list[str] = []
    cache.on_event(lambda event: events.append(event.detail) if event.name == "fresh-header" else None)
    with cache.http_client(inner=inner, headers=WHO) as client:
        for _ in range(AGAIN + 5):
            told = next(value)
            client.post(URL, json=CHAT, headers={name: f"sid={told}" if name == "cookie" else told})
    missed = len(inner.requests) > 1
    want = ["cookie:sid" if name == "cookie" else name] if missed else []
    assert named(caplog) == events == want
    assert not missed or len(inner.requests) == AGAIN + 5


def test_forty_and_more_of_these_names_are_hits():
    plain = {"traceparent", "sw8", "x-instana-t", "helicone-session-id", "cf-aig-event-id", "x-irid", "x-dynatrace"}
    hits = [name for name in FRESH if name in LISTED]
    assert plain < set(hits)
    assert len(hits) >= 50


def test_a_tracers_own_members_are_hits_whatever_they_say(module, cache, caplog):
    inner = answering(module)
    with cache.http_client(module=module, inner=inner, headers=WHO) as client:
        for number in range(9):
            told = {
                "baggage": f"sentry-trace_id={number},sentry-sampled=true,tenant=a",
                "tracestate": f"dd=p:{number},{number}@nr=0-0",
                "x-amzn-trace-id": f"Root=1-{number};Parent={number};Sampled=1",
            }
            client.post(URL, json=CHAT, headers=told)
    assert len(inner.requests) == 1
    assert named(caplog) == []


@pytest.mark.parametrize("where", ["stream", "batch", "shared forms", "large"])
def test_fresh_headers_are_named_in_every_kind_of_request(module, cache, caplog, where):
    url, body = URL, dict(CHAT)
    if where == "batch":
        url, body = "https://api.example/v1/embeddings", {"model": "m", "input": ["a", "b"]}
    body |= {"stream": True} if where == "stream" else {"seed": "x" * 20_000} if where == "large" else {}
    more = {"share_forms": True} if where == "shared forms" else {}
    with cache.http_client(module=module, inner=answering(module), headers=WHO, **more) as client:
        for number in range(AGAIN + 3):
            for _ in range(2):  # each is retried once
                client.post(url, json=body, headers={"x-turn": str(number), "x-run": f"r{number}", "x-user": "me"})
    assert named(caplog) == ["x-turn", "x-run"]


def test_users_who_take_turns_and_headers_that_stay_are_no_false_alarm(module, cache, caplog):
    with cache.http_client(module=module, inner=answering(module), headers=WHO) as client:
        for number in range(40):
            for seed in range(3):
                client.post(URL, json={**CHAT, "seed": seed}, headers={"x-user-id": f"u{number % 4}", "x-app": "a"})
    assert named(caplog) == []


def test_a_request_that_passes_is_not_counted_as_one_that_missed(module, cache, caplog):
    with cache.http_client(module=module, inner=answering(module), headers=WHO) as client:
        for number in range(20):
            client.post(URL, json={**CHAT, "tools": [{"type": "function"}]}, headers={"x-turn": str(number)})
    assert named(caplog) == []


async def test_a_fresh_header_is_named_by_an_async_client_too(module, caplog):
    async with AsyncCache("memory://") as cache:
        client = cache.http_client(module=module, inner=answering(module), headers=WHO)
        for number in range(AGAIN + 3):
            await client.post(URL, json=CHAT, headers={"x-turn": str(number)})
        await client.aclose()
    assert named(caplog) == ["x-turn"]


# --- laws ---


def key_of(*headers: tuple[str, str], **settings_: Any) -> str:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    rules = ClientRules(Planner("p", settings_.get("tenant", ""), Policy(), {}, "on"), Events(), "on")
    asked = rules.read(SentRequest("POST", URL, raw, b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'))
    assert asked.question is not None, asked.reason
    return asked.question.key.text


values = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)


@given(st.text(TOKEN, min_size=1, max_size=30), values, values, st.sampled_from(["", "us"]))
@settings(max_examples=examples(300), deadline=None)
def test_any_header_that_is_not_listed_makes_another_question(name, one, other, tenant):
    if name.lower() in LISTED or any(name.lower().startswith(family) for family in FAMILIES):
        return
    keys = [key_of((name, value), tenant=tenant) for value in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert key_of(tenant=tenant) not in keys


@given(st.text(TOKEN, min_size=1, max_size=20), st.text(TOKEN, max_size=20), st.sampled_from(["", "us"]))
@settings(max_examples=examples(200), deadline=None)
def test_any_cookie_that_is_no_balancers_makes_another_question(name, value, tenant):
    from askonce.core.headers import BALANCERS

    if not BALANCERS.fullmatch(name.encode()):
        assert key_of(("cookie", f"__cf_bm=1; {name}={value}"), tenant=tenant) != key_of(tenant=tenant)
        assert key_of(("cookie", f"{name}={value}")) != key_of(("cookie", f"{name}={value}x"))


# --- ignore_headers ---


def test_ignored_headers_are_globs_at_the_cache_and_at_the_client(module):
    inner = answering(module)
    with Cache("memory://", ignore_headers=["X-Turn-*"]) as cache:
        with cache.http_client(module=module, inner=inner, headers=WHO, ignore_headers=["x-run?"]) as client:
            for number in range(4):
                client.post(URL, json=CHAT, headers={"x-turn-id": str(number), "X-Run1": str(number)})
            assert len(inner.requests) == 1
            client.post(URL, json=CHAT, headers={"x-turn": "1"})
        assert len(inner.requests) == 2
        with pytest.raises(ConfigError, match="can match nothing"):
            cache.http_client(module=module, ignore_headers=["x turn"])
        with pytest.raises(ConfigError, match="tenant="):
            cache.transport(module=module, ignore_headers=["Authorization"])
