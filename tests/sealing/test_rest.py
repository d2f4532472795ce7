"""What stands in a store when answers are compressed and encrypted, and what becomes of what cannot be opened."""

from __future__ import annotations

import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from askonce import AsyncCache, Cache, Keys, NotCached
from askonce.core.keys import Key
from askonce.runtime.drive import drive
from askonce.store import inventory
from tests.crowd import after, eventually
from tests.fixtures import patient

OLD, NEW, NAMES = os.urandom(32), os.urandom(32), os.urandom(32)
ONE, TWO = {"old": OLD}, {"new": NEW, "old": OLD}
REQUEST = {"model": "gpt-of-a-test", "messages": [{"role": "user", "content": "a very private question"}]}
ANSWER = {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "a very private answer " * 20}}]}
LABELS: dict[str, Any] = {"scope": "support/private", "tags": ["customer:private"]}
PRIVATE = (b"private", b"gpt-of-a-test", b"customer", b"support")


def ring(keys: dict[str, bytes]) -> Keys:
    return Keys(keys, names=NAMES)


def never() -> Any:
    raise AssertionError("a hit called upstream")


def asked(cache: Cache, call: Callable[[], Any] = never, request: Any = REQUEST) -> Any:
    return cache.fetch(request, call, **LABELS)


def at_rest(place: str, cache: Cache) -> bytes:
    """All bytes of a store, names too."""
    if place.startswith("sqlite"):
        path = Path(place.removeprefix("sqlite:///"))
        return b"".join(one.read_bytes() for one in path.parent.glob(path.name + "*"))
    if place.startswith("memory"):
        store: Any = cache._base.engine().store
        memory = store._memory
        kept = [*memory.entries.items(), *memory.tapes.items()]
        return b"".join(name + one.data for name, one in kept)
    client: Any = redis.Redis.from_url(place)
    read = {b"string": client.get, b"hash": lambda name: repr(client.hgetall(name)).encode()}  # a dump is compressed
    return b"".join(name + read[client.type(name)](name) for name in client.keys("*"))


@pytest.mark.parametrize("compress", ["off", "zstd"])
def test_nothing_that_was_asked_or_answered_can_be_read_in_a_store(place, compress):
    with Cache(place, encryption=ring(ONE), compress=compress) as cache:
        asked(cache, lambda: ANSWER)
        list(cache.fetch_stream({**REQUEST, "stream": True}, lambda: iter(["a very private part "] * 30), **LABELS))
        assert asked(cache).status.hit
        found = at_rest(place, cache)
        assert [text for text in PRIVATE if text in found] == []
        assert b"old" in found
        with Cache(place, encryption=False, compress="off") as plain:
            asked(plain, lambda: ANSWER)
        assert [text for text in PRIVATE if text not in at_rest(place, cache)] == []


def test_keys_are_rotated_without_a_cold_cache(shared):
    with Cache(shared, encryption=ring(ONE)) as before:
        asked(before, lambda: ANSWER)
    with Cache(shared, encryption=ring(TWO)) as later:
        assert asked(later).status.hit
        asked(later, lambda: ANSWER, {**REQUEST, "seed": 1})
        assert sorted(one.cipher for one in later.entries()) == ["new", "old"]
        assert later.invalidate(tag="customer:private", dry_run=True) == 2
        later.invalidate(tag="customer:private")
        assert asked(later, lambda: ANSWER).status.fwd == "miss"


@pytest.mark.parametrize(
    ("keys", "detail"),
    [({"new": NEW}, "store-no-key"), ({"old": NEW}, "store-unauthentic")],
    ids=["a lost key", "another key of its id"],
)
def test_what_cannot_be_opened_is_a_visible_miss_that_is_paid_once_and_replaced(shared, keys, detail):
    with Cache(shared, encryption=ring(ONE)) as before:
        asked(before, lambda: ANSWER)
    with Cache(shared, encryption=ring(keys)) as later:
        events: list[str] = []
        later.on_event(lambda event: events.append(f"{event.name} {event.detail}"))
        with pytest.raises(NotCached):
            later.fetch(REQUEST, never, control="only-if-cached", **LABELS)
        found = asked(later, lambda: ANSWER)
        assert (found.value, found.status.fwd, found.status.stored, found.status.detail) == (
            ANSWER,
            "miss",
            True,
            detail,
        )
        assert f"corrupt {detail}" in events
        assert asked(later).status.hit


