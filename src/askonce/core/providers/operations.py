"""The operation that a request names by host, path and body together.

A provider's own host has exact paths. At any other host, the steps before the operation's own path must look like a
base URL: nothing, a version, or a word that gateways use for the API they speak. `/v1/surveys/7/responses` ends like an
operation, but an item of a collection stands before it. The body decides last (Api.asks); if one path serves several
APIs, the body also says which.

A path is taken as it is spelled. Doubled or trailing slashes, parameters after a semicolon and dot segments pass,
because only the server knows what they name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from askonce.core.providers import APIS, CARRIERS, Api
from askonce.core.providers.api import Body, Path, anywhere
from askonce.core.providers.bounded import lru_cache_of_short
from askonce.core.providers.named_tuples import NamedTuple

__all__ = ["Operation", "agreed", "model_of", "operation_at"]

Served = tuple[tuple[Api, Callable[[Body, bool], bool]], ...]


class Operation(NamedTuple):
    """What host and path name: the API, whether a stream is requested, the model (or ""), the path without that.

    `provider`: whose own host it is, "" for any other. `served`: the possible APIs and the test of a body for each, the
    likeliest first. `framed`: its streams are AWS event streams, not server-sent events.
    """

    api: Api
    streamed_by_path: bool
    model: str
    path: str
    provider: str = ""
    served: Served = ()
    framed: bool = False


def agreed(operation: Operation, body: dict[str, Any]) -> Operation | None:
    """The operation, confirmed and completed by the body; None if the body fits none of its APIs."""
    named = bool(operation.model or operation.provider)
    for api, asks in operation.served:
        if asks(body, named):
            return operation if api is operation.api else operation._replace(api=api)
    return None


def model_of(operation: Operation, body: object) -> str:
    """The requested model, "" if unsaid: the URL's if it names one, because the server reads no other."""
    named = operation.model or (body.get("model") if isinstance(body, dict) else None)
    return named if isinstance(named, str) else ""


# --- paths -------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A path and the APIs served there. `whole`: a pattern of all of it; `ends`: of its end, at a mirror of a host."""

    path: Path
    served: Served
    whole: re.Pattern[str]
    ends: re.Pattern[str]


def _row(path: Path, served: Served) -> _Row:
    end = f"(?:{'|'.join(map(re.escape, path.ends))})" if path.ends else ""
    before = "" if path.at else r"(?P<base>(?:/[^/;]+)*?)"
    whole = re.compile(f"{before}(?:{path.pattern}){end}")
    return _Row(path, served, whole, re.compile(f"{whole.pattern}$") if path.at else whole)


def _rows() -> Iterator[_Row]:
    for api in APIS:
        yield from (_row(path, ((api, api.asks),)) for path in api.paths)
    for carrier in CARRIERS:
        yield from (_row(path, carrier.apis) for path in carrier.paths)


_AT: dict[str, list[_Row]] = {}
for _one in _rows():
    _AT.setdefault(_one.path.at, []).append(_one)
_ANYWHERE = sorted(_AT.pop(""), key=lambda row: row.path.fits is anywhere)  # those with a condition first
_ODD = re.compile(r"//|/\.{1,2}(?:/|$)|%2e", re.IGNORECASE)

_Found = tuple[re.Match[str], _Row]


@lru_cache_of_short(1024)
def operation_at(method: str, path: str, provider: str, *, mirrored: bool = False) -> Operation | None:
    """The operation of a request line; None if it is no known one.

    `mirrored`: at a host that stands for the provider's, under any base URL.
    """
    from urllib.parse import unquote  # only HTTP needs it

    path = path.partition("?")[0]
    if method != "POST" or _ODD.search(path):
        return None
    found = _exactly(path, provider, mirrored=mirrored)
    if found is None and (mirrored or provider not in _AT):
        found = _somewhere(path)
    if found is None:
        return None
    match, row = found
    model = unquote(match.groupdict().get("model") or "")
    if not row.path.settled(model):
        return None
    matched = match[0]  # at a mirror, the steps before do not count
    plain, streamed = row.path.ends or ("", "")
    asks_stream = bool(streamed) and matched.endswith(streamed)
    if asks_stream:
        matched = matched.removesuffix(streamed) + plain
    return Operation(row.served[0][0], asks_stream, model, matched, provider, row.served, row.path.framed)


def _exactly(path: str, provider: str, *, mirrored: bool) -> _Found | None:
    """At a provider's own host, the whole path matches; at a mirror of it, the end of the path."""
    for row in _AT.get(provider, ()):
        if match := row.ends.search(path) if mirrored else row.whole.fullmatch(path):
            return match, row
    return None


def _somewhere(path: str) -> _Found | None:
    for row in _ANYWHERE:
        if (match := row.whole.fullmatch(path)) and row.path.fits(match["base"].split("/")[1:]):
            return match, row
    return None
