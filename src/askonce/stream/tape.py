"""A Tape that is still being written: one answer as it arrives. Any number of readers read it, each at its own pace.

Parts are kept as they came, with their arrival times, and are shared: a reader holds a place, not a copy. The store
gets exactly what the tape holds (core.tape frames). So another process can continue from where a flight's log stopped.

In sync mode no task reads from upstream: the reader that first needs the next part reads it for all, in its own thread.
So a slow reader delays no other, and no thread has to hand parts over.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from askonce.core.judge import Verdict
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import Bill
from askonce.core.tape import DATA, META, data_frames, frame, whole_frames
from askonce.errors import Portable
from askonce.runtime.mode import Mode, Owner, Signal
from askonce.runtime.ownership import owned

LAST = 60.0  # s that a reader waits for a part if its caller gives no limit; the pump's own limits end a tape
AGAIN = 1.0  # s after which a waiting reader looks again by itself
LEAVING = 1.0  # s in which a leaving that was sent to its own thread or loop begins, or its reader counts no more


class Source(Protocol):
    """An open upstream stream. `pieces`: in sync mode, what `next` reads, if it does nothing else."""

    pieces: Iterator[bytes] | None

    async def next(self) -> bytes | None:
        """Return the next bytes as they arrive, None at the end; it raises the upstream's errors."""
        ...

    async def close(self) -> None:
        """Close it upstream."""
        ...


class Scan(Protocol):
    """Watches a stream's bytes go by, to say whether the answer is whole and may be stored."""

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        ...

    def whole(self) -> bool:
        """Whether the protocol's end was seen: nothing that matters can come after it."""
        ...

    def verdict(self, now: float) -> Verdict:
        """Whether it may be stored; `now` in s since 1970. Called once, at the end."""
        ...

    def usage(self) -> tuple[int, int] | None:
        """Tokens in and out, as far as the stream named them."""
        ...

    def bills(self) -> Sequence[Bill]:
        """What its price depends on, also if it was cut off."""


class Opened(NamedTuple):
    """An upstream answer that arrives in parts: what comes before the body, the body's source, and its Scan."""

    meta: bytes
    source: Source
    scan: Scan


class Raw(bytes):
    """A part without exact bytes: `value` is the part. Only for readers of this process, and never stored: `why`."""

    value: object
    why: str

    @classmethod
    def of(cls, value: object, why: str = "not-json") -> Raw:
        """A value as a part."""
        raw = cls()
        raw.value, raw.why = value, why
        return raw


class Cut(Portable, ConnectionError):
    """A followed stream ended early; `flight` is its id. It is never cut without this error."""

    def __init__(self, message: str, flight: str = "") -> None:
        super().__init__(message)
        self.flight = flight


