"""A stream that another process writes, read from its flight's log in the store.

The reader takes what the log has, then each notice as it comes, and repairs a gap between them by reading a range. It
reads one flight, by name, from its first byte: two answers are never spliced. After silence past the lease's deadline
it claims; if another caller may lead now, this stream is dead.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Awaitable, Callable

from askonce.core.lease import Claim, Follow
from askonce.core.model import Corrupt
from askonce.core.tape import DATA, END, ENDED, FAILED, META, SAID, Ending, Notice, ended_by, frames
from askonce.engine.question import Question
from askonce.engine.reader import Reader
from askonce.flight.guarded_store import GuardedStore
from askonce.flight.waiters import Waiter
from askonce.store import StoreTrouble
from askonce.stream.tape import Cut, Tape

GRACE = 0.05  # s added to a follower's wait: without it, the claim comes a moment before the deadline
PAUSE = 0.1  # s between two reads of the log while the store has trouble
_FRAME = struct.Struct(">BI")


def lasts(claim: Follow) -> float:
    """Until when the flight that a claim named is under way, if nothing more is heard of it; monotonic s."""
    return time.monotonic() + claim.remaining / 1000


class RemoteReader:
    """Brings one remote flight's log onto a tape of this caller's own. `again`: claims the key once more."""

    def __init__(
        self,
        question: Question,
        waiter: Waiter,
        claim: Follow,
        guarded: GuardedStore,
        reader: Reader,
        again: Callable[[], Awaitable[Claim]],
    ) -> None:
        self.tape = Tape()
        self.whole: Ending | None = None  # an answer that turned out not to be a stream
        self.dead = False
        self.unreadable = ""  # why its log cannot be opened
        self.failed = False  # its upstream call failed; False if its end is unknown
        self._question = question
        self._waiter = waiter
        self._claim = claim
        self._guarded = guarded
        self._reader = reader
        self._again = again
        self._codec = guarded.codec
        self._have = 0  # bytes of the log
        self._plain = 0  # bytes of its whole frames, as they would be in a plain log
        self._behind = True  # the log may have more than the notices said since it was read
        self._rest = b""  # a frame that is not complete yet
        self._until = lasts(claim) + GRACE

    async def pull(self, until: float) -> bool:
        """Wait for more of the log. False if the time is up first, or if the tape is over."""
        count = self.tape.count
        while self.tape.count == count and not self.tape.over:
            if time.monotonic() >= until:
                return False
            try:
                await self._turn(until)
            except StoreTrouble as trouble:
                await self._on_trouble(trouble)
        return True

    async def _on_trouble(self, trouble: StoreTrouble) -> None:
        """The log outlives the trouble: read on when the store answers again, unless the lease ends first."""
        self._behind = True
        if time.monotonic() >= self._until:
            self._lost(f"the store had trouble ({trouble.kind})")
        else:
            await self._waiter.signal.wait(PAUSE)

    async def _turn(self, until: float) -> None:
        if self._behind or self._waiter.again:
            self._waiter.again = False
            await self._catch_up()
            self._behind = False
        elif self._waiter.notices:
            await self._on_notice(self._waiter.notices.popleft())
        elif (left := self._until - time.monotonic()) > 0:
            await self._waiter.signal.wait(max(0.0, min(left, until - time.monotonic())))
        else:
            await self._look_into()

    async def _on_notice(self, notice: Notice) -> None:
        if (notice.flight, notice.order) != (self._claim.id, self._claim.order):
            return
        self._until = time.monotonic() + 2 * self._guarded.background.heartbeat
        if notice.kind == SAID:
            offset = int.from_bytes(notice.outcome[:8], "big")
            if offset > self._have:
                await self._catch_up()
            else:
                self._feed(notice.outcome[8 + self._have - offset :])
        elif notice.kind == ENDED:
            await self._ended(notice.outcome)

    async def _catch_up(self) -> None:
        claim, key = self._claim, self._question.key
        log = await self._guarded.read(key, self._guarded.store.tape(key, claim.id, claim.order, self._have))
        if log:
            self._feed(log)

    async def _ended(self, outcome: bytes) -> None:
        """The flight is over: the rest is in its log, or in the entry it became."""
        await self._catch_up()
        if self.tape.over:
            return
        if outcome == FAILED:
            self.failed = True
            self._lost("its call failed")
            return
        data, head = await self._reader.entry(self._question)
        if data is None or head is None or (head.fill, head.order) != (self._claim.id, self._claim.order):
            self._lost("its log is gone")
            return
        for kind, payload in frames(data[head.length + self._plain :]):
            self._frame(kind, payload)
        self.tape.end()

    async def _look_into(self) -> None:
        """Claim after a long silence: a claim that no longer names this flight shows that its leader is dead."""
        claim = await self._again()
        if isinstance(claim, Follow) and (claim.id, claim.order) == (self._claim.id, self._claim.order):
            self._until = lasts(claim) + GRACE
            await self._catch_up()
            return
        await self._ended(b"")

    def _feed(self, data: bytes) -> None:
        self._have += len(data)
        self._rest += data
        at = 0
        while len(self._rest) - at >= _FRAME.size and not self.tape.over:
            kind, size = _FRAME.unpack_from(self._rest, at)
            if len(self._rest) - at - _FRAME.size < size:
                break
            at += _FRAME.size + size
            self._coded_frame(kind, self._rest[at - size : at])
        self._rest = self._rest[at:]

    def _coded_frame(self, kind: int, payload: bytes) -> None:
        question = self._question
        try:
            kind, payload = self._codec.open_frame(
                question.key, self._claim.id, kind, payload, self._plain, question.terms.max_answer_bytes
            )
        except Corrupt as corrupt:
            self.unreadable = corrupt.reason
            self._reader.unread(question, corrupt.reason)
            self._lost(f"its log cannot be opened ({corrupt.reason})")
            return
        self._plain += _FRAME.size + len(payload)
        self._frame(kind, payload)

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == META:
            self.tape.meta = payload
        elif kind == DATA:
            self.tape.put(int.from_bytes(payload[:4], "big"), payload[4:])
        elif kind == END:
            self._end(ended_by(payload))
        else:
            self._lost("its log is of another version")

    def _end(self, ending: Ending | None) -> None:
        if ending is None or ending.outcome == FAILED:
            self.failed = True
            self._lost(f"its call failed ({ending.detail})" if ending else "its end cannot be read")
        elif ending.body and not self.tape.count:
            self.whole = ending
            self.tape.end()
        else:
            self.tape.end()

    def _lost(self, why: str) -> None:
        flight = self._claim.id.hex()
        self.dead = True
        self.tape.end(Cut(f"the stream of flight {flight}, followed from another process, ended early: {why}", flight))
