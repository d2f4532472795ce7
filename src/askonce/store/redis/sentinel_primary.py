"""The primary of a Sentinel service, and what an acknowledgement of it is worth.

A primary that is being replaced acknowledges commands until it is told, and what it acknowledged then is lost. Lookups
need not care: what they read is as old as the replacement at most, and an answer that was lost is paid once more. But
an invalidation must not be lost. So after one, the sentinels are asked whether the primary is still the same and is not
being replaced; otherwise the invalidation is made again. And shortly after a replacement it waits, until every process
has had time to hear of the new primary: a process that has not would read from the old one.

What a primary acknowledged and did not pass on before it died is lost all the same: it is not known which that was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from askonce.store import StoreTrouble
from askonce.store.redis.asking import find, find_on_loop, survey
from askonce.store.redis.connecting import connect
from askonce.store.redis.primaries import OnePrimary
from askonce.store.redis.sentinel import Report, SentinelAddress, Survey
from askonce.store.redis.waits import TaskWaits, ThreadWaits, Waits

T = TypeVar("T")
SETTLED = 0.5  # s after which every process has heard of a new primary
PATIENCE = 3.0  # s that an invalidation waits for the end of a replacement
PAUSE = 0.05  # s between two questions whether it is over


class SentinelPrimary(OnePrimary):
    """The one primary of a service, whichever server that is. Implements Primaries."""

    def __init__(self, address: SentinelAddress, *, asynchronous: bool) -> None:
        super().__init__(address, asynchronous=asynchronous)
        self._service = address.service
        self._epoch = address.epoch
        self._asynchronous = asynchronous
        self._waits: Waits = TaskWaits() if asynchronous else ThreadWaits()

    def blocking(self) -> SentinelPrimary:
        """The same primary, with a wire that blocks."""
        assert isinstance(self._address, SentinelAddress)
        return SentinelPrimary(self._address, asynchronous=False)

    async def confirmed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """As Primaries.confirmed; StoreTrouble if the primary is being replaced for too long."""
        until = time.monotonic() + PATIENCE
        while True:
            epoch = self._epoch.number
            done = await work()
            newest = await self._newest(until)
            if not self._epoch.leads_to(newest):
                self._epoch.end(epoch)
            elif epoch == self._epoch.number:  # otherwise some of the work may have gone to the one before
                await self._waits.pause(max(0.0, SETTLED - newest.since))
                return done
            if time.monotonic() > until:
                raise _replacing()

    async def _newest(self, until: float) -> Report:
        """Who the primary is, once it is not being replaced."""
        while True:
            survey = await self._asked()
            if not any(report.moving for report in survey.reports):
                return self._epoch.newest(survey.candidates())[0]
            if time.monotonic() > until:
                raise _replacing()
            await self._waits.pause(PAUSE)

    async def _asked(self) -> Survey:
        """What the sentinels say now."""
        steps = survey(self._service, time.monotonic() + self._address.connect_timeout)
        if self._asynchronous:
            from askonce.store.redis.multiplexed import connect_on_loop  # here: a sync program needs no asyncio

            connection, said = await find_on_loop(steps, connect_on_loop)
            connection.close()
        else:
            blocking, said = find(steps, connect)
            blocking.close()
        return said


def _replacing() -> StoreTrouble:
    return StoreTrouble("store-readonly", "the primary is being replaced", about="failover")
