"""``askonce ls`` and ``askonce show``: the entries of a store, one a line, or one in full."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from askonce.cache.stores import open_store
from askonce.cli import place, say
from askonce.cli.place import AsJson, Prefix, Url
from askonce.cli.totals import state_of
from askonce.core.keys import Key
from askonce.errors import AskonceError
from askonce.runtime.drive import drive
from askonce.store import Store, inventory
from askonce.store.inventory import Listed

SHORT = 16  # digits of a key in a list; show and invalidate want all of them, --json and --full have them
LIMIT = 50

Scope = Annotated[str | None, typer.Option("--scope", metavar="PATH", help="Only this scope and the scopes below it.")]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only entries with this tag.")]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only entries of this model.")]
Dead = Annotated[bool, typer.Option("--dead", help="Also entries that cannot be served any more.")]
Full = Annotated[bool, typer.Option("--full", help="Print whole keys, as show and invalidate need them.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Print at most this many.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="An answer's key, 64 hex digits (see ls --full).")]


@contextmanager
def opened(url: str | None, prefix: str | None) -> Iterator[Store]:
    """The store of a command that looks for what others left."""
    where = place.find_kept(url, prefix)
    store = open_store(where.url, prefix=where.prefix)
    try:
        yield store
    finally:
        drive(store.close())


def now_of(store: Store) -> float:
    """The store's clock, s since 1970: ours does not count."""
    return drive(store.look(Key(bytes(32), "v"), ())).now_us / 1_000_000


def ls(
    url: Url = None,
    prefix: Prefix = None,
    scope: Scope = None,
    tag: Tag = None,
    model: Model = None,
    dead: Dead = False,
    full: Full = False,
    limit: Limit = LIMIT,
    as_json: AsJson = False,
) -> None:
    """List the entries of the store.

    Each line shows an entry's key, state, remaining freshness, age, size, scope, model and tags. The entries have no
    order. The command reads the store in small steps until it has enough entries.
    """
    with opened(url, prefix) as store:
        now = now_of(store)
        found = drive(_found(store, limit, lambda one: _wanted(one, now, scope, tag, model, dead=dead)))
    if as_json:
        say.as_json([{**asdict(one), "state": state_of(one, now)} for one in found])
        return
    table = _table(found, now, full=full)
    console = say.console()
    # A pipe has no width: what reads it wants one line an entry.
    width = console.width if console.is_terminal else max(console.width, 200)
    console.print(table if found else "no such entries", width=width, soft_wrap=not found)
    if len(found) == limit:
        say.console().print(Text(f"only the first {limit} entries; use --limit for more", "dim"))


def show(key: KeyArgument, url: Url = None, prefix: Prefix = None, as_json: AsJson = False) -> None:
    """Show one answer: its details and its body."""
    wanted = Key.parse(key)
    with opened(url, prefix) as store:
        now = now_of(store)
        read = [drive(inventory.read(store, wanted._replace(form=form))) for form in ("v", "j", "s")]
    whole = [one for one in read if one is not None]
    if not whole:
        raise AskonceError(f"no entry has the key {key}: see askonce ls --full, and check --prefix")
    told = [{**asdict(entry), "state": state_of(entry, now), "body": _body(body)} for entry, body in whole]
    if as_json:
        say.as_json(told)
        return
    for one in told:
        _print(one, now)


async def _found(store: Store, limit: int, wanted: Any) -> list[Listed]:
    found: list[Listed] = []
    async for record, head, live in inventory.records(store):
        entry = inventory.listed(record, head, live)
        if wanted(entry):
            found.append(entry)
            if len(found) == limit:
                break
    return found


def _wanted(one: Listed, now: float, scope: str | None, tag: str | None, model: str | None, *, dead: bool) -> bool:
    if not dead and state_of(one, now) in {"invalidated", "over"}:
        return False
    below = scope is None or one.scope == scope or one.scope.startswith(scope + "/")
    return below and (tag is None or tag in one.tags) and (model is None or one.model == model)


def _table(found: list[Listed], now: float, *, full: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("key", "form", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("fresh for", "age", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("scope", "model", "tags"):
        table.add_column(heading, overflow="fold")
    for one in found:
        key = one.key if full else one.key[:SHORT]
        left, age = _span(one.fresh - now), _span(now - one.created)
        words = (say.text(word) for word in (one.scope, one.model, ", ".join(one.tags)))
        table.add_row(key, one.form, state_of(one, now), left, age, say.size(one.size), *words)
    return table


def _span(seconds: float) -> str:
    """A span for people: two of days, hours, minutes, seconds."""
    if seconds < 0:
        return "-" + _span(-seconds)
    for unit, name, small, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{name} {int(seconds % unit // small)}{less}"
    return f"{seconds:.0f}s"


def _body(body: bytes) -> Any:
    """A body as JSON where it is, else as text."""
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _print(told: dict[str, Any], now: float) -> None:
    console = say.console()
    grid = Table.grid(padding=(0, 2, 0, 0))
    dates = {name: told[name] for name in ("created", "fresh", "stale", "error")}
    for name in ("key", "form", "state", "scope", "model"):
        grid.add_row(name, say.text(str(told[name])))
    grid.add_row("tags", say.text(", ".join(told["tags"])))
    for name, at in dates.items():
        when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        ago = f"{_span(now - at)} ago" if at <= now else f"in {_span(at - now)}"
        grid.add_row(name if name == "created" else f"{name} until", f"{when}, {ago}")
    grid.add_row("call took", say.time(told["took"]))
    grid.add_row("size", say.size(told["size"]))
    console.print(grid)
    body = told["body"]
    say.prose(body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False))
