"""An extra installs only what the package imports."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
OF_USERS = EXTRAS["all"][0].partition("[")[2].rstrip("]").split(",")
BY_NAME = {"httptools", "uvloop"}  # uvicorn imports them when they are there
# Also a module whose name is a text: it is imported later, by `import_module`.
IMPORTS = re.compile(r"^\s*(?:import|from) (\w+)|\"(\w+)(?:\.[\w.]+)?\"", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The distributions that the package imports something of."""
    texts = (file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    modules = {name for text in texts for found in IMPORTS.findall(text) for name in found if name}
    known = packages_distributions()
    return {normal(one) for module in modules for one in known.get(module, (module,))}


@pytest.mark.parametrize("extra", OF_USERS)
def test_what_an_extra_installs_is_imported(extra, imported):
    needed = {normal(re.match(r"[\w.-]+", one)[0]) for one in EXTRAS[extra]} - {"askonce", *BY_NAME}
    assert needed <= imported
