"""All that is known of one API, in one value: its requests, answers and streams, and how its two forms are converted.

Each API has a file of its own in this folder, which ends in its `API`; core.providers lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from askonce.core.providers.answers import Answer, Part, any_of, failed, guarded, reason_of
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.sources import carries_sources
from askonce.core.providers.streamed import Read

__all__ = ["FORM", "Api", "Carrier", "Header", "Left", "Mark", "Path", "Repeated", "Stream"]

Body = dict[str, Any]
Header = tuple[bytes, bytes]


def anywhere(_: Sequence[str]) -> bool:
    """Accept any base URL."""
    return True


class Path(NamedTuple):
    """Where an API is served: a pattern of the whole path; its group `model` is the model, if the path names it.

    `at`: the provider on whose own host (core.providers.hosts); "" for any other host, where `fits` checks the steps
    before the pattern. `ends`: what follows the pattern for an answer in one piece, and for a stream. `framed`: its
    streams are AWS event streams. `settled`: whether a model of this name never changes.
    """

    pattern: str
    at: str = ""
    fits: Callable[[Sequence[str]], bool] = anywhere
    ends: tuple[str, str] | None = None
    framed: bool = False
    settled: Callable[[str], bool] = lambda _: True


class Left(NamedTuple):
    """A top-level field of a request that does not count: at which providers' hosts (none: at any), and why."""

    field: str
    providers: tuple[str, ...]
    why: str


STREAM = Left("stream", (), "the form of the answer; an answer's form is stored beside its key")
STREAM_OPTIONS = Left(
    "stream_options", (), "the form of a stream; options that change its bytes are stored beside the URL"
)
FORM = frozenset({STREAM.field, STREAM_OPTIONS.field})


class Mark(NamedTuple):
    """A field or block that marks where a prompt cache may break. `places`: where it is removed, for people."""

    field: str
    providers: tuple[str, ...]
    places: str
    take: Callable[[Body], None]


class Stream(NamedTuple):
    """How an API streams: the gist of its events (None without the last), its last event, and how its first one looks.

    A gist is not the answer: it holds how each choice ended, what was said, and what was called. It never raises.
    `shows`: how any event looks, because an iterator may omit some; by default like the first. `closes`: the gist shows
    the end in AWS frames, where no event is found by its bytes. `http`: it is read from bytes of HTTP, not only from
    items. `variant`: what a URL's query changes in its bytes. `full`: the variants that may say everything that an
    answer in one piece does. `signs`: fields of its events, if they share none with its answers.
    """

    gist: Callable[[Read], Answer | None]
    last: tuple[bytes, ...]
    opens: Callable[[Answer], bool]
    shows: Callable[[Answer], bool] | None = None
    closes: bool = False
    http: bool = True
    variant: Callable[[str], str] = lambda _: ""
    full: tuple[str, ...] = ("",)
    signs: tuple[str, ...] = ()


class Repeated(NamedTuple):
    """What an answer of an API repeats of its request; a field that it leaves out or adjusts is null there.

    `shows`: whether a value repeats it. `fields`: repeated at the own hosts of `providers`; `elsewhere`: at any other
    host, where a gateway may set limits or hide texts. `maps`: dicts whose common entries are equal, at every host.
    """

    shows: Callable[[Answer], bool]
    providers: frozenset[str]
    fields: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()


def plain_error(_status: int, kind: str, message: str) -> tuple[Body, list[Header]]:
    """An error body of askonce, in the shape that most SDKs read."""
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}, []


@dataclass(eq=False, repr=False)
class Api:
    """One API.

    `asks`: whether a body is a request of it, given whether its model is named elsewhere. `per_input`: for each
    provider's host, the fields that mean the same for each input, so that a request can be cut into its inputs.
    `repeated`: what its answers repeat of the request.

    `shape`: whether a value is an answer, by signs that a user's data does not carry by chance. `parts`: its choices,
    each with an ending that core.providers.answers knows. `tokens`: the path to the usage, and the fields that add up
    to input and to output. `signs`: fields of which each answer and fragment has at least one. `turn`: the Part of an
    assistant's content blocks, if they are this API's. `fragment`: the Parts of what a call took out of an answer.

    `to_json` makes the answer of a stream, `to_stream` the stream of an answer; exact.Inexact if they cannot. `error`:
    an error of askonce as its SDK reads it: the body, and additional headers.
    """

    name: str
    shape: Callable[[Answer], bool]
    parts: Callable[[Answer], Iterable[Part]]
    tokens: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    signs: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    asks: Callable[[Body, bool], bool] = lambda _body, _named: False
    left_out: tuple[Left, ...] = ()
    marks: tuple[Mark, ...] = ()
    per_input: Mapping[str, frozenset[str]] = field(default_factory=dict)
    turn: Callable[[list[Answer], object], Part | None] | None = None
    fragment: Callable[[Answer], Iterable[Part]] | None = None
    stream: Stream | None = None
    repeated: Repeated | None = None
    to_json: Callable[[Read], Answer] | None = None
    to_stream: Callable[[Answer, frozenset[str]], Iterable[bytes]] | None = None
    error: Callable[[int, str, str], tuple[Body, list[Header]]] = plain_error

    def verdict(
        self,
        value: object,
        tool_calls: str = "pass",
        searched: str = "pass",
        *,
        given: bool = False,
        names: AbstractSet[str] | None = None,
    ) -> str:
        """Why the answer may not be stored, "" if it may; `tool_calls`, `searched`: see Policy; `given`: Expected.

        `names`: those of its fields, at every depth, if they are known.
        """
        if failed(value):
            return "error"
        if not isinstance(value, dict) or not self.shape(value):
            return "unrecognised"
        if value.get("error"):
            return "error"
        if guarded(value):
            return "filtered"
        reasons = [reason_of(part, tool_calls, searched) for part in self.parts(value)] or ["empty"]
        if reason := next(filter(None, reasons), ""):
            return reason
        return "searched" if searched != "store" and carries_sources(value, names, given=given) else ""

    def usage(self, value: object) -> tuple[int, int] | None:
        """Tokens in and out, including cached and thought ones; None if the answer does not say."""
        way, put_in, got_out = self.tokens
        for step in way:
            value = any_of(value, step) if isinstance(value, dict) else None
        return (_sum(value, put_in), _sum(value, got_out)) if isinstance(value, dict) else None


def _sum(counts: Answer, names: tuple[str, ...]) -> int:
    return sum(found for name in names if type(found := any_of(counts, name)) is int)


class Carrier(NamedTuple):
    """Paths that serve several APIs, and the test of a body for each, the likeliest first."""

    paths: tuple[Path, ...]
    apis: tuple[tuple[Api, Callable[[Body, bool], bool]], ...]
