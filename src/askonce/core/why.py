"""Why a lookup was answered as it was: a Why, decided from evidence.

The reasons stand in the order of their certainty. What a status or the store itself says is certain. What a note says
(core.notes) was true when it was written. That an earlier request is near is a comparison of digests, and the last
resort. No sentence holds a word of a request or of an answer: it names fields, rules and the operator's own labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from askonce.core.providers.named_tuples import NamedTuple

REASONS: Mapping[str, str] = {
    "hit": "a stored answer is fresh and is served",
    "stale": "a stored answer is past its freshness and is served while a new one is fetched",
    "joined": "another caller asked the same at the same time, and its call answered both",
    "passed": "the request is not looked up, by a rule",
    "requested": "the caller asked for a new answer",
    "store-trouble": "the store could not be used, or its answer could not be read",
    "under-way": "the call for this answer has not ended yet",
    "expired": "the answer was stored, and its lifetime is over",
    "invalidated": "the answer was stored, and was invalidated",
    "evicted": "the answer was stored, and the store no longer has it, before its lifetime is over",
    "not-stored": "the answer came, and was not allowed into the store",
    "failed": "the call for this answer failed",
    "near": "never asked; an earlier request differs in few places",
    "never-seen": "never asked, and no earlier request is near",
    "unknown": "no lookup of this key is noted: it was never asked here, or too long ago",
}

KINDS: Mapping[str, str] = {
    "value": "has another value",
    "digits": "differs only in digits or a date: it looks like a timestamp or an id",
    "case": "differs only in case, spaces or line ends",
    "unicode": "has the same characters in another Unicode form",
    "type": "has the same text with another type, such as 1 and '1'",
    "order": "has the same items in another order",
    "extra": "is new",
    "missing": "is not there any more",
    "form": "is another form of the same question, and forms are stored apart",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a request differs from an earlier one: `field`, such as ``messages[0].content``, and `kind`."""

    field: str
    kind: str


@dataclass(frozen=True, slots=True)
class Why:
    """Why a lookup was answered as it was. `reason`: one of REASONS; `sentence`: one line for people;
    `key`: the question's.

    `field`, `kind` (one of KINDS): where and how the nearest earlier request differs, and `nearest`: its key; `others`:
    further places. `when`: when the answer went, or was stored, s since 1970. `by`: the rule, label or word behind it.
    """

    reason: str
    sentence: str
    key: str = ""
    field: str = ""
    kind: str = ""
    when: float | None = None
    by: str = ""
    nearest: str = ""
    others: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Miss:
    """A lookup that went upstream, for a list: its `key`, `model` and `scope`, and `why` it missed.

    `at` in s since 1970, `stored` whether its answer was stored, `detail` why not (as in a status), "" if it was.
    """

    key: str
    at: float
    stored: bool
    detail: str
    model: str
    scope: str
    why: Why


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is in the store now: dates in ms, `took` the seconds of its call, `valid`: not invalidated."""

    created: int
    fresh: int
    stale: int
    took: float
    valid: bool


@dataclass(frozen=True, slots=True)
class Past:
    """What a note says of the last call for a question. Times in ms; `fresh`, `hard`: when it expired, or will.

    `unstored`: why the answer was not stored, "" if it was. `valid`: no invalidation has reached it since.
    """

    at: int
    unstored: str
    failed: bool = False
    fresh: int = 0
    hard: int = 0
    valid: bool = True


@dataclass(frozen=True, slots=True)
class Gone:
    """An invalidation: when (ms, 0 if unknown), and by which name (``tag doc:42``, ``everything``; "" if unknown)."""

    at: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest earlier request: its key, when it was asked (ms), and where it differs, the first place first."""

    key: str
    at: int
    differences: Sequence[Difference]


class Evidence(NamedTuple):
    """All that is known of one question. `now` in ms by the store's clock. `underway`: a call for it runs now.

    `wanted`: why the answer that there was did not do (``request``, ``unverified``), "" if that has another reason.
    """

    key: str
    now: int
    stored: Stored | None = None
    past: Past | None = None
    gone: Gone | None = None
    near: Near | None = None
    underway: bool = False
    wanted: str = ""


