"""Bedrock's Converse.

An event is read as ``{name: payload}``, as boto3 returns it and as Nova writes it at InvokeModel. Its metadata come
last.
"""

from __future__ import annotations

from collections.abc import Iterator

from askonce.core.providers.answers import CALL, Answer, Part, a_dict, dicts, has_text, searches
from askonce.core.providers.api import Api, Left, Mark, Path, Stream
from askonce.core.providers.patterns import pattern
from askonce.core.providers.routes import STEP, Body, turns
from askonce.core.providers.streamed import Read

__all__ = ["API", "asks_converse", "at_bedrock"]

# --- requests ----------------------------------------------------------------------------------------------------

# An id, or an ARN, in which older SDKs do not quote the slash. Outside of Bedrock an id has to look like Bedrock's.
_ARN = r"arn(?::|%3[aA])aws[^/;]*(?:/[^/;]+)?"
_MODEL = f"/model/(?P<model>{_ARN}|{STEP})"
_LIKE = rf"/model/(?P<model>{_ARN}|(?:[a-z][\w-]*\.)+[\w:%.-]+)"
_DRAFT = pattern(r":prompt/[^:]+$")  # a prompt without a version may be edited at any time


def at_bedrock(plain: str, streamed: str) -> tuple[Path, ...]:
    """The paths of an operation: at Bedrock, and elsewhere for models whose id looks like Bedrock's."""
    return tuple(
        Path(model, at, ends=(plain, streamed), framed=True, settled=lambda name: _DRAFT.search(name) is None)
        for model, at in ((_MODEL, "bedrock"), (_LIKE, ""))
    )


def asks_converse(body: Body, _named: bool) -> bool:
    """Whether a body is a request of it: its content blocks have no type."""
    return turns(body, _blocks)


def _blocks(content: object) -> bool:
    """Its blocks, and Nova's: a block is known by its one key, not by a type."""
    return isinstance(content, list) and all(isinstance(block, dict) and "type" not in block for block in content)


def _unmark(body: Body) -> None:
    """Remove whole blocks that hold only a cache point."""
    config = body.get("toolConfig")
    holders = [(body, "system"), (config, "tools"), *((turn, "content") for turn in dicts(body.get("messages")))]
    for holder, name in holders:
        if isinstance(holder, dict) and isinstance(blocks := holder.get(name), list):
            holder[name] = [
                block for block in blocks if not (isinstance(block, dict) and block.keys() == {"cachePoint"})
            ]


# --- answers -----------------------------------------------------------------------------------------------------


def _parts(value: Answer) -> Iterator[Part]:
    message = a_dict(a_dict(value.get("output")).get("message"))
    yield _blocks_part(dicts(message.get("content")), value.get("stopReason"))


def _blocks_part(blocks: list[Answer], finish: object) -> Part:
    spoken = [block for block in blocks if "reasoningContent" not in block]
    uses = [a_dict(block["toolUse"]) for block in blocks if "toolUse" in block]
    served = [str(use.get("name")) for use in uses if use.get("type") == "server_tool_use"]
    return Part(
        finish,
        has_text(spoken),
        len(uses) - len(served),
        not (all(map(searches, served)) and all(map(_OWN.issuperset, blocks))),
        searched=bool(served),
        said=[*map(_cited, spoken)],
    )


# What the model itself says, or asks for. Tools that the provider runs made everything else.
_OWN = frozenset(
    {"text", "reasoningContent", "toolUse", "citationsContent", "citations", "image", "video", "audio", "document"}
    | {"cachePoint", "toolResult"}  # of a tool whose use stands before it
)


def _cited(block: Answer) -> object:
    """A block that cites, with its text one level up."""
    return a_dict(block["citationsContent"]).get("content") if "citationsContent" in block else block


# --- streams -----------------------------------------------------------------------------------------------------


def _gist(found: Read) -> Answer | None:
    """The gist of its events; None without the last."""
    blocks: dict[str, Answer] = {}
    closed: set[str] = set()
    answer: Answer = {}
    for name, payload in ((name, a_dict(payload)) for value in found.values for name, payload in value.items()):
        index = str(payload.get("contentBlockIndex"))
        if name == "contentBlockDelta":
            _add_delta(a_dict(payload.get("delta")), blocks.setdefault(index, {}))
        elif name == "contentBlockStart":
            blocks.setdefault(index, {}).update(a_dict(payload.get("start")))
        elif name == "contentBlockStop":
            closed.add(index)
        elif name == "messageStop":
            answer["stopReason"] = payload.get("stopReason")
        elif name == "metadata":
            answer["usage"] = payload.get("usage")
    if not (closed >= blocks.keys() and answer.keys() >= {"stopReason", "usage"}):
        return None
    return answer | {"output": {"message": {"role": "assistant", "content": list(map(_whole, blocks.values()))}}}


def _add_delta(delta: Answer, into: Answer) -> None:
    for name, piece in delta.items():
        if name == "text":
            into.setdefault("text", []).append(piece)
        elif name == "citation":
            into.setdefault("citations", []).append(piece)
        else:
            into.setdefault(name, piece)


def _whole(block: Answer) -> Answer:
    """A block as an answer in one piece has it: the text of a citing block is one level down."""
    pieces = block.get("text")
    if not isinstance(pieces, list):
        return block
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    cited = block.get("citations")
    return {"citationsContent": {"content": [{"text": text}], "citations": cited}} if cited else {**block, "text": text}


_EVENTS = ("messageStart", "contentBlockDelta", "messageStop")
API = Api(
    "converse",
    paths=at_bedrock("/converse", "/converse-stream"),
    asks=asks_converse,
    left_out=(Left("requestMetadata", ("bedrock",), "labels for the account's own log; not repeated"),),
    marks=(Mark("cachePoint", ("bedrock",), "blocks of `system`, `messages` and `toolConfig.tools`", _unmark),),
    shape=lambda v: "stopReason" in v and isinstance(v.get("output"), dict),
    signs=("output", "toolUse", "message", "content"),
    parts=_parts,
    turn=lambda blocks, finish: _blocks_part(blocks, finish) if any("toolUse" in one for one in blocks) else None,
    fragment=lambda v: [CALL] if {"name", "input"} <= a_dict(v.get("toolUse")).keys() else [],
    tokens=(("usage",), ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"), ("outputTokens",)),
    stream=Stream(
        _gist,
        (),
        opens=lambda v: "messageStart" in v,
        shows=lambda v: any(name in v for name in _EVENTS),
        closes=True,
        signs=(*_EVENTS, "metadata"),
    ),
    error=lambda _, kind, message: ({"message": message}, [(b"x-amzn-errortype", kind.encode())]),
)
