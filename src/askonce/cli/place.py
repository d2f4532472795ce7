"""The store of a command: the options that every command has, and the search for a store without them.

`askonce.cache.config` searches. This module adds the source of the URL, because people ask the doctor why it uses that
store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import typer

from askonce.cache import config
from askonce.cache.near import is_redis
from askonce.cache.stores import check_scheme
from askonce.core.urls import without_password
from askonce.errors import AskonceError, UsageError
from askonce.store.sqlite.store import path_of


def named(url: str | None) -> str | None:
    """The value of --url, for typer; UsageError if it is empty: a variable of a script that is not set."""
    if url is not None and not url.strip():
        raise UsageError("--url '' names no store: leave --url out, or write --url sqlite:///file.db")
    return url


def _url(what: str) -> Any:
    said = f"{what}. Default: $ASKONCE_URL, $REDIS_URL, a file in the cache folder."
    return typer.Option("--url", metavar="URL", callback=named, help=said)


Url = Annotated[str | None, _url("The store, or a gateway (http://)")]
StoreUrl = Annotated[str | None, _url("The store")]  # of a command that needs the store itself
Prefix = Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="The prefix. Default: $ASKONCE_PREFIX.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


PATIENCE = 5.0  # s that a store may take for one command of a person
TIMEOUTS = ("socket_timeout", "socket_connect_timeout")


class Place(NamedTuple):
    """A store's URL and a prefix, and who named them."""

    url: str
    source: str
    prefix: str
    prefix_source: str

    @property
    def variable(self) -> str:
        """The variable that names the store; "" if none does."""
        return self.source[1:] if self.source.startswith("$") else ""


def find(url: str | None, prefix: str | None) -> Place:
    """The place that a cache with these arguments uses. ConfigError for a URL that names no kind of store."""
    place = Place(config.find_url(url or _environment()), _source(url), config.find_prefix(prefix), _named(prefix))
    if not is_gateway(place.url):
        with config.naming(place.variable):
            check_scheme(place.url)
    return place


def find_kept(url: str | None, prefix: str | None) -> Place:
    """The same for a command that reads what other processes stored. It makes no store that is not there.

    UsageError for memory, AskonceError where nothing is stored yet.
    """
    place = find(url, prefix)
    if is_gateway(place.url):
        if prefix is not None:
            raise UsageError("a gateway has one prefix, which its configuration names: leave --prefix out")
        return place._replace(prefix="")
    if absent(place.url):
        raise AskonceError(
            f"nothing is stored yet: {without_password(place.url)} does not exist (named by {place.source});"
            " name another store with --url"
        )
    if place.url.partition(":")[0].lower() == "memory":
        raise UsageError("memory:// ends with its process, so it holds nothing here: name another store with --url")
    return place


def is_gateway(url: str) -> bool:
    """Whether a URL is a gateway's and not a store's."""
    return url.partition(":")[0].lower() in {"http", "https"}


def patience(url: str) -> dict[str, Any]:
    """Options of the store of a command: people wait longer than lookups may, which have 0.2 s. The URL goes before."""
    if not is_redis(url):
        return {}
    names = parse_qs(urlsplit(url).query)
    return {name: PATIENCE for name in TIMEOUTS if name not in names}


def absent(url: str) -> bool:
    """Whether a URL names a file that does not exist: opening it would make one."""
    return url.partition(":")[0].lower() == "sqlite" and not Path(path_of(url)).exists()


def _environment() -> str | None:
    # Passed like an argument: find_url would log what the command itself prints.
    return config.variable("ASKONCE_URL") or config.variable("REDIS_URL")


def _source(url: str | None) -> str:
    if url:
        return "--url"
    return next((f"${name}" for name in ("ASKONCE_URL", "REDIS_URL") if config.variable(name)), "the default")


def _named(prefix: str | None) -> str:
    if prefix is not None:
        return "--prefix"
    return "$ASKONCE_PREFIX" if config.variable("ASKONCE_PREFIX") else "the default"
