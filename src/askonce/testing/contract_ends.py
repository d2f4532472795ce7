"""The laws of how a flight ends: fill, release, sliding, forgetting, invalidation.

A fill or release shows (id, order). A store that compares only one of them, or accepts an absent lease, lets back in an
answer that an invalidation removed (`contract_late` has the traces).
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

from askonce.core.lease import Follow, Grant, Lead, Stale
from askonce.core.model import Lifetime
from askonce.core.tape import FAILED, SHARED, Ending, read_ending
from askonce.testing.trial import (
    BRIEF,
    FORMS,
    HOUR,
    LIFE,
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
Q_AS_STREAM = key("what is a lease?", FORMS[-1])
NO_LIFE = Lifetime(0, 0, 0, 0)
STRICT = LIMITS._replace(max_age=0)  # no-cache


class TapeTrial(Trial):
    """A Trial that reads tapes."""

    def ending(self, grant: Grant) -> Ending | None:
        """The END of a flight's tape; None if there is no tape."""
        log = self.do(self.store.tape(Q, grant.id, grant.order))
        return None if log is None else read_ending(log)

    def followed(self, *fields: int) -> Grant:
        """A flight with a follower."""
        grant = self.lead(Q, asking(*fields))
        assert isinstance(self.claim(Q, asking(*fields)), Follow)
        return grant


class FillLaws(TapeTrial):
    """Rule 4."""

    def test_the_holder_alone_may_fill_and_only_under_this_very_grant(self) -> None:
        grant = self.lead(Q, asking())
        strangers = (grant._replace(id=bytes(16)), grant._replace(order=grant.order - 1))
        for stranger in (*strangers, grant._replace(order=grant.order + 1)):
            assert self.fill(Q, stranger, sealed(Q, stranger)) == "lost"
        assert self.do(self.store.entry(Q)) is None
        assert self.fill(Q, grant, sealed(Q, grant)) == "stored"

    def test_an_absent_lease_is_a_refusal(self) -> None:
        grant = self.lead(Q, asking())
        self.release(Q, grant)
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        assert self.fill(OTHER, grant, sealed(OTHER, grant)) == "lost"
        assert self.do(self.store.entry(Q)) is None

    def test_a_leader_past_its_deadline_that_nobody_replaced_may_fill(self) -> None:
        grant = self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(2 * MOMENT)
        assert self.fill(Q, grant, sealed(Q, grant)) == "stored"
        assert self.serves(Q) == grant[:2]

    def test_a_fill_frees_the_lease(self) -> None:
        self.stored(Q)
        must_lead(self.claim(Q, asking(limits=STRICT)))

    def test_a_repeated_fill_says_the_same_and_changes_nothing(self) -> None:
        grant = self.stored(Q)
        data = self.do(self.store.entry(Q))
        assert self.fill(Q, grant, sealed(Q, grant, body=b"other"), BRIEF) == "stored"
        assert self.do(self.store.entry(Q)) == data

    def test_a_repeated_fill_leaves_a_successors_lease_alone(self) -> None:
        grant = self.stored(Q)
        successor = must_lead(self.claim(Q, asking(limits=STRICT)))
        assert self.fill(Q, grant, sealed(Q, grant)) == "stored"
        assert self.fill(Q, successor, sealed(Q, successor)) == "stored"
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        assert self.serves(Q) == successor[:2]

    def test_a_repeated_fill_of_what_was_invalidated_says_so_and_reaches_the_followers(self) -> None:
        grant = self.stored(Q, 3, body=b"old")
        self.do(self.store.invalidate((3,)))
        assert self.fill(Q, grant, sealed(Q, grant, 3, body=b"old")) == "moved"
        assert self.ending(grant) == Ending(SHARED, "moved", b"old")

    def test_an_answer_without_a_life_is_not_kept_and_its_lease_is_free(self) -> None:
        for life in (NO_LIFE, LIFE._replace(cap=0)):
            grant = self.lead(Q, asking())
            assert self.fill(Q, grant, sealed(Q, grant), life) == "unkept"
            assert self.do(self.store.entry(Q)) is None
        must_lead(self.claim(Q, asking()))

    def test_an_answer_that_is_not_kept_reaches_those_who_were_told_to_follow(self) -> None:
        grant = self.followed()
        self.fill(Q, grant, sealed(Q, grant, body=b"once"), NO_LIFE)
        assert self.ending(grant) == Ending(SHARED, "unkept", b"once")
        assert self.ending(grant._replace(order=grant.order + 1)) is None
        assert self.ending(grant._replace(id=bytes(16))) is None

    def test_a_refused_fill_reaches_its_followers_though_its_lease_is_gone(self) -> None:
        moved, lost = self.followed(3), None
        self.do(self.store.invalidate((3,)))
        assert self.fill(Q, moved, sealed(Q, moved, 3, body=b"old")) == "moved"
        assert self.ending(moved) == Ending(SHARED, "moved", b"old")
        lost = self.followed()
        self.do(self.store.forget(Q))
        assert self.fill(Q, lost, sealed(Q, lost, body=b"late")) == "lost"
        assert self.ending(lost) == Ending(SHARED, "lost", b"late")

    def test_a_stored_answer_needs_no_tape(self) -> None:
        grant = self.followed()
        assert self.fill(Q, grant, sealed(Q, grant)) == "stored"
        assert self.ending(grant) is None


