"""The project in a fresh clone with nothing installed; its slow tests, and its concurrent ones repeated."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.places import Skipped, nowhere
from bench.row import Case, Seen, row

ROOT = Path(__file__).parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"  # recorded traffic; a clone elsewhere would look for it beside itself
TEST_BAR = 300.0  # s
WHEEL_BAR = 400  # KB
LIMIT = 3600.0  # s until a make is stopped
HEAVY: dict[str, Any] = {"heavy": True, "stores": (nowhere,), "modes": ("threads",)}


class Made(NamedTuple):
    """How a make ended: its exit code, the seconds it took, its last words."""

    code: int
    seconds: float
    last: str

    def seen(self, more: str = "", case: str = "", most: float = LIMIT) -> Seen:
        """The words of a row about it."""
        measured = f"exit code {self.code} after {self.seconds:.0f} s{more}: {self.last}"
        return Seen(measured, self.code == 0 and self.seconds <= most, {"seconds": self.seconds}, case)


@row(variants={"make demo": "demo", "make test": "test"}, **HEAVY)
def clone(case: Case) -> Seen:
    """fresh clone, nothing installed: make demo, make test.

    Bar: both pass; make test <= 5 min.

    In a clone of what is committed; what is installed is not counted.
    """
    if case.quick and case.variant == "test":
        raise Skipped("make test has no small size")
    if not (ROOT / ".git").exists():
        raise Skipped("this is no clone of the repository")
    place = case.place.folder / "askonce"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    installed = _make(place, f".venv/.{case.variant}")
    made = installed if installed.code else _make(place, case.variant)
    return made.seen(f", {installed.seconds:.0f} s to install", "", TEST_BAR if case.variant == "test" else LIMIT)


@row(**HEAVY)
def wheel(case: Case) -> Seen:
    """the wheel: built in a clean environment, looked into, installed alone into each Python here, README run there.

    Bar: <= 400 KB; no stray file.

    docs/design.md says what was tried to have fewer bytes.
    """
    if case.quick:
        raise Skipped("make wheel has no small size")
    made = _make(ROOT, "wheel")
    size = re.search(r": (\d+) KB", made.last)
    seen = made.seen(case="make wheel")
    return seen._replace(passed=bool(seen.passed and size and int(size[1]) <= WHEEL_BAR))


@row(**HEAVY)
def flaky(case: Case) -> Seen:
    """concurrency tests 20 times over (make flaky).

    Bar: 0 failures.
    """
    rounds = 1 if case.quick else 20
    return _make(ROOT, "flaky", f"ROUNDS={rounds}").seen(case=f"{rounds} rounds")


@row(**HEAVY)
def slow(case: Case) -> Seen:
    """all recorded traffic through the clients and as streams, 10,000 batches of embeddings, 10,000 mutated keys.

    Bar: 0 failures.

    The tests that are left out of `make test`.
    """
    if case.quick:
        raise Skipped("make slow has no small size; its small sisters are in make test")
    return _make(ROOT, "slow").seen(case="make slow")


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
    """The last line, without colours and rulers, and without hosts and folders of the machine."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip(" =─╰╯│") for line in said.splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return re.sub(r"\w+://\S+|(?<!\S)~?(/[\w.-]+){2,}", "...", last)[:160]
