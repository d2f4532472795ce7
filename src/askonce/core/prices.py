"""What an answer costs: by a list of the user's, and by the library genai-prices, which needs no network.

The library's table is imported when it is first needed, which takes some tenths of a second: never on the path of a
lookup. Its prices are mostly sums of counts times rates. So the rates of a model are worked out once, by asking the
library for the price of each count, and its prices that are not such sums (above a number of tokens, at a time of day)
are asked for each time. It may raise nearly anything: then an answer has no price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any

from askonce.core.memo import Memo
from askonce.core.providers.answers import Answer, a_dict
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill, Usage
from askonce.core.spent import NANO
from askonce.core.usage_shapes import Counted, UsageShapes
from askonce.errors import ConfigError

MODELS = 4096  # whose rates are remembered
MILLION = 1_000_000
Price = int | None  # nano-dollars


# --- a list of the user's ----------------------------------------------------------------------------------------


class Rates(NamedTuple):
    """Dollars for a million tokens. `cached`: of the input that the provider's prompt cache had."""

    input: float
    output: float
    cached: float | None = None

    def price(self, usage: Usage) -> int:
        """Nano-dollars."""
        cached = usage.tokens_cached if self.cached is not None else 0
        dollars = (usage.tokens_in - cached) * self.input + usage.tokens_out * self.output + cached * (self.cached or 0)
        return round(dollars * NANO / MILLION)


_FIELDS = {"input": "input", "output": "output", "cached_input": "cached"}


def price_list(said: object, where: str) -> Mapping[str, Rates]:
    """Rates by pattern of a model's name. `where`: how an error names the list. ConfigError for anything else.

    ``{"models": {"gpt-9*": {"input": 2.5, "output": 10, "cached_input": 1.25}}}``
    """
    if not isinstance(said, Mapping) or not isinstance(said.get("models"), Mapping) or len(said) > 1:
        unknown = [name for name in said if name != "models"] if isinstance(said, Mapping) else []
        about = f"{unknown[0]!r} is unknown; " if unknown else ""
        raise ConfigError(f'{where}: {about}write a table [models."gpt-9*"] with input, output and cached_input')
    return {str(model): _rates(rates, f"{where}: model {model!r}") for model, rates in said["models"].items()}


def _rates(said: object, where: str) -> Rates:
    if not isinstance(said, Mapping):
        raise ConfigError(f"{where} is {said!r}: write input and output, in dollars for a million tokens")
    for name, value in said.items():
        if name not in _FIELDS:
            raise ConfigError(f"{where}: {name!r} is unknown: write {_nearest(str(name))}")
        if type(value) not in {int, float} or not 0 <= value < 1e9:
            raise ConfigError(f"{where}: {name} is {value!r}: write dollars for a million tokens, such as 2.5")
    if missing := {"input", "output"} - said.keys():
        raise ConfigError(f"{where} has no {' and no '.join(sorted(missing))}: write dollars for a million tokens")
    return Rates(**{_FIELDS[name]: float(value) for name, value in said.items()})


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _FIELDS, 1, 0.5)
    return near[0] if near else ", ".join(_FIELDS)


# --- the library -------------------------------------------------------------------------------------------------

_READ_BY = {  # by the name of an API: which provider's extractor reads its usage, and that extractor's flavor
    "chat": ("openai", "chat"),
    "completions": ("openai", "chat"),
    "responses": ("openai", "responses"),
    "embeddings": ("openai", "embeddings"),
    "messages": ("anthropic", "default"),
    "converse": ("aws", "default"),
    "gemini": ("google", "default"),
}


