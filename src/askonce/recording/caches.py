"""Recordings: a cache that keeps everything for ever, for a test suite that must never call a paid API by accident.

A cache keeps what may be reused; a recording keeps what was said. So it also records tool calls, answers cut at
`max_tokens=5` and questions that continue another, as streams and in one piece. It records no temporary refusal (401,
429, 5xx) and no cut stream. Credentials do not count, because a replay has none; nor do the lifetimes and directives
that the tested program gives its calls.

The protocol knows none of these rules. A recording is a cache whose plans last, whose judge keeps what was said, and
whose store is a file (recording.file); before that file, requests lose their secrets (core.redact) and get a number
(recording.recording). The key of a request is the digest of what the file says about it, so every difference between
two keys can be shown, and no key holds a secret.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import orjson

from askonce.cache.base import BaseCache, Origin, Parts
from askonce.cache.cache import AsyncCache, Cache
from askonce.cache.config import ModeWord
from askonce.cache.opened import OpenedCache
from askonce.core import keys
from askonce.core.judge import RecordingJudge, refused
from askonce.core.keys import Form, Key
from askonce.core.lease import Ask, Claim, Generations
from askonce.core.model import Lifetime, Sealed, Snapshot, seal
from askonce.core.policy import LONGEST, Policy
from askonce.core.redact import Redaction
from askonce.core.redact_answer import clear_header
from askonce.core.rules import Rules
from askonce.core.secrets import secret_name
from askonce.engine.batch import BatchEngine
from askonce.engine.planner import Planner
from askonce.engine.question import NOTHING, Plan, Question, Settings
from askonce.errors import NotCached
from askonce.http.request import SentRequest
from askonce.http.rules import Asked, ClientRules
from askonce.recording.recording import Recording
from askonce.recording.report import Said
from askonce.store import Look, Store
from askonce.store.memory.store import MemoryStore

if TYPE_CHECKING:
    from askonce.core.judge import Verdicts
    from askonce.engine.answer import Answer
    from askonce.engine.leader import Call
    from askonce.engine.reader import Found
    from askonce.http.response import Response

__all__ = ["MODES", "RecordedAsyncCache", "RecordedCache", "Recording"]

MODES: dict[str, ModeWord] = {"record": "on", "replay": "only-if-cached", "off": "off"}
KEPT = Policy(ttl=LONGEST, max_age=LONGEST, jitter=0.0, tool_calls="store", max_answer_bytes=2**30)
LIFE = Lifetime(*(int(LONGEST * 1000),) * 4)
STANDING = Generations(epoch=bytes(8))  # no invalidation reaches a file
IGNORED = ("openai-organization", "openai-project", "x-goog-user-project")  # names the account that recorded

# What the headers and the URL of the current request hide, for its body and its answer.
_hidden: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar("hidden", default=frozenset())


# --- what is asked -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RecordedPlan(Plan):
    """A Plan whose questions consist only of what may be shown of them."""

    noted: ClassVar[bool] = False  # a report of its own names the nearest recorded request
    recording: Recording | None = None

    def __post_init__(self) -> None:
        assert self.recording is not None
        object.__setattr__(self, "digest", partial(_asked, self.recording, self.scope, self.variant))

    def question(
        self,
        body: bytes,
        model: str,
        form: Form = "v",
        upstream: str = "",
        headers: Sequence[tuple[str, str]] = (),
        credential: str = "",  # noqa: ARG002 - a replay has another one
    ) -> Question:
        """A question with this canonical body."""
        assert self.recording is not None
        digest = _asked(self.recording, self.scope, self.variant, body, upstream, headers)
        return Question(Key(digest, form), self.fields(model), self, model)


def _asked(
    recording: Recording,
    scope: str,
    variant: str,
    body: bytes,
    upstream: str = "",
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The digest of what may be shown of a request; the recording remembers the request."""
    redaction = Redaction(_hidden.get())
    place = redaction.place(upstream)
    parts: Said = {"asked": f"POST {place}" if place else "fetch", "scope": scope, "variant": variant}
    parts |= {"headers": redaction.headers(headers), "body": redaction.body(_read(body))}
    visible = redaction.elsewhere({name: one for name, one in parts.items() if one or name == "body"})
    return recording.asks(visible, redaction.secrets)


