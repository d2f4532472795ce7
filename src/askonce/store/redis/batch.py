"""Several verbs of a Redis store at the price of one: each runs until its next command, then all are sent together.

A verb is a coroutine that awaits its wire. With a wire that only notes commands, it can be halted there and resumed
with its replies. So no verb needs a second form for batches, and what a verb does about a reply (a script that the
server forgot) happens here too, in one more round trip for all verbs concerned.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any

from askonce.store import StoreTrouble
from askonce.store.redis.connection import Cut

if TYPE_CHECKING:
    from askonce.store.redis.wire import Wire


class _Asked:
    """What a verb waits for."""

    __slots__ = ("count", "data")

    def __init__(self, data: bytes, count: int) -> None:
        self.data = data
        self.count = count

    def __await__(self) -> Generator[_Asked, list[Any], list[Any]]:
        return (yield self)


class BatchWire:
    """The wire of verbs that run together; `behind` is the wire that sends their commands."""

    def __init__(self, behind: Wire) -> None:
        self._behind = behind

    async def ask(self, data: bytes, count: int) -> list[Any]:
        """Halt until the replies are there."""
        return await _Asked(data, count)

    def connected(self) -> bool:
        """As the wire behind."""
        return self._behind.connected()

    def distrust(self) -> None:
        """As the wire behind."""
        self._behind.distrust()

    async def close(self) -> None:
        """Do nothing: it has no connection."""

    async def run(self, verbs: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """The result of each verb, or the StoreTrouble that it raised."""
        results: list[Any] = [None] * len(verbs)
        halted: list[tuple[int, _Asked]] = []
        try:
            for at, verb in enumerate(verbs):
                _go_on(verb, at, None, results, halted)
            while halted:
                asked, halted = halted, []
                replies, trouble = await self._replies([one for _, one in asked])
                done = 0
                for at, one in asked:
                    mine = replies[done : done + one.count]
                    done += one.count
                    _go_on(verbs[at], at, mine if len(mine) == one.count else trouble, results, halted)
        finally:
            for verb in verbs:
                verb.close()
        return results

    async def _replies(self, asked: Sequence[_Asked]) -> tuple[list[Any], StoreTrouble | None]:
        """All replies that came, and the trouble that prevented the rest."""
        data = b"".join([one.data for one in asked])
        try:
            return await self._behind.ask(data, sum(one.count for one in asked)), None
        except Cut as cut:
            return cut.replies, cut
        except StoreTrouble as trouble:
            return [], trouble


def _go_on(
    verb: Coroutine[Any, Any, Any],
    at: int,
    said: list[Any] | StoreTrouble | None,
    results: list[Any],
    halted: list[tuple[int, _Asked]],
) -> None:
    """Run a verb until its next command, or to its end."""
    try:
        halted.append((at, verb.throw(said) if isinstance(said, StoreTrouble) else verb.send(said)))
    except StopIteration as done:
        results[at] = done.value
    except StoreTrouble as trouble:
        results[at] = trouble
