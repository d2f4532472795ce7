"""All kinds of trouble while a call runs and others wait for it: one call if its lease can be kept.

The leader and its followers reach the server by separate ways, as two processes do. Trouble comes when both wait, lasts
for less than a heartbeat, and ends. Each test shows that nobody pays twice, no answer is lost, lookups meanwhile cost
little more than their call, the trouble was visible, and soon afterwards everything is as before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from askonce import Cache
from askonce.core.hot_keys import KeyHits
from askonce.core.keys import Key
from askonce.core.policy import Policy, resolve
from askonce.testing.proxy import Proxy
from askonce.testing.servers import Server, ValkeyServer
from tests.crowd import ASKED, HANG, by_turns, eventually, gathered, heartbeat, idle, results
from tests.engine.test_troubles import BACK, timed, warm
from tests.took import Took, usual

pytestmark = [pytest.mark.concurrency, pytest.mark.servers]

BEAT = 3.0  # s, instead of 5
LASTS = 1.0  # s of trouble: less than a heartbeat, and more than two renewals
ONCE = 0.35  # s over the call's own time: 0.25, and what a busy machine adds
AFTER = 0.002  # s


class Sky:
    """A server, and the ways of the leader and the follower to it; and a replica of it, for who asks for one."""

    def __init__(self, server: Server, leader: Proxy, follower: Proxy, end: ExitStack) -> None:
        self.server = server
        self.leader = leader
        self.follower = follower
        self.ways = (leader, follower)
        self._end = end
        self._replica: Server | None = None

    @property
    def replica(self) -> Server:
        if self._replica is None:
            self._replica = self._end.enter_context(type(self.server)())
            self.do("CONFIG", "SET", "repl-diskless-sync-delay", 0)
            self._replica.command("REPLICAOF", "127.0.0.1", self.server.port)
            eventually(self._in_step, "it follows")
        return self._replica

    def _in_step(self) -> bool:
        return b"master_link_status:up" in self.replica.command("INFO", "replication")

    def do(self, *words: str | int) -> None:
        self.server.command(*words)


def _mend(sky: Sky) -> None:
    for way in sky.ways:
        way.mend()


def _for_all(act: Callable[[Proxy], object]) -> Callable[[Sky], object]:
    return lambda sky: [act(way) for way in sky.ways]


def _dropped(*ways: str) -> Callable[[Sky], object]:
    return lambda sky: [getattr(sky, way).drop() for way in ways]


def _trickles(sky: Sky) -> None:
    for way in sky.ways:
        way.trickle = 0.05


def _garbled(sky: Sky) -> None:
    for way in sky.ways:
        way.say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")


def _lost_rights(words: str) -> Callable[[Sky], object]:
    return lambda sky: sky.do("ACL", "SETUSER", "default", *words.split())


def _demoted(sky: Sky) -> None:
    """The replica is the primary now, and a new connection leads there."""
    sky.replica.command("REPLICAOF", "NO", "ONE")
    sky.do("REPLICAOF", "127.0.0.1", sky.replica.port)
    for way in sky.ways:
        way.lead_to(sky.replica)


class Trouble(NamedTuple):
    """How it begins and ends, and whether all lookups meet it."""

    begin: Callable[[Sky], object]
    end: Callable[[Sky], object] = _mend
    met: bool = True


TROUBLES = {
    "packets dropped for all": Trouble(_dropped("leader", "follower")),
    "packets dropped for the leader": Trouble(_dropped("leader"), met=False),
    "packets dropped for the follower": Trouble(_dropped("follower"), met=False),
    "connections dropped": Trouble(_for_all(Proxy.drop_idle), met=False),
    "connections cut": Trouble(_for_all(Proxy.cut), met=False),
    "bytes that trickle": Trouble(_trickles),
    "garbage": Trouble(_garbled, met=False),
    "frozen": Trouble(lambda sky: sky.server.freeze(), lambda sky: sky.server.thaw()),
    "writes paused": Trouble(
        lambda sky: sky.do("CLIENT", "PAUSE", 60_000, "WRITE"), lambda sky: sky.do("CLIENT", "UNPAUSE")
    ),
    "full": Trouble(
        lambda sky: sky.do("CONFIG", "SET", "maxmemory", 1), lambda sky: sky.do("CONFIG", "SET", "maxmemory", 0)
    ),
    "no right to write": Trouble(_lost_rights("-@write"), _lost_rights("+@all")),
    "no right to run scripts": Trouble(_lost_rights("-@scripting"), _lost_rights("+@all")),
    "no right to channels": Trouble(_lost_rights("resetchannels"), _lost_rights("allchannels"), met=False),
    "a demoted primary": Trouble(_demoted, lambda _: None, met=False),
}
MET = [name for name, one in TROUBLES.items() if one.met]
STREAMS = [
    pytest.param("threads", name, marks=() if name == "packets dropped for all" else pytest.mark.slow)
    for name in TROUBLES
]
QUICK = ("packets dropped for all", "garbage", "bytes that trickle", "full", "no right to write", "a demoted primary")


@pytest.fixture
def sky(own_valkey: Server) -> Iterator[Sky]:
    with ExitStack() as end:
        leader, follower = (end.enter_context(Proxy(own_valkey)) for _ in range(2))
        yield Sky(own_valkey, leader, follower, end)


@pytest.mark.parametrize(("crowd", "name"), by_turns(TROUBLES, QUICK), indirect=["crowd"])
def test_a_call_and_those_who_follow_it_outlive_it_and_it_is_paid_once(crowd, others, sky, call, name, caplog):
    caplog.set_level(logging.WARNING, "askonce")
    trouble = TROUBLES[name]
    assert name != "a demoted primary" or sky.replica
    call.script(ASKED, HANG)
    with heartbeat(BEAT):
        leading, following = others.cache(sky.leader.url), crowd.cache(sky.follower.url)
        for one, cache in ((others, leading), (crowd, following)):
            warm(one, cache, call)
            one.do(cache.invalidate, everything=True)
        first = others.asks(3, leading, ASKED, call)
        gathered(leading, 3, call)
        second = crowd.asks(3, following, ASKED, call)
        gathered(following, 3)
        time.sleep(0.3)  # so that they have claimed again, and do nothing but wait
        began = time.monotonic()
        trouble.begin(sky)
        time.sleep(max(0.0, began + LASTS - time.monotonic()))
        trouble.end(sky)
        time.sleep(0.5)
        call.release()
        found = results([*first, *second])
    values = {str(outcome.value) for outcome in found}
    assert len(values) == 1, found
    assert call.paid(ASKED) == 1
    assert len(caplog.records) <= 4, "not a line each time that it is tried"
    eventually(lambda: leading.stats()["breaker"] == following.stats()["breaker"] == "closed", "over", patience=BACK)
    for one, cache in ((others, leading), (crowd, following)):
        assert one.answer(cache, "another", call).value
        assert one.answer(cache, "another", call).status.hit
        idle(cache)


@pytest.mark.parametrize(
    ("crowd", "name"), by_turns(MET, ("bytes that trickle", "packets dropped for all")), indirect=["crowd"]
)
def test_lookups_meanwhile_cost_little_once_and_then_nothing_and_it_is_seen(crowd, sky, call, name):
    trouble = TROUBLES[name]
    cache = crowd.cache(sky.leader.url)
    warm(crowd, cache, call)
    trouble.begin(sky)
    try:
        for number in range(4):
            ((outcome, took),) = timed(crowd, cache, f"first {number}", call)
            assert took <= ONCE, number
            assert outcome.status.detail.startswith("store-")
        found = [timed(crowd, cache, f"later {number}", call)[0] for number in range(50)]
        assert all(outcome.status.detail.startswith("store-") for outcome, _ in found)
        assert usual(took for _, took in found) <= AFTER
        stats = cache.stats()
        assert stats["breaker"] != "closed"
        assert stats["trouble"] >= 1
        assert stats["open"] >= 1
    finally:
        trouble.end(sky)
    eventually(lambda: cache.stats()["breaker"] == "closed", "it is used again", patience=BACK)
    assert crowd.answer(cache, "another", call).status.stored
    assert timed(crowd, cache, "another", call)[0][0].status.hit


def test_a_demoted_primary_is_left_by_who_reads_too(crowd, sky, call):
    """Its reads work, and what was invalidated at the new one is valid there for ever."""
    assert sky.replica
    cache = crowd.cache(sky.leader.url)
    warm(crowd, cache, call)
    with ValkeyServer() as nobody:  # so that the old server hears nothing any more
        sky.replica.command("REPLICAOF", "NO", "ONE")
        sky.do("REPLICAOF", "127.0.0.1", nobody.port)
        nobody.stop()
        sky.leader.lead_to(sky.replica)
        other = crowd.cache(sky.replica.url)
        crowd.do(other.invalidate, everything=True)
        assert crowd.answer(cache, "a miss, which has to write", call).status.stored
        assert not timed(crowd, cache, "warm", call)[0][0].status.hit
    assert "trouble" not in cache.stats()


# --- the background thread's own work -------------------------------------------------------------------------------


def test_three_thousand_warm_keys_two_milliseconds_away_delay_no_heartbeat(threads, valkey, call):
    call.script(ASKED, HANG)
    with Proxy(valkey) as proxy, heartbeat(1.5):
        cache = threads.cache(proxy.url)
        warm(threads, cache, call)
        future = threads.ask(cache, ASKED, call)
        gathered(cache, 1, call)
        background = cache._base._engine.background
        eventually(lambda: background._link, "the background thread has its link")
        gaps: list[float] = []
        since = [Took()]
        renew = background._link.renew

        def noted(*arguments: Any) -> Any:
            gaps.append(since.pop().seconds)
            since.append(Took())
            return renew(*arguments)

        background._link.renew = noted
        proxy.delay = 0.001
        told: list[Key] = []
        for number in range(3000):
            key = Key(number.to_bytes(32, "big"), "v")
            background.warm(key, Told(told, key), told.append)
        eventually(lambda: len(told) == 3000, "all were told", patience=20)
        eventually(lambda: len(gaps) >= 4, "its lease was renewed")
        assert max(gaps) < 1.2, f"a lease of 1.5 s is renewed each 0.45 s: {gaps}"
        assert len(told) == 3000
        call.release()
        assert future.result(60).status.stored


class Told(KeyHits):
    """A key's hits; says when they are taken to be told."""

    __slots__ = ("key", "told")

    def __init__(self, told: list[Key], key: Key) -> None:
        self.told, self.key = told, key
        self.terms = resolve(Policy())

    def taken(self) -> int:
        self.told.append(self.key)
        return 50

    def slide(self) -> None:
        """Not long enough."""


