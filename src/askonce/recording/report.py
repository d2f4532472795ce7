"""What a recording tells those who run tests: what is missing and how it differs, and what was not recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from askonce.events import printable

SHOWN = 8  # differing fields shown of the nearest request
LONG = 60  # characters of a value

Said = dict[str, Any]

_WHY = {
    "unknown-path": "askonce does not know this operation",
    "unknown": "askonce does not know this operation",
    "body-mismatch": "its body does not fit the operation of its path",
    "normalize-failed": "normalize= failed, or returned nothing usable",
    "stream": "askonce does not read this kind of stream",
    "streamed-body": "its body is a stream, which only its sender may read",
    "large-body": "its body is too large",
    "no-json-request": "its body is not JSON",
    "encoded-body": "its body is compressed",
    "bad-settings": "one of its askonce headers is invalid",
    "incomplete": "its stream was cut",
    "not-sse": "its stream was cut, or is not an event stream",
    "error": "a temporary error came instead of an answer",
    "not-json": "its answer is not JSON",
    "too-large": "its answer is too large",
    "hidden-place": "it was redirected to a URL of which a file must not show everything",
    "closed": "its stream was still under way when the test ended",
    "abandon-limit": "its readers left its stream, and it did not end in time",
}


def why(reason: str) -> str:
    """A one-word reason as the end of a sentence."""
    status = re.fullmatch(r"(?:status|upstream)-(\d{3})", reason)
    if status:
        return f"its answer was status {status[1]}, which is temporary"
    known = _WHY.get(reason)
    return known or f"the call failed: {reason.removeprefix('upstream-')}"


def title(request: Said, form: str = "") -> str:
    """A request as one line."""
    body = request.get("body")
    model = body.get("model") if isinstance(body, dict) else None
    parts = (request.get("asked", "a question"), "(a stream)" if form == "s" else "", model and f"model={model}")
    return printable(" ".join(str(part) for part in parts if part))


def missing(request: Said, form: str, asked: int, recorded: int, neighbours: list[tuple[str, Said]]) -> list[str]:
    """How a question that is not recorded, or not this often, differs from the nearest recorded one."""
    if recorded:
        times = "once" if recorded == 1 else f"{recorded} times"
        return [f"    asked {asked} times in this test, and recorded {times}: each time needs a recorded answer"]
    here = _form(request, form)
    differing = [_differing(here, _form(other, kind)) for kind, other in neighbours]
    if not differing:
        return ["    no similar request is recorded"]
    nearest = min(differing, key=len)
    more = [f"      and {len(nearest) - SHOWN} more"] if len(nearest) > SHOWN else []
    return [f"    the most similar recorded request differs in {len(nearest)} field(s):", *nearest[:SHOWN], *more]


def _form(request: Said, form: str) -> dict[str, str]:
    return {**dict(_flat(request)), "stream": str(form == "s")}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for at, item in enumerate(value):
            yield from _flat(item, f"{path}[{at}]")
    else:
        yield path, repr(value)


def _differing(here: dict[str, str], there: dict[str, str]) -> list[str]:
    paths = sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path))
    return [
        f"      {printable(path)}: {_short(there.get(path))} recorded, {_short(here.get(path))} asked" for path in paths
    ]


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= LONG else f"{text[: LONG - 3]}..."