def test_a_plain_answer_under_the_name_of_a_secret_one_is_not_served(valkey):
    client = redis.Redis.from_url(valkey.url)
    with Cache(patient(valkey), encryption=ring(ONE)) as cache, Cache(patient(valkey), encryption=False) as plain:
        asked(cache, lambda: ANSWER)
        (name,) = client.keys("*:e1:*")
        key = next(iter(cache.entries())).key
        entry = client.get(name)
        asked(plain, lambda: {"planted": True})
        (other,) = set(client.keys("*:e1:*")) - {name}
        planted = bytearray(client.get(other))
        planted[8:40] = bytes.fromhex(key)
        planted[40:80] = entry[40:80]
        client.set(name, resealed(bytes(planted)), keepttl=True)
        found = asked(cache, lambda: ANSWER)
        assert (found.value, found.status.detail) == (ANSWER, "store-unencrypted")


def resealed(entry: bytes) -> bytes:
    return entry[:80] + struct.pack(">I", zlib.crc32(entry[120:], zlib.crc32(entry[:80]))) + entry[84:]


def test_a_cache_without_compression_reads_what_another_has_compressed(place):
    with Cache(place, compress="zstd") as packed:
        asked(packed, lambda: ANSWER)
        (entry,) = packed.entries()
        assert (entry.codec, entry.cipher, entry.scope) == ("zstd, dictionary 32769", "", "support/private")
        with Cache(place, compress="off") as plain:
            assert asked(plain).value == ANSWER


def test_an_entry_that_cannot_be_opened_is_listed_without_its_labels(shared):
    with Cache(shared, encryption=ring(ONE)) as cache:
        asked(cache, lambda: ANSWER)
        (entry,) = cache.entries()
        assert (entry.scope, entry.model, entry.tags) == ("support/private", "gpt-of-a-test", ("customer:private",))
        store = cache._base.engine().store
        (kept,) = [one.key for one in cache.entries()]
        listed, body = drive(inventory.read(store, Key.parse(kept))) or (None, b"")
        assert listed is not None
        assert (listed.cipher, listed.readable, listed.scope, body) == ("old", False, "", None)


async def test_tasks_and_threads_share_secret_answers(shared):
    async with AsyncCache(shared, encryption=ring(ONE), compress="zstd") as tasks:

        async def answer() -> Any:
            return ANSWER

        await tasks.fetch(REQUEST, answer, **LABELS)
        with Cache(shared, encryption=ring(TWO)) as threads:
            assert asked(threads).value == ANSWER


def test_a_cache_with_keys_in_the_code_is_not_pickled_and_one_with_a_file_is(tmp_path):
    with Cache("memory://", encryption=ring(ONE)) as cache, pytest.raises(TypeError, match="ASKONCE_KEYS"):
        pickle.dumps(cache)
    path = tmp_path / "keys"
    path.write_text(f"old={OLD.hex()}")
    path.chmod(0o600)
    with Cache(f"sqlite:///{tmp_path}/a.db", encryption=path, compress="zstd") as cache:
        asked(cache, lambda: ANSWER)
        carried = pickle.dumps(cache)
        assert OLD not in carried
        with pickle.loads(carried) as again:
            assert asked(again).status.hit


def test_a_key_of_a_question_is_another_with_each_secret_and_the_same_without():
    def key(**options: Any) -> str:
        with Cache("memory://", **options) as cache:
            return str(asked(cache, lambda: ANSWER).key)

    assert key(encryption=ring(ONE)) == key(encryption=ring(TWO))
    assert len({key(encryption=False), key(encryption=ring(ONE)), key(encryption=Keys(ONE))}) == 3
    assert key(encryption=False) == key(encryption=False, compress="zstd")


