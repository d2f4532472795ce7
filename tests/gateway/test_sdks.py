"""The real SDKs through the gateway, by nothing but their base URL: only the price changes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai

from askonce.testing import Provider
from tests.gateway.running import Running, Tap, answer, raw_call, serving
from tests.http.test_corpus import base_of, call, sdk_of
from tests.support import ReplayUpstream

Record = dict[str, Any]
HOPS = {"host", "content-length", "connection", "transfer-encoding"}


@pytest.fixture
def provider_and_gateway():
    with Provider() as provider:
        paths = (f"/openai={provider.url}", f"/anthropic={provider.url}", f"/gemini={provider.url}")
        with serving(*paths) as running:
            yield provider, running


def test_openais_sdk(provider_and_gateway):
    provider, running = provider_and_gateway
    client = openai.OpenAI(base_url=f"{running.url}/openai/v1", api_key="sk-1", max_retries=0)
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "chat"}]}
    assert client.chat.completions.create(**asked) == client.chat.completions.create(**asked)
    for _ in range(2):
        parts = [part.choices[0].delta.content or "" for part in client.chat.completions.create(**asked, stream=True)]
        assert "to: chat" in "".join(parts)
    assert client.responses.create(model="gpt-4o", input="r") == client.responses.create(model="gpt-4o", input="r")
    first = client.embeddings.create(model="e", input=["a", "b"])
    again = client.embeddings.create(model="e", input=["b", "c", "a"])
    assert [again.data[2].embedding, again.data[0].embedding] == [one.embedding for one in first.data]
    assert provider.paid("chat") == 2  # whole, and as a stream
    assert provider.paid("r") == 1
    provider.script("no", 429)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "no"}])
    client.close()


async def test_anthropics_sdk(provider_and_gateway):
    provider, running = provider_and_gateway
    client = anthropic.AsyncAnthropic(base_url=f"{running.url}/anthropic", api_key="k", max_retries=0)
    asked: Any = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    assert await client.messages.create(**asked) == await client.messages.create(**asked)
    for _ in range(2):
        async with client.messages.stream(**asked) as stream:
            assert "to: hello" in await stream.get_final_text()
    assert provider.paid("hello") == 2
    await client.close()


def test_googles_sdk(provider_and_gateway):
    provider, running = provider_and_gateway
    options = genai.types.HttpOptions(base_url=f"{running.url}/gemini")
    with genai.Client(api_key="k", http_options=options) as client:
        asked: Any = {"model": "gemini-2.5-flash", "contents": "salut"}
        assert client.models.generate_content(**asked).text == client.models.generate_content(**asked).text
        for _ in range(2):
            parts = [part.text for part in client.models.generate_content_stream(**asked)]
            assert "to: salut" in "".join(filter(None, parts))
    assert provider.paid("salut") == 2


@pytest.mark.parametrize("every", [15, pytest.param(1, marks=pytest.mark.slow)])
def test_the_corpus_is_parsed_by_the_sdks_as_without_the_gateway(records, corpus_dir, every):
    tried: Counter[str] = Counter()
    plain = [one for one in records if not one["stream"] and base_of("", one) is not None][::every]
    with (
        ReplayUpstream(corpus_dir, "--dup", "first") as upstream,
        serving(upstream.url, store="memory://") as running,
        httpx2.Client(timeout=60) as client,
    ):
        for record in plain:
            body = json.loads(record["request_body"])
            if body.get("stream"):
                continue
            base, query, end = base_of(upstream.url, record) or ("", {}, "")
            without = call(sdk_of(base, query, end, record, client), end, body)
            through = sdk_of(base.replace(upstream.url, running.url), query, end, record, client)
            through = through.with_options(api_key=record["id"])  # a recorded 401 concerns the key for a minute
            assert call(through, end, body) == without, record["id"]
            assert call(through, end, body) == without, record["id"]
            tried[end] += 1
        stats = running.gateway.cache.stats()
    assert tried.total() > 1500 // every, tried
    assert stats["hit"] > tried.total() // 3, stats


def sent_as(record: Record, host: str) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """The bytes of a recorded request to this host, its headers, and its body."""
    body = (record["request_body"] or "").encode()
    headers = [("Host", host), *((k, v) for k, v in record["request_headers"].items() if k.lower() not in HOPS)]
    headers += [("X-Api-Key", "k"), ("Content-Length", str(len(body)))]
    pairs = [(name.encode(), str(value).encode()) for name, value in headers]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
    head = f"{record['method']} {record['url_path']} HTTP/1.1\r\n".encode()
    return head + lines + b"Connection: close\r\n\r\n" + body, pairs, body


def check_bytes(running: Running, tap: Tap, record: Record) -> None:
    raw, pairs, body = sent_as(record, "gateway")
    came = raw_call(running.port, raw)
    assert b" 200 " in came[:20], record["id"]
    heard = tap.heard.pop()
    assert heard.line == raw.partition(b"\r\n")[0], record["id"]
    assert heard.body == body, record["id"]
    wanted = [(name, tap.host.encode() if name == b"Host" else value.strip()) for name, value in pairs]
    assert heard.headers == wanted, record["id"]


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_every_recorded_request_arrives_upstream_byte_for_byte_with_its_headers_in_their_order(records, every):
    said = answer(b"{}")
    with Tap(lambda _: said) as tap, serving(tap.url) as running:
        for record in records[::every]:
            check_bytes(running, tap, record)
        assert not tap.heard


def test_a_providers_own_prompt_cache_does_not_notice_the_gateway():
    """An upstream that counts the prefix it has seen before, by the bytes of the body, as providers' caches do."""
    seen: list[bytes] = []

    def says(heard: Any) -> bytes:
        cached = max((len(shared(one, heard.body)) for one in seen), default=0)
        seen.append(heard.body)
        usage = {"prompt_tokens": len(heard.body), "prompt_tokens_details": {"cached_tokens": cached}}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"{len(seen)}"}}
        made = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        return answer(json.dumps(made).encode())

    def session(url: str) -> list[int]:
        seen.clear()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-1", max_retries=0)
        messages: list[Any] = [{"role": "system", "content": "You are terse. " * 40}]
        counts = []
        for turn in range(8):
            messages.append({"role": "user", "content": f"turn {turn}"})
            came = client.chat.completions.create(model="m", messages=messages)
            messages.append({"role": "assistant", "content": came.choices[0].message.content})
            assert came.usage is not None
            assert came.usage.prompt_tokens_details is not None
            counts.append(came.usage.prompt_tokens_details.cached_tokens or 0)
        client.close()
        return counts

    with Tap(says) as tap, serving(tap.url) as running:
        assert session(running.url) == session(tap.url)


def shared(one: bytes, other: bytes) -> bytes:
    return one[: next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))]
