"""Gists: the events of a stream folded into what is judged of the answer that they make up.

A gist is not the answer: it holds how each choice ended, what was said, and what was called. core.assemble makes
answers.
Nothing here may raise, whatever it is given.

The rules lean one way, as those of providers do. A stream without its last event is incomplete, whatever it held. Chat
has hosts that never send [DONE]: there the end has to show twice, in a finish reason for every choice and in the usage
that comes last, or else a stream that was cut before its [DONE] would pass for whole. Gemini has no last event; its
finish reasons come in the last chunk, so the end is upstream's own, and is never seen before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from askonce.core.answers import Answer, a_dict, any_of, dicts
from askonce.core.bedrock import converse_gist
from askonce.core.providers import PROTOCOLS, Protocol
from askonce.core.streamed import Read


def _chat(found: Read) -> Answer | None:
    """Also of the old completions, whose choices have a text in place of a delta."""
    choices: dict[str, Answer] = {}
    for chunk in found.values:
        for choice in dicts(chunk.get("choices")):
            into = choices.get(index := str(choice.get("index")))
            if into is None:
                into = choices[index] = {"finish_reason": None, "error": None, "message": {}, "text": []}
            _hear(choice, into)
    answer = {
        "object": "chat.completion",
        "choices": [_said(choice) for choice in choices.values()],
        "usage": next(filter(None, map(_usage, reversed(found.values))), None),
    }
    finished = all(choice["finish_reason"] is not None for choice in choices.values())
    sure = found.done or not found.framed or bool(found.values and _usage(found.values[-1]))
    return answer if sure and finished else None


def _usage(chunk: Answer) -> Answer:
    usage = chunk.get("usage") or ("x_groq" in chunk and a_dict(chunk["x_groq"]).get("usage"))
    return usage if isinstance(usage, dict) else {}


def _hear(choice: Answer, into: Answer) -> None:
    # Once for each part of an answer: what is not there costs one look.
    if ended := choice.get("finish_reason"):
        into["finish_reason"] = ended
    if error := choice.get("error"):
        into["error"] = error
    if text := choice.get("text"):
        into["text"].append(text)
    message = into["message"]
    for name, piece in a_dict(choice.get("delta") or choice.get("message")).items():
        if piece:
            if name not in message:
                message[name] = []
            message[name].append(piece)


def _said(choice: Answer) -> Answer:
    message = choice["message"]
    joined = {name: _flat(message[name]) for name in ("content", "executed_tools") if name in message}
    pieces = [call for piece in message.get("tool_calls", ()) for call in dicts(piece)]
    # Some hosts give every call the index 0, others none: then ids tell calls apart.
    ids, indices = ({str(call.get(name)) for call in pieces if call.get(name) is not None} for name in ("id", "index"))
    calls: list[Answer] = [{}] * max(len(ids), len(indices), bool(pieces))
    return {**choice, "message": {**message, **joined, "tool_calls": calls}}


def _flat(pieces: list[Any]) -> list[Any]:
    return [one for piece in pieces for one in (piece if isinstance(piece, list) else [piece])]


def _responses(found: Read) -> Answer | None:
    last = next((value for value in reversed(found.values) if str(value.get("type")) in _CLOSING), None)
    if last is None:
        return None
    items = [value.get("item") for value in found.values if value.get("type") == "response.output_item.done"]
    response = a_dict(last.get("response"))
    # Some hosts close with a response that holds nothing, having said it all before.
    return {**response, "output": response.get("output") or items}


_CLOSING = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def _messages(found: Read) -> Answer | None:
    message: Answer = {}
    blocks: dict[object, Answer] = {}
    texts: dict[object, list[str]] = {}
    closed: set[object] = set()
    ended = False
    for event in found.values:
        kind, index = event.get("type"), str(event.get("index"))
        if kind == "content_block_delta":
            blocks.setdefault(index, {})
            if isinstance(text := a_dict(event.get("delta")).get("text"), str):
                texts.setdefault(index, []).append(text)
        elif kind == "content_block_start":
            blocks[index] = dict(a_dict(event.get("content_block")))
        elif kind == "content_block_stop":
            closed.add(index)
        elif kind == "message_start":
            message = dict(a_dict(event.get("message")))
        elif kind == "message_delta":
            usage = a_dict(message.get("usage")) | a_dict(event.get("usage"))
            message |= a_dict(event.get("delta")) | {"usage": usage}
        ended = ended or kind == "message_stop"
    sound = closed >= blocks.keys() and all("type" in block for block in (message, *blocks.values()))
    content = [{**block, **_grown(block, texts.get(index))} for index, block in blocks.items()]
    return message | {"content": content} if ended and sound else None


def _grown(block: Answer, texts: list[str] | None) -> Answer:
    return {"text": "".join((str(block.get("text") or ""), *texts))} if texts else {}


def _gemini(found: Read) -> Answer:
    answer: Answer = {}
    candidates: dict[str, Answer] = {}
    for chunk in found.values:
        answer |= {name: held for name in _GEMINI if (held := any_of(chunk, name))}
        for candidate in dicts(chunk.get("candidates")):
            into = candidates.setdefault(str(candidate.get("index", 0)), {"finishReason": None, "parts": []})
            into |= {name: held for name in ("finishReason", "groundingMetadata") if (held := any_of(candidate, name))}
            into["parts"] += dicts(a_dict(candidate.get("content")).get("parts"))
    return answer | {"candidates": [{**one, "content": {"parts": one["parts"]}} for one in candidates.values()]}


_GEMINI = ("promptFeedback", "usageMetadata", "modelVersion")


class Kind(NamedTuple):
    """How a protocol streams: the gist of its events (None without the last), its last event, its first.

    `closes`: in AWS's frames, whose events are not found by their bytes, its gist tells the end.
    """

    protocol: Protocol
    gist: Callable[[Read], Answer | None]
    last: tuple[bytes, ...]
    opens: Callable[[Answer], bool]
    closes: bool = False


def _begins(field: str, *words: str) -> tuple[bytes, ...]:
    return tuple(f"{field}:{blank}{word}".encode() for blank in (" ", "") for word in words)


def _typed(*kinds: str) -> tuple[bytes, ...]:
    """Events of these types, named or not."""
    return _begins("event", *kinds) + _begins(
        "data", *(f'{{"type":{blank}"{kind}"' for kind in kinds for blank in ("", " "))
    )


_ROWS = {protocol.name: protocol for protocol in PROTOCOLS}
_DONE = _begins("data", "[DONE]")
KINDS = {
    kind.protocol.name: kind
    for kind in (
        Kind(
            _ROWS["chat"],
            _chat,
            _DONE,
            lambda v: v.get("object") == "chat.completion.chunk" or "delta" in next(iter(dicts(v.get("choices"))), {}),
        ),
        Kind(_ROWS["completions"], _chat, _DONE, lambda v: v.get("object") == "text_completion"),
        Kind(_ROWS["responses"], _responses, _typed(*sorted(_CLOSING)), lambda v: v.get("type") == "response.created"),
        Kind(
            _ROWS["messages"],
            _messages,
            _typed("message_stop"),
            lambda v: v.get("type") == "message_start",
            closes=True,
        ),
        Kind(
            _ROWS["converse"], lambda found: converse_gist(found.values), (), lambda v: "messageStart" in v, closes=True
        ),
        Kind(_ROWS["gemini"], _gemini, (), _ROWS["gemini"].recognises),
    )
}
