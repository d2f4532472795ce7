"""The parts of the law of judging: the rules, each with a request and an answer that breaks it; and all ways in.

A rule is one line: the question's own fields, the answer, and the reason why it is not kept. A way in is a function
that asks a cache for a rule's question once, in either mode, with an upstream that counts.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from askonce import AsyncCache, Cache
from askonce.errors import NotCached
from askonce.recording.caches import RecordedAsyncCache, RecordedCache, Recording

HOST = "https://llm.example.com/v1"
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CITED = [{"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "t"}}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
PAST = 1_000_000_001  # s since 1970


def chat(finish: str | None = "stop", *, top: Mapping[str, Any] = {}, **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": "Paris."} | message
    choice = {"index": 0, "message": told, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **top}


def vectors(*numbers: float, **top: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": list(numbers)}]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1}, **top}


@dataclass(frozen=True)
class Rule:
    """`why`: the word, "" for what is kept. `vectors`: the answer to a batch, None where a vector cannot break it."""

    name: str
    why: str
    answer: dict[str, Any] = field(default_factory=chat)
    vectors: dict[str, Any] | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)
    passes: bool = False  # nothing is looked up
    recorded: bool = True  # a recording keeps it all the same


def asking(name: str, why: str, **request: Any) -> Rule:
    """A rule about what is asked."""
    return Rule(name, why, request=request, vectors=vectors(0.5), passes=True)


OVERLOADED = {"error": {"message": "try again", "type": "overloaded_error", "code": 503}}
RULES = (
    Rule("a whole answer", "", vectors=vectors(0.5)),
    Rule("a truncated answer", "truncated", chat("length")),
    Rule("a filtered answer", "filtered", chat("content_filter", content=None)),
    Rule("a refusal", "refused", chat(content=None, refusal="I can't.")),
    Rule("an empty answer", "empty", chat(content=""), vectors()),
    Rule("an answer without an end", "incomplete", chat(None)),
    Rule("an unknown finish reason", "unknown-ending", chat("of_tomorrow")),
    Rule("an error in an answer", "error", OVERLOADED, OVERLOADED, recorded=False),
    Rule("a tool call", "tool-call", chat("tool_calls", content=None, tool_calls=[CALL])),
    Rule("a tool run by the provider", "server-tool", chat(executed_tools=[{"type": "python"}])),
    Rule("an answer with sources", "searched", chat(annotations=CITED)),
    Rule(
        "an answer whose own end has passed",
        "expired",
        chat(top={"expires_at": PAST}),
        vectors(0.5, expires_at=PAST),
    ),
    Rule(
        "an answer that should be JSON and is not",
        "invalid-json",
        chat(content='Sure! {"city": "Par'),
        request={"response_format": {"type": "json_object"}},
    ),
    Rule("an answer that `store_if` rejects", "store-if", chat(), vectors(0.5), own={"store_if": lambda _: False}),
    asking("a request that offers tools", "tools", tools=[FUNCTION]),
    asking("tools that the provider runs", "server-tools", tools=[{"type": "web_search"}]),
    asking("a model that searches", "server-tools", model="perplexity/sonar"),
    asking("a field that may depend on the world", "field-data_sources", data_sources=[{"type": "azure_search"}]),
    asking("state stored by the provider", "previous-response", previous_response_id="resp_1"),
    asking("a background call", "background", background=True),
)


# --- upstream ----------------------------------------------------------------------------------------------------


def chunks(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer as a stream tells it."""
    if "choices" not in answer:
        return [dict(answer)]
    (choice,) = answer["choices"]
    head = {"object": "chat.completion.chunk"} | {n: answer[n] for n in answer.keys() - {"choices", "object"}}
    said = {"index": 0, "delta": choice["message"], "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
    return [{**head, "choices": [said]}, {**head, "choices": [ended]}]


@dataclass
class Upstream:
    """Answers as a rule says, and counts."""

    rule: Rule
    calls: int = 0

    def value(self) -> Any:
        self.calls += 1
        return self.rule.answer

    def items(self) -> Iterator[Any]:
        self.calls += 1
        return iter(chunks(self.rule.answer))

    def items_async(self) -> AsyncIterator[Any]:
        async def told() -> AsyncIterator[Any]:
            for item in self.items():
                yield item

        return told()

    def reply(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        body = json.loads(request.content)
        if request.url.path.endswith("/embeddings"):
            return httpx2.Response(200, json=self.rule.vectors)
        if not body.get("stream"):
            return httpx2.Response(200, json=self.rule.answer)
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(self.rule.answer)]
        content = "".join([*events, "data: [DONE]\n\n"]).encode()
        return httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})


