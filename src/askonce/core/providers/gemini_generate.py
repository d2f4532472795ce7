"""Google's generateContent: Gemini, at its own API and at Vertex.

It has no last event. The last chunk holds the finish reasons, so the end of the stream is known only when upstream ends
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson

from askonce.core.providers.answers import CALL, Answer, Part, a_dict, any_of, dicts, first, has_text, snake
from askonce.core.providers.api import Api, Left, Path, Stream
from askonce.core.providers.assemble import ARRAY
from askonce.core.providers.exact import a_list, an_int, exactly, settle, sure
from askonce.core.providers.routes import STEP, VERSION, Body, based
from askonce.core.providers.streamed import Read

# --- requests ----------------------------------------------------------------------------------------------------


def _listed(steps: Sequence[str]) -> bool:
    """Accept a base, or the path under which Vertex lists its models."""
    return based(steps) or steps[-2:-1] in (["publishers"], ["locations"])


_MODEL = "(?P<model>[^/:;]+)"
_ENDS = (":generateContent", ":streamGenerateContent")
_LIST = f"(?:publishers/{STEP}/models|endpoints)"
_PATHS = (
    Path(f"/{VERSION}/(?:models|tunedModels)/{_MODEL}", "gemini", ends=_ENDS),
    Path(f"/{VERSION}/projects/{STEP}/locations/{STEP}/{_LIST}/{_MODEL}", "vertex", ends=_ENDS),
    Path(f"/{VERSION}/{_LIST}/{_MODEL}", "vertex", ends=_ENDS),
    Path(f"/(?:models|tunedModels|endpoints)/{_MODEL}", fits=_listed, ends=_ENDS),
)


def _asks(body: Body, _named: bool) -> bool:
    contents = body.get("contents")
    turns = contents if isinstance(contents, list) else [contents]  # proto JSON allows one instead of a list
    return bool(turns) and all(isinstance(turn, dict) and isinstance(turn.get("parts"), list | dict) for turn in turns)


# --- answers -----------------------------------------------------------------------------------------------------


def _shape(value: Answer) -> bool:
    if not {"finishReason", "finish_reason"}.isdisjoint(first(value.get("candidates"))):
        return True
    return bool(any_of(value, "promptFeedback") or (any_of(value, "usageMetadata") and any_of(value, "modelVersion")))


# Vertex writes the number of an enum when asked with $alt=json;enum-encoding=int.
_ENDINGS = ("none", "stop", "max_tokens", "safety", "recitation", "other", "blocklist", "prohibited_content", "spii")


def _parts(value: Answer) -> Iterator[Part]:
    if any_of(a_dict(any_of(value, "promptFeedback")), "blockReason"):
        yield Part("safety", spoken=False)
    for candidate in dicts(value.get("candidates")):
        yield _content_part(a_dict(candidate.get("content")), any_of(candidate, "finishReason"))


def _content_part(content: Answer, finish: object) -> Part:
    parts = dicts(content.get("parts"))
    return Part(
        _ENDINGS[finish] if isinstance(finish, int) and 0 <= finish < len(_ENDINGS) else finish,
        has_text(parts),
        sum(any_of(part, "functionCall") is not None for part in parts),
        any(held and snake(name) not in _OWN for part in parts for name, held in part.items()),
        said=parts,
    )


# What the model itself says, or asks for. Tools that the provider runs made everything else.
_OWN = frozenset(
    {"text", "thought", "thought_signature", "function_call", "inline_data", "file_data"}
    | {"video_metadata", "media_resolution", "part_metadata"}
)


def _fragment(value: Answer) -> Iterator[Part]:
    if "name" in a_dict(any_of(value, "functionCall")):
        yield CALL
    else:
        yield from _candidate(value)


def _candidate(value: Answer) -> Iterator[Part]:
    content = value.get("content") if isinstance(value.get("content"), dict) else value
    parts = a_dict(content).get("parts")
    finish = any_of(value, "finishReason")
    if isinstance(parts, list) and (finish is not None or a_dict(content).get("role") == "model"):
        yield _content_part(a_dict(content), "stop" if finish is None else finish)


# --- streams -----------------------------------------------------------------------------------------------------


def _gist(found: Read) -> Answer:
    answer: Answer = {}
    candidates: dict[str, Answer] = {}
    for chunk in found.values:
        answer |= {name: held for name in _KEPT if (held := any_of(chunk, name))}
        for candidate in dicts(chunk.get("candidates")):
            into = candidates.setdefault(str(candidate.get("index", 0)), {"finishReason": None, "parts": []})
            into |= {name: held for name in ("finishReason", "groundingMetadata") if (held := any_of(candidate, name))}
            into["parts"] += dicts(a_dict(candidate.get("content")).get("parts"))
    return answer | {"candidates": [{**one, "content": {"parts": one["parts"]}} for one in candidates.values()]}


_KEPT = ("promptFeedback", "usageMetadata", "modelVersion")


# --- the two forms -----------------------------------------------------------------------------------------------


def _json(found: Read) -> Answer:
    answer: Answer = {}
    candidates: dict[int, Answer] = {}
    usage: Answer = {}
    for chunk in found.values:
        exactly(chunk, ("candidates", "usageMetadata", *_HEAD))
        settle(answer, chunk, _HEAD)
        usage = chunk.get("usageMetadata") or usage
        for candidate in a_list(chunk.get("candidates")):
            index = an_int(candidate.get("index", 0))
            _add(candidates.setdefault(index, {"content": {"parts": []}}), candidate)
    ordered = [candidates[index] for index in sorted(candidates)]
    sure(usage and ordered and all(candidate.get("finishReason") for candidate in ordered))
    return {"candidates": ordered, "usageMetadata": usage} | answer


# Without createTime: Vertex has it, and its answers in one piece have avgLogprobs, which its streams lack.
_HEAD = ("modelVersion", "responseId")


def _add(into: Answer, piece: Answer) -> None:
    exactly(piece, ("content", "finishReason", "finishMessage", "index"))
    settle(into, piece, ("finishReason", "finishMessage", "index"))
    content = exactly(piece.get("content") or {}, ("parts", "role"))
    settle(into["content"], content, ("role",))
    parts = into["content"]["parts"]
    for part in a_list(content.get("parts") or []):
        before = parts[-1] if parts else {}
        # Signed parts stay apart: the caller has to send them back unchanged.
        if _plain(part) and _plain(before) and part.get("thought") == before.get("thought"):
            before["text"] += part["text"]
        else:
            parts.append(dict(part))


def _plain(part: Answer) -> bool:
    return isinstance(part.get("text"), str) and part.keys() <= {"text", "thought"}


def _stream(answer: Answer, asked: frozenset[str]) -> Iterable[bytes]:
    """A stream of one chunk, which is a whole answer anyway."""
    candidates = a_list(answer.get("candidates"))
    sure(candidates and all(candidate.get("finishReason") for candidate in candidates))
    body = orjson.dumps(answer)
    return [b"[", body, b"]\n"] if ARRAY in asked else [b"data: ", body, b"\r\n\r\n"]


API = Api(
    "gemini",
    paths=_PATHS,
    asks=_asks,
    left_out=(Left("labels", ("vertex",), "labels for the lines of a bill; not repeated"),),
    shape=_shape,
    signs=(
        *("candidates", "content", "parts", "functionCall", "function_call"),
        *("usageMetadata", "usage_metadata", "promptFeedback", "prompt_feedback"),
    ),
    parts=_parts,
    fragment=_fragment,
    tokens=(
        ("usageMetadata",),
        ("promptTokenCount", "toolUsePromptTokenCount"),
        ("candidatesTokenCount", "thoughtsTokenCount"),
    ),
    stream=Stream(
        _gist,
        (),
        opens=_shape,
        shows=lambda v: _shape(v) or bool(dicts(v.get("candidates"))),
        variant=lambda query: "" if "alt=sse" in query.split("&") else ARRAY,
        full=("", f"#{ARRAY}"),
    ),
    to_json=_json,
    to_stream=_stream,
    error=lambda status, kind, message: ({"error": {"code": status, "message": message, "status": kind.upper()}}, []),
)
