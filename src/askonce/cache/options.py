"""The options of a call: a closed list of keywords, the same in every way of use.

Any other keyword of `get_or_set` is part of the question, and so of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, replace
from typing import Any, TypedDict

from askonce.core.policy import Consistency, OnAbandon, Policy, Searched, ToolCalls
from askonce.core.providers.inert import NAMES
from askonce.core.rules import RULE_WORDS
from askonce.core.spelling import meant
from askonce.core.wording import shown
from askonce.engine.planner import check_policy
from askonce.engine.question import Settings, tags_of
from askonce.errors import UsageError

Call = Callable[[], Any]


class CallOptions(TypedDict, total=False):
    """The keywords of a call, a handle or a header that are askonce's, not the question's. None: as the cache has it.

    `ttl`: seconds that the answer stays fresh. `scope`: a path such as ``support/triage/v3``, part of the key. `tags`:
    what the answer depends on. `variant`: which of several answers, a number or a text, and `tenant`: whose answer it
    is, both part of the key. `policy`: its other terms. `consistency`: ``strong`` for no answer of a near cache.
    `control`: directives of RFC 9111, such as ``no-cache``. `store_if`: a function of the answer that returns whether
    to store it.
    """

    ttl: float | None  # s that the answer stays fresh
    scope: str | None  # a path such as support/triage/v3; joins the key
    tags: Iterable[str] | None  # what the answer depends on; joins the entry
    variant: int | str | None  # which of several answers to the question; joins the key
    tenant: str | None  # whose answer it is; joins the key
    policy: Policy | None
    consistency: Consistency | None  # "strong": no answer of a near cache
    control: str | None  # RFC 9111 directives, such as "no-cache" or "max-age=60, stale-if-error=600"
    store_if: Callable[[Any], bool] | None  # called with the answer, or a stream's items; returns whether to store it


class PolicyFields(TypedDict, total=False):
    """The fields of a Policy that a cache, a handle, a client and a fetch take as keywords, beside those of a call.

    Units and defaults as in `Policy`.
    """

    hot_ttl: float | None
    grace: float | None
    stale_if_error: float | None
    max_age: float | None
    hot_threshold: int | None
    hot_window: float | None
    jitter: float | None
    tool_calls: ToolCalls | None
    searched: Searched | None
    on_abandon: OnAbandon | None
    abandon_limit: float | None
    max_flight: float | None
    max_answer_bytes: int | None


class Options(CallOptions, PolicyFields, total=False):
    """The keywords of a handle, a client and a fetch: the fields of `Policy`, and those of `CallOptions`."""


CALL_OPTIONS = frozenset(CallOptions.__annotations__)
POLICY_OPTIONS = frozenset(field.name for field in fields(Policy)) - CALL_OPTIONS
FIELDS = POLICY_OPTIONS | {"ttl"}  # of a Policy, as keywords of a cache
OPTIONS = CALL_OPTIONS | POLICY_OPTIONS  # of a cache, a handle, a client and a fetch
_QUESTION = frozenset({"messages", "model", "call_fn", "request"})
# Words of a cache that no provider has as a field of a request (`prefix` and `mode` are fields of some).
_OF_A_CACHE = RULE_WORDS | {
    "scopes",
    "redis_client",
    "replay",
    "replay_speed",
    "compress",
    "encryption",
    "near",
    "prices",
    "strict",
}
_OF_A_CACHE_ALONE = (_OF_A_CACHE | {"url", "prefix", "mode"}) - {"scopes"}
CLIENT_OPTIONS = OPTIONS | RULE_WORDS | {"module", "inner", "share_forms"}


def taken(names: AbstractSet[str], own: dict[str, Any]) -> dict[str, Any]:
    """The keywords of `own` with these names, which are taken out of it."""
    return {name: own.pop(name) for name in names & own.keys()}


def settings_of(own: Mapping[str, Any]) -> Settings:
    """Keywords as Settings; a UsageError for an unknown one names the word that was probably meant, or all of them."""
    if unknown := own.keys() - OPTIONS:
        raise UsageError("; ".join(_unknown(name) for name in sorted(unknown)))
    said = {name: value for name, value in own.items() if name not in POLICY_OPTIONS}
    if len(said) < len(own):
        said["policy"] = policy_of(own.get("policy"), {name: own[name] for name in POLICY_OPTIONS & own.keys()})
    return Settings(**{**said, "tags": tags_of(own.get("tags"))})


def policy_of(policy: Policy | None, said: Mapping[str, Any]) -> Policy:
    """A policy, with the fields that are given beside it."""
    return replace(check_policy(Policy() if policy is None else policy), **said)


def _unknown(name: str) -> str:
    if name in _OF_A_CACHE_ALONE:
        return f"{name}=: write it in Cache({name}=...)"
    right = meant(name, OPTIONS)
    return f"{name}: unknown setting; write " + (f"{right}=" if right else f"any of {', '.join(sorted(OPTIONS))}")


def asked_of(messages: object, model: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The question of a get_or_set, from its keywords that are not askonce's.

    UsageError for a keyword that is nearly askonce's: as a part of the question it would change the key, and not do
    what it was given for. Fields of ``request={...}`` are the question's, whatever their names.
    """
    request = {} if more.get("request") is None else more["request"]
    if not isinstance(request, Mapping):
        raise UsageError(
            f"request={shown(request)}: write a dict of the question's other fields, request={{'seed': 7}}"
        )
    asked = {name: value for name, value in more.items() if name != "request"}
    for name in asked:
        if (right := _misspelt(name)) is not None:
            raise UsageError(f"{name}=: write {right}; if it is a field of the question, request={{{name!r}: ...}}")
    if not isinstance(model, str):
        raise UsageError(f"model={shown(model)} is not text: write model='gpt-4.1-mini'")
    asked = {"messages": messages, "model": model, **asked}
    if twice := sorted(map(str, asked.keys() & request.keys())):
        raise UsageError(f"{twice[0]}= is given twice, also in request={{{twice[0]!r}: ...}}: write it once")
    return {**asked, **request}


def _misspelt(name: str) -> str | None:
    if name in _OF_A_CACHE:
        return f"it in Cache({name}=...)"
    if name in POLICY_OPTIONS - _OF_BOTH or name == "max_bytes":
        return f"policy=Policy({name}=...)"
    right = None if name in NAMES else meant(name, CALL_OPTIONS | _QUESTION)
    return right and f"{right}="


def check_spelling(names: Iterable[str], known: Iterable[str], error: type[Exception]) -> None:
    """Raise if a name is nearly one of the known ones. What it is otherwise is decided elsewhere."""
    for name in names:
        if name in _OF_A_CACHE_ALONE.difference(known):
            raise error(f"{name}=: write it in Cache({name}=...)")
        if name in CALL_OPTIONS.difference(known):
            raise error(f"{name}=: say it for a call, a handle or a client, as in cache.scoped({name}=...)")
        if (right := meant(name, known)) is not None:
            raise error(f"{name}=: unknown; write {right}=")


_OF_BOTH = frozenset({"tool_calls"})  # and a field of messages that some servers also take from a request
