"""What programs read of the annotations of all that is public: each resolves, by `typing` and by `inspect`.

FastAPI, pydantic, Sphinx and IDEs read them. The law holds for all names that a user may import, and for every type of
askonce that their annotations lead to.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator

import pytest

from askonce.gateway.app import Gateway

ROOMS = [
    *("askonce", "askonce.errors", "askonce.events", "askonce.testing", "askonce.metrics", "askonce.otel"),
    *("askonce.gateway.config", "askonce.cache.options", "askonce.cache.typing"),
]
# What a user never holds: some of it names types for type checkers alone.
INSIDE = tuple(
    f"askonce.{one}" for one in ("engine", "flight", "stream", "http", "runtime", "cache.base", "gateway.repeated")
)


def public(room: str) -> Iterator[object]:
    module = importlib.import_module(room)
    for name in getattr(module, "__all__", None) or [one for one in vars(module) if not one.startswith("_")]:
        yield getattr(module, name)


def functions_of(kind: type) -> Iterator[object]:
    """The functions of a class that a user may call, of its bases too."""
    for base in kind.__mro__:
        for name, member in vars(base).items() if ours(base) else ():
            if not name.startswith("_") or name == "__init__":
                plain = getattr(member, "__func__", getattr(member, "fget", member))
                if inspect.isfunction(plain):
                    yield plain


def ours(one: object) -> bool:
    home = str(getattr(one, "__module__", ""))
    return callable(one) and home.partition(".")[0] == "askonce" and not home.startswith(INSIDE)


def parts(hint: object) -> Iterator[object]:
    """A resolved hint, and all that it is made of."""
    yield hint
    for one in typing.get_args(hint):
        yield from parts(one) if not isinstance(one, list) else (part for each in one for part in parts(each))


def test_every_annotation_that_a_user_can_reach_resolves():
    left = [*functions_of(Gateway), *(one for room in ROOMS for one in public(room) if ours(one))]
    seen: dict[int, object] = {}
    names = set()
    while left:
        one = left.pop()
        one = typing.get_origin(one) or one
        if id(one) in seen:
            continue
        seen[id(one)] = one
        names.add(getattr(one, "__qualname__", ""))
        hints = typing.get_type_hints(one)
        if inspect.isfunction(one):
            told = inspect.signature(one, eval_str=True)
            assert not [given for given in told.parameters.values() if isinstance(given.annotation, str)], one
            assert not isinstance(told.return_annotation, str), one
        if isinstance(one, type):
            left += functions_of(one)
        shown = [hint for name, hint in hints.items() if not name.startswith("_")]
        left += [part for hint in shown for part in parts(hint) if ours(part)]
    assert names > {"Cache", "SyncMethods.why", "Answered.why", "Why", "Latency.quantile", "Listed", "Balance.as_dict"}
    assert len(seen) > 300


def test_what_is_returned_is_the_type_itself():
    from askonce import AsyncCache, Cache, Outcome
    from askonce.core.savings import Activity, Savings
    from askonce.core.why import Miss, Why
    from askonce.store.inventory import Listed

    for kind in (Cache, AsyncCache):
        told = {name: typing.get_type_hints(getattr(kind, name))["return"] for name in ("why", "savings", "activity")}
        assert told == {"why": Why, "savings": Savings, "activity": Activity}
        assert typing.get_type_hints(kind.misses)["return"] == list[Miss]
        assert typing.get_args(typing.get_type_hints(kind.entries)["return"]) == (Listed,)
    assert inspect.signature(Outcome.why, eval_str=True).return_annotation is Why


@pytest.mark.parametrize("module", ["askonce.cache.results", "askonce.cache.foreign"])
def test_a_module_of_late_types_has_its_names_and_no_others(module):
    late = importlib.import_module(module)
    assert all(isinstance(getattr(late, name), type) or typing.get_args(getattr(late, name)) for name in late.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        late.nonsense  # noqa: B018


def test_annotations_resolve_where_no_extra_is_installed():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('opentelemetry', 'prometheus_client')));"
        "import typing, askonce.metrics, askonce.otel;"
        "print(typing.get_type_hints(askonce.otel.instrument)['tracer_provider'],"
        " typing.get_type_hints(askonce.metrics.prometheus)['registry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("Any") == 2
