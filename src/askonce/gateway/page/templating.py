"""Templates and what all of them know. Every text is escaped, and what does not print is shown as text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from askonce.events import readable
from askonce.gateway.page import words
from askonce.gateway.short_keys import SHORT


@cache
def environment() -> Environment:
    """The templates of the package. A name that a template was not given is an error, not an empty text."""
    made = Environment(
        autoescape=True,
        finalize=_shown,
        loader=PackageLoader("askonce.gateway.page"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals["SHORT"] = SHORT
    made.filters.update({name: _number(one) for name, one in words.FILTERS.items()})
    return made


def _shown(told: Any) -> Any:
    # Here, and not at each place: whatever a template prints may come from a request or an answer.
    return readable(told) if isinstance(told, str) and not isinstance(told, Markup) else told


def _number(one: Callable[..., str]) -> Callable[..., Markup]:
    # A number is ours, and its unit stands behind a space that must not become an ordinary one.
    return lambda *args: Markup(one(*args))  # noqa: S704  # words.FILTERS make numbers, not texts of others
