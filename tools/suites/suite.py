"""A suite: where its tests come from, what they run in, and how they are run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.suites.compare import Ended, ended

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
INSIDE = HERE / "inside"
LIMIT = 3 * 3600  # s that one run may take
RAN = (0, 1)  # pytest's exit codes for a complete run: all passed, some failed


@dataclass(frozen=True)
class Suite:
    """A row of suites.toml; `room` is the folder in which all of it is made."""

    name: str
    version: str
    room: Path
    package: str = ""
    extras: str = ""
    sdk: str = ""
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    timeout: int = 120  # s that a test may take
    set: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.place / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"

    @property
    def place(self) -> Path:
        """Its own folder; each version has one."""
        return self.room / f"{self.name}-{self.version}"

    @property
    def tests(self) -> Path:
        """Its source distribution."""
        return self.place / "tests"

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    # making it

    def make(self) -> None:
        """Fetch and install what is missing."""
        stamp = self.place / "made"
        wanted = repr(self)
        if stamp.exists() and stamp.read_text("utf-8") == wanted:
            return
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        self._fetch()
        self._install()
        stamp.write_text(wanted, "utf-8")

    def take(self) -> None:
        """Install askonce as it is now: a run takes long, and later edits belong to the next one."""
        pip(self.python, "install", "--no-deps", "--force-reinstall", PROJECT)

    def _fetch(self) -> None:
        wanted = f"{self.package or self.name}=={self.version}"
        pip(Path(sys.executable), "download", "--no-deps", "--no-binary=:all:", f"--dest={self.place}", wanted)
        (archive,) = self.place.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(self.place, filter="data")
        (unpacked,) = (one for one in self.place.iterdir() if one.is_dir())
        unpacked.rename(self.tests)
        for name in self.drop:
            shutil.rmtree(self.tests / name)

    def _install(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", self.place / "env"], check=True)
        wanted = f"{self.package or self.name}{f'[{self.extras}]' * bool(self.extras)}=={self.version}"
        more = ["pytest", "pytest-timeout", *self.needs]
        pip(self.python, "install", wanted, *more, f"{PROJECT}[http]")

    # running it

    def without(self, *, anew: bool) -> dict[str, Ended]:
        """How all its tests end without askonce; run once, because only the environment can change it."""
        runs = b"".join((INSIDE / f"{name}.py").read_bytes() for name in ("suite_recorder", "suite_standin"))
        report = self.place / f"without-{hashlib.sha256(runs).hexdigest()[:8]}.jsonl"
        if anew or not report.exists():
            self._run(report)
        return read(report)

    def run(self, *, wrapped: bool, tests: Iterable[str] | None = None) -> dict[str, Ended]:
        """How its tests end, or these."""
        report = self.place / ("with.jsonl" if wrapped else "again.jsonl")
        self._run(report, wrapped=wrapped, tests=tests)
        return read(report)

    def _run(self, report: Path, *, wrapped: bool = False, tests: Iterable[str] | None = None) -> None:
        chosen = ["tests"]
        if tests is not None:
            listed = self.place / "chosen.txt"
            listed.write_text("\n".join(tests), "utf-8")
            chosen = [f"@{listed}"]
        partial = report.with_suffix(".partial")
        plugins = ["suite_recorder", *["suite_standin"] * bool(self.sdk), *["suite_wrap"] * wrapped]
        command = [
            *(str(self.python), "-m", "pytest", "-q", "--tb=short", "--override-ini=addopts="),
            *[f"--timeout={self.timeout}"] * bool(self.timeout),
            *("--continue-on-collection-errors", "-p", "no:cacheprovider", "-p", "no:askonce"),
            *self.options,
            *(word for plugin in plugins for word in ("-p", plugin)),
            *(f"--ignore={path}" for path in self.ignore),
            *chosen,
        ]
        with report.with_suffix(".txt").open("w", encoding="utf-8") as said:
            done = subprocess.run(
                command,
                cwd=self.tests,
                env={**os.environ, **self.set, **self._told(partial)},
                stdout=said,
                stderr=said,
                check=False,
                timeout=LIMIT,
            )
        if done.returncode not in RAN:
            raise SystemExit(f"{self}: pytest did not come to its end: see {report.with_suffix('.txt')}")
        partial.rename(report)  # whole, or not there

    def _told(self, report: Path) -> dict[str, str]:
        return {"PYTHONPATH": str(INSIDE), "SUITE_REPORT": str(report), "SUITE_SDK": self.sdk}


def read(report: Path) -> dict[str, Ended]:
    """Read a recorder's report."""
    with report.open(encoding="utf-8") as lines:
        return ended(lines)


def pip(python: Path, *words: object) -> None:
    """Run pip; show its output if it fails."""
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip {' '.join(map(str, words))}:\n{done.stdout}{done.stderr}")


def suites(room: Path) -> dict[str, Suite]:
    """All of suites.toml."""
    table: dict[str, dict[str, Any]] = tomllib.loads((HERE / "suites.toml").read_text("utf-8"))
    return {name: made(name, row, room) for name, row in table.items()}


def made(name: str, row: Mapping[str, Any], room: Path) -> Suite:
    """The suite of a row."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Suite(name, room=room, **fields)


def chosen(known: Mapping[str, Suite], words: Iterable[str]) -> list[Suite]:
    """Those named, by name or ``name==version``; all without a name."""
    found = []
    for word in words:
        name, _, version = word.partition("==")
        if name not in known:
            raise SystemExit(f"no suite {name!r}: there are {', '.join(known)}")
        row = known[name]
        found.append(Suite(**{**vars(row), "version": version or row.version}))
    return found or list(known.values())
