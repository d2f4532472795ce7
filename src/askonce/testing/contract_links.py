"""The laws of a link, of several store objects over one place, and of several prefixes in it.

A notice is only sure to be sent if somebody can be waiting: after a Follow, and once the subscription is in force.
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

import time

from askonce.core.keys import Key
from askonce.core.lease import Follow, Grant
from askonce.core.tape import ALIVE, ENDED, FAILED, SHARED, STORED, WANTED, Ending, Notice
from askonce.store import Held, Link
from askonce.testing.trial import HEARTBEAT, HOUR, LIFE, MOMENT, Trial, asking, key, must_lead, sealed

Q, OTHER = key("what is a lease?"), key("what is a tape?")


def held(grant: Grant, question: Key = Q) -> Held:
    """A grant in the form that a renewal takes."""
    return Held(question, grant.id, grant.order)


class RenewLaws(Trial):
    """Rule 3, and the other commands of a link."""

    def test_renewals_are_answered_each_in_its_place(self) -> None:
        mine, other = self.lead(Q, asking()), self.lead(OTHER, asking())
        self.claim(OTHER, asking())
        stranger = Held(Q, bytes(16), mine.order)
        earlier = Held(Q, mine.id, mine.order - 1)
        said = self.link().renew([stranger, held(mine), held(other, OTHER), earlier], HEARTBEAT)
        assert said == ["lost", "ok", "want", "lost"]

    def test_nothing_to_renew_is_no_trouble(self) -> None:
        assert self.link().renew([], HEARTBEAT) == []

    def test_a_renewed_lease_lives_on(self) -> None:
        grant = self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(MOMENT)
        assert self.link().renew([held(grant)], HEARTBEAT) == ["ok"]
        assert isinstance(self.claim(Q, asking()), Follow)

    def test_a_renewal_makes_no_lease(self) -> None:
        grant = self.lead(Q, asking())
        self.do(self.store.forget(Q))
        assert self.link().renew([held(grant)], HEARTBEAT) == ["lost"]
        must_lead(self.claim(Q, asking()))

    def test_a_lease_that_was_invalidated_is_lost(self) -> None:
        grant = self.lead(Q, asking(3))
        self.do(self.store.invalidate((3,)))
        assert self.link().renew([held(grant)], HEARTBEAT) == ["lost"]

    def test_a_claim_whose_reply_was_lost_is_given_back_by_its_id(self) -> None:
        grant = self.lead(Q, asking())
        self.do(self.store.release(Q, bytes(16), 0, Ending(FAILED)))
        assert isinstance(self.claim(Q, asking()), Follow)
        self.do(self.store.release(Q, grant.id, 0, Ending(FAILED)))
        must_lead(self.claim(Q, asking()))

    def test_a_probe_of_a_store_that_answers_is_silent_and_writes_nothing(self) -> None:
        link = self.link()
        link.probe()
        assert self.do(self.store.look(Q, ())).generations.epoch == b""


class NoticeLaws(Trial):
    """Rule 8: waiting belongs to the store."""

    def hears(self, link: Link, notice: Notice) -> None:
        """Assert that this notice comes, whatever else does."""
        self.hear(link, lambda notices, _: (Q, notice) in notices)

    def test_the_first_who_waits_is_announced(self) -> None:
        link = self.listening(Q)
        grant = self.lead(Q, asking())
        self.claim(Q, asking())
        self.hears(link, Notice(WANTED, grant.id, grant.order))

    def test_a_follower_is_told_that_the_answer_is_stored(self) -> None:
        link = self.listening(Q)
        grant = self.lead(Q, asking())
        self.claim(Q, asking())
        assert self.fill(Q, grant, sealed(Q, grant)) == "stored"
        self.hears(link, Notice(ENDED, grant.id, grant.order, STORED))

    def test_a_follower_is_told_how_a_release_ended_it(self) -> None:
        link = self.listening(Q)
        for outcome in (SHARED, FAILED):
            grant = self.lead(Q, asking())
            self.claim(Q, asking())
            self.release(Q, grant, Ending(outcome, "why", b"body"))
            self.hears(link, Notice(ENDED, grant.id, grant.order, outcome))

    def test_a_follower_is_told_that_a_fill_was_refused_and_shared(self) -> None:
        link = self.listening(Q)
        grant = self.lead(Q, asking(3))
        self.claim(Q, asking(3))
        self.do(self.store.invalidate((3,)))
        assert self.fill(Q, grant, sealed(Q, grant, 3)) == "moved"
        self.hears(link, Notice(ENDED, grant.id, grant.order, SHARED))

    def test_a_claim_given_back_by_its_id_is_named_by_the_order_its_followers_know(self) -> None:
        link = self.listening(Q)
        grant = self.lead(Q, asking())
        self.claim(Q, asking())
        self.do(self.store.release(Q, grant.id, 0, Ending(FAILED)))
        self.hears(link, Notice(ENDED, grant.id, grant.order, FAILED))

    def test_notices_reach_the_other_links_of_the_place(self) -> None:
        here, there = self.listening(Q, OTHER), self.listening(OTHER, store=self.another())
        notice = Notice(ALIVE, b"f" * 16, 7)
        self.link().say(OTHER, notice)
        for link in (here, there):
            assert self.hear(link, lambda notices, _: bool(notices)) == [(OTHER, notice)]

    def test_many_notices_are_sent_at_once_each_about_its_key(self) -> None:
        link = self.listening(Q, OTHER)
        said = [(question, Notice(ALIVE, b"f" * 16, order)) for order in range(1, 41) for question in (Q, OTHER)]
        self.link().say_all(said)
        assert sorted(self.hear(link, lambda notices, _: len(notices) >= len(said))) == sorted(said)
        self.link().say_all([])

    def test_no_notices_about_what_was_not_asked_for(self) -> None:
        link = self.listening(Q, OTHER)
        link.unsubscribe(OTHER)
        sayer = self.link()
        sayer.say(OTHER, Notice(ALIVE, b"f" * 16, 7))
        sayer.say(key("never asked"), Notice(ALIVE, b"f" * 16, 8))
        sayer.say(Q, Notice(ALIVE, b"f" * 16, 9))
        assert [notice.order for _, notice in self.hear(link, lambda notices, _: bool(notices))] == [9]

    def test_a_key_may_be_asked_for_again(self) -> None:
        link = self.listening(Q)
        link.unsubscribe(Q)
        link.subscribe(Q)
        self.hear(link, lambda _, ready: Q in ready)
        self.link().say(Q, Notice(ALIVE, b"f" * 16, 7))
        assert self.hear(link, lambda notices, _: bool(notices))

    def test_a_poll_ends_by_its_timeout_and_at_once_when_woken(self) -> None:
        link = self.listening(Q)
        began = time.monotonic()
        assert link.poll(0.01) == ([], [])
        link.wake()
        link.poll(5.0)
        assert time.monotonic() - began < 4.0

    def test_notices_from_before_a_subscription_was_in_force_may_be_missed_but_none_after(self) -> None:
        link = self.listening(Q)
        sayer = self.link()
        for order in range(1, 51):
            sayer.say(Q, Notice(ALIVE, b"f" * 16, order))
        notices = self.hear(link, lambda notices, _: len(notices) >= 50)
        assert [notice.order for _, notice in notices] == list(range(1, 51))


class PlaceLaws(Trial):
    """Several store objects over one place, like several processes."""

    def test_two_stores_over_one_place_are_one(self) -> None:
        there = self.another()
        grant = self.lead(Q, asking())
        follow = self.claim(Q, asking(), there)
        assert isinstance(follow, Follow)
        assert (follow.id, follow.order) == grant[:2]
        assert self.do(there.fill(Q, grant.id, grant.order, sealed(Q, grant, 3), LIFE)) == "stored"
        assert self.serves(Q) == self.serves(Q, store=there) == grant[:2]
        self.do(there.invalidate((3,)))
        assert self.serves(Q) is None
        self.do(self.store.count(Q, 2, HOUR))
        assert self.do(there.count(Q, 1, HOUR)) == 3

    def test_a_link_serves_all_stores_of_its_address(self) -> None:
        there, elsewhere = self.another(), self.another(self.prefix + "-too")
        link = self.link()
        for nth, store in enumerate((self.store, there, elsewhere)):
            if store.address == self.store.address:
                question = key(f"from store {nth}")
                grant = self.lead(question, asking(), store)
                assert link.renew([held(grant, question)], HEARTBEAT) == ["ok"]
                self.do(store.release(question, grant.id, 0, Ending(FAILED)))
                must_lead(self.claim(question, asking(), store))

    def test_a_store_slides_and_counts_for_all_prefixes_of_its_address(self) -> None:
        elsewhere = self.another(self.prefix + "-too")
        if elsewhere.address != self.store.address:
            return  # each has a background thread of its own
        self.do(self.store.invalidate((3,)))  # gives the two different generations
        grant = self.lead(Q, asking(), elsewhere)
        assert self.do(elsewhere.fill(Q, grant.id, grant.order, sealed(Q, grant, 3), LIFE)) == "stored"
        assert self.do(self.store.count(Q, 1, HOUR)) == 1
        assert self.do(self.store.extend(Q, grant.id, grant.order, 5 * HOUR, 9 * HOUR))
        assert self.serves(Q, store=elsewhere)

    def test_two_prefixes_do_not_see_each_other(self) -> None:
        elsewhere = self.another(self.prefix + "-too")
        self.stored(Q, 3)
        assert self.serves(Q, store=elsewhere) is None
        self.do(elsewhere.invalidate((3,), everything=True))
        assert self.serves(Q, 3) is not None
        assert self.do(elsewhere.look(OTHER, ())).generations.clock == 1
        assert self.do(self.store.look(OTHER, ())).generations.clock == 0

    def test_a_closed_store_leaves_the_others_open(self) -> None:
        self.stored(Q)
        there = self.another()
        assert self.serves(Q, store=there)
        self.do(there.close())
        assert self.serves(Q)


class LinkLaws(RenewLaws, NoticeLaws, PlaceLaws):
    """All laws of this module."""
