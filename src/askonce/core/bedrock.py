"""Bedrock's streams: AWS's frames as the JSON objects in them, and Converse's events folded into their gist.

An event of Converse is read as ``{name: payload}``, which is also how boto3 hands it out, and how Nova writes it at
InvokeModel. Its metadata come last.
"""

from __future__ import annotations

from itertools import islice

from askonce.core import bounded, eventstream
from askonce.core.answers import Answer, a_dict

GUARDRAIL = "amazon-bedrock-guardrailAction"


def read_frames(body: bytes) -> tuple[list[Answer], bool, bool]:
    """The objects in the frames of a body; whether one of them is an error; whether there was anything else."""
    events = list(islice(eventstream.events(body), bounded.EVENTS + 1))
    sound = [event for event in events if event is not None]
    garbled = len(sound) != len(events) or len(events) > bounded.EVENTS
    if bounded.flooded(b"\n".join(event.data for event in sound)):
        return [], False, True
    values: list[Answer] = []
    error = any(event.failed for event in sound)
    for event in sound:
        if event.data.strip() == b"[DONE]":  # some models' own end, carried along
            continue
        value = _object(event.data)
        garbled = garbled or value is None
        values.append({event.name: value} if event.name else value or {})
        error = error or bool(values[-1].get("error")) or values[-1].get("type") == "error"
    return values, error, garbled


def _object(data: bytes) -> Answer | None:
    try:
        value = bounded.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# --- Converse ----------------------------------------------------------------------------------------------------


def converse_gist(values: list[Answer]) -> Answer | None:
    """What Converse's events make up; None without their last."""
    blocks: dict[str, Answer] = {}
    closed: set[str] = set()
    answer: Answer = {}
    for name, said in ((name, a_dict(said)) for value in values for name, said in value.items()):
        index = str(said.get("contentBlockIndex"))
        if name == "contentBlockDelta":
            _hear(a_dict(said.get("delta")), blocks.setdefault(index, {}))
        elif name == "contentBlockStart":
            blocks.setdefault(index, {}).update(a_dict(said.get("start")))
        elif name == "contentBlockStop":
            closed.add(index)
        elif name == "messageStop":
            answer["stopReason"] = said.get("stopReason")
        elif name == "metadata":
            answer["usage"] = said.get("usage")
    if not (closed >= blocks.keys() and answer.keys() >= {"stopReason", "usage"}):
        return None
    return answer | {"output": {"message": {"role": "assistant", "content": list(map(_whole, blocks.values()))}}}


def _hear(delta: Answer, into: Answer) -> None:
    for name, piece in delta.items():
        if name == "text":
            into.setdefault("text", []).append(piece)
        elif name == "citation":
            into.setdefault("citations", []).append(piece)
        else:
            into.setdefault(name, piece)


def _whole(block: Answer) -> Answer:
    """A block as an answer in one piece has it: a text that cites stands one step further down."""
    pieces = block.get("text")
    if not isinstance(pieces, list):
        return block
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    cited = block.get("citations")
    return {"citationsContent": {"content": [{"text": text}], "citations": cited}} if cited else {**block, "text": text}
