"""The store of a command that looks for what other processes left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from askonce.cache import config
from askonce.cache.stores import open_store
from askonce.cli.place import Place, patience
from askonce.runtime.drive import drive
from askonce.store import Store


@contextmanager
def opened(where: Place) -> Iterator[Store]:
    """The store of a place (`place.find_kept`); it is closed at the end."""
    with config.naming(where.variable):
        store = open_store(where.url, prefix=where.prefix, **patience(where.url))
    try:
        yield store
    finally:
        drive(store.close())
