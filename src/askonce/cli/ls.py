"""``askonce ls``: the entries of a store, one a line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from askonce.cli import say
from askonce.cli.columns import Column
from askonce.cli.labels import model_of, scope_of, tag_of
from askonce.cli.looking import looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.gateway.results import Filter, Row, Rows
from askonce.gateway.short_keys import SHORT
from askonce.runtime.drive import drive

LIMIT = 50
GONE = {"over": "expired", "invalidated": "invalid"}  # no longer than a span, so that all columns fit 60 cells

Scope = Annotated[
    str | None,
    typer.Option("--scope", metavar="PATH", callback=scope_of, help="Only this scope and the scopes below it."),
]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", callback=tag_of, help="Only entries with this tag.")]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", callback=model_of, help="Only entries of this model.")
]
Dead = Annotated[bool, typer.Option("--dead", help="Also entries that cannot be served any more.")]
Full = Annotated[bool, typer.Option("--full", help="All columns and whole keys, as in a pipe; nothing is cut.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Print at most this many.")]

# By importance: a narrow terminal leaves out the last ones. Form and tags are for --full, pipes and `askonce show`.
SCREEN = (
    Column("key"),
    Column("left", right=True),
    Column("age", right=True),
    Column("size", right=True),
    Column("scope", cut=True),
    Column("model", cut=True),
)
ALL = tuple(Column(one) for one in ("key", "form", "state", "left_s", "age_s", "size_bytes", "scope", "model", "tags"))


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

    A terminal shows one line for each entry: the beginning of its key, the freshness left, age, size, scope and model.
    A pipe gets tab-separated lines with whole keys and all columns, in seconds and bytes. The entries have no order.
    The command reads the store in small steps until it has enough entries.
    """
    wanted = Filter(scope, tag, model, dead=dead)
    with looking(url, prefix) as view:
        rows = drive(view.entries(wanted, limit))
    found, now = rows.entries, rows.now
    if as_json:
        say.as_json([asdict(one) for one in found])
        return
    say.listed(found, (ALL, lambda one: _whole(one, now)), (SCREEN, lambda one: _short(one, now)), full=full)
    _remark(rows, limit)


def _remark(rows: Rows, limit: int) -> None:
    # On standard error: what reads the lines of a pipe must not take it for one.
    if not rows.entries:
        say.sentence("no such entries", stderr=True)
    elif rows.more:
        note = f"only the first {say.count(limit, 'entry', 'entries')}; use --limit for more"
        say.sentence(Text(note, "dim"), stderr=True)


def _short(one: Row, now: float) -> list[str]:
    state = one.state
    left = say.span(one.fresh - now) if state == "fresh" else GONE.get(state, state)
    scope = one.scope if one.readable else f"(key {one.cipher} is not here)"
    words = (say.word(scope) or "-", say.word(one.model) or "-")
    return [one.key[:SHORT], left, say.span(now - one.created), say.short_size(one.size), *words]


def _whole(one: Row, now: float) -> list[str]:
    numbers = (f"{one.fresh - now:.0f}", f"{now - one.created:.0f}", str(one.size))
    words = (say.word(word) for word in (one.scope, one.model, ",".join(one.tags)))
    return [one.key, one.form, one.state, *numbers, *words]
