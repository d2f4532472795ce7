"""The laws of `Store.flights`: the flights under way are listed, whoever runs them, and no others."""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

from askonce.core.keys import Key
from askonce.core.lease import Follow
from askonce.store import Held, Running
from askonce.testing.trial import BRIEF, HEARTBEAT, MOMENT, Trial, asking, key, sealed

Q, OTHER = key("what is a lease?"), key("what is a tape?")
MANY = 150  # flights: more than one of each partition


class FlightLaws(Trial):
    """Who looks for the flights of a store sees those of every process."""

    def flights(self, count: int = 1000) -> list[Running]:
        return self.do(self.store.flights(count))

    def test_without_a_flight_none_is_listed(self) -> None:
        assert self.flights() == []
        self.stored(Q)
        assert self.flights() == []

    def test_a_flight_is_listed_as_it_was_granted_until_it_fills(self) -> None:
        before = self.now_us() // 1000
        grant = self.lead(Q, asking())
        after = self.now_us() // 1000
        (one,) = self.flights()
        assert (one.digest, one.form, one.id, one.order) == (Q.digest[:16], Q.form, grant.id, grant.order)
        assert before <= one.since <= after
        assert one.deadline - one.since == HEARTBEAT
        assert one.wanted is False
        self.fill(Q, grant, sealed(Q, grant))
        assert self.flights() == []

    def test_a_flight_that_is_given_back_or_forgotten_is_listed_no_more(self) -> None:
        self.release(Q, self.lead(Q, asking()))
        self.lead(OTHER, asking())
        self.do(self.store.forget(OTHER))
        assert self.flights() == []

    def test_a_flight_that_is_not_renewed_in_time_is_listed_no_more(self) -> None:
        self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(MOMENT)
        assert self.flights() == []

    def test_a_renewal_moves_its_deadline_and_not_its_beginning(self) -> None:
        grant = self.lead(Q, asking())
        (before,) = self.flights()
        self.wait(MOMENT)
        assert self.link().renew([Held(Q, grant.id, grant.order)], HEARTBEAT)[0] in {"ok", "want"}
        (after,) = self.flights()
        assert after.since == before.since
        assert after.deadline > before.deadline

    def test_a_flight_that_took_over_is_listed_in_place_of_the_other(self) -> None:
        self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(MOMENT)
        grant = self.lead(Q, asking())
        assert [(one.id, one.order) for one in self.flights()] == [(grant.id, grant.order)]

    def test_a_refresh_is_a_flight_and_the_pause_after_its_failure_is_none(self) -> None:
        self.stored(Q, life=BRIEF)
        self.wait(MOMENT)
        grant = self.lead(Q, asking())
        assert [one.id for one in self.flights()] == [grant.id]
        self.release(Q, grant, failed=True)
        assert self.flights() == []

    def test_an_invalidated_flight_is_listed_while_it_runs(self) -> None:
        grant = self.lead(Q, asking(3))
        self.do(self.store.invalidate((3,)))
        assert [one.id for one in self.flights()] == [grant.id]

    def test_a_flight_that_another_caller_follows_is_wanted(self) -> None:
        self.lead(Q, asking())
        assert isinstance(self.claim(Q, asking()), Follow)
        assert [one.wanted for one in self.flights()] == [True]

    def test_the_processes_that_wait_for_a_flight_are_counted_where_the_store_knows_them(self) -> None:
        self.lead(Q, asking())
        assert [one.waiting for one in self.flights()] in ([0], [None])
        self.listening(Q)
        self.listening(Q)
        assert [one.waiting for one in self.flights()] in ([2], [None])

    def test_the_flights_of_another_prefix_are_not_listed(self) -> None:
        other = self.another("another")
        grant = self.lead(OTHER, asking(), other)
        assert self.flights() == []
        assert [one.id for one in self.do(other.flights(10))] == [grant.id]
        self.do(other.forget(OTHER))

    def test_each_form_of_a_question_has_a_flight_of_its_own(self) -> None:
        for form in ("v", "j", "s"):
            self.lead(Key(Q.digest, form), asking())
        assert sorted(one.form for one in self.flights()) == ["j", "s", "v"]
        assert {one.digest for one in self.flights()} == {Q.digest[:16]}

    def test_many_flights_are_all_listed_or_as_many_as_are_wanted(self) -> None:
        grants = {self.lead(key(str(number)), asking()).id for number in range(MANY)}
        assert {one.id for one in self.flights()} == grants
        assert len(self.flights(7)) == 7
        assert {one.id for one in self.flights(7)} < grants

    def test_those_that_run_longest_are_listed_and_those_of_killed_processes_hide_none(self) -> None:
        for number in range(MANY):
            self.lead(key(f"killed {number}"), asking(heartbeat=MOMENT))
        longest = [self.lead(key("long"), asking()).id]
        self.wait(MOMENT)
        longest.append(self.lead(key("less long"), asking()).id)
        self.wait(MOMENT)
        for number in range(MANY):
            self.lead(key(str(number)), asking())
        assert [[one.id for one in self.flights(count)] for count in (1, 2)] == [longest[:1], longest]
        assert len(self.flights(MANY)) == MANY

    def test_nothing_is_left_to_list_after_a_raze(self) -> None:
        self.lead(Q, asking())
        self.raze()
        assert self.flights() == []
