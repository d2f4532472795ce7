"""How a lease continues and ends: renew, fill, release, extend, invalidate, with literal times (PROTOCOL.md, 3 to 7).

Every verb here is fenced by (id, order), an absent lease is a refusal, and nothing is ever stamped anew.
"""

from __future__ import annotations

import pytest

from askonce.core import lease as rules
from askonce.core.lease import BACKOFF_CAP, Generations
from askonce.core.model import Dates
from tests.core.slots import EPOCH, GENS, A, B, C, entry, lease, slot

ORDER = 1_500_000  # of slots.lease
MOVED = Generations(EPOCH, clock=8, moved={3: 8})
TAGGED = lease(fields=(3,))
IDLE = lease()._replace(idle=True, fails=1)

NOT_HOLDING = pytest.mark.parametrize(
    ("held", "flight", "order", "now"),
    [
        (None, B, ORDER, 1_600),
        (lease(), C, ORDER, 1_600),
        (lease(), B, ORDER - 1, 1_600),
        (lease(), B, ORDER + 1, 1_600),
        (IDLE, B, ORDER, 1_600),
        (lease(), B, ORDER, 901_500),
    ],
    ids=["no lease", "another's", "an earlier grant", "a later grant", "given back", "fifteen minutes old"],
)


class TestRenew:
    """Rule 3."""

    def test_the_deadline_moves_and_nothing_else(self):
        said, after = rules.renew(slot(held=lease()), B, ORDER, 500, 1_900)
        assert said == "ok"
        assert after == slot(held=lease(deadline=2_400))

    def test_the_leader_hears_that_somebody_waits(self):
        said, after = rules.renew(slot(held=lease()._replace(want=True)), B, ORDER, 500, 1_900)
        assert said == "want"
        assert after.lease == lease(deadline=2_400)._replace(want=True)

    def test_past_its_deadline_but_not_replaced_it_lives_again(self):
        assert rules.renew(slot(held=lease()), B, ORDER, 500, 9_000)[1].lease == lease(deadline=9_500)

    def test_its_fifteen_minutes_are_never_lengthened(self):
        _, after = rules.renew(slot(held=lease()), B, ORDER, 500, 901_499)
        assert after.lease == lease(deadline=901_999, expire=901_500)

    @NOT_HOLDING
    def test_lost_without_the_very_lease_and_none_is_made(self, held, flight, order, now):
        state = slot(held=held)
        assert rules.renew(state, flight, order, 500, now) == ("lost", state)

    def test_lost_after_an_invalidation_so_that_a_call_nobody_may_have_can_stop(self):
        state = slot(held=TAGGED, generations=MOVED)
        assert rules.renew(state, B, ORDER, 500, 1_600) == ("lost", state)
        assert rules.renew(slot(held=lease(), generations=Generations()), B, ORDER, 500, 1_600)[0] == "lost"


