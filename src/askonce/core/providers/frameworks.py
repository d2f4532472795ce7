"""What frameworks make of answers: messages of LangChain and of pydantic-ai."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.core.providers.answers import CALL, Answer, Part, a_dict, dicts, ending_of, has_text, searches
from askonce.core.providers.anthropic_messages import blocks_part, telling

__all__ = ["langchain", "pydantic_ai"]


def langchain(value: Answer) -> Iterator[Part]:
    """The Part of a LangChain message: its dump, or what its serialisers write."""
    inner = a_dict(value.get("kwargs") if value.get("lc") else value.get("data") if value.get("type") == "ai" else None)
    message = inner or value
    if message.get("type") not in ("ai", "AIMessage", "AIMessageChunk") or "content" not in message:
        return
    metadata, more = a_dict(message.get("response_metadata")), a_dict(message.get("additional_kwargs"))
    content, calls = message.get("content"), dicts(message.get("tool_calls")) + dicts(message.get("invalid_tool_calls"))
    blocks = dicts(content)
    part = blocks_part(blocks, "stop") if telling(blocks) else None
    yield Part(
        ending_of(metadata) or ending_of(more) or "stop",
        has_text(content),
        len(calls) or bool(more.get("tool_calls") or more.get("function_call")),
        part.served if part else False,
        bool(more.get("refusal")),
        searched=part.searched if part else False,
        said=content,
    )


def langchain_call(value: Answer) -> list[Part]:
    """The Part of a single LangChain call."""
    called = value.get("type") in ("tool_call", "invalid_tool_call") and {"name", "args"} <= value.keys()
    return [CALL] if called else []


def pydantic_ai(value: Answer) -> Iterator[Part]:
    """The Part of a pydantic-ai ModelResponse."""
    parts = dicts(value.get("parts"))
    kinds = [str(part.get("part_kind")) for part in parts]
    if value.get("kind") != "response" or "usage" not in value or len(parts) != len(value.get("parts") or ()):
        return
    served = [str(part.get("tool_name")) for part, kind in zip(parts, kinds, strict=True) if kind.startswith("builtin")]
    texts = [part.get("content") for part, kind in zip(parts, kinds, strict=True) if kind == "text"]
    suspended = value.get("state") not in (None, "complete")
    yield Part(
        "incomplete" if suspended else ending_of(value) or ending_of(a_dict(value.get("provider_details"))) or "stop",
        has_text(texts) or "file" in kinds,
        kinds.count("tool-call"),
        not all(map(searches, served)),
        searched=bool(served),
        said=texts,
    )