def test_a_thousand_leases_that_nothing_runs_are_given_back_in_a_few_exchanges(threads, valkey, call):
    with Proxy(valkey) as proxy:
        cache = threads.cache(proxy.url)
        warm(threads, cache, call)
        proxy.delay = 0.002
        background = cache._base._engine.background
        exchanges, ask, noted = list[int](), background._store._wires[0].ask, threading.Event()

        async def counted(data: bytes, number: int) -> Any:
            assert noted.wait(60)  # all of them, before the first exchange
            said = await ask(data, number)
            exchanges.append(number)
            return said

        background._store._wires[0].ask = counted
        for number in range(1000):
            background.release(Key(number.to_bytes(32, "big"), "v"), b"f" * 16)
        noted.set()
        eventually(lambda: sum(exchanges) >= 1000, "all are given back")
        assert len(exchanges) <= 1 + 1000 // 128 + 1 + 2, "the first alone, and what else the thread has to say"


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("crowd", "name"), STREAMS, indirect=["crowd"])
def test_a_stream_that_is_read_elsewhere_outlives_it(crowd, sky, name):
    trouble = TROUBLES[name]
    assert name != "a demoted primary" or sky.replica
    said: deque[str] = deque("ab")
    more, over = threading.Condition(), threading.Event()
    opened: list[int] = []

    def stream() -> Iterator[str]:
        opened.append(1)
        while said or not over.is_set():
            with more:
                more.wait_for(lambda: said or over.is_set(), 10)
                items = [said.popleft() for _ in range(len(said))]
            yield from items

    def read(cache: Any, seen: list[str]) -> list[str]:
        with cache.fetch_stream(ASKED, stream) as items:
            seen.extend(items)
        return seen

    with heartbeat(BEAT):
        leading, following = Cache(sky.leader.url), Cache(sky.follower.url)
        with leading, following:
            here: list[str] = []
            there: list[str] = []
            first = crowd.start(lambda: read(leading, here))
            eventually(lambda: here == ["a", "b"], "it is read where it is called for")
            second = crowd.start(lambda: read(following, there))
            eventually(lambda: there == ["a", "b"], "and elsewhere")
            trouble.begin(sky)
            time.sleep(LASTS / 2)
            with more:
                said.extend("cd")
                more.notify_all()
            time.sleep(LASTS / 2)
            trouble.end(sky)
            eventually(lambda: len(there) == 4, "what was said meanwhile arrives")
            with more:
                said.append("e")
                over.set()
                more.notify_all()
            assert first.result(60) == second.result(60) == list("abcde")
    assert len(opened) == 1