class TestFill:
    """Rule 4."""

    def test_the_holder_stores_and_its_lease_is_gone(self):
        assert rules.fill(slot(held=lease()), B, ORDER, 9_000, 1_600) == ("stored", False, slot())

    def test_past_its_deadline_but_not_replaced_it_may_still_store(self):
        assert rules.fill(slot(held=lease()), B, ORDER, 9_000, 3_000)[0] == "stored"

    def test_the_tape_is_not_needed_where_the_entry_tells_it(self):
        assert rules.fill(slot(held=lease()._replace(want=True)), B, ORDER, 9_000, 1_600)[1] is False

    @NOT_HOLDING
    def test_lost_without_the_very_lease_and_the_tape_tells_the_followers(self, held, flight, order, now):
        state = slot(entry(), held)
        assert rules.fill(state, flight, order, now + 9, now) == ("lost", True, state)

    def test_moved_after_an_invalidation_of_its_tags(self):
        assert rules.fill(slot(held=TAGGED, generations=MOVED), B, ORDER, 9_000, 1_600) == (
            "moved",
            True,
            slot(generations=MOVED),
        )

    def test_an_invalidation_of_others_tags_does_not_disturb(self):
        assert rules.fill(slot(held=lease(fields=(4,)), generations=MOVED), B, ORDER, 9_000, 1_600)[0] == "stored"

    def test_moved_where_the_generations_are_missing_and_none_are_made(self):
        state = slot(held=lease(), generations=Generations())
        assert rules.fill(state, B, ORDER, 9_000, 1_600) == ("moved", True, state._replace(lease=None))

    @pytest.mark.parametrize(("ends", "verdict"), [(1_601, "stored"), (1_600, "unkept"), (0, "unkept")])
    def test_an_answer_whose_life_is_over_at_once_is_not_kept(self, ends, verdict):
        assert rules.fill(slot(held=lease()), B, ORDER, ends, 1_600)[0] == verdict

    @pytest.mark.parametrize("want", [True, False])
    def test_what_is_not_kept_is_told_only_if_somebody_waits(self, want):
        held = lease()._replace(want=want)
        assert rules.fill(slot(held=held), B, ORDER, 0, 1_600) == ("unkept", want, slot())

    def test_repeated_it_says_again_what_became_of_it(self):
        stored = slot(entry(fill=B, order=ORDER))
        assert rules.fill(stored, B, ORDER, 9_000, 1_700) == ("stored", False, stored)
        dead = slot(entry(fill=B, order=ORDER), generations=MOVED, fields=(3,))
        assert rules.fill(dead, B, ORDER, 9_000, 1_700) == ("moved", True, dead)

    def test_repeated_beside_a_successors_lease_it_leaves_that_alone(self):
        state = slot(entry(fill=B, order=ORDER), lease(flight=C, order=ORDER + 5))
        assert rules.fill(state, B, ORDER, 9_000, 1_700) == ("stored", False, state)


class TestRelease:
    """Rule 5."""

    @pytest.mark.parametrize("want", [True, False])
    def test_the_lease_is_gone_and_the_tape_written_if_somebody_waits(self, want):
        held = lease()._replace(want=want)
        assert rules.release(slot(held=held), B, ORDER, False, 0, 1_600) == (want, slot())

    @NOT_HOLDING
    def test_without_the_very_lease_only_the_tape_is_written(self, held, flight, order, now):
        state = slot(entry(), held)
        assert rules.release(state, flight, order, True, 0, now) == (True, state)

    def test_an_order_of_zero_is_any_grant_of_this_id(self):
        held = lease()._replace(want=True)
        assert rules.ordered(held, B, 0) == ORDER
        assert rules.release(slot(held=held), B, 0, False, 0, 1_600) == (True, slot())

    @pytest.mark.parametrize("held", [None, lease(flight=C)])
    def test_an_order_of_zero_for_an_id_that_was_granted_nothing_does_nothing(self, held):
        assert rules.ordered(held, B, 0) == 0
        assert rules.release(slot(held=held), B, 0, False, 0, 1_600) == (False, slot(held=held))

    def test_a_failure_with_nothing_to_serve_frees_the_key(self):
        assert rules.release(slot(held=lease()), B, ORDER, True, 0, 1_600)[1].lease is None
        assert rules.release(slot(entry(), lease(deadline=4_100)), B, ORDER, True, 0, 4_000)[1].lease is None

    def test_a_failure_with_an_invalidated_answer_frees_the_key(self):
        assert rules.release(slot(entry(), lease(), MOVED, (3,)), B, ORDER, True, 0, 1_600)[1].lease is None
        assert rules.release(slot(entry(), TAGGED, MOVED), B, ORDER, True, 0, 1_600)[1].lease is None

    def test_a_failure_with_an_answer_still_servable_leaves_the_lease_to_rest(self):
        tape, after = rules.release(slot(entry(), lease()._replace(want=True)), B, ORDER, True, 0, 3_900)
        assert tape is True
        assert after.lease == lease(deadline=4_900, expire=34_900)._replace(idle=True, fails=1)

    def test_an_answer_that_was_refused_is_no_failure(self):
        assert rules.release(slot(entry(), lease()), B, ORDER, False, 0, 1_600)[1].lease is None

    def test_failures_in_a_row_are_counted_from_lease_to_lease(self):
        state = slot(entry(), lease()._replace(fails=3))
        assert rules.release(state, B, ORDER, True, 0, 1_600)[1].lease == lease(deadline=9_600, expire=39_600)._replace(
            idle=True, fails=4
        )

    @pytest.mark.parametrize(
        ("fails", "hint", "rest"),
        [
            (1, 0, 1_000),
            (2, 0, 2_000),
            (5, 0, 16_000),
            (6, 0, 30_000),
            (60, 0, 30_000),
            (1, 20_000, 20_000),
            (5, 3_000, 16_000),
            (1, 9_999_999, BACKOFF_CAP),
        ],
    )
    def test_the_rest_doubles_to_half_a_minute_and_honours_retry_after_to_five(self, fails, hint, rest):
        assert rules.backoff(fails, hint) == rest


