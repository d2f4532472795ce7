"""What APIs share in reading answers: Parts, and the reason why a Part may not be stored.

A Part is one choice of an answer: how it ended and what it holds. Each API has a reader that makes Parts of its
answers; `reason_of` then decides for all APIs what may be stored.

A doubt is a no. An unlisted ending is not an ending, because hosts invent words for failure more often than for
success. An item or block of an unlisted kind was made by a tool that the provider ran.

No reader raises, whatever its input.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from askonce.core.providers import bounded
from askonce.core.providers.bounded import kept_by_text
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern

Answer = dict[str, Any]


class Part(NamedTuple):
    """One choice of an answer: the word it ended with, and what it holds."""

    finish: object
    spoken: bool  # it holds something for a reader
    calls: int = 0  # calls that the asking program has to make
    served: bool = False  # the provider ran a tool: the answer depends on more than the question
    refused: bool = False
    failed: bool = False
    searched: bool = False  # the provider searched, and ran nothing else
    said: object = ""  # the text, or a list of blocks


CALL = Part("tool_calls", spoken=True, calls=1)  # a single call, outside of any answer

# --- what an ending means ----------------------------------------------------------------------------------------

_ENDINGS = {
    "": "stop end_turn stop_sequence completed complete eos eos_token finish finished compaction end_of_turn normal",
    "truncated": "length max_tokens max_output_tokens model_length model_context_window_exceeded error_limit",
    "filtered": "content_filter content_filtered guardrail_intervened safety recitation blocklist prohibited_content "
    "spii language image_safety image_prohibited_content image_recitation model_armor error_toxic sensitive",
    "refused": "refusal",
    "tool-call": "tool_calls tool_call tool_use function_call function_calls",
    "error": "error failed other malformed_function_call unexpected_tool_call too_many_tool_calls",
    "incomplete": "incomplete queued in_progress cancelled pause_turn none finish_reason_unspecified",
}
_MEANING = {word: meaning for meaning, words in _ENDINGS.items() for word in words.split()}


def meaning_of(finish: object) -> str | None:
    """The reason for a provider's ending: "" for a good end, None for an unknown word."""
    # Not str() of the enum: for a str-Enum that is its name with its class before it.
    return _MEANING.get(str(getattr(finish, "value", finish)).lower())


def ending_of(value: Answer) -> object:
    """The word with which any answer ended, if it has one."""
    found = next((value[name] for name in ENDINGS if value.get(name)), None)
    return a_dict(found).get("reason") if isinstance(found, dict) else found


ENDINGS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "completionReason")


def reason_of(part: Part, tool_calls: str = "pass", searched: str = "pass") -> str:
    """Why a Part may not be stored, "" if it may; `tool_calls` and `searched` as in Policy."""
    ending = meaning_of(part.finish)
    ending = "unknown-ending" if ending is None else ending
    if part.failed:
        return "error"
    if part.refused:
        return "refused"
    if ending not in ("", "tool-call"):
        return ending
    if part.served:
        return "server-tool"
    if part.searched and searched != "store":
        return "searched"
    if part.calls or ending:
        kept = tool_calls == "store" or (tool_calls == "structured" and part.calls == 1)
        return "" if kept else "tool-call"
    return "" if part.spoken else "empty"


def failed(value: object) -> bool:
    """Whether `value` is an error that came as an answer, in the shape that providers share."""
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):
        return not error.keys().isdisjoint(("message", "code", "type", "status"))
    return isinstance(error, str) and bool(error) and value.keys() == {"error"}  # type: ignore[attr-defined]


def guarded(value: Answer) -> bool:
    """Whether a guardrail intervened; that is said beside the model's own ending."""
    return bool(value.get(GUARDRAIL) == "INTERVENED")


GUARDRAIL = "amazon-bedrock-guardrailAction"


# --- values of any shape -----------------------------------------------------------------------------------------


def dicts(value: object) -> list[Answer]:
    """The dicts in a list; none in any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def field_names(values: list[Any]) -> set[str]:
    """The names of all fields in JSON values, at every depth except in vectors.

    It goes level by level in the interpreter's own loops, which is cheaper than a walk in Python: the events of a
    stream have few distinct names.
    """
    names: set[str] = set()
    while len(values) == 1 and isinstance(values[0], dict):  # of a whole answer, and of most of what it holds
        fields = values[0]
        names.update(fields)
        values = [held for held in fields.values() if type(held) not in LEAVES]
    while values:
        objects = [value for value in values if isinstance(value, dict)]
        names.update(*objects)
        below = [held for fields in objects for held in fields.values() if type(held) not in LEAVES]
        if len(objects) < len(values):
            for value in values:
                if isinstance(value, list) and value and not isinstance(value[0], int | float):
                    below += value
        values = below
    return names


LEAVES = frozenset({str, int, float, bool, type(None)})


def a_dict(value: object) -> Answer:
    """`value` if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def first(value: object) -> Answer:
    """The first dict in a list, else an empty one."""
    return next(iter(dicts(value)), {})


