"""The thread that waits for SQLite's locks instead of event loops: its own fate, and that of its callers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from askonce.store.sqlite import worker
from askonce.store.sqlite.worker import WorkerThread
from tests.crowd import eventually
from tests.took import Took


def hands():
    return [thread for thread in threading.enumerate() if thread.name == "askonce-sqlite"]


@pytest.fixture
def thread():
    made = WorkerThread()
    yield made
    made.close()


async def test_it_does_things_one_after_another_and_gives_back_what_they_bring(thread):
    threads, seen = set(), []

    def work(number):
        seen.append(number)
        threads.add(threading.current_thread().name)
        return number * 2

    assert await asyncio.gather(*(thread.do(lambda n=n: work(n)) for n in range(20))) == [2 * n for n in range(20)]
    assert (seen, threads) == (list(range(20)), {"askonce-sqlite"})


async def test_what_the_work_raises_is_the_tasks(thread):
    with pytest.raises(ZeroDivisionError):
        await thread.do(lambda: 1 // 0)
    assert await thread.do(lambda: 5) == 5


async def test_work_that_nobody_waits_for_any_more_is_not_begun(thread):
    busy, done = threading.Event(), []
    first = asyncio.create_task(thread.do(lambda: busy.wait(60)))
    second = asyncio.create_task(thread.do(lambda: done.append(1)))
    await asyncio.sleep(0.01)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    busy.set()
    await first
    await thread.do(lambda: 1)
    assert not done


async def test_where_no_thread_can_be_started_it_is_done_here_and_the_next_time_tries_again(thread, monkeypatch):
    def fails(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        assert await thread.do(threading.current_thread) is threading.current_thread()
    assert (await thread.do(threading.current_thread)).name == "askonce-sqlite"


async def test_its_thread_ends_when_there_is_nothing_to_do_and_another_is_started(thread, monkeypatch):
    monkeypatch.setattr(worker, "REST", 0.02)
    before = len(hands())
    await thread.do(lambda: 1)
    eventually(lambda: len(hands()) == before, "it ended")
    assert await thread.do(lambda: 2) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_died_is_replaced_while_somebody_waits(thread, monkeypatch):
    monkeypatch.setattr(worker, "LOOK", 0.05)
    monkeypatch.setattr(worker, "BEGIN", 0.0)
    dies = [True]
    real = WorkerThread._work

    def work(self):
        if dies.pop() if dies else False:
            raise SystemExit
        real(self)

    monkeypatch.setattr(WorkerThread, "_work", work)
    took = Took()
    assert await thread.do(lambda: 3) == 3
    assert took.seconds < 2
