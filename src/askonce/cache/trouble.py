"""Trouble of the store while something other than a lookup reads it, as the error that users get."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from askonce.errors import StoreUnavailable
from askonce.store import StoreTrouble


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """StoreUnavailable in place of StoreTrouble, which is the store's own and no AskonceError."""
    try:
        yield
    except StoreTrouble as trouble:
        raise StoreUnavailable(f"the store cannot be read ({trouble})", trouble.kind) from trouble
