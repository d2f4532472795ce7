"""GatewayRules: how the requests for one upstream are read, under the operator's rules and for their tenant.

A third party decides beside the request and the cache: the operator. His rules choose mode, lifetimes and labels; what
callers say in headers may only tighten them. The rules that say what counts in a key shape the reading itself, so
each set of them has a reader of its own.

After a request is read, its credential is looked at. A stored answer goes only to a credential that upstream has
accepted: see gateway.credentials.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from askonce.cache.base import BaseCache
from askonce.core.body_memo import BodyMemo
from askonce.core.judge import Judge
from askonce.core.lease import NEVER
from askonce.core.memo import Memo
from askonce.core.providers import bounded
from askonce.core.providers.operations import Operation
from askonce.core.rules import Rules
from askonce.engine.question import NOTHING, Plan, Question, Settings
from askonce.errors import ConfigError
from askonce.gateway.acceptance import Accepting, accepting, forbids
from askonce.gateway.credentials import Credentials, Way, Who
from askonce.gateway.field_globs import compiled, prune
from askonce.gateway.operator_rules import Conditions, Mask, Ruling, request_rules, ruling, tightened
from askonce.gateway.settings import GatewayConfig
from askonce.gateway.tenants import Tenants
from askonce.gateway.upstreams import Upstream
from askonce.http.credentials import Header
from askonce.http.directives import said
from askonce.http.request import OURS, RequestHeaders, SentRequest, read_headers, target_of
from askonce.http.response import Response
from askonce.http.rules import NEVER_MET, OPEN, Asked, ClientRules, Passes
from askonce.runtime.boot_clock import boot_clock

MODE = "askonce-mode"
PLANS = 4096  # remembered, by the rules that match and the tenant
READERS = 64  # of requests, by the rules that shape their keys
UNVERIFIED = "unverified"
REFUSED = "refused-credential"
_REFUSALS = (401, 403)


@dataclass(frozen=True, slots=True)
class Operator:
    """What one configuration says, for all its upstreams."""

    conditions: Conditions
    tenants: Tenants
    credentials: Credentials

    @classmethod
    def of(cls, config: GatewayConfig, before: Operator | None = None) -> Operator:
        """What a configuration says. What upstreams said of credentials is kept when it is loaded again."""
        recheck = config.tenants.recheck
        kept = before is not None and before.credentials.recheck == recheck
        credentials = before.credentials if before is not None and kept else Credentials(recheck)
        return cls(Conditions(config.rules), Tenants(config.tenants, config.tenant_names), credentials)


class Draft(NamedTuple):
    """What the operator says of a request; without its `ruling`, as long as its model is not known."""

    mask: Mask
    tenant: str
    ours: Mapping[str, str]
    ruling: Ruling = Ruling()


class HeadPlan(NamedTuple):
    """What all requests with one head have in common: `asked` has no question. `bodies`: those asked before."""

    rules: GatewayRules
    asked: Asked
    plan: Plan
    bodies: BodyMemo[tuple[Question, Operation | None]]


def rules_for(operator: Operator, upstream: Upstream, cache: BaseCache) -> GatewayRules:
    """The rules for the requests of one upstream."""
    if operator.conditions.shaping:
        return cache.rules_as(partial(ShapedRules, operator, upstream, cache), NOTHING, Rules())
    return cache.rules_as(partial(GatewayRules, operator, upstream), NOTHING, Rules())


class GatewayRules(ClientRules):
    """Reads requests for one upstream, whose keys are all made in one way. `ignored`: fields that do not count."""

    # Without the error, which repeats what a caller wrote: whatever that is, it is not for the gateway's log.
    _bad_settings = "a request went upstream without the cache: a header of it for askonce cannot be read%.0s"
    _open = OPEN | {"rule-off"}

    def __init__(
        self, operator: Operator, upstream: Upstream, *given: Any, ignored: Sequence[str] = (), **more: Any
    ) -> None:
        named = operator.tenants.header.decode()
        self._ours = frozenset({*OURS, MODE, *([named] if named.startswith("askonce-") else ())})
        self._not_asking = frozenset({MODE, named, "cache-control"})
        self._operator = operator
        self._says_nothing = not operator.conditions.rules and not operator.tenants.names
        self._upstream = upstream
        self._origin = upstream.origin  # once: it is taken out of the URL each time
        self._masks: Memo[tuple[str, str], Mask] = Memo(PLANS)
        self._ruled: Memo[tuple[Mask, str], tuple[Ruling, Plan]] = Memo(PLANS)
        self._provable: Memo[int, tuple[Plan, Plan]] = Memo(PLANS)
        if operator.conditions.any_model:
            self._by_model = self._plan_by_model
        if ignored:
            self._prune = partial(prune, globs=compiled(ignored))
        super().__init__(*given, **more)
        self.judges = accepting(self.judges)

    def read(self, sent: SentRequest) -> Asked:
        """What a request asks, or why it passes."""
        asked = super().read(sent)
        if asked.question is not None:
            self._verify(asked, asked.question, boot_clock())
        return asked

    # requests that come again

    def head_plan(self, sent: SentRequest) -> HeadPlan | None:
        """What is known of every request with this head; None if it depends on more than that."""
        read = self.read(sent)
        target = target_of(sent.method, sent.url, self._same_as)
        if read.question is None or read.batch is not None or target is None or self._callers.bound:
            return None
        asked = Asked(sent=sent._replace(body=None), who=read.who, counts=read.counts)
        carries = self._callers.beside(sent, self._callers.read_headers(sent), target)
        plan = self._plan(asked, carries)
        return HeadPlan(self, asked, plan, self._by_way((sent.url, read.counts, read.who)))

    def again(self, head_plan: HeadPlan, body: bytes) -> Asked | None:
        """`read` for a request with this head, if this body was asked before and its answer may be a stored one."""
        bodies, head = head_plan.bodies, head_plan.asked
        met, operation = bodies.recent(body) or bodies.again(hashlib.sha256(body).digest(), body) or NEVER_MET
        if met is None or self._callers.bound:
            return None
        asked = Asked(sent=head.sent, operation=operation, who=head.who, counts=head.counts)
        asked.tenant, asked.ruling = head.tenant, head.ruling
        plan = head_plan.plan if self._by_model is None else self._by_model(asked, head_plan.plan, met.model)
        if met.plan is not plan:
            return None
        question = asked.question = Question(met.key, met.fields, plan, met.model, operation=operation)
        self._verify(asked, question, boot_clock())
        return asked if asked.reply is None else None

    # plans

    def _plan(self, asked: Asked, carries: RequestHeaders) -> Plan:
        if self._says_nothing and not carries.ours:
            return self._plain
        assert asked.sent is not None
        asked.tenant = tenant = self._operator.tenants.name_of(asked.sent.headers, carries.secrets)
        mask = self.mask_of(asked.sent.url, tenant)
        draft = Draft(mask, tenant, carries.ours)
        if self._by_model is None:
            return self._planned(asked, mask, draft)
        asked.ruling = draft
        # Only what a caller says of no-store matters before the model is known.
        return self._planner.plan(Settings(control=said(carries.ours).control)) if carries.ours else self._plain

    def _plan_by_model(self, asked: Asked, _: Plan, model: str) -> Plan:
        draft: Draft = asked.ruling
        return self._planned(asked, self._operator.conditions.with_model(draft.mask, model), draft)

    def _planned(self, asked: Asked, mask: Mask, draft: Draft) -> Plan:
        """The plan under these rules; Passes if a request must not be looked up."""
        tenant, ours = draft.tenant, draft.ours
        found, plan = self._ruled.get((mask, tenant)) or self._rule(mask, tenant)
        asked.ruling = Draft(draft.mask, tenant, ours, found)
        if reason := unwanted(found.mode, ours.get(MODE, ""), asks=not ours.keys() <= self._not_asking):
            raise Passes(reason)
        if not ours:
            return plan
        return self._planner.plan(tightened(said(ours), found.settings, plan.terms).over(_whose(found, tenant)))

    def _rule(self, mask: Mask, tenant: str) -> tuple[Ruling, Plan]:
        found = ruling(self._operator.conditions.of(mask))
        made = found, self._planner.plan(_whose(found, tenant))
        self._ruled.keep((mask, tenant), made, len(tenant))
        return made

    def mask_of(self, url: str, tenant: str) -> Mask:
        """The rules that match a request, as far as its path and its tenant say."""
        path = self._upstream.path + url.partition("?")[0][len(self._upstream.url) :]
        found = self._masks.get((path, tenant))
        if found is None:
            found = self._operator.conditions.before_model(path, tenant)
            self._masks.keep((path, tenant), found, len(path) + len(tenant))
        return found

    # credentials

    def _verify(self, asked: Asked, question: Question, now: float) -> None:
        """See to it that no stored answer goes to a credential that upstream has not accepted, or accepts no more."""
        if self._operator.tenants.trusted and question.plan.tenant:
            return
        who, way = self._whose_way(asked, question.model)
        credentials = self._operator.credentials
        oldest = question.limits.max_age
        refusal = credentials.refusal(who, way, now, math.inf if oldest == NEVER else oldest / 1000)
        if refusal is not None:
            asked.question, asked.batch, asked.reply, asked.reason = None, None, refusal, REFUSED
        elif not credentials.accepted(who, way, now):
            if question.plan.tenant:
                self._must_prove(asked, question, lapsed=credentials.lapsed(who, way))
            else:
                self._limit_age(asked, question, credentials.proof_age(who, now))

    def _whose_way(self, asked: Asked, model: str) -> tuple[Who, Way]:
        assert asked.sent is not None
        url, counts = asked.sent.url, asked.counts
        if asked.who:
            return Who(self._origin, asked.who), hash((url, model, counts))
        # A credential of an unknown kind may be in the query, or in any header: one caller's is not another's.
        hidden = hash((url.partition("?")[2], counts))
        return Who(self._origin, f"none {hidden:x}", shown=False), hash((url, model, counts))

    @staticmethod
    def _must_prove(asked: Asked, question: Question, *, lapsed: bool) -> None:
        """Ask upstream for this caller alone: its tenant's answers are not its own until upstream has accepted it.

        `lapsed`: upstream had accepted it before, so it gets a stored answer if upstream is in trouble.
        """
        plan = _limited(question.plan, 0, trusted=lapsed)
        for one in (question, *_inputs(asked)):
            one.plan, one.unverified, one.detail = plan, asked.who or "none", UNVERIFIED

    def _limit_age(self, asked: Asked, question: Question, age: float) -> None:
        """Take only answers so young that they prove the credential which paid for them."""
        plan, recheck = question.plan, self._operator.credentials.recheck
        found = self._provable.get(id(plan))
        if age < recheck:
            found = plan, _limited(plan, int(age * 1000), trusted=False)
        elif found is None or found[0] is not plan:
            found = plan, _limited(plan, int(recheck * 1000), trusted=True)
            self._provable.keep(id(plan), found, 0)
        for one in (question, *_inputs(asked)):
            one.plan = found[1]

    def replied(self, asked: Asked, reply: Response) -> None:
        """Note that upstream refused a question's credential."""
        if reply.status in _REFUSALS and asked.question is not None:
            who, way = self._whose_way(asked, asked.question.model)
            self._operator.credentials.refused(who, way, reply, boot_clock())

    def judge(self, asked: Asked, headers: Sequence[Header]) -> Judge:
        """The judge of the answer to a question with these headers; a good answer shows that its credential is good."""
        found = super().judge(asked, headers)
        assert isinstance(found, Accepting)
        found.accepted = partial(self._accepted, asked)
        found.forbidden = asked.ruling is not None and asked.ruling.ruling.obeys and forbids(headers)
        return found

    def _accepted(self, asked: Asked) -> None:
        assert asked.question is not None
        who, way = self._whose_way(asked, asked.question.model)
        self._operator.credentials.accept(who, way, boot_clock())


