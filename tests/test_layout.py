"""The arrows between our files run one way, and the core decides without a clock, a thread, a socket or a loop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import askonce

SOURCE = Path(askonce.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# What a part may import of ours, besides what is in the same part. `config`, `errors`, `events` are leaves that
# everyone may import. Whatever is not listed stands above the engine, and nothing below may import it.
LEAVES = {"config", "errors", "events", "exits", "drive", "forks", "ownership", "signals"}
BELOW: dict[str, set[str]] = {
    "core": {"errors"},
    "errors": set(),
    "drive": set(),
    "exits": set(),
    "forks": set(),
    "ownership": set(),
    "signals": {"errors"},
    "config": {"errors", "events"},
    "events": {"core"},
    "store": {"core", *LEAVES},
}
ENGINE = (
    "ear",
    "flight",
    "fleet",
    "guard",
    "question",
    "reader",
    "follower",
    "pilot",
    "pump",
    "audience",
    "protocol",
    "aim",
)
OUTSIDE_CORE = {
    "asyncio",
    "threading",
    "time",
    "socket",
    "select",
    "multiprocessing",
    "concurrent",
    "subprocess",
    "ssl",
}


def part_of(name: str) -> str:
    """``core`` of askonce.core.lease, ``cache`` of askonce.cache.cache."""
    return name.split(".")[1] if "." in name else ""


def module_of(path: Path) -> str:
    """``askonce.core.lease`` of core/lease.py."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, late: bool = True) -> set[str]:
    """Every module that a file imports, but for what only a type checker reads; `late`: inside functions, too."""
    found: set[str] = set()
    tree = ast.parse(path.read_text("utf-8"))
    unread = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"})
        or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late)
    ]
    skipped = {id(inner) for node in unread for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours(path: Path) -> set[str]:
    """The parts of askonce that a file imports, less its own."""
    mine = part_of(module_of(path))
    names = {name for name in imports(path) if name.startswith("askonce.")}
    known = {part_of(module_of(other)) for other in FILES}
    return {part_of(name) for name in names if part_of(name) in known} - {mine, ""}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows_run_one_way(path):
    part = part_of(module_of(path))
    if part in BELOW:
        assert ours(path) <= BELOW[part], "a part below imports one above it"
    elif part not in {"testing", "demo", ""}:  # the demo's upstream is the scripted provider
        assert "testing" not in ours(path), "what is shipped for tests is imported by nobody else"
    if part in ENGINE:
        above = {"cache", "shell", "cli", "demo", "http", "gateway", "testing"}
        assert not ours(path) & above, "the engine imports what is made of it"


@pytest.mark.parametrize("path", sorted((SOURCE / "core").rglob("*.py")), ids=module_of)
def test_the_core_decides_and_knows_no_clock_thread_socket_or_loop(path):
    assert not {name.split(".")[0] for name in imports(path)} & OUTSIDE_CORE


def test_no_file_of_ours_imports_another_in_a_circle():
    graph = {module_of(path): imports(path, late=False) for path in FILES}
    done: set[str] = set()

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' -> '.join((*above, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                if other in graph and other != module and not module.startswith(f"{other}."):
                    walk(other, (*above, module))
            done.add(module)

    for module in graph:
        walk(module, ())
