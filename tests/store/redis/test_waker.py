"""The socket that wakes the background thread: no wake-up is lost, and none is met twice for ever."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from askonce.store.redis.waker import Waker

LONG = 5.0


def waited(waker: Waker, timeout: float) -> bool:
    """Whether a wait ended before its time."""
    began = time.monotonic()
    waker.wait((), timeout)
    return time.monotonic() - began < timeout


@pytest.mark.parametrize("before", range(4))  # wake-ups before the first wait
@pytest.mark.parametrize("between", range(4))  # and between that and the next one, which reads what the first had
def test_a_wait_ends_at_once_for_what_came_since_the_last_one_and_only_for_that(before, between):
    waker = Waker()
    for _ in range(before):
        waker.wake()
    assert waited(waker, LONG if before else 0.01) == bool(before)
    for _ in range(between):
        waker.wake()
    assert waited(waker, LONG if between else 0.01) == bool(between)
    waker.wait((), 0.0)  # one of them may be met once more
    assert not waited(waker, 0.01)


def test_what_many_wake_ups_were_sent_with_is_read():
    waker = Waker()
    for _ in range(100_000):  # more than the socket holds
        waker.wake()
    for _ in range(3):
        waker.wait((), 0.0)
    assert not waited(waker, 0.01)


def test_a_connection_that_can_be_read_is_told_and_keeps_no_wake_up():
    waker = Waker()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert waker.wait((ours,), LONG) == [ours]
        waker.wake()
        assert waker.wait((ours,), LONG) == [ours]
        assert ours.recv(1) == b"x"
        waker.wait((ours,), 0.0)
        assert waker.wait((ours,), 0.01) == []


def test_work_that_other_threads_bring_is_always_done_however_they_meet():
    waker, work, done = Waker(), [], []
    lazy = []

    def bring(seed: int) -> None:
        dice = random.Random(seed)
        for number in range(500):
            work.append((seed, number))
            waker.wake()
            if dice.random() < 0.3:
                time.sleep(dice.random() / 1000)

    threads = [threading.Thread(target=bring, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    while len(done) < 1500:
        began = time.monotonic()
        while work:
            done.append(work.pop())
        if len(done) < 1500:
            waker.wait((), LONG)
            lazy.append(time.monotonic() - began)
    for thread in threads:
        thread.join()
    assert max(lazy) < LONG
