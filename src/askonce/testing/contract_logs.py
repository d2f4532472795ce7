"""The laws of a flight's growing log, and of a walk through a store.

A log is fenced only by its own name and length, so an invalidation or a successor cuts off no follower.
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

from askonce.core.keys import Key
from askonce.core.model import TAGS, read_head
from askonce.core.tape import DATA, SAID, SHARED, Ending, Notice, data_frame, frames
from askonce.store import Record
from askonce.testing.trial import HOUR, LIFE, Trial, asking, key, sealed

Q, OTHER = key("what is a lease?"), key("what is a tape?")
FLIGHT, ORDER = b"f" * 16, 7


class LogLaws(Trial):
    """Rule 9."""

    def append(self, offset: int, data: bytes, order: int = ORDER) -> int:
        return self.do(self.store.append(Q, FLIGHT, order, offset, data))

    def log(self, start: int = 0, order: int = ORDER) -> bytes | None:
        return self.do(self.store.tape(Q, FLIGHT, order, start))

    def test_a_log_grows_at_its_end_and_is_read_from_anywhere(self) -> None:
        assert self.log() is None
        assert (self.append(0, b"abc"), self.append(3, b"\0\xff\r\n")) == (3, 7)
        assert self.log() == b"abc\0\xff\r\n"
        assert (self.log(2), self.log(7)) == (b"c\0\xff\r\n", b"")

    def test_what_a_log_has_already_is_not_written_again(self) -> None:
        self.append(0, b"abc")
        assert (self.append(0, b"abc"), self.append(2, b"cde"), self.append(0, b"ab")) == (3, 5, 5)
        assert self.log() == b"abcde"

    def test_nothing_is_written_past_the_end_of_a_log(self) -> None:
        assert self.append(1, b"late") == 0
        assert self.log() is None
        self.append(0, b"abc")
        assert self.append(4, b"late") == 3
        assert self.log() == b"abc"

    def test_each_flight_has_a_log_of_its_own(self) -> None:
        self.append(0, b"mine")
        assert self.log(order=ORDER + 1) is None
        assert self.append(0, b"his", order=ORDER + 1) == 3
        assert (self.log(), self.log(order=ORDER + 1)) == (b"mine", b"his")
        assert self.do(self.store.tape(OTHER, b"g" * 16, ORDER)) is None

    def test_those_who_listen_hear_what_is_new_and_where_it_belongs(self) -> None:
        link = self.listening(Q)
        self.append(0, b"abc")
        self.append(0, b"abc")
        self.append(2, b"cde")
        said = [Notice(SAID, FLIGHT, ORDER, bytes(8) + b"abc"), Notice(SAID, FLIGHT, ORDER, bytes(7) + b"\3de")]
        assert [notice for _, notice in self.hear(link, lambda notices, _: len(notices) >= 2)] == said

    def test_neither_a_successor_nor_an_invalidation_cuts_off_a_log(self) -> None:
        grant = self.lead(Q, asking(3))
        frame = data_frame(0, b"begun")
        assert self.do(self.store.append(Q, grant.id, grant.order, 0, frame)) == len(frame)
        self.do(self.store.invalidate((3,), everything=True))
        self.do(self.store.forget(Q))
        self.lead(Q, asking(3))
        more = data_frame(9, b"going on")
        assert self.do(self.store.append(Q, grant.id, grant.order, len(frame), more)) == len(frame + more)
        log = self.do(self.store.tape(Q, grant.id, grant.order))
        assert log is not None
        assert [(kind, said[4:]) for kind, said in frames(log)] == [(DATA, b"begun"), (DATA, b"going on")]

    def test_the_end_of_a_flight_leaves_a_log_that_is_there_as_it_is(self) -> None:
        for refuse in (True, False):
            grant = self.lead(Q, asking())
            self.claim(Q, asking())
            self.do(self.store.append(Q, grant.id, grant.order, 0, b"said already"))
            if refuse:
                self.do(self.store.forget(Q))
                assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
            self.release(Q, grant, Ending(SHARED, "refused", b"body"))
            assert self.do(self.store.tape(Q, grant.id, grant.order)) == b"said already"


class WalkLaws(Trial):
    """A walk through the entries, and its uses."""

    def walk(self, count: int) -> dict[bytes, Record]:
        """All entries, by the digest in their headers."""
        met, cursor, steps = dict[bytes, Record](), b"", 0
        while cursor or not steps:
            cursor, seen = self.do(self.store.scan(cursor, count))
            met |= {read_head(one.header.ljust(120, b"\0")).digest: one for one in seen}
            steps += 1
            assert steps < 5_000, "a walk without an end"
        return met

    def test_a_walk_meets_every_entry_and_no_other_prefixs(self) -> None:
        questions = [key(f"question {nth}") for nth in range(30)]
        elsewhere = self.another(self.prefix + "-too")
        for question in questions:
            self.stored(question, body=b"x" * 100)
        self.lead(OTHER, asking())
        theirs = key("asked elsewhere")
        grant = self.lead(theirs, asking(), elsewhere)
        self.do(elsewhere.fill(theirs, grant.id, grant.order, sealed(theirs, grant), LIFE))
        for count in (1_000, 7):
            assert self.walk(count).keys() == {question.digest for question in questions}
        assert {one.size for one in self.walk(9).values()} == {len(self.do(self.store.entry(questions[0])) or b"")}

    def test_a_walk_through_nothing_ends_at_once(self) -> None:
        assert self.walk(10) == {}

    def test_a_record_carries_the_extensions_whole(self) -> None:
        grant = self.lead(Q, asking())
        self.fill(Q, grant, sealed(Q, grant, 3, extensions={TAGS: b"t" * 3_000}, body=b"body"))
        (one,) = self.walk(10).values()
        assert one.header + b"body" == self.do(self.store.entry(Q))

    def test_only_what_is_still_what_was_seen_is_discarded(self) -> None:
        self.stored(Q)
        self.stored(OTHER)
        seen = self.walk(10)
        self.do(self.store.forget(OTHER))
        again = self.stored(OTHER)
        assert self.do(self.store.discard(list(seen.values()))) == 1
        assert self.do(self.store.discard(list(seen.values()))) == 0
        assert self.do(self.store.entry(Q)) is None
        assert self.serves(OTHER) == again[:2]

    def test_standing_tells_what_moved_in_the_partition_of_every_entry(self) -> None:
        grants = {question: self.stored(question) for question in (Q, OTHER)}
        self.do(self.store.invalidate((4, 300)))
        self.do(self.store.invalidate((5,), everything=True))
        standing = self.do(self.store.standing())
        for question, grant in grants.items():
            one = standing[question.digest[0] % len(standing)]
            assert (one.epoch, one.clock, one.floor) == (grant.snapshot.epoch, 2, 2)
            assert one.moved.get(5, 2) == 2

    def test_a_prefix_is_razed_and_its_neighbour_stays(self) -> None:
        elsewhere = self.another(self.prefix + "-too")
        theirs = key("asked elsewhere")
        grant = self.lead(theirs, asking(), elsewhere)
        self.do(elsewhere.fill(theirs, grant.id, grant.order, sealed(theirs, grant), LIFE))
        old = self.stored(Q, 3)
        self.do(self.store.count(Q, 1, HOUR))
        late = self.lead(OTHER, asking())
        self.raze(2)
        assert self.do(self.store.entry(Q)) is None
        assert self.do(self.store.look(Q, ())).generations.epoch == b""
        assert self.fill(OTHER, late, sealed(OTHER, late)) in {"lost", "moved"}
        assert self.fill(Q, old, sealed(Q, old)) in {"lost", "moved"}
        assert self.do(self.store.entry(Q)) is None
        assert self.serves(theirs, store=elsewhere) == grant[:2]
        assert self.do(self.store.raze(10)) >= 0
        self.stored(Key(Q.digest))
        assert self.serves(Q)