class Tape:
    """The parts of one answer, growing until it is `over`. Readers get its `error`, if any, after the last part."""

    def __init__(self, meta: bytes = b"") -> None:
        self.meta = meta
        self.size = 0  # bytes of all parts, dropped ones too
        self.over = False
        self.finished = False  # over, and no reader's leaving sets anything off
        self.error: BaseException | None = None
        self.held: Signal | None = None  # set while a pump waits for its readers
        # How many parts were dropped (a tape that no caller will join any more need not keep them), and the parts
        # that are kept. Replaced as one value, so that parts are read without a lock.
        self._kept: tuple[int, list[tuple[int, bytes]]] = (0, [])
        self._began = time.monotonic()
        # Each as a dict, which one step changes, and as a tuple, which is read at every part. Readers are weakly
        # referenced: a reader that is dropped has left.
        self._reading: dict[int, weakref.ref[Playback]] = {}
        self._leaving: dict[int, Owner | None] = {}
        self._extra_signals: dict[Signal, None] = {}
        self._readers: tuple[weakref.ref[Playback], ...] = ()
        self._signals: tuple[Signal, ...] = ()

    @classmethod
    def recorded(cls, log: bytes | memoryview) -> Tape:
        """A tape that is over, made from the frames of an entry; ValueError if they are no such frames."""
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
        """Whether its beginning was dropped."""
        return self._kept[0] > 0

    @property
    def readers(self) -> int:
        """How many readers it has now."""
        return len(self._reading)

    def put(self, at: int, data: bytes) -> None:
        """Add a part that arrived at `at` ms."""
        self._kept[1].append((at, data))
        self.size += len(data)

    def write(self, data: bytes) -> None:
        """Add a part that arrived now; wake the log's writer, for readers of other processes, and then those here."""
        # put() and wake() written out: every part of every stream passes here.
        self._kept[1].append((int((time.monotonic() - self._began) * 1000), data))
        self.size += len(data)
        # Threads run in the order in which they were woken: behind the readers here, the log would wait for them all.
        for signal in self._signals:
            signal.wake()
        for ref in self._readers:
            if (reader := ref()) is not None and reader.waiting:
                reader.signal.wake()

    def end(self, error: BaseException | None = None) -> None:
        """No more parts will come."""
        if self.over:
            return
        # One statement without a call, after a check: no other thread can come in between.
        self.error, self.over = error, True
        self.wake()

    def wake(self) -> None:
        """Wake everything that waits for the tape."""
        self.wake_readers()
        for signal in self._signals:
            signal.wake()

    def wake_readers(self) -> None:
        """Wake the readers that wait."""
        for ref in self._readers:  # not _here(): this runs for every part too
            if (reader := ref()) is not None and reader.waiting:
                reader.signal.wake()

    def _here(self) -> list[Playback]:
        return [reader for ref in self._readers if (reader := ref()) is not None]

    def join(self, reader: Playback) -> None:
        """Add a reader."""
        self._reading[id(reader)] = weakref.ref(reader)
        self._count()

    def leave(self, reader: Playback) -> int:
        """Remove a reader; return how many are left."""
        self._reading.pop(id(reader), None)
        self._count()
        return len(self._reading)

    def add_signal(self, signal: Signal) -> None:
        """Wake this signal too, although it is no reader."""
        self._extra_signals[signal] = None
        self._count()

    def remove_signal(self, signal: Signal) -> None:
        """Wake it no more."""
        self._extra_signals.pop(signal, None)
        self._count()

    def _count(self) -> None:
        """Copy the dicts to the tuples. If two threads do so, the last one sees the changes of both."""
        while True:
            readers, signals = tuple(self._reading.values()), tuple(self._extra_signals)
            self._readers, self._signals = readers, signals
            if (tuple(self._reading.values()), tuple(self._extra_signals)) == (readers, signals):
                return

    def leaving(self, reader: Playback, owner: Owner | None = None) -> None:
        """A reader is about to leave. It counts as a reader until `left`, while `owner` lives.

        Without an owner the reader is being collected, and the background thread will see to it.
        """
        self._leaving[id(reader)] = owner

    def left(self, reader: Playback) -> None:
        """A reader has left, and what follows from that is done."""
        self._leaving.pop(id(reader), None)

    def read_on(self) -> bool:
        """Whether there is a reader, or one that is about to leave."""
        return self.being_left() or any(ref() is not None for ref in self._readers)

    def being_left(self) -> bool:
        """Whether a reader is about to leave."""
        return any(owner is None or owner.alive() for owner in list(self._leaving.values()))

    def ahead(self) -> int:
        """How many parts even the fastest reader has not read."""
        return self.count - max((reader.at for reader in self._here()), default=0)

    def trim(self) -> None:
        """Drop the parts that every reader has passed."""
        base, parts = self._kept
        passed = min((reader.at for reader in self._here()), default=base) - base
        if passed:
            self._kept = base + passed, parts[passed:]

    def log(self, start: int = 0, stop: int | None = None) -> bytes:
        """The frames of parts `start` to `stop`. META precedes the first part, and is all of a log without parts."""
        parts = self._kept[1][start:stop]
        head = frame(META, self.meta) if start == 0 and (parts or (self.meta and stop is None)) else b""
        return head + data_frames(parts)


