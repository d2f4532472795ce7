"""Reading answers: each protocol's answer as Parts, and what a Part comes to.

A Part is one choice of an answer: how it ended and what it holds. Each protocol has a reader that makes Parts of its
answers; what may be stored is then decided once for all protocols, by `reason_of`.

The rules lean one way. An ending that is not listed is not an ending: hosts invent words for failure more often than
for success. An item or block of a kind that is not listed was made by a tool that the provider ran.

No reader raises, whatever it is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from askonce.core import bounded
from askonce.core.bounded import lru_cache_of_short

Answer = dict[str, Any]


class Part(NamedTuple):
    """One choice of an answer: the word it ended with, and what stands in it."""

    finish: object
    spoken: bool  # it holds something for its reader
    calls: int = 0  # calls that the asking program is to make
    served: bool = False  # the provider ran a tool: the answer depends on more than the question
    refused: bool = False
    failed: bool = False
    searched: bool = False  # the provider searched, and ran nothing else
    said: object = ""  # what it says, a text or a list of blocks


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
# Vertex writes an enum by its number when asked with $alt=json;enum-encoding=int.
_GEMINI = ("none", "stop", "max_tokens", "safety", "recitation", "other", "blocklist", "prohibited_content", "spii")


def meaning_of(finish: object) -> str | None:
    """What a provider's word for the end comes to, "" for a good end; None for a word that is not known."""
    # The enum's own value: str() of a str-Enum is its name with the class before it.
    return _MEANING.get(str(getattr(finish, "value", finish)).lower())


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


# --- values of any shape -----------------------------------------------------------------------------------------


def dicts(value: object) -> list[Answer]:
    """The dicts in a list; none of anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def a_dict(value: object) -> Answer:
    """`value` if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def first(value: object) -> Answer:
    """The first dict in a list, else an empty one."""
    return next(iter(dicts(value)), {})


def any_of(value: Answer, *names: str) -> Any:
    """The first of these fields that holds something, in camelCase or snake_case."""
    return next((found for name in names for found in (value.get(name), value.get(snake(name))) if found), None)


@lru_cache_of_short(1024)
def snake(name: str) -> str:
    """A name in snake_case."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def has_text(content: object) -> bool:
    """Whether there is anything to read, thoughts aside, in a text or a list of blocks."""
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
    """The texts in a text or a list of blocks, thoughts aside, in order."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, dict):
        text = content.get("text")
        return [text] if isinstance(text, str) and not _thought(content) else []
    return [text for block in content for text in texts_of(block)] if isinstance(content, list) else []


def breaks_json(said: object) -> bool:
    """Whether what was to be JSON is something else; what says nothing breaks nothing.

    A text in pieces is one text; of blocks that say their kind, the last may be the answer, after a preamble.
    """
    texts = [text for text in texts_of(said) if text.strip()]
    apart = isinstance(said, list) and all(isinstance(block, dict) and "type" in block for block in said)
    return bool(texts) and not (is_json("".join(texts)) or (apart and is_json(texts[-1])))


def is_json(text: str) -> bool:
    """Whether a text is JSON, to any of the usual readers."""
    try:
        bounded.loads(text)
    except ValueError:
        try:
            json.loads(text)  # takes NaN, and integers of any length
        except (ValueError, RecursionError):
            return False
    return True


# --- one reader a protocol ---------------------------------------------------------------------------------------


def chat_parts(value: Answer) -> Iterator[Part]:
    """Of a chat completion."""
    for choice in dicts(value.get("choices")):
        message = a_dict(choice.get("message"))
        # Absent: a host that never says (Mistral's models on Bedrock call it stop_reason). Null: not ended.
        part = message_part(message, choice.get("finish_reason", choice.get("stop_reason", "stop")))
        yield part._replace(failed=part.failed or bool(choice.get("error")))


def message_part(message: Answer, finish: object) -> Part:
    """Of a chat message and the ending beside it."""
    content = message.get("content")
    executed = dicts(message.get("executed_tools"))
    return Part(
        finish,
        has_text(content) or bool(message.get("audio") or message.get("images")),
        len(dicts(message.get("tool_calls"))) or bool(message.get("function_call")),
        any(not searches(str(tool.get("type"))) for tool in executed),
        bool(message.get("refusal")),
        searched=bool(message.get("executed_tools")),
        said=content,
    )


def completions_parts(value: Answer) -> Iterator[Part]:
    """Of an old completion."""
    for choice in dicts(value.get("choices")):
        text = choice.get("text")
        yield Part(choice.get("finish_reason"), has_text(text), failed=bool(choice.get("error")), said=text)


