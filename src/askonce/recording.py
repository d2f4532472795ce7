"""Recordings: a cache that keeps everything for ever, for a test-suite that must never call a paid API by accident.

A cache keeps what may be kept; a recording keeps what was said. Tool calls, answers cut at `max_tokens=5`, questions
that continue another: in a test they are the point, and are recorded too. What is not: a refusal of the moment (401,
429, 5xx) and streams that were cut. Credentials do not count, since who replays has none, and nor do the lifetimes and
directives that the program under test gives its calls.

Beside each answer, in the same SQLite file, stands what was asked. So a miss can be told from its nearest neighbour.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from askonce.cache import AsyncCache, Cache
from askonce.core.policy import LONGEST, Policy
from askonce.core.rules import Rules
from askonce.events import Event
from askonce.http.exchange import Asked, Exchange, everybodys
from askonce.http.reply import Reply
from askonce.http.sent import Sent
from askonce.pilot import Answer
from askonce.question import Plan, Planner, Settings

if TYPE_CHECKING:
    from askonce.asker import Call, Outcome
    from askonce.shell import Shell
else:
    Shell = object

MODES = {"record": "on", "replay": "only-if-cached", "off": "off"}
ROOM = 2**40  # bytes: a recording that evicts is none
KEPT = Policy(ttl=LONGEST, max_age=LONGEST, jitter=0.0, tool_calls="store", max_bytes=2**30)
IGNORED = ("openai-organization", "openai-project", "x-goog-user-project")  # whose account it was recorded on
SHOWN = 8  # differing fields of a neighbour

Said = dict[str, Any]


class Recording:
    """One file of recorded answers and what was asked for them, and the misses of the test that runs."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path = path
        self.mode = mode
        self.misses: list[Said] = []
        self._said: dict[str, Said] = {}
        self._lock = threading.Lock()

    def asks(self, key: str, said: Said) -> None:
        """A question that is about to be looked up."""
        self._said[key] = said

    def heard(self, event: Event) -> None:
        """What became of it."""
        said = self._said.get(event.key)
        if event.name == "stored" and said is not None:
            self._keep(event.key, said)
        missed = event.status is not None and event.status.fwd == "miss"
        if self.mode == "replay" and event.name == "lookup" and missed:
            self.misses.append(said or {"key": event.key})

    def refused(self, said: Said) -> None:
        """A request that nothing could have been recorded for, and that was kept from going upstream."""
        self.misses.append(said)

    def _keep(self, key: str, said: Said) -> None:
        with self._lock, closing(sqlite3.connect(self.path, timeout=30)) as file, file:
            file.execute("CREATE TABLE IF NOT EXISTS asked (key TEXT PRIMARY KEY, said BLOB) WITHOUT ROWID")
            file.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (key, orjson.dumps(said, default=repr)))

    def recorded(self) -> list[Said]:
        """Everything that was asked when it was recorded."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path, timeout=30)) as file:
            try:
                return [orjson.loads(said) for (said,) in file.execute("SELECT said FROM asked ORDER BY key")]
            except sqlite3.OperationalError:
                return []

    def told(self) -> str:
        """The misses since the last time, for whoever has to mend them; "" for none."""
        misses, self.misses = self.misses, []
        if not misses:
            return ""
        neighbours = self.recorded()
        lines = [f"askonce: {len(misses)} request(s) of this test are not recorded in {self.path}"]
        for said in misses:
            lines += ["", f"  {_titled(said)}", *_compared(said, neighbours)]
        return "\n".join([*lines, "", "  to record what is missing: pytest --askonce=record"])


def _titled(said: Said) -> str:
    body = said.get("body")
    model = body.get("model") if isinstance(body, dict) else None
    return " ".join(str(part) for part in (said.get("asked", "a question"), model and f"model={model}") if part)


def _compared(said: Said, neighbours: list[Said]) -> list[str]:
    """How a question differs from the recorded one that is nearest to it."""
    if "why" in said:
        return [f"    cannot be recorded: {said['why']}"]
    here = dict(_flat(said))
    differing = [_differing(here, dict(_flat(one))) for one in neighbours]
    if not differing:
        return ["    nothing is recorded there"]
    nearest = min(differing, key=len)
    more = [f"      and {len(nearest) - SHOWN} more"] if len(nearest) > SHOWN else []
    return [f"    the nearest that is recorded differs in {len(nearest)} field(s):", *nearest[:SHOWN], *more]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list) and value:
        for at, item in enumerate(value):
            yield from _flat(item, f"{path}[{at}]")
    else:
        yield path, repr(value)


def _differing(here: dict[str, str], there: dict[str, str]) -> list[str]:
    paths = sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path))
    return [f"      {path}: {_short(there.get(path))} recorded, {_short(here.get(path))} asked" for path in paths]


def _short(text: str | None) -> str:
    return "nothing" if text is None else text if len(text) <= 60 else f"{text[:57]}..."


# --- the caches --------------------------------------------------------------------------------------------------


class Keeping(Exchange):
    """An Exchange that lets everything of a known operation be looked up, and keeps whatever was an answer."""

    recording: Recording
    _cookies_count = False  # who replays has none

    def read(self, sent: Sent) -> Asked:
        """What a request asks; noted for the recording."""
        asked = super().read(sent)
        title = f"{sent.method} {sent.url.partition('?')[0]}"
        if asked.question is None:
            asked.reason = asked.reason or "unknown"
            return asked
        body = orjson.loads(sent.body or b"null")
        headers = dict(self._headers(sent))
        for key, given in [(asked.question.key, None), *(asked.batch.inputs.items() if asked.batch else ())]:
            self.recording.asks(
                key.text,
                {"asked": title, "headers": headers, "body": body if given is None else {**body, "input": given}},
            )
        return asked

    def _headers(self, sent: Sent) -> tuple[tuple[str, str], ...]:
        return self._callers.carried(sent).counts

    def _judged(self, body: dict[str, Any], plan: Plan) -> str:  # noqa: ARG002 - overrules, whatever it is
        return ""

    def _refusal(self, asked: Asked, reply: Reply) -> str:
        if everybodys(reply.status):
            return super()._refusal(asked, reply)
        try:
            orjson.loads(reply.body)
        except ValueError:
            return "not-json"
        return ""


class _Lasting(Planner):
    """Plans that no call can shorten: a recording has no lifetimes, and asks nobody again."""

    def _make(self, settings: Settings) -> Plan:
        plain = replace(settings, ttl=None, policy=None, control=None, store_if=None, tenant=None)
        return super()._make(plain)


class _Recorded(Shell):
    """What makes a cache a recording."""

    recording: Recording

    def _record(self, recording: Recording) -> None:
        self.recording = recording
        self._planner = _Lasting(self.prefix, "recorded", KEPT, {}, self.mode)
        self.on_event(recording.heard)

    def exchange(self, own: Settings, rules: Rules, *, share_forms: bool = False) -> Exchange:
        """What decides for one HTTP client of this cache."""
        rules = rules.over(Rules(ignore_headers=IGNORED))
        around = partial(self._settings, {})
        made = Keeping(self._planner, self.events, self.mode, own, around, rules, share_forms=share_forms)
        made.recording = self.recording
        return made

    def http_client(self, **more: Any) -> Any:
        """A client that, in replay, has nobody behind it."""
        return self._shut(super().http_client(**more))

    def transport(self, **more: Any) -> Any:
        """Likewise."""
        return self._shut_off(super().transport(**more))

    def _shut(self, client: Any) -> Any:
        for one in (client._transport, *client._mounts.values()):  # noqa: SLF001 - as in http.client
            if one is not None:
                self._shut_off(one)
        return client

    def _shut_off(self, transport: Any) -> Any:
        if self.recording.mode == "replay":
            transport.inner = Shut(transport.module, transport.inner, self.recording)
        return transport

    async def ask(self, request: object, call: Call, settings: Settings) -> Outcome:
        """A lookup; noted for the recording."""
        self.recording.asks(self.key_of(request, settings).text, {"asked": "fetch", "body": request})
        return await super().ask(request, call, settings)

    def _passes(self, request: object, plan: Plan) -> str:  # noqa: ARG002 - as _judged
        return "off" if self.mode == "off" else ""

    def _answer(self, value: object, plan: Plan) -> Answer:
        answer = super()._answer(value, plan)
        return answer if answer.refusal == "not-json" else answer._replace(refusal="")


class RecordedCache(_Recorded, Cache):
    """A Cache that is a recording."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(f"sqlite:///{recording.path}", mode=MODES[recording.mode], max_bytes=ROOM)
        self._record(recording)


class RecordedAsyncCache(_Recorded, AsyncCache):
    """An AsyncCache that is a recording."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(f"sqlite:///{recording.path}", mode=MODES[recording.mode], max_bytes=ROOM)
        self._record(recording)


class Shut:
    """The door that replay keeps shut: what is not recorded, and could not be, is answered here and not upstream."""

    def __init__(self, module: Any, inner: Any, recording: Recording) -> None:
        self._module = module
        self._inner = inner
        self._recording = recording

    def handle_request(self, request: Any) -> Any:
        """A 504 that says why."""
        why = "only JSON requests of the operations that askonce knows are recorded"
        self._recording.refused({"asked": f"{request.method} {str(request.url).partition('?')[0]}", "why": why})
        error = {"message": f"askonce replays, and {why}", "type": "not_recorded", "code": "not_recorded"}
        return self._module.Response(504, json={"error": error}, headers={"x-should-retry": "false"})

    async def handle_async_request(self, request: Any) -> Any:
        """The same."""
        return self.handle_request(request)

    def close(self) -> None:
        """What was never used is closed all the same."""
        self._inner.close()

    async def aclose(self) -> None:
        """Likewise."""
        await self._inner.aclose()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()
