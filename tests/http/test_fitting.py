"""An answer that does not fit its request is returned and never stored, however it came; one that fits is stored."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import httpx2
import pytest

from askonce import AsyncCache, Cache
from askonce.recording.caches import RecordedCache, Recording
from tests.laws.judging import WAYS, Rule, Upstream, chat, vectors

ASKED = {"model": "my-llama", "messages": [{"role": "user", "content": "?"}]}


def answer(name: str) -> dict[str, Any]:
    return chat(top={"model": name})


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_under_a_strangers_name_is_not_kept_whatever_way_it_comes_in(way, asynchronous):
    """One client of a host that answered under its own name; then two questions, each asked twice."""
    seen: list[str] = []

    def rule(text: str, name: str) -> Rule:
        request = {"model": "my-llama", "seed": text}
        return Rule("", "", answer(name), vectors(0.5, model=name), request=request)

    async def ask() -> list[int]:
        cache: Any = (AsyncCache if asynchronous else Cache)("memory://")
        stop = cache.on_event(lambda event: seen.append(event.detail) if event.name == "unstored" else None)
        calls = []
        with one_client(cache):
            for text, name in (("a", "my-llama"), ("b", "my-qwen"), ("c", "org/my-llama")):
                upstream = Upstream(rule(text, name))
                for _ in range(2):
                    await WAYS[way](cache, upstream)
                calls.append(upstream.calls)
        stop()
        await now(cache.aclose() if asynchronous else cache.close())
        return calls

    assert asyncio.run(ask()) == [1, 2, 1]
    assert seen == ["other-model"] * 2


class one_client:  # noqa: N801 - a context
    """Makes a cache's http_client() return clients that share what the first learned, as one client would."""

    def __init__(self, cache: Any) -> None:
        self._cache, self._make = cache, cache.http_client

    def __enter__(self) -> None:
        fitting: list[Any] = []

        def made(**more: Any) -> Any:
            client = self._make(**more)
            rules = client._transport.rules
            fitting.append(rules._fitting)
            rules._fitting = fitting[0]
            return client

        self._cache.http_client = made

    def __exit__(self, *_: object) -> None:
        del self._cache.http_client


async def now(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


# --- over HTTP -----------------------------------------------------------------------------------------------------


def client_of(cache: Cache, replies: Any) -> Any:
    return cache.http_client(module=httpx2, inner=httpx2.MockTransport(replies))


def streamed(value: dict[str, Any]) -> httpx2.Response:
    (choice,) = value["choices"]
    head = {**value, "object": "chat.completion.chunk"}
    said = {**head, "choices": [{"index": 0, "delta": choice["message"], "finish_reason": None}]}
    ended = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in (said, ended)) + "data: [DONE]\n\n"
    return httpx2.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


@pytest.mark.parametrize("stream", [False, True], ids=["in one piece", "streams"])
@pytest.mark.parametrize(
    ("host", "asked", "got", "kept"),
    [
        ("api.openai.com", "gpt-4.1-mini", "moonshotai/kimi-k2", False),
        ("api.openai.com", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", True),
        ("eu.api.openai.com", "gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("mine.openai.azure.com/openai", "gpt-4o", "gpt-4.1-mini-2025-04-14", True),
        ("127.0.0.1:8000", "gpt-3.5-turbo", "llama-3.2-3b", True),
        ("openrouter.ai/api", "openrouter/auto", "anthropic/claude-sonnet-4.5", True),
    ],
)
def test_a_providers_own_host_answers_for_the_model_that_was_asked_for(host, asked, got, kept, stream):
    calls = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        calls.append(request.url)
        return streamed(answer(got)) if stream else httpx2.Response(200, json=answer(got))

    with Cache("memory://") as cache, client_of(cache, reply) as client:
        bodies = [
            client.post(f"https://{host}/v1/chat/completions", json={**ASKED, "model": asked, "stream": stream}).text
            for _ in range(2)
        ]
    assert len(calls) == 1 + (not kept)
    assert bodies[0] == bodies[1]
    assert got in bodies[0]


def test_answers_that_come_out_of_step_are_never_stored_where_ids_tell(caplog):
    """A connection that is shared by mistake: each request is answered with the answer to the one before."""
    late: list[httpx2.Request] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        late.append(request)
        meant = late[-2] if len(late) in (3, 4, 5) else request
        said = json.loads(meant.content)["messages"][0]["content"]
        value = chat(content=f"answer to {said}")
        return httpx2.Response(200, json=value, headers={"x-request-id": meant.headers["x-request-id"]})

    def ask(number: int, turn: str) -> str:
        body = {**ASKED, "model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
        headers = {"x-request-id": f"request {number} {turn}"}
        found = client.post("http://127.0.0.1:8000/v1/chat/completions", json=body, headers=headers)
        return str(found.json()["choices"][0]["message"]["content"])

    with Cache("memory://") as cache, client_of(cache, reply) as client:
        first = [ask(number, "first") for number in range(6)]
        second = [ask(number, "second") for number in range(6)]
        counts = cache.stats()
    assert first != [f"answer to question {number}" for number in range(6)]
    assert second == [f"answer to question {number}" for number in range(6)]
    assert counts["unstored.other-request"] == 3
    assert "an answer to another request" in caplog.text


@pytest.mark.parametrize("stream", [False, True], ids=["in one piece", "streams"])
def test_a_response_that_repeats_the_metadata_of_another_request_is_not_kept(stream):
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Paris."}]}]
    calls: list[str] = []

    def reply(request: httpx2.Request) -> httpx2.Response:
        calls.append(run := json.loads(request.content)["metadata"]["run"])
        run = "1" if run == "2" and calls.count("2") == 1 else run
        value = {"id": "r", "object": "response", "status": "completed", "output": output, "metadata": {"run": run}}
        if not stream:
            return httpx2.Response(200, json=value)
        events = [
            {"type": f"response.{name}", "response": {**value, "status": status}}
            for name, status in (("created", "in_progress"), ("completed", "completed"))
        ]
        text = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)
        return httpx2.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})

    with Cache("memory://") as cache, client_of(cache, reply) as client:
        for run in ("1", "1", "2", "2", "2"):
            body = {"model": "m", "input": "?", "metadata": {"run": run}, "stream": stream}
            assert client.post("http://127.0.0.1:8000/v1/responses", json=body).status_code == 200
        assert calls == ["1", "2", "2"]
        assert cache.stats()["unstored.other-request"] == 1


def test_a_recording_does_not_keep_what_was_said_to_another_request(tmp_path):
    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=answer("moonshotai/kimi-k2"))

    def ask(mode: str) -> int:
        with RecordedCache(Recording(tmp_path / "said.db", mode)) as cache, client_of(cache, reply) as client:
            return int(
                client.post("https://api.openai.com/v1/chat/completions", json={**ASKED, "model": "gpt-4o"}).status_code
            )

    assert ask("record") == 200
    assert ask("replay") == 504
