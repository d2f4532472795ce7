"""Whether an answer fits its request, where an API can tell: which model answered, and what is repeated.

An answer that came over a connection out of step is another request's. Most answers tell nothing, and a wrong "no"
costs its caller every hit, so a doubt is a yes: an alias becomes a date, a gateway serves under names of its own, a
router picks, and a request that names several models fits whichever answers. What is certain:

- A provider's own host serves models of its own, and no other generation or size than the one asked for.
- A model that answered under its own name before does not answer under a stranger's, at any host.
- A model of another vendor, which the same host is asked for too, is not the one asked for here.
- What a host repeats of a request is this request's: ids, metadata, and the fields of a response at OpenAI's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from askonce.core.providers.answers import Answer, a_dict
from askonce.core.providers.manners import Manners
from askonce.core.providers.names import OWN_NAMES, akin, disjoint, of_a_stranger

OTHER_MODEL, OTHER_REQUEST = "other-model", "other-request"  # status details
Ids = Mapping[str, str]  # by the header, or the field, that carries it


class Request(NamedTuple):
    """What a request says of its answer.

    `provider`: whose own host it goes to, "" for any other. `where`: what answers under the same names: a host, an
    operation and a form. `ids`: those that it gave itself. `body` is read when it is needed.
    """

    model: str
    provider: str
    where: str
    body: Callable[[], Answer]
    ids: Ids


def misfit(asked: Request, values: list[Answer], manners: Manners, headers: Ids) -> str:
    """Why these objects, an answer or the events of one, are none to this request; "" if they may be.

    `headers`: those with ids that came with them.
    """
    told = [one for value in _ends(values) for one in _holders(value)]
    if (asked.ids or manners.ids) and foreign(asked, told, manners, headers):
        return OTHER_REQUEST
    if not all(repeats(asked, one) for one in told):
        return OTHER_REQUEST
    names = dict.fromkeys(filter(None, map(_name, told)))
    return OTHER_MODEL if any(_other(asked, name, manners) for name in names) else ""


def _ends(values: list[Answer]) -> list[Answer]:
    """The first and the last of the events, where a stream says whose it is."""
    return values if len(values) <= FIRST + LAST else values[:FIRST] + values[-LAST:]


FIRST, LAST = 8, 2


def _holders(value: Answer) -> Iterable[Answer]:
    """An answer, and the one in an event."""
    inner = value.get("response") or value.get("message")
    return (value, inner) if isinstance(inner, dict) else (value,)


# --- models ------------------------------------------------------------------------------------------------------


def _name(answer: Answer) -> str:
    """The name of the model that answered, "" where it is not said."""
    name = answer.get("model") or answer.get("modelVersion") or answer.get("model_version")
    return name if isinstance(name, str) else ""


_CHOICES = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "extra_body", "preset")


def _other(asked: Request, got: str, manners: Manners) -> bool:
    """Whether a model of this name is certainly not the one asked for."""
    if not asked.model:
        return False
    line = (asked.where, asked.model)
    strange = got != asked.model and of_a_stranger(asked.provider, asked.model, got)
    if not strange and akin(asked.model, got):
        manners.right(line)
        return False
    elsewhere = not strange and (manners.knows(line) or _of_another(asked, got, manners))
    if not (strange or elsewhere) or any(asked.body().get(name) for name in _CHOICES):
        return False
    return strange or manners.wrong(line, got)


def _of_another(asked: Request, got: str, manners: Manners) -> bool:
    """Whether it is a model of another vendor that the same host is asked for, too."""
    if asked.provider in OWN_NAMES or not disjoint(asked.model, got):
        return False
    return any(akin(other, got) for other in manners.asked(asked.where) if other != asked.model)


# --- what is repeated ----------------------------------------------------------------------------------------------

# Of a request to the Responses API, as it stands in its answer; a field that is left out or adjusted is null there.
_REPEATED = (
    *("instructions", "previous_response_id", "max_output_tokens", "temperature", "top_p"),
    *("user", "safety_identifier", "prompt_cache_key"),
)
_REPEATING = frozenset({"openai", "azure"})


def repeats(asked: Request, answer: Answer) -> bool:
    """Whether what an answer of the Responses API repeats of its request is this request's."""
    if answer.get("object") != "response":
        return True
    body = asked.body()
    mine, theirs = a_dict(body.get("metadata")), a_dict(answer.get("metadata"))
    # Elsewhere a gateway may have laid down limits, or hidden what stands in a text.
    fields = _REPEATED if asked.provider in _REPEATING else ("previous_response_id",)
    return all(_same(body.get(name), answer.get(name)) for name in fields) and all(
        _same(mine[name], theirs[name]) for name in mine.keys() & theirs.keys()
    )


def _same(said: object, told: object) -> bool:
    """Whether one may be the other, repeated; of two kinds, nothing can be told."""
    if isinstance(said, str) and isinstance(told, str):
        return said == told
    if isinstance(said, bool) or isinstance(told, bool):
        return True
    if isinstance(said, int | float) and isinstance(told, int | float):
        return abs(said - told) <= NEAR * max(1, abs(said))
    return True


NEAR = 1e-3  # a host may count in halves of a float


# --- ids ---------------------------------------------------------------------------------------------------------

# A client's own: no server has any of them for itself.
CLIENTS = frozenset({"x-client-request-id", "client-request-id", "x-ms-client-request-id"})
# A server may repeat these, or have its own in their place.
EITHERS = frozenset(
    {
        *("x-request-id", "request-id", "x-correlation-id", "correlation-id", "x-trace-id"),
        *("idempotency-key", "x-idempotency-key", "x-litellm-call-id", "x-portkey-trace-id", "x-ms-correlation-id"),
    }
)
ID_HEADERS = CLIENTS | EITHERS
ID_FIELDS = ("request_id", "rid")  # of vLLM, GLM, SGLang, which name the answer by them
SHORTEST = 6  # characters of an id that a server's own is not by chance


def foreign(asked: Request, told: list[Answer], manners: Manners, headers: Ids) -> bool:
    """Whether an answer carries the id of another request."""
    mine = frozenset(asked.ids.values())
    found: dict[str, tuple[str, ...]] = {name: (text,) for name, text in headers.items()}
    for answer in told:
        found |= {name: _spellings(text) for name in ("id", *ID_FIELDS) if isinstance(text := answer.get(name), str)}
    return any(_foreign(asked, mine, name, texts, manners) for name, texts in found.items())


def _foreign(asked: Request, mine: frozenset[str], name: str, texts: tuple[str, ...], manners: Manners) -> bool:
    line = (asked.where, asked.model, name)
    if not mine.isdisjoint(texts):
        manners.right(line)
        return False
    if any(map(manners.sent, texts)) or (name in CLIENTS and name in asked.ids):
        return True
    return bool(mine) and manners.knows(line) and manners.wrong(line, "")


def _spellings(text: str) -> tuple[str, ...]:
    """An id, and what stands behind its kind: chatcmpl-..., cmpl-..., resp_..."""
    spelled = (text, text.partition("-")[2], text.partition("_")[2])
    return tuple(one for one in spelled if len(one) >= SHORTEST)


def ids_of(headers: Iterable[tuple[str, str]], body: Callable[[], Answer] | None = None) -> Ids:
    """The ids that headers, their names in lower case, and a body that may have some, carry."""
    found = {name: value for name, value in headers if name in ID_HEADERS and value}
    if body is not None:
        told = body()
        found |= {name: text for name in ID_FIELDS if isinstance(text := told.get(name), str) and text}
    return found
