"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from askonce.core.providers.answers import Answer, Part, a_dict, dicts, has_text, searches
from askonce.core.providers.api import STREAM, Api, Left, Mark, Path, Stream
from askonce.core.providers.exact import a_list, a_value, an_int, exactly, joined, sure
from askonce.core.providers.patterns import pattern
from askonce.core.providers.routes import Body, names_model, turns, typed, without
from askonce.core.providers.sse import named_event
from askonce.core.providers.sse import typed as events_of
from askonce.core.providers.streamed import Read

__all__ = ["API", "asks_in_cloud", "blocks_part", "telling"]

# --- requests ----------------------------------------------------------------------------------------------------


def _asks(body: Body, named: bool) -> bool:
    limit = body.get("max_tokens")
    counted = isinstance(limit, int | float) and not isinstance(limit, bool)
    return turns(body, typed) and counted and (named or names_model(body))


def asks_in_cloud(body: Body, _named: bool) -> bool:
    """Whether a body is a request of it, at a cloud whose path names the model."""
    return isinstance(body.get("anthropic_version"), str) and _asks(body, named=True)


def _unmark(body: Body) -> None:
    for block in (*dicts(body.get("system")), *dicts(body.get("tools"))):
        without(block, "cache_control")
    for turn in dicts(body.get("messages")):
        _unmark_content(turn.get("content"))


_INSIDE = (("content",), ("source", "content"), ("tool_references",), ("tool_changes",))


def _unmark_content(content: object) -> None:
    """Unmark blocks, also in tool results, documents and the tools that a turn adds."""
    for block in [content] if isinstance(content, dict) else dicts(content):
        without(block, "cache_control")
        for way in _INSIDE:
            _unmark_content(_at(block, way))
        if isinstance(tool := _at(block, ("tool", "definition")), dict):
            without(tool, "cache_control")


def _at(value: object, way: tuple[str, ...]) -> object:
    for name in way:
        value = value.get(name) if isinstance(value, dict) else None
    return value


# --- answers -----------------------------------------------------------------------------------------------------

_PLAIN = frozenset({"text", "thinking", "redacted_thinking", "compaction", "fallback", "tool_use"})


def _parts(value: Answer) -> Iterator[Part]:
    yield blocks_part(dicts(value.get("content")), value.get("stop_reason"))


def blocks_part(blocks: list[Answer], finish: object) -> Part:
    """The Part of Anthropic's content blocks and the ending beside them."""
    kinds = [str(block.get("type")) for block in blocks]
    # A call of a provider's tool has the tool's name; its result has it in its kind.
    ran = [
        str(block.get("name") if kind == "server_tool_use" else kind)
        for kind, block in zip(kinds, blocks, strict=True)
        if kind not in _PLAIN
    ]
    said = [block for block in blocks if block.get("type") != "fallback"]
    return Part(
        finish, has_text(said), kinds.count("tool_use"), not all(map(searches, ran)), searched=bool(ran), said=said
    )


def telling(blocks: list[Answer]) -> bool:
    """Whether the types of these blocks show that they are Anthropic's."""
    return any(_TELLING.fullmatch(str(block.get("type"))) for block in blocks)


_TELLING = pattern(r"(?:server_|mcp_)?tool_use|\w+_tool_result|(?:redacted_)?thinking")


def _fragment(value: Answer) -> Iterator[Part]:
    """The Part of a content block that is a tool call or a tool's result."""
    kind = str(value.get("type"))
    if not _TELLING.fullmatch(kind) or kind.endswith("thinking"):
        return
    if {"id", "name", "input"} <= value.keys() or "tool_use_id" in value:
        yield blocks_part([value], "end_turn")


# --- streams -----------------------------------------------------------------------------------------------------


def _gist(found: Read) -> Answer | None:
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
    content = [{**block, **_with_texts(block, texts.get(index))} for index, block in blocks.items()]
    return message | {"content": content} if ended and sound else None


def _with_texts(block: Answer, texts: list[str] | None) -> Answer:
    return {"text": "".join((str(block.get("text") or ""), *texts))} if texts else {}


# --- the two forms -----------------------------------------------------------------------------------------------

_ENDS = ("stop_reason", "stop_sequence", "stop_details", "container")
_DELTAS = {  # what a delta adds to, and which of its fields holds the piece
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("input", "partial_json"),
    "citations_delta": ("citations", "citation"),
}
_BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use")