@pytest.mark.waits
def test_a_near_cache_keeps_entries_as_they_are_stored_and_opens_them(valkey):
    with Cache(patient(valkey), near="4MB", encryption=ring(ONE), compress="zstd") as cache:
        asked(cache, lambda: ANSWER)
        found = eventually(lambda: [one for one in [asked(cache)] if one.status.detail == "near"], "it is near")
        assert found[0].value == ANSWER
        near: Any = cache._base.engine().store.near
        kept = [slot.kept.answer[0] for slot in near.table.slots.values() if slot.kept]
        assert kept
        assert not any(b"private" in entry for entry in kept)


CUT = {"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "length", "message": {"content": "a"}}]}


class Held:
    """A call that waits until the test lets it go on."""

    def __init__(self, answer: Any) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._answer = answer

    def __call__(self) -> Any:
        self.begun.set()
        assert self.may_end.wait(60)
        return self._answer

    def stream(self) -> Iterator[Any]:
        yield self._answer
        yield self()


def follows(leader: Cache, follower: Cache, ask: Callable[[Cache, Callable[[], Any]], Any], held: Held) -> list[Any]:
    """What a leader and its follower in another cache get; the follower's own call answers "own"."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, leader, held.stream if ask is streamed else held)
        assert held.begun.wait(60)
        pool.submit(follower.fetch, {"warm": True}, lambda: "up").result(60)  # connected: that may take its time
        claims: list[object] = []
        after(follower, "claim", claims.append, times=2)  # to subscribe, and then to follow
        second = pool.submit(ask, follower, lambda: iter(["own"]) if ask is streamed else "own")
        eventually(lambda: len(claims) == 2 or second.done(), "it follows")
        if ask is streamed:
            eventually(lambda: _followed(leader) or second.done(), "its log is written")
        held.may_end.set()
        return [first.result(60), second.result(60)]


def _followed(cache: Cache) -> bool:
    pumps: list[Any] = [flight.pump for flight in cache._base.engine().board.flights()]
    return any(pump is not None and pump.followed for pump in pumps)


def whole(cache: Cache, call: Callable[[], Any]) -> Any:
    found = cache.fetch(REQUEST, call, **LABELS)
    return found.value, found.status.detail


def unkept(cache: Cache, call: Callable[[], Any]) -> Any:
    found = cache.fetch(REQUEST, call, ttl=0, **LABELS)
    return found.value, found.status.detail


def streamed(cache: Cache, call: Callable[[], Any]) -> Any:
    stream = cache.fetch_stream(REQUEST, call, **LABELS)
    return list(stream), stream.status.detail


@pytest.mark.waits
@pytest.mark.parametrize("ask", [whole, unkept, streamed])
@pytest.mark.parametrize("answer", [ANSWER, CUT], ids=["stored", "not stored"])
def test_a_flight_is_followed_by_another_cache_with_the_key(shared, ask, answer):
    with Cache(shared, encryption=ring(ONE), compress="zstd") as leader, Cache(shared, encryption=ring(TWO)) as other:
        (first, _), (second, _) = follows(leader, other, ask, Held(answer))
        assert first == second


@pytest.mark.waits
@pytest.mark.parametrize("ask", [whole, unkept, streamed])
def test_a_flight_that_is_compressed_is_followed_by_a_cache_that_does_not_compress(shared, ask):
    long = {**ANSWER, "more": ["the same again"] * 90}
    with Cache(shared, compress="zstd") as leader, Cache(shared, compress="off") as other:
        (first, _), (second, _) = follows(leader, other, ask, Held(long))
        assert first == second


@pytest.mark.waits
@pytest.mark.parametrize("ask", [whole, unkept, streamed])
@pytest.mark.parametrize("answer", [ANSWER, CUT], ids=["stored", "not stored"])
def test_a_follower_without_the_key_of_the_flight_calls_for_itself_and_says_why(shared, ask, answer):
    with Cache(shared, encryption=ring(TWO), compress="zstd") as leader, Cache(shared, encryption=ring(ONE)) as other:
        _, (second, detail) = follows(leader, other, ask, Held(answer))
        assert second in ("own", ["own"])
        assert detail == "store-no-key"
