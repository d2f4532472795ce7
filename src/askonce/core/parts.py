"""Parts of answers, judged by the rules of the whole: what a call took out of an answer, or a framework made of it.

`choices[0].message` dumped, one output item, a content list, a list of tool calls; the messages of LangChain and of
pydantic-ai; the answers of models that have no row in core.providers. Each is recognised by signs that a user's own
data does not carry by chance: the role of the assistant, a call with its name and arguments, an ending in a word that
providers use for one. The user may wrap it in lists and dicts of his own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from askonce.core.answers import (
    ASKING,
    Answer,
    Part,
    a_dict,
    any_of,
    blocks_part,
    content_part,
    converse_part,
    dicts,
    has_text,
    items_part,
    meaning_of,
    message_part,
    searches,
)
from askonce.core.providers import Protocol, by_answer

DEPTH = 8  # lists and dicts of the user's own around a part
LOOKED_AT = 2_000  # of their members


def answers_in(value: object) -> Iterator[tuple[Answer, Protocol | None]]:
    """The answers in a value with their protocols, and parts of answers, from the outside in.

    There are none in data of the user's own, and none is looked for inside one that was found.
    """
    level: list[Any] = [value]
    looked = 0
    for _ in range(DEPTH):
        inside: list[Any] = []
        for one in level:
            if looked > LOOKED_AT:
                return
            if isinstance(one, list):
                looked += len(one)
                inside += [] if one and isinstance(one[0], int | float) else one[:LOOKED_AT]
            elif isinstance(one, dict):
                looked += len(one)
                signs = not _SIGNS.isdisjoint(one)
                protocol = by_answer(one) if signs else None
                if protocol or (signs and parts_of(one)):
                    yield one, protocol
                else:
                    inside += one.values()
        level = inside


def telling(value: Answer) -> bool:
    """Whether a dict may be a part of an answer, or hold one: a quick no for most."""
    return not _SIGNS.isdisjoint(value) or any(isinstance(held, dict | list) for held in value.values())


def parts_of(value: Answer) -> list[Part]:
    """The Parts that a part of an answer is read as; none of anything else."""
    return next(filter(None, (list(read(value)) for read in _READERS)), [])


# --- the wire's own ----------------------------------------------------------------------------------------------


def _message(value: Answer) -> Iterator[Part]:
    """OpenAI's message, and those shaped like it: Cohere's, Ollama's, LiteLLM's, Anthropic's and Converse's turns."""
    if (
        value.get("role") != "assistant"
        or {"content", "tool_calls", "blocks"}.isdisjoint(value)
        or value.get("type") == "message"
    ):
        return
    finish = _ending(value) or "stop"
    part = message_part(value, finish)
    content = value.get("content", value.get("blocks"))
    blocks = dicts(content)
    if any("toolUse" in block for block in blocks):
        yield converse_part(blocks, finish)
    elif any(_TELLING.fullmatch(str(block.get("type"))) for block in blocks):
        yield blocks_part(blocks, finish)
    else:
        yield part._replace(spoken=part.spoken or has_text(content))


_TELLING = re.compile(r"(?:server_|mcp_)?tool_use|\w+_tool_result|(?:redacted_)?thinking")


def _item(value: Answer) -> Iterator[Part]:
    """An output item of the Responses API."""
    kind = str(value.get("type"))
    said = kind == "message" and value.get("role") == "assistant" and isinstance(value.get("content"), list)
    called = kind in ASKING and isinstance(value.get("call_id", value.get("id")), str)
    if said or called or (kind in _RUN and {"id", "status"} <= value.keys()):
        yield items_part([value])


_TOOLS = ("web_search", "file_search", "tool_search", "code_interpreter", "image_generation", "mcp")
_RUN = frozenset(f"{tool}_call" for tool in _TOOLS)


def _block(value: Answer) -> Iterator[Part]:
    """A content block of Anthropic's that calls a tool, or was made by one."""
    kind = str(value.get("type"))
    if not _TELLING.fullmatch(kind) or kind.endswith("thinking"):
        return
    if {"id", "name", "input"} <= value.keys() or "tool_use_id" in value:
        yield blocks_part([value], "end_turn")


def _call(value: Answer) -> Iterator[Part]:
    """A call by itself: of chat, of Gemini, of Converse, of LangChain."""
    function = a_dict(value.get("function"))
    told = a_dict(any_of(value, "functionCall")), a_dict(value.get("toolUse"))
    langchain = value.get("type") in ("tool_call", "invalid_tool_call") and {"name", "args"} <= value.keys()
    called = {"name", "arguments"} <= function.keys() and "parameters" not in function
    if called or langchain or "name" in told[0] or {"name", "input"} <= told[1].keys():
        yield Part("tool_calls", spoken=True, calls=1)


