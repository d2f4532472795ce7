"""Many command lines in one process, which forks for each: see `terminal`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.cli.terminal import Job, Said

ROOT = Path(__file__).parents[2]
OURS = ("ASKONCE_", "REDIS_", "PYTEST_")
UNSET = {"COLUMNS", "LINES", "NO_COLOR"}


def ran(jobs: Sequence[Job], home: Path) -> list[Said]:
    """What each printed, on a terminal of 256 colours or in a pipe."""
    ours = {name: value for name, value in os.environ.items() if name not in UNSET and not name.startswith(OURS)}
    # FORCE_COLOR is set, as in many builds: a pipe gets no colours all the same.
    around = {"TERM": "xterm-256color", "FORCE_COLOR": "1", "PYTHONUTF8": "1"}
    around |= {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    program = [sys.executable, "-m", "tests.cli.terminal"]
    done = subprocess.run(
        program,
        input=json.dumps([[*job[:-1], dict(job.around)] for job in jobs]),
        cwd=ROOT,
        env=ours | around,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Said(*one) for one in json.loads(done.stdout)]
