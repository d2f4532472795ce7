"""The types of what is returned to people, by the names under which annotations ask for them.

No lookup needs the modules of these types, so `import askonce` does not load them. A name that only type checkers can
see would not resolve for those who read annotations as a program runs: FastAPI, pydantic, Sphinx, an IDE. So an
annotation says ``results.Why``, and the attribute imports the type when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from askonce.cache.savings import Since
    from askonce.core.savings import Activity, Savings
    from askonce.core.why import Miss, Why
    from askonce.store.inventory import Listed

__all__ = ["Activity", "Listed", "Miss", "Savings", "Since", "Why"]


def late_names(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for a module of names that stand elsewhere, each in the module that `homes` says."""

    def found(name: str) -> Any:
        if (home := homes.get(name)) is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(home), name)

    return found


_HOMES = {
    "Since": "askonce.cache.savings",
    "Activity": "askonce.core.savings",
    "Savings": "askonce.core.savings",
    "Miss": "askonce.core.why",
    "Why": "askonce.core.why",
    "Listed": "askonce.store.inventory",
}

__getattr__ = late_names(__name__, _HOMES)
