"""The laws of a store: what `askonce.store.Store` promises, as tests to run against any store.

    from askonce.testing.contract import StoreLaws, TimeLaws

    class TestMyStore(StoreLaws, TimeLaws):    # TimeLaws if the store takes a clock, which is worth it
        asynchronous = False                   # and a second class with True, if it has that mode
        clocked = True

        def store_factory(self, *, prefix, clock):
            return MyStore("my://place", prefix=prefix, clock=clock)

In a conftest.py beside it, ``pytest.register_assert_rewrite("askonce.testing")``, before anything of it is imported,
lets a broken law show its values.

Each law is a sentence, and each law that a store of askonce ever broke stays. Laws use only the verbs of a store, so
they say what a cache can rely on, and nothing about how it is stored. The digest of a key covers its prefix, so two
prefixes never meet in one key, and no law makes them meet.
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

import os
import struct
import zlib

from askonce.core.hot_keys import KeyHits
from askonce.core.keys import Key
from askonce.core.lease import LEASE_LIFE, Follow, Hit, Lead, Stale
from askonce.core.model import CIPHER, CODEC, FIELDS, HEAD_SIZE, PRIVATE, Sealed, entry_body, read_entry
from askonce.core.policy import resolve
from askonce.core.tape import FAILED, Ending
from askonce.store import LOG_LIFE, TAPE_LIFE, Held
from askonce.testing.contract_batches import BatchLaws
from askonce.testing.contract_ends import EndLaws
from askonce.testing.contract_flights import FlightLaws
from askonce.testing.contract_late import LateLaws
from askonce.testing.contract_links import LinkLaws
from askonce.testing.contract_logs import LogLaws, WalkLaws
from askonce.testing.contract_notes import NoteLaws
from askonce.testing.contract_tallies import TallyLaws, TallyTimeLaws
from askonce.testing.trial import (
    BRIEF,
    FORMS,
    HEARTBEAT,
    HOUR,
    LIMITS,
    MOMENT,
    Trial,
    asking,
    grant_of,
    key,
    must_lead,
    sealed,
)

Q, OTHER = key("what is a lease?"), key("what is a tape?")
BIG = bytes(600)  # an extension that is longer than what a store reads of an entry at first
STRICT = LIMITS._replace(max_age=0)  # no-cache


class LookLaws(Trial):
    """Plain reads, and the counter of hits."""

    def test_an_empty_store_shows_nothing_and_the_time(self) -> None:
        look = self.do(self.store.look(Q, (1, 2)))
        assert look.entry is None
        assert look.generations.epoch == b""
        assert self.do(self.store.look(Q, ())).now_us > look.now_us or not self.clocked
        assert self.do(self.store.entry(Q)) is None

    def test_looking_writes_nothing(self) -> None:
        for _ in range(2):
            assert self.do(self.store.look(Q, (1,))).generations.epoch == b""

    def test_a_stored_entry_is_found_whole_and_dated_by_the_stores_clock(self) -> None:
        before = self.now_us() // 1000
        grant = self.stored(Q, 3, body=b"\0\xff\r\n" * 5000)
        data = self.do(self.store.look(Q, (3,))).entry
        assert data is not None
        head = read_entry(data, Q.digest, Q.form)
        assert bytes(entry_body(data, head)) == b"\0\xff\r\n" * 5000
        assert (head.fill, head.order) == (grant.id, grant.order)
        assert before <= head.created <= self.now_us() // 1000
        assert (head.fresh - head.created, head.stale - head.fresh, head.error - head.fresh) == (HOUR, HOUR, HOUR)
        assert self.do(self.store.entry(Q)) == data

    def test_what_is_at_hand_is_what_a_look_finds(self) -> None:
        self.stored(Q, 3)
        for fields in ((), (3,), (4,)):
            for question in (Q, OTHER):
                at_hand, look = self.store.at_hand(question, fields), self.do(self.store.look(question, fields))
                assert at_hand is None or at_hand[:2] == look[:2]
            self.do(self.store.invalidate((3,)))

    def test_visits_that_are_told_leave_every_entry_as_it_was_and_need_none(self) -> None:
        self.stored(Q)
        data = self.do(self.store.entry(Q))
        if self.store.visits is not None:
            for question in (Q, OTHER):
                self.store.visits.note(question, KeyHits(self.head(Q), resolve(), 0, 0))
        self.do(self.store.tell(10))
        assert not self.store.visits
        assert self.do(self.store.entry(Q)) == data
        assert self.do(self.store.entry(OTHER)) is None

    def test_the_generations_tell_when_the_fields_asked_for_moved(self) -> None:
        grant = self.stored(Q)
        self.do(self.store.invalidate((3,)))
        generations = self.do(self.store.look(Q, (3, 4))).generations
        assert generations.epoch == grant.snapshot.epoch
        assert generations.clock == grant.snapshot.clock + 1
        assert (generations.moved.get(3, 0), generations.moved.get(4, 0)) == (generations.clock, 0)
        assert self.do(self.store.look(Q, ())).generations.clock == generations.clock

    def test_hits_add_up_for_each_key_alone_and_leave_its_entry_as_it_was(self) -> None:
        self.stored(Q)
        data = self.do(self.store.entry(Q))
        assert self.do(self.store.count(Q, 3, HOUR)) == 3
        assert self.do(self.store.count(Q, 0, HOUR)) == 3
        assert self.do(self.store.count(Q, 2, HOUR)) == 5
        assert self.do(self.store.count(OTHER, 1, HOUR)) == 1
        assert self.do(self.store.count(key("no entry"), 4, HOUR)) == 4
        assert self.do(self.store.entry(Q)) == data

    def test_hits_are_forgotten_when_a_window_has_passed(self) -> None:
        self.do(self.store.count(Q, 7, 4 * MOMENT))
        self.wait(4 * MOMENT)
        assert self.do(self.store.count(Q, 1, 4 * MOMENT)) == 1


class ClaimLaws(Trial):
    """Who serves, who leads, who follows."""

    def test_the_first_leads_and_the_next_follows_the_very_flight(self) -> None:
        grant = must_lead(self.claim(Q, asking()))
        follow = self.claim(Q, asking())
        assert isinstance(follow, Follow)
        assert (follow.id, follow.order) == (grant.id, grant.order)
        assert 0 < follow.remaining <= HEARTBEAT
        self.wait(MOMENT)
        again = self.claim(Q, asking())
        assert isinstance(again, Follow)
        assert again.remaining <= HEARTBEAT - MOMENT

    def test_questions_do_not_disturb_each_other(self) -> None:
        self.stored(Q)
        must_lead(self.claim(OTHER, asking()))
        for form in FORMS[1:]:
            must_lead(self.claim(Key(Q.digest, form), asking()))
        assert self.serves(Q)

    def test_a_repeated_claim_is_the_same_grant_again(self) -> None:
        ask = asking(3)
        assert self.lead(Q, ask) == self.lead(Q, ask)
        self.do(self.store.invalidate((4,)))
        grant = self.lead(Q, ask)
        assert grant.snapshot.clock == 0
        assert self.fill(Q, grant, sealed(Q, grant, 3)) == "stored"

    def test_a_stored_answer_is_a_hit_for_the_next(self) -> None:
        grant = self.stored(Q)
        said = self.claim(Q, asking())
        assert isinstance(said, Hit)
        assert (said.fill, said.order, said.grant) == (grant.id, grant.order, None)
        assert abs(said.now - self.now_us() // 1000) < 60_000

    def test_a_stale_answer_comes_with_the_lease_to_one_and_without_to_the_others(self) -> None:
        old = self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        first, second = self.claim(Q, asking()), self.claim(Q, asking())
        assert isinstance(first, Stale)
        assert isinstance(second, Stale)
        assert (first.fill, first.order) == (second.fill, second.order) == (old.id, old.order)
        assert first.grant is not None
        assert first.grant.order > old.order
        assert second.grant is None

    def test_a_hit_near_its_end_comes_with_the_lease_to_one_who_asks_for_it(self) -> None:
        self.stored(Q)
        assert not grant_of(self.claim(Q, asking(early=MOMENT)))
        said = [self.claim(Q, asking(early=2 * HOUR)) for _ in range(2)]
        assert [isinstance(one, Hit) and grant_of(one) is not None for one in said] == [True, False]

    def test_a_dead_leader_is_succeeded_and_may_not_fill_any_more(self) -> None:
        late = self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(MOMENT)
        now = self.lead(Q, asking())
        assert now.order > late.order
        assert self.fill(Q, late, sealed(Q, late)) == "lost"
        assert self.fill(Q, now, sealed(Q, now)) == "stored"
        assert self.fill(Q, late, sealed(Q, late)) == "lost"
        assert self.serves(Q) == now[:2]

    def test_no_cache_takes_no_answer_but_the_one_it_waited_for(self) -> None:
        grant = self.stored(Q)
        assert isinstance(self.claim(Q, asking(limits=STRICT, after=grant.order)), Hit)
        assert isinstance(self.claim(Q, asking(limits=STRICT, after=grant.order + 1)), Lead)

    def test_a_caller_is_served_within_its_own_limits(self) -> None:
        self.stored(Q)
        table = {
            Hit: [LIMITS._replace(ttl=9 * HOUR), LIMITS._replace(max_age=HOUR), LIMITS._replace(min_fresh=HOUR // 2)],
            Stale: [LIMITS._replace(ttl=0)],
            Lead: [LIMITS._replace(ttl=0, grace=0), LIMITS._replace(min_fresh=HOUR), LIMITS._replace(ttl=0, max_age=0)],
        }
        for kind, lookups in table.items():
            for limits in lookups:
                ask = asking(limits=limits)
                assert type(self.claim(Q, ask)) is kind, limits
                self.do(self.store.release(Q, ask.id, 0, Ending(FAILED)))

    def test_a_caller_may_be_content_with_what_is_stale(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        assert isinstance(self.claim(Q, asking(limits=LIMITS._replace(max_stale=HOUR // 2))), Hit)
        assert isinstance(self.claim(Q, asking()), Stale)

    def test_an_answer_in_an_envelope_is_an_entry_like_any_other(self) -> None:
        for nth, said in enumerate(({CODEC: b"\1\0\0\0\0"}, {CIPHER: b"key"}, {CODEC: b"", CIPHER: b"", PRIVATE: BIG})):
            question = key(f"in an envelope {nth}")
            grant = self.lead(question, asking(3))
            made = sealed(question, grant, 3, body=b"\xa5\3\xff\0\r\n", extensions=said)
            assert self.fill(question, grant, made) == "stored"
            assert self.serves(question) == (grant.id, grant.order)
            assert self.do(self.store.extend(question, grant.id, grant.order, 2 * HOUR, 9 * HOUR)) is True
            assert bytes(entry_body(self.do(self.store.entry(question)) or b"", self.head(question))) == made.body
            self.do(self.store.invalidate((3,)))
            must_lead(self.claim(question, asking()))

    def test_what_is_no_entry_of_this_question_is_absent_and_is_replaced(self) -> None:
        for nth, spoil in enumerate(SPOILERS):
            question = key(f"spoilt {nth}")
            grant = self.lead(question, asking(3))
            spoilt = spoil(sealed(question, grant, 3))
            self.fill(question, grant, spoilt)
            must_lead(self.claim(question, asking(heartbeat=MOMENT)))
            self.wait(MOMENT)
            self.stored(question)
            assert self.serves(question), f"{spoil.__name__} stays for ever"

    def test_no_verb_minds_what_is_no_entry(self) -> None:
        for nth, spoil in enumerate(SPOILERS):
            question = key(f"spoilt {nth}")
            grant = self.lead(question, asking(3))
            spoilt = spoil(sealed(question, grant, 3))
            self.fill(question, grant, spoilt)
            self.do(self.store.look(question, (3,)))
            self.do(self.store.count(question, 1, HOUR))
            assert self.do(self.store.extend(question, grant.id, grant.order, 2 * HOUR, 9 * HOUR)) is False
            grant = self.lead(question, asking())
            self.release(question, grant, failed=True)
            must_lead(self.claim(question, asking()))
            self.do(self.store.forget(question))
            assert self.do(self.store.entry(question)) is None


def _foreign(good: Sealed) -> Sealed:
    return good._replace(start=b"{}" + good.start[2:])


def _newer(good: Sealed) -> Sealed:
    return good._replace(start=good.start[:2] + b"\x63" + good.start[3:])


def _formless(good: Sealed) -> Sealed:
    return good._replace(start=good.start[:3] + b"\x03" + good.start[4:])


def _another_question(good: Sealed) -> Sealed:
    return good._replace(start=good.start[:8] + os.urandom(32) + good.start[40:])


def _too_long(good: Sealed) -> Sealed:
    return good._replace(start=good.start[:4] + struct.pack(">I", 99_999) + good.start[8:])


def _fields_cut(good: Sealed) -> Sealed:
    length = struct.pack(">I", HEAD_SIZE + 4)
    return good._replace(start=good.start[:4] + length + good.start[8:], extensions=b"\x01\x00\x01\x03")


def _odd_extension(good: Sealed) -> Sealed:
    # As a later version would write it: an unknown odd extension, with correct flag and checksum.
    extensions = struct.pack(">BHHBH", FIELDS, 2, 3, 201, 0)
    start = good.start[:3] + b"\x10" + struct.pack(">I", HEAD_SIZE + len(extensions)) + good.start[8:80]
    check = zlib.crc32(good.body, zlib.crc32(extensions, zlib.crc32(start)))
    return Sealed(start + struct.pack(">I", check), extensions, good.body)


SPOILERS = (_foreign, _newer, _formless, _another_question, _too_long, _fields_cut, _odd_extension)


class StoreLaws(
    LookLaws, ClaimLaws, EndLaws, FlightLaws, LateLaws, LinkLaws, LogLaws, WalkLaws, NoteLaws, BatchLaws, TallyLaws
):
    """All laws that do not depend on the store's clock."""


