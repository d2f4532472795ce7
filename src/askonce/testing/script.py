"""What everything scripted shares: which step a call plays, how long it takes, and the count of paid calls.

A call is counted when it arrives, because a provider bills a question even if nobody waits for the answer any more. One
critical section settles the count, the step and (for a call that hangs) its gate, so that a test that has seen a call
counted can release it.

Counts in memory belong to one process. Several processes that call in process share a file of `Receipts`.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from askonce.core.wording import shown
from askonce.errors import ConfigError
from askonce.testing import checks
from askonce.testing.answers import Protocol, Shape, answer, question_of
from askonce.testing.streamed import events


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Realistic delays: most near `median` seconds, a few far above; the same call always takes equally long.

    `spread`: the deviation of the logarithm (0.5: one call in forty takes 2.7 times the median); `most`: the maximum in
    s; `seed`: another number gives other delays.
    """

    median: float
    spread: float = 0.5
    seed: int = 0
    most: float = math.inf

    def __post_init__(self) -> None:
        checks.seconds("median", self.median)
        checks.seconds("spread", self.spread)
        if not self.median or not self.most > 0:
            raise ConfigError(
                f"Lognormal({self.median}, most={self.most}): write seconds above 0, as in Lognormal(0.5)"
            )

    def __call__(self, question: str, nth: int) -> float:
        """The seconds that the `nth` call of `question` takes."""
        # Seeded by the call: with one shared generator, the order in which threads arrive would matter.
        draw = random.Random(f"{self.seed}:{nth}:{question}")
        return min(self.most, draw.lognormvariate(math.log(self.median), self.spread))