# --- ways in -----------------------------------------------------------------------------------------------------

Way = Callable[[Any, Upstream], Awaitable[None]]


async def _now(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _request(rule: Rule) -> dict[str, Any]:
    return {**ASKED, **rule.request}


async def get_or_set(cache: Any, upstream: Upstream) -> None:
    rule = upstream.rule
    await _now(cache.get_or_set(call_fn=upstream.value, **_request(rule), **rule.own))


async def fetch(cache: Any, upstream: Upstream) -> None:
    await _now(cache.fetch(_request(upstream.rule), upstream.value, **upstream.rule.own))


async def fetch_stream(cache: Any, upstream: Upstream) -> None:
    request, own = _request(upstream.rule), upstream.rule.own
    if isinstance(cache, AsyncCache):
        async for _ in await cache.fetch_stream(request, upstream.items_async, **own):
            pass
    else:
        for _ in cache.fetch_stream(request, upstream.items, **own):
            pass


async def _posted(cache: Any, upstream: Upstream, path: str, body: dict[str, Any]) -> None:
    client = cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream.reply), **upstream.rule.own)
    response = await _now(client.post(f"{HOST}{path}", json=body))
    await _now(client.aclose() if isinstance(cache, AsyncCache) else client.close())
    if response.status_code == 504:
        raise NotCached("", "")


async def http(cache: Any, upstream: Upstream) -> None:
    await _posted(cache, upstream, "/chat/completions", _request(upstream.rule))


async def http_stream(cache: Any, upstream: Upstream) -> None:
    await _posted(cache, upstream, "/chat/completions", {**_request(upstream.rule), "stream": True})


async def batch(cache: Any, upstream: Upstream) -> None:
    rule = upstream.rule
    await _posted(cache, upstream, "/embeddings", {"model": "m", "input": "?", **rule.request})


WAYS: dict[str, Way] = {
    "get_or_set": get_or_set,
    "fetch": fetch,
    "fetch_stream": fetch_stream,
    "http": http,
    "http, streams": http_stream,
    "http, batches": batch,
}
RECORDED: dict[str, Way] = {
    "recording": fetch,
    "recording, items": fetch_stream,
    "recording, http": http,
    "recording, streams": http_stream,
}
# Cut bytes are not what was said; an answer in one piece, or an iterator that ended, is.
NOT_SAID = {("recording, streams", "incomplete")}


@dataclass
class Seen:
    """What became of a question that was asked twice."""

    kept: bool
    why: str


def ask_twice(way: Way, rule: Rule, *, asynchronous: bool) -> Seen:
    """Ask a cache twice, and say whether the second time was answered from it, and why not."""
    upstream, heard = Upstream(rule), list[str]()

    async def ask() -> None:
        cache: Any = (AsyncCache if asynchronous else Cache)("memory://")
        stop = cache.on_event(
            lambda event: (
                heard.append(event.detail)
                if event.name == "unstored" or (event.status and event.status.fwd == "bypass")
                else None
            )
        )
        for _ in range(2):
            await way(cache, upstream)
        stop()
        await _now(cache.aclose() if asynchronous else cache.close())

    asyncio.run(ask())
    assert len(set(heard)) <= 1, heard
    return Seen(upstream.calls == 1, heard[0] if heard else "")


def record_and_replay(way: Way, rule: Rule, *, asynchronous: bool) -> bool:
    """Whether what was recorded is replayed."""
    upstream = Upstream(rule)
    kind: Any = RecordedAsyncCache if asynchronous else RecordedCache

    async def ask(path: Path, mode: str) -> None:
        cache = kind(Recording(path, mode))
        try:
            await way(cache, upstream)
        finally:
            await _now(cache.aclose() if asynchronous else cache.close())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.db"
        asyncio.run(ask(path, "record"))
        try:
            asyncio.run(ask(path, "replay"))
        except NotCached:
            return False
    assert upstream.calls == 1
    return True
