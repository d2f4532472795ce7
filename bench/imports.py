"""What `import askonce` costs a program, beside what it would have imported by itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench.row import Reading, median

OURS, THEIRS = "askonce", "asyncio, sqlite3, orjson"
BAR = 1.3


def ratio(quick: bool) -> Iterator[Reading]:
    """Fresh interpreters, alternating."""
    rounds = [(_took(OURS), _took(THEIRS)) for _ in range(5 if quick else 40)]
    ours, theirs = median([one for one, _ in rounds]), median([other for _, other in rounds])
    yield Reading(
        f"{len(rounds)} interpreters each",
        f"{ours / theirs:.2f}; {OURS} {ours:.1f} ms, {THEIRS} {theirs:.1f} ms",
        ours / theirs <= BAR,
        {"ratio": ours / theirs, "ours_ms": ours, "theirs_ms": theirs},
    )


def _took(names: str) -> float:
    """ms that the import statement alone takes: the interpreter's own start would flatter the ratio."""
    code = f"import time; began = time.perf_counter(); import {names}; print(time.perf_counter() - began)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return float(said.stdout) * 1000
