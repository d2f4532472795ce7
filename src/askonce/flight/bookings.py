"""What is booked: whose lookup it was, what it cost, and the rows in which the hits on entries are counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from askonce.core.codec import Codec
from askonce.core.costs import spent, spent_of, unpack_usage
from askonce.core.keys import Key
from askonce.core.labels import OTHER, looks_random, looks_secret
from askonce.core.model import USAGE, Corrupt, Head, unpack_extensions
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill, Usage, usage_in
from askonce.core.spent import Balance, Spent, sum_of
from askonce.flight.pricing import Pricer

LABEL = 100  # characters of a model, scope or tenant
TALLY_KEY = Key(bytes(32), "v")  # a key of the partition that has the tallies
_SEALED = TALLY_KEY, bytes(16)  # what a label is sealed as: the same label always gives the same bytes


class Who(NamedTuple):
    """Whose lookups are counted together."""

    prefix: str
    codec: Codec
    model: str = ""
    scope: str = ""
    tenant: str = ""

    def label(self) -> bytes:
        """The label of their balance. Some name a tenant by a credential: the store and what shows sums have none."""
        parts = (OTHER if looks_secret(part) and looks_random(part) else part for part in self[2:])
        return self.sealed("\0".join(part.replace("\0", "")[:LABEL] for part in parts))

    def sealed(self, text: str) -> bytes:
        """A text as a label: encrypted if answers are."""
        return self.codec.close_text(*_SEALED, text.encode("utf-8", "replace"))


def opened(codec: Codec, label: bytes) -> str:
    """The text of an encrypted label; Corrupt if its key is not here."""
    return codec.open_text(*_SEALED, label).decode("utf-8", "replace")


class Cost:
    """What an answer cost. `bills`: what its price is made of, while that is not settled; `read` brings them later."""

    __slots__ = ("bills", "price", "read", "usage")

    def __init__(
        self,
        usage: Usage | None = None,
        price: int | None = None,
        bills: Sequence[Bill] = (),
        read: Callable[[], Sequence[Bill]] | None = None,
    ) -> None:
        self.usage = usage
        self.price = price
        self.bills = bills
        self.read = read

    @classmethod
    def of(cls, bills: Sequence[Bill], pricer: Pricer) -> Cost:
        """The cost of an answer; its price is found now if prices are settled, else later."""
        usage = usage_in(bills)
        if usage is None:
            return FREE
        price = pricer.price(bills)
        if price is not None or pricer.settled:
            return cls(usage, price)
        pricer.begin()
        return cls(usage, None, [bill.kept() for bill in bills])

    def settle(self, pricer: Pricer) -> bool:
        """Find the price, if it is not settled; return whether it is now."""
        if self.read is not None:
            made, self.read = Cost.of(self.read(), pricer), None
            self.usage, self.price, self.bills = made.usage, made.price, made.bills
        if self.bills and pricer.settled:
            self.price, self.bills = pricer.price(self.bills), ()
        return not self.bills

    def share(self, weight: int, of: int, before: int) -> Cost:
        """A part of it, of `of` in all, after parts that weigh `before`; all parts add up to the whole."""
        if self.usage is None or not of:
            return self
        return _Share(self, weight, of, before)


class _Share(Cost):
    """A part of the cost of one call for several answers."""

    __slots__ = ("_before", "_of", "_weight", "_whole")

    def __init__(self, whole: Cost, weight: int, of: int, before: int) -> None:
        self._whole, self._weight, self._of, self._before = whole, weight, of, before
        super().__init__(bills=whole.bills)
        self._divide()

    def settle(self, pricer: Pricer) -> bool:
        """Find the price of the whole."""
        settled = self._whole.settle(pricer)
        self._divide()
        return settled

    def _divide(self) -> None:
        whole = self._whole
        parts = [self._part(count) for count in (*(whole.usage or Usage()), whole.price or 0)]
        self.usage, self.price = Usage(*parts[:3]), None if whole.price is None else parts[3]
        self.bills = whole.bills

    def _part(self, count: int) -> int:
        return (self._before + self._weight) * count // self._of - self._before * count // self._of


FREE = Cost()


class Booking(NamedTuple):
    """Something to add to a balance: `kind` of KINDS; `cost` adds its tokens and money to `spent`."""

    who: Who
    kind: str
    spent: Spent
    cost: Cost = FREE
    pricer: Pricer | None = None

    def whole(self) -> tuple[Spent, ...]:
        """What it adds, in parts."""
        cost = self.cost
        if cost.usage is None and cost.price is None:
            return (self.spent,)
        return self.spent, spent(cost.usage, cost.price, 0, 0)


def booked(kind: str, parts: Sequence[Spent]) -> Balance:
    """What bookings of one kind add; ``unanswered`` are their calls."""
    spent = sum_of(parts)
    whole: dict[str, Any] = {kind: spent.calls if kind == "unanswered" else spent}
    return Balance(**whole)


class Served:
    """One entry's uses in this process: hits, stale answers, and parts of batches, which are no calls of their own."""

    __slots__ = ("head", "header", "hits", "key", "parts", "pricer", "spent", "stale", "who")

    def __init__(self, who: Who, key: Key, head: Head, header: bytes, pricer: Pricer) -> None:
        self.hits = self.stale = self.parts = 0
        self.who = who
        self.key = key
        self.head = head
        self.header = header
        self.pricer = pricer
        self.spent: Spent | None = None

    def cost(self, *, now: bool) -> Spent | None:
        """What its answer cost; None while its price is not settled, unless it is wanted `now`."""
        if self.spent is None:
            found = read_cost(self.who, self.head, self.header, self.pricer)
            if found.unpriced and not (now or self.pricer.settled):
                self.pricer.begin()
                return None
            self.spent, self.header = found, b""
        return self.spent


def read_cost(who: Who, head: Head, header: bytes, pricer: Pricer) -> Spent:
    """What the answer of an entry cost. One without a price is priced by its tokens alone."""
    try:
        said = who.codec.open_labels(head, unpack_extensions(header, head))
        found = spent_of(said)
    except Corrupt:
        return Spent(1)
    if found.unpriced and pricer.settled:
        price = pricer.price_of(unpack_usage(said[USAGE]), who.model)
        found = found if price is None else replace(found, nanodollars=price, unpriced=0)
    return found
