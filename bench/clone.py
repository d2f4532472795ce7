"""The project as a stranger gets it: a fresh clone, nothing installed; and its concurrency tests, 20 times."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.places import folder
from bench.row import Reading, Skipped

ROOT = Path(__file__).parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"  # recorded traffic, which a clone elsewhere would look for beside itself
TEST_BAR = 300.0  # s
LIMIT = 3600.0  # s after which a make is given up
ROUNDS = 20


class Made(NamedTuple):
    """How a make ended: its exit code, the seconds it took, its last words."""

    code: int
    seconds: float
    last: str


def fresh(quick: bool) -> Iterator[Reading]:
    """`make demo` and `make test` in a clone of what is committed; what they install is not counted."""
    if not (ROOT / ".git").exists():
        raise Skipped("this is no clone of the repository")
    with folder() as path:
        place = path / "askonce"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
        for target in ("demo",) if quick else ("demo", "test"):
            installed = _make(place, ".venv/.test" if target == "test" else ".venv/.demo")
            made = installed if installed.code else _make(place, target)
            in_time = target != "test" or made.seconds <= TEST_BAR
            yield Reading(
                f"make {target}",
                f"exit code {made.code} after {made.seconds:.0f} s, {installed.seconds:.0f} s to install: {made.last}",
                made.code == 0 and in_time,
                {"code": made.code, "seconds": made.seconds, "install_s": installed.seconds},
            )


def flaky(quick: bool) -> Iterator[Reading]:
    """The concurrency tests, 20 rounds."""
    rounds = 1 if quick else ROUNDS
    made = _make(ROOT, "flaky", f"ROUNDS={rounds}")
    yield Reading(
        f"{rounds} rounds",
        f"exit code {made.code} after {made.seconds:.0f} s: {made.last}",
        made.code == 0,
        {"code": made.code, "seconds": made.seconds},
    )


def slow(quick: bool) -> Iterator[Reading]:
    """The tests that are left out of `make test`."""
    if quick:
        raise Skipped("make slow has no small size; its small sisters are in make test")
    made = _make(ROOT, "slow")
    yield Reading("make slow", f"exit code {made.code} after {made.seconds:.0f} s: {made.last}", made.code == 0)


def _make(place: Path, *words: str) -> Made:
    began = time.monotonic()
    # In a session of its own, so that everything it started can be ended with it.
    process = subprocess.Popen(
        ["make", "--no-print-directory", *words],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=_environment(),
    )
    try:
        said, _ = process.communicate(timeout=LIMIT)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    return Made(process.returncode, time.monotonic() - began, _last(said))


def _environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return {"ASKONCE_CORPUS": str(CORPUS), **plain}


def _last(said: str) -> str:
    """The last line, without colours and rulers; hosts and folders are the machine's own business."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" =─╰╯│") for line in said.splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return re.sub(r"\w+://\S+|(?<!\S)~?(/[\w.-]+){2,}", "...", last)[:160]
