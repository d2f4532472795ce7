"""ClientRules decide for one HTTP client which requests may be looked up and which answers may be kept.

A request that is no question of a known operation, or that a cache must not answer, passes: it goes upstream as it
came, and its answer comes back unchanged. Each pass has a one-word reason. A request that cannot be understood (a bad
scope in a header) passes too, with a warning, because an SDK's caller must never get an exception that the SDK does not
know.

Nothing here does I/O, so any HTTP library can use it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from askonce.core import keys, upstream
from askonce.core.body_memo import BodyMemo
from askonce.core.judge import Judge, Verdicts, refused
from askonce.core.keys import Form
from askonce.core.memo import Memo
from askonce.core.normalize import NotNormal
from askonce.core.policy import Control
from askonce.core.providers import bounded
from askonce.core.providers.api import plain_error
from askonce.core.providers.expected import PLAIN, Expected, expected_of
from askonce.core.providers.fields import per_input
from askonce.core.providers.fits import Request
from askonce.core.providers.operations import Operation, agreed, model_of
from askonce.core.providers.request import judge_request
from askonce.core.providers.scan import streams_read
from askonce.core.rules import NO_RULES, Rules
from askonce.core.upstream import everybodys
from askonce.engine.answer import Answer
from askonce.engine.fitting import Fitting
from askonce.engine.planner import Planner
from askonce.engine.question import NOTHING, Plan, Question, Settings, not_normal, warn_unknown_field
from askonce.errors import AskonceError
from askonce.events import Events
from askonce.http.body_keys import Bodies
from askonce.http.callers import Callers
from askonce.http.credentials import Header, covers_body, fingerprint
from askonce.http.described import Described, form_of
from askonce.http.directives import said
from askonce.http.embeddings import Batch, Vector, batch_of, cut
from askonce.http.forms import other_forms, retelling
from askonce.http.request import OURS, RequestHeaders, SentRequest, Target, encoded, target_of
from askonce.http.response import Failure, Response, age_of, date_of, pack, pack_failure
from askonce.http.says import ids_in, says

LARGEST = 32 * 1024 * 1024  # bytes of a request that is read for its key
NEVER_MET = (None, None)
OPEN = frozenset({"", "off"})  # reasons to pass for which upstream is asked, also if the caller says only-if-cached
WAYS = 512  # kept in memory by a client

Counts = tuple[tuple[str, str], ...]
Met = tuple[Question, Operation | None]
Way = tuple[str, Counts, str]  # all of a request but its body: URL, headers that count, credential


@dataclass(slots=True)
class Asked:
    """A request that was read: a question, or the reason to pass. `ours`: it has headers of askonce, to be removed."""

    reason: str = ""
    ours: bool = False
    question: Question | None = None
    batch: Batch | None = None
    operation: Operation | None = None
    who: str = ""  # the credential that it carries
    expected: Expected = PLAIN
    sent: SentRequest | None = None
    model: str = ""  # of a request that passes, as far as it was read; for events
    tenant: str = ""
    began: float = 0.0
    counts: Counts = ()  # the headers that count
    ruling: Any = None  # what a gateway's operator says about it
    reply: Response | None = None  # its answer, if that is known without a lookup; the reason says why
    stays: bool = False  # it may not go upstream, whatever the reason that it is not looked up
    _says: Request | None = None

    def said(self) -> Request:
        """What a question says about its answer; computed when it goes upstream."""
        if self._says is None:
            assert self.sent is not None
            assert self.question is not None
            assert self.operation is not None
            self._says = says(self.sent, self.question.model, self.operation, self.question.key.form)
        return self._says


class Passes(Exception):
    """A request goes upstream without a lookup. `reason`: one word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ClientRules:
    """Reads requests and judges answers for one client of one cache. `around()`: the settings of the context."""

    _fleeting = True
    _ours: Collection[str] = OURS
    _bad_settings = "a request went upstream without the cache: %s"
    _open = OPEN
    # The plan of a question to a model, if it depends on the model: of what was asked and its plan so far.
    _by_model: Callable[[Asked, Plan, str], Plan] | None = None
    _prune: Callable[[dict[str, Any]], None] | None = None  # removes fields that do not count from a body

    def __init__(
        self,
        planner: Planner,
        events: Events,
        mode: str,
        own: Settings = NOTHING,
        around: Callable[[], Settings] = lambda: NOTHING,
        rules: Rules = NO_RULES,
        *,
        share_forms: bool = False,
        judges: type[Judge] = Judge,
    ) -> None:
        self.events = events
        self.judges = judges
        self._planner = planner
        self._off = mode == "off"
        self._own = own
        self._plain = planner.plan(own)
        self._around = around
        self._shares = share_forms
        self._callers = Callers(events, rules, fleeting=self._fleeting, ours=self._ours)
        self._met: Memo[Way, BodyMemo[Met]] = Memo(WAYS)
        self._bodies = Bodies(rules)
        self._inert = rules.inert
        self._same_as = tuple(rules.same_as.items())
        self._fitting = Fitting(events)

    # requests

    def read(self, sent: SentRequest) -> Asked:
        """What a request asks, or why it passes."""
        carries = self._callers.read_headers(sent)
        asked = Asked(ours=bool(carries.ours), sent=sent)
        try:
            asked.reason = self._read(sent, carries, asked)
        except Passes as why:
            asked.reason = why.reason
        except AskonceError as wrong:
            asked.reason = "bad-settings"
            self.events.warn_once("bad-settings", self._bad_settings, wrong)
        asked.stays = asked.reason not in self._open and self.only_stored(carries.ours)
        return asked

    def only_stored(self, ours: Mapping[str, str]) -> bool:
        """Whether the sender of these headers takes only what is stored, so that nothing of it goes upstream."""
        control = ours.get("cache-control")
        said = NOTHING if control is None else Settings(control=Control.parse(control, lenient=True))
        return self._planner.plan(said.over(self._around().over(self._own))).control.only_if_cached

    def _read(self, sent: SentRequest, carries: RequestHeaders, asked: Asked) -> str:
        if self._off:
            return "off"
        if carries.ours and self._callers.strange(carries.ours):
            return "bad-settings"
        # Cached by URL if that is short; inlined, because a hit would notice one more call.
        aimed = target_of if len(sent.url) <= bounded.SHORT else target_of.__wrapped__
        target = aimed(sent.method, sent.url, self._same_as)
        if target is None:
            return "unknown-path"
        asked.operation = target.operation
        if sent.body is None or len(sent.body) > LARGEST:
            return "streamed-body" if sent.body is None else "large-body"
        carries = self._callers.beside(sent, carries, target)
        asked.who, asked.counts = fingerprint(carries.secrets), carries.counts
        plan = self._plan(asked, carries)
        if plan.control.no_store:
            return "no-store"
        # Finding a request again is cheaper than parsing, judging and hashing it.
        bodies = self._by_way((sent.url, carries.counts, asked.who))
        again = bodies.recent(sent.body)
        digest = b"" if again is not None else hashlib.sha256(sent.body).digest()
        met, operation = again or bodies.again(digest, sent.body) or NEVER_MET
        if met is not None and met.plan is (self._by_model(asked, plan, met.model) if self._by_model else plan):
            asked.question, asked.operation = Question(met.key, met.fields, met.plan, met.model), operation
            asked.expected = met.expected
            return ""
        reason = self._ask(sent, carries, target, plan, asked)
        if asked.question is not None:
            self._keep(asked.question, asked, bodies, digest or hashlib.sha256(sent.body).digest(), sent.body)
        return reason

    def _keep(self, made: Question, asked: Asked, bodies: BodyMemo[Met], digest: bytes, body: bytes) -> None:
        """Remember a question by its body, if equal bodies are equal questions."""
        if self._bodies.settled and not (asked.batch or self._shares) and made.plan.remembers:
            # A copy, because the asked question will hold what was read for it.
            met = Question(made.key, made.fields, made.plan, made.model, asked.expected)
            bodies.keep(digest, body, (met, asked.operation))

    def _by_way(self, way: Way) -> BodyMemo[Met]:
        bodies = self._met.get(way)
        if bodies is None:
            bodies = BodyMemo()
            self._met.keep(way, bodies, len(way[0]) + sum(len(name) + len(value) for name, value in way[1]))
        return bodies

    def _ask(self, sent: SentRequest, carries: RequestHeaders, target: Target, plan: Plan, asked: Asked) -> str:
        assert sent.body is not None
        exact = keys.parsed(sent.body)
        body = _inexact_body(sent.body) if exact is None else exact
        if body is None:
            return "encoded-body" if encoded(sent.headers) else "not-json"
        if self._prune is not None:
            self._prune(body)
        operation = agreed(target.operation, body)
        if operation is None:
            return "body-mismatch"
        if operation is not target.operation:
            target = target._replace(operation=operation)
        asked.operation = operation
        asked.model, asked.tenant = model_of(operation, body), plan.tenant
        if self._by_model is not None:
            plan = self._by_model(asked, plan, asked.model)
        if reason := self._judged({**body, "model": asked.model}, plan):
            return reason
        asked.expected = expected_of(body)
        tenant = bool(plan.tenant)
        if not tenant and self._callers.needs_tenant(asked.who, carries.secrets):
            return "tenant-needed"
        form, place = form_of(sent, target, body)
        if form == "s" and not streams_read(operation.api):
            return "stream"
        counts = self._callers.counts(carries, form, tenant=tenant)
        self._callers.note(sent, carries, counts, tenant=tenant)
        ask = self._maker(plan, target, body, form, place, counts, asked.who)
        try:
            if form == "j" and exact is not None and _splits(sent, carries, operation, exact):
                whole = exact if self._prune is None else keys.parsed(sent.body) or exact
                asked.batch = batch_of(whole, lambda one: ask(self._bodies.input_key(operation, exact, one), "#input"))
            canonical = self._bodies.key(operation, exact, sent.body)
        except NotNormal as wrong:
            return not_normal(self.events, wrong)
        asked.question = ask(canonical, "")
        if self._shares and asked.batch is None and not operation.framed:  # AWS frames have no other form
            self._share(asked.question, canonical, target, place, counts, asked.who)
        return ""

    @staticmethod
    def _share(
        question: Question,
        canonical: bytes,
        target: Target,
        place: str,
        headers: tuple[tuple[str, str], ...],
        credential: str,
    ) -> None:
        api, form = target.operation.api, question.key.form
        question.others = tuple(
            question.plan.question(canonical, question.model, other, elsewhere, headers, credential)
            for other, elsewhere in other_forms(api, form, target.upstream)
        )
        question.retell = retelling(api, form, place.partition("#")[2])

    def _judged(self, body: dict[str, Any], plan: Plan) -> str:
        """Why this request of a known operation may not be looked up."""
        return warn_unknown_field(self.events, judge_request(body, plan.terms, known=True, inert=self._inert))

    @staticmethod
    def _maker(
        plan: Plan,
        target: Target,
        body: dict[str, Any],
        form: Form,
        place: str,
        headers: tuple[tuple[str, str], ...],
        credential: str,
    ) -> Callable[[bytes, str], Question]:
        """Makes questions of canonical bodies; `kind` separates what is stored in different ways."""
        model = model_of(target.operation, body)
        return lambda canonical, kind: plan.question(canonical, model, form, place + kind, headers, credential)

    def _plan(self, _: Asked, carries: RequestHeaders) -> Plan:
        """The plan of a call: its headers over the settings of its context over the client's own."""
        ours = carries.ours
        around = self._around()
        if not ours and around is NOTHING:
            return self._plain
        return self._planner.plan(said(ours).over(around.over(self._own)))

    def met(self, sent: Sequence[Header]) -> None:
        """Note a request that went upstream with these headers."""
        self._callers.met(sent)

    def replied(self, asked: Asked, reply: Response) -> None:
        """Note what upstream replied to a question; `reply` may have no body yet."""

    def describe(self, asked: Asked) -> None:
        """Note what the key of a question is made of, if it was not read anew."""
        question, sent, operation = asked.question, asked.sent, asked.operation
        if question is not None and question.parts is None and sent is not None and operation is not None:
            described = Described(self._callers, self._bodies, self._same_as, self._prune)
            question.parts = described.later(sent, operation, question.plan, question.key.form, asked.who)

    def going(self, asked: Asked) -> None:
        """Note a question that goes upstream."""
        self.describe(asked)
        self._fitting.going(asked.said())

    # answers

    def judge(self, asked: Asked, headers: Sequence[Header]) -> Judge:
        """The judge of the answer to a question with these headers."""
        assert asked.question is not None
        assert asked.operation is not None
        plan = asked.question.plan
        return self.judges(
            plan.terms,
            asked.expected,
            asked.operation.api,
            lambda value: plan.unwanted(value, self.events),
            age_of(headers) * 1000,
            self._fitting.of(asked.said(), ids_in(headers)),
            asked.sent.url if asked.sent is not None else "",
            partial(date_of, headers),
        )

    def answer(self, asked: Asked, reply: Response, value: object, judged: Verdicts | None = None) -> Answer:
        """A reply as it is stored or shared; `value` is what the leader itself gets."""
        assert asked.question is not None
        verdict, bills = judged or self._judged_reply(asked, reply)
        if asked.question.plan.tenant and 300 <= reply.status < 500:  # a redirect may lead to where its caller signs in
            reply = reply._replace(who=asked.who)
        return Answer(
            pack(reply, stored=not verdict.reason),
            verdict,
            value,
            trouble=upstream.status_trouble(reply.status),
            hint=0 if reply.status < 400 else upstream.retry_after(_texts(reply)),
            bills=bills,
        )

    def answers(self, asked: Asked, reply: Response, value: object, number: int) -> tuple[list[Answer], list[Vector]]:
        """The reply to `number` inputs, as one answer for each; no vectors if it cannot be split."""
        verdict, bills = self._judged_reply(asked, reply)
        vectors = None if verdict.reason else cut(reply.body, number)
        if vectors is not None:
            packed = [pack(Response(200, reply.headers, one.item, "", one.frame), stored=True) for one in vectors]
            return [Answer(body, verdict, value, bills=bills) for body in packed], vectors
        one = self.answer(asked, reply, value, (verdict if verdict.reason else refused("unmatched"), bills))
        if number > 1 and not everybodys(reply.status):  # one input may cause it, and the others may be fine
            one = one._replace(body=pack_failure(Failure("RequestError", "refused as part of a batch", 0.0)))
        return [one] * number, []

    def _judged_reply(self, asked: Asked, reply: Response) -> Verdicts:
        judge = self.judge(asked, reply.headers)
        return judge.reply(reply.status, reply.body, time.time()), judge.bills

    def failed(self, failure: Failure, value: object, trouble: str) -> Answer:
        """A failure, as it is shared with followers."""
        return Answer(pack_failure(failure), refused(trouble or "failed"), value, trouble=trouble)


def _inexact_body(raw: bytes) -> dict[str, Any] | None:
    """A body without an exact form (a repeated name, a huge number), as far as it can be judged."""
    try:
        body = bounded.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _splits(sent: SentRequest, carries: RequestHeaders, operation: Operation, body: dict[str, Any]) -> bool:
    """Whether each input is a question of its own. A body that a signature covers cannot be split."""
    if not operation.api.per_input or covers_body(sent.headers, carries.secrets):
        return False
    return per_input(operation, body)


def _texts(reply: Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reply.headers}


# --- what we say ourselves ---------------------------------------------------------------------------------------


def our_error(operation: Operation | None, status: int, kind: str, message: str) -> Response:
    """An error of askonce, in the shape that the operation's SDK reads; it asks not to be retried."""
    body, headers = (operation.api.error if operation else plain_error)(status, kind, message)
    ours = [(b"content-type", b"application/json"), (b"x-should-retry", b"false"), *headers]
    return Response(status, ours, orjson.dumps(body))
