"""One line of JSON for each request, on demand: what was asked of which model, by whom, and how it ended.

A line has no prompt, no answer and no credential, and is always one line of ASCII: what does not print is escaped, what
is long or looks like a secret is left out. Columns that are not known are null, so that every line has the same ones.
"""

from __future__ import annotations

import contextvars
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from askonce.cache.base import base_of
from askonce.core.wording import with_method
from askonce.events import Event, Status, Subject, log
from askonce.metrics.saved import spent_on
from askonce.metrics.series import presentable
from askonce.runtime.readable import is_writable


class Writable(Protocol):
    """A text stream."""

    def write(self, text: str, /) -> object:
        """Write a text."""
        ...

    def flush(self) -> object:
        """Hand on what was written."""
        ...


Entry = bytes  # in Record, `bytes` is a column
PATIENCE = 0.1  # s that a line waits for a pipe that is full, before lines are left out


@dataclass(slots=True)
class Record:
    """What one line says. `status`: HTTP's; `bytes`: of the answer's body; `tokens_saved`: those of answers that were
    not paid again.
    """

    key: str = ""
    outcome: str = ""
    detail: str = ""
    model: str = ""
    tenant: str = ""
    status: int | None = None
    seconds: float | None = None
    bytes: int | None = None
    tokens_saved: int | None = None
    lookups: int = 0
    hits: int = 0

    def add(self, outcome: str, status: Status, subject: Subject | None, entry: Entry | None) -> None:
        """Note a lookup of this request. A batch has several: then the line says how many of them hit."""
        if entry is not None:
            self.tokens_saved = (self.tokens_saved or 0) + spent_on(entry).tokens
        self.lookups += 1
        self.hits += status.hit
        if self.lookups == 1:
            self.key, self.outcome, self.detail = status.key, outcome, status.detail
        else:
            self.key, self.detail = "", f"hits-{self.hits}-of-{self.lookups}"
            self.outcome = self.outcome if status.hit else outcome
        if subject is not None:
            self.model, self.tenant = subject.model, subject.tenant

    def line(self, now: float) -> str:
        """The line, with its end. `now`: s since 1970."""
        said: dict[str, Any] = {"time": _time(now), **asdict(self)}
        del said["lookups"], said["hits"]
        said |= {name: presentable(said[name]) for name in ("detail", "model", "tenant")}
        if self.seconds is not None:
            said["seconds"] = round(self.seconds, 6)
        return json.dumps(said, separators=(",", ":")) + "\n"


def _time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_current: contextvars.ContextVar[Record | None] = contextvars.ContextVar("request record", default=None)


class RequestLog:
    """An Observer that writes a line for each lookup, or, inside `request()`, for each request."""

    def __init__(self, stream: Writable) -> None:
        self._stream = stream
        self._stuck = False
        self._told: set[str] = set()

    def looked_up(self, outcome: str, status: Status, subject: Subject | None, entry: bytes | None) -> None:
        """Note a lookup in its request's record. Without one, write it."""
        record = _current.get()
        if record is not None:
            record.add(outcome, status, subject, entry)
            return
        record = Record()
        record.add(outcome, status, subject, entry)
        if subject is not None and subject.began:
            record.seconds = time.perf_counter() - subject.began
        if entry is not None:
            record.bytes = body_size(entry)
        self.write(record)

    def happened(self, event: Event) -> None:
        """Nothing: only lookups are requests."""

    @contextmanager
    def request(self) -> Iterator[Record]:
        """One line for all lookups made inside, in this thread or task; written at the end."""
        record, began = Record(), time.perf_counter()
        token = _current.set(record)
        try:
            yield record
        finally:
            _current.reset(token)
            record.seconds = time.perf_counter() - began
            self.write(record)

    def write(self, record: Record) -> None:
        """Write a line. A stream that fails, or takes nothing, is reported once, and never to the caller."""
        try:
            # A pipe whose reader stands still would hold up this request, and in a gateway all others, for as long.
            number = number_of(self._stream)
            self._stuck = number is not None and not is_writable(number, 0.0 if self._stuck else PATIENCE)
            if self._stuck:
                self._tell("the request log is not read: lines are left out until it is")
                return
            self._stream.write(record.line(time.time()))
            self._stream.flush()
        except Exception as error:  # noqa: BLE001 - full disks, closed files, pipes without a reader
            self._tell("the request log cannot be written: %r", error)

    def _tell(self, text: str, *about: object) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning(text, *about)


def number_of(stream: Writable) -> int | None:
    """The number of the file that a stream writes to, None if it is no file."""
    try:
        found = stream.fileno()  # type: ignore[attr-defined]  # of files
    except (AttributeError, OSError, ValueError):
        return None
    return found if isinstance(found, int) else None


def body_size(entry: bytes) -> int:
    """Bytes of a stored answer's body."""
    return len(entry) - int.from_bytes(entry[4:8], "big")


def log_requests(cache: Any, stream: Writable | None = None) -> Callable[[], None]:
    """askonce.request_log."""
    base = base_of(cache, "request_log")
    with_method("stream", stream, "write", "a text stream, such as sys.stdout, or None for stderr")
    return base.events.observe(RequestLog(stream or sys.stderr))
