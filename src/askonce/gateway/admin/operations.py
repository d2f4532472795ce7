"""The operations of the admin API: what each is called with, what it does, and what it answers. All in one table."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from askonce import __version__
from askonce.core.labels import TAGS_MAX, TEXT_MAX
from askonce.core.why import Miss, Why
from askonce.errors import UsageError
from askonce.gateway.admin import schemas
from askonce.gateway.admin.problems import Refused
from askonce.gateway.admin.schemas import Schema
from askonce.gateway.results import About, Answers, Filter, Flight, Invalidated, Pulse, Rows, Stats, Swept
from askonce.gateway.savings_json import ACTIVITY, SAVINGS, activity_json
from askonce.gateway.view import LIMIT, RATE, View
from askonce.http.plain_request import PlainRequest

Given = dict[str, Any]
Run = Callable[[View, Given], Awaitable[Any]]
HOST = "host"  # in the `http` of a request that is explained: by which name the gateway is asked
MOST = 1000  # items in a list


@dataclass(frozen=True, slots=True)
class Field:
    """What a request may carry: in its path, its query, or its JSON body."""

    name: str
    said: str
    schema: Schema
    required: bool = False
    default: Any = None

    def read(self, words: Sequence[str]) -> Any:
        """The value of a parameter that was written so often. Refused for one that does not fit."""
        if len(words) > 1:
            raise Refused(400, f"{self.name} is given {len(words)} times: give it once")
        value = _value(self.schema.get("type"), words[0])
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        """Refused for a value that does not fit."""
        if wrong := schemas.problem(self.schema, value):
            raise Refused(400, f"{self.name} {wrong}")


def _value(kind: str | None, word: str) -> Any:
    """A word of a query as a value of its type. A word of another type stays text, which the check then refuses."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(word, word)
    if kind == "integer" and word.removeprefix("-").isascii() and word.removeprefix("-").isdigit() and len(word) < 20:
        return int(word)
    return word


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a body may say what it is about: the field `name`, and what may stand beside it."""

    name: str
    fields: tuple[Field, ...]

    @property
    def schema(self) -> Schema:
        """The schema of a body of this kind."""
        properties = {one.name: {"description": one.said, **one.schema} for one in self.fields}
        return {"type": "object", "properties": properties, "required": [self.name], "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `result`: the type of what it answers, bytes for a body as it is. `ways`: of its JSON body."""

    name: str
    method: str
    path: str
    said: str
    run: Run
    result: Any
    fields: tuple[Field, ...] = ()
    ways: tuple[Way, ...] = ()
    problems: tuple[int, ...] = ()  # besides those that every operation has
    walks: bool = False  # it reads the whole store, so that only one of them runs at a time

    def given(self, path: Mapping[str, str], query: Sequence[tuple[str, str]]) -> Given:
        """The parameters of a request, checked, with defaults for the rest."""
        words: dict[str, list[str]] = {name: [word] for name, word in path.items()}
        known = [one.name for one in self.fields]
        for name, word in query:
            if name in path or name not in known:
                raise Refused(400, unknown(name, [one for one in known if one not in path]))
            words.setdefault(name, []).append(word)
        missing = next((one.name for one in self.fields if one.required and one.name not in words), None)
        if missing is not None:
            raise Refused(400, f"{missing} is missing: write {missing}=...")
        return {one.name: one.read(words[one.name]) if one.name in words else one.default for one in self.fields}

    def told(self, body: Any) -> Given:
        """What a JSON body says, checked."""
        if not isinstance(body, dict):
            raise Refused(400, "the body is no JSON object: write one as {" + f'"{self.ways[0].name}": ...' + "}")
        named = [way for way in self.ways if way.name in body]
        way = next((one for one in named if one.name == "request"), named[0] if len(named) == 1 else None)
        if way is None:
            raise Refused(400, f"say what it is about, in one way: {', '.join(one.name for one in self.ways)}")
        fields = {one.name: one for one in way.fields}
        for name, value in body.items():
            if name not in fields:
                raise Refused(400, unknown(name, list(fields)))
            fields[name].check(value)
        given = {name: schemas.taken(fields[name].schema, value) for name, value in body.items()}
        return {name: one.default for name, one in fields.items() if one.default is not None} | given


def unknown(name: str, known: Sequence[str]) -> str:
    """What to write in place of an unknown word."""
    near = difflib.get_close_matches(name, known, 1)
    shown = f"{name[:40]!r} is unknown here"
    if near:
        return f"{shown}: did you mean {near[0]}?"
    return f"{shown}: write {', '.join(known)}" if known else f"{shown}: this operation takes no parameters"


# --- what may be given ---------------------------------------------------------------------------------------------

