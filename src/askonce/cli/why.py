"""``askonce why``: why a lookup ended as it did, or would; without a key, the last misses."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from askonce.cli import say
from askonce.cli.columns import Column, lines
from askonce.cli.invalidate import number
from askonce.cli.looking import Viewed, looking
from askonce.cli.place import AsJson, Prefix, Url
from askonce.cli.reading import request_in
from askonce.core.why import KINDS, Miss, Why
from askonce.errors import UsageError
from askonce.gateway.short_keys import SHORT, checked
from askonce.http.plain_request import PlainRequest
from askonce.runtime.drive import drive

LIMIT = 20
NEVER = "never asked before, and "

KeyOrRequest = Annotated[
    str | None,
    typer.Argument(
        metavar="[KEY|-]",
        help="A key, or the digits that it begins with; - reads a request as JSON from standard input.",
    ),
]
Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="With -: the request's model.")]
To = Annotated[
    str | None, typer.Option("--to", metavar="URL", help="With -: the API's URL, if an HTTP client sends the request.")
]
Headers = Annotated[
    list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="With --to: a header; may be repeated.")
]
Stream = Annotated[bool, typer.Option("--stream", help="With -: as fetch_stream asks it.")]
Scope = Annotated[str | None, typer.Option("--scope", metavar="PATH", help="With -: the request's scope.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="With -: a tag; may be repeated.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="With -: its tenant.")]
Variant = Annotated[str | None, typer.Option("--variant", metavar="TEXT", help="With -: its variant.")]
Full = Annotated[bool, typer.Option("--full", help="All columns, as in a pipe; nothing is cut.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Without a key: list at most this many.")]

ONE = tuple(Column(name) for name in ("reason", "key", "field", "kind", "when", "by", "nearest", "sentence"))
SCREEN = (Column("key"), Column("age", right=True), Column("why", cut=True), Column("model", cut=True))
ALL = (*(Column(name) for name in ("at", "model", "scope", "stored", "detail")), *ONE)


def why(
    key: KeyOrRequest = None,
    url: Url = None,
    prefix: Prefix = None,
    model: Model = None,
    to: To = None,
    header: Headers = None,
    stream: Stream = False,
    scope: Scope = None,
    tag: Tags = None,
    tenant: Tenant = None,
    variant: Variant = None,
    limit: Limit = LIMIT,
    full: Full = False,
    as_json: AsJson = False,
) -> None:
    """Say why a lookup missed, or would.

    What was seen and is gone, or which field differs from the nearest earlier request, and how. With a key, the command
    explains what became of it: why it was last asked, or why its answer is gone. With -, it explains
    what a request would find now; nothing is asked. Without either, it lists the last misses of all processes. A
    terminal shows tables, and a pipe gets tab-separated lines with all columns, times in seconds since 1970. The exit
    code is 0 if there is an explanation, and 1 if nothing is noted of the key, or the store cannot be read.
    """
    own = {"scope": scope, "tags": tag, "tenant": tenant, "variant": number(variant), "stream": stream or None}
    said = {name: value for name, value in {"model": model, "to": to, "header": header, **own}.items() if value}
    if key is not None and key != "-":
        checked(key)
    if said and key != "-":
        raise UsageError(f"--{next(iter(said)).removesuffix('s')} needs -: a request as JSON on standard input")
    with looking(url, prefix) as view:
        if key is None:
            _list(view, limit, full=full, as_json=as_json)
            return
        told = drive(view.why(**_asked(said))) if key == "-" else drive(view.why(key))
    _tell(told, full=full, as_json=as_json)
    if told.reason in {"unknown", "store-trouble"}:
        raise typer.Exit(1)


def _asked(said: dict[str, Any]) -> dict[str, Any]:
    """The arguments of View.why for a request on standard input."""
    request = request_in("-")
    model, to, headers = said.pop("model", None), said.pop("to", None), said.pop("header", ())
    if model:
        if not isinstance(request, dict):
            raise UsageError("--model needs a request that is a JSON object")
        request = {**request, "model": model}
    if headers and not to:
        raise UsageError("--header needs --to: the URL that the request is sent to")
    return {**said, "request": PlainRequest.of(to, headers, request) if to else request}


def _list(view: Viewed, limit: int, *, full: bool, as_json: bool) -> None:
    found = drive(view.misses(limit))
    if as_json:
        say.as_json([asdict(one) for one in found])
        return
    now = drive(view.now()) if found and say.console().is_terminal else 0.0
    say.listed(found, (ALL, _whole), (SCREEN, lambda one: _short(one, now)), full=full)
    if not found:
        say.sentence("no misses are noted", stderr=True)


def _short(one: Miss, now: float) -> list[str]:
    words = (say.word(_brief(one.why)), say.word(one.model) or "-")
    return [one.key[:SHORT], say.span(max(0.0, now - one.at)), *words]


def _brief(told: Why) -> str:
    """The end of the sentence that differs from line to line: most misses were never asked before."""
    if told.reason == "near" and told.kind in KINDS:
        return f"{told.field} {KINDS[told.kind]}"
    return told.sentence.removeprefix(NEVER)


def _whole(one: Miss) -> list[str]:
    words = (say.word(word) for word in (one.model, one.scope))
    return [f"{one.at:.3f}", *words, "yes" if one.stored else "no", say.word(one.detail), *_columns(one.why)]


def _columns(told: Why) -> list[str]:
    when = "" if told.when is None else f"{told.when:.3f}"
    words = (told.field, told.kind, when, told.by, told.nearest, told.sentence)
    return [told.reason, told.key, *map(say.word, words)]


def _tell(told: Why, *, full: bool, as_json: bool) -> None:
    if as_json:
        say.as_json(asdict(told))
        return
    console = say.console()
    if full or not console.is_terminal:
        say.raw(lines(ONE, [_columns(told)]))
        return
    also = ", ".join(one.field for one in told.others)
    rows = {"why": told.sentence, "reason": told.reason, "field": told.field, "also": also, "nearest": told.nearest}
    say.details([(name, text) for name, text in {**rows, "key": told.key}.items() if text])
