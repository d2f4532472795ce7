"""A Question is one lookup as the protocol sees it. A cache makes many of them quickly from one Plan.

A Plan is everything about a call except the request: scope, tags, tenant, variant, lifetimes, directives. Callers use
few different plans, so each is worked out once.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from askonce.core import keys, labels
from askonce.core.body_memo import BodyMemo
from askonce.core.keyring import Names
from askonce.core.keys import Form, Key
from askonce.core.lease import Generations, Limits
from askonce.core.model import MODEL, SCOPE, TAGS, Head
from askonce.core.normalize import NotNormal
from askonce.core.parts import Later, Parts
from askonce.core.policy import Consistency, Control, Policy, Terms
from askonce.core.providers.bounded import lru_cache_of_short
from askonce.core.providers.expected import PLAIN, Expected
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.request import FIELD
from askonce.events import Events
from askonce.flight.flight import Asker

if TYPE_CHECKING:
    from askonce.core.providers.operations import Operation  # of HTTP alone: it compiles a pattern for each path

# The version of the rules for what counts in an HTTP request (core.headers, core.providers). A higher number hides
# all answers stored under older rules: one of them may be the answer to somebody else's request.
RULES = 2
EXTENSION_MAX = 15_000  # characters: at most as many bytes, in any encoding, as an extension can hold


class Part:
    """What the items of one batch share. `counted`: whether the batch is, which is one lookup to its caller."""

    __slots__ = ("counted",)

    def __init__(self) -> None:
        self.counted = False


@dataclass(slots=True, eq=False, repr=False)
class Question:
    """What is asked, under which plan, and what has been read for it so far."""

    key: Key
    fields: tuple[int, ...]
    plan: Plan
    model: str = ""
    expected: Expected = PLAIN
    detail: str = ""  # store trouble during the lookup, for the status
    until: float = math.inf  # of time.monotonic(): how long a caller waits for another caller's request
    data: bytes = b""  # the entry that was read
    held: Head | None = None  # the entry's head, if the entry could not be served at once
    seen: Generations | None = None  # the generations that were read, if no entry could be served
    since: int = 0  # the number (Flight.number) of the process's last flight that had begun before this question
    unreadable: bool = False  # the stored entry cannot be read: it is not read again, and must be replaced
    unverified: str = ""  # a credential that upstream has not accepted yet: only its own call may answer
    others: tuple[Question, ...] = ()  # the same in other forms: `retell` may make the answer from one of theirs
    retell: Callable[[bytes], object | None] | None = None
    began: float = 0.0  # of time.perf_counter(), if the lookup is measured
    part: Part | None = None  # of an item of a batch
    served: Any = None  # the row in which its hit was counted (flight.accounts)
    shared: tuple[str, Any] | None = None  # as what, and as what Spent, its share of another's call was counted
    operation: Operation | None = None  # of an HTTP request, for what measures it
    parts: Parts | Later | None = None  # what its key is made of, known when it goes upstream
    flight: bytes = b""  # the flight that was noted for it
    asker: Asker | None = None  # who is told when a flight for it is over

    @property
    def tenant(self) -> str:
        """The tenant that the caller named, or ""."""
        return self.plan.tenant

    @property
    def said(self) -> dict[str, str]:
        """What events say of a question."""
        return {"model": self.model, "tenant": self.plan.tenant}

    @property
    def limits(self) -> Limits:
        """What this lookup accepts."""
        return self.plan.limits

    @property
    def terms(self) -> Terms:
        """The policy, worked out in seconds."""
        return self.plan.terms

    @property
    def control(self) -> Control:
        """The caller's directives."""
        return self.plan.control

    @property
    def forwarded(self) -> str:
        """Why the request went upstream, in RFC 9211's words."""
        if self.held is None:
            return "miss"
        return "request" if self.control.anew else "stale"

    def again(self) -> Question:
        """The same question, as if nothing of it was seen yet."""
        return replace(self, detail="", data=b"", held=None, began=0.0)

    def extensions(self) -> Mapping[int, bytes]:
        """The entry's description for people: extension number to text."""
        return _described(self.plan.scope, self.model, self.plan.tags)


@lru_cache_of_short(256)
def _described(scope: str, model: str, tags: tuple[str, ...]) -> Mapping[int, bytes]:
    texts = {SCOPE: scope, MODEL: model, TAGS: "\0".join(tags)}
    # Only people read it, so it may be cut: a request may hold a "model" of 70,000 characters, or half a surrogate.
    return {kind: text[:EXTENSION_MAX].encode("utf-8", "replace") for kind, text in texts.items() if text}


class Settings(NamedTuple):
    """The settings of a call, a handle or a header; None or empty if unset."""

    ttl: float | None = None
    scope: str | None = None
    tags: tuple[str, ...] = ()
    variant: int | str | None = None
    tenant: str | None = None
    policy: Policy | None = None
    control: str | Control | None = None
    consistency: Consistency | None = None
    store_if: Callable[[Any], bool] | None = None

    def over(self, outer: Settings) -> Settings:
        """These settings; unset ones come from `outer`. Tags add up."""
        said = {
            name: value
            for name in ("ttl", "scope", "variant", "tenant", "policy", "control", "consistency", "store_if")
            if (value := getattr(self, name)) is not None
        }
        if self.policy is not None and outer.policy is not None:
            said["policy"] = layered(self.policy, outer.policy)
        return outer._replace(**said, tags=outer.tags + self.tags)