class TimeLaws(TallyTimeLaws):
    """Laws that need hours, for stores that are `clocked`."""

    def test_an_entry_is_fresh_then_stale_then_gone(self) -> None:
        grant = self.stored(Q)
        said = []
        for _ in range(4):
            said.append(type(self.claim(Q, asking(flight=grant.id))))
            self.release(Q, grant._replace(order=0))
            self.wait(HOUR)
        assert said == [Hit, Stale, Lead, Lead]

    def test_a_lease_lives_by_its_heartbeats(self) -> None:
        grant = self.lead(Q, asking())
        link = self.link()
        for _ in range(5):
            self.wait(HEARTBEAT - 1)
            assert isinstance(self.claim(Q, asking()), Follow)
            assert link.renew([Held(Q, grant.id, grant.order)], HEARTBEAT) == ["want"]
        self.wait(HEARTBEAT)
        must_lead(self.claim(Q, asking()))

    def test_fifteen_minutes_end_a_lease_that_is_still_renewed(self) -> None:
        grant = self.lead(Q, asking(heartbeat=LEASE_LIFE))
        link = self.link()
        self.wait(LEASE_LIFE - 2)
        assert link.renew([Held(Q, grant.id, grant.order)], LEASE_LIFE) == ["ok"]
        self.wait(2)
        assert link.renew([Held(Q, grant.id, grant.order)], LEASE_LIFE) == ["lost"]
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        must_lead(self.claim(Q, asking(heartbeat=LEASE_LIFE)))

    def test_failures_in_a_row_rest_longer_and_longer(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        for rest in (1_000, 2_000, 4_000):
            self.release(Q, self.lead(Q, asking()), failed=True)
            self.wait(rest - 1)
            assert grant_of(self.claim(Q, asking())) is None
            self.wait(1)

    def test_a_success_ends_the_row_of_failures(self) -> None:
        for _ in range(2):
            grant = self.stored(Q, life=BRIEF)
            self.wait(MOMENT)
            self.release(Q, self.lead(Q, asking()), failed=True)
            self.wait(1_000)
            assert (again := self.lead(Q, asking())).order > grant.order
            assert self.fill(Q, again, sealed(Q, again), BRIEF) == "stored"
            self.wait(MOMENT)
            self.release(Q, self.lead(Q, asking()))

    def test_a_tape_is_kept_for_a_minute(self) -> None:
        grant = self.lead(Q, asking())
        self.claim(Q, asking())
        self.release(Q, grant)
        self.wait(TAPE_LIFE - 1)
        assert self.do(self.store.tape(Q, grant.id, grant.order)) is not None
        self.wait(1)
        assert self.do(self.store.tape(Q, grant.id, grant.order)) is None

    def test_a_log_is_kept_for_a_quarter_of_an_hour_from_its_first_byte(self) -> None:
        self.do(self.store.append(Q, b"f" * 16, 7, 0, b"first"))
        self.wait(LOG_LIFE - 1)
        assert self.do(self.store.append(Q, b"f" * 16, 7, 5, b"last")) == 9
        assert self.do(self.store.tape(Q, b"f" * 16, 7)) == b"firstlast"
        self.wait(1)
        assert self.do(self.store.tape(Q, b"f" * 16, 7)) is None
        assert self.do(self.store.append(Q, b"f" * 16, 7, 9, b"too late")) == 0

    def test_hits_of_half_a_window_ago_count_and_of_a_whole_one_do_not(self) -> None:
        self.wait(HOUR - self.now_us() // 1000 % HOUR)  # to the start of a window
        counts = []
        for _ in range(4):
            counts.append(self.do(self.store.count(Q, 1, HOUR)))
            self.wait(HOUR // 2)
        assert counts == [1, 2, 2, 2]
        self.wait(HOUR // 2)
        assert self.do(self.store.count(Q, 1, HOUR)) == 1

    def test_a_clock_that_steps_back_makes_nobody_wait_for_a_dead_leader(self) -> None:
        first = self.lead(Q, asking())
        self.wait(-2 * HEARTBEAT)
        second = self.lead(Q, asking())
        assert second.order > first.order
        assert self.fill(Q, first, sealed(Q, first)) == "lost"

    def test_orders_grow_though_the_clock_stepped_back(self) -> None:
        old = self.stored(Q)
        self.do(self.store.invalidate((), everything=True))
        self.wait(-HOUR)
        assert self.lead(Q, asking()).order > old.order
