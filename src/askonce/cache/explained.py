"""What a cache says of lookups: why one ended as it did, what the next one would find, and the last misses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from askonce.cache import results
from askonce.cache.questions import QuestionBuilder
from askonce.cache.trouble import reading
from askonce.core.keys import Key
from askonce.core.model import FORMS
from askonce.core.providers.patterns import pattern
from askonce.core.rules import NO_RULES, Rules
from askonce.core.wording import flag, shown
from askonce.engine.batch import BatchEngine
from askonce.engine.question import Question, Settings
from askonce.errors import UsageError
from askonce.events import Status
from askonce.runtime.drive import drive

if TYPE_CHECKING:
    from askonce.http.rules import Asked, ClientRules

_PARAMETER = pattern(r';\s*([\w-]+)(?:=(?:"([^"]*)"|([^;\s]*)))?')


class Explained(QuestionBuilder):
    """The part of a cache that explains."""

    asynchronous: bool

    def open_engine(self) -> BatchEngine:
        """The engine of this process, for whatever uses the store."""
        raise NotImplementedError

    def client_rules(self, own: Settings, rules: Rules, *, share_forms: bool = False) -> ClientRules:
        """The rules of one HTTP client of this cache."""
        raise NotImplementedError

    def explains(self, question: Question | None, status: Status) -> Any:
        """What Outcome.why does: done when it returns, or, in async mode, when it is awaited.

        Without its question, which is not pickled with an outcome, a lookup is explained by its key.
        """
        work = self._of_key(Key.parse(status.key)) if question is None and status.key else self._of(question, status)
        return work if self.asynchronous else drive(work)

    async def _of(self, question: Question | None, status: Status, *, latest: bool = False) -> results.Why:
        """Why a lookup ended with this status. `latest`: its miss is the last one of its key."""
        from askonce.core import why
        from askonce.engine.explaining import Asking

        if question is None or status.fwd == "bypass":
            return why.passed(status.key, status.detail)
        key, explainer = question.key.text, self.open_engine().explainer
        if status.hit or status.detail.startswith("upstream-"):
            now = await explainer.why(Asking(question.key, None, question.fields))
            return why.served(key, now, status.ttl, status.detail)
        if status.collapsed:
            return why.joined(key)
        if status.detail.startswith("store-"):
            return why.troubled(key, status.detail)
        if status.fwd == "request":
            return why.requested(key, status.detail)
        return await explainer.why(Asking.of(question)._replace(latest=latest))

    async def explained(
        self, request: object, key: str | None, settings: Settings, *, stream: bool = False
    ) -> results.Why:
        """Why a lookup would find what it finds, for sync and async."""
        from askonce.core import why
        from askonce.engine.explaining import Asking

        flag("stream", stream)
        if (request is None) == (key is None):
            raise UsageError("say what to explain, in one way: why(request), why(response), why(key=outcome.key)")
        if key is not None:
            return await self._of_key(Key.parse(key))
        if _is_http(request):
            return await self._of_http(request, settings)
        plan = self._planner.plan(settings)
        body = self._body(request)
        known = self._known(body, plan)
        if known.passes:
            return why.passed("", known.passes)
        parts = self._parts(plan, known, body)
        named = known.key._replace(form="s") if stream else known.key
        return await self.open_engine().explainer.why(Asking(named, parts, known.fields, plan=plan))

    async def missed(self, limit: int) -> list[results.Miss]:
        """The last misses, for sync and async."""
        if type(limit) is not int or limit < 1:
            raise UsageError(f"limit={shown(limit)}: give a number of misses, at least 1")
        with reading():
            return await self.open_engine().explainer.misses(limit)

    # by key

    async def _of_key(self, key: Key) -> results.Why:
        """What became of a key: why it is not there, or why it was asked last."""
        from askonce.core import why
        from askonce.engine.explaining import Asking

        explainer = self.open_engine().explainer
        noted = await explainer.forms(key)
        now = [await explainer.why(Asking(key._replace(form=form))) for form in noted or FORMS]  # type: ignore[arg-type]
        first = next((one for one in now if one.reason != "never-seen"), None)
        if first is None:
            return why.unknown(key.text)
        if first.reason not in {"hit", "stale"} or not noted:
            return first
        form = noted[now.index(first)]
        return await explainer.why(Asking(key._replace(form=form), missed=True, latest=True))  # type: ignore[arg-type]

    # over HTTP

    async def _of_http(self, sent: Any, settings: Settings) -> results.Why:
        """Why of a request, or of the lookup that a response answered."""
        from askonce.core import why

        answered = hasattr(sent, "status_code")
        try:
            asked = self._asked(sent.request if answered else sent, settings)
        except RuntimeError:  # httpx: a response that no client received
            raise UsageError("this response answers no request: give one that a client of the cache received") from None
        if not answered:
            return await self.why_of(asked)
        status = status_in(sent.headers.get("cache-status", ""))
        if status is None or not status.key:
            if asked.question is None:
                return why.passed("", status.detail if status else asked.reason)
            status = status or Status("")
        return await self._of(self._met_again(asked, status, settings), status, latest=True)

    async def why_of(self, asked: Asked) -> results.Why:
        """Why a lookup of a request that was read would find what it finds."""
        from askonce.core import why
        from askonce.engine.explaining import Asking

        question = asked.question
        if question is None:
            return why.passed("", asked.reason)
        plan = None if question.unverified else question.plan  # of a gateway: who asks for an explanation is believed
        return await self.open_engine().explainer.why(Asking(question.key, question.parts, question.fields, plan=plan))

    def _met_again(self, asked: Asked, status: Status, settings: Settings) -> Question:
        """The question that a response answered; without its parts, if its client had other settings."""
        question = asked.question
        if question is not None and question.key.text == status.key:
            return question
        form = question.key.form if question is not None else "j"
        key = Key.parse(status.key)._replace(form=form)
        return Question(key, (), self._planner.plan(settings))

    def _asked(self, request: Any, settings: Settings) -> Asked:
        from askonce.http.request import SentRequest

        try:
            body = request.read()
            body = b"".join(getattr(request, "stream", (body,)))  # what is sent, though it was made with another
        except Exception:  # noqa: BLE001 - a stream that was sent already, in whatever module
            body = None
        rules = self.client_rules(settings, NO_RULES)
        return rules.read(SentRequest(request.method, str(request.url), request.headers.raw, body))


def _is_http(request: object) -> bool:
    """Whether this is a request or a response of an HTTP client."""
    headers = getattr(request, "headers", None)
    return hasattr(headers, "raw") and (hasattr(request, "status_code") or hasattr(request, "url"))


def status_in(text: str) -> Status | None:
    """The status of this cache in a Cache-Status header, the last of askonce's: others may be of a gateway behind it.

    None if askonce said nothing.
    """
    ours = next((one for one in reversed(text.split(",")) if one.strip().partition(";")[0].strip() == "askonce"), None)
    if ours is None:
        return None
    said = {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(ours)}
    ttl = said.get("ttl", "")
    return Status(
        said.get("key", ""),
        "hit" in said,
        said.get("fwd", ""),
        "stored" in said,
        "collapsed" in said,
        int(ttl) if ttl.lstrip("-").isdecimal() else None,
        said.get("detail", ""),
    )
