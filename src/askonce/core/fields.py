"""Which parts of a request's body stay out of its key, where, and why.

A field may be left out only of an operation whose answers neither repeat it nor depend on it, and only at hosts that
are known to treat it so: a gateway may choose a model, a price list or a customer by `user`. Only how an answer is told
(`stream`) is left out everywhere: the form is kept beside the key. What a field is for does not matter. The Responses
API says `metadata` back, so there it counts.

Marks are fields inside of blocks: where a provider's prompt cache may break, which changes the price and nothing else.
They are taken out where the provider documents them, and nowhere else: the schema of a tool, its input and texts may
hold a field of the same name that is the user's own.

The tables are data, and docs/keys.md is written from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from askonce.core.operations import Operation

__all__ = ["FORM", "LEFT_OUT", "MARKS", "PER_INPUT", "Left", "Mark", "left_out", "per_input", "unmark"]

Body = dict[str, Any]


class Left(NamedTuple):
    """A top-level field that does not count: in requests of which protocols, at whose hosts (none: at any)."""

    field: str
    protocols: tuple[str, ...]
    providers: tuple[str, ...]
    why: str


_OPENAI = ("openai", "azure")

LEFT_OUT = (
    Left(
        "stream",
        ("chat", "completions", "responses", "messages", "message"),
        (),
        "how the answer is told; an answer's form is kept beside its key",
    ),
    Left(
        "stream_options",
        ("chat", "completions", "responses"),
        (),
        "how a stream is told; what changes its bytes is kept beside the URL",
    ),
    Left("user", ("chat", "completions", "embeddings"), _OPENAI, "an end user's id for abuse reports; not repeated"),
    Left("safety_identifier", ("chat",), _OPENAI, "an end user's id for abuse reports; not repeated"),
    Left("prompt_cache_key", ("chat",), _OPENAI, "which prompt cache is looked into: price and speed"),
    Left("prompt_cache_retention", ("chat",), _OPENAI, "how long a prompt cache is kept: price and speed"),
    Left("metadata", ("messages",), ("anthropic",), "holds user_id, an end user's id for abuse reports; not repeated"),
    Left("cache_control", ("messages",), ("anthropic",), "where the prompt cache may break: price and speed"),
    Left("labels", ("gemini",), ("vertex",), "names the lines of a bill; not repeated"),
    Left("requestMetadata", ("converse",), ("bedrock",), "is written to the account's own log; not repeated"),
)
# Not here, though they look it: metadata and store of chat completions (a stored one says its metadata back),
# everything that the Responses API repeats (metadata, user, safety_identifier, store, prompt_cache_key,
# prompt_cache_retention), prompt_cache_options (may ask for diagnostics, or for no answer at all), service_tier and
# speed (answers say which, and cost differs by it), seed, moderation, OpenRouter's usage (they add to the answer).
FORM = frozenset({"stream", "stream_options"})


def left_out(operation: Operation) -> frozenset[str]:
    """The top-level fields that do not count in a request of this operation."""
    return _LEFT.get((operation.protocol.name, operation.provider)) or _LEFT[operation.protocol.name, ""]


# --- marks of prompt caches --------------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A field, or a block, that marks where a prompt cache may break; `places` says where it is taken out, in words."""

    field: str
    protocol: str
    providers: tuple[str, ...]
    places: str
    take: Callable[[Body], None]


def unmark(operation: Operation, body: Body, raw: bytes) -> None:
    """Take the marks of this operation out of `body`; `raw` is what it was parsed from."""
    for mark in _MARKS.get((operation.protocol.name, operation.provider), ()):
        if mark.field.encode() in raw:  # spares a walk through every block of every request
            mark.take(body)


def _dicts(value: object) -> Iterator[Body]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _without(block: Body, name: str) -> None:
    """Takes a mark off; what is not a dict is no mark, and none of ours to judge."""
    if isinstance(block.get(name, {}), dict | None):
        block.pop(name, None)


