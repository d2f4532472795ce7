"""A stream's source belongs to its reader: others let the reader close it, and never close it themselves."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time

import pytest

from askonce import Cache, Policy
from askonce.stream.pump import Pump
from askonce.stream.tape import Cut
from tests.crowd import eventually

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Tell me a story."}]}
CLOSE = Policy(on_abandon="close")
FINISH = Policy(on_abandon="finish", abandon_limit=10)


class Source:
    """An iterator that waits for `said` before each of its 12 items, and notes who closes it while somebody reads."""

    def __init__(self):
        self.left = 12
        self.said = threading.Semaphore(0)
        self.reading = 0
        self.wrong = []
        self.closed = []

    def __iter__(self):
        return self

    def __next__(self):
        self.reading += 1
        try:
            assert self.said.acquire(timeout=10)
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return {"word": "once"}
        finally:
            self.reading -= 1

    def close(self):
        if self.reading:
            self.wrong.append(threading.current_thread().name)
        self.closed.append(threading.current_thread().name)


@pytest.fixture
def cache():
    made = Cache("memory://")
    yield made
    made.close(0.0)


@pytest.fixture
def source():
    made = Source()
    yield made
    for _ in range(3):
        made.said.release()


def read(stream):
    """The stream, read in a thread of its own."""
    errors = []

    def reading():
        try:
            list(stream)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=reading, name="reader", daemon=True)
    thread.start()
    return thread, errors


def test_a_stream_that_is_closed_while_another_thread_reads_it_is_closed_by_that_thread(cache, source):
    stream = cache.fetch_stream(REQUEST, lambda: source, policy=CLOSE)
    reader, errors = read(stream)
    eventually(lambda: source.reading, "it reads")
    stream.close()
    assert not source.closed
    eventually(lambda: not cache.stats()["flights"], "whoever waits need not wait for that")
    source.said.release()
    reader.join(60)
    assert (source.wrong, source.closed) == ([], ["reader"])
    assert [type(error).__name__ for error in errors] == ["Cut"]


def test_readers_that_find_another_reading_wait_and_do_not_wake_each_other(cache, source, monkeypatch):
    tries = []
    plain = Pump._take_turn
    monkeypatch.setattr(Pump, "_take_turn", lambda pump: tries.append(None) or plain(pump))
    first = cache.fetch_stream(REQUEST, lambda: source, policy=FINISH)
    threads = [read(first)[0]]
    eventually(lambda: source.reading, "one of them reads")
    threads += [read(cache.fetch_stream(REQUEST, lambda: source, policy=FINISH))[0] for _ in range(8)]
    eventually(lambda: len(tries) > 8, "the others try it too")
    time.sleep(0.3)  # in which nothing comes: whoever tries on and on does so then
    assert len(tries) < 60, "each tries when it comes, and perhaps once more"
    for _ in range(13):
        source.said.release()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_the_last_reader_leaves_what_a_helper_reads_to_the_helper(cache, source):
    cache.fetch_stream(REQUEST, lambda: source, policy=FINISH).close()
    eventually(lambda: source.reading, "a helper finishes it")
    cache.fetch_stream(REQUEST, lambda: source, policy=CLOSE).close()
    assert not source.closed
    source.said.release()
    eventually(lambda: source.closed, "it is closed")
    assert (source.wrong, source.closed) == ([], ["askonce-pump"])


def test_a_stream_that_nobody_reads_just_now_is_closed_at_once(cache, source):
    stream = cache.fetch_stream(REQUEST, lambda: source, policy=CLOSE)
    source.said.release()
    next(stream)
    stream.close()
    assert (source.wrong, source.closed) == ([], ["MainThread"])


def test_a_generator_that_was_being_read_when_it_was_left_is_closed_all_the_same(cache):
    go_on, ended = threading.Event(), threading.Event()

    def words():
        try:
            yield {"word": "once"}
            assert go_on.wait(60)
            yield {"word": "upon"}
        finally:
            ended.set()

    stream = cache.fetch_stream(REQUEST, words, policy=CLOSE)
    reader, _ = read(stream)
    eventually(lambda: cache._base._engine.board.flights()[0].pump.tape.count, "it reads")
    time.sleep(0.01)
    stream.close()
    go_on.set()
    reader.join(60)
    assert ended.wait(60)


@pytest.mark.parametrize("policy", [CLOSE, FINISH], ids=["close", "finish"])
def test_readers_that_leave_at_any_moment_never_close_what_another_reads_and_always_have_it_closed(cache, policy):
    """Whoever reads, helps and leaves, in whatever order the threads of a machine run."""
    draw = random.Random(7)
    opened = []

    def source():
        opened.append(Source())
        return opened[-1]

    for number in range(6):
        request = {**REQUEST, "n": number}
        pauses = draw.random() * 1e-3, draw.random() * 1e-3
        leaving = [threading.Thread(target=left, args=(cache, request, source, policy, pause)) for pause in pauses]
        for thread in leaving:
            thread.start()
        while any(thread.is_alive() for thread in leaving):
            said(opened)
            time.sleep(draw.random() * 1e-4)
        if policy is FINISH:
            cache.fetch_stream(request, source, policy=CLOSE).close()
        eventually(lambda: said(opened) or all(one.closed for one in opened), "they are closed")
    assert {(len(one.wrong), len(one.closed)) for one in opened} == {(0, 1)}


def said(sources):
    for source in sources[-4:]:
        source.said.release()


def left(cache, request, source, policy, pause):
    """A reader that leaves after two parts, from another thread than it reads in."""
    stream = cache.fetch_stream(request, source, policy=policy)
    reader = threading.Thread(target=lambda: list(itertools.islice(until_cut(stream), 2)))
    reader.start()
    time.sleep(pause)
    stream.close()
    reader.join()


def until_cut(stream):
    with contextlib.suppress(Cut):
        yield from stream