class TestExtend:
    """Rule 6."""

    def test_all_dates_move_along_and_the_birth_stays(self):
        assert rules.extend(slot(entry()), A, 900, 800, 9_000, 1_500) == Dates(1_000, 2_300, 3_300, 4_300)

    def test_only_ever_later(self):
        assert rules.extend(slot(entry()), A, 900, 500, 9_000, 1_500) is None
        assert rules.extend(slot(entry()), A, 900, 501, 9_000, 1_500) == Dates(1_000, 2_001, 3_001, 4_001)

    def test_never_past_the_cap_from_its_birth(self):
        assert rules.extend(slot(entry()), A, 900, 99_000, 2_500, 1_500) == Dates(1_000, 3_500, 3_500, 4_000)
        assert rules.extend(slot(entry()), A, 900, 99_000, 1_000, 1_500) is None

    def test_only_the_very_entry(self):
        assert rules.extend(slot(), A, 900, 800, 9_000, 1_500) is None
        assert rules.extend(slot(entry()), B, 900, 800, 9_000, 1_500) is None
        assert rules.extend(slot(entry()), A, 901, 800, 9_000, 1_500) is None

    def test_only_while_it_is_fresh(self):
        assert rules.extend(slot(entry()), A, 900, 800, 9_000, 1_999)
        assert rules.extend(slot(entry()), A, 900, 800, 9_000, 2_000) is None

    def test_not_after_an_invalidation(self):
        assert rules.extend(slot(entry(), None, MOVED, (3,)), A, 900, 800, 9_000, 1_500) is None
        assert rules.extend(slot(entry(), None, Generations()), A, 900, 800, 9_000, 1_500) is None


class TestInvalidate:
    """Rule 7."""

    def test_the_one_counter_moves_and_the_fields_with_it(self):
        assert rules.invalidate(GENS, (3, 5), False) == Generations(EPOCH, 8, 0, {3: 8, 5: 8})

    def test_other_fields_keep_their_place(self):
        assert rules.invalidate(MOVED, (5,), False).moved == {3: 8, 5: 9}

    def test_everything_raises_the_floor(self):
        assert rules.invalidate(MOVED, (), True) == Generations(EPOCH, 9, 9, {3: 8})

    def test_it_makes_no_epoch(self):
        assert rules.invalidate(Generations(), (3,), True) == Generations(b"", 1, 1, {3: 1})

    def test_what_it_was_given_is_left_as_it_was(self):
        before = Generations(EPOCH, 7, 0, {3: 2})
        rules.invalidate(before, (3,), True)
        assert before == Generations(EPOCH, 7, 0, {3: 2})
