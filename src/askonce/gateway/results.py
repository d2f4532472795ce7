"""What the admin API, the page and the command line show: plain data, which has a JSON form (`plain`).

Dates are in s since 1970 by the store's clock, durations in s, sizes in bytes. No result has a prompt or an answer,
except an `Answer` that was asked for with its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from askonce.cache.totals import Group
from askonce.store.inventory import Listed


def plain(told: Any) -> Any:
    """The JSON form of a result. A body is taken as it is: it may nest deeply."""
    if is_dataclass(told):
        return {one.name: _plain_field(one, getattr(told, one.name)) for one in fields(told)}
    if isinstance(told, Mapping):
        return {name: plain(one) for name, one in told.items()}
    return [plain(one) for one in told] if isinstance(told, list | tuple) else told


def _plain_field(one: Field[Any], value: Any) -> Any:
    return value if one.name == "body" else plain(value)


@dataclass(frozen=True, slots=True)
class About:
    """What a gateway says of itself: askonce's version, its store without a password, its prefix, the store's clock."""

    version: str
    store: str
    prefix: str
    now: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The entries of a store's prefix, counted by state, scope and model. `store`: the address, without a password."""

    store: str
    prefix: str
    all: Group
    states: dict[str, int]
    scopes: dict[str, Group]
    models: dict[str, Group]


@dataclass(frozen=True, slots=True)
class Row(Listed):
    """An entry in a list. `state`: ``fresh``, ``stale``, ``error`` (only on error), ``over`` or ``invalidated``."""

    state: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries a list has: of a scope and the scopes below it, with a tag, of a model, whose key begins so.

    `dead`: also those that cannot be served any more.
    """

    scope: str | None = None
    tag: str | None = None
    model: str | None = None
    key: str = ""
    dead: bool = False

    def accepts(self, one: Listed, state: str) -> bool:
        """Whether the list has this entry, which is in this state."""
        if not self.dead and state in {"invalidated", "over"}:
            return False
        below = self.scope is None or one.scope == self.scope or one.scope.startswith(self.scope + "/")
        labelled = (self.tag is None or self.tag in one.tags) and (self.model is None or one.model == self.model)
        return below and labelled and one.key.startswith(self.key)


@dataclass(frozen=True, slots=True)
class Rows:
    """Entries in no order. `more`: there may be others; `now`: the store's clock."""

    entries: list[Row]
    more: bool
    now: float


@dataclass(frozen=True, slots=True)
class Answer(Row):
    """One form of one entry. `body`: as JSON where it is, else as text; None if it was not asked for.

    `unreadable`: why there is no body although it was asked for.
    """

    body: Any = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """The forms of one entry: a question may have a JSON answer and a stream. `now`: the store's clock."""

    forms: list[Answer]
    now: float


@dataclass(frozen=True, slots=True)
class Flight:
    """An upstream call under way, in any process that uses the store.

    `key`: the first 32 digits of its key. `seconds`: how long it has run. `deadline`: when another process may take it
    over, unless it is renewed before. `here`: it runs in this process; `followers`: the callers of this process that
    wait for it. `wanted`: a caller of another process has asked for it. `processes`: how many processes wait for it;
    None where the store does not know.
    """

    key: str
    form: str
    since: float
    seconds: float
    deadline: float
    here: bool
    followers: int
    wanted: bool
    processes: int | None
    model: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Hot:
    """An answer that was given often: its hits of the day."""

    key: str
    hits: int
    model: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why requests passed, and why answers were not stored: how often each reason (a status detail), of all processes.

    `since`: the beginning of the first day that counts.
    """

    since: float
    passed: dict[str, int] = field(default_factory=dict)
    unstored: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Durations, s: of `count` of them, half were below `p50`."""

    count: int
    p50: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How long hits and upstream calls took. None where nothing was measured."""

    hits: Quantiles | None
    upstream: Quantiles | None


@dataclass(frozen=True, slots=True)
class Step:
    """Lookups of all processes in one step of time that begins at `at`. `outcomes`: by events.OUTCOMES."""

    at: float
    lookups: int
    hits: int
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The part of lookups that were hits; 0 without lookups."""
        return self.hits / self.lookups if self.lookups else 0.0


@dataclass(frozen=True, slots=True)
class Miss:
    """A lookup that went upstream, and why: `reason` is a word, `said` a sentence."""

    at: float
    key: str
    model: str
    scope: str
    reason: str
    said: str


@dataclass(frozen=True, slots=True)
class Invalidated:
    """What an invalidation reached. `aim`: what was selected; `reached`: the live entries, only in a dry run."""

    prefix: str
    aim: dict[str, Any]
    dry_run: bool
    reached: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep met and deleted."""

    prefix: str
    met: int
    deleted: int
