"""Readiness: whether the store grants a claim now. A claim reads and writes, so nothing less shows that it would."""

from __future__ import annotations

import asyncio
import os

from askonce.cache.base import base_of
from askonce.cache.cache import AsyncCache
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Lead, Limits
from askonce.core.tape import FAILED, Ending
from askonce.store import Store, StoreTrouble

PATIENCE = 2.0  # s: probes of balancers wait little longer
_LIMITS = Limits(1000, 0, 0, NEVER, 0, 0)


async def trouble_of(cache: AsyncCache) -> StoreTrouble | None:
    """Why the store does not grant a claim; None if it does. The claim is of a key of its own, and is given back."""
    # Not by the guarded store: readiness asks the store itself, and must not open a breaker.
    try:
        await asyncio.wait_for(_claimed(base_of(cache).engine().store), PATIENCE)
    except StoreTrouble as trouble:
        return trouble
    except TimeoutError:
        return StoreTrouble("store-timeout", f"no answer within {PATIENCE:g} s")
    return None


async def _claimed(store: Store) -> None:
    key, flight = Key(os.urandom(32), "v"), os.urandom(16)
    said = await store.claim(key, Ask(flight, flight[:4], (), _LIMITS, 0, NEVER, 1000))
    if isinstance(said, Lead):
        await store.release(key, said.grant.id, said.grant.order, Ending(FAILED, "ready"))
