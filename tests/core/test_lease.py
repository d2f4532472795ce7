"""The decision table of a claim, row by row, with literal times (PROTOCOL.md, rules 0, 1 and 2).

PROTOCOL.md says what each rule prevents; these rows check what it decides. `slots` draws the state from which rows
begin.
"""

from __future__ import annotations

import pytest

from askonce.core import lease as rules
from askonce.core.lease import LEASE_LIFE, NEVER, Follow, Generations, Grant, Hit, Lead, Limits, Stale
from askonce.core.model import TTL_CAP, Dates, Snapshot
from tests.core.slots import BEAT, EPOCH, GENS, WIDE, A, B, C, ask, claimed, entry, lease, left, slot

IDLE = lease()._replace(idle=True, fails=1)
MOVED = Generations(EPOCH, clock=8, moved={3: 8})


class TestValid:
    """Rule 0.2."""

    def test_nothing_is_valid_where_the_generations_are_missing(self):
        assert not rules.valid(Snapshot(b"", 0), (), Generations())
        assert not rules.valid(Snapshot(EPOCH, 7), (), Generations(clock=7))

    def test_what_another_epoch_made_is_not_valid(self):
        assert not rules.valid(Snapshot(b"epoch000", 7), (), GENS)

    def test_what_is_as_new_as_the_counter_is_valid_whatever_its_tags(self):
        assert rules.valid(Snapshot(EPOCH, 7), (1, 2), GENS._replace(moved={1: 7, 2: 3}))

    def test_a_tag_that_moved_later_makes_it_invalid_and_one_that_moved_before_does_not(self):
        assert not rules.valid(Snapshot(EPOCH, 7), (3,), MOVED)
        assert rules.valid(Snapshot(EPOCH, 7), (4,), MOVED)
        assert rules.valid(Snapshot(EPOCH, 7), (3,), Generations(EPOCH, 9, moved={3: 7}))

    def test_a_floor_above_it_makes_everything_invalid(self):
        assert not rules.valid(Snapshot(EPOCH, 7), (), Generations(EPOCH, 8, floor=8))
        assert rules.valid(Snapshot(EPOCH, 8), (), Generations(EPOCH, 9, floor=8))


