"""A Tape that is still being written: one answer as it arrives, read by any number at their own pace.

Parts are kept as they came, with their arrival times, and shared: a reader holds a place, not a copy. What the tape
holds is what goes into the store, as it is (core.tape frames), so a follower in another process continues from an entry
where the log of the flight left off.

In sync mode there is no task to read from upstream: whichever reader needs the next part first reads it, in its own
thread, for all. So a slow reader slows nobody, and a part is handed over without a thread in between.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, Protocol

from askonce.core.judge import Verdict
from askonce.core.tape import DATA, META, data_frame, frame, whole_frames
from askonce.errors import Portable
from askonce.runtime.mode import Mode, Signal

LAST = 60.0  # s that a reader waits for a part, where nobody says how long; the pump's own limits end a tape
AGAIN = 1.0  # s after which a reader who waits looks again by itself


class Source(Protocol):
    """An upstream stream that was opened."""

    async def next(self) -> bytes | None:
        """The next bytes as they arrive, None at the end; what it raises is the upstream's."""
        ...

    async def close(self) -> None:
        """Close it upstream."""
        ...


class Scan(Protocol):
    """What watches a stream's bytes go by, to say whether the answer is whole and may be kept."""

    def feed(self, data: bytes) -> None:
        """More bytes."""
        ...

    def whole(self) -> bool:
        """Whether the protocol's end was seen: nothing that matters can come after it."""
        ...

    def verdict(self, now: float) -> Verdict:
        """Whether it may be stored; `now` in s since 1970. Asked once, at the end."""
        ...

    def usage(self) -> tuple[int, int] | None:
        """Tokens in and out, as far as the stream said."""
        ...


class Opened(NamedTuple):
    """An upstream answer that arrives in parts: what goes before the body, the body's source, and what judges it."""

    meta: bytes
    source: Source
    scan: Scan


class Raw(bytes):
    """A part that has no exact bytes: `value` is it. For the readers of this process alone, and never kept: `why`."""

    value: object
    why: str

    @classmethod
    def of(cls, value: object, why: str = "not-json") -> Raw:
        """A value as a part."""
        raw = cls()
        raw.value, raw.why = value, why
        return raw


class Cut(Portable, ConnectionError):
    """The stream that was followed ended in the middle; `flight` names whose it was. Never a silent end."""

    def __init__(self, message: str, flight: str = "") -> None:
        super().__init__(message)
        self.flight = flight


class Tape:
    """The parts of one answer, growing until it is `over`; with an `error`, readers get that after the last part."""

    def __init__(self, meta: bytes = b"") -> None:
        self.meta = meta
        self.size = 0  # bytes of all parts, also those that were let go
        self.over = False
        self.error: BaseException | None = None
        self.held: Signal | None = None  # of a pump that waits for its readers
        # How many parts were let go (a tape that nobody will join any more need not keep them), and those that are
        # kept. Replaced in one piece, so that parts are read without the lock.
        self._kept: tuple[int, list[tuple[int, bytes]]] = (0, [])
        self._began = time.monotonic()
        # Each as a dict, which one step changes, and as a tuple, which is read at every part. Readers by weak
        # references: one that is dropped has left.
        self._reading: dict[int, weakref.ref[Playback]] = {}
        self._leaving: dict[int, None] = {}
        self._told: dict[Signal, None] = {}
        self._readers: tuple[weakref.ref[Playback], ...] = ()
        self._signals: tuple[Signal, ...] = ()

    @classmethod
    def recorded(cls, log: bytes | memoryview) -> Tape:
        """A tape that is over, from the frames of an entry; ValueError for what are none."""
        tape = cls()
        found = whole_frames(bytes(log))
        tape.meta = next((payload for kind, payload in reversed(found) if kind == META), b"")
        parts = [(int.from_bytes(payload[:4], "big"), payload[4:]) for kind, payload in found if kind == DATA]
        tape._kept = (0, parts)
        tape.size = sum([len(data) for _, data in parts])
        tape.over = True
        return tape

    def said(self) -> list[bytes]:
        """All parts that are kept."""
        return [data for _, data in self._kept[1]]

    @property
    def count(self) -> int:
        """How many parts have come."""
        base, parts = self._kept
        return base + len(parts)

    @property
    def trimmed(self) -> bool:
        """Whether it can no longer be read from its beginning."""
        return self._kept[0] > 0

    @property
    def readers(self) -> int:
        """How many read it now."""
        return len(self._reading)

    def put(self, at: int, data: bytes) -> None:
        """One more part, which arrived at `at` ms."""
        self._kept[1].append((at, data))
        self.size += len(data)

    def write(self, data: bytes) -> None:
        """One more part, arrived now; wakes those who wait for it."""
        # put() and ring() written out: this is done for every part of every stream.
        self._kept[1].append((int((time.monotonic() - self._began) * 1000), data))
        self.size += len(data)
        for ref in self._readers:
            if (reader := ref()) is not None and reader.waiting:
                reader.signal.ring()
        for signal in self._signals:
            signal.ring()

    def end(self, error: BaseException | None = None) -> None:
        """No more parts will come."""
        if self.over:
            return
        # One statement in which nothing is called, after a look: no other thread comes in between.
        self.error, self.over = error, True
        self.ring()

    def ring(self) -> None:
        """Wake whoever waits."""
        self.nudge()
        for signal in self._signals:
            signal.ring()

    def nudge(self) -> None:
        """Wake those readers who wait."""
        for ref in self._readers:  # not _here(): this, too, is done for every part
            if (reader := ref()) is not None and reader.waiting:
                reader.signal.ring()

    def _here(self) -> list[Playback]:
        return [reader for ref in self._readers if (reader := ref()) is not None]

    def join(self, reader: Playback) -> None:
        """A reader more."""
        self._reading[id(reader)] = weakref.ref(reader)
        self._count()

    def leave(self, reader: Playback) -> int:
        """A reader less; how many are left."""
        self._reading.pop(id(reader), None)
        self._leaving.pop(id(reader), None)
        self._count()
        return len(self._reading)

    def tell(self, signal: Signal) -> None:
        """Ring this too, without its being a reader."""
        self._told[signal] = None
        self._count()

    def untell(self, signal: Signal) -> None:
        """Ring it no more."""
        self._told.pop(signal, None)
        self._count()

    def _count(self) -> None:
        """Make the tuples what the dicts are; of two threads at it, whoever is last sees what both have done."""
        while True:
            readers, signals = tuple(self._reading.values()), tuple(self._told)
            self._readers, self._signals = readers, signals
            if (tuple(self._reading.values()), tuple(self._told)) == (readers, signals):
                return

    def drop(self, reader: Playback) -> None:
        """A reader is being collected, and will leave; for its finaliser."""
        self._leaving[id(reader)] = None

    def read_on(self) -> bool:
        """Whether there is a reader, or one that is about to leave."""
        return bool(self._leaving) or any(ref() is not None for ref in self._readers)

    def ahead(self) -> int:
        """How many parts have come that not even the fastest reader has read."""
        return self.count - max((reader.at for reader in self._here()), default=0)

    def trim(self) -> None:
        """Let go what every reader has passed."""
        base, parts = self._kept
        passed = min((reader.at for reader in self._here()), default=base) - base
        if passed:
            self._kept = base + passed, parts[passed:]

    def log(self, start: int = 0, stop: int | None = None) -> bytes:
        """The frames of parts `start` to `stop`; the META goes before the first part, and is all of a log without."""
        parts = self._kept[1][start:stop]
        head = frame(META, self.meta) if start == 0 and (parts or (self.meta and stop is None)) else b""
        return head + b"".join(data_frame(at, data) for at, data in parts)


