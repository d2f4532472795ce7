"""The laws of tallies: what processes gathered adds up, once each, in buckets of bounded size."""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

import os
import random

from askonce.core.tallies import BALANCES, DAY, HOTTEST, HOURS, OTHER, TABLES, Bucket, Push, Tallied, Tally, add
from askonce.store import Store
from askonce.testing.trial import Trial, key

MODEL = b"gpt-9\0\0"
MOST = TABLES[HOTTEST].most


class TallyLaws(Trial):
    """What tally and tallied promise."""

    def push(self, *tallies: Tally, sender: bytes = b"", number: int = 1, store: Store | None = None) -> None:
        """One push, by default of a sender of its own."""
        push = Push(self.prefix, sender or os.urandom(16), number, tallies)
        self.do((store or self.store).tally(push))

    def counted(self, table: str, back: int = 1, store: Store | None = None) -> Bucket:
        """All counters of a table's last buckets, by label."""
        _, found = self.do((store or self.store).tallied(table, back))
        return {one.label: dict(one.counts) for one in found}

    def test_what_several_processes_gathered_adds_up(self) -> None:
        self.push(Tally(BALANCES, MODEL, {"hn": 2, "hi": 30}), Tally(HOURS, b"", {"hn": 2}))
        self.push(Tally(BALANCES, MODEL, {"hn": 1, "ln": 1}), Tally(BALANCES, b"x", {"hn": 5}), store=self.another())
        assert self.counted(BALANCES) == {MODEL: {"hn": 3, "hi": 30, "ln": 1}, b"x": {"hn": 5}}
        assert self.counted(HOURS) == {b"": {"hn": 2}}

    def test_a_push_that_comes_twice_counts_once(self) -> None:
        me = os.urandom(16)
        for number in (1, 1, 2, 1, 2, 3):
            self.push(Tally(BALANCES, MODEL, {"hn": 10**number}), sender=me, number=number)
        assert self.counted(BALANCES) == {MODEL: {"hn": 1110}}

    def test_nothing_is_counted_before_anything_was_pushed(self) -> None:
        now, found = self.do(self.store.tallied(BALANCES, 400))
        assert found == []
        assert abs(now - self.now_us() // 1000) < 60_000

    def test_labels_may_be_any_bytes_and_counts_may_fall(self) -> None:
        labels = [b"", b"\0", b"\0\0n", b"n\0", bytes(range(255)), "größe\0\0".encode()]
        for label in labels:
            self.push(Tally(BALANCES, label, {"hn": 7, "hu": 2**62}))
            self.push(Tally(BALANCES, label, {"hn": -9}))
        assert self.counted(BALANCES) == {label: {"hn": -2, "hu": 2**62} for label in labels}

    def test_a_counter_that_is_full_stays_so_and_stops_no_other(self) -> None:
        for _ in range(3):
            self.push(Tally(BALANCES, MODEL, {"hu": 2**62, "lu": -(2**62), "hi": 2**61 + 5, "hn": 1}))
        assert self.counted(BALANCES) == {MODEL: {"hu": 2**62, "lu": -(2**62), "hi": 2**62, "hn": 3}}
        self.push(Tally(BALANCES, MODEL, {"hu": -7, "hn": 1}))
        assert self.counted(BALANCES) == {MODEL: {"hu": 2**62 - 7, "lu": -(2**62), "hi": 2**62, "hn": 4}}

    def test_what_comes_after_a_full_bucket_is_counted_together(self) -> None:
        most = TABLES[BALANCES].most
        self.push(*[Tally(BALANCES, b"%d" % number, {"hn": 1}) for number in range(most + 5)])
        self.push(Tally(BALANCES, b"more", {"hn": 1}), Tally(BALANCES, b"0", {"hn": 1}))
        found = self.counted(BALANCES)
        assert len(found) == most + 1
        assert (found[OTHER], found[b"0"], found[b"1"]) == ({"hn": 6}, {"hn": 2}, {"hn": 1})

    def test_the_hottest_keys_are_found_whenever_they_come_and_the_table_stays_small(self) -> None:
        dice, bucket = random.Random(5), Bucket()
        for turn in range(12):
            cold = [Tally(HOTTEST, b"%032x" % (turn * 100 + one), {"n": 1}) for one in range(40)]
            hot = [Tally(HOTTEST, b"f%031x" % one, {"n": dice.randint(5, 9)}) for one in range(3 * (turn // 4))]
            self.push(*cold, *hot)
            for tally in (*cold, *hot):
                add(bucket, tally)
        found = self.counted(HOTTEST)
        assert found == bucket
        assert len(found) == MOST
        assert sum(counts["n"] for counts in found.values()) >= 12 * 40
        hottest = sorted(found, key=lambda label: found[label]["n"], reverse=True)[:6]
        assert {label[:1] for label in hottest} == {b"f"}

    def test_prefixes_do_not_meet_and_razing_one_leaves_nothing_of_it(self) -> None:
        self.push(Tally(BALANCES, MODEL, {"hn": 1}))
        other = self.another(f"{self.prefix}-other")
        self.do(other.tally(Push(f"{self.prefix}-other", os.urandom(16), 1, (Tally(BALANCES, MODEL, {"hn": 5}),))))
        assert self.counted(BALANCES, store=other) == {MODEL: {"hn": 5}}
        self.raze()
        assert self.counted(BALANCES) == {}
        assert self.counted(BALANCES, store=other) == {MODEL: {"hn": 5}}

    def test_invalidating_everything_takes_no_count_back(self) -> None:
        self.stored(key("what is a tally?"))
        self.push(Tally(BALANCES, MODEL, {"hn": 1}))
        self.do(self.store.invalidate((), everything=True))
        assert self.counted(BALANCES) == {MODEL: {"hn": 1}}


class TallyTimeLaws(Trial):
    """Buckets end; for stores that take a clock."""

    def tallied(self, back: int) -> list[Tallied]:
        """The tallies of the last days."""
        return self.do(self.store.tallied(BALANCES, back))[1]

    def test_each_day_has_a_bucket_and_ends_with_its_retention(self) -> None:
        sender, kept = os.urandom(16), TABLES[BALANCES].kept
        for day in range(3):
            self.do(self.store.tally(Push(self.prefix, sender, day + 1, (Tally(BALANCES, MODEL, {"hn": day + 1}),))))
            self.clock.tick(DAY)
        today = self.now_us() // 1000 // DAY
        assert [(one.at - today, one.counts["hn"]) for one in self.tallied(4)] == [(-3, 1), (-2, 2), (-1, 3)]
        assert [one.at - today for one in self.tallied(2)] == [-1]
        self.clock.tick((kept - 4) * DAY)
        assert len(self.tallied(10 * kept)) == 3
        self.clock.tick(2 * DAY)
        assert [one.counts["hn"] for one in self.tallied(10 * kept)] == [3]
        self.do(self.store.tally(Push(self.prefix, sender, 9, (Tally(BALANCES, MODEL, {"hn": 9}),))))
        assert [one.counts["hn"] for one in self.tallied(10 * kept)] == [3, 9]
