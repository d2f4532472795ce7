"""Operator rules: what holds for which requests, by their path, their model and their tenant.

All rules that match a request hold together, in the order of the file: for each setting, the last rule that sets it
counts, and tags add up. So a general rule comes first, and exceptions follow it. A rule without conditions matches
every request.

Everything here is a value computed from values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from askonce.core import labels
from askonce.core.policy import Policy
from askonce.core.rules import FOLDS, Rules
from askonce.errors import ConfigError
from askonce.gateway.sections import between, key, one_of

MODES = ("on", "off", "opt-in")
REPLAYS = ("at-once", "paced")
USAGES = ("recorded", "zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """[[rule]]: conditions, and what holds for requests that meet them. Empty and None: not set."""

    path: tuple[str, ...] = key((), "globs of the gateway's path, such as '/openai/*'")
    model: tuple[str, ...] = key((), "globs of the requested model, such as 'gpt-4o*'")
    tenant: tuple[str, ...] = key((), "globs of the tenant's name")
    mode: str = key("", "on, off (not cached), or opt-in (cached if the request asks for it)", check=one_of(*MODES))
    scope: str = key("", "scope of the answers, such as support/triage")
    tags: tuple[str, ...] = key((), "tags of the answers")
    replay: str = key("", "how stored streams come: at-once, or paced as they were recorded", check=one_of(*REPLAYS))
    replay_speed: float = key(
        1.0, "how many times as fast as recorded, with replay = 'paced'", check=between(0.01, 1000)
    )
    hit_usage: str = key("", "usage in stored answers: recorded, or zero", check=one_of(*USAGES))
    ignore_fields: tuple[str, ...] = key((), "globs of fields of the body that cannot change an answer")
    ignore_headers: tuple[str, ...] = key((), "globs of request headers that cannot change an answer")
    inert: tuple[str, ...] = key((), "unknown fields of the body of which only the words can change an answer")
    fold: tuple[str, ...] = key((), "differences in the last user text that do not count: case, space, punctuation")
    same: tuple[str, ...] = key((), "hosts that are one upstream; keys have the first")
    policy: Policy = field(default_factory=Policy)


POLICY_WORDS = tuple(one.name for one in fields(Policy))
RULE_WORDS = tuple(one.name for one in fields(Rule) if one.name != "policy")


def rule_problem(rule: Rule) -> str:
    """What is wrong with a rule as a whole, "" if nothing."""
    try:
        labels.check_scope(rule.scope)
        labels.check_tags(rule.tags)
        request_rules([rule])
    except ConfigError as wrong:
        return str(wrong)
    if rule.model and (needless := [word for word in _BEFORE_MODEL if getattr(rule, word)]):
        return f"{needless[0]} cannot depend on a model, which is read later: remove model, or write path instead"
    return ""


_BEFORE_MODEL = ("same",)


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


__all__ = ["FOLDS", "MODES", "POLICY_WORDS", "RULE_WORDS", "Rule", "request_rules", "rule_problem"]