_CONTROL = "\\x00-\\x1f\\x7f-\\x9f"
SCOPE: Schema = {
    "type": "string", "minLength": 1, "maxLength": TEXT_MAX, "examples": ["support/triage"],
    "pattern": f"^[^/{_CONTROL}]+(/[^/{_CONTROL}]+)*$",
}  # fmt: skip
TAG: Schema = {
    "type": "string", "minLength": 1, "maxLength": TEXT_MAX, "examples": ["doc:42"], "pattern": f"^[^{_CONTROL}]+$",
}  # fmt: skip
MODEL: Schema = {"type": "string", "minLength": 1, "maxLength": 1000, "examples": ["gpt-4.1-mini"]}
# What is invalidated is named, and no glob: that would reach nothing.
_PLAIN_SCOPE = SCOPE | {"pattern": f"^([^/{_CONTROL}]+/)*([^/*{_CONTROL}][^/{_CONTROL}]*|\\*[^/{_CONTROL}]+)$"}
_PLAIN_MODEL = MODEL | {"pattern": "^[^*]+$"}
KEY: Schema = {"type": "string", "pattern": "^[0-9a-fA-F]{1,64}$", "examples": ["df606bd11b1d"]}
_LABELS = "(model|scope|tenant|day)"
BY: Schema = {"type": "string", "pattern": f"^{_LABELS}(,{_LABELS})*$", "maxLength": 40, "examples": ["model,day"]}
FLAG: Schema = {"type": "boolean", "examples": ["true"]}
_WHOLE: Schema = {"type": "integer", "minimum": -(2**53), "maximum": 2**53}


def _count(most: int = MOST) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most}


def _several(one: Schema) -> Schema:
    return {"type": "array", "items": one, "minItems": 1, "maxItems": 100}


_KEY = Field("key", "A key, or the digits that it begins with.", KEY, required=True)
_DRY = Field("dry_run", "Only count the live entries that would be reached.", {"type": "boolean"}, default=False)
_FILTER = (
    Field("scope", "Only this scope and the scopes below it.", SCOPE),
    Field("tag", "Only entries with this tag.", TAG),
    Field("model", "Only entries of this model.", MODEL),
    Field("key", "Only entries whose key begins so.", KEY, default=""),
    Field("dead", "Also entries that cannot be served any more.", FLAG, default=False),
)
REQUEST = Way(
    "request",
    (
        Field("request", "The JSON request that was given to fetch().", {"not": {"type": "null"}}),
        Field("scope", "Its scope.", SCOPE),
        Field("tenant", "Its tenant.", {"type": "string", "maxLength": TEXT_MAX}),
        Field("variant", "Its variant.", {"anyOf": [_WHOLE, {"type": "string", "maxLength": 200}]}),
    ),
)
_NAME = "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
_HEADERS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "string", "maxLength": 8000, "pattern": f"^[^{_CONTROL}]*$"},
    "propertyNames": {"type": "string", "pattern": _NAME},
}
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL: Schema = {
    "type": "string", "maxLength": 2000, "examples": ["https://api.openai.com/v1/chat/completions"],
    "pattern": f"^https?://[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:{_PORT})?/[A-Za-z0-9._~%/:@!$&()*+,;=?-]*$",
}  # fmt: skip
HTTP: Schema = {
    "type": "object", "properties": {"url": URL, "headers": _HEADERS}, "required": ["url"],
    "additionalProperties": False,
}  # fmt: skip
EXPLAINED = Way(
    "request",
    (
        *REQUEST.fields,
        Field("tags", "Its tags.", {"type": "array", "items": TAG, "maxItems": TAGS_MAX}),
        Field("stream", "As it is given to fetch_stream.", {"type": "boolean"}, default=False),
        Field("http", "If an HTTP client sends it: the URL, this gateway's or another, and the headers.", HTTP),
    ),
)
WAYS = (
    Way("key", (Field("key", "Keys, or the digits that they begin with.", _several(KEY)), _DRY)),
    Way("scope", (Field("scope", "Scopes, and all scopes below them.", _several(_PLAIN_SCOPE)), _DRY)),
    Way("tag", (Field("tag", "All answers with one of these tags.", _several(TAG)), _DRY)),
    Way("model", (Field("model", "All answers of these models.", _several(_PLAIN_MODEL)), _DRY)),
    Way("everything", (Field("everything", "All answers.", {"type": "boolean", "const": True}), _DRY)),
    Way("request", (*REQUEST.fields, _DRY)),
)


# --- what is done --------------------------------------------------------------------------------------------------


async def _about(view: View, _given: Given) -> About:
    return About(__version__, view.address, view.prefix, await view.now())


async def _stats(view: View, _given: Given) -> Stats:
    return await view.stats()


async def _entries(view: View, given: Given) -> Rows:
    limit = given.pop("limit")
    return await view.entries(Filter(**{**given, "key": given["key"].lower()}), limit)


async def _entry(view: View, given: Given) -> Answers:
    return await view.entry(given["key"], body=given["body"])


async def _raw(view: View, given: Given) -> bytes:
    return await view.raw(given["key"], given["form"])


