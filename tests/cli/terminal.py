"""Runs command lines as a shell does: on a terminal of some width, or in a pipe. ``python -m tests.cli.terminal``.

This process has one thread, so each command is a fork of it that has everything imported. It reads Jobs as JSON from
standard input, and writes what each printed to standard output. Standard error is a pipe in both cases: what is drawn
there while a command works is not part of its answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import pty
import re
import secrets
import shutil
import struct
import sys
import tempfile
import termios
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast
from unittest import mock

import typer

from askonce.cli import checks as cli_checks
from askonce.cli import dashboard as cli_dashboard
from askonce.cli import main
from askonce.cli.app import app
from askonce.cli.check import Check
from askonce.demo import scenes
from askonce.demo.scenes import Crash, HitCost, Invalidation, Measured, Report, Row
from tests.cli import prepared

VOLATILE = {r"invalidated in [0-9.]+ (s|ms|us)": "invalidated in 1.5 ms", r"(?m)^askonce \d[\w.]+": "askonce 1.2.3"}
HOME = "/home/me"  # where the store seems to be


class Job(NamedTuple):
    """A command line, the columns of its terminal (0: a pipe), and what it reads from standard input.

    `around`: variables of its environment; OUT is no variable, but one of OUTPUTS.
    """

    words: Sequence[str]
    columns: int
    reads: str = ""
    around: Mapping[str, str] = MappingProxyType({})


class Said(NamedTuple):
    """What it printed, with all that moves the cursor of a terminal, and its exit code."""

    out: str
    err: str
    code: int


def run(jobs: Sequence[Job]) -> list[Said]:
    """Run command lines, each on a store of its own that holds the same."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        _warm()
        clock = prepared.Clock()
        assert _forked(partial(_filled, clock), []) == 0
        return [_ran(job, clock) for job in jobs]


def _filled(clock: prepared.Clock) -> int:
    prepared.fill(clock)
    return 0


def _warm() -> None:
    """Import what a command imports late, and make the tree of commands once: a fork has it all then."""
    made = typer.main.get_command(app)
    mock.patch.object(typer.main, "get_command", return_value=made).start()
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["show", "0" * 64, "--url", "sqlite:///nothing.db"]) == 1
        assert main(["serve", "--upstream", "nowhere"]) == 2
    importlib.import_module("askonce.gateway.view")
    gc.freeze()


def _ran(job: Job, clock: prepared.Clock) -> Said:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        place = Path(folder).resolve()
        shutil.copy(prepared.FILE, place)
        opened = pty.openpty() if job.columns else os.pipe()
        ours, theirs = opened
        if job.columns:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, job.columns, 0, 0))
        (place / "reads").write_text(job.reads, "utf-8")
        wrong, wrong_end = os.pipe()
        with (place / "reads").open("rb") as reads:
            if out := job.around.get("OUT"):
                OUTPUTS[out](ours, theirs)
            ends = [reads.fileno(), theirs, wrong_end]
            pid = _fork(lambda: _command(job, clock, place), ends)
        os.close(theirs)
        os.close(wrong_end)
        out, err = _read(ours), _read(wrong)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return Said(_steady(out, place), _steady(err, place), code)


def _steady(text: str, place: Path) -> str:
    for pattern, instead in VOLATILE.items():
        text = re.sub(pattern, instead, text)
    return text.replace(str(place), HOME)


def _left(ours: int, theirs: int) -> None:
    """Whoever reads has left already."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), ours)


def _full(ours: int, theirs: int) -> None:
    """A disk without room."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), theirs)


OUTPUTS: dict[str, Callable[[int, int], None]] = {"left": _left, "full": _full, "closed": _left}


def _read(end: int) -> str:
    said = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end of a terminal is closed
        while part := os.read(end, 65536):
            said += part
    os.close(end)
    return said.decode()


def _forked(work: Callable[[], int], ends: Sequence[int]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(_fork(work, ends), 0)[1])


def _fork(work: Callable[[], int], ends: Sequence[int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for number, end in enumerate(ends):
            os.dup2(end, number)
        code = work()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _command(job: Job, clock: prepared.Clock, place: Path) -> int:
    os.chdir(place)
    os.environ.update(job.around)
    if encoding := job.around.get("ENCODING"):
        cast("io.TextIOWrapper", sys.stdout).reconfigure(encoding=encoding)
    if job.around.get("OUT") == "closed":
        sys.stdout = cast("Any", None)
    clock.to(prepared.NOW)
    with prepared.frozen(clock), _scripted():
        return main([place.as_posix().join(word.split("{here}")) for word in job.words])


# --- what no store holds: commands that measure, serve or draw lots ----------------------------------------------


@contextlib.contextmanager
def _scripted() -> Iterator[None]:
    def checks(_place: Any) -> Iterator[Check]:
        yield from CHECKS

    async def serve(*_: Any, **__: Any) -> None:
        cli_dashboard._tell(
            "http://127.0.0.1:8182/_askonce/login?once=0123456789abcdef0123456789abcdef0123456789abcdef"
        )

    with (
        mock.patch.object(cli_checks, "checks", checks),
        mock.patch.object(cli_dashboard, "_serve", serve),
        mock.patch.object(scenes, "run", _played),
        mock.patch.object(secrets, "token_bytes", lambda size: bytes(range(size))),
    ):
        yield


LONG_PATH = "/home/somebody-with-a-long-name/projects/a-support-desk/var/cache/askonce/production/answers.db"
CHECKS = (
    Check("askonce", "0.1.0, Python 3.11.14, redis-py 7.1.0, hiredis 3.3.0, orjson 3.11.4, SQLite 3.46.1"),
    Check("store", f"sqlite:///{LONG_PATH} (named by $ASKONCE_URL)"),
    Check("prefix", "none"),
    Check("mode", "off ($ASKONCE_MODE)", "hint", "unset ASKONCE_MODE to use the cache normally"),
    Check("reach", "the store answers after 312 us"),
    Check("file", "mode 0644", "hint", f"other users may read the answers: chmod 600 {LONG_PATH}*"),
    Check(
        "rights", "list: \x1b[31mno\x1b[0m (store-denied)", "bad", "check user, password and rights: ~llm:* are enough"
    ),
)


async def _played(_url: Any, _prefix: Any, scale: Any, look: Callable[[Report], None]) -> Report:
    report = Report(f"sqlite:///{LONG_PATH}", scale)
    for title, paid in (("one new question, from all callers at once", 1), ("a day's questions", 64), ("again", 0)):
        row = Row(title, 800, paid, Measured(800, 1.75), Measured(paid, 0.25, 700, 100 - paid))
        report.rows.append(row)
        look(report)
    report.hit = HitCost(24.0, 91.0, 10_000)
    look(report)
    report.invalidation = Invalidation(0.0021, 100, 1, 0)
    look(report)
    report.crash = Crash(0.4, 75, 1.0, 0.9, 0.8, 1.7, 2)
    report.seconds = 9.5
    look(report)
    return report


if __name__ == "__main__":
    asked = [Job(*one) for one in json.loads(sys.stdin.read())]
    json.dump(run(asked), sys.stdout)
