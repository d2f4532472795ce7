"""``askonce show``: one answer, with its details and its body."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from askonce.cache import sealing
from askonce.cli import keys, say
from askonce.cli.kept import now_of, opened
from askonce.cli.place import AsJson, Prefix, Url, find_kept
from askonce.cli.totals import state_of
from askonce.core.keys import Key
from askonce.errors import AskonceError, UsageError
from askonce.runtime.drive import drive
from askonce.store import Store, inventory
from askonce.store.inventory import Listed

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="An answer's key, or the digits that it begins with.")]
Raw = Annotated[bool, typer.Option("--raw", help="Only the body, byte for byte, also what a terminal would obey.")]


def show(key: KeyArgument, url: Url = None, prefix: Prefix = None, raw: Raw = False, as_json: AsJson = False) -> None:
    """Show one answer: its details and its body.

    The beginning of a key is enough if no other key begins in the same way. Characters that do not print are shown as
    text.
    """
    if raw and as_json:
        raise UsageError("--raw prints bytes and --json prints JSON: give one of them")
    with opened(find_kept(url, prefix)) as store:
        now = now_of(store)
        found = _forms(store, keys.whole(store, [key])[0])
    if not found:
        raise AskonceError(f"no entry has the key {key}: see askonce ls --full, and check --url and --prefix")
    told = [_told(entry, body, now) for entry, body in found]
    if as_json:
        say.as_json(told)
    elif raw:
        sys.stdout.buffer.write(b"".join(_raw(*one) for one in found))
    else:
        for one in told:
            _print(one, now)


def _forms(store: Store, key: Key) -> list[tuple[Listed, bytes | None]]:
    """The entries of a key: a question may have a JSON answer and a stream."""
    codec = sealing.codec_of(None, None)
    read = [drive(inventory.read(store, key._replace(form=form), codec)) for form in ("v", "j", "s")]
    return [one for one in read if one is not None]


def _told(entry: Listed, body: bytes | None, now: float) -> dict[str, Any]:
    why = {} if body is not None else {"why": _unreadable(entry)}
    return {**asdict(entry), "state": state_of(entry, now), "body": None if body is None else _body(body), **why}


def _raw(entry: Listed, body: bytes | None) -> bytes:
    if body is None:
        raise AskonceError(_unreadable(entry))
    return body


def _unreadable(entry: Listed) -> str:
    """Why the body of an entry cannot be shown."""
    if entry.cipher:
        return f"encrypted with key {entry.cipher}, which is not here ($ASKONCE_KEYS), or is another key of that name"
    return f"compressed ({entry.codec}), and this installation cannot read it: pip install 'askonce[zstd]'"


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
        ago = f"{say.span(now - at)} ago" if at <= now else f"in {say.span(at - now)}"
        grid.add_row(name if name == "created" else f"{name} until", f"{when}, {ago}")
    grid.add_row("call took", say.time(told["took"]))
    grid.add_row("size", say.size(told["size"]))
    for name, stored in (("codec", told["codec"]), ("cipher", told["cipher"] and f"AES-256-GCM, key {told['cipher']}")):
        if stored:
            grid.add_row(name, say.text(stored))
    console.print(grid)
    body = told.get("why", told["body"])
    say.prose(body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False))
