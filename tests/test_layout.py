"""The layout: import-linter's contracts (pyproject.toml) hold, and so does what they cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import askonce

SOURCE = Path(askonce.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)
ROOT = Path(__file__).parents[1]

LONGEST = 400  # lines of a file; every file has fewer
TOP = 5  # files at the top of the package
LIMITS = {"no", "not", "nothing", "never", "neither", "none", "nor"}


def name_of(path: Path) -> str:
    """``core/lease.py``, for the name of a test."""
    return path.relative_to(SOURCE).as_posix()


def test_the_contracts_hold():
    # In a process of its own: it sets up logging, and a logger's listeners here would hear no more.
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("askonce", cache_dir=None)


def test_nothing_that_a_file_imports_leads_back_to_it(graph):
    # import-linter compares siblings, and a folder's own file is not among what is in the folder.
    circles = []
    for path in FILES:
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        others = graph.find_modules_directly_imported_by(module)
        circles += [(module, chain) for other in others if (chain := graph.find_shortest_chain(other, module))]
    assert circles == []


def test_few_files_stand_at_the_top():
    assert len(list(SOURCE.glob("*.py"))) <= TOP


def test_a_file_is_read_in_one_sitting():
    lines = {name_of(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: number for name, number in lines.items() if number >= LONGEST} == {}


@pytest.mark.parametrize("path", ROOMS, ids=name_of)
def test_a_room_says_what_lives_there_and_what_must_not(path):
    says = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    assert len(says.split()) > 10
    assert LIMITS & set(says.lower().replace(".", " ").replace(",", " ").replace(":", " ").split())


def test_every_folder_with_code_is_a_room():
    assert {path.parent for path in FILES} == {path.parent for path in ROOMS} | {SOURCE}
