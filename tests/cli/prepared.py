"""A store that holds whatever a command may have to show, filled by a clock that stands still: each run makes the same."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from askonce import Cache, Policy
from askonce.cache import savings
from askonce.cli import ring
from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Limits
from askonce.engine import leader
from askonce.flight import flight, note_queue
from askonce.runtime.drive import drive
from askonce.store.sqlite import store as sqlite

NOW = 1_772_712_000  # s: 2026-03-05 12:00 UTC
FILE = "answers.db"
URL = f"sqlite:///{FILE}"
HOUR, DAY = 3600, 86_400
LONG_SCOPE = "support/triage/v3/answers-to-customers/of-the-coffee-grinder/in-the-second-year/after-a-recall"
LONG_MODEL = "accounts/a-company-with-a-long-name/deployedModels/llama-v4-maverick-instruct-basic-2026-02-11-a1b2c3d4"
HOSTILE = "gpt-\x1b[31mred\x1b[0m\tand\na second line\u202e\u200b"
WIDE_SCOPE, WIDE_MODEL = "支持/客户/退款与翻译/二〇二六年", "模型-中文-大-指令"
EMOJI_SCOPE = "team-🚀/launch-🎉/cafe\u0301"
PRICES = {
    "gpt-*": {"input": 2, "output": 10},
    "accounts/*": {"input": 0.2, "output": 0.6},
    "模型*": {"input": 1, "output": 2},
}


class Clock:
    """The store's clock, in us, and the clock of calls, in s: both move by hand."""

    def __init__(self, at: float = NOW) -> None:
        self.us = int(at * 1_000_000)
        self.called = 1024.0

    def __call__(self) -> int:
        self.us += 1  # no two commands are simultaneous
        return self.us

    def to(self, at: float) -> None:
        self.us = int(at * 1_000_000)

    def monotonic(self) -> float:
        return self.called


class _Date(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(NOW, tz)


@contextlib.contextmanager
def frozen(clock: Clock) -> Iterator[Clock]:
    """Every clock of which something is shown."""
    calls = SimpleNamespace(time=clock.monotonic, monotonic=clock.monotonic, perf_counter=clock.monotonic)
    with contextlib.ExitStack() as stack:
        for place, name, value in (
            (sqlite, "machine_clock", clock),
            (savings, "datetime", _Date),
            (ring, "datetime", _Date),
            (leader, "time", calls),
            (flight, "time", calls),
            (note_queue.NoteQueue, "_made", _at_once),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        yield clock


def _at_once(queue: Any, _now: float, since: float, size: int, make: Any) -> Any:
    return _made(queue, since, since, size, make)


_made = note_queue.NoteQueue._made


def asked(question: str, model: str | None = "gpt-4.1-mini-2025-04-14", **more: Any) -> dict[str, Any]:
    named = {} if model is None else {"model": model}
    return {**named, "messages": [{"role": "user", "content": question}], **more}


def answered(text: str, tokens: int = 1000, finish: str = "stop") -> dict[str, Any]:
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}]
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens // 5}
    return {"object": "chat.completion", "choices": choices, "usage": usage}


class Filling:
    """One cache over the store, and its clock."""

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self.cache = cache
        self.clock = clock

    def ask(
        self, ago: float, request: dict[str, Any], answer: Any, took: float = 0.5, hits: int = 0, **own: Any
    ) -> str:
        """A call that ended some seconds ago, and hits of its answer; the key."""
        self.clock.to(NOW - ago)

        def call() -> Any:
            self.clock.called += took
            if isinstance(answer, Exception):
                raise answer
            return answer

        key = ""
        for _ in range(1 + hits):
            with contextlib.suppress(ConnectionError):
                key = self.cache.fetch(request, call, **own).key
        self._written()
        return key

    def _written(self) -> None:
        """Notes and counts are in the store, at the time of their call."""
        drive(self.cache._base.engine().pushed())
        queue = self.cache._base.engine().background.notes
        queue.finish(time.monotonic() + 10)


def fill(clock: Clock) -> None:
    """Make the file, in the current folder."""
    with frozen(clock):
        clock.to(NOW - 3 * DAY)
        policy = Policy(jitter=0, ttl=2 * HOUR, grace=HOUR, stale_if_error=2 * HOUR)
        with Cache(URL, prices=PRICES, policy=policy) as cache:
            _fill(Filling(cache, clock))
            _begin_calls(cache, clock)


def _fill(into: Filling) -> None:
    story = [{"type": "delta", "text": word} for word in ("Once ", "upon ", "a time")]
    day: dict[str, Any] = {"policy": Policy(ttl=DAY, jitter=0)}
    into.ask(2 * DAY, asked("Is it over?"), answered("It is."), scope="archive", policy=Policy(ttl=60, jitter=0))
    into.ask(5 * HOUR, asked("Gone?"), answered("Gone."), scope="billing", tags=["doc:42"], **day)
    into.cache.invalidate(tag="doc:42")
    into.ask(3.5 * HOUR, asked("Stale on error?"), answered("Yes."), scope="billing")
    into.ask(2.5 * HOUR, asked("Stale?"), answered("Yes."), took=12.25, scope="billing", hits=2)
    into.ask(2 * HOUR, asked("A long name?", LONG_MODEL), answered("Long.", 250_000), scope=LONG_SCOPE, hits=40, **day)
    into.ask(1.5 * HOUR, asked("Hostile?", HOSTILE), answered(f"As text: {HOSTILE}"), scope="hostile", **day)
    into.ask(
        HOUR,
        asked("多少钱?", WIDE_MODEL),
        answered("退款需要五天。"),
        scope=WIDE_SCOPE,
        hits=3,
        tags=["文件:七"],
        **day,
    )
    into.ask(1800, asked("Launch?", "unpriced-🚀"), answered("🎉"), scope=EMOJI_SCOPE, hits=1, **day)
    into.ask(900, {"prompt": "no model and no scope"}, {"any": "answer"}, took=0.0078125, **day)
    into.ask(600, asked("Hello", temperature=0.5), answered("Hello."), scope="support/triage", tags=["a", "b:7"], **day)
    into.ask(300, asked("Hello", temperature=0.25), answered("Hi."), scope="support/triage", **day)
    into.clock.to(NOW - 240)
    stream = into.cache.fetch_stream(asked("A story"), lambda: iter(story), scope="stories", **day)
    assert list(stream) == story
    stream.close()
    into._written()
    into.ask(120, asked("Cut?"), answered("It is cut bec", finish="length"), scope="support/triage", **day)
    into.ask(60, asked("Fails?"), ConnectionError("upstream is away"), scope="support/triage", **day)


def _begin_calls(cache: Cache, clock: Clock) -> None:
    """Two calls under way, of processes that are elsewhere."""
    store = cache._base.engine().store
    for number, ago in ((1, 95), (2, 3)):
        clock.to(NOW - ago)
        key = Key(bytes([number * 17]) * 32, "s" if number == 2 else "v")
        for flight_id in (bytes([number]) * 16, bytes([number + 100]) * 16)[:number]:
            drive(store.claim(key, Ask(flight_id, b"epoch", (), Limits(HOUR, HOUR, HOUR), 0, NEVER, 600_000)))
    clock.to(NOW)
