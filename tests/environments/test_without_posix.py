"""With only what every system has (Windows), askonce imports, and the SQLite and memory stores keep their laws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import tests.environments.bare
import os
assert not hasattr(os, "fork")
import asyncio, threading, askonce, askonce.cli, askonce.testing, askonce.pytest_plugin
request = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
paid = []
def call():
    paid.append(1)
    return {"said": len(paid)}
with askonce.Cache("sqlite:///answers.db") as cache:
    crowd = [threading.Thread(target=cache.fetch, args=(request, call)) for _ in range(8)]
    for one in crowd: one.start()
    for one in crowd: one.join()
    assert cache.fetch(request, call).status.hit
    cache.invalidate(everything=True)
    assert list(cache.fetch_stream({**request, "stream": True}, lambda: iter(["a", "b"]))) == ["a", "b"]
async def main():
    async def acall():
        return call()
    async with askonce.AsyncCache("sqlite:///answers.db") as cache:
        outcomes = await asyncio.gather(*(cache.fetch(request, acall) for _ in range(8)))
        return {outcome.value["said"] for outcome in outcomes}
assert asyncio.run(main()) == {2}
assert len(paid) == 2
print("well")
"""


def test_it_imports_and_works_where_there_is_no_posix(tmp_path):
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PROGRAM}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "well", done.stderr


CHOSEN = {
    "TestSQLite": ["tests/laws/test_stores.py::TestSQLite"],
    "SQLite or Memory": ["tests/laws", "-k", "SQLite or Memory"],
}


@pytest.mark.parametrize("chosen", ["TestSQLite", pytest.param("SQLite or Memory", marks=pytest.mark.slow)])
def test_the_laws_of_sqlite_and_memory_hold_where_there_is_no_posix(chosen, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.environments.bare", "-p", "no:cacheprovider"]
    # Its own folder: without POSIX, Python 3.14 leaves a folder open in which pytest looks for those of earlier runs.
    laws = [*CHOSEN[chosen], "-m", "not slow and not servers", f"--basetemp={tmp_path / 'laws'}"]
    done = subprocess.run([*command, *laws], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = next(
        word for line in done.stdout.splitlines() if " passed" in line for word in line.split() if word.isdecimal()
    )
    assert int(passed) > 100


@pytest.mark.parametrize(
    "module", ["cli", "demo.worker", "store.redis.store", "store.redis.multiplexed", "http.client", "recording.caches"]
)
def test_every_part_imports_there(module, tmp_path):
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport tests.environments.bare, askonce.{module}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