def _anthropic(body: Body) -> None:
    for block in (*_dicts(body.get("system")), *_dicts(body.get("tools"))):
        _without(block, "cache_control")
    for turn in _dicts(body.get("messages")):
        _content(turn.get("content"))


_INSIDE = (("content",), ("source", "content"), ("tool_references",), ("tool_changes",))


def _content(content: object) -> None:
    """Of blocks, and of the blocks in what a tool gave and in documents, and of tools that a turn adds."""
    for block in [content] if isinstance(content, dict) else _dicts(content):
        _without(block, "cache_control")
        for way in _INSIDE:
            _content(_at(block, way))
        if isinstance(tool := _at(block, ("tool", "definition")), dict):
            _without(tool, "cache_control")


def _at(value: object, way: tuple[str, ...]) -> object:
    for name in way:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _openai(body: Body) -> None:
    options = body.get("prompt_cache_options") or {}
    if not isinstance(options, dict) or not options.keys() <= {"mode", "ttl"}:
        return  # asked for diagnostics, the answer tells of the marks
    for item in (*_dicts(body.get("messages")), *_dicts(body.get("input")), *_dicts([body.get("prediction")])):
        for block in (*_dicts(item.get("content")), *_dicts(item.get("output"))):
            _without(block, "prompt_cache_breakpoint")


def _converse(body: Body) -> None:
    """Of whole blocks, which hold a point and nothing else."""
    config = body.get("toolConfig")
    holders = [(body, "system"), (config, "tools"), *((turn, "content") for turn in _dicts(body.get("messages")))]
    for holder, name in holders:
        if isinstance(holder, dict) and isinstance(blocks := holder.get(name), list):
            holder[name] = [
                block for block in blocks if not (isinstance(block, dict) and block.keys() == {"cachePoint"})
            ]


MARKS = (
    Mark(
        "cache_control",
        "messages",
        ("anthropic", "bedrock", "vertex", "azure"),
        "blocks of `system` and `messages` (also in tool results, documents and added tools), entries of `tools`",
        _anthropic,
    ),
    Mark("prompt_cache_breakpoint", "chat", _OPENAI, "content parts of `messages` and `prediction`", _openai),
    Mark("prompt_cache_breakpoint", "responses", _OPENAI, "content parts and outputs of `input`", _openai),
    Mark("cachePoint", "converse", ("bedrock",), "blocks of `system`, `messages` and `toolConfig.tools`", _converse),
)


# --- batches -----------------------------------------------------------------------------------------------------

# Fields of an embeddings request that say the same of each input, whatever the others are; a batch with any other field
# is one question. Not Jina's late_chunking, which reads all inputs as one text, nor what is not known at that host.
_EACH = frozenset({"model", "input", "encoding_format", "dimensions"})
PER_INPUT: dict[str, frozenset[str]] = {
    "": _EACH,
    "openai": _EACH | {"user"},
    "azure": _EACH | {"user", "input_type"},
    "mistral": _EACH | {"output_dimension", "output_dtype"},
    "voyage": _EACH | {"input_type", "truncation", "output_dimension", "output_dtype"},
}


def per_input(operation: Operation, body: Body) -> bool:
    """Whether an embeddings request may be cut into its inputs."""
    return body.keys() <= PER_INPUT.get(operation.provider, _EACH)


# --- the tables, as they are looked up ---------------------------------------------------------------------------


def _lookup() -> dict[tuple[str, str], frozenset[str]]:
    names = {name for left in LEFT_OUT for name in left.protocols} | {mark.protocol for mark in MARKS}
    homes = {name for left in LEFT_OUT for name in left.providers} | {""}
    return {
        (protocol, home): frozenset(
            left.field
            for left in LEFT_OUT
            if protocol in left.protocols and (not left.providers or home in left.providers)
        )
        for protocol in names
        for home in homes
    }


_LEFT = _lookup()
_MARKS = {
    (mark.protocol, home): [one for one in MARKS if one.protocol == mark.protocol and home in one.providers]
    for mark in MARKS
    for home in mark.providers
}
