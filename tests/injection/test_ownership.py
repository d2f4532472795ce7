"""A lock that nothing can leave locked, and an owner whose death is known, whatever ends the code at whatever place."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest

from askonce.runtime import ownership
from askonce.runtime.ownership import Busy, OwnedLock, Owner, owned
from tests.crowd import eventually
from tests.injection.inject import INJECTS, noting, raising
from tests.took import Took

ERRORS = (KeyboardInterrupt, MemoryError)

pytestmark = [*INJECTS]


@pytest.fixture
def lock():
    return OwnedLock()


@pytest.fixture
def taken(lock):
    """The lock held by another thread, until the event is set."""
    inside, leave = threading.Event(), threading.Event()

    def hold():
        inside.set()
        leave.wait(60)

    thread = threading.Thread(target=lock.run, args=(hold,))
    thread.start()
    inside.wait(60)
    yield leave
    leave.set()
    thread.join()


def test_a_section_gives_its_result_and_the_lock_back(lock):
    assert lock.run(lambda: lock.held and lock.mine) is True
    assert not lock.held


def test_what_a_section_raises_passes_and_the_lock_is_free(lock):
    with pytest.raises(ZeroDivisionError):
        lock.run(lambda: 1 // 0)
    assert lock.run(lambda: 1) == 1


def test_sections_of_many_threads_never_overlap(lock):
    inside, most, done = [], [0], []

    def section():
        inside.append(1)
        most[0] = max(most[0], len(inside))
        time.sleep(0)
        inside.pop()
        done.append(1)

    def many():
        for _ in range(200):
            lock.run(section)

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], len(done)) == (1, 1600)
    assert not lock._waiting


def test_who_waits_gets_it_at_once_when_it_is_given_back(lock, taken):
    got = []
    thread = threading.Thread(target=lambda: got.append(lock.run(time.monotonic)))
    thread.start()
    eventually(lambda: lock._waiting, "it waits")
    taken.set()
    thread.join(60)
    assert got


def test_patience_ends_and_says_so(lock, taken):
    with pytest.raises(Busy) as busy:
        lock.run(lambda: 1, patience=0.05)
    assert not busy.value.by_me
    assert not lock._waiting


def test_a_section_inside_of_itself_is_told_at_once_and_waits_for_nobody(lock):
    with pytest.raises(Busy) as busy:
        lock.run(lambda: lock.run(lambda: 1))
    assert busy.value.by_me
    assert not lock.held


def test_a_forked_child_has_it_free_whatever_the_parents_threads_did(lock, taken):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, b"%d" % lock.run(lambda: 7, patience=1.0))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 9) == b"7"
    os.close(reading)
    os.close(writing)
    assert lock.held


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("contended", [False, True], ids=["free", "contended"])
def test_an_exception_at_any_line_of_it_leaves_it_free(error, contended):
    def use(lock):
        if not contended:
            return lock.run(lambda: 1)
        inside, leave = threading.Event(), threading.Event()
        thread = threading.Thread(target=lock.run, args=(lambda: (inside.set(), leave.wait(60)),))
        thread.start()
        inside.wait(60)
        threading.Timer(0.03, leave.set).start()
        try:
            return lock.run(lambda: 1)
        finally:
            leave.set()
            thread.join()

    with noting(2, ownership.__file__) as points:
        use(OwnedLock())
    assert len(points) > 20
    for point in points:
        lock = OwnedLock()
        kept = None
        with raising(point, error, ownership.__file__):
            try:
                use(lock)
            except error as raised:
                kept = raised  # with its traceback, and so everything in its frames
        took = Took()
        assert lock.run(lambda: 2, patience=1.0) == 2, f"after {point}: {kept!r}"
        assert took.seconds < 0.3
        assert not lock.held


def test_an_owner_lives_while_its_code_runs_and_not_longer_whoever_keeps_its_traceback():
    owner, seen = Owner(), []

    async def work():
        seen.append((owner.runs, owner.alive()))
        raise KeyboardInterrupt

    owner.work = owned(work)
    assert not owner.alive()
    with pytest.raises(KeyboardInterrupt) as kept:
        owner.work.send(None)
    assert seen == [(True, True)]
    assert not owner.alive()
    assert kept.traceback


def test_an_owner_that_is_about_to_begin_lives_for_as_long_as_was_said():
    async def work():
        return 1

    owner = Owner(time.monotonic() + 60)
    owner.work = owned(work)
    assert owner.alive()
    owner.until = time.monotonic()
    assert not owner.alive()


def test_code_that_never_began_warns_of_nothing():
    async def work():
        return 1

    work_of = owned(work)
    del work_of
    gc.collect()