def _read(body: bytes) -> Any:
    """A canonical body. Without an exact form (a repeated name): what a JSON parser reads, and a digest."""
    if not body.startswith(keys.RAW):
        return keys.plain(body)
    raw = body.removeprefix(keys.RAW)
    try:
        return keys.plain(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


class RecordedPlanner(Planner):
    """Plans that no call can shorten: a recording has no lifetimes and never revalidates."""

    def __init__(self, recording: Recording, mode: str) -> None:
        self._recording = recording
        super().__init__("", "recorded", KEPT, {}, mode)

    def _make(self, settings: Settings) -> Plan:
        plain = settings._replace(ttl=None, policy=None, control=None, store_if=None, tenant=None)
        made = super()._make(plain)
        settings_of_plan = {one.name: getattr(made, one.name) for one in fields(made) if one.init}
        return RecordedPlan(**settings_of_plan, recording=self._recording)


class Keeping(ClientRules):
    """ClientRules that let everything of a known operation be looked up, each request as a whole."""

    recording: Recording
    _fleeting = False  # a replay has other cookies, and another folder for sockets

    def read(self, sent: SentRequest) -> Asked:
        """What a request asks; notes a request that cannot be recorded."""
        redaction = Redaction(_secrets(sent))
        title = f"{sent.method} {redaction.place(sent.url)}"
        redaction.body(_body(sent))  # the whole body, because fields that do not count carry secrets too
        token = _hidden.set(frozenset(redaction.secrets))
        try:
            asked = super().read(sent)
        finally:
            _hidden.reset(token)
        asked.batch = None  # an answer to a batch answers all of it
        if asked.question is None:
            asked.reason = asked.reason or "unknown"
            self.recording.passes(title, "no-json-request" if asked.reason == "not-json" else asked.reason)
        return asked

    def only_stored(self, ours: Mapping[str, str]) -> bool:  # noqa: ARG002 - as below
        """False: a replay has no upstream, and what stands in its place says why a request is not recorded."""
        return False

    def _judged(self, body: dict[str, Any], plan: Plan) -> str:  # noqa: ARG002 - overrules, whatever it is
        return ""

    def answer(self, asked: Asked, reply: Response, value: object, judged: Verdicts | None = None) -> Answer:
        """Refuses a redirect to what a file must not show: a replay could not follow it."""
        places = [text.decode("latin-1") for name, text in reply.headers if name.lower() == b"location"]
        if 300 <= reply.status < 400 and not all(clear_header("location", place) for place in places):
            judged = refused("hidden-place"), ()
        return super().answer(asked, reply, value, judged)


def _body(sent: SentRequest) -> Any:
    try:
        return orjson.loads(sent.body or b"null")
    except ValueError:
        return None


def _secrets(sent: SentRequest) -> list[str]:
    texts = [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in sent.headers]
    return [value for name, value in texts if secret_name(name)]


# --- what is kept ------------------------------------------------------------------------------------------------


class RecordingStore(MemoryStore):
    """The store of a recording: leases and waiters in memory, answers in the file, for ever and by request."""

    recording: Recording

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """The store of one cache; several caches may share a recording."""
        made = cls.from_url("memory://")
        made.recording = recording
        made.address = f"{made.address}, recorded in {recording.path}"
        return made

    def at_hand(self, key: Key, fields: Sequence[int]) -> Look:  # noqa: ARG002 - nothing moves
        """What is recorded for a request."""
        body = self.recording.answer(key)
        entry = None if body is None else self._entry(key, body)
        return Look(entry, STANDING, self._clock())

    def _entry(self, key: Key, body: bytes) -> bytes:
        now = self._clock() // 1000
        sealed = seal(key.form, key.digest, bytes(16), 0, Snapshot(STANDING.epoch, STANDING.clock), LIFE.ttl, {}, body)
        return sealed.dated(LIFE.dates(now))

    async def entry(self, key: Key) -> bytes | None:
        """What is recorded for a request."""
        return (await self.look(key, ())).entry

    async def claim(self, key: Key, ask: Ask) -> Claim:
        """Grant a call if its answer can be recorded."""
        self.recording.writable()
        return await super().claim(key, ask)

    async def fill(self, key: Key, flight: bytes, order: int, sealed: Sealed, life: Lifetime) -> str:
        """Record an answer, even if its lease is lost: it was said."""
        await super().fill(key, flight, order, sealed, life)
        self.recording.keep(key, sealed.body)
        return "stored"


class RecordingEngine(BatchEngine):
    """An engine whose every question is the next of its kind in the running test."""

    recording: Recording

    async def ask(self, question: Question, call: Call) -> Found:
        """The recorded answer of this number, or the call's."""
        question.key = self.recording.turn(question.key)
        try:
            return await super().ask(question, call)
        except NotCached:
            self.recording.missed(question.key)
            raise


# --- the caches --------------------------------------------------------------------------------------------------


class RecordedBase(BaseCache):
    """What stands under a cache that is a recording."""

    judges = RecordingJudge
    close_limit = 30.0  # s to wait for calls that a test left running, to record them

    def __init__(
        self, parts: Parts, url: str, options: Mapping[str, Any], *, asynchronous: bool, recording: Recording
    ) -> None:
        self.recording = recording
        parts = parts._replace(planner=RecordedPlanner(recording, parts.mode))
        super().__init__(parts, url, options, asynchronous=asynchronous)
        self.events.listen(recording.heard)

    def _new_store(self, url: str, **options: Any) -> Store:  # noqa: ARG002 - there is one
        return RecordingStore.of(self.recording)

    def _new_engine(self, store: Store) -> BatchEngine:
        made = RecordingEngine(store, self._new_mode(), self.events, strict=True)
        made.recording = self.recording
        return made

    def client_rules(self, own: Settings, rules: Rules, *, share_forms: bool = False) -> ClientRules:
        """The rules of one HTTP client of this cache. Forms are not shared: an answer keeps its own form."""
        del share_forms
        around = partial(self.within, NOTHING)
        rules = rules.over(Rules(ignore_headers=IGNORED))
        made = Keeping(self._planner, self.events, self.mode, own, around, rules, judges=self.judges)
        made.recording = self.recording
        return made

    def _passes(self, request: object, plan: Plan) -> str:  # noqa: ARG002 - as _judged
        return "off" if self.mode == "off" else ""

    def http_client(self, rules: ClientRules, module: Any, inner: Any, options: dict[str, Any]) -> Any:
        """A client that in replay has no upstream."""
        made = super().http_client(rules, module, inner, options)
        for one in (made._transport, *made._mounts.values()):  # noqa: SLF001 - as in http.client
            if one is not None:
                self._shut_off(one)
        return made

    def transport(self, rules: ClientRules, module: Any, inner: Any) -> Any:
        """A transport that in replay has no upstream."""
        return self._shut_off(super().transport(rules, module, inner))

    def _shut_off(self, transport: Any) -> Any:
        if self.recording.mode == "replay":
            transport.inner = ClosedUpstream(transport.module, transport.inner, self.recording)
        return transport


class _Recorded(OpenedCache):
    """A cache that is a recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        # Strict, so that no call goes upstream because a recording cannot be read.
        # Plain, whatever the environment says: secrets are looked for in what is kept, and the file has its own codec.
        plain: dict[str, Any] = {"compress": "off", "encryption": False, "prices": False}
        super().__init__("memory://", prefix="", mode=MODES[recording.mode], strict=True, **plain)

    def _new_base(self, parts: Parts, url: str, options: Mapping[str, Any]) -> BaseCache:
        parts = parts._replace(origin=Origin(type(self), {"recording": self.recording}))
        return RecordedBase(parts, url, options, asynchronous=self._asynchronous, recording=self.recording)


class RecordedCache(_Recorded, Cache):
    """A Cache that is a recording."""


class RecordedAsyncCache(_Recorded, AsyncCache):
    """An AsyncCache that is a recording."""


class ClosedUpstream:
    """In place of upstream in a replay: answers a request that is not recorded, and could not be."""

    def __init__(self, module: Any, inner: Any, recording: Recording) -> None:
        self._module = module
        self._inner = inner
        self._recording = recording

    def handle_request(self, request: Any) -> Any:
        """A 504 that says why."""
        title = f"{request.method} {Redaction().place(str(request.url))}"
        why = self._recording.refused(title)
        error = {
            "message": f"askonce replays recorded answers, and this request cannot be recorded: {why}",
            "type": "not_recorded",
            "code": "not_recorded",
        }
        return self._module.Response(504, json={"error": error}, headers={"x-should-retry": "false"})

    async def handle_async_request(self, request: Any) -> Any:
        """A 504 that says why."""
        return self.handle_request(request)

    def close(self) -> None:
        """Close an inner transport that was never used."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close an inner transport that was never used."""
        await self._inner.aclose()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()
