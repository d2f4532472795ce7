"""The Pricer of a cache: what an answer costs, by the user's list first, and then by a library that loads meanwhile.

Loading the library takes some tenths of a second, so a thread of its own does it, once for the process, when the first
answer is to be priced. Until it has ended, prices are not settled: what needs one waits, outside of any lookup.
"""

from __future__ import annotations

import fnmatch
import os
import time
from collections.abc import Mapping, Sequence

from askonce.core.memo import Memo
from askonce.core.prices import Library, Price, Rates
from askonce.core.providers.usage import Bill, Usage
from askonce.core.tallies import MOST
from askonce.events import log
from askonce.runtime.exits import start_thread

MODELS = 4096  # whose rates in a list are remembered


class _Loading:
    """The library of this process, and the thread that loads it."""

    def __init__(self) -> None:
        self.library = Library()
        self.failed = False
        self._begun = 0  # the process whose thread loads it

    @property
    def over(self) -> bool:
        """Whether it is loaded, or cannot be."""
        return self.failed or self.library.loaded

    def begin(self) -> None:
        """Load it in a thread, unless that was begun."""
        if self.over or self._begun == os.getpid():
            return
        try:
            self._begun = os.getpid()
            if start_thread("askonce-prices", self._load) is None:
                self.failed = True
        except BaseException:  # an interrupt: nothing loads it
            self._begun = 0
            raise

    def _load(self) -> None:
        try:
            self.library.load()
        except ImportError:
            self.failed = True  # the extra is not installed: its answers are counted as unpriced
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, answers have no price
            self.failed = True
            log.warning("genai-prices cannot be used: %r; answers have no price", error)


_loading = _Loading()


class Pricer:
    """Prices answers by `own`, rates by pattern of a model's name, and then, unless it is `alone`, by the library."""

    def __init__(self, own: Mapping[str, Rates] | None = None, *, alone: bool = False) -> None:
        self._own = {pattern.lower(): rates for pattern, rates in (own or {}).items()}
        self._alone = alone
        self._found: Memo[str, tuple[Rates | None]] = Memo(MODELS)

    @property
    def settled(self) -> bool:
        """Whether a price that is unknown now stays unknown."""
        return self._alone or _loading.over

    def begin(self) -> None:
        """Begin to load what is needed."""
        if not self._alone:
            _loading.begin()

    def price(self, bills: Sequence[Bill]) -> Price:
        """The price of an answer, nano-dollars; None if it is unknown, or not settled."""
        prices = [self._price(bill) for bill in bills]
        known = [price for price in prices if price is not None]
        return min(sum(known), MOST) if known and len(known) == len(prices) else None

    def _price(self, bill: Bill) -> Price:
        if self._own and (usage := bill.usage) is not None:
            for model in (str(bill.answer.get("model") or bill.answer.get("modelVersion") or ""), bill.model):
                if (rates := self._rates(model)) is not None:
                    return rates.price(usage)
        return None if self._alone else _loading.library.price(bill, time.time())

    def price_of(self, usage: Usage, model: str) -> Price:
        """The price of so many tokens of a model."""
        if (rates := self._rates(model)) is not None:
            price: Price = rates.price(usage)
        else:
            price = None if self._alone else _loading.library.price_of(usage, model, time.time())
        return None if price is None else min(price, MOST)

    def _rates(self, model: str) -> Rates | None:
        """The rates by the longest pattern that the model's name fits."""
        if not self._own or not model:
            return None
        found = self._found.get(model)
        if found is None:
            fits = [pattern for pattern in self._own if fnmatch.fnmatchcase(model.lower(), pattern)]
            found = (self._own[max(fits, key=len)] if fits else None,)
            self._found.keep(model, found, len(model))
        return found[0]


UNPRICED = Pricer(alone=True)
