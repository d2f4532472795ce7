"""The laws of notes: what a store keeps of calls and invalidations, to explain later lookups.

A store reads no note. It keeps the newest, in the order in which they came, apart for each prefix and owner.
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

import hashlib

from askonce.core.notes import EVERYONE, LARGEST, RING, RING_BYTES, Note
from askonce.testing.trial import MOMENT, Trial, key

SEVERAL = 150  # notes of one batch: more than a store writes in one step


def owner(text: str) -> bytes:
    """The owner of this name."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def name(text: str) -> bytes:
    """The name of a question's entry."""
    return key(text).name


ANN, BOB = owner("ann"), owner("bob")


class NoteLaws(Trial):
    """Rings of notes."""

    def note(self, of: bytes, about: str, data: bytes = b"", prefix: str | None = None) -> Note:
        return Note(self.prefix if prefix is None else prefix, of, name(about), data)

    def told(self, of: bytes = b"", about: bytes = b"", count: int = RING) -> list[bytes]:
        return [one.data for one in self.do(self.store.notes(of, about, count))]

    def test_notes_come_back_newest_first_with_the_time_of_the_store(self) -> None:
        before = self.now_us() // 1000
        self.do(self.store.note([self.note(ANN, "a", b"\0\xff\r\n"), self.note(ANN, "b", b"two")]))
        self.wait(MOMENT)
        self.do(self.store.note([self.note(ANN, "a", b"")]))
        found = self.do(self.store.notes(ANN))
        assert [one[1:] for one in found] == [
            (ANN, name("a"), b""),
            (ANN, name("b"), b"two"),
            (ANN, name("a"), b"\0\xff\r\n"),
        ]
        assert before <= found[1].at <= found[0].at - MOMENT
        assert found[0].at <= self.now_us() // 1000

    def test_no_notes_are_no_trouble(self) -> None:
        self.do(self.store.note([]))
        assert self.told() == self.told(ANN) == self.told(ANN, name("a")) == []

    def test_owners_do_not_see_each_others_notes(self) -> None:
        self.do(self.store.note([self.note(ANN, "a", b"ann"), self.note(BOB, "a", b"bob")]))
        self.do(self.store.note([self.note(EVERYONE, "a", b"all")]))
        assert (self.told(ANN), self.told(BOB), self.told(EVERYONE)) == ([b"ann"], [b"bob"], [b"all"])
        assert self.told(owner("eve")) == []
        assert sorted(self.told()) == sorted(self.told(b"", name("a"))) == [b"all", b"ann", b"bob"]

    def test_prefixes_do_not_see_each_others_notes_whoever_writes_them(self) -> None:
        elsewhere = self.another(self.prefix + "-too")
        self.do(self.store.note([self.note(ANN, "a", b"here")]))
        self.do(elsewhere.note([self.note(ANN, "a", b"there", self.prefix + "-too")]))
        assert self.told(ANN) == self.told() == [b"here"]
        assert [one.data for one in self.do(elsewhere.notes(ANN))] == [b"there"]

    def test_notes_are_found_by_the_beginning_of_a_name(self) -> None:
        self.do(self.store.note([self.note(ANN, str(at), b"%d" % at) for at in range(20)]))
        for at in (0, 7, 19):
            assert self.told(ANN, name(str(at))) == self.told(b"", name(str(at))[:12]) == [b"%d" % at]
        assert self.told(ANN, name("never")) == []
        assert self.told(ANN, b"\xff" * 33) == []

    def test_a_name_that_ends_in_the_highest_bytes_is_found(self) -> None:
        high = Note(self.prefix, ANN, b"\xff" * 33, b"high")
        self.do(self.store.note([high, self.note(ANN, "a", b"low")]))
        assert self.told(ANN, b"\xff" * 33) == self.told(ANN, b"\xff") == [b"high"]

    def test_no_more_come_back_than_were_asked_for(self) -> None:
        self.do(self.store.note([self.note(ANN, "a", b"%d" % at) for at in range(SEVERAL)]))
        assert self.told(ANN, count=3) == [b"149", b"148", b"147"]
        assert len(self.told(ANN)) == SEVERAL
        assert self.told(count=2) == [b"149", b"148"]

    def test_a_ring_has_a_bound_and_its_oldest_notes_go(self) -> None:
        many = [self.note(ANN, "many", bytes(LARGEST - 200) + b"%d" % at) for at in range(RING_BYTES // LARGEST * 2)]
        for _ in range(3):
            self.do(self.store.note(many))
        self.do(self.store.note([self.note(ANN, "a", b"last")]))
        found = self.told(ANN, count=100_000)
        assert found[0] == b"last"
        assert [one[-2:] for one in found[1:11]] == [b"%d" % (len(many) - at) for at in range(1, 11)]
        assert len(found) >= RING_BYTES // LARGEST - 1
        assert len(found) < 3 * len(many) or sum(map(len, found)) <= 16 * RING_BYTES

    def test_several_notes_at_once_keep_their_order_among_those_of_others(self) -> None:
        mixed = [self.note(owner(str(at % 7)), "a", b"%d" % at) for at in range(SEVERAL)]
        self.do(self.store.note(mixed))
        for one in range(7):
            assert self.told(owner(str(one))) == [b"%d" % at for at in reversed(range(SEVERAL)) if at % 7 == one]

    def test_a_razed_prefix_has_no_notes(self) -> None:
        self.do(self.store.note([self.note(ANN, "a"), self.note(EVERYONE, "b")]))
        self.raze()
        assert self.told() == self.told(ANN) == self.told(EVERYONE) == []

    def test_a_note_leaves_entries_and_leases_as_they_were(self) -> None:
        self.stored(key("a"))
        data = self.do(self.store.entry(key("a")))
        self.do(self.store.note([self.note(ANN, "a", b"x")]))
        assert self.do(self.store.entry(key("a"))) == data
        assert self.serves(key("a"))
