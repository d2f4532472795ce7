"""A whole answer told as a stream: core.assemble the other way round, by the same rules.

Each part is said at once, in the events and the order in which the protocol says it. Readers put pieces together, so
how many there are makes no difference to them; what they are given at the end is the answer that was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from askonce.core.exact import (
    CHAT_CHOICE,
    CHAT_HEAD,
    CHAT_SPOKEN,
    MESSAGE_BLOCKS,
    MESSAGE_DELTAS,
    MESSAGE_ENDS,
    Answer,
    Inexact,
    a_dict,
    a_list,
    a_value,
    sure,
)
from askonce.core.providers import Protocol

__all__ = ["to_stream"]


def to_stream(protocol: Protocol, answer: bytes, variant: str = "") -> bytes | None:
    """The stream that says a whole answer, in the variant asked for (`stream_variant`); None where not exact."""
    asked = frozenset(filter(None, variant.split(",")))
    make = _TO_STREAM.get(protocol.name)
    if make is None or not asked <= _VARIANTS:
        return None
    try:
        return b"".join(make(a_value(answer), asked))
    except Inexact:
        return None


_USAGE = "include_usage=true"
_ARRAY = "array"
_VARIANTS = frozenset({_USAGE, _ARRAY, "include_obfuscation=false"})  # we never pad


def _data(value: Answer) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _named(value: Answer) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)


# --- chat completions -------------------------------------------------------------------------------------------------


def _chat_stream(answer: Answer, asked: frozenset[str]) -> Iterable[bytes]:
    a_dict(answer, ("object", "choices", "usage", *_EVERY))
    head = {"object": "chat.completion.chunk"} | {name: answer[name] for name in _EVERY if name in answer}
    usage, choices = a_dict(answer.get("usage")), a_list(answer.get("choices"))
    sure(usage and choices)
    apart = _USAGE in asked
    chunks = [chunk for choice in choices for chunk in _chunks(choice)]
    for number, chunk in enumerate(chunks, 1):
        # Asked for, it comes last and alone; else with the last choice, where hosts put it that say it always.
        ended = {"usage": None} if apart else {"usage": usage} if number == len(chunks) else {}
        yield _data(head | {"choices": [chunk]} | ended)
    if apart:
        yield _data(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


_EVERY = (*CHAT_HEAD, "created", "x_groq")  # what every chunk says


def _chunks(choice: Answer) -> Iterable[Answer]:
    """One choice, as those of its chunks: the role, what was said, the calls, the end."""
    a_dict(choice, (*CHAT_CHOICE, "message"))
    message = a_dict(choice.get("message"), ("role", "tool_calls", *CHAT_SPOKEN))
    spoken = {name: message[name] for name in CHAT_SPOKEN if name in message}
    sure(choice.get("finish_reason") and all(isinstance(text, str | None) for text in spoken.values()))
    calls = a_list(message.get("tool_calls") or [])
    for call in calls:
        a_dict(a_dict(call, ("index", "id", "type", "function")).get("function"), ("name", "arguments"))
    deltas: list[Answer] = [{"role": message.get("role")} | {name: text and "" for name, text in spoken.items()}]
    deltas += [{name: spoken[name]} for name in reversed(CHAT_SPOKEN) if spoken.get(name)]  # thoughts first
    deltas += [{"tool_calls": [call | {"index": index}]} for index, call in enumerate(calls)]
    head = {"index": choice.get("index"), "finish_reason": None}
    silent = {name: None for name in ("native_finish_reason", "logprobs") if name in choice}
    for number, delta in enumerate(deltas, 1):
        heard = {"logprobs": choice["logprobs"]} if "logprobs" in choice and number == len(deltas) else {}
        yield head | {"delta": delta} | silent | heard
    ends = {name: choice[name] for name in ("finish_reason", "native_finish_reason") if name in choice}
    yield head | {"delta": {}} | silent | ends


# --- responses --------------------------------------------------------------------------------------------------------


def _responses_stream(answer: Answer, _asked: frozenset[str]) -> Iterable[bytes]:
    sure(answer.get("object") == "response" and answer.get("status") == "completed" and answer.get("usage"))
    anew = {name: None for name in ("usage", "completed_at") if name in answer}
    begun = answer | anew | {"status": "in_progress", "output": []}
    events = [{"type": f"response.{step}", "response": begun} for step in ("created", "in_progress")]
    for place, item in enumerate(a_list(answer.get("output"))):
        events += _item(item, {"output_index": place, "item_id": item.get("id")})
    events.append({"type": "response.completed", "response": answer})
    return [_named(event | {"sequence_number": number}) for number, event in enumerate(events)]


def _item(item: Answer, where: Answer) -> Iterable[Answer]:
    say = _ITEMS.get(str(item.get("type")))
    if say is None:
        raise Inexact
    opened, events = say(item)
    place = {"output_index": where["output_index"]}
    yield {"type": "response.output_item.added", "item": item | opened} | place
    for event in events:
        yield event | where
    yield {"type": "response.output_item.done", "item": item} | place


def _said_message(item: Answer) -> tuple[Answer, list[Answer]]:
    parts = a_list(item.get("content"))
    events = [event for place, part in enumerate(parts) for event in _said_part(part, {"content_index": place})]
    return {"status": "in_progress", "content": []}, events


def _said_part(part: Answer, where: Answer) -> list[Answer]:
    a_dict(part, ("type", "text", "annotations", "logprobs"))
    sure(part.get("type") == "output_text" and isinstance(part.get("text"), str))
    empty = part | {"text": ""} | {name: [] for name in ("annotations", "logprobs") if name in part}
    logprobs = {"logprobs": part.get("logprobs") or []}
    notes = enumerate(a_list(part.get("annotations") or []))
    return [
        {"type": "response.content_part.added", "part": empty} | where,
        {"type": "response.output_text.delta", "delta": part["text"]} | logprobs | where,
        *(_note(index, note) | where for index, note in notes),
        {"type": "response.output_text.done", "text": part["text"]} | logprobs | where,
        {"type": "response.content_part.done", "part": part} | where,
    ]


def _note(index: int, note: Answer) -> Answer:
    return {"type": "response.output_text.annotation.added", "annotation_index": index, "annotation": note}


def _said_reasoning(item: Answer) -> tuple[Answer, list[Answer]]:
    sure(not item.get("content"))
    events: list[Answer] = []
    for place, part in enumerate(a_list(item.get("summary"))):
        sure(part.get("type") == "summary_text" and isinstance(part.get("text"), str))
        steps = (
            ("part.added", {"part": part | {"text": ""}}),
            ("text.delta", {"delta": part["text"]}),
            ("text.done", {"text": part["text"]}),
            ("part.done", {"part": part}),
        )
        events += [
            {"type": f"response.reasoning_summary_{step}", "summary_index": place} | what for step, what in steps
        ]
    return {"summary": []}, events


def _said_call(item: Answer) -> tuple[Answer, list[Answer]]:
    arguments = item.get("arguments")
    sure(isinstance(arguments, str))
    kind = "response.function_call_arguments"
    said = [{"type": f"{kind}.delta", "delta": arguments}, {"type": f"{kind}.done", "arguments": arguments}]
    return {"status": "in_progress", "arguments": ""}, said


_ITEMS = {"message": _said_message, "reasoning": _said_reasoning, "function_call": _said_call}


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages_stream(answer: Answer, _asked: frozenset[str]) -> Iterable[bytes]:
    a_dict(answer, ("id", "type", "role", "model", "content", "usage", "context_management", *MESSAGE_ENDS))
    usage = a_dict(answer.get("usage"))
    sure(answer.get("stop_reason") and usage)
    nothing = {name: None for name in (*MESSAGE_ENDS, "context_management") if name in answer}
    start = answer | nothing | {"content": [], "usage": usage | {"output_tokens": 0}}
    ends = {name: answer[name] for name in MESSAGE_ENDS if name in answer}
    managed = {name: answer[name] for name in ("context_management",) if name in answer}
    events: list[Answer] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(a_list(answer.get("content"))):
        opened, deltas = _opened(block)
        events.append({"type": "content_block_start", "index": index, "content_block": block | opened})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": ends, "usage": usage} | managed, {"type": "message_stop"}]
    return map(_named, events)


def _opened(block: Answer) -> tuple[Answer, list[Answer]]:
    """How a block starts, and what is said then."""
    sure(block.get("type") in MESSAGE_BLOCKS)
    opened: Answer = {}
    deltas: list[Answer] = []
    for kind, (name, piece) in MESSAGE_DELTAS.items():
        if value := block.get(name):
            opened[name] = empty = _EMPTY.get(name, "")
            sure(type(value) is type(empty))  # else these deltas would add up to something else
            pieces = (
                a_list(value) if name == "citations" else [orjson.dumps(value).decode() if name == "input" else value]
            )
            deltas += [{"type": kind, piece: one} for one in pieces]
    return opened, deltas


_EMPTY: dict[str, Any] = {"input": {}, "citations": []}


# --- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini_stream(answer: Answer, asked: frozenset[str]) -> Iterable[bytes]:
    """Of one chunk, which is a whole answer anyway."""
    candidates = a_list(answer.get("candidates"))
    sure(candidates and all(candidate.get("finishReason") for candidate in candidates))
    said = orjson.dumps(answer)
    return [b"[", said, b"]\n"] if _ARRAY in asked else [b"data: ", said, b"\r\n\r\n"]


_TO_STREAM: dict[str, Callable[[Answer, frozenset[str]], Iterable[bytes]]] = {
    "chat": _chat_stream,
    "responses": _responses_stream,
    "messages": _messages_stream,
    "gemini": _gemini_stream,
}