def decide(known: Evidence) -> Why:
    """Why a lookup of this question finds what it finds."""
    if known.stored is not None:
        return _of_stored(known, known.stored)
    if known.wanted:
        return requested(known.key, known.wanted)
    if known.past is not None:
        return _of_past(known, known.past)
    if known.underway:
        return _said(known, "under-way", "the call for this answer is under way")
    return _of_near(known)


def passed(key: str, rule: str) -> Why:
    """Why of a request that was not looked up; `rule`: the detail of its status."""
    return Why("passed", f"not looked up, by the rule {rule}{_meaning(rule)}", key, by=rule)


def served(key: str, now: Why, ttl: int | None, detail: str) -> Why:
    """Why of a lookup that was answered from the store; `now`: what its entry is now, `ttl`: s, as in its status."""
    if detail.startswith("upstream-"):
        return Why("stale", f"an old answer was served, because upstream failed ({detail})", key, by=detail)
    reason = "hit" if ttl is None or ttl >= 0 else "stale"
    if now.reason == reason:
        return now
    words = {"hit": "answered from the store; its entry is gone by now", "stale": "an answer past its freshness"}
    return Why(reason, f"{reason}: {words[reason]}", key)


def unknown(key: str) -> Why:
    """Why of a key of which nothing is noted."""
    return Why("unknown", REASONS["unknown"], key)


def troubled(key: str, kind: str) -> Why:
    """Why of a lookup that went without the store; `kind`: the detail of its status."""
    return Why("store-trouble", f"looked up without the store ({kind}): askonce doctor says more", key, by=kind)


def joined(key: str) -> Why:
    """Why of a lookup that another caller's call answered."""
    return Why("joined", "answered by the call of another caller that asked the same at the same time", key)


def requested(key: str, by: str = "") -> Why:
    """Why of a lookup that needed a new answer: its caller wanted one, or its credential is ``unverified``."""
    if by == "unverified":
        return Why("requested", f"a new answer was needed, because {_MEANINGS[by]}", key, by=by)
    return Why("requested", "a new answer was asked for (no-cache, max-age, min-fresh, or the mode refresh)", key)


# --- what is in the store ----------------------------------------------------------------------------------------


def _of_stored(known: Evidence, stored: Stored) -> Why:
    filled = f"stored at {moment(stored.created)} by a call that took {stored.took:.1f} s"
    if not stored.valid:
        return _invalidated(known, filled)
    if known.now < stored.fresh:
        sentence = f"hit: {filled}, fresh until {moment(stored.fresh)}"
        return _said(known, "hit", sentence, stored.created, "a call")
    if known.now < stored.stale:
        sentence = f"served while it is refreshed: {filled}, fresh until {moment(stored.fresh)}"
        return _said(known, "stale", sentence, stored.fresh)
    return requested(known.key, known.wanted) if known.wanted else _expired(known, stored.fresh)


# --- what was seen and is gone -----------------------------------------------------------------------------------


def _of_past(known: Evidence, past: Past) -> Why:
    if past.failed:
        sentence = f"asked at {moment(past.at)}, and the call failed ({past.unstored})"
        return _said(known, "failed", sentence, past.at, past.unstored)
    if past.unstored:
        sentence = f"asked at {moment(past.at)}, and the answer was not stored: {past.unstored}"
        return _said(known, "not-stored", f"{sentence}{_meaning(past.unstored)}", past.at, past.unstored)
    filled = f"stored at {moment(past.at)}" if past.at else "stored before"
    later = known.gone is not None and known.gone.at >= past.fresh  # an invalidation of what had expired
    if not (past.valid or later):
        return _invalidated(known, filled)
    if known.now >= past.fresh:
        return _expired(known, past.fresh)
    sentence = f"{filled} and gone before its end at {moment(past.fresh)}"
    return _said(known, "evicted", f"{sentence}: the store made room, or another program deleted it", past.at)


def _expired(known: Evidence, fresh: int) -> Why:
    return _said(known, "expired", f"asked before; the answer expired at {moment(fresh)}", fresh)


