"""Operator rules: what holds for which requests, by their path, their model and their tenant.

All rules that match a request hold together, in the order of the file: for each setting, the last rule that sets it
counts, and tags add up. So a general rule comes first, and exceptions follow it. A rule without conditions matches
every request.

Everything here is a value computed from values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import translate
from typing import Any, NamedTuple
from urllib.parse import unquote

from askonce.core import labels
from askonce.core.policy import Control, Policy, Terms
from askonce.core.rules import Rules
from askonce.engine.question import NOTHING, Settings
from askonce.errors import ConfigError
from askonce.gateway.field_globs import check_fields
from askonce.gateway.sections import between, key, one_of

MODES = ("on", "off", "opt-in")
REPLAYS = ("at-once", "paced")
USAGES = ("recorded", "zero")
NO_STORES = ("ignore", "obey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """[[rule]]: conditions, and what holds for requests that meet them. Empty and None: not set."""

    path: tuple[str, ...] = key((), "globs of the gateway's path, such as '/openai/*'")
    model: tuple[str, ...] = key((), "globs of the requested model, such as 'gpt-4o*'")
    tenant: tuple[str, ...] = key((), "globs of the tenant's name")
    mode: str = key("", "use of the cache: on, off, or opt-in (if the request asks for it)", check=one_of(*MODES))
    scope: str = key("", "scope of the answers, such as support/triage")
    tags: tuple[str, ...] = key((), "tags of the answers")
    replay: str = key("", "how stored streams come: at-once, or paced as they were recorded", check=one_of(*REPLAYS))
    replay_speed: float = key(
        1.0, "how many times as fast as recorded, with replay = 'paced'", check=between(0.01, 1000)
    )
    hit_usage: str = key("", "usage in stored answers: recorded, or zero", check=one_of(*USAGES))
    upstream_no_store: str = key(
        "", "Cache-Control: no-store or private of an answer: ignore (store it), or obey", check=one_of(*NO_STORES)
    )
    ignore_fields: tuple[str, ...] = key((), "globs of fields of the body that cannot change an answer")
    ignore_headers: tuple[str, ...] = key((), "globs of request headers that cannot change an answer")
    inert: tuple[str, ...] = key((), "unknown fields of the body of which only the words can change an answer")
    fold: tuple[str, ...] = key((), "differences in the last user text that do not count: case, space, punctuation")
    same: tuple[str, ...] = key((), "hosts that are one upstream; keys have the first")
    policy: Policy = field(default_factory=Policy)


POLICY_WORDS = tuple(one.name for one in fields(Policy))
RULE_WORDS = tuple(one.name for one in fields(Rule) if one.name != "policy")
PLAIN_PACE = 0.0


def rule_problem(rule: Rule) -> str:
    """What is wrong with a rule as a whole, "" if nothing."""
    try:
        labels.check_scope(rule.scope)
        labels.check_tags(rule.tags)
        check_fields(rule.ignore_fields)
        request_rules([rule])
    except ConfigError as wrong:
        return str(wrong)
    if lost := [glob for glob in rule.path if glob[:1] not in {"/", "*", "?", "["}]:
        return f"path = {lost[0]!r} matches nothing: begin it with a slash, {'/' + lost[0]!r}"
    if rule.same and rule.model:
        return "same cannot depend on a model, because hosts are read first: remove model, or write a path instead"
    if len(rule.same) == 1:
        return "same names one host: write at least two, the one that keys have first"
    return ""


def request_rules(rules: Iterable[Rule]) -> Rules:
    """What these rules say about which parts of a request count in its key."""
    ignore: list[str] = []
    inert: list[str] = []
    fold: list[str] = []
    same: dict[str, str] = {}
    for rule in rules:
        ignore += rule.ignore_headers
        inert += rule.inert
        fold += rule.fold
        same |= dict.fromkeys(rule.same[1:], "".join(rule.same[:1]))
    words: dict[str, Any] = {"ignore_headers": ignore, "inert": inert, "fold": fold, "same_as": same}
    return Rules.of(words)


# --- deciding ----------------------------------------------------------------------------------------------------


class Ruling(NamedTuple):
    """What holds for a request. `pace`: of replays, 0 at once; `zero_usage`: hits say that they used nothing.

    `obeys`: an answer whose Cache-Control forbids it is not stored.
    """

    mode: str = "on"
    settings: Settings = NOTHING
    pace: float = PLAIN_PACE
    zero_usage: bool = False
    obeys: bool = False


SHAPING = ("ignore_fields", "ignore_headers", "inert", "fold", "same")  # what says which parts count in a key
Mask = int  # a bit for each rule that matches


class Conditions:
    """The conditions of all rules of a file: which of them match a request."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._path = [_globs(tuple(map(unquote, rule.path))) for rule in rules]
        self._model = [_globs(rule.model, fold=True) for rule in rules]
        self._tenant = [_globs(rule.tenant) for rule in rules]
        self.any_model = _mask(rules, lambda rule: bool(rule.model))
        self.any_tenant = _mask(rules, lambda rule: bool(rule.tenant))
        self.shaping = _mask(rules, lambda rule: any(getattr(rule, word) for word in SHAPING))

    def before_model(self, path: str, tenant: str) -> Mask:
        """The rules whose path and tenant match; those with a model may still not match.

        Escapes of the path are read, as its upstream reads them: another spelling of it does not leave a rule.
        """
        path = unquote(path)
        return sum(
            1 << at
            for at, (by_path, by_tenant) in enumerate(zip(self._path, self._tenant, strict=True))
            if _matches(by_path, path) and _matches(by_tenant, tenant)
        )

    def with_model(self, mask: Mask, model: str) -> Mask:
        """What is left of these rules for a request to this model."""
        if not mask & self.any_model:
            return mask
        name = model.lower()
        return sum(1 << at for at, globs in enumerate(self._model) if mask >> at & 1 and _matches(globs, name))

    def of(self, mask: Mask) -> tuple[Rule, ...]:
        """The rules themselves, in their order."""
        return tuple(rule for at, rule in enumerate(self.rules) if mask >> at & 1)


