"""What the admin API, the page and the command line show: plain data, which has a JSON form (`plain`).

Dates are in s since 1970 by the store's clock, durations in s, sizes in bytes. No result has a prompt or an answer,
except an `Answer` that was asked for with its body.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any

from askonce.cache.totals import Group
from askonce.store.inventory import Listed

FLIGHTS = 1000  # that are read, unless told: the longest


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
    wait for it; `model`, `scope`: known of a flight that is here. `wanted`: a caller of another process has asked for
    it. `processes`: how many processes wait for it; None where the store does not know.
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
class Pulse:
    """What all processes did since the beginning of this day (UTC), and the flights now. `at`: by the store's clock.

    `lookups` ended as `hits`, `stale` (an old answer), `joined` (another caller's call) or `led` (their own call).
    `calls` went upstream, refreshes too. `passed` were not looked up; `unstored` answers came and were not stored.
    `usd`: US dollars saved.
    """

    at: float
    lookups: int
    hits: int
    stale: int
    joined: int
    led: int
    calls: int
    passed: int
    unstored: int
    usd: float
    flights: list[Flight]


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
