"""The usage that an answer names: its tokens, whatever its API calls them. No reader raises, whatever its input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from askonce.core.providers.answers import Answer, a_dict, snake
from askonce.core.providers.api import Api
from askonce.core.providers.named_tuples import NamedTuple

MOST = 2**48  # tokens: more is nonsense
FIRST, LAST = 2, 4  # events of a stream that may name a usage


class Usage(NamedTuple):
    """Tokens of one answer: in (cached ones included), out (thoughts included), and those in that were cached."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0


class Bill(NamedTuple):
    """An answer, or what is left of it, as far as its price depends on it. `where`: the URL it came from, or ""."""

    api: Api
    answer: Answer
    where: str = ""
    model: str = ""  # the model that was asked for

    @property
    def usage(self) -> Usage | None:
        """Its usage; None if it does not say."""
        return usage_of(self.api, self.answer)

    def kept(self) -> Bill:
        """The same without what was said."""
        return self._replace(answer={name: held for name, held in self.answer.items() if name in TOLD})


def usage_in(bills: Iterable[Bill]) -> Usage | None:
    """The usage that answers name, in all; None if they name none."""
    told = [usage for bill in bills if (usage := bill.usage) is not None]
    if len(told) == 1:
        return told[0]
    return Usage(*map(sum, zip(*told, strict=True))) if told else None


def bills_of(answers: Iterable[tuple[object, Api | None]], where: str = "") -> tuple[Bill, ...]:
    """The bills of answers with their APIs, as answers_in finds them; none of what is of no known API."""
    return tuple(Bill(api, answer, where) for answer, api in answers if api is not None and isinstance(answer, dict))


def bill_of_events(api: Api, events: Sequence[Answer]) -> Bill:
    """The bill of a stream, also of one that was cut off: usage is told in its first or last events."""
    told: Answer = {}
    for event in (*events[:FIRST], *events[max(FIRST, len(events) - LAST) :]):
        for held in (event, *(a_dict(event.get(name)) for name in _WRAPPERS)):
            _merge(told, held)
    return Bill(api, told)


_WRAPPERS = ("response", "message", "delta", "metadata", "x_groq")
_USAGES = ("usage", "usageMetadata", "usage_metadata")
_COUNTS = ("prompt_eval_count", "eval_count")
_NAMES = ("model", "modelVersion", "model_version", "service_tier")
TOLD = frozenset({*_USAGES, *_COUNTS, *_NAMES, "meta"})  # what the price of an answer depends on


def _merge(told: Answer, held: Answer) -> None:
    for name in _USAGES:
        if isinstance(usage := held.get(name), dict):
            told[name] = a_dict(told.get(name)) | {one: count for one, count in usage.items() if count is not None}
    told |= {name: found for name in (*_NAMES, *_COUNTS) if isinstance(found := held.get(name), str | int)}


def usage_of(api: Api, answer: object) -> Usage | None:
    """The usage that an answer of an API names; None if it names none."""
    way, put_in, got_out = api.tokens
    for step in way:
        answer = _held(answer, step) if isinstance(answer, dict) else None
    if not isinstance(answer, dict):
        return None
    tokens_in, tokens_out = _sum(answer, put_in), _sum(answer, got_out)
    if not (tokens_in or tokens_out):
        return None
    return Usage(tokens_in, tokens_out, min(tokens_in, _cached(answer)))


def _held(answer: Answer, name: str) -> object:
    # In place of any_of: each call pays for this.
    found = answer.get(name)
    return answer.get(snake(name)) if found is None else found


def _sum(counts: Answer, names: tuple[str, ...]) -> int:
    whole = 0
    for name in names:  # without _held and _count: each call pays for this
        found = counts.get(name)
        if found is None:
            found = counts.get(snake(name))
        if type(found) is int and 0 <= found <= MOST:
            whole += found
    return whole


def _count(number: object) -> int:
    return number if type(number) is int and 0 <= number <= MOST else 0


def _cached(usage: Answer) -> int:
    for name in _CACHED.keys() & usage.keys():
        found, inner = usage[name], _CACHED[name]
        if count := _count(found.get(inner) if inner and isinstance(found, dict) else found):
            return count
    return 0


_CACHED = {
    "prompt_tokens_details": "cached_tokens",
    "input_tokens_details": "cached_tokens",
    "cache_read_input_tokens": "",
    "cacheReadInputTokens": "",
    "cachedContentTokenCount": "",
    "cached_content_token_count": "",
    "prompt_cache_hit_tokens": "",
}
