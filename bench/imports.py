"""What `import askonce` costs a program, beside what it would have imported by itself.

With compiled code for both, in a folder of the row's own: an installed package has it, a checkout perhaps not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.places import folder
from bench.row import Reading, median

OURS, THEIRS = "askonce", "asyncio, sqlite3, orjson"
BAR = 1.3


def ratio(quick: bool) -> Iterator[Reading]:
    """Fresh interpreters, alternating."""
    with folder() as cache:
        environment = _environment(cache)
        _took(OURS, environment), _took(THEIRS, environment)
        rounds = [(_took(OURS, environment), _took(THEIRS, environment)) for _ in range(5 if quick else 40)]
    ours, theirs = median([one for one, _ in rounds]), median([other for _, other in rounds])
    yield Reading(
        f"{len(rounds)} interpreters each",
        f"{ours / theirs:.2f}; {OURS} {ours:.1f} ms, {THEIRS} {theirs:.1f} ms",
        ours / theirs <= BAR,
        {"ratio": ours / theirs, "ours_ms": ours, "theirs_ms": theirs},
    )


def _environment(cache: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**plain, "PYTHONPYCACHEPREFIX": str(cache)}


def _took(names: str, environment: dict[str, str]) -> float:
    """ms that the import statement alone takes: the interpreter's own start would flatter the ratio."""
    code = f"import time; began = time.perf_counter(); import {names}; print(time.perf_counter() - began)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return float(said.stdout) * 1000