class ShapedRules(GatewayRules):
    """The same under rules that say what counts in a key: a reader for each set of them that requests meet."""

    def __init__(self, operator: Operator, upstream: Upstream, cache: BaseCache, *given: Any, **more: Any) -> None:
        super().__init__(operator, upstream, *given, **more)
        self._cache = cache
        self._readers: dict[Mask, GatewayRules] = {}
        self._models: BodyMemo[str] = BodyMemo()

    def read(self, sent: SentRequest) -> Asked:
        """What a request asks, or why it passes."""
        return self._reader(self._shape(sent)).read(sent)

    def head_plan(self, sent: SentRequest) -> HeadPlan | None:
        """What is known of every request with this head; None if it depends on more than that."""
        shape = self._operator.conditions.shaping & self._operator.conditions.any_model
        return None if shape else self._reader(self._shape(sent)).head_plan(sent)

    def met(self, sent: Sequence[Header]) -> None:
        """Note a request that went upstream with these headers."""
        super().met(sent)
        for reader in self._readers.values():
            reader.met(sent)

    def describe(self, asked: Asked) -> None:
        """Note what the key of a question is made of: only its reader knows."""
        if asked.sent is not None:
            self._reader(self._shape(asked.sent)).describe(asked)

    def _reader(self, mask: Mask) -> GatewayRules:
        found = self._readers.get(mask)
        if found is None:
            if len(self._readers) >= READERS:
                self._readers.clear()
            rules = self._operator.conditions.of(mask)
            ignored = [glob for rule in rules for glob in rule.ignore_fields]
            kind = partial(GatewayRules, self._operator, self._upstream, ignored=ignored)
            found = self._readers[mask] = self._cache.rules_as(kind, NOTHING, request_rules(rules))
        return found

    def _shape(self, sent: SentRequest) -> Mask:
        """The rules that shape the key of a request."""
        conditions = self._operator.conditions
        tenant = self._tenant(sent) if conditions.shaping & conditions.any_tenant else ""
        mask = self.mask_of(sent.url, tenant) & conditions.shaping
        return conditions.with_model(mask, self._model(sent)) if mask & conditions.any_model else mask

    def _tenant(self, sent: SentRequest) -> str:
        carries = read_headers(sent.headers)
        target = target_of(sent.method, sent.url)
        secrets = [carries.secrets, target.secrets if target is not None else b"", sent.connection.secrets]
        try:
            return self._operator.tenants.name_of(sent.headers, b"\n".join(filter(None, secrets)))
        except Passes:
            return ""  # the reader meets it again, and says why

    def _model(self, sent: SentRequest) -> str:
        target = target_of(sent.method, sent.url)
        if target is None or sent.body is None:
            return ""
        if target.operation.model:
            return target.operation.model
        body = sent.body
        if (known := self._models.recent(body)) is not None:
            return known
        digest = hashlib.sha256(body).digest()
        found = self._models.again(digest, body)
        if found is None:
            self._models.keep(digest, body, found := _model_in(body))
        return found