_SAID = frozenset({"message", "reasoning", "compaction"})
_CALLS = {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
# What the asking program must act on; other items were made by tools that the provider ran.
ASKING = frozenset(_CALLS | {"mcp_approval_request"})
_BROKEN_OFF = ("incomplete", "in_progress", "failed")


def responses_parts(value: Answer) -> Iterator[Part]:
    """Of an answer of the Responses API."""
    part = items_part(dicts(value.get("output")))
    why = a_dict(value.get("incomplete_details")).get("reason") or value.get("status")
    finish = part.finish if meaning_of(why) == "" else why
    yield part._replace(finish=finish, failed=bool(value.get("error")))


def items_part(items: list[Answer]) -> Part:
    """Of output items, which say by their status whether they came to their end."""
    kinds = [str(item.get("type")) for item in items]
    blocks = [block for item in items for block in dicts(item.get("content")) if item.get("type") == "message"]
    said = [block for block in blocks if block.get("type") != "refusal"]
    others = [kind for kind in kinds if kind not in ASKING | _SAID]
    return Part(
        next((item["status"] for item in items if item.get("status") in _BROKEN_OFF), "completed"),
        has_text(said),
        sum(kind in ASKING for kind in kinds),
        not all(map(searches, others)),
        len(said) < len(blocks),
        searched=bool(others),
        said=said,
    )


def embeddings_parts(value: Answer) -> Iterator[Part]:
    """Of a list of vectors."""
    for item in dicts(value.get("data")):
        yield Part("stop", bool(item.get("embedding")))


_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "compaction", "fallback", "tool_use"})


def messages_parts(value: Answer) -> Iterator[Part]:
    """Of an Anthropic message."""
    yield blocks_part(dicts(value.get("content")), value.get("stop_reason"))


def blocks_part(blocks: list[Answer], finish: object) -> Part:
    """Of Anthropic's content blocks and the ending beside them."""
    kinds = [str(block.get("type")) for block in blocks]
    # A call of the provider's own tool has the tool's name; its result has it in its kind.
    ran = [
        str(block.get("name") if kind == "server_tool_use" else kind)
        for kind, block in zip(kinds, blocks, strict=True)
        if kind not in _BLOCKS
    ]
    said = [block for block in blocks if block.get("type") != "fallback"]
    return Part(
        finish, has_text(said), kinds.count("tool_use"), not all(map(searches, ran)), searched=bool(ran), said=said
    )


_SEARCH = re.compile(
    r"(?!tool_)[\w.:-]*(?:search|fetch|grounding|visit|browse)(?:_call|_tool_result|_result)?(?:_\d+)?"
)


def searches(tool: str) -> bool:
    """Whether a tool of this name searches and does nothing else."""
    return bool(_SEARCH.fullmatch(tool))


def gemini_parts(value: Answer) -> Iterator[Part]:
    """Of Gemini's candidates."""
    if any_of(a_dict(any_of(value, "promptFeedback")), "blockReason"):
        yield Part("safety", spoken=False)
    for candidate in dicts(value.get("candidates")):
        yield content_part(a_dict(candidate.get("content")), any_of(candidate, "finishReason"))


def content_part(content: Answer, finish: object) -> Part:
    """Of a Gemini content and the ending beside it."""
    parts = dicts(content.get("parts"))
    return Part(
        _GEMINI[finish] if isinstance(finish, int) and 0 <= finish < len(_GEMINI) else finish,
        has_text(parts),
        sum(any_of(part, "functionCall") is not None for part in parts),
        any(any_of(part, *_GEMINI_SERVED) for part in parts),
        said=parts,
    )


_GEMINI_SERVED = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def converse_parts(value: Answer) -> Iterator[Part]:
    """Of an answer of Bedrock's Converse."""
    message = a_dict(a_dict(value.get("output")).get("message"))
    yield converse_part(dicts(message.get("content")), value.get("stopReason"))


def converse_part(blocks: list[Answer], finish: object) -> Part:
    """Of Converse's content blocks and the ending beside them."""
    said = [block for block in blocks if "reasoningContent" not in block]
    uses = [a_dict(block["toolUse"]) for block in blocks if "toolUse" in block]
    served = [str(use.get("name")) for use in uses if use.get("type") == "server_tool_use"]
    return Part(
        finish,
        has_text(said),
        len(uses) - len(served),
        not all(map(searches, served)),
        searched=bool(served),
        said=[*map(_cited, said)],
    )


def _cited(block: Answer) -> object:
    """The text of a block that cites stands one step further down."""
    return a_dict(block["citationsContent"]).get("content") if "citationsContent" in block else block


def single_parts(value: Answer) -> Iterable[Part]:
    """Of Cohere's and Ollama's answers: one message, with the ending beside it."""
    finish = value.get("finish_reason", value.get("done_reason"))
    part = message_part(a_dict(value.get("message")), "incomplete" if value.get("done") is False else finish)
    return [part]
