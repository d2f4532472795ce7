"""A parent that forks with open connections, working threads and a flight under way.

A child has a copy of every object and none of the threads behind them; its connections are its parent's. It must use
none of them, and not close them: a reply read by the wrong process is an answer to the wrong question.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import threading
import traceback

import pytest

from askonce import Cache
from askonce.testing import Receipts, ScriptedCall
from tests.crowd import ASKED, HANG, PATIENCE, eventually, gathered, heartbeat, results

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]

CHILDREN = 4
LOOKUPS = 150
QUESTIONS = [{"question": number} for number in range(20)]


def forked(work):
    """Run something in a forked child: (pid, a function that waits for what it returned)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        # A child that hangs says where, and ends.
        faulthandler.register(signal.SIGALRM, file=writing, chain=True)
        signal.alarm(int(PATIENCE))
        try:
            said = {"made": work()}
        except BaseException:
            said = {"raised": traceback.format_exc()}
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)

    def wait():
        with os.fdopen(reading, "rb") as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        assert text.startswith(b"{"), text.decode()
        said = json.loads(text)
        assert "raised" not in said, said["raised"]
        return said["made"]

    return pid, wait


def each(cache, questions, call):
    """Look up one after another, in this process's own way: those whose answer was another's."""
    if isinstance(cache, Cache):
        return [asked for asked in questions if cache.fetch(asked, call.on(asked)).value != call.expected(asked)]

    async def ask():
        return [
            asked for asked in questions if (await cache.fetch(asked, call.aio_on(asked))).value != call.expected(asked)
        ]

    return asyncio.run(ask())


class Known(ScriptedCall):
    """A call whose answers say which question they belong to."""

    def expected(self, asked):
        return {"to": json.dumps(asked)}

    def _play(self, request, turn):
        return self.expected(request)


@pytest.fixture
def call(tmp_path):
    scripted = Known(receipts=Receipts(tmp_path / "paid"))
    yield scripted
    scripted.reset()


def test_children_ask_on_connections_of_their_own_and_the_parent_is_not_disturbed(crowd, shared, call):
    # Six processes use one server: whether it answers within 0.2 s depends on the machine.
    cache = crowd.cache(shared, **({"socket_timeout": 2.0} if "redis:" in shared else {}))
    for asked in QUESTIONS:
        crowd.answer(cache, asked, call)
    call.script(ASKED, HANG)
    leading = crowd.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    over = threading.Event()
    wrong = []

    def hammer():
        while not over.is_set():
            wrong.extend(q for q in QUESTIONS if crowd.answer(cache, q, call).value != call.expected(q))

    hammers = [crowd.start(hammer) for _ in range(2)]
    questions = [QUESTIONS[number % len(QUESTIONS)] for number in range(LOOKUPS)]
    children = [forked(lambda: each(cache, questions, call)) for _ in range(CHILDREN)]
    try:
        assert [wait() for _, wait in children] == [[]] * CHILDREN
    finally:
        over.set()
    assert results(hammers) == [None] * 2
    assert wrong == []
    assert call.release() == 1
    assert {outcome.value["to"] for outcome in results(leading)} == {json.dumps(ASKED)}
    assert len(call.receipts.rows()) == len(QUESTIONS) + 1  # no child paid for anything
    assert "trouble" not in cache.stats()
    assert crowd.answer(cache, ASKED, call).status.hit


def test_a_child_follows_the_flight_of_its_parent(crowd, shared, call):
    call.script(ASKED, HANG)
    with heartbeat(1.0):
        cache = crowd.cache(shared)
        leading = crowd.ask(cache, ASKED, call)
        gathered(cache, 1, call)
        background = cache._base._engine.background
        eventually(lambda: background._link, "the fleet thread has its link")
        said = set()
        renew = background._link.renew

        def renewed(held, heartbeat):
            words = renew(held, heartbeat)
            said.update(words)
            return words

        background._link.renew = renewed
        _, wait = forked(lambda: each(cache, [ASKED], call))
        eventually(lambda: "want" in said, "the lease says that somebody outside waits")
        call.release()
        assert leading.result(PATIENCE).status.stored
        assert wait() == []
        assert len(call.receipts.rows()) == 1


def test_a_child_leads_and_its_parent_follows(crowd, shared, call, tmp_path):
    cache = crowd.cache(shared)
    crowd.answer(cache, "warm", call)  # connections are open
    slow = Known(delay=0.3, receipts=call.receipts)
    _, wait = forked(lambda: each(cache, [ASKED], slow))
    eventually(lambda: call.receipts.paid(ASKED) == 1, "the child calls")
    assert crowd.answer(cache, ASKED, call).value == call.expected(ASKED)
    assert wait() == []
    assert call.receipts.paid(ASKED) == 1


def test_a_child_that_closes_its_copy_leaves_the_parents_cache_open(crowd, place, call):
    cache = crowd.cache(place)
    crowd.answer(cache, "before", call)

    def close():
        if isinstance(cache, Cache):
            return cache.close()
        return asyncio.run(cache.aclose())

    _, wait = forked(close)
    assert wait() == []
    assert crowd.answer(cache, "before", call).status.hit
    assert crowd.answer(cache, "after", call).status.stored
    assert "trouble" not in cache.stats()


def test_a_fork_while_others_ask_for_new_answers_holds_nobody_up(crowd, place, call):
    """Whatever lock a thread of the parent holds in the moment of the fork, nobody will release it in the child."""
    cache = crowd.cache(place)
    over = threading.Event()

    def ask():
        number = 0
        while not over.is_set():
            number += 1
            crowd.answer(cache, {"thread": threading.get_ident(), "number": number}, call)

    asking = [crowd.start(ask) for _ in range(3)]
    try:
        for generation in range(5):
            questions = [{"child": generation, "number": number} for number in range(5)]
            # A call of its own: the parent's has a lock too, and only askonce's locks are tested here.
            _, wait = forked(lambda questions=questions: each(cache, questions, Known()))
            assert wait() == []
    finally:
        over.set()
    assert results(asking) == [None] * 3