def _model_in(body: bytes) -> str:
    try:
        found = bounded.loads(body)
    except ValueError:
        return ""
    model = found.get("model") if isinstance(found, dict) else None
    return model if isinstance(model, str) else ""


def unwanted(mode: str, word: str, *, asks: bool) -> str:
    """Why a request is not looked up, by the operator's mode and the caller's `askonce-mode`; "" if it may be."""
    if word not in {"", "on", "off"}:
        raise ConfigError(f"{MODE}: {word!r} is unknown: write on, or off")
    if mode == "off":
        return "rule-off"
    if word == "off":
        return "asked-off"
    return "not-asked" if mode == "opt-in" and word != "on" and not asks else ""


def _inputs(asked: Asked) -> Iterable[Question]:
    return asked.batch.questions.values() if asked.batch is not None else ()


def _limited(plan: Plan, most: int, *, trusted: bool) -> Plan:
    """The plan of a lookup that takes answers younger than `most` ms; older ones, if `trusted`, on upstream's error."""
    limits = plan.limits
    error = limits.ttl + limits.error if trusted else 0
    limits = limits._replace(ttl=min(limits.ttl, most), grace=0, error=error, max_stale=0)
    if trusted or most:
        return replace(plan, limits=limits)
    return replace(plan, control=plan.control._replace(no_cache=True), limits=limits._replace(max_age=0), plain=False)


def _whose(found: Ruling, tenant: str) -> Settings:
    return found.settings._replace(tenant=tenant) if tenant else found.settings