def any_of(value: Answer, *names: str) -> Any:
    """The first of these fields with content, in camelCase or snake_case."""
    return next((found for name in names for found in (value.get(name), value.get(snake(name))) if found), None)


@kept_by_text(1024)
def snake(name: str) -> str:
    """A name in snake_case."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def has_text(content: object) -> bool:
    """Whether a text or a list of blocks holds anything to read, apart from thoughts."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and any(map(_block, content))


def _block(block: object) -> bool:
    if not isinstance(block, dict):
        return has_text(block)
    return not _thought(block) and (has_text(block["text"]) if isinstance(block.get("text"), str) else bool(block))


def _thought(block: Answer) -> bool:
    return bool(block.get("thought")) or str(block.get("type")) in ("thinking", "redacted_thinking", "reasoning")


def texts_of(content: object) -> list[str]:
    """The texts in a text or a list of blocks, in order, without thoughts."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        text = content.get("text")
        return [text] if isinstance(text, str) and not _thought(content) else []
    return [text for block in content for text in texts_of(block)] if isinstance(content, list) else []


def breaks_json(said: object) -> bool:
    """Whether a text that must be JSON is not; an empty text is accepted.

    A text in pieces is one text. Of blocks that name their kind, the last may be the answer and the others a preamble.
    """
    texts = [text for text in texts_of(said) if text.strip()]
    apart = isinstance(said, list) and all(isinstance(block, dict) and "type" in block for block in said)
    return bool(texts) and not (is_json("".join(texts)) or (apart and is_json(texts[-1])))


def is_json(text: str) -> bool:
    """Whether a text is JSON for any of the usual readers."""
    try:
        bounded.loads(text)
    except ValueError:
        try:
            json.loads(text)  # accepts NaN, and integers of any length
        except (ValueError, RecursionError):
            return False
    return True


# --- messages, and tools that search -----------------------------------------------------------------------------


def message_part(message: Answer, finish: object) -> Part:
    """The Part of a chat message and the ending beside it."""
    content = message.get("content")
    executed = dicts(message["executed_tools"]) if message.get("executed_tools") else ()
    blocks = dicts(content)
    kinds = [block.get("type") for block in blocks]
    calls = len(dicts(message.get("tool_calls"))) or bool(message.get("function_call"))
    tools = [str(tool.get("type")) for tool in executed]
    tools += filter(None, map(_tool, blocks))
    return Part(
        finish,
        has_text(content) or bool(message.get("audio") or message.get("images")),
        calls or sum(map(kinds.count, _ASKING)),
        not all(map(searches, tools)),
        bool(message.get("refusal")) or "refusal" in kinds,
        searched=bool(message.get("executed_tools") or tools),
        said=content,
    )


def _tool(block: Answer) -> str:
    """The tool that the provider ran to make a block of a message, "" for any other block."""
    kind = str(block.get("type"))
    if kind in ("server_tool_use", "server_tool_call"):
        return str(block.get("name"))
    return kind if kind not in _ASKING and _TOOL.search(kind) else ""


_ASKING = frozenset({"tool_use", "tool_call", "function_call", "custom_tool_call"})
# Of blocks of no list: any other kind may be the user's own.
_TOOL = pattern(r"(?:^|_)(?:tool(?!_result$)|call|function|search|fetch|execut\w+|interpreter|browse|mcp)(?:_|$)")


def single_parts(value: Answer) -> Iterable[Part]:
    """The Part of an answer that is one message with an ending."""
    finish = value.get("finish_reason", value.get("done_reason"))
    part = message_part(a_dict(value.get("message")), "incomplete" if value.get("done") is False else finish)
    return [part]


_SEARCH = pattern(r"(?!tool_)[\w.:-]*(?:search|fetch|grounding|visit|browse)(?:_call|_tool_result|_result)?(?:_\d+)?")


def searches(tool: str) -> bool:
    """Whether a tool of this name only searches."""
    return bool(_SEARCH.fullmatch(tool))