def ruling(rules: Iterable[Rule]) -> Ruling:
    """What rules that match one request come to: the last one that says something counts, and tags add up."""
    settings, found = NOTHING, Ruling()
    for rule in rules:
        policy = None if rule.policy == Policy() else rule.policy
        settings = Settings(scope=rule.scope or None, tags=rule.tags, policy=policy).over(settings)
        if rule.mode:
            found = found._replace(mode=rule.mode)
        if rule.replay:
            found = found._replace(pace=rule.replay_speed if rule.replay == "paced" else PLAIN_PACE)
        if rule.hit_usage:
            found = found._replace(zero_usage=rule.hit_usage == "zero")
        if rule.upstream_no_store:
            found = found._replace(obeys=rule.upstream_no_store == "obey")
    return found._replace(settings=settings)


def tightened(said: Settings, own: Settings, terms: Terms) -> Settings:
    """What a caller says, as far as it may: its own lifetimes only shorten, its own scope is within the operator's.

    `own`: what the operator's rules say, with `terms`. ConfigError for what cannot be read.
    """
    return said._replace(
        ttl=None if said.ttl is None or said.ttl > terms.ttl else said.ttl,
        scope=_within(said.scope, own.scope),
        consistency=None if terms.consistency == "strong" else said.consistency,
        control=_limited(said.control, terms) if isinstance(said.control, Control) else said.control,
    )


def _within(said: str | None, own: str | None) -> str | None:
    if not said or not own or said == own or said.startswith(f"{own}/"):
        return said or None
    return f"{own}/{said}"


def _limited(control: Control, terms: Terms) -> Control:
    """A caller may take answers as old as the operator's rules would serve in any case, and no older."""
    oldest = max(terms.grace, terms.stale_if_error)
    stale, error = control.max_stale, control.stale_if_error
    return control._replace(
        max_stale=None if stale is None else min(stale, oldest),
        stale_if_error=None if error is None else min(error, terms.stale_if_error),
    )


def _mask(rules: Sequence[Rule], wanted: Callable[[Rule], bool]) -> Mask:
    return sum(1 << at for at, rule in enumerate(rules) if wanted(rule))


def _globs(globs: tuple[str, ...], *, fold: bool = False) -> re.Pattern[str] | None:
    if not globs:
        return None
    return re.compile("|".join(translate(one.lower() if fold else one) for one in globs))


def _matches(globs: re.Pattern[str] | None, text: str) -> bool:
    return globs is None or globs.fullmatch(text) is not None
