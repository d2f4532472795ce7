"""What is known of one API, in one value: its requests, its answers, its streams, and what its two forms have to do.

Each API has a file of its own in this folder, which ends in its `API`; core.providers lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from askonce.core.providers.answers import Answer, Part, any_of, failed, guarded, reason_of
from askonce.core.providers.sources import carries_sources
from askonce.core.providers.streamed import Read

__all__ = ["FORM", "Api", "Carrier", "Header", "Left", "Mark", "Path", "Stream"]

Body = dict[str, Any]
Header = tuple[bytes, bytes]


def anywhere(_: Sequence[str]) -> bool:
    """Under any base URL."""
    return True


class Path(NamedTuple):
    """Where an API is served: a pattern of the whole path, whose group `model` is the model, if the path names it.

    `at`: the provider on whose own host (core.providers.hosts); "" for any other host, where `fits` says which steps
    may stand before. `ends`: what follows the pattern where an answer in one piece is asked for, and where a stream is.
    `framed`: its streams are AWS event streams. `settled`: whether a model of this name is always the same.
    """

    pattern: str
    at: str = ""
    fits: Callable[[Sequence[str]], bool] = anywhere
    ends: tuple[str, str] | None = None
    framed: bool = False
    settled: Callable[[str], bool] = lambda _: True


class Left(NamedTuple):
    """A top-level field of a request that does not count, at whose hosts (none: at any), and why."""

    field: str
    providers: tuple[str, ...]
    why: str


STREAM = Left("stream", (), "the form of the answer; an answer's form is stored beside its key")
STREAM_OPTIONS = Left(
    "stream_options", (), "the form of a stream; options that change its bytes are stored beside the URL"
)
FORM = frozenset({STREAM.field, STREAM_OPTIONS.field})


class Mark(NamedTuple):
    """A field, or a block, that marks where a prompt cache may break; `places` says where it is taken out, in words."""

    field: str
    providers: tuple[str, ...]
    places: str
    take: Callable[[Body], None]


class Stream(NamedTuple):
    """How an API streams: the gist of its events (None without the last), its last event, how its first shows.

    A gist is not the answer: it holds how each choice ended, what was said, and what was called. It never raises.
    `shows`: how any event shows, since an iterator may leave some out; as the first does, if unsaid. `closes`: in AWS's
    frames, whose events are not found by their bytes, the gist tells the end. `http`: it is read from bytes of HTTP,
    and not from items alone. `variant`: what a URL's query changes of its bytes. `full`: the variants that may say all
    that an answer in one piece does. `signs`: fields of its events, where they have none of those of answers.
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


def plain_error(_status: int, kind: str, message: str) -> tuple[Body, list[Header]]:
    """An error of our own, in the shape that most SDKs read."""
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}, []


@dataclass(frozen=True, slots=True, eq=False)
class Api:
    """One API.

    `asks`: whether a body is a request of it, and whether its model is named elsewhere. `per_input`: at whose hosts
    which fields say the same of each input, where a request can be cut into its inputs.

    `shape`: whether a value is an answer, by signs that data of a user's does not carry by chance. `parts`: its
    choices, each with its ending in a word of core.providers.answers. `tokens`: the way to the usage, and what adds up
    to input and to output. `signs`: fields of which each answer and fragment has one. `turn`: an assistant's turn of
    these content blocks, if they are this API's own. `fragment`: what a call took out of an answer.

    `to_json` makes the answer of a stream, `to_stream` the stream of an answer; exact.Inexact where they cannot.
    `error`: an error of our own, as its SDK reads it: the body, and headers beside the usual.
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
    to_json: Callable[[Read], Answer] | None = None
    to_stream: Callable[[Answer, frozenset[str]], Iterable[bytes]] | None = None
    error: Callable[[int, str, str], tuple[Body, list[Header]]] = plain_error

    def verdict(self, value: object, tool_calls: str = "pass", searched: str = "pass", *, given: bool = False) -> str:
        """Empty if the answer may be stored, else the reason in a word; `tool_calls` and `searched` as in Policy.

        `given`: the question brought along what its answer may cite.
        """
        if failed(value):
            return "error"
        if not isinstance(value, dict) or not self.shape(value):
            return "unrecognised"
        if guarded(value):
            return "filtered"
        reasons = [reason_of(part, tool_calls, searched) for part in self.parts(value)] or ["empty"]
        if reason := next(filter(None, reasons), ""):
            return reason
        return "searched" if searched != "store" and carries_sources(value, given=given) else ""

    def usage(self, value: object) -> tuple[int, int] | None:
        """Tokens in and out, those read from a prompt cache and those thought included; None if it does not say."""
        way, put_in, got_out = self.tokens
        for step in way:
            value = any_of(value, step) if isinstance(value, dict) else None
        return (_sum(value, put_in), _sum(value, got_out)) if isinstance(value, dict) else None


def _sum(counts: Answer, names: tuple[str, ...]) -> int:
    return sum(found for name in names if isinstance(found := any_of(counts, name), int))


class Carrier(NamedTuple):
    """Paths that serve several APIs, and what each of them looks like there, the likeliest first: the body tells."""

    paths: tuple[Path, ...]
    apis: tuple[tuple[Api, Callable[[Body, bool], bool]], ...]
