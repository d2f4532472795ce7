"""What is shared by everything scripted: which step a call plays, how long it takes, and the count of what was paid.

A call is counted when it arrives: a provider bills a question whether or not somebody still waits for the answer. The
count, the step and (for a call that hangs) the gate it waits at are settled in one critical section, so that who has
seen a call counted can release it.

Counts in memory are one process's. Several processes that make their calls in process share a file of `Receipts`.
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

from askonce.testing.answers import Shape, question_of


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Delays as providers have them: most near `median` seconds, a few far above; the same call always takes the same.

    `spread` is the deviation of the logarithm (0.5: one call in forty takes 2.7 times the median); `most` caps.
    """

    median: float
    spread: float = 0.5
    seed: int = 0
    most: float = math.inf

    def __call__(self, question: str, nth: int) -> float:
        """Seconds that the `nth` call of `question` takes."""
        # Seeded by the call and not by one shared generator: the order in which threads arrive must not matter.
        draw = random.Random(f"{self.seed}:{nth}:{question}")
        return min(self.most, draw.lognormvariate(math.log(self.median), self.spread))


Delay: TypeAlias = float | Callable[[str, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One scripted outcome. Without arguments: the complete answer, after the provider's own delay.

    `shape` is what became of the answer; `body` replaces it. `status` and `headers` are those of HTTP. `error` is
    raised by a `ScriptedCall`; a `Provider` cuts the connection instead. `hang` waits for `release()`, then plays the
    rest. `delay` is seconds, in place of the provider's.
    """

    shape: Shape = "complete"
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | type[BaseException] | None = None
    hang: bool = False
    delay: float | None = None


Cue: TypeAlias = Step | Shape | int | BaseException | type[BaseException]


def step(cue: Cue) -> Step:
    """A step from its short form: a shape's name, an HTTP status, or an exception."""
    if isinstance(cue, Step):
        return cue
    if isinstance(cue, int):
        # One scripted failure is one request: without this header the SDKs would ask again, twice.
        return Step(status=cue, headers={"x-should-retry": "false"})
    return Step(shape=cue) if isinstance(cue, str) else Step(error=cue)


class Receipt(NamedTuple):
    """A line of `Receipts`: what was asked, by which process, and when (`time.monotonic()`, one clock a machine)."""

    question: str
    pid: int
    at: float


@dataclass(frozen=True, slots=True)
class Receipts:
    """A file to which every paid call appends one line, so that any number of processes count together."""

    path: Path | str

    def write(self, question: str) -> None:
        """Append one paid call."""
        line = json.dumps([question, os.getpid(), time.monotonic()]) + "\n"
        # Opened for each line: nothing to inherit by a fork, nothing to close. One write with O_APPEND keeps it whole.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def rows(self) -> list[Receipt]:
        """All paid calls, in the order in which they were written; empty if there was none."""
        try:
            lines = Path(self.path).read_text("utf-8").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [Receipt(*json.loads(line)) for line in lines if line.endswith("\n")]

    def paid(self, question: Any = None) -> int:
        """How often a question (a text, or a request) was paid; without one, how often any was."""
        wanted = None if question is None else question_of(question)
        return sum(wanted in (None, receipt.question) for receipt in self.rows())


class Turn(NamedTuple):
    """One counted call: the `nth` of its question, what it plays, after how many seconds, and where it hangs."""

    question: str
    nth: int
    step: Step
    seconds: float
    gate: Future[None] | None


class Scripted:
    """The script, the counts and the gates of a provider, in process or over HTTP; safe to use from any thread."""

    def __init__(self, *, delay: Delay = 0.0, receipts: Receipts | Path | str | None = None) -> None:
        self.delay = delay
        self.receipts = Receipts(receipts) if isinstance(receipts, (str, Path)) else receipts
        self._changed = threading.Condition()
        self._steps: dict[str | None, deque[Step]] = {}
        self._gates: dict[Future[None], str] = {}
        self._paid: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0

    def script(self, question: Any, *cues: Cue) -> None:
        """Say what the next calls of a question (a text, a request, or None for all others) play; the last repeats.

        Each is a `Step`, or in short the name of a shape (``"refused"``), an HTTP status, or an exception.
        """
        name = None if question is None else question_of(question)
        with self._changed:
            self._steps[name] = deque(map(step, cues))

    @property
    def calls(self) -> int:
        """How many calls were paid."""
        with self._changed:
            return self._paid.total()

    @property
    def questions(self) -> dict[str, int]:
        """Every question asked so far, and how often it was paid."""
        with self._changed:
            return dict(self._paid)

    @property
    def in_flight(self) -> int:
        """How many calls have begun and not ended."""
        with self._changed:
            return self._in_flight

    @property
    def most_in_flight(self) -> int:
        """The largest number of calls that were in flight at once."""
        with self._changed:
            return self._most_in_flight

    def paid(self, question: Any) -> int:
        """How often a question (a text, or a request) was paid."""
        with self._changed:
            return self._paid[question_of(question)]

    def wait_until_paid(self, question: Any = None, times: int = 1, timeout: float = 10.0) -> None:
        """Block until a question (None: any) was paid `times` times; TimeoutError after `timeout` seconds."""
        name = None if question is None else question_of(question)

        def enough() -> bool:
            return (self._paid.total() if name is None else self._paid[name]) >= times

        with self._changed:
            if not self._changed.wait_for(enough, timeout):
                raise TimeoutError(
                    f"{name or 'any question'}: paid {dict(self._paid)} after {timeout} s, not {times} times"
                )

    def release(self, question: Any = None) -> int:
        """Let the calls that hang now (of one question, or all) go on; returns how many that were."""
        name = None if question is None else question_of(question)
        with self._changed:
            open_now = [gate for gate, asked in self._gates.items() if name in (None, asked)]
            for gate in open_now:
                del self._gates[gate]
        # set_running_... answers False for a waiter that was cancelled, whose result may not be set any more.
        return sum(_open(gate) for gate in open_now)

    def reset(self) -> None:
        """Forget scripts and counts, and release whoever hangs; the receipts are left as they are."""
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
        return Turn(question, nth, played, seconds, gate)

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
