"""The background thread's connection to a Redis: notices in milliseconds, nothing lost with it, no foreign replies."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from askonce.core.keys import Key
from askonce.core.lease import Follow, Grant
from askonce.core.tape import ALIVE, ENDED, FAILED, STORED, WANTED, Ending, Notice
from askonce.runtime.drive import drive
from askonce.store import Held, StoreTrouble
from askonce.store.redis.link import CHUNK, RedisLink
from askonce.store.redis.store import RedisStore
from askonce.testing.servers import Server
from tests.injection.collecting import cycle
from tests.store.keeping import LIFE, ask, lead, sealed
from tests.store.puppet import AT_MOST, key
from tests.took import Took

pytestmark = [pytest.mark.servers, pytest.mark.concurrency]
K = key(0)
WORD = Notice(ALIVE, b"i" * 16, 5)


@pytest.fixture
def store(own_valkey: Server) -> Iterator[RedisStore]:
    made = RedisStore.from_url(own_valkey.url, prefix="p")
    yield made
    drive(made.close())


@pytest.fixture
def link(store: RedisStore) -> Iterator[RedisLink]:
    made = store.link()
    assert isinstance(made, RedisLink)
    yield made
    made.close()


def heard(link: RedisLink, count: int) -> list[tuple[Key, Notice]]:
    notices: list[tuple[Key, Notice]] = []
    until = time.monotonic() + 60
    while len(notices) < count:
        assert time.monotonic() < until, f"only {notices}"
        notices += link.poll(1)[0]
    return notices


def in_force(link: RedisLink, *keys: Key) -> None:
    ready: set[Key] = set()
    until = time.monotonic() + 60
    while ready != set(keys):
        assert time.monotonic() < until, f"only {ready}"
        ready |= set(link.poll(1)[1])


def test_a_fill_wakes_a_link_within_milliseconds(store: RedisStore, link: RedisLink):
    took = []
    for number in range(5):
        one = key(number)
        link.subscribe(one)
        in_force(link, one)
        grant = lead(store, one, 1)
        assert isinstance(drive(store.claim(one, ask(2))), Follow)
        assert heard(link, 1) == [(one, Notice(WANTED, grant.id, grant.order))]
        filled: list[Took] = []

        def fill(one: Key = one, grant: Grant = grant, filled: list[Took] = filled) -> None:
            filled.append(Took())
            drive(store.fill(one, grant.id, grant.order, sealed(one, grant), LIFE))

        timer = threading.Timer(0.02, fill)
        timer.start()
        assert heard(link, 1) == [(one, Notice(ENDED, grant.id, grant.order, STORED))]
        took.append(filled[0].seconds)
        timer.join()
    assert min(took) < 0.02  # the best of five: a busy machine's delay is not the link's


def test_wake_ends_a_poll_from_any_thread_and_is_not_lost_before_one(link: RedisLink):
    link.probe()
    threading.Timer(0.05, link.wake).start()
    with Took() as took:
        assert link.poll(5) == ([], [])
    assert took.wall > 0.03
    assert took.seconds < 1
    for _ in range(100_000):
        link.wake()  # more than its socket holds: it never blocks and never raises
    with Took() as took:
        link.poll(5)
    assert took.seconds < 1
    with Took() as took:
        link.poll(0.05)
    assert took.wall > 0.04


def test_words_that_come_among_replies_are_kept_for_the_next_poll(store: RedisStore, link: RedisLink):
    link.subscribe(K)
    grant = lead(store, K, 1)
    other = store.link()
    for _ in range(20):
        other.say(K, WORD)
        assert link.renew([Held(K, grant.id, grant.order)] * 5, 5_000) == ["ok"] * 5
    assert heard(link, 20) == [(K, WORD)] * 20
    other.close()


def test_nothing_is_heard_of_a_key_that_was_unsubscribed(link: RedisLink):
    link.subscribe(K)
    link.subscribe(key(1))
    link.unsubscribe(K)
    link.unsubscribe(key(7))
    in_force(link, key(1))
    link.say(K, WORD)
    link.say(key(1), WORD)
    assert heard(link, 1) == [(key(1), WORD)]


def test_after_a_loss_every_key_is_in_force_again(own_valkey: Server, link: RedisLink):
    keys = [key(number) for number in range(CHUNK + 10)]
    for one in keys:
        link.subscribe(one)
    in_force(link, *keys)
    own_valkey.kill_connections()
    with pytest.raises(StoreTrouble) as trouble:
        link.poll(1)
    assert trouble.value.kind == "store-closed"
    in_force(link, *keys)
    link.say(keys[-1], WORD)
    assert heard(link, 1) == [(keys[-1], WORD)]


def test_a_renewal_on_a_connection_that_was_cut_is_made_on_another(
    own_valkey: Server, store: RedisStore, link: RedisLink
):
    grant = lead(store, K, 1)
    link.subscribe(K)
    in_force(link, K)
    own_valkey.kill_connections()
    assert link.renew([Held(K, grant.id, grant.order)], 5_000) == ["ok"]
    in_force(link, K)


@pytest.mark.usefixtures("defaults")
def test_a_frozen_server_costs_a_renewal_one_timeout_and_a_closed_one_nothing(
    own_valkey: Server, store: RedisStore, link: RedisLink
):
    grant = lead(store, K, 1)
    held = [Held(K, grant.id, grant.order)]
    link.renew(held, 5_000)
    own_valkey.freeze()
    with Took() as took, pytest.raises(StoreTrouble) as trouble:
        link.renew(held, 5_000)
    assert (trouble.value.kind, took.seconds < AT_MOST) == ("store-timeout", True)
    own_valkey.thaw()
    assert link.renew(held, 5_000) == ["ok"]
    own_valkey.stop()
    with Took() as took, pytest.raises(StoreTrouble) as trouble:
        link.probe()
    assert (trouble.value.kind, took.seconds < 0.1) == ("store-refused", True)
    own_valkey.start()
    link.probe()
    assert link.renew(held, 5_000) == ["lost"]


def test_a_lease_whose_claim_had_no_reply_is_given_back_by_its_id(store: RedisStore, link: RedisLink):
    lead(store, K, 1)
    follower = drive(store.claim(K, ask(2)))
    assert isinstance(follower, Follow)
    link.subscribe(K)
    in_force(link, K)
    drive(store.release(K, ask(1).id, 0, Ending(FAILED)))
    assert heard(link, 1) == [(K, Notice(ENDED, follower.id, follower.order, FAILED))]
    assert lead(store, K, 3).order > follower.order
    drive(
        store.release(K, ask(7).id, 0, Ending(FAILED))
    )  # it was never granted anything: nothing to give back or report


def test_a_forked_child_does_not_disturb_its_parents_link(store: RedisStore, link: RedisLink):
    link.subscribe(K)
    in_force(link, K)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mine = store.link()
            mine.say(K, WORD)
            mine.close()
            drive(store.release(K, b"n" * 16, 3, Ending(FAILED)))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert heard(link, 2) == [(K, WORD), (K, Notice(ENDED, b"n" * 16, 3, FAILED))]
    link.probe()


@pytest.mark.parametrize("connected", [False, True])
def test_a_link_that_is_collected_in_a_cycle_closes_its_sockets_and_warns_of_nothing(store, monkeypatch, connected):
    told: list[object] = []
    gc.collect()
    for _ in range(3):
        pair = socket.socketpair()  # older than its link: the collector comes to it first
        monkeypatch.setattr(socket, "socketpair", partial(iter, pair))
        made = store.link()
        del pair
        monkeypatch.undo()
        monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
        ends = made._waker._in.fileno(), made._waker._out.fileno()
        if connected:
            made.subscribe(K)
        cycle(made._waker._out, made, made._waker, made._connection, made._waker._in)
        del made
        gc.collect()
        for end in ends:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(end)
    assert not told
