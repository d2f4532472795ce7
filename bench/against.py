"""`python -m bench.against COMMIT`: the cost of this tree compared with another commit, in one run.

The other commit is checked out as a git worktree in a temporary folder. Two processes, one for each tree, take turns
with a few equal calls, so that any disturbance affects both: a hit and a miss of fetch, a hit and a stream through
http_client(), on each store. A ratio compares the medians; it is taken three times, in new processes and stores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from bench import machine, places
from bench.against_worker import WORKS
from bench.compare import RUNS, Pair, Ratio, paired
from bench.places import Skipped
from bench.row import Reading
from bench.workers import Failed

BAR = 1.02
EACH = 20  # calls of one tree before the other takes over
TURNS = {"hit": 200, "miss": 40, "client hit": 100, "client stream": 40}
RATIO = Ratio("after", "before", BAR)


class Tree:
    """A process that uses the askonce of one tree."""

    def __init__(self, tree: Path, work: str, url: str) -> None:
        path = os.pathsep.join([str(tree / "src"), str(machine.ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.against_worker", work, url],
            env={**os.environ, "PYTHONPATH": path},
            cwd=machine.ROOT,  # both use the same bench
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        loaded = self._line()
        if not Path(loaded).is_relative_to(tree / "src"):
            self.__exit__()
            raise Failed(f"askonce was imported from {loaded}, and not from {tree}")

    def _line(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise Failed("a tree's process died: its error is above")
        return json.loads(line)

    def times(self, calls: int) -> list[int]:
        """The duration of `count` calls, ns each."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        times: list[int] = self._line()
        return times

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Another commit's files, removed afterwards."""
    with places.nowhere() as place:
        tree = place.folder / "tree"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=machine.ROOT, check=True
        )
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=machine.ROOT, check=True)


def compared(before: Path, work: str, opener: places.Opener, turns: int) -> tuple[str, Pair]:
    """One run: the store's name, and the times of both."""
    with ExitStack() as stack:
        place = stack.enter_context(opener())
        # One server for both, with a database each: two servers would differ by more than the commits.
        urls = [place.url, place.url.removesuffix("/0") + "/1" if place.server else f"{place.url}-before"]
        trees = [machine.ROOT, before]
        both = [stack.enter_context(Tree(tree, work, url)) for tree, url in zip(trees, urls, strict=True)]
        times: list[list[int]] = [[], []]
        for number in range(turns + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                found = both[side].times(EACH)
                times[side] += found if number else []  # the first turn only warms up
    return place.name, paired(*times)


def readings(before: Path, *, quick: bool) -> Iterator[Reading]:
    """All comparisons."""
    for work in WORKS:
        for opener in (places.sqlite, places.valkey):
            turns = 2 if quick else TURNS[work]
            try:
                found = [compared(before, work, opener, turns) for _ in range(1 if quick else RUNS)]
            except Skipped as skipped:
                yield Reading(f"{work}, {opener.__name__}", f"skipped: {skipped}", None)
                continue
            yield Reading(f"{work}, {found[0][0]}", *RATIO.judged([pair for _, pair in found]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 if the bar was missed."""
    parser = argparse.ArgumentParser("python -m bench.against", description=f"After / before; bar {BAR}.")
    parser.add_argument(
        "commit", help="what to compare this tree with: a commit, a branch, HEAD for what is uncommitted"
    )
    parser.add_argument("--quick", action="store_true", help="few calls: does it work, not how well")
    said = parser.parse_args(arguments)
    commit = machine.git("rev-parse", "--verify", "--short", f"{said.commit}^{{commit}}")
    if commit == "unknown":
        parser.error(f"git knows no commit {said.commit}")
    dirty = " with uncommitted changes" if machine.uncommitted() else ""
    print(f"after: {machine.git('rev-parse', '--short', 'HEAD')}{dirty}; before: {commit}; load {machine.load()}")
    missed = False
    with worktree(commit) as before:
        for reading in readings(before, quick=said.quick):
            missed |= reading.passed is False
            print(
                f"    {'FAIL' if reading.passed is False else 'pass'}  {reading.case}: {reading.measured}", flush=True
            )
    print(f"load {machine.load()}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