class _Awaited:
    """The owner of a leaving that was sent to a thread or a loop, until it begins: that may never run it."""

    def __init__(self, until: float) -> None:
        self._until = until

    def alive(self) -> bool:
        """Whether it may still begin."""
        return time.monotonic() < self._until


class Playback:
    """One reader's place on a tape.

    `pull`: reads a part from the source, at most until a given time.monotonic(); False if it did not, because another
    reader does, or because the time is up. `step`: the same without a coroutine, where it never has to wait for others.
    `left`: called when the last reader leaves. `defer`: runs something in the background thread.
    """

    def __init__(
        self,
        tape: Tape,
        mode: Mode,
        pull: Callable[[float], Awaitable[bool]] | None = None,
        left: Callable[[], Coroutine[Any, Any, None]] | None = None,
        defer: Callable[[Callable[[], object]], None] | None = None,
        step: Callable[[], bool] | None = None,
    ) -> None:
        self._closed = True
        self.tape = tape
        self._mode = mode
        self._defer = defer
        self.signal = mode.signal()
        self.waiting = False  # or about to wait: a wake-up must not be lost
        self.at = 0
        self.pace = 0.0  # of a replay: 1.0 is as recorded, 2.0 twice as fast, 0 at once
        self._began = time.monotonic()
        self._pull = pull
        self._step = step
        self._left = left
        self._closed = False
        tape.join(self)

    @property
    def meta(self) -> bytes:
        """What comes before the body."""
        return self.tape.meta

    def ready(self) -> tuple[int, bytes] | None:
        """The next part, if it is there, or can be read here without waiting for others; else `next` says what is."""
        if self.pace:
            return None
        base, parts = self.tape._kept  # noqa: SLF001 - as in next
        if self.at - base >= len(parts):
            if self._step is None or self.tape.over or not self._step():
                return None
            base, parts = self.tape._kept  # noqa: SLF001
            if self.at - base >= len(parts):
                return None
        self.at += 1
        return parts[self.at - base - 1]

    async def next(self, patience: float = LAST) -> tuple[int, bytes] | None:
        """The next part and its time in ms, None at the end; TimeoutError if none comes within `patience` s."""
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
                    tape.held.wake()
                return part
            if tape.over:
                if tape.error is not None:
                    raise tape.error
                return None
            until = until or time.monotonic() + patience
            if self._pull is not None and await self._pull(until):
                continue
            if time.monotonic() >= until:
                raise TimeoutError(f"no part of the stream arrived within {patience} s")
            await self._wait(until)

    async def _wait(self, until: float) -> None:
        self.waiting = True
        try:
            # Once more: what came before `waiting` was set did not wake this reader.
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
        """Leave. When the last reader leaves, that decides what becomes of the call."""
        if self._closed:
            return
        self._closed = True
        if self._left is None or self._mode.asynchronous:  # async: the call has its own task
            await self._leave()
            return
        owner = self._mode.owner()
        owner.work = owned(partial(self._leave, owner))
        await owner.work

    async def _leave(self, owner: Owner | None = None) -> None:
        # The reader counts until another owner is known: the background thread may look in between.
        if owner is not None:
            self.tape.leaving(self, owner)
        try:
            if self.tape.leave(self) == 0 and self._left is not None:
                await self._left()
        finally:
            self.tape.left(self)

    def __del__(self) -> None:
        # This may run anywhere: inside our own code, or while a lock is held. So it only leaves a note. It uses no name
        # of its module, because those are gone while the interpreter ends.
        if not getattr(self, "_closed", True) and self._defer is not None and not self.tape.finished:
            self.tape.leaving(self)
            self._defer(self._dropped)

    def _dropped(self) -> None:
        """Leave, in the background thread. Only the leaving of the last reader is sent to its own thread or loop.

        A thread or a callback for each reader would be slower than a program that drops them.
        """
        tape = self.tape
        if tape.readers <= 1 or tape.leave(self) == 0:
            tape.leaving(self, _Awaited(time.monotonic() + LEAVING))
            self._mode.send(self.signal, self.close)
        else:
            tape.left(self)