class TestFresh:
    """Rule 2.2 and the lookup's own limits."""

    @pytest.mark.parametrize(
        ("now", "kind"), [(1_000, Hit), (1_999, Hit), (2_000, Stale), (2_999, Stale), (3_000, Lead)]
    )
    def test_an_entry_is_a_hit_then_stale_then_nothing(self, now, kind):
        assert isinstance(claimed(slot(entry()), now), kind)

    def test_a_hit_names_the_entry_it_speaks_about_and_the_time(self):
        assert claimed(slot(entry()), 1_500) == Hit(A, 900, 1_500)

    def test_a_shorter_ttl_of_the_caller_cuts_every_window(self):
        short = Limits(ttl=400, grace=100, error=200)
        assert rules.windows(entry(), short) == (1_400, 1_500, 1_600)
        assert isinstance(claimed(slot(entry()), 1_399, ask(limits=short)), Hit)
        assert isinstance(claimed(slot(entry()), 1_499, ask(limits=short)), Stale)
        assert isinstance(claimed(slot(entry()), 1_500, ask(limits=short)), Lead)

    def test_a_longer_ttl_of_the_caller_lengthens_nothing(self):
        long = Limits(ttl=9_000, grace=9_000, error=9_000)
        assert rules.windows(entry(), long) == (2_000, 3_000, 4_000)

    def test_a_lifetime_that_slid_is_not_cut_for_callers_of_the_same_ttl(self):
        slid = entry(dates=Dates(1_000, 5_000, 6_000, 7_000))
        assert rules.windows(slid, WIDE).fresh == 5_000

    def test_ttls_beyond_what_the_format_holds_are_all_the_same(self):
        born = entry(ttl=TTL_CAP + 5, dates=Dates(1_000, TTL_CAP + 90, TTL_CAP + 90, TTL_CAP + 90))
        assert rules.windows(born, Limits(TTL_CAP + 9, 0, 0)).fresh == TTL_CAP + 90

    def test_max_age_is_a_strict_bound_so_that_zero_is_no_cache(self):
        assert isinstance(claimed(slot(entry()), 1_000, ask(limits=WIDE._replace(max_age=0))), Lead)
        assert isinstance(claimed(slot(entry()), 1_299, ask(limits=WIDE._replace(max_age=300))), Hit)
        assert isinstance(claimed(slot(entry()), 1_300, ask(limits=WIDE._replace(max_age=300))), Lead)

    def test_max_age_also_bounds_a_stale_answer(self):
        assert isinstance(claimed(slot(entry()), 2_500, ask(limits=WIDE._replace(max_age=1_501))), Stale)
        assert isinstance(claimed(slot(entry()), 2_500, ask(limits=WIDE._replace(max_age=1_500))), Lead)

    def test_min_fresh_wants_so_much_life_left_and_never_a_stale_answer(self):
        picky = WIDE._replace(min_fresh=500)
        assert isinstance(claimed(slot(entry()), 1_499, ask(limits=picky)), Hit)
        assert isinstance(claimed(slot(entry()), 1_500, ask(limits=picky)), Lead)
        assert isinstance(claimed(slot(entry()), 2_500, ask(limits=picky)), Lead)

    def test_max_stale_takes_an_answer_past_its_freshness_but_not_past_its_hard_end(self):
        easy = WIDE._replace(max_stale=9_000)
        assert claimed(slot(entry()), 3_999, ask(limits=easy)) == Hit(A, 900, 3_999)
        assert isinstance(claimed(slot(entry()), 4_000, ask(limits=easy)), Lead)
        assert isinstance(claimed(slot(entry()), 2_500, ask(limits=WIDE._replace(max_stale=501))), Hit)
        assert isinstance(claimed(slot(entry()), 2_500, ask(limits=WIDE._replace(max_stale=500))), Stale)

    def test_who_waited_for_an_order_takes_that_entry_whatever_his_limits(self):
        strict = WIDE._replace(max_age=0)
        assert isinstance(claimed(slot(entry(order=900)), 1_001, ask(limits=strict, after=900)), Hit)
        assert isinstance(claimed(slot(entry(order=901)), 3_500, ask(limits=strict, after=900)), Hit)
        assert isinstance(claimed(slot(entry(order=899)), 1_001, ask(limits=strict, after=900)), Lead)

    def test_who_waited_takes_nothing_that_was_invalidated_meanwhile(self):
        assert isinstance(claimed(slot(entry(), generations=MOVED), 1_001, ask(after=900, fields=(3,))), Lead)


class TestInvalidated:
    """Rule 2.2 and 2.6: what was invalidated is neither fresh nor stale, and needs every tag of both sides."""

    @pytest.mark.parametrize("now", [1_500, 2_500, 3_500])
    def test_the_entrys_own_tags_count_though_the_caller_does_not_name_them(self, now):
        assert isinstance(claimed(slot(entry(), generations=MOVED, fields=(3,)), now), Lead)

    @pytest.mark.parametrize("now", [1_500, 2_500, 3_500])
    def test_the_callers_tags_count_though_the_entry_does_not_carry_them(self, now):
        assert isinstance(claimed(slot(entry(), generations=MOVED), now, ask(fields=(3,))), Lead)

    def test_other_tags_leave_it_alone(self):
        assert isinstance(claimed(slot(entry(), generations=MOVED, fields=(4,)), 1_500, ask(fields=(5,))), Hit)

    def test_generations_that_are_missing_make_everything_miss_and_begin_a_new_epoch(self):
        said, after = rules.claim(slot(entry(), lease(), Generations()), ask(), 1_600_123)
        assert isinstance(said, Lead)
        assert after.generations.epoch == b"cand" + (1_600_123).to_bytes(4, "big")
        assert said.grant.snapshot == Snapshot(after.generations.epoch, 0)

    def test_a_counter_that_an_invalidation_made_without_an_epoch_is_kept(self):
        said, after = rules.claim(slot(generations=Generations(clock=3)), ask(), 1_600_000)
        assert isinstance(said, Lead)
        assert (said.grant.snapshot.clock, after.generations.clock) == (3, 3)

    def test_the_same_candidate_at_another_time_is_another_epoch(self):
        epochs = {rules.claim(slot(generations=Generations()), ask(), us)[1].generations.epoch for us in (5, 6)}
        assert len(epochs) == 2


