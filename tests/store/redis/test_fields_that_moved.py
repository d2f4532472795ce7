"""Memory of invalidations is bounded, and forgetting one never brings an answer back."""

from __future__ import annotations

import pytest

from askonce.cache.stores import open_store
from askonce.core.lease import FIELDS, Hit, Lead
from askonce.core.model import FIELDS as TAGS
from askonce.core.model import pack_fields, seal
from askonce.runtime.drive import drive
from askonce.testing.servers import ValkeyServer
from tests.store.keeping import DAY, LIFE, ask, key


@pytest.fixture(params=["memory", "sqlite", pytest.param("valkey", marks=[pytest.mark.slow, pytest.mark.servers])])
def store(request, tmp_path):
    if request.param == "valkey":
        with ValkeyServer() as server:
            yield open_store(server.url)
        return
    yield open_store("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/a.db")


def put(store, number, field):
    said = drive(store.claim(key(number), ask(number)._replace(fields=(field,))))
    assert isinstance(said, Lead)
    id_, order, snapshot = said.grant
    sealed = seal("v", key(number).digest, id_, order, snapshot, DAY, {TAGS: pack_fields((field,))}, b"answer")
    assert drive(store.fill(key(number), id_, order, sealed, LIFE)) == "stored"


def serves(store, number, *fields):
    return isinstance(drive(store.claim(key(number), ask(number + 100)._replace(fields=fields))), Hit)


def test_fields_are_bounded_and_what_was_invalidated_stays_so_while_what_came_after_lives(store):
    put(store, 1, 3)
    drive(store.invalidate((3,)))
    for first in range(4, 9_004, 500):
        drive(store.invalidate(tuple(range(first, first + 500))))
    put(store, 2, 5)
    for _ in range(66):  # a partition has its turn now and then
        drive(store.invalidate((2,)))
    standing = drive(store.standing())
    assert max(len(one.moved) for one in standing) <= FIELDS
    assert not serves(store, 1, 3)
    assert not serves(store, 1)
    assert serves(store, 2, 5)
    drive(store.close())


@pytest.mark.waits
def test_many_fields_that_move_at_once_do_not_invalidate_everything(store):
    put(store, 1, 16_000)
    drive(store.invalidate(tuple(range(FIELDS + 1_000))))
    for _ in range(66):
        drive(store.invalidate(tuple(range(FIELDS + 1_000))))
    put(store, 2, 16_000)
    assert serves(store, 2, 16_000)
    assert len(drive(store.standing())[0].moved) == FIELDS + 1_000
    drive(store.close())
