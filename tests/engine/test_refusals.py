"""A store that answers with a refusal: full, read-only, without rights, with another password, locked by others.

It is not down: its reads may work, and what they find is served. But nothing can be claimed. So a missing answer is
paid for without a lease, once for all callers of this process, whenever they come; and no lookup pays for the trouble
itself more than once. The trouble is visible, and over soon after it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from askonce.testing.servers import Server
from tests.crowd import ASKED, HANG, by_turns, eventually, gathered, joined, results, values
from tests.engine.test_troubles import BACK, timed, warm
from tests.took import usual

pytestmark = pytest.mark.concurrency

# The bars are 0.25 s and 1 ms (`python -m bench outages`); here a machine may be busy with something else.
ONCE = 0.5  # s over the call's own time, for a caller that meets the trouble
AFTER = 0.02  # s over it for later callers
PATIENT = 2.0  # s that a store may take to answer: one that refuses answers, though late on a busy machine


Do = Callable[[redis.Redis], object]


class Face(NamedTuple):
    """One sort of trouble: how it begins and ends, what it is called, and whether what is stored is still served.

    `timeout`: how long a store is waited for, in s.
    """

    begin: Do
    end: Do
    detail: str
    reads: bool = True
    timeout: float = PATIENT


def run(*commands: str) -> Do:
    """The commands, one after another, over a connection that is there already."""

    def done(admin: redis.Redis) -> None:
        for command in commands:
            admin.execute_command(*command.split())

    return done


def config(name: str, value: object) -> Do:
    return run(f"CONFIG SET {name} {value}")


def rights(words: str) -> Do:
    return run(f"ACL SETUSER app {words}")


KILL = ("CLIENT KILL TYPE normal SKIPME yes", "CLIENT KILL TYPE pubsub")
FACES = {
    "full": Face(config("maxmemory", 1), config("maxmemory", 0), "store-full"),
    "too few replicas": Face(config("min-replicas-to-write", 1), config("min-replicas-to-write", 0), "store-readonly"),
    "a replica": Face(run("REPLICAOF 127.0.0.1 1"), run("REPLICAOF NO ONE"), "store-readonly"),
    "no right to write": Face(rights("-@write"), rights("+@all"), "store-denied"),
    "no right to run scripts": Face(rights("-@scripting"), rights("+@all"), "store-denied"),
    "no right to its names": Face(rights("resetkeys ~else:*"), rights("resetkeys ~*"), "store-denied", reads=False),
    "no right to read": Face(rights("-get -hmget"), rights("+@all"), "store-denied", reads=False),
    "writes paused": Face(run("CLIENT PAUSE 60000 WRITE"), run("CLIENT UNPAUSE"), "store-timeout", timeout=0.2),
    "another password": Face(
        run("ACL SETUSER app resetpass >changed", *KILL),
        rights("resetpass >word"),
        "store-denied",
        reads=False,
    ),
    "too many clients": Face(
        run("CONFIG SET maxclients 1", *KILL), config("maxclients", 1000), "store-refused", reads=False
    ),
}


@pytest.fixture
def admin(own_valkey: Server) -> Iterator[redis.Redis]:
    """A connection that was there before, and is to stay."""
    client = redis.Redis.from_url(own_valkey.url, single_connection_client=True)
    client.execute_command(*["ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all"])
    yield client
    client.close()


@pytest.fixture
def url(own_valkey: Server, admin: object) -> str:
    return own_valkey.url.replace("redis://", "redis://app:word@")


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Face:
    return FACES[request.param]


each_face = pytest.mark.parametrize(("crowd", "face"), by_turns(FACES, FACES), indirect=True)


@each_face
@pytest.mark.servers
def test_what_is_missing_is_paid_once_by_all_who_ask_it_and_what_is_there_is_served(crowd, admin, url, face, call):
    cache = crowd.cache(url, socket_timeout=max(face.timeout, 2.0))  # else a busy machine's reads fail too, by turns
    warm(crowd, cache, call)
    face.begin(admin)
    call.script(ASKED, HANG)
    futures = crowd.asks(25, cache, ASKED, call)
    eventually(lambda: joined(cache) == 25, f"all are at one flight: {cache.stats()}")
    late = crowd.asks(5, cache, ASKED, call)  # it began before they did
    eventually(lambda: joined(cache) == 30, f"and those who come later: {cache.stats()}")
    call.release()
    found = results([*futures, *late])
    assert call.paid(ASKED) == 1
    assert {outcome.status.detail for outcome in found} == {face.detail}
    assert sorted(outcome.status.collapsed for outcome in found) == [False] + [True] * 29
    if face.reads:  # the first one may find the connection being replaced, after a write waited on it
        eventually(lambda: crowd.answer(cache, "warm", call).status.hit, "what is there is served")
    else:
        assert not crowd.answer(cache, "warm", call).status.hit
    assert cache.stats()["breaker"] == face.detail
    assert cache.stats()["open"] >= 1
    face.end(admin)
    eventually(lambda: cache.stats()["breaker"] == "closed", "it is used again", patience=BACK)
    assert crowd.answer(cache, "another", call).status.stored


@each_face
@pytest.mark.servers
def test_it_costs_one_lookup_little_and_the_next_ones_nothing(crowd, admin, url, face, call):
    cache = crowd.cache(url, socket_timeout=face.timeout)
    warm(crowd, cache, call)
    calm = [timed(crowd, cache, f"before {number}", call)[0][1] for number in range(20)]
    face.begin(admin)
    for number in range(3):
        ((outcome, took),) = timed(crowd, cache, f"first {number}", call)
        assert outcome.status.detail == face.detail
        assert took <= ONCE + max(calm)
    before = connected(admin)
    found = [timed(crowd, cache, f"later {number}", call)[0] for number in range(50)]
    assert {outcome.status.detail for outcome, _ in found} == {face.detail}
    assert usual(took for _, took in found) <= AFTER + usual(calm)
    assert connected(admin) - before <= 8, "nobody connects for each lookup"
    face.end(admin)


def connected(admin: redis.Redis) -> int:
    info = admin.info("stats")
    return int(info["total_connections_received"]) + int(info["rejected_connections"])


@each_face
@pytest.mark.servers
def test_a_leader_keeps_its_answer_though_the_store_refuses_it(crowd, admin, url, face, call):
    call.script(ASKED, HANG)
    # A late lookup may only join if its read was answered: on a busy machine 0.2 s pass quickly.
    cache = crowd.cache(url, socket_timeout=3.0)
    warm(crowd, cache, call)
    futures = crowd.asks(3, cache, ASKED, call)
    gathered(cache, 3, call)
    face.begin(admin)
    with crowd.one_turn():  # nor is a read answered behind a claim of the other one, where writes are paused
        late = crowd.asks(2, cache, ASKED, call)  # they meet the trouble, and the call has a lease
    eventually(lambda: joined(cache) == 5, f"they join it: {cache.stats()}")
    call.release()
    assert len({str(value) for value in values([*futures, *late])}) == 1
    assert call.paid(ASKED) == 1
    face.end(admin)


# --- a file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
    """The URL of a file; what makes another program hold its write lock; and what ends that."""
    path = f"{tmp_path}/answers.db"
    held: list[sqlite3.Connection] = []

    def begin() -> None:
        held.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        held[-1].execute("BEGIN IMMEDIATE")

    def end() -> None:
        while held:
            held.pop().close()

    yield f"sqlite:///{path}", begin, end
    end()


def test_a_file_that_another_program_writes_to_serves_what_it_has_and_the_rest_is_shared(crowd, writer, call):
    url, begin, end = writer
    cache = crowd.cache(url)
    warm(crowd, cache, call)
    calm = [timed(crowd, cache, f"before {number}", call)[0][1] for number in range(20)]
    begin()
    call.script(ASKED, HANG)
    futures = crowd.asks(25, cache, ASKED, call)
    eventually(lambda: joined(cache) == 25, f"all are at one flight: {cache.stats()}")
    for number in range(3):
        timed(crowd, cache, f"first {number}", call)
    found = [timed(crowd, cache, f"later {number}", call)[0] for number in range(50)]
    assert {outcome.status.detail for outcome, _ in found} == {"store-timeout"}
    assert usual(took for _, took in found) <= AFTER + usual(calm)
    assert all(outcome.status.hit for outcome, _ in timed(crowd, cache, "warm", call, times=20))
    call.release()
    assert len({str(value) for value in values(futures)}) == 1
    assert call.paid(ASKED) == 1
    assert cache.stats()["breakers"] == {"connect": "closed", "read": "closed", "write": "store-timeout"}
    end()
    eventually(lambda: cache.stats()["breaker"] == "closed", "it is used again", patience=BACK)
    assert crowd.answer(cache, "another", call).status.stored


# --- who may share a call -------------------------------------------------------------------------------------------


def test_a_lookup_after_an_acknowledged_invalidation_joins_no_call_that_began_before_it(crowd, admin, url, call):
    """Its writes are refused here, and not to the one who invalidates: the generations tell."""
    cache = crowd.cache(url, socket_timeout=PATIENT)
    elsewhere = crowd.cache(url.replace("app:word", "ops:word"), socket_timeout=PATIENT)
    admin.execute_command(*["ACL", "SETUSER", "ops", "on", ">word", "~*", "&*", "+@all"])
    warm(crowd, cache, call)
    FACES["no right to write"].begin(admin)
    call.script(ASKED, HANG)
    before = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    crowd.do(elsewhere.invalidate, everything=True)
    after = crowd.asks(3, cache, ASKED, call)
    call.wait_until_paid(ASKED, 2)
    eventually(lambda: joined(cache) == 3, "those who came after it share a call of their own")
    call.release()
    assert values([before, *after])
    assert call.paid(ASKED) == 2


@pytest.mark.parametrize("own", [True, False], ids=["of the cache", "of another cache"])
def test_an_invalidation_of_this_process_bars_the_calls_that_it_has_under_way(crowd, admin, url, call, own):
    """Also where the generations tell nothing: a question is forgotten by deleting what there is of it."""
    cache = crowd.cache(url, socket_timeout=PATIENT)
    invalidates = cache if own else crowd.cache(url, socket_timeout=PATIENT)
    warm(crowd, cache, call)
    FACES["no right to write"].begin(admin)
    call.script(ASKED, HANG)
    before = crowd.ask(cache, ASKED, call)
    gathered(cache, 1, call)
    admin.execute_command(*["ACL", "SETUSER", "app", "+@all"])
    crowd.do(invalidates.invalidate, request=ASKED)
    FACES["no right to write"].begin(admin)
    after = crowd.ask(cache, ASKED, call)
    call.wait_until_paid(ASKED, 2)
    call.release()
    assert values([before, after])
