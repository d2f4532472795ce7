"""What a cache makes of a request before it asks: a question, and the judge of its answer."""

from __future__ import annotations

from functools import partial

from askonce.core import keys
from askonce.core.judge import Judge
from askonce.core.keys import Form, Key
from askonce.core.normalize import Normal, NotNormal
from askonce.core.parts import Later, Parts
from askonce.core.providers.answers import a_dict
from askonce.core.providers.expected import expected_of
from askonce.core.providers.fits import Request
from askonce.core.providers.request import judge_request
from askonce.core.rules import Rules
from askonce.engine.fitting import Fitting
from askonce.engine.planner import Planner
from askonce.engine.question import Known, Plan, Question, Settings, not_normal, warn_unknown_field
from askonce.errors import RequestError
from askonce.events import Events


class QuestionBuilder:
    """The base of a cache that knows its rules about requests, and nothing of its store."""

    judges = Judge  # judges every answer of this cache, in whatever form it comes
    mode: str
    rules: Rules
    events: Events
    _normal: Normal | None
    _planner: Planner
    _fitting: Fitting

    def key_of(self, request: object, settings: Settings) -> Key:
        """The key under which a request is stored."""
        return self._question(request, self._planner.plan(settings)).key

    def _question(self, request: object, plan: Plan) -> Question:
        body = self._body(request)
        model = _model_of(keys.plain(body))
        try:
            return plan.question(self._keyed(body) or body, model)
        except NotNormal as wrong:
            raise RequestError(f"the request has no key, because normalize {wrong}") from None

    def _keyed(self, body: bytes) -> bytes | None:
        """The bytes that the key is made of, if the rules change the canonical body."""
        return self._normal.body(keys.plain(body)) if self._normal is not None else None

    def _body(self, request: object) -> bytes:
        try:
            return keys.canonical(request)
        except RequestError:
            if self.mode != "off":
                raise
            return b"null"  # with mode off nothing is stored, so nothing looks for this key

    def _known(self, body: bytes, plan: Plan) -> Known:
        # By the canonical body, not by what the request is: a pydantic model and an equal dict are one question.
        digest = plan.digest(body)
        return plan.known.again(digest, body) or self._met(digest, body, plan)

    def _met(self, digest: bytes, body: bytes, plan: Plan) -> Known:
        request = keys.plain(body)
        passes = self._passes(request, plan)
        try:
            keyed = None if passes else self._keyed(body)
        except NotNormal as wrong:
            keyed, passes = None, not_normal(self.events, wrong)
        model = _model_of(request)
        key = plan.key(digest if keyed is None else plan.digest(keyed))
        again = keyed if self.rules.normalize is not None else None
        known = Known(key, plan.fields(model), model, passes, expected_of(request), again)
        # The user's function may look at more than the request, and make another key the next time.
        if self.rules.normalize is None and plan.remembers:
            plan.known.keep(digest, body, known)
        return known

    def _parts(self, plan: Plan, known: Known, body: bytes) -> Parts | Later:
        """What the key of a question is made of."""
        if known.keyed is not None or self._normal is None or self.rules.normalize is not None:
            return plan.parts(known.keyed or body)
        plan = plan.unfiltered
        return Later(len(body), lambda: plan.parts(self._keyed(body) or body))

    def _judge(self, plan: Plan, known: Known, body: bytes, form: Form) -> Judge:
        """The judge of the answer to a question that goes upstream now."""
        says = Request(known.model, "", f"{form}{plan.scope}", lambda: a_dict(keys.plain(body)), {})
        unwanted = partial(plan.unwanted, events=self.events)
        if not known.model:  # the request is not for a model, or names none
            return self.judges(plan.terms, known.expected, None, unwanted)
        self._fitting.going(says)
        return self.judges(plan.terms, known.expected, None, unwanted, misfit=self._fitting.of(says))

    def _passes(self, request: object, plan: Plan) -> str:
        """Why this request is deliberately not cached; "" if it may be."""
        if self.mode == "off":
            return "off"
        if plan.control.no_store:
            return "no-store"
        return warn_unknown_field(self.events, judge_request(request, plan.terms, inert=self.rules.inert))


def _model_of(request: object) -> str:
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) else ""
