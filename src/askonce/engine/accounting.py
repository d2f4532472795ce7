"""Accounting: which lookups were asked, led, hit, joined or answered by an old answer, and what each of them cost.

Each lookup that got an answer counts once, with the usage of that answer, and each call counts once (core.spent). The
calls of a batch are counted with the batch, and its items only bring their tokens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

from askonce.core.costs import extensions_of
from askonce.core.model import Head
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill
from askonce.core.spent import NOTHING, Spent
from askonce.core.tallies import PASSED, UNSTORED
from askonce.core.tape import data_frames
from askonce.engine.answer import Answer
from askonce.engine.question import Question
from askonce.flight.accounts import Accounts
from askonce.flight.bookings import FREE, Booking, Cost, Served, Who, read_cost
from askonce.flight.flight import Flight
from askonce.flight.guarded_store import GuardedStore
from askonce.runtime.drive import drive
from askonce.runtime.exits import ending
from askonce.runtime.mode import Signal
from askonce.store import StoreTrouble
from askonce.stream.tape import Tape

HIT, CALL = b"hit", b"call"  # labels of latencies
PUSHING = 0.5  # s that the last push is waited for: the store may be away
LOOK = 0.005  # s between two looks whether the background thread has pushed
LARGEST = 2**20  # bytes of a shared answer whose usage is read
UNSENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "LocalProtocolError", "ProxyError"}
)


class Paid(NamedTuple):
    """A call that was booked: `kind` of KINDS; `sent`: whether anything went upstream."""

    kind: str
    spent: Spent
    cost: Cost
    sent: bool


class Accounting:
    """Books what one engine does. Nothing here waits, and no method raises."""

    def __init__(self, guarded: GuardedStore) -> None:
        self.accounts: Accounts = guarded.background.accounts
        self._background = guarded.background
        self._store = guarded.store
        self._pricer = guarded.pricer
        self._codec = guarded.codec
        self._prefix = guarded.store.prefix

    def who(self, question: Question) -> Who:
        """Whose lookup it is."""
        plan = question.plan
        return Who(self._prefix, self._codec, question.model, plan.scope, plan.tenant)

    def _book(self, question: Question, kind: str, spent: Spent, cost: Cost = FREE) -> None:
        self.accounts.book(Booking(self.who(question), kind, spent, cost, self._pricer))

    # calls

    def paid(self, flight: Flight, question: Question, answer: Answer, seconds: float) -> Answer:
        """Book a call; return its answer, with what the entry says of its cost."""
        cost, sent = self._cost(question, answer), answer.calls > 0
        self._settle(flight, question, self._called([(flight, question)], seconds, sent=sent), cost, sent=sent)
        return _told(answer, cost)

    def paid_all(
        self, group: Sequence[tuple[Flight, Question]], answers: Sequence[Answer], seconds: float
    ) -> list[Answer]:
        """Book one call whose answers are shares of one cost, by their weights."""
        cost, sent = self._cost(group[0][1], answers[0]), answers[0].calls > 0
        spent = self._called(group, seconds, sent=sent)
        before = [0, *accumulate(answer.weight for answer in answers)]
        told = []
        for (flight, question), answer, at in zip(group, answers, before, strict=False):
            share = cost if len(answers) == 1 else cost.share(answer.weight, before[-1], at)
            self._settle(flight, question, spent, share, sent=sent)
            spent = NOTHING
            told.append(_told(answer, share))
        return told

    def failed(self, group: Sequence[tuple[Flight, Question]], seconds: float, error: BaseException) -> None:
        """Book a call that brought nothing. One that was not sent, as its error says, is no call."""
        sent = type(error).__name__ not in UNSENT
        spent = self._called(group, seconds, sent=sent)
        for flight, question in group:
            self._settle(flight, question, spent, FREE, sent=sent)
            spent = NOTHING

    def cut(self, flight: Flight, question: Question, answer: Answer, seconds: float) -> None:
        """Book a stream that ended without an answer, as far as it told its usage."""
        spent = self._called([(flight, question)], seconds, sent=True)
        self._settle(flight, question, spent, self._cost(question, answer), sent=True)

    def _called(self, group: Sequence[tuple[Flight, Question]], seconds: float, *, sent: bool) -> Spent:
        flight, question = group[0]
        if not (sent or flight.is_refresh or flight.paid):
            self.unanswered(question)
        return Spent(1, ms=int(seconds * 1000)) if sent else NOTHING

    def _cost(self, question: Question, answer: Answer) -> Cost:
        # Bill(), because _replace takes three times as long.
        bills = [Bill(bill.api, bill.answer, bill.where, question.model) for bill in answer.bills]
        return Cost.of(bills, self._pricer)

    def _settle(self, flight: Flight, question: Question, spent: Spent, cost: Cost, *, sent: bool) -> None:
        """Book a flight's call, and those that read its stream; once, also if the end of a stream is repeated."""
        if flight.paid is not None:
            return
        kind = "refreshes" if flight.is_refresh else "doubled" if flight.takeover else "led"
        asked = spent if flight.is_refresh or not spent.calls or self._counts(question) else NOTHING
        flight.paid = Paid(kind, asked, cost, sent)
        if kind == "led":
            self._book(question, kind, asked, cost)
            if asked is not spent:  # not the first call of its batch
                self._book(question, "doubled", spent)
        else:
            self._book(question, kind, spent, cost)
            if kind == "doubled":  # its caller had joined the flight that went silent
                self._book(question, "joined", asked, cost)
        self._take_joined(flight)

    @staticmethod
    def _counts(question: Question, *, counted: bool = True) -> bool:
        """Whether a lookup counts here: a batch counts once. `counted`: False to take back what was counted."""
        part = question.part
        if part is None:
            return True
        before, part.counted = part.counted, counted
        return before is not counted

    # lookups

    def row(self, question: Question, head: Head, data: bytes) -> Served:
        """The row in which hits on an entry are counted."""
        return self.accounts.row(self.who(question), question.key, head, data, self._pricer)

    def joined(self, question: Question, flight: Flight) -> None:
        """A caller has the answer of another caller's flight; of a stream, the cost is known at its end."""
        flight.joined.append(question)
        self._take_joined(flight)

    def _take_joined(self, flight: Flight) -> None:
        paid: Paid | None = flight.paid
        while paid is not None and flight.joined:
            question = flight.joined.pop()
            if paid.sent:
                spent = Spent() if question.part else replace(paid.spent, calls=1)
                self._book(question, "joined", spent, paid.cost)
                question.shared = "joined", spent
            elif self._counts(question):
                self._book(question, "unanswered", Spent(1))
                question.shared = "unanswered", Spent(1)

    def joined_entry(self, question: Question, head: Head, data: bytes) -> None:
        """A caller has the entry of a flight of another process."""
        self._book(question, "joined", self._cost_of(question, head, data))

    def joined_answer(self, question: Question, body: bytes | memoryview) -> None:
        """A caller has an answer that was shared and not stored; its usage is read later."""
        cost = FREE if len(body) > LARGEST else Cost(read=partial(_bills_in, question.key.form, bytes(body)))
        question.shared = "joined", Spent(int(not question.part))
        self._book(question, *question.shared, cost)

    def followed(self, question: Question, tape: Tape) -> None:
        """A caller has read the stream of another process, or a part of it, which tells no usage."""
        cost = FREE if tape.size > LARGEST else Cost(read=partial(_bills_of_parts, tape.said()))
        self._book(question, "joined", Spent(1), cost)

    def rescued(self, question: Question, head: Head, data: bytes) -> None:
        """A caller has an old answer in place of upstream's trouble."""
        self._book(question, "stale", self._cost_of(question, head, data))

    def in_vain(self, question: Question, flight: Flight) -> None:
        """The call of a caller that has an old answer instead was one too many: it counts by that answer."""
        paid: Paid | None = flight.paid
        if paid is None or not (paid.spent.calls or not paid.sent) or not self._counts(question, counted=False):
            return
        if not paid.sent:
            self._book(question, "unanswered", Spent(-1))
            return
        self._book(question, "led" if paid.kind == "led" else "joined", NOTHING - paid.spent)
        if paid.kind == "led":
            flight.paid = paid._replace(kind="doubled")
            self._book(question, "doubled", paid.spent)

    def _cost_of(self, question: Question, head: Head, data: bytes) -> Spent:
        found = read_cost(self.who(question), head, data[: head.length], self._pricer)
        return replace(found, calls=0, ms=0) if question.part else found

    def saved(self, head: Head | None, header: bytes | None) -> Spent:
        """What the caller of an answer did not spend, by the entry's header; nothing if it was not in the store."""
        if head is None or header is None:
            return Spent()
        row = self.accounts.rows.get(head.fill)  # most have been read before
        known = row.spent if row is not None else None
        return known or read_cost(Who(self._prefix, self._codec), head, header[: head.length], self._pricer)

    def unserved(self, question: Question) -> None:
        """Take back the hit that was counted last: its caller could not use the answer, and asks once more."""
        row, question.served = question.served, None
        if row is not None and question.part:
            row.parts -= 1
        elif row is not None:
            row.hits -= 1

    def unjoined(self, question: Question) -> None:
        """Take back what was counted for a caller that asks once more: the answer was not for it."""
        shared, question.shared = question.shared, None
        if shared is None:
            return
        self._book(question, shared[0], NOTHING - shared[1])
        if shared[0] == "unanswered":
            self._counts(question, counted=False)

    def unanswered(self, question: Question) -> None:
        """A lookup, or a batch, ended without an answer and without a call."""
        if self._counts(question):
            self._book(question, "unanswered", Spent(1))

    def ended(self, question: Question) -> None:
        """A caller gets the error of a call. A batch counts by it, if it does not count yet."""
        if question.part is not None and self._counts(question):
            self._book(question, "joined", Spent(1))

    # pushing

    async def push(self, signal: Signal, until: float, sending: float = PUSHING) -> None:
        """Push what was counted here, with the prices that are being loaded, until then (monotonic s) at most.

        `sending`: how long one push is waited for, in s.
        """
        if self.accounts.idle:
            return
        await self._pushed(signal, min(until, time.monotonic() + sending))
        while self.accounts.waits and not self._pricer.settled and time.monotonic() < until:
            await signal.wait(LOOK)
        if self.accounts.waits:
            await self._pushed(signal, min(until, time.monotonic() + sending))

    async def _pushed(self, signal: Signal, until: float) -> None:
        wanted = self.accounts.push_now()
        if not self._background.runs and ending():  # no thread can be started any more
            with contextlib.suppress(StoreTrouble):  # nor is there always a store
                store = self._store.blocking()
                self.accounts.end(store)
                drive(store.close())
            return
        while not self.accounts.pushed(wanted) and time.monotonic() < until:
            await signal.wait(LOOK)

    # batches

    def batch(self, question: Question, kind: str, ms: int) -> None:
        """A batch without a call of its own: count the one that it would have made."""
        self._counts(question)
        self.accounts.book(Booking(self.who(question), kind, Spent(1, ms=ms)))

    # what passes, and what is not stored

    def passed(self, reason: str) -> None:
        """A request was not looked up."""
        self._note(PASSED, reason)

    def unstored(self, reason: str) -> None:
        """An answer was not stored."""
        self._note(UNSTORED, reason)

    def _note(self, table: str, reason: str) -> None:
        self.accounts.note(self._prefix, table, Who(self._prefix, self._codec).sealed(reason[:100]))

    def took(self, what: bytes, seconds: float) -> None:
        """How long a hit or a call took."""
        self.accounts.took(self._prefix, what, seconds)


def _told(answer: Answer, cost: Cost) -> Answer:
    more = extensions_of(cost.usage, cost.price)
    return answer._replace(extensions={**answer.extensions, **more}) if more else answer


def _bills_in(form: str, body: bytes) -> Sequence[Bill]:
    from askonce.core.shared_bills import bills_in  # few programs share an answer without storing it

    return bills_in(form, body)


def _bills_of_parts(parts: Sequence[bytes]) -> Sequence[Bill]:
    return _bills_in("s", data_frames([(0, part) for part in parts]))
