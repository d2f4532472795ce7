"""The laws of late and repeated commands, which were sent, timed out, and executed later all the same.

A claim may be granted after its caller gave up, a fill may arrive after its successor's, any command may arrive twice.
None of this may bring back what an invalidation removed, or put an older answer over a newer one.
"""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

from askonce.core.lease import Follow
from askonce.core.model import entry_body, read_entry
from askonce.testing.trial import HOUR, LIMITS, MOMENT, Trial, asking, key, sealed

Q = key("what is a lease?")
STRICT = LIMITS._replace(max_age=0)  # no-cache


class LateLaws(Trial):
    """The shortest traces that ever broke a promise, and similar ones."""

    def test_a_late_claim_after_an_invalidation_gives_no_right_to_the_old_call(self) -> None:
        ask = asking()
        grant = self.lead(Q, ask)
        self.do(self.store.forget(Q))
        ghost = self.lead(Q, ask)  # the same claim again; nobody gets its reply
        assert ghost.order > grant.order
        assert self.fill(Q, grant, sealed(Q, grant)) == "lost"
        assert self.do(self.store.entry(Q)) is None
        follow = self.claim(Q, asking())
        assert isinstance(follow, Follow)
        assert follow.order == ghost.order
        assert self.do(self.store.tape(Q, follow.id, follow.order)) is None

    def test_a_late_claim_after_a_takeover_does_not_let_the_older_answer_replace_the_newer(self) -> None:
        ask = asking(limits=STRICT, heartbeat=MOMENT)
        old = self.lead(Q, ask)
        self.wait(MOMENT)
        new = self.stored(Q, body=b"new")
        self.lead(Q, ask)
        assert self.fill(Q, old, sealed(Q, old, body=b"old")) == "lost"
        data = self.do(self.store.entry(Q))
        assert data is not None
        assert bytes(entry_body(data, read_entry(data, Q.digest, Q.form))) == b"new"
        assert self.serves(Q) == new[:2]

    def test_a_late_claim_after_an_invalidation_of_its_tags_has_the_new_generation_and_order(self) -> None:
        ask = asking(3)
        grant = self.lead(Q, ask)
        self.do(self.store.invalidate((3,)))
        ghost = self.lead(Q, ask)
        assert (ghost.order > grant.order, ghost.snapshot.clock) == (True, grant.snapshot.clock + 1)
        assert self.fill(Q, grant, sealed(Q, grant, 3)) == "lost"

    def test_a_late_release_or_fill_of_an_old_grant_leaves_the_successor_alone(self) -> None:
        old = self.lead(Q, asking(heartbeat=MOMENT))
        self.wait(MOMENT)
        new = self.lead(Q, asking())
        self.release(Q, old)
        self.release(Q, old._replace(order=0))
        assert self.fill(Q, old, sealed(Q, old)) == "lost"
        assert isinstance(self.claim(Q, asking()), Follow)
        assert self.fill(Q, new, sealed(Q, new)) == "stored"

    def test_a_late_slide_of_an_old_entry_leaves_the_new_one_alone(self) -> None:
        old = self.stored(Q)
        new = self.lead(Q, asking(limits=STRICT))
        assert self.fill(Q, new, sealed(Q, new)) == "stored"
        data = self.do(self.store.entry(Q))
        assert self.do(self.store.extend(Q, old.id, old.order, 9 * HOUR, 99 * HOUR)) is False
        assert self.do(self.store.entry(Q)) == data

    def test_a_late_claim_that_begins_an_epoch_begins_another_than_before(self) -> None:
        ask = asking()
        before = self.lead(Q, ask).snapshot.epoch
        self.raze()
        assert self.lead(Q, ask).snapshot.epoch != before

    def test_a_late_invalidation_kills_more_and_never_less(self) -> None:
        grant = self.stored(Q, 3)
        self.do(self.store.invalidate((3,)))
        again = self.stored(Q, 3)
        self.do(self.store.invalidate((3,)))
        assert self.serves(Q) is None
        assert grant.order < again.order