class TestLease:
    """Rules 2.3, 2.4 and 2.6: who is kept out, and what a grant is."""

    def test_the_first_leads_with_the_generation_of_this_moment(self):
        said, after = rules.claim(slot(), ask(), 1_600_777)
        assert said == Lead(Grant(C, 1_600_777, Snapshot(EPOCH, 7)))
        assert after.lease == rules.Lease(C, 1_600_777, 2_100, Snapshot(EPOCH, 7), (), 1_600 + LEASE_LIFE)

    def test_the_next_follows_for_as_long_as_the_lease_is_sure_to_live(self):
        assert claimed(slot(held=lease()), 1_600) == Follow(B, 1_500_000, 400)

    def test_who_follows_leaves_word_that_he_wants_it(self):
        _, after = rules.claim(slot(held=lease()), ask(), 1_600_000)
        assert after.lease == lease()._replace(want=True)
        assert rules.claim(after, ask(), 1_600_000)[1] is after

    @pytest.mark.parametrize(("now", "kind"), [(1_999, Follow), (2_000, Lead), (901_500, Lead)])
    def test_a_lease_past_its_deadline_may_be_taken(self, now, kind):
        assert isinstance(claimed(slot(held=lease()), now), kind)

    def test_fifteen_minutes_end_a_lease_that_is_still_renewed(self):
        assert isinstance(claimed(slot(held=lease(deadline=901_900)), 901_500), Lead)
        assert isinstance(claimed(slot(held=lease(deadline=901_900)), 901_499), Follow)

    def test_a_deadline_further_ahead_than_a_heartbeat_means_the_clock_stepped_back(self):
        assert isinstance(claimed(slot(held=lease(deadline=2_000)), 1_500), Follow)
        assert isinstance(claimed(slot(held=lease(deadline=2_000)), 1_499), Lead)

    def test_an_invalidated_lease_is_free(self):
        tagged = lease(fields=(3,))
        assert isinstance(claimed(slot(held=tagged, generations=MOVED), 1_600), Lead)
        assert isinstance(claimed(slot(held=lease(), generations=MOVED), 1_600, ask(fields=(3,))), Lead)
        assert isinstance(claimed(slot(held=lease(), generations=MOVED), 1_600), Follow)

    def test_an_order_is_above_the_clock_the_last_lease_and_the_entry(self):
        granted = claimed(slot(entry(order=9_000_000), lease(order=8_000_000), MOVED), 1_600, ask(fields=(3,)))
        assert granted.grant.order == 9_000_001
        granted = claimed(slot(entry(order=8), lease(order=8_000_000), MOVED), 1_600, ask(fields=(3,)))
        assert granted.grant.order == 8_000_001
        assert claimed(slot(entry(order=8)), 3_500).grant.order == 3_500_000

    def test_the_entrys_order_counts_though_it_may_serve_nobody_any_more(self):
        assert claimed(slot(entry(order=9_000_000)), 5_000).grant.order == 9_000_001

    def test_a_claim_repeated_by_its_own_flight_is_the_same_grant_again(self):
        state = slot(held=lease(flight=C))
        said, after = rules.claim(state, ask(), 1_600_000)
        assert said == Lead(Grant(C, 1_500_000, Snapshot(EPOCH, 7)))
        assert after is state

    def test_a_repeated_claim_keeps_its_old_generation(self):
        grant = claimed(slot(held=lease(flight=C), generations=MOVED), 1_600).grant
        assert grant.snapshot == Snapshot(EPOCH, 7)

    def test_a_repeated_claim_after_an_invalidation_is_granted_anew(self):
        outdated = slot(held=lease(flight=C, fields=(3,)), generations=MOVED)
        assert claimed(outdated, 1_600) == Lead(Grant(C, 1_600_000, Snapshot(EPOCH, 8)))
        assert left(outdated, 1_600).order == 1_600_000

    def test_a_repeated_claim_beside_an_entry_still_shows_the_grant(self):
        assert claimed(slot(entry(), lease(flight=C)), 2_500).grant.order == 1_500_000
        assert claimed(slot(entry(), lease(flight=C)), 1_500).grant.order == 1_500_000

    def test_a_lease_given_back_idle_is_not_granted_to_its_flight_again(self):
        assert claimed(slot(held=IDLE._replace(id=C)), 1_600).grant.order == 1_600_000


