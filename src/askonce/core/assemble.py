"""A stored stream as the answer in one piece, and a stored answer as a stream: for questions asked in both forms.

What comes out says what the host would have said, and nothing is made up: content, endings, log probabilities, usage
and ids are the stored ones. Pieces are joined where joining is what the protocol means by them (text, arguments of a
call); a whole answer becomes a stream in which each part is said at once. What does not matter to a reader may differ:
how often a stream pauses, padding, empty fields (`annotations: []`).

Wherever that cannot be kept the answer is None, and upstream is asked: an event, a field or a kind of block that is not
known here and holds something, two chunks that contradict each other, a stream that never said its usage. Lists are
closed, so what a provider adds tomorrow is not lost from answers; it only costs a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from askonce.core.exact import (
    CHAT_CHOICE,
    CHAT_HEAD,
    CHAT_SPOKEN,
    LONG,
    MESSAGE_BLOCKS,
    MESSAGE_DELTAS,
    MESSAGE_ENDS,
    Answer,
    Inexact,
    a_dict,
    a_list,
    a_value,
    an_int,
    joined,
    settle,
    sure,
)
from askonce.core.providers import Protocol
from askonce.core.retell import to_stream
from askonce.core.scan import Read, read

__all__ = ["to_json", "to_stream"]


def to_json(protocol: Protocol, stream: bytes) -> bytes | None:
    """The answer that a whole stream makes up; None where it could not be exact."""
    found = read(stream)
    make = _TO_JSON.get(protocol.name)
    if make is None or found.failed or found.garbled or LONG.search(stream):
        return None
    try:
        return orjson.dumps(make(found))
    except Inexact:
        return None


# --- chat completions -------------------------------------------------------------------------------------------------

_PADDING = ("obfuscation", "p")


def _chat_json(found: Read) -> Answer:
    answer: Answer = {"object": "chat.completion"}
    usage: Answer = {}
    choices: dict[int, _Choice] = {}
    for chunk in found.values:
        a_dict(chunk, ("object", "created", "choices", "usage", "x_groq", *CHAT_HEAD, *_PADDING))
        answer.setdefault("created", chunk.get("created"))  # some hosts write the time of each chunk
        settle(answer, chunk, CHAT_HEAD)
        if groq := a_dict(chunk.get("x_groq") or {}, ("id", "seed", "usage")):
            settle(answer.setdefault("x_groq", {}), groq, ("id", "seed"))
        usage = chunk.get("usage") or groq.get("usage") or usage
        for choice in a_list(chunk.get("choices") or []):
            index = an_int(choice.get("index"))
            choices.setdefault(index, _Choice(index)).hear(choice)
    sure(usage and choices)
    said = [choices[index].answer() for index in sorted(choices)]
    return answer | {"choices": said, "usage": usage}


class _Choice:
    """One choice of a chat stream, from its deltas."""

    def __init__(self, index: int) -> None:
        self._settled: Answer = {"index": index}
        self._role: Answer = {}
        self._said: dict[str, list[object]] = {}
        self._logprobs: list[object] = []
        self._calls: dict[int, _Call] = {}

    def hear(self, choice: Answer) -> None:
        a_dict(choice, (*CHAT_CHOICE, "delta"))
        settle(self._settled, choice, ("finish_reason", "native_finish_reason"))
        if "logprobs" in choice:
            self._logprobs.append(choice["logprobs"])
        # channel: Groq's, for deltas of reasoning; its answers in one piece do not have it.
        delta = a_dict(choice.get("delta") or {}, ("role", "channel", "tool_calls", *CHAT_SPOKEN))
        settle(self._role, delta, ("role",))
        for name in CHAT_SPOKEN:
            if name in delta:
                self._said.setdefault(name, []).append(delta[name])
        for call in a_list(delta.get("tool_calls") or []):
            self._calls.setdefault(an_int(call.get("index")), _Call()).hear(call)

    def answer(self) -> Answer:
        sure(self._settled.get("finish_reason"))
        message: Answer = {"role": self._role.get("role"), "content": None}
        message |= {name: _spoken(pieces) for name, pieces in self._said.items()}
        if self._calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [self._calls[index].answer() for index in sorted(self._calls)]
        logprobs = {"logprobs": _logprobs(self._logprobs)} if self._logprobs else {}
        return self._settled | {"message": message} | logprobs


class _Call:
    """One tool call of a chat stream."""

    def __init__(self) -> None:
        self._settled: Answer = {}
        self._name: Answer = {}
        self._arguments: list[object] = []

    def hear(self, call: Answer) -> None:
        a_dict(call, ("index", "id", "type", "function"))
        settle(self._settled, call, ("id", "type"))
        function = a_dict(call.get("function") or {}, ("name", "arguments"))
        settle(self._name, function, ("name",))
        self._arguments.append(function.get("arguments") or "")

    def answer(self) -> Answer:
        sure(self._settled.get("id") and self._name.get("name"))
        return self._settled | {"function": self._name | {"arguments": joined(self._arguments)}}


def _spoken(pieces: list[object]) -> str | None:
    said = [piece for piece in pieces if piece is not None]
    return joined(said) if said else None


def _logprobs(heard: list[object]) -> Answer | None:
    said = [a_dict(one, ("content", "refusal")) for one in heard if one is not None]
    names = {name: None for one in said for name in one}
    joined = {name: [token for one in said for token in a_list(one.get(name) or [])] or None for name in names}
    return joined if said else None


# --- responses --------------------------------------------------------------------------------------------------------


def _responses_json(found: Read) -> Answer:
    last = [value for value in found.values if value.get("type") == "response.completed"]
    sure(len(last) == 1)
    response = a_dict(last[0].get("response"))
    sure(response.get("usage") and response.get("output"))
    done = [value for value in found.values if value.get("type") == "response.output_item.done"]
    items = [a_dict(value.get("item")) for value in sorted(done, key=lambda value: an_int(value.get("output_index")))]
    # The last event says it all once more, except where a host leaves out of it what it streamed.
    sure(not items or list(map(_bare, items)) == list(map(_bare, a_list(response["output"]))))
    return response


def _bare(item: Answer) -> Answer:
    """An item without what hosts write anew each time they say it."""
    return {name: value for name, value in item.items() if name not in ("id", "encrypted_content", "status")}


# --- messages ---------------------------------------------------------------------------------------------------------


def _messages_json(found: Read) -> Answer:
    message: Answer = {}
    blocks: dict[int, tuple[Answer, dict[str, list[Any]]]] = {}
    for event in found.values:
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = a_dict(event.get("delta"))
            name, piece = MESSAGE_DELTAS.get(str(delta.get("type")), ("", ""))
            index = an_int(event.get("index"))
            sure(name and index in blocks)
            blocks[index][1].setdefault(name, []).append(delta.get(piece))
        elif kind == "content_block_start":
            block = a_dict(event.get("content_block"))
            sure(block.get("type") in MESSAGE_BLOCKS)
            blocks[an_int(event.get("index"))] = block, {}
        elif kind == "message_start":
            message = dict(a_dict(event.get("message")))
        elif kind == "message_delta":
            message |= _end(message, event)
        else:
            sure(kind in ("content_block_stop", "message_stop", "ping"))
    sure(message.get("stop_reason") and found.values[-1].get("type") == "message_stop")
    return message | {"content": [_block(*blocks[index]) for index in sorted(blocks)]}


def _end(message: Answer, event: Answer) -> Answer:
    a_dict(event, ("type", "delta", "usage", "context_management"))
    usage = {name: count for name, count in a_dict(event.get("usage")).items() if count is not None}
    managed = {name: event[name] for name in ("context_management",) if name in event}
    return a_dict(event.get("delta"), MESSAGE_ENDS) | managed | {"usage": a_dict(message.get("usage")) | usage}


def _block(block: Answer, heard: dict[str, list[Any]]) -> Answer:
    grown: Answer = {}
    for name, pieces in heard.items():
        if name == "citations":
            grown[name] = [*(block.get(name) or []), *pieces]
        elif name == "input":
            grown[name] = a_value(joined(pieces).encode()) if any(pieces) else block.get(name)
        else:
            grown[name] = joined([block.get(name) or "", *pieces])
    return block | grown


# --- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini_json(found: Read) -> Answer:
    answer: Answer = {}
    candidates: dict[int, Answer] = {}
    usage: Answer = {}
    for chunk in found.values:
        a_dict(chunk, ("candidates", "usageMetadata", *_GEMINI))
        settle(answer, chunk, _GEMINI)
        usage = chunk.get("usageMetadata") or usage
        for candidate in a_list(chunk.get("candidates")):
            index = an_int(candidate.get("index", 0))
            _candidate(candidates.setdefault(index, {"content": {"parts": []}}), candidate)
    said = [candidates[index] for index in sorted(candidates)]
    sure(usage and said and all(candidate.get("finishReason") for candidate in said))
    return {"candidates": said, "usageMetadata": usage} | answer


# Not createTime: Vertex has it, whose answers in one piece also have avgLogprobs, which its streams do not.
_GEMINI = ("modelVersion", "responseId")


def _candidate(into: Answer, said: Answer) -> None:
    a_dict(said, ("content", "finishReason", "finishMessage", "index"))
    settle(into, said, ("finishReason", "finishMessage", "index"))
    content = a_dict(said.get("content") or {}, ("parts", "role"))
    settle(into["content"], content, ("role",))
    parts = into["content"]["parts"]
    for part in a_list(content.get("parts") or []):
        before = parts[-1] if parts else {}
        # Signed parts stay apart: they are to be sent back as they came.
        if _plain(part) and _plain(before) and part.get("thought") == before.get("thought"):
            before["text"] += part["text"]
        else:
            parts.append(dict(part))


def _plain(part: Answer) -> bool:
    return isinstance(part.get("text"), str) and part.keys() <= {"text", "thought"}


_TO_JSON: dict[str, Callable[[Read], Answer]] = {
    "chat": _chat_json,
    "responses": _responses_json,
    "messages": _messages_json,
    "gemini": _gemini_json,
}
