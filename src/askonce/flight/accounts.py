"""The accounts of a process at one store: what its lookups and calls cost and saved, gathered, and pushed to the store.

A hit adds one to a number beside its entry, and nothing else. All the rest is done by the background thread, about once
a second: it reads from the entry's header what the answer had cost, once for each entry, adds up, and pushes. What the
store did not take stays for later; a push whose reply was lost is sent again as it was, and the store counts it once.

A number that is added in one line is exact without a lock (events._count). A row that was taken out of the table is
looked at once more a turn later: a thread may still have it in its hand.
"""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from askonce.core.keys import Key
from askonce.core.model import Head
from askonce.core.spent import NOTHING, Balance, Spent
from askonce.core.tallies import (
    BALANCES,
    COUNT,
    EDGES,
    HOTTEST,
    HOURS,
    LATENCIES,
    TABLES,
    Bucket,
    Push,
    Tally,
    add,
    counts_of,
    summed,
)
from askonce.events import log
from askonce.flight.bookings import Booking, Served, Who, booked
from askonce.flight.pricing import Pricer
from askonce.runtime.drive import drive
from askonce.store import Store, StoreTrouble

PUSH = 0.9  # s between two pushes
LONGEST = 10.0  # s between two attempts while the store takes none
TURNS = 10  # turns without anything new after which the thread is left alone
ROWS = 20_000  # entries whose hits are counted at once
WAITING = 10_000  # bookings that wait, for the thread or for a price
HOT = 20  # keys of a push


class _Retired:
    """Rows that are not in the table any more, and for how many turns they are still looked at."""

    __slots__ = ("rows", "turns")

    def __init__(self, rows: dict[bytes, Served]) -> None:
        self.rows = rows
        self.turns = 2