class TestStale:
    """Rules 2.6 and 2.7: stale is served by one with, by the others without a lease."""

    def test_the_first_to_find_it_stale_gets_it_with_the_lease(self):
        assert claimed(slot(entry()), 2_500) == Stale(A, 900, 2_500, Grant(C, 2_500_000, Snapshot(EPOCH, 7)))

    def test_the_others_get_it_without(self):
        state = slot(entry(), lease(deadline=2_900))
        said, after = rules.claim(state, ask(), 2_500_000)
        assert said == Stale(A, 900, 2_500)
        assert after is state

    def test_past_its_grace_they_follow(self):
        assert isinstance(claimed(slot(entry(), lease(deadline=3_400)), 3_000), Follow)


class TestEarly:
    """Rule 2.5: a refresh before the end, by one."""

    @pytest.mark.parametrize(("now", "granted"), [(1_799, False), (1_800, True), (1_999, True)])
    def test_a_hit_close_to_its_end_comes_with_the_lease(self, now, granted):
        said = claimed(slot(entry()), now, ask(early=200))
        assert isinstance(said, Hit)
        assert bool(said.grant) is granted

    def test_not_when_somebody_refreshes_already(self):
        assert claimed(slot(entry(), lease()), 1_900, ask(early=200)) == Hit(A, 900, 1_900)

    def test_never_unless_asked(self):
        assert claimed(slot(entry()), 1_999, ask(early=NEVER)) == Hit(A, 900, 1_999)


class TestIdle:
    """Rule 5 as a claim sees it: nobody tries while a failed refresh is rested from."""

    def test_who_can_be_served_stale_is_without_a_lease(self):
        assert claimed(slot(entry(), IDLE._replace(deadline=2_900)), 2_500) == Stale(A, 900, 2_500)

    def test_the_answer_kept_for_errors_serves_as_well(self):
        assert claimed(slot(entry(), IDLE._replace(deadline=3_900)), 3_500) == Stale(A, 900, 3_500)

    def test_but_not_to_callers_who_do_not_take_such(self):
        resting = slot(entry(), IDLE._replace(deadline=3_900))
        for limits in (WIDE._replace(error=0), WIDE._replace(max_age=100), WIDE._replace(min_fresh=1)):
            assert isinstance(claimed(resting, 3_500, ask(limits=limits)), Lead)

    def test_who_cannot_be_served_tries_at_once(self):
        assert isinstance(claimed(slot(held=IDLE), 1_600), Lead)

    def test_after_the_rest_the_next_one_tries_and_the_failures_are_remembered(self):
        rested = slot(entry(), IDLE._replace(deadline=2_500))
        assert claimed(rested, 2_500).grant
        assert (left(rested, 2_500).fails, left(rested, 2_500).idle) == (1, False)

    def test_no_early_refresh_meanwhile(self):
        assert claimed(slot(entry(), IDLE), 1_900, ask(early=200)).grant is None

    def test_a_rest_may_be_longer_than_a_heartbeat_but_not_than_any_rest(self):
        assert claimed(slot(entry(), IDLE._replace(deadline=2_500 + 300_000)), 2_500).grant is None
        assert claimed(slot(entry(), IDLE._replace(deadline=2_501 + 300_000)), 2_500).grant

    def test_an_invalidation_ends_the_rest(self):
        assert isinstance(claimed(slot(entry(), IDLE, MOVED, (3,)), 1_600), Lead)
        assert isinstance(claimed(slot(None, IDLE._replace(fields=(3,)), MOVED), 1_600), Lead)


def test_the_heartbeat_of_the_rows_is_the_one_of_the_lease():
    assert lease().deadline - 1_500 == BEAT
    assert lease().id == B


def test_an_answer_from_before_a_clock_stepped_back_is_no_answer_to_no_cache():
    limits = Limits(3_600_000, 0, 0, max_age=0)
    assert not rules.fresh_for(entry(), limits, 500)
    assert rules.fresh_for(entry(), limits._replace(max_age=1), 500)
