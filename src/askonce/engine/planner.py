"""A Planner makes the plans of one cache: settings, checked and worked out (engine.question)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from askonce.core import labels
from askonce.core.keyring import Names
from askonce.core.lease import NEVER, Limits
from askonce.core.memo import Memo
from askonce.core.policy import AGES, LONGEST, NO_CONTROL, Control, Policy, Terms, resolve
from askonce.core.wording import MOST_SHOWN, as_text, encodable, plain_function, shown
from askonce.engine.question import NOTHING, Plan, Settings
from askonce.errors import ConfigError

PLANS = 4096  # kept in memory by a cache
FOREVER = 10 * 365 * 86_400_000  # ms: the grace that "max-stale" without a value accepts


@lru_cache(maxsize=4096)
def limits_of(terms: Terms, control: Control) -> Limits:
    """What a lookup accepts, in ms: the policy's lifetimes, tightened or widened by the directives."""
    error = terms.stale_if_error if control.stale_if_error is None else control.stale_if_error
    ages = [age for age in (oldest(terms), control.max_age, 0 if control.no_cache else None) if age is not None]
    return Limits(
        _ms(terms.ttl),
        _ms(terms.grace),
        _ms(error),
        min(map(_ms, ages), default=NEVER),
        _ms(control.min_fresh or 0.0),
        _ms(control.max_stale or 0.0),
    )


def on_error(plan: Plan) -> Limits:
    """What a lookup accepts instead of an upstream error. A `stale-if-error` counts from where other directives end."""
    control, limits = plan.control, plan.limits
    if control.stale_if_error is None:
        return limits
    ages = [oldest(plan.terms), None if control.max_age is None else control.max_age + control.stale_if_error]
    return limits._replace(max_age=min((_ms(age) for age in ages if age is not None), default=NEVER), min_fresh=0)


def oldest(terms: Terms) -> float | None:
    """The age from which on a lookup takes no answer, s; None for a `max_age` that only follows from the ttl."""
    return terms.max_age if terms.max_age < min(AGES * terms.ttl, LONGEST) else None


def _ms(seconds: float) -> int:
    return int(min(seconds * 1000, FOREVER))


def variant_text(variant: object) -> str:
    """A variant as it stands in the key: None and 0 are both the first of several answers."""
    if variant is None:
        return ""
    if isinstance(variant, bool) or not isinstance(variant, int | str) or not _keyable(variant):
        raise ConfigError(
            f"variant={shown(variant)}: write a small number or a short word, another one for each wanted answer"
        )
    return "" if variant == 0 else str(variant)


def _keyable(variant: int | str) -> bool:
    return encodable(variant) if isinstance(variant, str) else abs(variant) < MOST_SHOWN


class Planner:
    """Makes plans for one cache, from its prefix, its policies and its mode of operation."""

    def __init__(
        self,
        prefix: str,
        tenant: str,
        policy: Policy,
        scopes: Mapping[str, Policy],
        mode: str,
        names: Names | None = None,
    ) -> None:
        self.prefix = prefix
        self._names = names
        self._tenant = tenant
        self._policy = check_policy(policy)
        self._scopes = _scopes(scopes)
        self._mode = mode
        self._plans: Memo[Settings, Plan] = Memo(PLANS)
        self.plain = self._make(NOTHING)

    def plan(self, settings: Settings) -> Plan:
        """The plan for these settings; ConfigError if they are invalid."""
        if settings is NOTHING:  # not by its hash, which is that of eight fields
            return self.plain
        if settings.store_if is not None:
            # Often a lambda made for one call: neither it nor what it holds may be kept.
            plain = self.plan(settings._replace(store_if=None))
            return replace(plain, store_if=_function(settings.store_if))
        try:
            plan = self._plans.get(settings)
        except TypeError:
            self._make(settings)  # raises a ConfigError that names the unhashable setting
            raise
        if plan is None:
            plan = self._make(settings)
            self._plans.keep(settings, plan, sum(map(len, plan.tags)))
        return plan

    def _make(self, settings: Settings) -> Plan:
        scope = "" if settings.scope is None else labels.check_scope(settings.scope)
        terms = self._terms(settings, scope)
        said = NO_CONTROL if settings.control is None else settings.control
        control = self._moded(said if isinstance(said, Control) else Control.parse(said))
        limits = limits_of(terms, control)
        return Plan(
            prefix=self.prefix,
            scope=scope,
            tags=labels.check_tags(settings.tags),
            tenant=_tenant(self._tenant if settings.tenant is None else settings.tenant),
            variant=variant_text(settings.variant),
            terms=terms,
            control=control,
            limits=limits,
            plain=(limits.max_age, limits.min_fresh, limits.max_stale) == (NEVER, 0, 0),
            names=self._names,
        )

    def _terms(self, settings: Settings, scope: str) -> Terms:
        said = settings.ttl is not None or settings.consistency is not None
        own = Policy(ttl=settings.ttl, consistency=settings.consistency) if said else None
        by_scope = [self._scopes.get(path) for path in reversed(labels.scope_paths(scope))] if scope else []
        return resolve(*self._capped(own, settings.policy, *by_scope), self._policy)

    def _capped(self, *layers: Policy | None) -> Iterable[Policy | None]:
        """A call may only tighten the cache's own limits: hard end, size, length of a flight."""
        for layer in layers:
            if layer is None:
                continue
            check_policy(layer)
            tighter: dict[str, Any] = {}
            for name in ("max_age", "max_answer_bytes", "max_flight"):
                cap, said = getattr(self._policy, name), getattr(layer, name)
                if cap is not None and said is not None and said > cap:
                    tighter[name] = cap
            if (cap := self._policy.max_age) is not None and layer.ttl is not None and layer.ttl > cap:
                tighter["ttl"] = cap
            yield replace(layer, **tighter) if tighter else layer

    def _moded(self, control: Control) -> Control:
        if self._mode == "refresh":
            return control._replace(no_cache=True)
        if self._mode == "only-if-cached":
            return control._replace(only_if_cached=True)
        return control


def _scopes(scopes: object) -> dict[str, Policy]:
    if not isinstance(scopes, Mapping):
        raise ConfigError(f"scopes={shown(scopes)}: write {{'support/triage': Policy(ttl=60)}}")
    for scope, policy in scopes.items():
        if not isinstance(policy, Policy):
            raise ConfigError(f"scopes={{{shown(scope)}: {shown(policy)}}}: write {{{shown(scope)}: Policy(ttl=60)}}")
        if not labels.check_scope(scope):
            raise ConfigError("scopes={'': ...} names no scope: write policy=Policy(ttl=60) for all calls")
    return {labels.check_scope(scope): policy for scope, policy in scopes.items()}


def check_policy(policy: object) -> Policy:
    """The policy; ConfigError if it is not a Policy."""
    if not isinstance(policy, Policy):
        raise ConfigError(f"policy={shown(policy)}: write Policy(ttl=60)")
    return policy


def _tenant(tenant: object) -> str:
    if not isinstance(tenant, str) or not encodable(tenant):
        raise ConfigError(f"tenant={shown(tenant)}: a tenant is text, {as_text('tenant', tenant, 'acme')}")
    return tenant


def _function(store_if: object) -> Callable[[Any], bool]:
    if not plain_function(store_if):
        raise ConfigError(
            f"store_if={shown(store_if)}: write a plain function that takes the answer and returns whether to store it"
        )
    return store_if