def _candidate(value: Answer) -> Iterator[Part]:
    """A candidate of Gemini's, or its content."""
    content = value.get("content") if isinstance(value.get("content"), dict) else value
    parts = a_dict(content).get("parts")
    finish = any_of(value, "finishReason")
    if isinstance(parts, list) and (finish is not None or a_dict(content).get("role") == "model"):
        yield content_part(a_dict(content), "stop" if finish is None else finish)


def _sources(value: Answer) -> Iterator[Part]:
    """What only a search has beside its answer: grounding, references that were retrieved, a cited page of the web."""
    if any(value.get(name) for name in _OF_A_SEARCH) or value.get("type") in _CITATIONS:
        yield Part("stop", spoken=True, searched=True)


_OF_A_SEARCH = (
    *("groundingMetadata", "grounding_metadata", "groundingChunks", "grounding_chunks", "webSearchQueries"),
    *("retrievedReferences", "retrieved_references", "urlContextMetadata", "url_context_metadata"),
)
_CITATIONS = ("url_citation", "web_search_result_location", "web_search_result")


# --- what frameworks make of it ----------------------------------------------------------------------------------


def _langchain(value: Answer) -> Iterator[Part]:
    """A message of LangChain's: its dump, or what its own serialisers write."""
    inner = a_dict(value.get("kwargs") if value.get("lc") else value.get("data") if value.get("type") == "ai" else None)
    message = inner or value
    if message.get("type") not in ("ai", "AIMessage", "AIMessageChunk") or "content" not in message:
        return
    told, more = a_dict(message.get("response_metadata")), a_dict(message.get("additional_kwargs"))
    content, calls = message.get("content"), dicts(message.get("tool_calls")) + dicts(message.get("invalid_tool_calls"))
    blocks = dicts(content)
    part = blocks_part(blocks, "stop") if any(_TELLING.fullmatch(str(b.get("type"))) for b in blocks) else None
    yield Part(
        _ending(told) or _ending(more) or "stop",
        has_text(content),
        len(calls) or bool(more.get("tool_calls") or more.get("function_call")),
        part.served if part else False,
        bool(more.get("refusal")),
        searched=part.searched if part else False,
        said=content,
    )


def _pydantic_ai(value: Answer) -> Iterator[Part]:
    """A ModelResponse of pydantic-ai's."""
    parts = dicts(value.get("parts"))
    kinds = [str(part.get("part_kind")) for part in parts]
    if value.get("kind") != "response" or "usage" not in value or len(parts) != len(value.get("parts") or ()):
        return
    served = [str(part.get("tool_name")) for part, kind in zip(parts, kinds, strict=True) if kind.startswith("builtin")]
    said = [part.get("content") for part, kind in zip(parts, kinds, strict=True) if kind == "text"]
    suspended = value.get("state") not in (None, "complete")
    yield Part(
        "incomplete" if suspended else _ending(value) or _ending(a_dict(value.get("provider_details"))) or "stop",
        has_text(said) or "file" in kinds,
        kinds.count("tool-call"),
        not all(map(searches, served)),
        searched=bool(served),
        said=said,
    )


def _items(value: Answer) -> Iterator[Part]:
    """A ModelResponse of OpenAI's agents: output items without the response around them."""
    items = dicts(value.get("output"))
    if items and "response_id" in value and all(any(True for _ in _item(one)) for one in items):
        yield items_part(items)


# --- any other answer that names its ending ----------------------------------------------------------------------

ENDINGS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "completionReason")
_BESIDE = frozenset({"text", "content", "message", "output", "outputText", "generation", "generated_text", "delta"})
_BESIDE_TOO = frozenset(
    {"usage", "details", "logprobs", "generated_tokens", "completion", "response", "tokenCount", "data"}
)


def _ending(value: Answer) -> object:
    """The word that it ended with, if it says one."""
    found = next((value[name] for name in ENDINGS if value.get(name)), None)
    return a_dict(found).get("reason") if isinstance(found, dict) else found


def _ended(value: Answer) -> Iterator[Part]:
    """Whatever names an ending that is not a good one beside what was said."""
    finish = _ending(value)
    if finish is not None and meaning_of(finish) and not (_BESIDE | _BESIDE_TOO).isdisjoint(value):
        yield Part(finish, spoken=True)


# What has none of these fields is no answer and no part of one.
_SIGNS = frozenset(
    {
        *("role", "type", "lc", "kind", "response_id", "function", "functionCall", "function_call", "toolUse", "parts"),
        *("content", "message", "choices", "candidates", "usageMetadata", "usage_metadata", "object", "data", "output"),
        *("promptFeedback", "prompt_feedback", *ENDINGS, *_OF_A_SEARCH),
    }
)

_READERS: tuple[Callable[[Answer], Iterable[Part]], ...] = (
    _item,
    _message,
    _langchain,
    _pydantic_ai,
    _items,
    _block,
    _call,
    _candidate,
    _sources,
    _ended,
)
