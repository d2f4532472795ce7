"""Timeouts, retries and cancellations are the SDK's own, whoever makes the call."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from askonce import AsyncCache, Cache
from askonce.testing import Provider, Step
from tests.crowd import eventually, gathered
from tests.http.conftest import CHAT
from tests.http.test_requests import ANSWER, URL
from tests.http.upstreams import Scripted
from tests.took import Took

HANG = Step(hang=True)
QUESTION = "hi"  # of CHAT


@pytest.fixture
def places(tmp_path):
    """Two caches on one store, which know of each other only by the store, as two processes do."""
    with Cache(f"sqlite:///{tmp_path}/a.db") as one, Cache(f"sqlite:///{tmp_path}/a.db") as other:
        yield one, other


def post(client: Any, provider: Provider, **more: Any) -> Any:
    return client.post(f"{provider.openai_url}/chat/completions", json=CHAT, **more)


# --- a follower's patience ---


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_follower_waits_no_longer_than_its_read_timeout_and_gets_its_own_modules_error(
    module, places, provider, elsewhere
):
    provider.script(QUESTION, HANG)
    one, other = places
    follows = (other if elsewhere else one).http_client(module=module)
    with one.http_client(module=httpx2) as leads, follows, ThreadPoolExecutor(1) as pool:
        leader = pool.submit(post, leads, provider)
        eventually(lambda: provider.paid(QUESTION) == 1, "the leader calls")
        took = Took()
        with pytest.raises(module.ReadTimeout) as raised:
            post(follows, provider, timeout=0.3)
        assert took.wall >= 0.25
        assert took.seconds < 0.6
        assert raised.value.request.url == f"{provider.openai_url}/chat/completions"
        provider.release(QUESTION)
        assert leader.result(60).status_code == 200
        assert post(follows, provider).headers["cache-status"].startswith("askonce; hit")
    assert provider.paid(QUESTION) == 1


async def test_a_follower_in_a_task_waits_no_longer_than_its_read_timeout(module, provider):
    provider.script(QUESTION, HANG)
    async with AsyncCache("memory://") as cache, cache.http_client(module=module) as client:
        leader = asyncio.create_task(post(client, provider))
        await asyncio.to_thread(eventually, lambda: provider.paid(QUESTION) == 1, "the leader calls")
        with pytest.raises(module.ReadTimeout):
            await post(client, provider, timeout=0.2)
        provider.release(QUESTION)
        assert (await leader).status_code == 200
    assert provider.paid(QUESTION) == 1


# --- a leader's timeout ---


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_leaders_timeout_is_shared_with_the_impatient_and_not_with_the_patient(module, places, provider, elsewhere):
    provider.script(QUESTION, HANG, HANG)
    one, other = places
    follows = (other if elsewhere else one).http_client(module=module)
    with one.http_client(module=httpx2) as leads, follows, ThreadPoolExecutor(3) as pool:
        leader = pool.submit(post, leads, provider, timeout=1.2)
        eventually(lambda: provider.paid(QUESTION) == 1, "the leader calls")
        impatient = pool.submit(post, follows, provider, timeout=1.2)
        patient = pool.submit(post, follows, provider, timeout=30)
        assert isinstance(leader.exception(60), httpx2.ReadTimeout)
        shared = impatient.exception(60)
        assert isinstance(shared, module.ReadTimeout)
        assert shared.request.url == f"{provider.openai_url}/chat/completions"
        eventually(lambda: provider.paid(QUESTION) == 2, "the patient calls")
        provider.release(QUESTION)
        assert patient.result(60).status_code == 200
    assert provider.paid(QUESTION) == 2


def test_a_timeout_is_not_raised_where_a_patient_caller_has_brought_an_answer_meanwhile(module, cache, provider):
    """The impatient come to their error only when the answer of the next call is stored."""
    provider.script(QUESTION, HANG, "complete")
    stored, old_answer = threading.Event(), cache._base._engine._old_answer
    cache.on_event(lambda event: event.name == "stored" and stored.set())

    async def late(question: Any, *more: Any) -> Any:
        if question.until < time.monotonic() + 10:
            stored.wait(60)
        return await old_answer(question, *more)

    cache._base._engine._old_answer = late
    with cache.http_client(module=module) as client, ThreadPoolExecutor(3) as pool:
        leader = pool.submit(post, client, provider, timeout=0.5)
        eventually(lambda: provider.paid(QUESTION) == 1, "the leader calls")
        patient = pool.submit(post, client, provider, timeout=30)
        gathered(cache, 2)
        assert leader.result(60).json() == patient.result(60).json()
        assert leader.result().headers["cache-status"].startswith("askonce; fwd=stale; ttl=")
    assert provider.paid(QUESTION) == 2


@pytest.mark.parametrize(("leads", "follows"), [(httpx, httpx2), (httpx2, httpx)])
def test_an_upstream_that_cannot_be_reached_is_shared_as_each_modules_own_error(places, leads, follows):
    """One connection refused, as the error of the module of whoever waited for it."""
    gate = threading.Event()
    calls = []

    def refused(request: Any) -> Any:
        calls.append(request)
        assert gate.wait(60)
        raise leads.ConnectError("connection refused")

    one, other = places
    leading = one.http_client(module=leads, inner=Scripted(leads, refused))
    near, far = one.http_client(module=follows, inner=None), other.http_client(module=follows)
    with leading, near, far, ThreadPoolExecutor(3) as pool:
        leader = pool.submit(leading.post, URL, json=CHAT)
        eventually(lambda: calls, "the leader calls")
        others = [pool.submit(client.post, URL, json=CHAT) for client in (near, far)]
        eventually(
            lambda: one._base._engine.board.flights()[0].followers and other.stats()["waiting"], "the others wait"
        )
        gate.set()
        assert isinstance(leader.exception(60), leads.ConnectError)
        for follower in others:
            error = follower.exception(60)
            assert isinstance(error, follows.ConnectError)
            assert str(error) == "connection refused"
            assert isinstance(error.request, follows.Request)
    assert len(calls) == 1


def test_an_error_that_is_no_modules_is_its_callers_alone(cache):
    """A bug in an inner transport is raised as it is; those who waited make the call themselves."""
    bug = KeyError("a bug in somebody's transport")
    calls = []

    def fails(request: Any) -> Any:
        calls.append(request)
        if len(calls) > 1:
            return httpx2.Response(200, json=ANSWER)
        gathered(cache, 2)
        raise bug

    with cache.http_client(inner=Scripted(httpx2, fails)) as client, ThreadPoolExecutor(2) as pool:
        both = [pool.submit(client.post, URL, json=CHAT) for _ in range(2)]
        errors = [one.exception(60) for one in both]
    assert sorted(map(repr, errors)) == sorted(["None", repr(bug)])


RAISED = {  # what a transport raises for: status and headers of upstream, whether a tenant is named, whether it is shared
    "too many": (429, {"retry-after": "2", "set-cookie": "a=1"}, "", True),
    "trouble": (503, {}, "", True),
    "trouble, of a tenant": (502, {}, "team", True),
    "too many, of a tenant": (429, {}, "team", False),
    "refused": (403, {}, "", True),
    "challenged": (401, {"www-authenticate": 'Digest nonce="1"'}, "", False),
}


@pytest.mark.parametrize("why", RAISED)
@pytest.mark.parametrize("form", [{}, {"stream": True}], ids=["json", "stream"])
def test_a_status_that_a_transport_of_ones_own_raises_is_shared_like_one_that_it_returns(module, cache, why, form):
    """As retry transports do (`validate_response=lambda response: response.raise_for_status()`)."""
    status, headers, tenant, shared = RAISED[why]
    calls = []

    def raises(request: Any) -> Any:
        calls.append(request)
        if len(calls) == 1:
            gathered(cache, 3)
        made = module.Response(status, headers=headers, stream=module.ByteStream(b"why"), request=request)
        made.close()
        made.raise_for_status()

    with cache.http_client(module=module, inner=Scripted(module, raises), tenant=tenant or None) as client:
        ask = partial(client.post, URL, json={**CHAT, **form}, headers={"authorization": "Bearer sk-1"})
        with ThreadPoolExecutor(3) as pool:
            errors = [one.exception(60) for one in [pool.submit(ask) for _ in range(3)]]
    assert len(calls) == (1 if shared else 3)
    assert {type(error) for error in errors} == {module.HTTPStatusError}
    assert {error.response.status_code for error in errors} == {status}
    assert len({id(error.request) for error in errors}) == len({id(error.response.request) for error in errors}) == 3
    assert [error.response.headers.get("retry-after") for error in errors] == [headers.get("retry-after")] * 3
    assert sum("set-cookie" in error.response.headers for error in errors) == ("set-cookie" in headers)


def test_one_that_another_module_raised_is_its_callers_alone(cache):
    def raises(_: Any) -> Any:
        gathered(cache, 2)
        raise httpx.HTTPStatusError("why", request=httpx.Request("POST", URL), response=httpx.Response(429))

    answers = Scripted(httpx2, lambda _: httpx2.Response(200, json=ANSWER))
    leads, follows = cache.http_client(module=httpx, inner=Scripted(httpx, raises)), cache.http_client(inner=answers)
    with leads, follows, ThreadPoolExecutor(2) as pool:
        leader = pool.submit(leads.post, URL, json=CHAT)
        eventually(cache._base._engine.board.flights, "the leader calls")
        assert pool.submit(follows.post, URL, json=CHAT).result(60).json() == ANSWER
        assert isinstance(leader.exception(60), httpx.HTTPStatusError)


# --- cancellation ---


async def test_who_leaves_does_not_end_the_call_that_others_wait_for(provider):
    provider.script(QUESTION, HANG)
    async with AsyncCache("memory://") as cache:
        sdk = openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k", http_client=cache.http_client())
        leader = asyncio.create_task(sdk.chat.completions.create(**CHAT))
        await asyncio.to_thread(eventually, lambda: provider.paid(QUESTION) == 1, "the leader calls")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sdk.chat.completions.create(**CHAT), 0.05)
        follower = asyncio.create_task(sdk.chat.completions.create(**CHAT))
        await asyncio.sleep(0.05)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        provider.release(QUESTION)
        assert (await follower).choices[0].message.content
        await sdk.close()
    assert provider.paid(QUESTION) == 1


async def test_a_call_whose_only_caller_left_is_finished_and_stored(provider):
    provider.script(QUESTION, Step(delay=0.3))
    async with AsyncCache("memory://") as cache, cache.http_client() as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(post(client, provider), 0.1)
        assert (await post(client, provider)).status_code == 200
        assert cache.stats()["abandoned"] == 1
    assert provider.paid(QUESTION) == 1


# --- clients that are closed under way ---


async def test_a_client_closed_under_way_fails_its_own_callers_and_not_those_of_others(provider):
    provider.script(QUESTION, HANG, "complete")
    async with AsyncCache("memory://") as cache, cache.http_client() as stays:
        leaves = cache.http_client()
        leader = asyncio.create_task(post(leaves, provider))
        await asyncio.to_thread(eventually, lambda: provider.paid(QUESTION) == 1, "the leader calls")
        await leaves.aclose()
        with pytest.raises((httpx2.TransportError, RuntimeError)):
            await leader
        assert (await post(stays, provider)).status_code == 200
    provider.release(QUESTION)
    assert provider.paid(QUESTION) == 2


async def test_a_call_that_callers_of_another_client_wait_for_outlives_its_own(provider):
    provider.script(QUESTION, HANG)
    async with AsyncCache("memory://") as cache, cache.http_client() as stays:
        leaves = cache.http_client()
        leader = asyncio.create_task(post(leaves, provider))
        await asyncio.to_thread(eventually, lambda: provider.paid(QUESTION) == 1, "the leader calls")
        follower = asyncio.create_task(post(stays, provider))
        (flight,) = cache._base._engine.board.flights()
        await asyncio.to_thread(eventually, lambda: flight.followers, "the follower waits")
        await leaves.aclose()
        provider.release(QUESTION)
        assert (await follower).content == (await leader).content
    assert provider.paid(QUESTION) == 1


def test_closing_a_client_closes_its_transport_and_not_the_cache(module, cache):
    inner = Scripted(module, lambda _: module.Response(200, json=ANSWER))
    with cache.http_client(module=module, inner=inner) as client:
        client.post(URL, json=CHAT)
    assert inner.closed
    with cache.http_client(module=module, inner=inner) as client:
        assert "hit" in client.post(URL, json=CHAT).headers["cache-status"]


# --- the SDKs' own retries, against every fault of the replay server ---

FAULTS: dict[str, dict[str, Any]] = {
    "reset": {"fault": "reset"},
    "cut": {"fault": "drop-bytes=50"},
    "silence": {"fault": "never"},
    "500": {"fault": "status=500;retry-after-ms=10"},
    "503 once": {"fault": "status=503;retry-after-ms=10", "times": 1},
    "429 once": {"fault": "status=429;retry-after-ms=10", "times": 1},
    "429": {"fault": "status=429;retry-after-ms=10"},
    "429 not to be retried": {"fault": "status=429;x-should-retry=false"},
    "truncated": {"fault": "truncate=0.5"},
    "garbage": {"fault": "garbage"},
    "slow": {"fault": "delay=0.2"},
}


def outcome(ask: Any, upstream: Any, rule: dict[str, Any]) -> tuple[Any, ...]:
    """What a caller sees, and how many calls were made for it."""
    upstream.reset()
    upstream.faults({"match": {}, **rule})
    try:
        seen: tuple[Any, ...] = ("answer", ask())
    except Exception as error:
        cause = type(error.__cause__).__name__
        seen = (type(error).__name__, getattr(error, "status_code", None), str(error), cause)
    return *seen, upstream.calls()["total"]


def openai_ask(record: Any, url: str, http_client: Any) -> Any:
    path = record["url_path"].removesuffix("/chat/completions")
    sdk = openai.OpenAI(base_url=url + path, api_key="k", http_client=http_client, timeout=0.3, max_retries=1)
    return lambda: sdk.chat.completions.create(**record["body"]).model_dump()


def anthropic_ask(record: Any, url: str, http_client: Any) -> Any:
    sdk = anthropic.Anthropic(base_url=url, api_key="k", http_client=http_client, timeout=0.3, max_retries=1)
    return lambda: sdk.messages.create(**record["body"]).model_dump()


def stored(records: Any, api: str, path: str) -> Any:
    """A recorded answer that may be stored."""
    import json

    for record in records:
        if record["api"] == api and record["url_path"] == path and record["status"] == 200 and not record["stream"]:
            body = json.loads(record["request_body"])
            if record["finish_reason"] in {"stop", "end_turn"} and body.keys() <= {"model", "messages", "max_tokens"}:
                return {**record, "body": body}
    raise AssertionError(f"no record of {api}")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("ask", "api", "path"),
    [
        (openai_ask, "openai.chat", "/v1/chat/completions"),
        (anthropic_ask, "anthropic.messages", "/v1/messages"),
    ],
    ids=["openai", "anthropic"],
)
def test_retries_and_errors_are_the_same_as_without_askonce(cache, records, replay_upstream, ask, api, path, fault):
    record = stored(records, api, path)
    with httpx2.Client() as bare, cache.http_client() as ours:
        without = outcome(ask(record, replay_upstream.url, bare), replay_upstream, FAULTS[fault])
        assert outcome(ask(record, replay_upstream.url, ours), replay_upstream, FAULTS[fault]) == without
        if without[0] != "answer" or fault in {"truncated", "garbage"}:
            assert cache.stats().get("stored", 0) == 0
        else:
            assert outcome(ask(record, replay_upstream.url, ours), replay_upstream, {"fault": "reset"})[-1] == 0
