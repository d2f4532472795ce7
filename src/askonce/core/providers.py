"""One row a protocol: how its answers and their ends are told from everybody else's.

A row says what an answer looks like (`shape`), and how one is read as Parts: one a choice, with how it ended and what
it holds. What may be stored is then decided once for all protocols, from the Parts. Where operations live is said in
core.operations, which fields of a request cannot change an answer in core.fields.

The rules lean one way. An ending that is not listed is not an ending: hosts invent words for failure more often than
for success. A user's own data may look a little like an answer, so a shape asks for signs that data does not carry by
chance.

Ollama has a row and no operation: behind HTTP it passes, but a plain `fetch` may well bring its answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from askonce.core.headers import CREDENTIAL_HEADERS, HEADER_CLASSES, header_class, ignored_header

__all__ = [
    "CREDENTIAL_HEADERS",
    "HEADER_CLASSES",
    "PROTOCOLS",
    "Part",
    "Protocol",
    "by_answer",
    "failed",
    "header_class",
    "ignored_header",
]

Answer = dict[str, Any]


class Part(NamedTuple):
    """One choice of an answer: the word it ended with, and what stands in it."""

    finish: object
    spoken: bool  # it holds something for its reader
    calls: int = 0  # calls that the asking program is to make
    served: bool = False  # the provider ran a tool: the answer depends on more than the question
    refused: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """One row of the table."""

    name: str
    shape: Callable[[Answer], bool]
    parts: Callable[[Answer], Iterable[Part]]
    tokens: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # the way to usage; what adds up to input, output

    def recognises(self, value: object) -> bool:
        """Whether `value` is an answer of this protocol, whole or not."""
        return isinstance(value, dict) and self.shape(value)

    def verdict(self, value: object, tool_calls: str = "pass") -> str:
        """Empty if the answer may be stored, else the reason in a word; `tool_calls` as in Policy."""
        if failed(value):
            return "error"
        if not isinstance(value, dict) or not self.shape(value):
            return "unrecognised"
        if value.get("amazon-bedrock-guardrailAction") == "INTERVENED":  # beside an ending of the model's own
            return "filtered"
        reasons = [_reason(part, tool_calls) for part in self.parts(value)] or ["empty"]
        return next(filter(None, reasons), "")

    def usage(self, value: object) -> tuple[int, int] | None:
        """Tokens in and out, those read from a prompt cache and those thought included; None if it does not say."""
        way, put_in, got_out = self.tokens
        for step in way:
            value = _any(value, step) if isinstance(value, dict) else None
        return (_sum(value, put_in), _sum(value, got_out)) if isinstance(value, dict) else None


# --- what an ending means ----------------------------------------------------------------------------------------

_ENDINGS = {
    "": "stop end_turn stop_sequence completed complete eos eos_token finish compaction",
    "truncated": "length max_tokens max_output_tokens model_length model_context_window_exceeded error_limit",
    "filtered": "content_filter content_filtered guardrail_intervened safety recitation blocklist prohibited_content "
    "spii language image_safety image_prohibited_content image_recitation model_armor error_toxic sensitive",
    "refused": "refusal",
    "tool-call": "tool_calls tool_call tool_use function_call",
    "error": "error failed other malformed_function_call unexpected_tool_call too_many_tool_calls",
    "incomplete": "incomplete queued in_progress cancelled pause_turn none finish_reason_unspecified",
}
_MEANING = {word: meaning for meaning, words in _ENDINGS.items() for word in words.split()}
# Vertex writes an enum by its number when asked with $alt=json;enum-encoding=int.
_GEMINI = ("none", "stop", "max_tokens", "safety", "recitation", "other", "blocklist", "prohibited_content", "spii")


def _reason(part: Part, tool_calls: str) -> str:
    # The enum's own value: str() of a str-Enum is its name with the class before it.
    ending = _MEANING.get(str(getattr(part.finish, "value", part.finish)).lower(), "unknown-ending")
    if part.failed:
        return "error"
    if part.refused:
        return "refused"
    if ending not in ("", "tool-call"):
        return ending
    if part.served:
        return "server-tool"
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


# --- reading answers: nothing here may raise, whatever it is given -----------------------------------------------


def _dicts(value: object) -> list[Answer]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _first(value: object) -> Answer:
    return next(iter(_dicts(value)), {})


def _any(value: Answer, *names: str) -> Any:
    return next((found for name in names for found in (value.get(name), value.get(_snake(name))) if found), None)


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


def _sum(counts: Answer, names: tuple[str, ...]) -> int:
    return sum(found for name in names if isinstance(found := _any(counts, name), int))


def _text(content: object) -> bool:
    """Whether there is anything to read, thoughts aside, in a text or a list of blocks."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and any(map(_block, content))


def _block(block: object) -> bool:
    if not isinstance(block, dict):
        return _text(block)
    if block.get("thought") or str(block.get("type")) in ("thinking", "redacted_thinking", "reasoning"):
        return False
    return _text(block["text"]) if isinstance(block.get("text"), str) else bool(block)


def _chat(value: Answer) -> Iterator[Part]:
    for choice in _dicts(value.get("choices")):
        found = choice.get("message")
        message = found if isinstance(found, dict) else {}
        calls = len(_dicts(message.get("tool_calls"))) or bool(message.get("function_call"))
        yield Part(
            # Absent: a host that never says (Mistral's models on Bedrock call it stop_reason). Null: not ended.
            choice.get("finish_reason", choice.get("stop_reason", "stop")),
            _text(message.get("content")) or bool(message.get("audio") or message.get("images")),
            calls,
            bool(message.get("executed_tools")),
            bool(message.get("refusal")),
            bool(choice.get("error")),
        )


