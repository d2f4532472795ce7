"""`python -m tools.blocks`: run every Python block of README and docs as printed, each in a fresh interpreter.

A block runs alone: its imports are in it. It runs in an empty folder, with a home of its own, keys of providers that
are worth nothing, and the scripted provider as OpenAI and Anthropic. A block that a reader cannot run as it is says
why, in a comment before it: ``<!-- not run: it needs a Cluster -->``. After ``<!-- run: pytest -->`` it is a file of
tests, which is run twice: first to record, then without a key.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from askonce.testing import Provider
from askonce.testing.servers import ValkeyServer

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- (not run|run): ([^>]*?) -->\n)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LIMIT = 120  # s
OF_TESTS = ("ASKONCE_", "REDIS_", "PYTEST_", "PYTHONPATH")  # variables that a reader does not have
HERE = ("docs/recipes", "docs/peers")  # tests/http/test_recipes.py runs the recipes: their SDKs know no common base URL


class Block(NamedTuple):
    """A block of a page: where, what it says, and what a comment says of it."""

    page: str
    line: int
    code: str
    how: str
    said: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """All blocks, in the order of their pages."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [page.relative_to(ROOT).as_posix() for page in pages]
    return [
        block for name in names if not name.startswith(HERE) for block in of(name, (ROOT / name).read_text("utf-8"))
    ]


def of(page: str, text: str) -> list[Block]:
    """The blocks of one page."""
    return [
        Block(page, text.count("\n", 0, found.start(3)), found[3], found[1] or "", (found[2] or "").strip())
        for found in BLOCK.finditer(text)
    ]


@contextlib.contextmanager
def world() -> Iterator[dict[str, str]]:
    """The environment of a reader: a provider, and a server at Redis's own port."""
    with Provider() as provider, _redis():
        urls = {"OPENAI_BASE_URL": provider.openai_url, "ANTHROPIC_BASE_URL": provider.url}
        yield urls | {"OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "any"}


@contextlib.contextmanager
def _redis() -> Iterator[None]:
    with socket.socket() as probe:
        there = probe.connect_ex(("127.0.0.1", 6379)) == 0
    with contextlib.nullcontext() if there else ValkeyServer(port=6379):
        yield


def run(block: Block, around: dict[str, str], python: str = sys.executable) -> str:
    """Run a block; what it printed to stderr if it failed, "" otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(OF_TESTS)}
        environment = ours | around | {"HOME": folder, "XDG_CACHE_HOME": folder}
        if block.how == "run":
            return _tested(block, Path(folder), environment, python)
        return _ran([python, "-W", "error", "-c", block.code], folder, environment)


def _tested(block: Block, folder: Path, environment: dict[str, str], python: str) -> str:
    (folder / "test_block.py").write_text(block.code, "utf-8")
    keyless = {name: value for name, value in environment.items() if not name.endswith("_API_KEY")}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_block.py"]
    return _ran([*command, "--askonce=record"], folder, environment) or _ran(command, folder, keyless)


def _ran(command: Sequence[str], folder: str | Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    return "" if not done.returncode else done.stderr + done.stdout


def main() -> int:
    """Run them all; 1 if one failed."""
    counts = Counter[str]()
    with world() as around:
        for block in blocks():
            trouble = "" if block.how == "not run" else run(block, around)
            end = "FAILED" if trouble else block.how if block.how == "not run" else "ran"
            counts[end] += 1
            print(f"{end:8} {block}{': ' + block.said if end == 'not run' else ''}")
            print(trouble, end="")
    print(f"{counts.total()} blocks: " + ", ".join(f"{number} {end}" for end, number in counts.items()))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
