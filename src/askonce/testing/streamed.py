"""The stream of a scripted answer: one pure function from an answer to the events that its provider would send.

A text is sent word by word. The words, put together, are the text of the whole answer, and the last events carry its
ending and its usage, so both forms of one call can be compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from askonce.testing.answers import Body, Protocol, error

STREAMED: Mapping[Protocol, Callable[[Any, Body], Iterator[Body]]]
DONE = "[DONE]"  # how a chat completion's stream ends; the other protocols end with an event


def words(text: str) -> list[str]:
    """A text in the pieces that a stream sends: each a word, with the spaces before it."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def events(request: Any, protocol: Protocol, made: Body) -> list[Body]:
    """The events of an answer's stream, in order. KeyError for a protocol that has no streams (embeddings)."""
    return list(STREAMED[protocol](request, made))


def frames(protocol: Protocol, sent: list[Body]) -> list[bytes]:
    """Events as server-sent events: one frame each, with a name where the protocol gives one."""
    named = protocol in ("openai.responses", "anthropic.messages")
    made = [frame(event, named=named) for event in sent]
    return [*made, f"data: {DONE}\n\n".encode()] if protocol == "openai.chat" else made


def array_pieces(sent: list[Body]) -> list[bytes]:
    """Events as one JSON array, a piece for each, as Gemini's API sends them where server-sent events are not asked."""
    texts = [json.dumps(event, ensure_ascii=False).encode() for event in sent]
    return [
        (b"[" if not at else b",\r\n") + text + (b"]" if at == len(texts) - 1 else b"") for at, text in enumerate(texts)
    ]


def frame(event: Body, *, named: bool) -> bytes:
    """One server-sent event."""
    line = f"event: {event['type']}\n" if named else ""
    return f"{line}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def trouble(status: int, protocol: Protocol) -> bytes:
    """The frame by which a provider reports trouble in the middle of a stream."""
    made = error(status, protocol)
    if protocol == "openai.responses":
        made = {"type": "error", "code": made["error"]["type"], "message": made["error"]["message"], "param": None}
    return frame(made, named="type" in made)


def _chat(request: Any, made: Body) -> Iterator[Body]:
    head = {name: made[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    counted = bool((request.get("stream_options") or {}).get("include_usage"))
    for choice in made["choices"]:
        for delta in _chat_deltas(choice["message"]):
            yield head | {"choices": [_chat_choice(choice, delta, None)]} | ({"usage": None} if counted else {})
    ends = [_chat_choice(choice, {}, choice["finish_reason"]) for choice in made["choices"]]
    for end in ends:
        yield head | {"choices": [end]} | ({"usage": None} if counted else {})
    if counted:
        yield head | {"choices": [], "usage": made["usage"]}


def _chat_choice(choice: Body, delta: Body, finish: str | None) -> Body:
    return {"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": finish}


def _chat_deltas(message: Body) -> Iterator[Body]:
    yield {"role": "assistant", "content": ""}
    for word in words(message["content"] or ""):
        yield {"content": word}
    for word in words(message["refusal"] or ""):
        yield {"refusal": word}
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": function | {"arguments": ""}}]}
        for word in words(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": word}}]}


def _responses(request: Any, made: Body) -> Iterator[Body]:
    del request
    begun = made | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    sent = [{"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun}]
    for index, item in enumerate(made["output"]):
        sent += _item(item, index)
    sent.append({"type": f"response.{made['status']}", "response": made})
    for number, event in enumerate(sent):
        yield event | {"sequence_number": number}


def _item(item: Body, index: int) -> Iterator[Body]:
    at = {"output_index": index}
    empty: Body = {"content": []} if "content" in item else {"arguments": ""}
    hollow = item | {"status": "in_progress"} | empty
    yield {"type": "response.output_item.added", "item": hollow} | at
    at["item_id"] = item["id"]
    if "content" in item:
        for part, content in enumerate(item["content"]):
            yield from _content(content, at | {"content_index": part})
    else:
        for word in words(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", "delta": word} | at
        done = {"arguments": item["arguments"], "name": item["name"]}
        yield {"type": "response.function_call_arguments.done"} | done | at
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _content(part: Body, at: Body) -> Iterator[Body]:
    field, name = ("refusal", "refusal") if part["type"] == "refusal" else ("text", "output_text")
    logged: Body = {} if field == "refusal" else {"logprobs": []}
    yield {"type": "response.content_part.added", "part": part | {field: ""}} | at
    for word in words(part[field]):
        yield {"type": f"response.{name}.delta", "delta": word} | logged | at
    yield {"type": f"response.{name}.done", field: part[field]} | logged | at
    yield {"type": "response.content_part.done", "part": part} | at


def _messages(request: Any, made: Body) -> Iterator[Body]:
    del request
    usage = made["usage"]
    begun = made | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    for index, block in enumerate(made["content"]):
        yield from _block(block, index)
    ended = {"stop_reason": made["stop_reason"], "stop_sequence": made["stop_sequence"]}
    yield {"type": "message_delta", "delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _block(block: Body, index: int) -> Iterator[Body]:
    text = block["type"] == "text"
    empty: Body = {"text": ""} if text else {"input": {}}
    yield {"type": "content_block_start", "index": index, "content_block": block | empty}
    yield {"type": "ping"}
    for word in words(block["text"] if text else json.dumps(block["input"])):
        delta = {"type": "text_delta", "text": word} if text else {"type": "input_json_delta", "partial_json": word}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _gemini(request: Any, made: Body) -> Iterator[Body]:
    del request
    (candidate,) = made["candidates"]
    parts = [{"text": word} for part in candidate["content"]["parts"] for word in words(part.get("text", ""))]
    parts += [part for part in candidate["content"]["parts"] if "text" not in part]
    for part in parts[:-1]:
        yield made | {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
    ended = candidate | {"content": {"role": "model", "parts": parts[-1:]}}
    yield made | {"candidates": [ended]}


def _plain(request: Any, made: Body) -> Iterator[Body]:
    del request
    for word in words(made["answer"]):
        yield {"text": word}
    yield {"id": made["id"], "shape": made["shape"]}


STREAMED = {
    "openai.chat": _chat,
    "openai.responses": _responses,
    "anthropic.messages": _messages,
    "gemini.generate": _gemini,
    "plain": _plain,
}
