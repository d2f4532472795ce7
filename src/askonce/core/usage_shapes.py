"""How a library counts the usage of an answer: learned once for each shape of usage, because asking takes 30 us.

The library reads an answer's usage by rules of its own: which number is which count, and which numbers add up. Those
rules look at names and not at numbers. So of answers whose usage has one shape (the same names, and whole numbers in
the same places), each count is the same sum of numbers. Which sum that is, is found by asking the library about an
answer of that shape whose numbers are powers, from whose sum each one can be told. What is not as simple as that
(lists, numbers that count more than three times) is asked for each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from askonce.core.memo import Memo
from askonce.core.providers.answers import Answer
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.usage import TOLD

SHAPES = 1024  # shapes that are remembered
MOST = 20  # numbers in a usage: the highest power stays below what readers take for nonsense
BASE = 4  # a number may count up to three times

Counted = tuple[str | None, Mapping[str, int]]  # the model that the answer names, and its counts without those of 0
Ask = Callable[[Answer], Counted]
Shape = tuple[object, ...]

_END = object()


class _Rule(NamedTuple):
    """Which part of an answer names the model, and which numbers make up each count."""

    model: str
    sums: Sequence[tuple[str, Sequence[int]]]

    def counted(self, answer: Answer, numbers: Sequence[int]) -> Counted:
        """What the library would say."""
        counts = {name: sum([numbers[place] for place in places]) for name, places in self.sums}
        return answer[self.model], {name: count for name, count in counts.items() if count}


class UsageShapes:
    """The shapes of usage met so far."""

    def __init__(self) -> None:
        self._rules: Memo[Shape, _Rule | None] = Memo(SHAPES)

    def counted(self, api: str, answer: Answer, ask: Ask) -> Counted:
        """What `ask` says of an answer of an API. It raises whatever `ask` raises."""
        shape: list[object] = [api]
        numbers: list[int] = []
        told = sorted(TOLD.intersection(answer))
        if not _read(answer, told, shape, numbers) or len(numbers) > MOST:
            return ask(answer)
        key = tuple(shape)
        try:
            rule = self._rules[key]
        except KeyError:
            rule = self._learned(key, answer, numbers, ask)
        return ask(answer) if rule is None else rule.counted(answer, numbers)

    def _learned(self, key: Shape, answer: Answer, numbers: Sequence[int], ask: Ask) -> _Rule | None:
        told = ask(answer)  # what raises is no shape to remember: each answer raises for itself
        rule = _rule(answer, len(numbers), ask)
        if rule is not None and rule.counted(answer, numbers) != told:
            rule = None
        self._rules.keep(key, rule, sum(len(part) for part in key if isinstance(part, str)))
        return rule


def _read(held: Answer, names: Sequence[str], shape: list[object], numbers: list[int]) -> bool:
    """Add the names of what is held to `shape`, and its numbers to `numbers`; False if it is not as simple as that."""
    for name in names:
        value = held[name]
        shape.append(name)
        if type(value) is int:
            if value < 0:
                return False
            numbers.append(value)
        elif type(value) is dict:
            shape.append(dict)
            if not _STRINGS.issuperset(map(type, value)) or not _read_inner(value, shape, numbers):
                return False
            shape.append(_END)
        elif value is None or type(value) is str or (type(value) is float and 0 <= value < math.inf):
            shape.append(type(value))  # no count, whatever it says: counts are whole numbers
        else:
            return False
    return True


def _read_inner(held: Answer, shape: list[object], numbers: list[int]) -> bool:
    if not _WHOLE.issuperset(map(type, held.values())):
        return _read(held, list(held), shape, numbers)
    shape += held  # the usual case
    numbers += held.values()
    return min(held.values(), default=0) >= 0


_STRINGS, _WHOLE = frozenset({str}), frozenset({int})


def _rule(answer: Answer, count: int, ask: Ask) -> _Rule | None:
    """The rule by which answers of this shape are counted; None if there is none that can be told from numbers."""
    told = {name: answer[name] for name in sorted(TOLD.intersection(answer))}
    named = {name: name for name, value in told.items() if type(value) is str}
    powers = [BASE**place for place in range(count)]
    try:
        model, counts = ask({**_numbered(told, iter(powers)), **named})
        _, turned = ask({**_numbered(told, reversed(powers)), **named})
    except Exception:  # noqa: BLE001 - the library may find powers absurd: then it is asked each time
        return None
    rule = _Rule(str(model), [(name, _places(total)) for name, total in counts.items()])
    # Counted the other way round it shows whether it is a sum, or the largest of them.
    numbers = powers[::-1]
    return rule if model in named and rule.counted(named, numbers)[1] == turned else None


def _numbered(held: Any, numbers: Iterator[int]) -> Any:
    """The same with these numbers in the places of its own, in the order in which they are read."""
    if type(held) is int:
        return next(numbers)
    return {name: _numbered(inner, numbers) for name, inner in held.items()} if type(held) is dict else held


def _places(count: int) -> list[int]:
    """The numbers that make up a sum of powers; one that counts twice stands twice."""
    places, place = [], 0
    while count:
        count, times = divmod(count, BASE)
        places += [place] * times
        place += 1
    return places
