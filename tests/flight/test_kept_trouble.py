"""Trouble that is remembered, and what is not kept with it."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from askonce.core.breaker import StoreBreakers
from askonce.flight.link_trouble import LinkTrouble
from askonce.flight.users import Users
from askonce.store import StoreTrouble
from askonce.store.redis import cluster_address, topology
from askonce.store.redis.cluster_link import PrimaryLink
from askonce.store.redis.topology import Topology


class Connection:
    """What would be closed when nothing has it any more."""


def a_primary(trouble: StoreTrouble) -> Any:
    link = SimpleNamespace(_hold=0.0)
    PrimaryLink.failed(link, trouble)  # type: ignore[arg-type]
    return link


def a_link(trouble: StoreTrouble) -> Any:
    kept = LinkTrouble(Users(Event().set), StoreBreakers())
    kept.met(trouble)
    return kept


def a_topology(trouble: StoreTrouble) -> Any:
    given = [trouble]
    del trouble

    def asked(_: object) -> None:
        raise given.pop()

    kept = Topology(cluster_address.from_url("redis+cluster://a:1", {}), [1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology, "_asked", asked)
        kept._try()
    assert kept.trouble is not None
    return kept


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    logging.disable(logging.DEBUG)  # pytest keeps records, with what they tell
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("keeping", [a_link, a_primary, a_topology])
def test_no_connection_outlives_its_last_user_because_its_trouble_is_remembered(keeping):
    def broken(_: Connection) -> None:
        raise StoreTrouble("store-closed", "it broke") from OSError()

    connection = Connection()
    known = weakref.ref(connection)
    try:
        broken(connection)
    except StoreTrouble as trouble:
        kept = keeping(trouble)
    del connection
    assert kept
    assert known() is None
