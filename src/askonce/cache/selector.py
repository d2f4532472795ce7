"""A Selector: what one invalidation reaches. Exactly one of six ways selects it; no way is an error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from askonce.core import keys, labels
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.seen import Label
from askonce.core.wording import flag, list_of, shown
from askonce.errors import ConfigError, UsageError

WAYS = "key=outcome.key, request={...}, scope='a/b', tag='doc:42', model='gpt-4.1-mini', everything=True"


class Selector(NamedTuple):
    """`keys` to forget one by one, or `fields` whose generations move (of `labels`), or everything of the prefix."""

    keys: tuple[keys.Key, ...] = ()
    fields: tuple[int, ...] = ()
    everything: bool = False
    labels: tuple[Label, ...] = ()


def select(
    *,
    key: str | Iterable[str] | None = None,
    request: keys.Key | None = None,
    scope: str | Iterable[str] | None = None,
    tag: str | Iterable[str] | None = None,
    model: str | Iterable[str] | None = None,
    everything: bool = False,
    secret: bytes = b"",
) -> Selector:
    """The selector of an invalidation; UsageError unless exactly one way is used. `secret`: keys the labels' fields."""
    ways = [way is not None for way in (key, request, scope, tag, model)]
    if sum(ways) + flag("everything", everything) != 1:
        raise UsageError(f"say what to invalidate, in one way: {WAYS}")
    if everything:
        return Selector(everything=True)
    if request is not None:
        return Selector(keys=(request,))
    if key is not None:
        return Selector(keys=tuple(keys.Key.parse(one) for one in _several("key", key)))
    if scope is not None:
        return _labelled("scope", (_scope(one) for one in _several("scope", scope)), secret)
    if tag is not None:
        return _labelled("tag", (labels.check_tag(one) for one in _several("tag", tag)), secret)
    assert model is not None
    return _labelled("model", (_model(one) for one in _several("model", model)), secret)


def _several(name: str, said: str | Iterable[str]) -> tuple[Any, ...]:
    several = list_of(name, said)
    if not several:
        raise UsageError(f"an empty list selects nothing to invalidate: pass one of {WAYS}")
    return several


def _labelled(kind: str, texts: Iterable[str], secret: bytes) -> Selector:
    named = tuple((kind, text) for text in texts)
    fields = tuple(sorted({labels.field(kind, text, secret) for kind, text in named}))
    return Selector(fields=fields, labels=named)


def _scope(scope: object) -> str:
    if isinstance(scope, str) and not scope:
        raise ConfigError("scope='' is not a scope: write everything=True to invalidate everything")
    if isinstance(scope, str) and (scope == "*" or scope.endswith("/*")):  # it would reach nothing, and say nothing
        above = scope.removesuffix("*").rstrip("/")
        right = f"scope={above!r}" if above else "everything=True"
        raise UsageError(f"scope={shown(scope)}: a scope reaches all below it, and is no glob: write {right}")
    return labels.check_scope(scope)


def _model(model: object) -> str:
    if not isinstance(model, str) or not model or "*" in model:
        raise UsageError(f"model={shown(model)}: write a model's name as it is in the requests; it is no glob")
    return model
