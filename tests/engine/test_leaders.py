"""Leaders that die, stop, or are blocked while others wait, in processes of their own.

A lease ends only by a competitor's claim, an invalidation or its 15 minutes; a passed deadline only lets others take
it. So a killed leader costs one more call and at most a heartbeat. A paused leader that was not replaced may still
fill; one that was replaced is refused. Heartbeats are equally shortened in every process of a test.
"""

from __future__ import annotations

import time

import pytest

from askonce.testing import Receipts
from tests.crowd import ASKED, MODES, all_tell, eventually, workers
from tests.took import Took

pytestmark = pytest.mark.concurrency

BEAT = 1.0  # s, instead of 5: longer than a busy machine holds up a thread, shorter than a test's patience


# Each mode and each store, not each pair: passing deadlines takes the time here.
diagonal = pytest.mark.parametrize(
    ("mode", "shared"),
    [("threads", "sqlite"), pytest.param("tasks", "valkey", marks=pytest.mark.servers)],
    indirect=["shared"],
)


@pytest.fixture
def receipts(tmp_path):
    return Receipts(tmp_path / "paid")


@diagonal
def test_a_killed_leader_costs_one_more_call_and_no_more_than_its_deadline(mode, shared, receipts):
    with workers(3, mode, shared, receipts.path, beat=BEAT) as (leader, *others):
        leader.tell("script", None, {"hang": True})
        all_tell(others, "script", None, {"hang": True})
        leader.tell("ask", 1, ASKED)
        leader.tell("paid", ASKED)
        all_tell(others, "ask", 4, ASKED)
        all_tell(others, "gathered", 4)
        killed = time.monotonic()
        leader.process.kill()
        eventually(lambda: receipts.paid() == 2, "a successor calls")
        assert receipts.rows()[1].at - killed <= BEAT + 1
        successor = next(other for other in others if other.process.pid == receipts.rows()[1].pid)
        successor.tell("gathered", 4)
        successor.tell("release")
        found = [one for told in all_tell(others, "results") for one in told]
        assert receipts.paid() == 2
        assert len(found) == 8
        assert all(one["value"] == found[0]["value"] for one in found)
        assert sum(stats.get("takeover", 0) for stats in all_tell(others, "stats")) == 1


@diagonal
def test_a_late_fill_is_refused_and_counted_and_the_successors_answer_stays(mode, shared, receipts):
    with workers(2, mode, shared, receipts.path, beat=BEAT) as (leader, successor):
        leader.tell("script", None, {"hang": True, "body": {"by": "the late one"}})
        successor.tell("script", None, {"body": {"by": "the successor"}})
        leader.tell("ask", 3, ASKED)
        leader.tell("gathered", 3)
        leader.tell("paid", ASKED)  # callers may join a flight whose call has not begun
        leader.process.stop()
        successor.tell("ask", 3, ASKED)
        by_successor = successor.tell("results")
        assert [one["value"] for one in by_successor] == [{"by": "the successor"}] * 3
        leader.process.resume()
        leader.tell("release")
        late = leader.tell("results")
        assert [one["value"] for one in late] == [{"by": "the late one"}] * 3
        assert "stored" not in "".join(one["status"] for one in late)
        assert leader.tell("stats")["refused.lost"] == 1
        all_tell([leader, successor], "ask", 1, ASKED)
        for one in all_tell([leader, successor], "results"):
            assert one[0]["value"] == {"by": "the successor"}
            assert "hit" in one[0]["status"]
        assert receipts.paid() == 2


@diagonal
def test_the_answer_of_a_leader_that_was_stopped_while_nobody_else_asked_is_stored(mode, shared, receipts):
    with workers(2, mode, shared, receipts.path, beat=BEAT) as (leader, other):
        leader.tell("script", None, {"hang": True})
        leader.tell("ask", 1, ASKED)
        leader.tell("paid", ASKED)
        leader.process.stop()
        time.sleep(BEAT + 0.3)  # its deadline passes, and nobody takes the lease
        leader.process.resume()
        leader.tell("release")
        assert "stored" in leader.tell("results")[0]["status"]
        other.tell("ask", 1, ASKED)
        assert "hit" in other.tell("results")[0]["status"]
        assert receipts.paid() == 1


@pytest.mark.servers
@pytest.mark.parametrize("shared", ["valkey"], indirect=True)
def test_a_blocked_event_loop_keeps_the_lease_it_leads_under(shared, receipts):
    with workers(2, "tasks", shared, receipts.path, beat=BEAT) as (leader, follower):
        leader.tell("script", None, {"hang": True})
        leader.tell("ask", 1, ASKED)
        leader.tell("paid", ASKED)
        follower.tell("ask", 2, ASKED)
        follower.tell("gathered", 2)
        leader.tell("block", 1.6 * BEAT)
        time.sleep(1.6 * BEAT)
        leader.tell("release")
        assert "stored" in leader.tell("results")[0]["status"]
        follower.tell("results")
        assert receipts.paid() == 1
        assert "takeover" not in follower.tell("stats")


@pytest.mark.parametrize("shared", ["sqlite"], indirect=True)
def test_a_lease_is_renewed_for_as_long_as_a_call_takes(shared, receipts):
    with workers(2, "threads", shared, receipts.path, beat=BEAT) as (leader, follower):
        leader.tell("script", None, {"delay": 1.6 * BEAT})
        leader.tell("ask", 1, ASKED)
        leader.tell("paid", ASKED)
        follower.tell("ask", 1, ASKED)
        assert "collapsed" in follower.tell("results")[0]["status"]
        assert receipts.paid() == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_leader_in_another_process_that_closes_its_cache_frees_the_lease_at_once(mode, shared, receipts):
    with workers(2, mode, shared, receipts.path) as (leader, follower):
        leader.tell("script", None, {"hang": True})
        leader.tell("ask", 1, ASKED)
        leader.tell("paid", ASKED)
        follower.tell("ask", 1, ASKED)
        follower.tell("gathered", 1)
        took = Took()
        assert len(leader.tell("close", 0.0)) == 1
        if mode == "threads":
            leader.tell("release")  # a call in a thread ends only by itself
        follower.tell("results")
        if mode == "tasks":
            assert took.seconds < 2.0
            assert leader.tell("results")[0]["raised"] == "CacheClosed"
        assert receipts.paid() == 2
