"""What concerns many entries of a cache: to invalidate, to list, to sweep.

The walk through a store is imported when it is wanted: most programs never walk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from askonce.cache import results
from askonce.cache.selector import Selector
from askonce.cache.trouble import reading
from askonce.engine.batch import BatchEngine
from askonce.errors import StoreUnavailable
from askonce.store import StoreTrouble


async def drop(engine: BatchEngine, selector: Selector, *, dry_run: bool) -> int | None:
    """Invalidate. A dry run returns how many live entries would be reached."""
    store = engine.store
    try:
        if dry_run:
            from askonce.store import inventory

            return await inventory.reached(store, selector.fields, selector.keys, everything=selector.everything)
        for key in selector.keys:
            await store.forget(key)
        if not selector.keys:
            await store.invalidate(selector.fields, everything=selector.everything)
    except StoreTrouble as trouble:
        raise StoreUnavailable(f"the invalidation is incomplete ({trouble}): repeat it", trouble.kind) from trouble
    engine.noting.invalidated(selector.keys, selector.labels, everything=selector.everything)
    engine.board.bar()
    engine.events.emit("invalidated")
    return None


async def listed(engine: BatchEngine) -> AsyncIterator[results.Listed]:
    """The entries in the store."""
    from askonce.store import inventory

    with reading():
        async for record, head, live in inventory.records(engine.store):
            yield inventory.listed(record, head, live, engine.codec)


async def swept(engine: BatchEngine) -> int:
    """Sweep; return how many entries were deleted."""
    from askonce.store import inventory

    gone = 0
    with reading():
        async for _, now_gone in inventory.sweep(engine.store):
            gone = now_gone
    return gone
