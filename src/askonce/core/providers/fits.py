"""Whether an answer fits its request, where an API can tell: which model answered, and what the answer repeats.

An answer over a connection out of step belongs to another request. Most answers show nothing, and a wrong "no" costs a
caller every hit. So a doubt is a yes: an alias becomes a date, a gateway uses names of its own, a router picks a model,
and a request with several models fits any answer. These are certain:

- A provider's own host serves its own models, and no other generation or size than the requested one.
- A model that answered under its own name before does not answer under another model's, at any host.
- A model of another vendor, which the same host also serves, is not the requested one.
- What a host repeats belongs to this request: ids, metadata, and the fields of Api.repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from askonce.core.providers import APIS
from askonce.core.providers.answers import Answer, a_dict
from askonce.core.providers.api import Repeated
from askonce.core.providers.learned_hosts import LearnedHosts
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.names import OWN_NAMES, akin, disjoint, of_a_stranger

OTHER_MODEL, OTHER_REQUEST = "other-model", "other-request"  # status details
Ids = Mapping[str, str]  # by the header or field that carries it


class Request(NamedTuple):
    """What a request says about its answer.

    `provider`: whose own host it goes to, "" for any other. `where`: a host, operation and form, which answer under the
    same names. `ids`: ids chosen by the request itself. `body`: read when it is needed.
    """

    model: str
    provider: str
    where: str
    body: Callable[[], Answer]
    ids: Ids


def misfit(asked: Request, values: list[Answer], learned: LearnedHosts, headers: Ids) -> str:
    """Why an answer, or events of one, cannot belong to this request, "" if they may; `headers`: those with ids."""
    answers = [one for value in _ends(values) for one in _holders(value)]
    if (asked.ids or learned.ids) and foreign(asked, answers, learned, headers):
        return OTHER_REQUEST
    if not all(repeats(asked, one) for one in answers):
        return OTHER_REQUEST
    names = dict.fromkeys(filter(None, map(_name, answers)))
    return OTHER_MODEL if any(_other(asked, name, learned) for name in names) else ""


def _ends(values: list[Answer]) -> list[Answer]:
    """The first and last events, where a stream says whose it is."""
    return values if len(values) <= FIRST + LAST else values[:FIRST] + values[-LAST:]


FIRST, LAST = 8, 2


def _holders(value: Answer) -> Iterable[Answer]:
    inner = value.get("response") or value.get("message")
    return (value, inner) if isinstance(inner, dict) else (value,)


# --- models ------------------------------------------------------------------------------------------------------


def _name(answer: Answer) -> str:
    name = answer.get("model") or answer.get("modelVersion") or answer.get("model_version")
    return name if isinstance(name, str) else ""


_CHOICES = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "extra_body", "preset")


def _other(asked: Request, got: str, learned: LearnedHosts) -> bool:
    if not asked.model:
        return False
    line = (asked.where, asked.model)
    strange = got != asked.model and of_a_stranger(asked.provider, asked.model, got)
    if not strange and akin(asked.model, got):
        learned.right(line)
        return False
    elsewhere = not strange and (learned.knows(line) or _of_another(asked, got, learned))
    if not (strange or elsewhere) or any(asked.body().get(name) for name in _CHOICES):
        return False
    return strange or learned.wrong(line, got)


def _of_another(asked: Request, got: str, learned: LearnedHosts) -> bool:
    if asked.provider in OWN_NAMES or not disjoint(asked.model, got):
        return False
    return any(akin(other, got) for other in learned.asked(asked.where) if other != asked.model)


# --- what is repeated ----------------------------------------------------------------------------------------------

_REPEATED = [api.repeated for api in APIS if api.repeated]


def repeats(asked: Request, answer: Answer) -> bool:
    """Whether the fields that an answer repeats are those of this request."""
    return all(_repeats(asked, answer, repeated) for repeated in _REPEATED if repeated.shows(answer))


def _repeats(asked: Request, answer: Answer, repeated: Repeated) -> bool:
    body = asked.body()
    fields = repeated.fields if asked.provider in repeated.providers else repeated.elsewhere
    maps = ((a_dict(body.get(name)), a_dict(answer.get(name))) for name in repeated.maps)
    return all(_same(body.get(name), answer.get(name)) for name in fields) and all(
        _same(mine[name], theirs[name]) for mine, theirs in maps for name in mine.keys() & theirs.keys()
    )


def _same(asked: object, repeated: object) -> bool:
    """Whether one value may repeat the other; values of two kinds show nothing."""
    if isinstance(asked, str) and isinstance(repeated, str):
        return asked == repeated
    if isinstance(asked, bool) or isinstance(repeated, bool):
        return True
    if isinstance(asked, int | float) and isinstance(repeated, int | float):
        return abs(asked - repeated) <= NEAR * max(1, abs(asked))
    return True


NEAR = 1e-3  # a host may round to half-precision floats


# --- ids ---------------------------------------------------------------------------------------------------------

# Only clients send these; no server sets its own.
CLIENTS = frozenset({"x-client-request-id", "client-request-id", "x-ms-client-request-id"})
# A server may repeat these, or set its own instead.
EITHERS = frozenset(
    {
        *("x-request-id", "request-id", "x-correlation-id", "correlation-id", "x-trace-id"),
        *("idempotency-key", "x-idempotency-key", "x-litellm-call-id", "x-portkey-trace-id", "x-ms-correlation-id"),
    }
)
ID_HEADERS = CLIENTS | EITHERS
ID_FIELDS = ("request_id", "rid")  # servers name the answer by them
SHORTEST = 6  # characters; a server's own id does not match a longer one by chance


def foreign(asked: Request, answers: list[Answer], learned: LearnedHosts, headers: Ids) -> bool:
    """Whether an answer carries the id of another request."""
    mine = frozenset(asked.ids.values())
    found: dict[str, tuple[str, ...]] = {name: (text,) for name, text in headers.items()}
    for answer in answers:
        found |= {name: _spellings(text) for name in ("id", *ID_FIELDS) if isinstance(text := answer.get(name), str)}
    return any(_foreign(asked, mine, name, texts, learned) for name, texts in found.items())


def _foreign(asked: Request, mine: frozenset[str], name: str, texts: tuple[str, ...], learned: LearnedHosts) -> bool:
    line = (asked.where, asked.model, name)
    if not mine.isdisjoint(texts):
        learned.right(line)
        return False
    if any(map(learned.sent, texts)) or (name in CLIENTS and name in asked.ids):
        return True
    return bool(mine) and learned.knows(line) and learned.wrong(line, "")


def _spellings(text: str) -> tuple[str, ...]:
    """An id, also without its kind: chatcmpl-..., cmpl-..., resp_..."""
    spelled = (text, text.partition("-")[2], text.partition("_")[2])
    return tuple(one for one in spelled if len(one) >= SHORTEST)


def ids_of(headers: Iterable[tuple[str, str]], body: Callable[[], Answer] | None = None) -> Ids:
    """The ids in headers (names in lower case), and in a body that may hold some."""
    found = {name: value for name, value in headers if name in ID_HEADERS and value}
    if body is not None:
        fields = body()
        found |= {name: text for name in ID_FIELDS if isinstance(text := fields.get(name), str) and text}
    return found
