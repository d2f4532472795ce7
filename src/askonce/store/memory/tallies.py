"""The tallies of a memory. They are few and bounded, and are not counted against its bytes."""

from __future__ import annotations

from askonce.core.tallies import SENDER_LIFE, TABLES, Bucket, Push, Tallied, add, oldest
from askonce.store import ledger


class Tallies:
    """Buckets by prefix, table and number; the memory's lock is held while its methods run."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, str, int], Bucket] = {}
        self._senders: dict[bytes, tuple[int, int]] = {}  # the number of the last push, and when it came (ms)

    def add(self, push: Push, now: int) -> None:
        """Store.tally."""
        if self._senders.get(push.sender, (0, 0))[0] >= push.number:
            return
        self._senders = {name: last for name, last in self._senders.items() if now - last[1] < SENDER_LIFE}
        self._senders[push.sender] = push.number, now
        for tally in push.tallies:
            at = ledger.realm(push.prefix), tally.table, now // TABLES[tally.table].span
            if at not in self._buckets:
                self._expire(now)
            add(self._buckets.setdefault(at, {}), tally)

    def _expire(self, now: int) -> None:
        for at in [at for at in self._buckets if at[2] < oldest(at[1], now)]:
            del self._buckets[at]

    def read(self, realm: int, table: str, first: int) -> list[Tallied]:
        """The tallies of a table from a bucket on."""
        found = [
            (at, label, counts)
            for (whose, name, at), bucket in self._buckets.items()
            for label, counts in bucket.items()
            if (whose, name) == (realm, table) and at >= first
        ]
        return [Tallied(at, label, dict(counts)) for at, label, counts in found]

    def raze(self, realm: int) -> int:
        """Delete a prefix's tallies; return how many buckets there were."""
        mine = [at for at in self._buckets if at[0] == realm]
        for at in mine:
            del self._buckets[at]
        return len(mine)
