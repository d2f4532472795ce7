"""Calls of scripts over a wire: by hash, and again by text where the server does not know the hash."""

from __future__ import annotations

from typing import Any

from askonce.store.redis.scripts import Notice, Script
from askonce.store.redis.trouble import Refusal, unrefused
from askonce.store.redis.wire import Wire


async def replied(wire: Wire, script: Script, keys: tuple[bytes, ...], args: tuple[Notice, ...]) -> Any:
    """The reply to a script, perhaps a Refusal."""
    (reply,) = await wire.ask(script.call(keys, args), 1)
    if type(reply) is Refusal and reply.noscript:
        (reply,) = await wire.ask(script.call(keys, args, whole=True), 1)
    return reply


async def run(wire: Wire, script: Script, keys: tuple[bytes, ...], args: tuple[Notice, ...]) -> Any:
    """The same; StoreTrouble for a Refusal."""
    return unrefused(await replied(wire, script, keys, args))
