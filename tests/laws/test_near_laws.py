"""The laws of a store's contract where a near cache stands beside it: what is near says what the store says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from askonce.core.keys import Key
from askonce.core.lease import valid
from askonce.core.model import Corrupt, Snapshot, entry_fields, read_entry
from askonce.runtime.drive import drive
from askonce.store import Look, Store
from askonce.store.redis.link import RedisLink
from askonce.store.redis.near import clock
from askonce.store.redis.store import RedisStore
from askonce.testing.contract import StoreLaws
from askonce.testing.servers import Server
from tests.laws.test_stores import Redises, Servers, Valkeys
from tests.store.keeping import key, put


class NearbyStore(RedisStore):
    """A store whose looks, those of a batch excepted, are made a second time in the near cache."""

    compare: Callable[[RedisStore, Key, tuple[int, ...], Look], None]

    async def look(self, key: Key, fields: Sequence[int]) -> Look:
        there = await super().look(key, fields)
        if self._wires is self._primaries.wires:
            self.compare(self, key, tuple(fields), there)
        return there


class Nearby(Servers):
    """Every look is made a second time in the near cache, after a proof: both must agree."""

    agreed: int

    def setup_method(self) -> None:
        super().setup_method()
        self.agreed = 0
        self._tellers: dict[str, RedisLink] = {}

    def teardown_method(self) -> None:
        for link in self._tellers.values():
            link.close()
        super().teardown_method()

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        del clock
        url, mode = self.server.url, self.asynchronous
        store = NearbyStore.from_url(url, prefix=prefix, asynchronous=mode, socket_timeout=10.0, near=2**24)
        assert isinstance(store, NearbyStore)
        store.compare = self.compare
        return store

    def compare(self, store: RedisStore, key: Key, fields: tuple[int, ...], there: Look) -> None:
        near, link = store.near, self._teller(store)
        if near is None or there.entry is None:
            return
        for _ in range(3):  # seen, seen again and read; then perhaps read with fields of its own
            near.seen(key, fields, len(there.entry))
            near.used, before = clock(), clock()
            while near.wanted or near.parts[0].proof[0] < before:
                link.poll(0.01)
        found = near.look(key, fields)
        try:
            head = read_entry(there.entry, key.digest, key.form)
            snapshot, own = Snapshot(head.epoch, head.clock), entry_fields(there.entry, head)
        except Corrupt:
            assert found is None, "what cannot be read is not kept"
            return
        if found is not None:
            assert found[0].answer[0] == there.entry
            assert valid(snapshot, fields, there.generations)
            assert found[1] >= there.now_us
            self.agreed += 1
        elif {*own} <= {*fields}:
            assert not valid(snapshot, fields, there.generations), "a valid answer was read, and is not near"

    def _teller(self, store: RedisStore) -> RedisLink:
        found = self._tellers.get(store.address)
        if found is None:
            made = store.blocking().link()
            assert isinstance(made, RedisLink)
            found = self._tellers[store.address] = made
        return found


@pytest.mark.servers
class TestNearValkey(Nearby, Valkeys, StoreLaws):
    pass


@pytest.mark.servers
class TestNearAsyncValkey(TestNearValkey):
    asynchronous = True


@pytest.mark.servers
@pytest.mark.slow
class TestNearRedis(Nearby, Redises, StoreLaws):
    pass


@pytest.mark.servers
def test_the_laws_do_compare(valkey: Server) -> None:
    law = TestNearValkey()
    law.server = valkey
    law.setup_method()
    try:
        put(law.store, key(1), 1)
        drive(law.store.look(key(1), ()))
        assert law.agreed == 1
        drive(law.another().invalidate((5,)))
        drive(law.store.look(key(1), ()))
        assert law.agreed == 2, "an invalidation of something else"
        drive(law.another().invalidate((6,)))
        drive(law.store.look(key(1), (6,)))
        assert law.agreed == 2
    finally:
        law.teardown_method()
