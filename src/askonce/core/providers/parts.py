"""Parts of answers, judged like whole ones: what a call took out of an answer, or a framework made of it.

Examples: a dump of `choices[0].message`, an output item, a content list, a list of tool calls, messages of frameworks,
answers of APIs that core.providers does not list. Each is recognised by signs that a user's own data does not carry by
chance: the role of the assistant, a call with its name and arguments, an ending in a word of a provider. The user may
wrap it in lists and dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from askonce.core.providers import APIS, Api, by_answer, frameworks
from askonce.core.providers.answers import ENDINGS, Answer, Part, dicts, ending_of, has_text, meaning_of, message_part

DEPTH = 8  # lists and dicts of the user's around a part
LOOKED_AT = 2_000  # members of those


def answers_in(value: object) -> Iterator[tuple[Answer, Api | None]]:
    """The answers in a value, with their APIs, and parts of answers, from the outside in; none inside of another."""
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
                signs = not SIGNS.isdisjoint(one)
                api = by_answer(one) if signs else None
                if api or (signs and parts_of(one)):
                    yield one, api
                else:
                    inside += one.values()
        level = inside


def telling(value: Answer) -> bool:
    """Whether a dict may be, or hold, a part of an answer: a quick no for most."""
    return not SIGNS.isdisjoint(value) or any(isinstance(held, dict | list) for held in value.values())


def parts_of(value: Answer) -> list[Part]:
    """The Parts of a part of an answer; none for any other value."""
    return next(filter(None, (list(read(value)) for read in _READERS)), [])


# --- messages ----------------------------------------------------------------------------------------------------


def _message(value: Answer) -> Iterator[Part]:
    """The Part of an assistant's message of any API: by its blocks if they show their API, else as a chat message."""
    if (
        value.get("role") != "assistant"
        or {"content", "tool_calls", "blocks"}.isdisjoint(value)
        or value.get("type") == "message"
    ):
        return
    finish = ending_of(value) or "stop"
    content = value.get("content", value.get("blocks"))
    blocks = dicts(content)
    part = next(filter(None, (turn(blocks, finish) for turn in _TURNS)), None)
    if part is None:
        part = message_part(value, finish)
        part = part._replace(spoken=part.spoken or has_text(content))
    yield part


# --- any other answer that shows a search, or names its ending ---------------------------------------------------


def _sources(value: Answer) -> Iterator[Part]:
    """The Part of what only a search adds to an answer: grounding, retrieved references, a cited web page."""
    if any(value.get(name) for name in _OF_A_SEARCH) or value.get("type") in _CITATIONS:
        yield Part("stop", spoken=True, searched=True)


_OF_A_SEARCH = (
    *("groundingMetadata", "grounding_metadata", "groundingChunks", "grounding_chunks", "webSearchQueries"),
    *("retrievedReferences", "retrieved_references", "urlContextMetadata", "url_context_metadata"),
)
_CITATIONS = ("url_citation", "web_search_result_location", "web_search_result")


_BESIDE = frozenset({"text", "content", "message", "output", "outputText", "generation", "generated_text", "delta"})
_BESIDE_TOO = frozenset(
    {"usage", "details", "logprobs", "generated_tokens", "completion", "response", "tokenCount", "data"}
)


def _ended(value: Answer) -> Iterator[Part]:
    """The Part of whatever names a bad ending beside what was said."""
    finish = ending_of(value)
    if finish is not None and meaning_of(finish) and not (_BESIDE | _BESIDE_TOO).isdisjoint(value):
        yield Part(finish, spoken=True)


# --- the readers, and where to look ------------------------------------------------------------------------------

_FRAMEWORKS = ("role", "type", "lc", "kind", "data")
# A value with none of these fields is neither an answer nor a part of one.
SIGNS = frozenset({*_FRAMEWORKS, *ENDINGS, *_OF_A_SEARCH, *(name for api in APIS for name in api.signs)})

_TURNS = [api.turn for api in APIS if api.turn]
_READERS: tuple[Callable[[Answer], Iterable[Part]], ...] = (
    _message,
    frameworks.langchain,
    frameworks.pydantic_ai,
    *(api.fragment for api in APIS if api.fragment),
    frameworks.langchain_call,
    _sources,
    _ended,
)
