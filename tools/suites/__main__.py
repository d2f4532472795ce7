"""`python -m tools.suites [--room=FOLDER] [--anew] [NAME | NAME==VERSION ...]`: run suites, print what differs."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from pathlib import Path

from tools.suites.compare import Difference, Judged, counted, differences, judged, listed, steady
from tools.suites.suite import HERE, Suite, chosen, suites

TRIES = 2  # a difference must come again; otherwise the machine caused it


def main() -> int:
    """0 if the differences are those listed, else 1."""
    asked = argparse.ArgumentParser(prog="make suites", description=__doc__)
    asked.add_argument("--room", type=Path, default=Path(".venv/suites"), help="where environments are made")
    asked.add_argument("--anew", action="store_true", help="run them without us again, too")
    asked.add_argument("suites", nargs="*", metavar="NAME[==VERSION]")
    said = asked.parse_args()
    right = listed(tomllib.loads((HERE / "right.toml").read_text("utf-8")))
    run = chosen(suites(said.room.resolve()), said.suites)
    verdict = judged([one for suite in run for one in found(suite, anew=said.anew)], right, [one.name for one in run])
    tell(verdict)
    return 0 if verdict.sound else 1


def found(suite: Suite, *, anew: bool) -> list[Difference]:
    """What differs in one suite, and differs again in a second run."""
    began = time.monotonic()
    print(f"{suite}: making its environment", flush=True)
    suite.make()
    suite.take()
    print(f"{suite}: running it without us, unless that was done before", flush=True)
    before = suite.without(anew=anew)
    sending = [test for test, one in before.items() if one.sends]
    print(f"{suite}: {len(before)} tests ({counted(before)}), {len(sending)} of them send through a client", flush=True)
    if not sending:
        raise SystemExit(f"{suite}: a suite that sends nothing shows nothing; see {suite.place}")
    print(f"{suite}: running these with us", flush=True)
    got = differences(suite.name, before, suite.run(wrapped=True, tests=sending))
    for _ in range(TRIES):
        if got:
            tests = [one.test for one in got]
            once, twice = suite.run(wrapped=False, tests=tests), suite.run(wrapped=True, tests=tests)
            got = steady(got, differences(suite.name, once, twice))
    print(f"{suite}: {len(got)} differ ({time.monotonic() - began:.0f} s)", flush=True)
    return got


def tell(verdict: Judged) -> None:
    """Print what was found."""
    for difference in verdict.by_right:
        print(f"by right: {difference}")
    for difference in verdict.unlisted:
        print(f"NOT BY RIGHT: {difference}")
    for entry in verdict.gone:
        print(f"NO MORE: {entry.suite}: {entry.test} is listed in right.toml, and does not differ")
    counts = len(verdict.by_right), len(verdict.unlisted), len(verdict.gone)
    print("{} by right, {} not, {} listed that differ no more".format(*counts))


if __name__ == "__main__":
    sys.exit(main())