def _json(found: Read) -> Answer:
    message: Answer = {}
    blocks: dict[int, tuple[Answer, dict[str, list[Any]]]] = {}
    for event in found.values:
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = exactly(event.get("delta"))
            name, piece = _DELTAS.get(str(delta.get("type")), ("", ""))
            index = an_int(event.get("index"))
            sure(name and index in blocks)
            blocks[index][1].setdefault(name, []).append(delta.get(piece))
        elif kind == "content_block_start":
            block = exactly(event.get("content_block"))
            sure(block.get("type") in _BLOCKS)
            blocks[an_int(event.get("index"))] = block, {}
        elif kind == "message_start":
            message = dict(exactly(event.get("message")))
        elif kind == "message_delta":
            message |= _ends_of(message, event)
        else:
            sure(kind in ("content_block_stop", "message_stop", "ping"))
    sure(message.get("stop_reason") and found.values[-1].get("type") == "message_stop")
    return message | {"content": [_whole_block(*blocks[index]) for index in sorted(blocks)]}


def _ends_of(message: Answer, event: Answer) -> Answer:
    exactly(event, ("type", "delta", "usage", "context_management"))
    usage = {name: count for name, count in exactly(event.get("usage")).items() if count is not None}
    managed = {name: event[name] for name in ("context_management",) if name in event}
    return exactly(event.get("delta"), _ENDS) | managed | {"usage": exactly(message.get("usage")) | usage}


def _whole_block(block: Answer, deltas: dict[str, list[Any]]) -> Answer:
    changed: Answer = {}
    for name, pieces in deltas.items():
        if name == "citations":
            changed[name] = [*(block.get(name) or []), *pieces]
        elif name == "input":
            changed[name] = a_value(joined(pieces).encode()) if any(pieces) else block.get(name)
        else:
            changed[name] = joined([block.get(name) or "", *pieces])
    return block | changed


def _stream(answer: Answer, _asked: frozenset[str]) -> Iterable[bytes]:
    exactly(answer, ("id", "type", "role", "model", "content", "usage", "context_management", *_ENDS))
    usage = exactly(answer.get("usage"))
    sure(answer.get("stop_reason") and usage)
    nothing = {name: None for name in (*_ENDS, "context_management") if name in answer}
    start = answer | nothing | {"content": [], "usage": usage | {"output_tokens": 0}}
    ends = {name: answer[name] for name in _ENDS if name in answer}
    managed = {name: answer[name] for name in ("context_management",) if name in answer}
    events: list[Answer] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(a_list(answer.get("content"))):
        opened, deltas = _block_deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": block | opened})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    events += [{"type": "message_delta", "delta": ends, "usage": usage} | managed, {"type": "message_stop"}]
    return map(named_event, events)


def _block_deltas(block: Answer) -> tuple[Answer, list[Answer]]:
    """The start of a block, and the deltas that follow it."""
    sure(block.get("type") in _BLOCKS)
    opened: Answer = {}
    deltas: list[Answer] = []
    for kind, (name, piece) in _DELTAS.items():
        if value := block.get(name):
            opened[name] = empty = _EMPTY.get(name, "")
            sure(type(value) is type(empty))  # otherwise these deltas add up to another value
            pieces = (
                a_list(value) if name == "citations" else [orjson.dumps(value).decode() if name == "input" else value]
            )
            deltas += [{"type": kind, piece: one} for one in pieces]
    return opened, deltas


_EMPTY: dict[str, Any] = {"input": {}, "citations": []}


API = Api(
    "messages",
    paths=(Path("/v1/messages", "anthropic"), Path("/anthropic/v1/messages", "azure"), Path("/v1/messages")),
    asks=_asks,
    left_out=(
        STREAM,
        Left("metadata", ("anthropic",), "holds user_id, an end user's id for abuse reports; not repeated"),
        Left("cache_control", ("anthropic",), "where a prompt cache may break: price and speed"),
    ),
    marks=(
        Mark(
            "cache_control",
            ("anthropic", "bedrock", "vertex", "azure"),
            "blocks of `system` and `messages` (also in tool results, documents and added tools), entries of `tools`",
            _unmark,
        ),
    ),
    shape=lambda v: v.get("type") == "message" and "stop_reason" in v and isinstance(v.get("content"), list),
    signs=("type", "content", "message"),
    parts=_parts,
    turn=lambda blocks, finish: blocks_part(blocks, finish) if telling(blocks) else None,
    fragment=_fragment,
    tokens=(("usage",), ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"), ("output_tokens",)),
    stream=Stream(
        _gist,
        events_of("message_stop"),
        opens=lambda v: v.get("type") == "message_start",
        shows=lambda v: str(v.get("type")).startswith(("message_start", "message_delta", "content_block_")),
        closes=True,
    ),
    to_json=_json,
    to_stream=_stream,
    error=lambda _, kind, message: ({"type": "error", "error": {"type": kind, "message": message}}, []),
)