class ReleaseLaws(TapeTrial):
    """Rule 5."""

    def test_a_released_lease_is_free_and_its_flight_ended(self) -> None:
        grant = self.followed()
        self.release(Q, grant, Ending(SHARED, "tool-call", b"{}"))
        assert self.ending(grant) == Ending(SHARED, "tool-call", b"{}")
        must_lead(self.claim(Q, asking()))

    def test_the_release_of_another_grant_leaves_the_lease_alone(self) -> None:
        grant = self.lead(Q, asking())
        for stranger in (grant._replace(id=bytes(16)), grant._replace(order=grant.order - 1)):
            self.release(Q, stranger)
        assert isinstance(self.claim(Q, asking()), Follow)

    def test_a_repeated_release_leaves_the_successor_alone(self) -> None:
        first = self.followed()
        self.release(Q, first)
        second = self.lead(Q, asking())
        self.release(Q, first)
        assert self.ending(first) is not None
        assert self.fill(Q, second, sealed(Q, second)) == "stored"

    def test_a_claim_whose_reply_was_lost_is_given_back_by_its_id(self) -> None:
        grant = self.followed()
        self.release(Q, Grant(bytes(16), 0, grant.snapshot))
        assert self.ending(grant._replace(id=bytes(16))) is None
        assert isinstance(self.claim(Q, asking()), Follow)
        self.release(Q, grant._replace(order=0), Ending(FAILED))
        assert self.ending(grant) == Ending(FAILED)
        must_lead(self.claim(Q, asking()))

    def test_after_a_failure_the_answer_at_hand_is_served_and_nobody_tries(self) -> None:
        old = self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        self.release(Q, self.lead(Q, asking()), Ending(FAILED), failed=True, hint=60_000)
        for _ in range(2):
            assert self.claim(Q, asking())[:2] == old[:2]
            assert grant_of(self.claim(Q, asking())) is None

    def test_after_a_failure_the_answer_kept_for_errors_is_served_and_only_then(self) -> None:
        self.stored(Q, life=BRIEF._replace(grace=0))
        self.wait(MOMENT)
        grant = must_lead(self.claim(Q, asking()))
        assert isinstance(self.claim(Q, asking()), Follow)
        self.release(Q, grant, Ending(FAILED), failed=True, hint=60_000)
        assert isinstance(self.claim(Q, asking()), Stale)
        assert isinstance(self.claim(Q, asking(limits=LIMITS._replace(error=0))), Lead)

    def test_a_failed_flight_may_not_fill_renew_or_claim_under_its_old_grant(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        ask = asking()
        grant = self.lead(Q, ask)
        self.release(Q, grant, failed=True, hint=60_000)
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        assert grant_of(self.claim(Q, ask)) is None

    def test_after_a_failure_who_cannot_be_served_tries_at_once(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        self.release(Q, self.lead(Q, asking()), Ending(FAILED), failed=True, hint=60_000)
        must_lead(self.claim(Q, asking(limits=STRICT)))

    def test_a_failure_that_had_nothing_to_fall_back_on_lets_others_try_who_have(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        self.do(self.store.invalidate((3,)))
        self.release(Q, self.lead(Q, asking(3)), Ending(FAILED), failed=True, hint=60_000)
        said = self.claim(Q, asking())
        assert isinstance(said, Stale)
        assert said.grant is not None

    def test_after_a_failure_with_nothing_to_serve_the_next_tries_at_once(self) -> None:
        self.release(Q, self.lead(Q, asking()), Ending(FAILED), failed=True, hint=60_000)
        must_lead(self.claim(Q, asking()))


class SlideLaws(TapeTrial):
    """Rule 6."""

    def slide(self, grant: Grant, hot_ttl: int, cap: int = 24 * HOUR) -> bool:
        return self.do(self.store.extend(Q, grant.id, grant.order, hot_ttl, cap))

    def test_an_entry_slides_as_a_whole_and_stays_readable(self) -> None:
        grant = self.stored(Q, 3)
        before = self.head(Q)
        assert self.slide(grant, 3 * HOUR) is True
        after = self.head(Q)
        gain = after.fresh - before.fresh
        assert 2 * HOUR <= gain < 2 * HOUR + 60_000
        assert (after.stale - before.stale, after.error - before.error, after.created) == (gain, gain, before.created)
        assert after[:11] == before[:11]
        assert self.serves(Q) == grant[:2]

    def test_it_slides_only_forwards_and_never_past_its_cap(self) -> None:
        grant = self.stored(Q)
        before = self.do(self.store.entry(Q))
        assert self.slide(grant, HOUR // 2) is False
        assert self.slide(grant, 9 * HOUR, cap=HOUR) is False
        assert self.do(self.store.entry(Q)) == before
        assert self.slide(grant, 9 * HOUR, cap=2 * HOUR) is True
        assert self.head(Q).fresh == self.head(Q).created + 2 * HOUR

    def test_only_the_very_entry_slides(self) -> None:
        grant = self.stored(Q)
        assert self.slide(grant._replace(order=grant.order - 1), 3 * HOUR) is False
        assert self.slide(grant._replace(id=bytes(16)), 3 * HOUR) is False
        assert self.do(self.store.extend(OTHER, grant.id, grant.order, 3 * HOUR, 9 * HOUR)) is False

    def test_what_was_invalidated_does_not_slide(self) -> None:
        grant = self.stored(Q, 3)
        self.do(self.store.invalidate((3,)))
        assert self.slide(grant, 3 * HOUR) is False

    def test_what_is_stale_does_not_slide(self) -> None:
        grant = self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        assert self.slide(grant, 3 * HOUR) is False


class InvalidationLaws(TapeTrial):
    """Rules 0.2 and 7, and a question forgotten."""

    def test_an_entry_dies_by_its_own_tags_whoever_asks(self) -> None:
        self.stored(Q, 3)
        self.stored(OTHER, 4)
        self.do(self.store.invalidate((3, 5)))
        assert self.serves(Q) is None
        assert self.serves(OTHER) is not None

    def test_an_entry_dies_by_the_tags_of_the_caller(self) -> None:
        self.stored(Q)
        self.do(self.store.invalidate((3,)))
        assert self.serves(Q, 3) is None
        assert self.serves(Q, 4) is not None

    def test_what_is_stored_after_an_invalidation_lives(self) -> None:
        self.do(self.store.invalidate((3,)))
        self.stored(Q, 3)
        assert self.serves(Q, 3)

    def test_everything_is_everything_in_every_partition(self) -> None:
        questions = [key(f"question {nth}") for nth in range(100)]
        for question in questions:
            self.stored(question)
        self.do(self.store.invalidate((), everything=True))
        assert [question for question in questions if self.serves(question)] == []
        self.stored(Q)
        assert self.serves(Q)

    def test_a_stale_answer_dies_too(self) -> None:
        self.stored(Q, 3, life=BRIEF)
        self.wait(MOMENT)
        self.do(self.store.invalidate((3,)))
        must_lead(self.claim(Q, asking()))

    def test_a_flight_under_way_is_neither_followed_nor_stored(self) -> None:
        grant = self.followed(3)
        self.do(self.store.invalidate((3,)))
        successor = must_lead(self.claim(Q, asking(3)))
        assert self.fill(Q, grant, sealed(Q, grant, 3)) == "lost"
        assert self.fill(Q, successor, sealed(Q, successor, 3)) == "stored"

    def test_a_flight_under_way_is_dead_also_to_callers_without_its_tags(self) -> None:
        self.lead(Q, asking(3))
        self.do(self.store.invalidate((3,)))
        must_lead(self.claim(Q, asking()))

    def test_a_flight_under_way_may_not_fill_though_nobody_replaced_it(self) -> None:
        for everything in (False, True):
            grant = self.lead(Q, asking(3))
            self.do(self.store.invalidate((3,), everything=everything))
            assert self.fill(Q, grant, sealed(Q, grant, 3)) == "moved"
            assert self.do(self.store.entry(Q)) is None

    def test_an_invalidation_of_other_tags_does_not_disturb_a_flight(self) -> None:
        grant = self.lead(Q, asking(4))
        self.do(self.store.invalidate((3,)))
        assert isinstance(self.claim(Q, asking(4)), Follow)
        assert isinstance(self.claim(Q, asking(4, 3)), Lead)
        assert self.fill(Q, grant, sealed(Q, grant, 4)) == "lost"

    def test_an_invalidation_of_an_empty_store_makes_nothing_and_may_be_repeated(self) -> None:
        for _ in range(2):
            self.do(self.store.invalidate((3,), everything=True))
        assert self.do(self.store.look(Q, (3,))).generations.epoch == b""
        self.stored(Q, 3)
        assert self.serves(Q, 3)

    def test_a_question_is_forgotten_in_all_its_forms(self) -> None:
        questions = [key("what is a lease?", form) for form in FORMS]
        for question in questions:
            self.stored(question)
        self.stored(OTHER)
        self.do(self.store.forget(questions[1]))
        self.do(self.store.forget(questions[1]))
        assert [self.do(self.store.entry(question)) for question in questions] == [None] * len(FORMS)
        assert self.serves(OTHER)

    def test_a_flight_for_a_forgotten_question_may_not_fill(self) -> None:
        grant = self.lead(Q, asking())
        self.do(self.store.forget(Q_AS_STREAM))
        must_lead(self.claim(Q, asking(heartbeat=MOMENT)))
        self.wait(MOMENT)
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        assert self.do(self.store.entry(Q)) is None


class EndLaws(FillLaws, ReleaseLaws, SlideLaws, InvalidationLaws):
    """All laws of this module."""