class Accounts:
    """Gathers and pushes. `rows`, `row`, `book` and `note` are for any thread; the background thread calls the rest.

    `start` starts or wakes the background thread.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        self.rows: dict[bytes, Served] = {}  # by fill id
        self._start = start
        self._retired: list[_Retired] = []
        self._bookings: deque[Booking] = deque()
        self._notes: deque[tuple[str, str, bytes, str]] = deque()  # prefix, table, label, counter
        self._waiting: list[Booking] = []
        self._labels: dict[Who, bytes] = {}
        self._pending: dict[str, dict[str, Bucket]] = {}  # by prefix and table
        self._sending: deque[Push] = deque()
        self._sender, self._number = os.urandom(16), 0
        self._next = math.inf  # monotonic s
        self._pause = PUSH
        self._quiet = 0
        self._wanted = self._done = 0  # how often a push was wanted at once, and how many of these were done
        self.listeners: dict[object, Callable[[Who, Balance], object]] = {}  # told of what is added to balances
        self._added = 0
        self.waits = False  # something waited for a price at the last turn

    # from any thread

    def row(self, who: Who, key: Key, head: Head, data: bytes, pricer: Pricer) -> Served:
        """The row of an entry that has none."""
        if len(self.rows) >= ROWS:
            self._retire()
        row = self.rows.setdefault(head.fill, Served(who, key, head, data[: head.length], pricer))
        self._due()
        return row

    def book(self, booking: Booking) -> None:
        """Add to a balance."""
        if len(self._bookings) < WAITING:
            self._bookings.append(booking)
        self._due()

    def note(self, prefix: str, table: str, label: bytes, counter: str = COUNT) -> None:
        """Add one to another table."""
        if len(self._notes) < WAITING:
            self._notes.append((prefix, table, label, counter))
        self._due()

    def took(self, prefix: str, what: bytes, seconds: float) -> None:
        """Note how long a hit or a call took."""
        self.note(prefix, LATENCIES, what, str(bisect_left(EDGES, seconds * 1000)))

    def _due(self) -> None:
        if self._next == math.inf:
            self._next = time.monotonic() + PUSH
            self._start()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to push."""
        return self._next == math.inf and not (self._sending or self.rows or self._bookings or self._notes)

    def push_now(self) -> int:
        """Have the thread push at once; `pushed` says when it has."""
        self._wanted = wanted = self._wanted + 1
        self._next = 0.0
        self._start()
        return wanted

    def pushed(self, wanted: int) -> bool:
        """Whether a push that was wanted was tried."""
        return self._done >= wanted

    # in the background thread

    def due(self) -> float:
        """Seconds until something is to be done; inf if there is nothing."""
        return self._next - time.monotonic()

    def send(self, store: Store, *, writes: bool = True) -> None:
        """Add up what came, and push it, unless the store takes no writes: then it is kept, within the tables' bounds.

        A bug here must not disturb the leases of the process: it is logged, and what was gathered is given up.
        """
        wanted, self._next = self._wanted, time.monotonic() + self._pause
        try:
            came = self._add_up()
            taken = writes and self._pushed(store)
        except Exception:  # noqa: BLE001 - any bug
            log.exception("askonce cannot count what was asked and saved")
            self._pending, came, taken = {}, False, False
        if not taken:
            self._pause = min(2 * self._pause, LONGEST)
            self._next = time.monotonic() + self._pause
        elif not came:
            self._rest()
        self._done = wanted

    def _pushed(self, store: Store) -> bool:
        """Send what was refused before, and then what came since; return whether the store took it all."""
        if not self._sent(store):
            return False
        self._sending += self._made()
        return self._sent(store)

    def _sent(self, store: Store) -> bool:
        """Send the pushes in order; return whether the store took them all."""
        while self._sending:
            try:
                drive(store.tally(self._sending[0]))
            except StoreTrouble:
                return False  # the command may have come all the same: it is sent again as it is
            except Exception:
                self._sending.popleft()  # of a bug: it would stop every later push
                raise
            self._sending.popleft()
        self._pause = PUSH
        return True

    def end(self, store: Store) -> None:
        """Push what is left: the thread ends with its last user."""
        self._add_up(last=True)
        self._pushed(store)

    def _rest(self) -> None:
        """Nothing came in this turn. After some such turns, none follows until something comes."""
        self._quiet += 1
        if self._quiet < TURNS:
            return
        if self.rows:
            self._retire()
        if not self._retired:
            self._next = math.inf  # before the last look: whoever adds something looks at this afterwards
            if self._bookings or self._notes or self.rows:
                self._next = time.monotonic() + PUSH

    def _retire(self) -> None:
        rows, self.rows = self.rows, {}
        self._retired.append(_Retired(rows))

    # adding up

    def _add_up(self, *, last: bool = False) -> bool:
        """Add up what came; return whether anything did, or waits for its price."""
        before = self._added
        hot: dict[str, list[tuple[int, Served]]] = {}
        self.waits = False
        retired, self._retired = self._retired, []
        for one in retired:
            one.turns -= 1
            waits = [self._add_row(row, hot, now=last) for row in one.rows.values()]
            if one.turns or not all(waits):
                one.turns = max(1, one.turns)
                self._retired.append(one)
        for row in list(self.rows.values()):
            self._add_row(row, hot, now=last)
        self._add_bookings(now=last)
        self._add_notes()
        for prefix, served in hot.items():
            for hits, row in sorted(served, key=lambda one: -one[0])[:HOT]:
                self._add(prefix, Tally(HOTTEST, row.key.digest.hex().encode(), {COUNT: hits}))
        came = self._added > before or self.waits
        self._quiet = 0 if came else self._quiet
        return came

    def _made(self) -> list[Push]:
        """Pushes of what was added up."""
        pending, self._pending = self._pending, {}
        return [self._push(prefix, tables) for prefix, tables in pending.items()]

    def _push(self, prefix: str, tables: dict[str, Bucket]) -> Push:
        self._number += 1
        hour = summed(tables.get(BALANCES, {}).values())
        tallies = [Tally(table, label, counts) for table, bucket in tables.items() for label, counts in bucket.items()]
        tallies += [Tally(HOURS, b"", hour)] if hour else []
        return Push(prefix, self._sender, self._number, tuple(tallies))

    def _add_row(self, row: Served, hot: dict[str, list[tuple[int, Served]]], *, now: bool) -> bool:
        """Add what a row has counted; False if it has to wait for its price."""
        if not (row.hits or row.stale or row.parts):
            return True
        if (cost := row.cost(now=now)) is None:
            self.waits = True
            return False
        hits, stale, parts = row.hits, row.stale, row.parts
        row.hits -= hits
        row.stale -= stale
        row.parts -= parts
        hot.setdefault(row.who.prefix, []).append((hits + stale + parts, row))
        whole = cost.times(hits)
        if parts:
            whole += replace(cost, calls=0, ms=0).times(parts)
        self._balance(row.who, Balance(hits=whole, stale=cost.times(stale) if stale else NOTHING))
        return True

    def _add_notes(self) -> None:
        """Add up the notes, and then each sum: there are few different ones."""
        counted: Counter[tuple[str, str, bytes, str]] = Counter()
        while self._notes:
            counted[self._notes.popleft()] += 1
        for (prefix, table, label, counter), count in counted.items():
            self._add(prefix, Tally(table, label, {counter: count}))

    def _add_bookings(self, *, now: bool) -> None:
        """Add up what is settled, for each who and kind, and then each sum."""
        waiting, self._waiting = self._waiting, []
        while self._bookings:
            waiting.append(self._bookings.popleft())
        settled: dict[tuple[Who, str], list[Spent]] = {}
        for booking in waiting:
            priced = booking.pricer is None or booking.cost.settle(booking.pricer)
            if not (priced or now) and len(self._waiting) < WAITING:
                self._waiting.append(booking)
                self.waits = True
                continue
            settled.setdefault((booking.who, booking.kind), []).extend(booking.whole())
        for (who, kind), parts in settled.items():
            self._balance(who, booked(kind, parts))

    def _balance(self, who: Who, balance: Balance) -> None:
        label = self._labels.get(who)
        if label is None:
            if len(self._labels) >= 4 * TABLES[BALANCES].most:
                self._labels.clear()
            label = self._labels[who] = who.label()
        self._add(who.prefix, Tally(BALANCES, label, counts_of(balance)))
        for tell in list(self.listeners.values()):
            tell(who, balance)

    def _add(self, prefix: str, tally: Tally) -> None:
        if tally.counts:
            self._added += 1
            add(self._pending.setdefault(prefix, {}).setdefault(tally.table, {}), tally)
