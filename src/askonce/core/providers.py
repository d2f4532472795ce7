"""One row a protocol: how its answers and their ends are told from everybody else's.

A row says what an answer looks like (`shape`), and which reader makes Parts of one (core.answers). What may be stored
is decided by core.judge. Where operations live is said in core.operations, which fields of a request cannot change an
answer in core.fields.

A user's own data may look a little like an answer, so a shape asks for signs that data does not carry by chance.

Ollama has a row and no operation: behind HTTP it passes, but a plain `fetch` may well bring its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from askonce.core.answers import (
    Answer,
    Part,
    any_of,
    chat_parts,
    completions_parts,
    converse_parts,
    embeddings_parts,
    failed,
    first,
    gemini_parts,
    messages_parts,
    reason_of,
    responses_parts,
    single_parts,
)
from askonce.core.bedrock import GUARDRAIL
from askonce.core.headers import CREDENTIAL_HEADERS, HEADER_CLASSES, header_class, ignored_header
from askonce.core.sources import carries_sources

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

    def verdict(self, value: object, tool_calls: str = "pass", searched: str = "pass", *, given: bool = False) -> str:
        """Empty if the answer may be stored, else the reason in a word; `tool_calls` and `searched` as in Policy.

        `given`: the question brought along what its answer may cite.
        """
        if failed(value):
            return "error"
        if not isinstance(value, dict) or not self.shape(value):
            return "unrecognised"
        if value.get(GUARDRAIL) == "INTERVENED":  # beside an ending of the model's own
            return "filtered"
        reasons = [reason_of(part, tool_calls, searched) for part in self.parts(value)] or ["empty"]
        if reason := next(filter(None, reasons), ""):
            return reason
        return "searched" if searched != "store" and carries_sources(value, given=given) else ""

    def usage(self, value: object) -> tuple[int, int] | None:
        """Tokens in and out, those read from a prompt cache and those thought included; None if it does not say."""
        way, put_in, got_out = self.tokens
        for step in way:
            value = any_of(value, step) if isinstance(value, dict) else None
        return (_sum(value, put_in), _sum(value, got_out)) if isinstance(value, dict) else None


def _sum(counts: Answer, names: tuple[str, ...]) -> int:
    return sum(found for name in names if isinstance(found := any_of(counts, name), int))


# --- the table ---------------------------------------------------------------------------------------------------

_PROMPT_COMPLETION = (("usage",), ("prompt_tokens",), ("completion_tokens",))

PROTOCOLS = (
    Protocol(
        "chat",
        lambda v: v.get("object") == "chat.completion" or isinstance(first(v.get("choices")).get("message"), dict),
        chat_parts,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "completions",
        lambda v: v.get("object") == "text_completion" or {"text", "finish_reason"} <= first(v.get("choices")).keys(),
        completions_parts,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "responses",
        lambda v: v.get("object") == "response" and "output" in v,
        responses_parts,
        (("usage",), ("input_tokens",), ("output_tokens",)),
    ),
    Protocol(
        "embeddings",
        lambda v: v.get("object") in ("list", None) and "embedding" in first(v.get("data")),
        embeddings_parts,
        _PROMPT_COMPLETION,
    ),
    Protocol(
        "messages",
        lambda v: v.get("type") == "message" and "stop_reason" in v and isinstance(v.get("content"), list),
        messages_parts,
        (("usage",), ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"), ("output_tokens",)),
    ),
    Protocol(
        "gemini",
        lambda v: (
            not {"finishReason", "finish_reason"}.isdisjoint(first(v.get("candidates")))
            or bool(any_of(v, "promptFeedback") or (any_of(v, "usageMetadata") and any_of(v, "modelVersion")))
        ),
        gemini_parts,
        (
            ("usageMetadata",),
            ("promptTokenCount", "toolUsePromptTokenCount"),
            ("candidatesTokenCount", "thoughtsTokenCount"),
        ),
    ),
    Protocol(
        "converse",
        lambda v: "stopReason" in v and isinstance(v.get("output"), dict),
        converse_parts,
        (("usage",), ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"), ("outputTokens",)),
    ),
    Protocol(
        "message",
        lambda v: isinstance(v.get("message"), dict) and ("finish_reason" in v or {"model", "done"} <= v.keys()),
        single_parts,
        (("usage", "tokens"), ("input_tokens",), ("output_tokens",)),
    ),
)


def by_answer(value: object) -> Protocol | None:
    """The protocol whose answer `value` is, by its own shape; None for anything else."""
    return next((protocol for protocol in PROTOCOLS if protocol.recognises(value)), None)