def _completions(value: Answer) -> Iterator[Part]:
    for choice in _dicts(value.get("choices")):
        yield Part(choice.get("finish_reason"), _text(choice.get("text")), failed=bool(choice.get("error")))


_SAID = frozenset({"message", "reasoning", "compaction"})
_CALLS = {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"}
_ASKING = frozenset(_CALLS | {"mcp_approval_request"})  # what the asking program must act on; other items were served


def _responses(value: Answer) -> Iterator[Part]:
    items = _dicts(value.get("output"))
    kinds = [str(item.get("type")) for item in items]
    blocks = [block for item in items for block in _dicts(item.get("content")) if item.get("type") == "message"]
    details = value.get("incomplete_details")
    why = details.get("reason") if isinstance(details, dict) else None
    yield Part(
        why or value.get("status"),
        _text([block for block in blocks if block.get("type") != "refusal"]),
        sum(kind in _ASKING for kind in kinds),
        any(kind not in _ASKING | _SAID for kind in kinds),
        any(block.get("type") == "refusal" for block in blocks),
        bool(value.get("error")),
    )


def _embeddings(value: Answer) -> Iterator[Part]:
    for item in _dicts(value.get("data")):
        yield Part("stop", bool(item.get("embedding")))


_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "compaction", "fallback", "tool_use"})


def _messages(value: Answer) -> Iterator[Part]:
    blocks = _dicts(value.get("content"))
    kinds = [str(block.get("type")) for block in blocks]
    yield Part(
        value.get("stop_reason"),
        _text([block for block in blocks if block.get("type") != "fallback"]),
        kinds.count("tool_use"),
        not _BLOCKS.issuperset(kinds),
    )


def _gemini(value: Answer) -> Iterator[Part]:
    feedback = _any(value, "promptFeedback")
    if isinstance(feedback, dict) and _any(feedback, "blockReason"):
        yield Part("safety", spoken=False)
    for candidate in _dicts(value.get("candidates")):
        finish, content = _any(candidate, "finishReason"), candidate.get("content")
        parts = _dicts(content.get("parts")) if isinstance(content, dict) else []
        yield Part(
            _GEMINI[finish] if isinstance(finish, int) and 0 <= finish < len(_GEMINI) else finish,
            _text(parts),
            sum(_any(part, "functionCall") is not None for part in parts),
            any(_any(part, *_GEMINI_SERVED) for part in parts) or bool(_any(candidate, "groundingMetadata")),
        )


_GEMINI_SERVED = ("executableCode", "codeExecutionResult", "toolCall", "toolResponse")


def _converse(value: Answer) -> Iterator[Part]:
    message = value["output"].get("message")
    blocks = _dicts(message.get("content")) if isinstance(message, dict) else []
    said = [block for block in blocks if "reasoningContent" not in block]
    yield Part(value.get("stopReason"), _text(said), sum("toolUse" in block for block in blocks))


def _message(value: Answer) -> Iterator[Part]:
    """Cohere's, Ollama's: one message, with the ending beside it."""
    finish = value.get("finish_reason", value.get("done_reason"))
    message = value["message"]
    yield Part(
        "incomplete" if value.get("done") is False else finish,
        _text(message.get("content")),
        len(_dicts(message.get("tool_calls"))),
    )


# --- the table ---------------------------------------------------------------------------------------------------

_PROMPT_COMPLETION = (("usage",), ("prompt_tokens",), ("completion_tokens",))

PROTOCOLS = (
    Protocol(
        "chat",
        lambda v: v.get("object") == "chat.completion" or isinstance(_first(v.get("choices")).get("message"), dict),
        _chat,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "completions",
        lambda v: v.get("object") == "text_completion" or {"text", "finish_reason"} <= _first(v.get("choices")).keys(),
        _completions,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "responses",
        lambda v: v.get("object") == "response" and "output" in v,
        _responses,
        (("usage",), ("input_tokens",), ("output_tokens",)),
    ),
    Protocol(
        "embeddings",
        lambda v: v.get("object") in ("list", None) and "embedding" in _first(v.get("data")),
        _embeddings,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "messages",
        lambda v: v.get("type") == "message" and "stop_reason" in v and isinstance(v.get("content"), list),
        _messages,
        (("usage",), ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"), ("output_tokens",)),
    ),
    Protocol(
        "gemini",
        lambda v: (
            "finishReason" in (first := _first(v.get("candidates")))
            or "finish_reason" in first
            or bool(_any(v, "promptFeedback") or (_any(v, "usageMetadata") and _any(v, "modelVersion")))
        ),
        _gemini,
        (
            ("usageMetadata",),
            ("promptTokenCount", "toolUsePromptTokenCount"),
            ("candidatesTokenCount", "thoughtsTokenCount"),
        ),
    ),
    Protocol(
        "converse",
        lambda v: "stopReason" in v and isinstance(v.get("output"), dict),
        _converse,
        (("usage",), ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"), ("outputTokens",)),
    ),
    Protocol(
        "message",
        lambda v: isinstance(v.get("message"), dict) and ("finish_reason" in v or {"model", "done"} <= v.keys()),
        _message,
        (("usage", "tokens"), ("input_tokens",), ("output_tokens",)),
    ),
)


def by_answer(value: object) -> Protocol | None:
    """The protocol whose answer `value` is, by its own shape; None for anything else."""
    return next((protocol for protocol in PROTOCOLS if protocol.recognises(value)), None)
