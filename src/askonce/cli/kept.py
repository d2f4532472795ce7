"""The store of a command that looks for what other processes left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from askonce.cache.stores import open_store
from askonce.cli import place
from askonce.core.keys import Key
from askonce.runtime.drive import drive
from askonce.store import Store


@contextmanager
def opened(url: str | None, prefix: str | None) -> Iterator[Store]:
    """The store that these options name; it is closed at the end."""
    where = place.find_kept(url, prefix)
    store = open_store(where.url, prefix=where.prefix)
    try:
        yield store
    finally:
        drive(store.close())


def now_of(store: Store) -> float:
    """The store's clock, s since 1970: ours does not count."""
    return drive(store.look(Key(bytes(32), "v"), ())).now_us / 1_000_000