def _invalidated(known: Evidence, filled: str) -> Why:
    gone = known.gone or Gone()
    by = f" by {gone.by}" if gone.by else ""
    at = f" at {moment(gone.at)}" if gone.at else ""
    return _said(known, "invalidated", f"{filled}, and invalidated{by}{at}", gone.at, gone.by)


# --- what is near ------------------------------------------------------------------------------------------------


def _of_near(known: Evidence) -> Why:
    near = known.near
    if near is None or not near.differences:
        return _said(known, "never-seen", "never asked before, and no earlier request is near")
    first, *rest = near.differences
    more = f", and {len(rest)} more {'place differs' if len(rest) == 1 else 'places differ'}" if rest else ""
    sentence = (
        f"never asked before; {first.field} {KINDS[first.kind]}, compared with the request of {moment(near.at)}{more}"
    )
    return Why("near", sentence, known.key, first.field, first.kind, near.at / 1000, "", near.key, tuple(rest))


# --- words -------------------------------------------------------------------------------------------------------


def _said(known: Evidence, reason: str, sentence: str, when: int = 0, by: str = "") -> Why:
    return Why(reason, sentence, known.key, when=when / 1000 if when else None, by=by)


def moment(ms: int) -> str:
    """A time for people, in UTC; a number that is no time stays a number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


_MEANINGS = {
    "off": "the mode is off",
    "no-store": "the caller sent no-store",
    "tools": "the request offers tools",
    "server-tools": "the provider may run tools or search",
    "previous-response": "the answer depends on state that the provider keeps",
    "conversation": "the answer depends on state that the provider keeps",
    "background": "the answer comes later",
    "unknown-path": "the URL is no known operation of an API",
    "streamed-body": "the request's body is a stream",
    "large-body": "the request's body is very large",
    "not-json": "it is no JSON",
    "encoded-body": "the request's body is compressed",
    "body-mismatch": "the body does not fit its path",
    "tenant-needed": "the credential is short-lived: name a tenant",
    "bad-settings": "its askonce settings are invalid",
    "stream": "streams of this API cannot be judged",
    "normalize-failed": "the function normalize= failed",
    "truncated": "it was cut at a limit",
    "filtered": "the provider's filter cut it",
    "refused": "the model refused to answer",
    "empty": "it was empty",
    "incomplete": "it has no end",
    "unknown-ending": "its finish reason is unknown",
    "error": "it is an error",
    "tool-call": "it calls a tool",
    "server-tool": "the provider ran a tool for it",
    "searched": "it came from a search",
    "expired": "its own end had passed",
    "invalid-json": "JSON was asked for, and it is not JSON",
    "store-if": "store_if rejected it",
    "store-if-failed": "store_if raised an exception",
    "too-large": "it is larger than max_answer_bytes",
    "unkept": "it is too large for the store",
    "moved": "it was invalidated while its call ran",
    "lost": "the lease was lost while its call ran",
    "no-lease": "the store could not be used",
    "other-model": "another model answered",
    "upstream-no-store": "its Cache-Control forbids it, and a rule obeys that",
    "rule-off": "a rule of the gateway says mode = 'off'",
    "asked-off": "the caller sent askonce-mode: off",
    "not-asked": "a rule of the gateway says mode = 'opt-in', and the caller did not ask for the cache",
    "bad-tenant": "the header that names the tenant holds no name, or stands there twice",
    "unlisted-credential": "the file of tenants does not list the credential",
    "refused-credential": "upstream refused the credential less than a minute ago",
    "unverified": "upstream had not accepted the credential yet",
    "inherited": "the connection may belong to the process from which this one was forked",
    "other-request": "it belongs to another request",
}


def meaning(word: str) -> str:
    """What a word of a status means, "" if that is not known."""
    if word.startswith("field-"):
        return f"the field {word.removeprefix('field-')} may depend on the world: if not, write inert="
    if word.startswith("status-"):
        return f"the provider answered {word.removeprefix('status-')}"
    return _MEANINGS.get(word, "")


def _meaning(word: str) -> str:
    return f" ({found})" if (found := meaning(word)) else ""
