"""Several verbs of a Redis store at the price of one: each runs until its next command, then all are sent together.

A verb is a coroutine that awaits its wire. With a wire that only notes commands, it can be halted there and resumed
with its replies. So no verb needs a second form for batches, and what a verb does about a reply (a script that the
server forgot) happens here too, in one more round trip for all verbs concerned.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from typing import Any

from askonce.store import PARTITIONS, StoreTrouble
from askonce.store.redis.primaries import Asked, Primaries


class _Halt:
    """What a verb waits for."""

    __slots__ = ("asked",)

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def __await__(self) -> Generator[Asked, list[Any], list[Any]]:
        return (yield self.asked)


class _Noted:
    """A wire that only notes its commands, for one partition."""

    def __init__(self, partition: int, primaries: Primaries) -> None:
        self._partition = partition
        self._primaries = primaries

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """Halt until the replies are there."""
        return await _Halt(Asked(self._partition, data, count))

    def connected(self) -> bool:
        """As the wire behind."""
        return self._primaries.wires[self._partition].connected()

    def distrust(self) -> None:
        """As the wire behind."""
        self._primaries.wires[self._partition].distrust()

    async def close(self) -> None:
        """Do nothing: it has no connection."""


class Batch:
    """Verbs that run together. `wires`: what they use in place of those of `primaries`, which send their commands."""

    def __init__(self, primaries: Primaries) -> None:
        self._primaries = primaries
        self.wires = [_Noted(partition, primaries) for partition in range(PARTITIONS)]

    async def run(self, verbs: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The result of each verb, or the StoreTrouble that it raised."""
        results: list[Any] = [None] * len(verbs)
        halted: list[tuple[int, Asked]] = []
        try:
            for at, verb in enumerate(verbs):
                _go_on(verb, at, None, results, halted)
            while halted:
                asked, halted = halted, []
                replies = await self._primaries.ask_all([one for _, one in asked])
                for (at, _), said in zip(asked, replies, strict=True):
                    _go_on(verbs[at], at, said, results, halted)
        finally:
            for verb in verbs:
                verb.close()
        return results


def _go_on(
    verb: Coroutine[Any, Any, Any],
    at: int,
    said: list[Any] | StoreTrouble | None,
    results: list[Any],
    halted: list[tuple[int, Asked]],
) -> None:
    """Run a verb until its next command, or to its end."""
    try:
        halted.append((at, verb.throw(said) if isinstance(said, StoreTrouble) else verb.send(said)))
    except StopIteration as done:
        results[at] = done.value
    except StoreTrouble as trouble:
        results[at] = trouble
