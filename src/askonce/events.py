"""The status of a lookup, the events of an engine, and their counts.

Every lookup ends in one Status, whose text is an RFC 9211 Cache-Status value. Everything else that happens is an Event,
whose name is one of a closed list. Counters, the log and the tests use the same events, so that they cannot disagree.
"""

from __future__ import annotations

import contextvars
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

log = logging.getLogger("askonce")


class _Printable(logging.Filter):
    """Escapes what does not print in texts of a store, a server or a request, so that none adds a line to the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        if not (text := record.getMessage()).isprintable():
            record.msg, record.args = printable(text), None
        return True


log.addFilter(_Printable())

WARNED = 1000  # different warnings that are remembered, and then no new ones: some name what others send

watching: contextvars.ContextVar[tuple[tuple[Events, list[Status]], ...]] = contextvars.ContextVar("watch", default=())


def left(blocks: contextvars.ContextVar[tuple[tuple[Any, Any], ...]], owner: object, mine: object) -> bool:
    """End the block of `mine` among those of this context; False if it began in another one, or others began in it.

    No token: many tasks may enter one block at once, and a token cannot be reset in another context.
    """
    inside = blocks.get()
    for at in reversed(range(len(inside))):
        if inside[at][0] is owner and inside[at][1] is mine:
            blocks.set((*inside[:at], *inside[at + 1 :]))
            return at == len(inside) - 1
    return False


ELSEWHERE = (
    "a block of cache.%s was left in another context than it was entered in, or not in order: calls inside it may have"
    " gone without it. A generator has no context of its own: write a dependency of FastAPI as `async def`, and"
    " elsewhere use the handle itself, as in cache.scoped(...).fetch_stream(...)"
)

NAMES: Mapping[str, str] = {
    "lookup": "a lookup ended; its status says how; data: model, tenant, seconds",
    "call": "an upstream call began; data, also of the next four: model, tenant",
    "called": "an upstream call ended; data: seconds, and the tokens if it told them",
    "failed": "an upstream call raised; detail: the exception's name",
    "stored": "an answer was stored",
    "unstored": "an answer was not stored; detail: the verdict's word",
    "refused": "the store refused a late or invalidated fill; detail: lost or moved",
    "lost": "a lease was lost while its flight continued",
    "takeover": "a flight began because the flight that was followed before it stopped its renewals",
    "refresh": "a background refresh began; detail: stale or early",
    "backoff": "a call failed, or a refresh was lost; all processes delay the next call",
    "slid": "the life of a hot key was extended",
    "saved": "an old answer was served because upstream failed; detail: upstream-...",
    "invalidated": "an invalidation was acknowledged",
    "unclassified": "an unknown request header or cookie counts in the key; detail: its name",
    "fresh-header": "a header in the key was new on every call of one request, so none can hit; detail: its name",
    "corrupt": "bytes under an entry's name were not an entry of askonce; detail: why",
    "trouble": "the store failed; detail: store-...",
    "open": "a breaker opened: the store is not used until a probe succeeds; detail: why; data: direction",
    "back": "the store answers again; data: direction (read, write or connect)",
    "disconnected": "the background thread lost its connection and opens another; detail: store-...",
    "near": "the near cache began or stopped; detail: on, idle (it goes on by itself), or why it cannot",
    "abandoned": "the last caller left a flight; detail: finish or close; data, of a stream: tokens",
    "dropped": "a flight or a refresh was dropped; detail: why",
}


@dataclass(slots=True)
class Status:
    """How one lookup ended, in the terms of RFC 9211; as text, a Cache-Status value.

    `key`: the question's, "" without one. `hit`: answered from the store. `fwd`: why upstream was asked (``miss``,
    ``stale``, ``request``, ``bypass``), "" if it was not. `stored`: the answer is in the store now. `collapsed`:
    another caller's call answered. `ttl`, `age`: whole seconds that the answer is still fresh (negative: stale), and
    since it was stored; None if that is not known. `detail`: a word that says more, such as ``store-timeout`` or
    ``truncated``.
    """

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
    """Something that happened. `name`: one of `askonce.events.NAMES`, which says what it means and has as `data`.

    `key`: the question's, or "" without one. `detail`: a word that says more. `status`: of a ``lookup``, None for all
    others. `data`: numbers and names by which events are counted (seconds, tokens, model, tenant).
    """

    name: str
    key: str = ""
    detail: str = ""
    status: Status | None = None
    data: Mapping[str, object] = field(default_factory=dict)


class Subject(Protocol):
    """What a lookup was about, as far as it is measured. `began`: of time.perf_counter(), or 0.0 if nobody measures."""

    model: str
    began: float

    @property
    def tenant(self) -> str:
        """The tenant that the caller named, or ""."""
        ...


class Observer(Protocol):
    """It measures lookups and events, in the threads where they happen. Unlike a listener it costs a hit no Event."""

    def looked_up(self, outcome: str, status: Status, subject: Subject | None, entry: bytes | None) -> None:
        """A lookup ended. `outcome` is one of OUTCOMES; `entry`: the stored bytes that it was answered from."""
        ...

    def happened(self, event: Event) -> None:
        """Anything else happened."""
        ...


Raised = dict[tuple[int, type[Exception]], object]  # which exceptions of which listener were told; kept, for its id
Surrounding = Callable[[Any], AbstractContextManager[object]]  # of a lookup's Subject
T = TypeVar("T")

RAISED = "a listener of askonce raised an exception (%r); its kind is not logged again"
OUTCOMES = ("hit", "miss", "collapsed", "stale", "request", "bypass")


def _count(counts: dict[str, int], name: str) -> None:
    """Count one. This is exact without a lock: Python switches threads and handles signals only at calls and at the
    ends of loops, and the addition has neither.
    """
    try:
        counts[name] += 1
    except KeyError:
        counts.setdefault(name, 0)
        counts[name] += 1


_all: weakref.WeakSet[Events] = weakref.WeakSet()
_everywhere: dict[object, tuple[Observer, Surrounding | None]] = {}


def observe_everywhere(observer: Observer, surrounding: Surrounding | None = None) -> Callable[[], None]:
    """`Events.observe` for all Events of this process, those made later too; returns a function that ends it."""
    mine = object()
    _everywhere[mine] = observer, surrounding
    for events in list(_all):
        events.joined(mine, observer, surrounding)

    def stop() -> None:
        _everywhere.pop(mine, None)
        for events in list(_all):
            events.left(mine)

    return stop


class Events:
    """An engine's counters and listeners; safe to use from any thread, and from a signal handler.

    There is no lock. Every lookup would hold it, and the lookup of a finaliser or a signal handler that runs at that
    moment would wait for it for ever.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self.near_hits = 0
        self._listeners: dict[object, Callable[[Event], None]] = {}
        self._observers: dict[object, Observer] = {}
        self._observing: tuple[Observer, ...] = ()  # the same, for the path of a hit
        self.observed = False  # lookups note when they began
        self.surroundings: dict[object, Surrounding] = {}
        self._warned: dict[str, object] = {}
        self._raised: Raised = {}
        _all.add(self)
        for mine, (observer, surrounding) in _everywhere.copy().items():
            self.joined(mine, observer, surrounding)

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call `listener` with every event, in the thread where it happens; returns a function that ends it."""
        mine = object()
        self._listeners[mine] = listener
        self._settle()
        return lambda: self.left(mine)

    def observe(self, observer: Observer, surrounding: Surrounding | None = None) -> Callable[[], None]:
        """Tell `observer` what happens, and enter `surrounding` around each lookup; returns a function that ends it."""
        mine = object()
        self.joined(mine, observer, surrounding)
        return lambda: self.left(mine)

    def joined(self, mine: object, observer: Observer, surrounding: Surrounding | None) -> None:
        """`observe`, until `left(mine)`."""
        self._observers[mine] = observer
        if surrounding is not None:
            self.surroundings[mine] = surrounding
        self._settle()

    def left(self, mine: object) -> None:
        """End a listener or an observer."""
        for among in (self._listeners, self._observers, self.surroundings):
            among.pop(mine, None)
        self._settle()

    def _settle(self) -> None:
        self._observing = tuple(self._observers.copy().values())
        self.observed = bool(self._listeners or self._observing)

    async def surrounded(self, subject: Subject, ask: Callable[..., Awaitable[T]], *asked: object) -> T:
        """``ask(*asked)`` inside all surroundings of a lookup."""
        with _Surroundings(self.surroundings, subject, self._raised):
            return await ask(*asked)

    def counts(self) -> dict[str, int]:
        """The number of lookups, in all and by outcome; of events, by name and by ``name.detail``."""
        outcomes = {name: number for name, number in self._outcomes.copy().items() if number}
        near = {"hit.near": self.near_hits} if self.near_hits else {}
        return {"lookups": sum(outcomes.values()), **outcomes, **near, **self._counts.copy()}

    def lookup(self, status: Status, subject: Subject | None = None, entry: bytes | None = None) -> None:
        """Record the end of a lookup. This is the hottest path: no Event is made without a listener."""
        outcome = "hit" if status.hit else "collapsed" if status.collapsed else status.fwd
        self._outcomes[outcome] += 1  # as in _count
        for events, seen in watching.get():
            if events is self:
                seen.append(status)
        if self.observed:
            self._tell_of_lookup(outcome, status, subject, entry)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", status)

    def emit(self, name: str, key: str = "", detail: str = "", **data: object) -> None:
        """Record an event of NAMES."""
        _count(self._counts, name)
        if detail:
            _count(self._counts, f"{name}.{detail}")
        if self.observed:
            event = Event(name, key, detail, None, data)
            for observer in self._observing:
                try:  # as in _safely
                    observer.happened(event)
                except Exception as error:  # noqa: BLE001 - it is told
                    _told(self._raised, observer, error)
            if self._listeners:
                self._tell(event)

    def warn_once(self, what: str, message: str, *args: object) -> None:
        """Log one WARNING for each `what` until `forgive`, so that a lasting failure does not fill the log."""
        mine = object()
        if len(self._warned) < WARNED and self._warned.setdefault(what, mine) is mine:
            log.warning(message, *args)

    def forgive(self, what: str) -> None:
        """The failure is over: warn again at the next one."""
        self._warned.pop(what, None)

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners.values()):
            _safely(self._raised, listener, event)

    def _tell_of_lookup(self, outcome: str, status: Status, subject: Subject | None, entry: bytes | None) -> None:
        for observer in self._observing:
            try:  # as in _safely
                observer.looked_up(outcome, status, subject, entry)
            except Exception as error:  # noqa: BLE001 - it is told
                _told(self._raised, observer, error)
        if self._listeners:
            data: dict[str, object] = {} if subject is None else {"model": subject.model, "tenant": subject.tenant}
            if subject is not None and subject.began:
                data["seconds"] = time.perf_counter() - subject.began
            self._tell(Event("lookup", status.key, status.detail, status, data))


def _safely(raised: Raised, listener: Callable[..., Any], *args: object) -> Any:
    try:
        return listener(*args)
    except Exception as error:  # noqa: BLE001 - it is told
        # A bug of a listener must not reach the caller: a metrics callback is not part of the answer.
        _told(raised, listener, error)


def _told(raised: Raised, listener: object, error: Exception) -> None:
    """Log a listener's exception, its kind only once: a listener that fails does so at every lookup."""
    whose = getattr(listener, "__self__", listener)
    kind = (id(whose), type(error))
    again = kind in raised or len(raised) >= WARNED
    if not again:
        raised[kind] = whose
    log.log(logging.DEBUG if again else logging.ERROR, RAISED, listener, exc_info=error)