class Playback:
    """One reader's place on a tape.

    `pull`: read a part from where it comes from, until a moment of time.monotonic() at the latest; False if it did not,
    because somebody else does, or the time is up. `left`: what the last reader's going sets off. `defer`: has the
    background thread do something.
    """

    def __init__(
        self,
        tape: Tape,
        mode: Mode,
        pull: Callable[[float], Awaitable[bool]] | None = None,
        left: Callable[[], Coroutine[Any, Any, None]] | None = None,
        defer: Callable[[Callable[[], object]], None] | None = None,
    ) -> None:
        self._closed = True
        self.tape = tape
        self._mode = mode
        self._defer = defer
        self.signal = mode.signal()
        self.waiting = False  # or about to: a ring must not be lost
        self.at = 0
        self.pace = 0.0  # of a replay: 1.0 is as recorded, 2.0 twice as fast, 0 at once
        self._began = time.monotonic()
        self._pull = pull
        self._left = left
        self._closed = False
        tape.join(self)

    @property
    def meta(self) -> bytes:
        """What goes before the body."""
        return self.tape.meta

    async def next(self, patience: float = LAST) -> tuple[int, bytes] | None:
        """The next part with its time in ms, None at the end; TimeoutError when none came within `patience` s."""
        tape = self.tape
        until = 0.0
        while True:
            base, parts = tape._kept  # noqa: SLF001 - tape.part() written out: twice for every part of every stream
            if self.at - base < len(parts):
                part = parts[self.at - base]
                if self.pace:
                    await self._keep_pace(part[0])
                self.at += 1
                if tape.held is not None:
                    tape.held.ring()
                return part
            if tape.over:
                if tape.error is not None:
                    raise tape.error
                return None
            until = until or time.monotonic() + patience
            if self._pull is not None and await self._pull(until):
                continue
            if time.monotonic() >= until:
                raise TimeoutError(f"no part of the stream came within {patience} s")
            await self._wait(until)

    async def _wait(self, until: float) -> None:
        self.waiting = True
        try:
            # Once more: what happened before we said that we wait, did not ring.
            if self.tape.count > self.at or self.tape.over:
                return
            if self._pull is None or not await self._pull(until):
                await self.signal.wait(max(0.0, min(AGAIN, until - time.monotonic())))
        finally:
            self.waiting = False

    async def _keep_pace(self, at: int) -> None:
        while (early := self._began + at / 1000 / self.pace - time.monotonic()) > 0:
            await self.signal.wait(early)

    async def close(self) -> None:
        """Leave; the last one's going decides what becomes of the call."""
        if self._closed:
            return
        self._closed = True
        if self.tape.leave(self) == 0 and self._left is not None:
            await self._left()

    def __del__(self, partial: type[partial[object]] = partial) -> None:
        # Anywhere: in the middle of our own code, of a lock of somebody else's. So it does nothing but leave a note.
        # The name is given to it here, since those of a module are gone where an interpreter ends.
        if not getattr(self, "_closed", True) and self._defer is not None:
            self.tape.drop(self)
            self._defer(partial(self._mode.send, self.signal, self.close))
