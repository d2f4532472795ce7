"""What can be seen of askonce: the status of a lookup, the events of an engine, and their counts.

Every lookup ends in one Status, whose text is an RFC 9211 Cache-Status value; everything else that happens is an Event
with a name of a closed list. Counters, the log and the tests feed on the same events, so that none of them can tell a
different story.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from askonce.core.text import printable

log = logging.getLogger("askonce")


class _Printable(logging.Filter):
    """What a store, a server or a request says is shown by its escapes: no text makes two lines of one in a log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        if not (text := record.getMessage()).isprintable():
            record.msg, record.args = printable(text), None
        return True


log.addFilter(_Printable())

watching: contextvars.ContextVar[tuple[tuple[Events, list[Status]], ...]] = contextvars.ContextVar("watch", default=())

NAMES: Mapping[str, str] = {
    "lookup": "a lookup ended; its status says how",
    "call": "an upstream call began",
    "called": "an upstream call ended; data: seconds",
    "failed": "an upstream call raised; detail: the exception's name",
    "stored": "an answer was stored",
    "unstored": "an answer was not stored; detail: the verdict's word",
    "refused": "the store refused a late or invalidated fill; detail: lost or moved",
    "lost": "a lease was lost while its flight went on",
    "takeover": "a flight began because the one followed before it went silent",
    "refresh": "a background refresh began; detail: stale or early",
    "backoff": "a refresh failed and was put off for the fleet",
    "slid": "a hot key's life was lengthened",
    "saved": "an old answer was served because upstream was in trouble; detail: upstream-...",
    "invalidated": "an invalidation was acknowledged",
    "unclassified": "a request header that no class knows counts in the key; detail: its name",
    "corrupt": "bytes under our name were no entry of ours; detail: why",
    "trouble": "the store could not do something; detail: store-...",
    "open": "the breaker opened: the store is left alone until a probe succeeds",
    "back": "the store answers again",
    "abandoned": "the last caller left a flight; detail: finish or close; data, of a stream: tokens",
    "dropped": "a flight or refresh was given up; detail: why",
}


@dataclass(slots=True)
class Status:
    """How one lookup ended, in the words of RFC 9211. `ttl` and `age` in whole seconds; a negative ttl is stale."""

    key: str
    hit: bool = False
    fwd: str = ""
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str = ""
    age: int | None = None

    def __str__(self) -> str:
        parts = ["askonce"]
        if self.hit:
            parts.append("hit")
        if self.fwd:
            parts.append(f"fwd={self.fwd}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.key:
            parts.append(f'key="{self.key}"')
        if self.detail:
            parts.append(f"detail={self.detail}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `name` is one of NAMES, `key` the question's, "" where there is none."""

    name: str
    key: str = ""
    detail: str = ""
    status: Status | None = None
    data: Mapping[str, object] = field(default_factory=dict)


class Events:
    """An engine's counters and listeners; safe to use from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._outcomes: dict[str, int] = {}
        self._listeners: tuple[Callable[[Event], None], ...] = ()
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every event, in the thread where it happens; returns what ends it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return stop

    def counts(self) -> dict[str, int]:
        """Lookups, and those by outcome; events by name, and by ``name.detail`` where there is one."""
        with self._lock:
            return {"lookups": sum(self._outcomes.values()), **self._outcomes, **self._counts}

    def lookup(self, status: Status) -> None:
        """A lookup ended. The hottest line of the project: no Event is made where nobody listens."""
        outcome = "hit" if status.hit else "collapsed" if status.collapsed else status.fwd
        with self._lock:
            self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
        for events, seen in watching.get():
            if events is self:
                seen.append(status)
        if self._listeners:
            self._tell(Event("lookup", status.key, status.detail, status))
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", status)

    def emit(self, name: str, key: str = "", detail: str = "", **data: object) -> None:
        """Something of NAMES happened."""
        with self._lock:
            self._counts[name] += 1
            if detail:
                self._counts[f"{name}.{detail}"] += 1
        if self._listeners:
            self._tell(Event(name, key, detail, None, data))

    def warn_once(self, what: str, message: str, *args: object) -> None:
        """One WARNING for each `what` until `forgive`; a trouble that lasts must not fill a log."""
        with self._lock:
            if what in self._warned:
                return
            self._warned.add(what)
        log.warning(message, *args)

    def forgive(self, what: str) -> None:
        """The trouble is over: the next one is new."""
        with self._lock:
            self._warned.discard(what)

    def after_fork(self) -> None:
        """The parent's threads may have held the lock; in the child nobody will release it."""
        self._lock = threading.Lock()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                # A listener's bug must not become the caller's: a metrics callback is not part of the answer.
                log.exception("a listener of askonce raised")