NOTHING = Settings()


def layered(inner: Policy, outer: Policy) -> Policy:
    """One policy made of two: `inner` first, `outer` where it is unset."""
    return replace(
        inner, **{one.name: getattr(outer, one.name) for one in fields(Policy) if getattr(inner, one.name) is None}
    )


class Known(NamedTuple):
    """A question that was asked before under one plan. `passes`: why it is not looked up, or ""."""

    key: Key
    fields: tuple[int, ...]
    model: str
    passes: str
    expected: Expected
    keyed: bytes | None = None  # the body's part of the key, if it cannot be made again


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """Settings, checked and worked out."""

    noted: ClassVar[bool] = True  # whether what becomes of its questions is noted, to explain later ones
    prefix: str
    scope: str
    tags: tuple[str, ...]
    tenant: str
    variant: str
    terms: Terms
    control: Control
    limits: Limits
    store_if: Callable[[Any], bool] | None = None
    known: BodyMemo[Known] = field(default_factory=BodyMemo)
    digest: Callable[[bytes], bytes] = field(init=False)  # of a canonical body
    plain: bool = False  # its limits say no more than until when an entry is fresh
    names: Names | None = None  # keys what the store shows of a question

    def __post_init__(self) -> None:
        names = {name: getattr(self, name) for name in ("prefix", "tenant", "scope", "variant")}
        object.__setattr__(self, "digest", keys.digester(**names))

    @property
    def unfiltered(self) -> Plan:
        """The plan without `store_if`, which must not be kept beyond its call."""
        return self if self.store_if is None else replace(self, store_if=None)

    @property
    def remembers(self) -> bool:
        """Whether its questions are kept: not if their answers are never stored."""
        return self.terms.ttl > 0

    def question(
        self,
        body: bytes,
        model: str,
        form: Form = "v",
        upstream: str = "",
        headers: Sequence[tuple[str, str]] = (),
        credential: str = "",
    ) -> Question:
        """A question with this canonical body. `credential` identifies the tenant if none is named."""
        parts = self.parts(body, upstream, headers, credential)
        digest = keys.digest(
            prefix=self.prefix,
            tenant=parts.asker,
            scope=self.scope,
            variant=self.variant,
            upstream=parts.upstream,
            headers=headers,
            body=body,
        )
        return Question(self.key(digest, form), self.fields(model), self, model, parts=parts)

    def parts(
        self, body: bytes, upstream: str = "", headers: Sequence[tuple[str, str]] = (), credential: str = ""
    ) -> Parts:
        """What the key of a question is made of."""
        place = f"{RULES} {upstream}" if upstream else ""
        return Parts(self.tenant or credential, self.scope, self.variant, place, headers, body)

    def key(self, digest: bytes, form: Form = "v") -> Key:
        """The key of a question, by its digest."""
        return Key(digest if self.names is None else self.names.digest(digest), form)

    def fields(self, model: str) -> tuple[int, ...]:
        """The generation fields of a question to this model."""
        if self.names is None:
            return labels.fields(self.scope, model, self.tags)
        return labels.fields(self.scope, model, self.tags, self.names.labels)

    def unwanted(self, value: object, events: Events) -> str:
        """Why `store_if` rejects an answer; "" if it accepts it."""
        if self.store_if is None:
            return ""
        try:
            return "" if _said(self.store_if, value) else "store-if"
        except Exception as error:  # noqa: BLE001 - the answer is paid for: a bug in a filter must not lose it
            events.warn_once("store-if", "store_if raised %r: the answer is returned and not stored", error)
            return "store-if-failed"


def _said(store_if: Callable[[Any], Any], value: object) -> object:
    if inspect.iscoroutine(said := store_if(value)):
        said.close()
        raise TypeError("it returned a coroutine: write a plain function")
    return said


def not_normal(events: Events, wrong: NotNormal) -> str:
    """Why a request passes that `normalize` could not handle. Warns once for each kind of failure."""
    events.warn_once(f"normalize {wrong}", "normalize %s: such requests go upstream without the cache", wrong)
    return "normalize-failed"


def warn_unknown_field(events: Events, reason: str) -> str:
    """Why a request passes. Warns once if an unknown field is the reason."""
    if reason.startswith(FIELD):
        from urllib.parse import unquote

        field = unquote(reason.removeprefix(FIELD))
        events.warn_once(
            reason,
            "requests with the field %r go upstream without the cache, because answers may depend on more than the"
            " words in it; if they do not, write inert=[%r]",
            field,
            field,
        )
    return reason


def tags_of(tags: Iterable[str] | str | None) -> tuple[str, ...]:
    """Tags as a tuple, which is hashable; a plan checks them."""
    return () if tags is None else labels.listed(tags)