class Library:
    """Prices of genai-prices. `load` imports its table; ImportError if it is not installed."""

    def __init__(self) -> None:
        self._library: Any = None
        self._known: Memo[tuple[object, ...], Rated] = Memo(MODELS)
        self._shapes = UsageShapes()

    @property
    def loaded(self) -> bool:
        """Whether its table is here."""
        return self._library is not None

    def load(self) -> None:
        """Import its table."""
        library = import_module("genai_prices")
        library.data_snapshot.get_snapshot()
        self._library = library

    def price(self, bill: Bill, now: float) -> Price:
        """The price of an answer, nano-dollars; None if it is unknown, or if the table is not loaded. `now`: s."""
        if self._library is None:
            return None
        try:
            model, counts = self._counted(bill)
            return self._first(counts, bill.where, (model, bill.model), _context(bill.answer), _at(now))
        except Exception:  # noqa: BLE001 - LookupError, ValueError, AttributeError, ...: what an answer holds decides
            return None

    def price_of(self, usage: Usage, model: str, now: float) -> Price:
        """The price of so many tokens of a model, where nothing else is known of the answer."""
        if self._library is None:
            return None
        try:
            return self._first(_counts(usage), "", (model,), {}, _at(now))
        except Exception:  # noqa: BLE001 - as above
            return None

    def _counted(self, bill: Bill) -> tuple[str, Mapping[str, int]]:
        """The model that an answer names, and its counts as the library calls them, without those that are 0."""
        if (read_by := _READ_BY.get(bill.api.name)) is None:
            return str(bill.answer.get("model") or ""), _counts(bill.usage or Usage())
        model, counts = self._shapes.counted(bill.api.name, bill.answer, partial(self._extracted, read_by))
        return model or "", counts

    def _extracted(self, read_by: tuple[str, str], answer: Answer) -> Counted:
        provider, flavor = read_by
        snapshot = self._library.data_snapshot.get_snapshot()
        model, usage = snapshot.find_provider(None, provider, None).extract_usage(answer, api_flavor=flavor)
        return model, {name: count for name, count in vars(usage).items() if count and type(count) is int}

    def _first(
        self, counts: Mapping[str, int], where: str, models: Iterable[str], context: Mapping[str, str], at: datetime
    ) -> Price:
        """The price by the first of these models that is known: by the host that it came from, else by its name."""
        for model in filter(None, models):
            for host in dict.fromkeys((where, "")):
                if (price := self._by_model(counts, host, model, context, at)) is not None:
                    return price
        return None

    def _by_model(
        self, counts: Mapping[str, int], where: str, model: str, context: Mapping[str, str], at: datetime
    ) -> Price:
        # Prices change from one day to another.
        key = where, model, at.toordinal(), *counts, *context.items()
        rated = self._known.get(key)
        if rated is None:
            rated = self._worked_out(counts, where, model, context, at)
            self._known.keep(key, rated, len(where) + len(model) + sum(map(len, context.values())))
        return rated(counts, at)

    def _worked_out(
        self, counts: Mapping[str, int], where: str, model: str, context: Mapping[str, str], at: datetime
    ) -> Rated:
        """How the price of such counts of a model is found: by rates, if that gives the same as asking."""
        asked = self._asking(where, model, context)
        exact = asked(counts, at)
        if exact is None:
            return _unknown
        rates = _rates_of(counts, lambda some: asked(some, at) or 0)
        if not self._steady(where, model) or _sum(counts, rates) != exact:
            return asked
        return lambda some, _: _sum(some, rates)

    def _asking(self, where: str, model: str, context: Mapping[str, str]) -> Rated:
        """Asks the library each time."""
        library, place = self._library, {"provider_api_url": where} if where else {}

        def asked(counts: Mapping[str, int], at: datetime) -> Price:
            usage = library.Usage(**counts)
            how = {"genai_request_timestamp": at, "price_context": dict(context) or None, **place}
            try:
                found = library.calc_price(usage, model, **how)
            except LookupError:
                return None
            nanodollars: int = round(found.total_price * NANO)
            return nanodollars

        return asked

    def _steady(self, where: str, model: str) -> bool:
        """Whether a model's prices depend neither on the time of the day nor on the number of tokens."""
        types = self._library.types
        _, info = self._library.data_snapshot.get_snapshot().find_provider_model(model, None, None, where or None)
        several = [] if isinstance(info.prices, types.ModelPrice) else info.prices
        if any(isinstance(one.constraint, types.TimeOfDateConstraint) for one in several):
            return False
        prices = [one.prices for one in (*several, *(info.price_variants or ()))] or [info.prices]
        if not several:
            prices.append(info.prices)
        return not any(isinstance(one, types.TieredPrices) for price in prices for one in vars(price).values())


Rated = Callable[[Mapping[str, int], datetime], Price]
STEP = 1_000  # counts
_HOLDING = frozenset({"input_tokens", "output_tokens"})


def _unknown(_counts: Mapping[str, int], _at: datetime) -> Price:
    return None


def _rates_of(counts: Mapping[str, int], price: Callable[[Mapping[str, int]], int]) -> dict[str, float]:
    """Nano-dollars for one of each count, by raising one at a time. Tokens in and out hold the others, so are more."""
    base = {name: (40 if name in _HOLDING else 1) * STEP for name in counts}
    before = price(base)
    return {name: (price({**base, name: count + STEP}) - before) / STEP for name, count in base.items()}


def _sum(counts: Mapping[str, int], rates: Mapping[str, float]) -> int:
    return round(sum(count * rates[name] for name, count in counts.items()))


def _counts(usage: Usage) -> dict[str, int]:
    names = ("input_tokens", "output_tokens", "cache_read_tokens")
    return {name: count for name, count in zip(names, usage, strict=True) if count}


def _context(answer: Answer) -> dict[str, str]:
    """What chooses among a model's prices: the tier and speed that the provider says it served with."""
    usage = a_dict(answer.get("usage"))
    tier, speed = answer.get("service_tier") or usage.get("service_tier"), usage.get("speed")
    if tier is speed is None:  # of most
        return {}
    return {name: word.lower() for name, word in (("service_tier", tier), ("speed", speed)) if isinstance(word, str)}


def _at(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
