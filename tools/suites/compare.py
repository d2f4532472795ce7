"""How the tests of two runs of one suite ended, where they differ, and which differences are right. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

WORST = ("passed", "xfailed", "skipped", "xpassed", "failed", "error")


class Ended(NamedTuple):
    """How a test ended; `said`: its last output, `lookups`: how those of askonce ended; `sends`: it used a client."""

    outcome: str
    said: str = ""
    lookups: tuple[str, ...] = ()
    sends: bool = False


class Difference(NamedTuple):
    """A test that ends otherwise with askonce."""

    suite: str
    test: str
    before: str
    after: str
    said: str = ""
    lookups: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join((f"{self.test}: {self.before} -> {self.after}", *self.evidence))

    @property
    def evidence(self) -> list[str]:
        """The reason, as far as the run shows it."""
        said = [f"    {self.said}"] if self.said else []
        return said + [f"    lookup: {lookup}" for lookup in self.lookups]


class Right(NamedTuple):
    """A correct difference: the test, with all its parameters, and the reason."""

    suite: str
    test: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the list entry is for this test."""
        return self.suite == difference.suite and difference.test.partition("[")[0] == self.test


class Judged(NamedTuple):
    """The differences found, correct or not; and the listed ones that were not found."""

    by_right: list[Difference]
    unlisted: list[Difference]
    gone: list[Right]

    @property
    def sound(self) -> bool:
        """Whether the list is complete and has no more than it needs."""
        return not (self.unlisted or self.gone)


def ended(lines: Iterable[str]) -> dict[str, Ended]:
    """How each test ended, from the recorder's lines: the worst of its phases."""
    found: dict[str, Ended] = {}
    for line in lines:
        row = json.loads(line)
        now = Ended(row["outcome"], " | ".join(row["text"]), tuple(row["lookups"]), row["sends"])
        before = found.get(row["test"], now)
        worst = max(before, now, key=lambda one: WORST.index(one.outcome))
        found[row["test"]] = worst._replace(lookups=now.lookups, sends=now.sends or before.sends)
    return found


def counted(ends: Mapping[str, Ended]) -> str:
    """How many tests ended in which way, as a line."""
    counts = Counter(one.outcome for one in ends.values())
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in WORST if counts[outcome])


def differences(suite: str, before: Mapping[str, Ended], after: Mapping[str, Ended]) -> list[Difference]:
    """The tests that should run with askonce, and end otherwise or not at all."""
    found = []
    for test, was in before.items():
        now = after.get(test, Ended("missing"))
        if was.sends and now.outcome != was.outcome:
            found.append(Difference(suite, test, was.outcome, now.outcome, now.said, now.lookups))
    return found


def steady(found: Sequence[Difference], again: Sequence[Difference]) -> list[Difference]:
    """Those that were found again, as they were this time."""
    tests = {one.test for one in found}
    return [one for one in again if one.test in tests]


def judged(found: Sequence[Difference], right: Sequence[Right], suites: Iterable[str]) -> Judged:
    """Which differences are correct; of the list, only the entries of suites that were run."""
    about = [one for one in right if one.suite in set(suites)]
    by_right = [one for one in found if any(entry.covers(one) for entry in about)]
    unlisted = [one for one in found if one not in by_right]
    gone = [entry for entry in about if not any(map(entry.covers, found))]
    return Judged(by_right, unlisted, gone)


def listed(table: Mapping[str, object]) -> list[Right]:
    """The list of correct differences, from its file."""
    rows = table.get("right", [])
    assert isinstance(rows, list)
    return [Right(row["suite"], test, row["reason"]) for row in rows for test in row["tests"]]
