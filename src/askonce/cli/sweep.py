"""``askonce sweep``: takes away what no lookup can reach any more."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from askonce.cache import config
from askonce.cache.stores import open_store
from askonce.cli import place, say
from askonce.cli.looking import looking_at
from askonce.cli.place import AsJson, Place, Prefix, Url, patience
from askonce.errors import UsageError
from askonce.gateway.results import Swept
from askonce.gateway.view import RATE
from askonce.runtime.drive import drive
from askonce.store import Store, inventory

OldPrefix = Annotated[
    list[str] | None,
    typer.Option(
        "--old-prefix", metavar="TEXT", help="Also delete all of a prefix that is no longer used; may be repeated."
    ),
]
Rate = Annotated[int, typer.Option("--rate", metavar="N", min=1, help="Process at most this many entries a second.")]


def sweep(
    url: Url = None,
    prefix: Prefix = None,
    old_prefix: OldPrefix = None,
    rate: Rate = RATE,
    as_json: AsJson = False,
) -> None:
    """Delete entries that no lookup can reach any more.

    These are invalidated entries and, with --old-prefix, all entries of an old prefix. The command works in small
    steps at a limited rate. It is safe to stop it at any time, and to run it again. It is optional: all entries are
    also deleted when they expire.
    """
    current = place.find_kept(url, prefix)
    old = tuple(old_prefix or ())
    if current.prefix in old:
        raise UsageError(
            f"the prefix {current.prefix!r} is in use (named by {current.prefix_source}): name another one"
        )
    if old and place.is_gateway(current.url):
        raise UsageError("--old-prefix needs the store itself: name its URL, and not the gateway's")
    swept = _swept(current, rate)
    razed = {one: _razed(current._replace(prefix=one), rate) for one in old}
    if as_json:
        say.as_json({**asdict(swept), "old_prefixes": razed})
        return
    dead = say.count(swept.deleted, "invalidated entry", "invalidated entries")
    say.sentence(f"{say.count(swept.met, 'entry', 'entries')} read, {dead} deleted")
    for one, gone in razed.items():
        say.sentence(f"{say.count(gone, 'entry', 'entries')} of the old prefix {one!r} deleted")


def _swept(place: Place, rate: int) -> Swept:
    with looking_at(place) as view, say.console(stderr=True).status("sweeping") as status:
        return drive(view.sweep(rate, lambda met, dead: status.update(f"{met:,} entries read, {dead:,} deleted")))


def _razed(place: Place, rate: int) -> int:
    with config.naming(place.variable):
        store = open_store(place.url, prefix=place.prefix, **patience(place.url))
    try:
        return drive(_emptied(store, place.prefix, rate))
    finally:
        drive(store.close())


async def _emptied(store: Store, prefix: str, rate: int) -> int:
    gone = 0
    pace = _Pace(rate)
    with say.console(stderr=True).status("sweeping") as status:
        async for gone in inventory.raze(store):
            status.update(f"{gone:,} entries of {prefix!r} deleted")
            pace.keep(gone)
    return gone


class _Pace:
    """Waits so that no more than `rate` things are done a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._begun = time.monotonic()

    def keep(self, done: int) -> None:
        """Wait until so many may have been done."""
        time.sleep(max(0.0, done / self._rate - (time.monotonic() - self._begun)))