async def _savings(view: View, given: Given) -> dict[str, Any]:
    by = given["by"].split(",") if given["by"] else ()
    savings = await view.savings(await _since(view, given), by)
    return await asyncio.to_thread(savings.as_dict)  # of a year it has many rows


async def _since(view: View, given: Given) -> int | date | None:
    """The first day: the later one of what `days` and `since` say."""
    days: int | None = given["days"]
    if given["since"] is None:
        return days
    since = date.fromisoformat(given["since"])
    if days is None:
        return since
    today = datetime.fromtimestamp(await view.now(), UTC).date()
    return max(since, today - timedelta(days=days - 1))


async def _activity(view: View, given: Given) -> dict[str, Any]:
    return activity_json(await view.activity(given["days"]))


async def _pulse(view: View, _given: Given) -> Pulse:
    return await view.pulse()


async def _misses(view: View, given: Given) -> list[Miss]:
    return await view.misses(given["limit"])


async def _why(view: View, given: Given) -> Why:
    return await view.why(given["key"])


async def _why_request(view: View, given: Given) -> Why:
    if (http := given.pop("http", None)) is None:
        return await view.why(**given)
    headers = [f"{name}: {value}" for name, value in http.get("headers", {}).items()]
    sent = PlainRequest.of(http["url"], headers, given.pop("request"))
    if sent.headers.get("host").lower() != http[HOST].lower():
        return await view.why(request=sent, **given)
    if said := [name for name, value in given.items() if value]:
        raise UsageError(f"{said[0]}: the gateway's own rules say it; give what its caller sends in headers")
    return await view.why_here(sent)


async def _flights(view: View, given: Given) -> list[Flight]:
    return await view.flights(given["limit"])


async def _invalidate(view: View, given: Given) -> Invalidated:
    dry_run = given.pop("dry_run")
    return await view.invalidate(given, dry_run=dry_run)


async def _sweep(view: View, given: Given) -> Swept:
    return await view.sweep(given["rate"])


OPERATIONS: tuple[Operation, ...] = (
    Operation("about", "GET", "/about", "The gateway's version, its store and the store's clock.", _about, About),
    Operation("stats", "GET", "/stats", "Count all entries, on one walk through the store.", _stats, Stats, walks=True),
    Operation(
        "entries", "GET", "/entries", "List entries, in no order. No answer is shown.", _entries, Rows,
        (*_FILTER, Field("limit", "At most so many.", _count(), default=LIMIT)), walks=True,
    ),
    Operation(
        "entry", "GET", "/entries/{key}", "Show one entry: each form of the answer, with its details.", _entry, Answers,
        (_KEY, Field("body", "Show the answer too.", FLAG, default=False)), problems=(404, 409),
    ),
    Operation(
        "raw", "GET", "/entries/{key}/raw", "The answer of one entry, byte for byte.", _raw, bytes,
        (_KEY, Field("form", "Only this form.", {"type": "string", "enum": ["v", "j", "s"]}, default="")),
        problems=(404, 409),
    ),
    Operation(
        "savings", "GET", "/savings", "What all processes asked, paid and saved, in all and by group.",
        _savings, SAVINGS,
        (
            Field("days", "The last so many days (UTC), today included.", _count(400)),
            Field(
                "since", "Not before this day (UTC), which may not be in the future.",
                {"type": "string", "format": "date", "examples": ["2026-11-01"]},
            ),
            Field("by", "What the rows are split by: model, scope, tenant, day, or several.", BY, default=""),
        ),
    ),
    Operation(
        "activity", "GET", "/activity", "What all processes did: by hour, by reason, and the hottest keys.",
        _activity, ACTIVITY, (Field("days", "The last so many days (UTC), today included.", _count(30), default=1),),
    ),
    Operation("pulse", "GET", "/pulse", "What happened today, and the flights now, in short.", _pulse, Pulse),
    Operation(
        "misses", "GET", "/misses", "The last lookups that went upstream, and why.", _misses, list[Miss],
        (Field("limit", "At most so many.", _count(), default=20),),
    ),
    Operation(
        "why", "GET", "/why/{key}", "Why a lookup of this key finds what it finds.", _why, Why, (_KEY,),
        problems=(404, 409),
    ),
    Operation(
        "why_request", "POST", "/why", "Why a lookup of a request would find what it finds. Nothing is asked.",
        _why_request, Why, ways=(EXPLAINED,),
    ),
    Operation(
        "flights", "GET", "/flights", "The upstream calls under way, in every process.", _flights, list[Flight],
        (Field("limit", "At most so many.", _count(), default=MOST),),
    ),
    Operation(
        "invalidate", "POST", "/invalidate", "Invalidate answers in every process at once, or count what would be.",
        _invalidate, Invalidated, ways=WAYS, problems=(404, 409),
    ),
    Operation(
        "sweep", "POST", "/sweep", "Delete entries that no lookup can reach any more.", _sweep, Swept,
        (Field("rate", "Read at most so many entries a second.", _count(1_000_000), default=RATE),), walks=True,
    ),
)  # fmt: skip
