"""What is asked: the questions of a support desk, some of them all day long, as a list a caller.

The popularity is Zipf's: the n-th question is asked 1/n as often as the first. Drawn from a fixed seed, so that the
load with a cache and the load without are the same, question by question.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import product
from typing import Any

SCOPE = "support"  # every question of the demo is asked in it
SYSTEM = "You are the support desk of a maker of kitchen machines. Answer in two sentences."
PROBLEMS = (
    "does not switch on",
    "leaks",
    "is louder than last week",
    "smells of burnt rubber",
    "shows error E4",
    "stops after a minute",
    "has lost its manual",
    "is to be sent back",
)
MACHINES = ("blender", "kettle", "mixer", "toaster", "coffee grinder", "ice maker", "juicer", "bread maker", "steamer")
COLD = "A recall of all kettles was on the news an hour ago. What do we tell those who call?"
LAST = "A customer says that the blender sings. What do we tell her?"


@dataclass(frozen=True)
class Scale:
    """How large the demo is. `hits` is how many hits are timed, if a second is enough for them; the rest are seconds.

    `median` is the provider's usual time for an answer, `call` its time for COLD and LAST, `lease` how long a lease
    lives.
    """

    processes: int = 4
    callers: int = 25
    questions: int = 8
    median: float = 0.2
    call: float = 0.8
    lease: float = 1.0
    hits: int = 10_000

    @property
    def everybody(self) -> int:
        """Callers in all."""
        return self.processes * self.callers


def request(question: str) -> dict[str, Any]:
    """A question as it goes to the provider."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {"model": "gpt-4.1-mini", "temperature": 0, "messages": messages}


def questions() -> list[str]:
    """All that a day brings, the most frequent first."""
    return [f"My {machine} {problem}. What now?" for problem, machine in product(PROBLEMS, MACHINES)]


def day(scale: Scale) -> list[list[str]]:
    """What each caller asks, one after the other."""
    draw = random.Random(scale.everybody)
    asked = questions()
    weights = [1 / rank for rank in range(1, len(asked) + 1)]
    return [draw.choices(asked, weights, k=scale.questions) for _ in range(scale.everybody)]


def at_once(scale: Scale, question: str) -> list[list[str]]:
    """All callers ask the same question."""
    return [[question]] * scale.everybody