class _Surroundings:
    """Enters surroundings around a lookup, and leaves them in reverse; their own exceptions end here."""

    def __init__(self, surroundings: Mapping[object, Surrounding], subject: Subject, raised: Raised) -> None:
        self._surroundings = tuple(surroundings.values())
        self._subject = subject
        self._raised = raised
        self._entered: list[tuple[Surrounding, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for surrounding in self._surroundings:
            try:
                context = surrounding(self._subject)
                context.__enter__()
                self._entered.append((surrounding, context))
            except Exception as error:  # noqa: BLE001 - it is told
                _told(self._raised, surrounding, error)

    def __exit__(self, *raised: object) -> None:
        for surrounding, context in reversed(self._entered):
            try:
                context.__exit__(*raised)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - it is told
                _told(self._raised, surrounding, error)


_JOINERS = "\u200c\u200d"  # parts of emoji and of several scripts: harmless in prose


def printable(text: str, keep: str = "") -> str:
    """The text with everything that does not print, but for what is in `keep`, as an escape in the way of Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escaped(one) for one in text)


def readable(text: str) -> str:
    """Printable prose: lines, tabs and joiners stay."""
    return printable(text, "\n\t" + _JOINERS)


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "surrogatepass").decode("ascii") if ord(one) != 0xA0 else " "