Delay: TypeAlias = float | Callable[[str, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One scripted outcome. Without arguments: the complete answer, after the provider's own delay.

    `shape`: the kind of answer; `body` replaces it. `status` and `headers`: of HTTP (the number 200, and none).
    `error`: raised by a `ScriptedCall`; a `Provider` cuts the connection. `hang`: wait for `release()`, then play the
    rest. `delay`: seconds, instead of the provider's (None).

    Of streams: `pace` is the seconds between two events, instead of the provider's (None). `after` is the number of
    events that are sent before `hang`, `error` or a `status` of 400 or more takes effect; the status is then an error
    event. `body` is a list of events. An answer that is asked for whole has no events: there `after` counts for
    nothing.
    """

    shape: Shape = "complete"
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | type[BaseException] | None = None
    hang: bool = False
    delay: float | None = None
    pace: float | None = None
    after: int = 0

    def __post_init__(self) -> None:
        checks.step(self)


Cue: TypeAlias = Step | Shape | int | BaseException | type[BaseException]


def step(cue: Cue) -> Step:
    """A step from its short form: a shape's name, an HTTP status, or an exception."""
    if isinstance(cue, Step):
        return cue
    if isinstance(cue, int) and not isinstance(cue, bool):
        # One scripted failure is one request: without this header the SDKs retry twice.
        return Step(status=cue, headers={"x-should-retry": "false"})
    if checks.is_error(cue):
        return Step(error=cue)  # type: ignore[arg-type]  # checked
    return Step(shape=cue)  # type: ignore[arg-type]  # checked there


class Receipt(NamedTuple):
    """A line of `Receipts`: the `question`, `pid` (the number of the process), `at` (s of `time.monotonic()`, one clock
    for a machine).
    """

    question: str
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Receipts:
    """A file at `path` to which every paid call appends one line, so that any number of processes count together."""

    path: Path | str

    def write(self, question: str) -> None:
        """Append one paid call."""
        line = json.dumps([question, os.getpid(), time.monotonic()]) + "\n"
        # Opened for each line: no fork inherits it, and nothing needs closing. One write with O_APPEND keeps a line
        # whole.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def rows(self) -> list[Receipt]:
        """All paid calls, in the order of writing; empty if there are none."""
        try:
            lines = Path(self.path).read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [Receipt(*json.loads(line)) for line in lines if line.endswith("\n")]

    def paid(self, question: Any = None) -> int:
        """How often a `question` (a text or a request) was paid, or without one how often any was."""
        wanted = None if question is None else question_of(question)
        return sum(wanted in (None, receipt.question) for receipt in self.rows())


class Turn(NamedTuple):
    """One counted call: the `nth` of its question, its step, its delay and its `pace` in s, the gate where it hangs."""

    question: str
    nth: int
    step: Step
    seconds: float
    gate: Future[None] | None
    pace: float

    def body(self, request: Any, protocol: Protocol) -> Any:
        """The scripted answer: the step's own, or the one of its shape."""
        made = self.step.body
        return answer(request, protocol, self.step.shape, self.nth) if made is None else made

    def events(self, request: Any, protocol: Protocol) -> list[Any]:
        """All events of the scripted answer as a stream."""
        made = self.body(request, protocol)
        return made if isinstance(made, list) else events(request, protocol, made)


class Scripted:
    """The script, counts and gates of a provider, in process or over HTTP; usable from any thread."""

    def __init__(self, *, delay: Delay = 0.0, pace: float = 0.0, receipts: Receipts | Path | str | None = None) -> None:
        checks.delay(delay)
        checks.seconds("pace", pace)
        if not isinstance(receipts, Receipts | Path | str | None):
            raise ConfigError(f"receipts={shown(receipts)}: give the path of a file, or Receipts(path)")
        self.delay = delay
        self.pace = pace
        self.receipts = Receipts(receipts) if isinstance(receipts, (str, Path)) else receipts
        self._changed = threading.Condition()
        self._steps: dict[str | None, deque[Step]] = {}
        self._gates: dict[Future[None], str] = {}
        self._paid: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0

    def script(self, question: Any, *cues: Cue) -> None:
        """Set what the next calls of a question (a text, a request, or None for all others) play; the last one repeats.

        Each is a `Step`, or its short form: the name of a shape (``"refused"``), an HTTP status, or an exception.
        """
        name = None if question is None else question_of(question)
        with self._changed:
            self._steps[name] = deque(map(step, cues))

    @property
    def calls(self) -> int:
        """The number of paid calls."""
        with self._changed:
            return self._paid.total()

    @property
    def questions(self) -> dict[str, int]:
        """Every question so far, and how often it was paid."""
        with self._changed:
            return dict(self._paid)

    @property
    def in_flight(self) -> int:
        """The number of calls that have begun and not ended."""
        with self._changed:
            return self._in_flight

    @property
    def most_in_flight(self) -> int:
        """The largest number of calls in flight at once."""
        with self._changed:
            return self._most_in_flight

    def paid(self, question: Any) -> int:
        """How often a question (a text or a request) was paid."""
        with self._changed:
            return self._paid[question_of(question)]

    def wait_until_paid(self, question: Any = None, times: int = 1, timeout: float = 10.0) -> None:
        """Block until a `question` (None: any) was paid `times` times; TimeoutError after `timeout` seconds."""
        name = None if question is None else question_of(question)

        def enough() -> bool:
            return (self._paid.total() if name is None else self._paid[name]) >= times

        with self._changed:
            if not self._changed.wait_for(enough, timeout):
                raise TimeoutError(
                    f"{name or 'any question'}: paid {dict(self._paid)} after {timeout} s, not {times} times"
                )

    def release(self, question: Any = None) -> int:
        """Release the calls that hang now (of one `question`, or, with None, of all); return how many."""
        name = None if question is None else question_of(question)
        with self._changed:
            open_now = [gate for gate, asked in self._gates.items() if name in (None, asked)]
            for gate in open_now:
                del self._gates[gate]
        # set_running_... returns False for a cancelled waiter, whose result must not be set any more.
        return sum(_open(gate) for gate in open_now)

    def reset(self) -> None:
        """Forget scripts and counts, and release all hanging calls; receipts stay."""
        self.release()
        with self._changed:
            self._steps.clear()
            self._paid.clear()
            self._most_in_flight = self._in_flight

    def _begin(self, question: str) -> Turn:
        with self._changed:
            self._paid[question] += 1
            nth = self._paid[question]
            played = self._next(question)
            seconds = self._seconds(played, question, nth)
            gate: Future[None] | None = Future() if played.hang else None
            if gate is not None:
                self._gates[gate] = question
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
            if self.receipts is not None:
                self.receipts.write(question)
            self._changed.notify_all()
        return Turn(question, nth, played, seconds, gate, self.pace if played.pace is None else played.pace)

    def _next(self, question: str) -> Step:
        steps = self._steps.get(question) or self._steps.get(None)
        if not steps:
            return Step()
        return steps.popleft() if len(steps) > 1 else steps[0]

    def _seconds(self, played: Step, question: str, nth: int) -> float:
        if played.delay is not None:
            return played.delay
        return self.delay(question, nth) if callable(self.delay) else self.delay

    def _end(self, turn: Turn) -> None:
        with self._changed:
            self._in_flight -= 1
            if turn.gate is not None:
                self._gates.pop(turn.gate, None)
            self._changed.notify_all()


def _open(gate: Future[None]) -> bool:
    if not gate.set_running_or_notify_cancel():
        return False
    gate.set_result(None)
    return True
