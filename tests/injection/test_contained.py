"""What an injected exception leaves behind is collected in the test that injected it, and is reported in none."""

from __future__ import annotations

import gc
import warnings
import weakref
from pathlib import Path

import pytest

from askonce import Cache
from tests.injection.inject import INJECTS, contained, noting, raising

FOLDER = Path(__file__).parent
INJECTING = sorted(
    path
    for path in FOLDER.parent.rglob("test_*.py")
    if "tests.injection.inject import" in (text := path.read_text("utf-8"))
    and ("raising" in text or "Injection" in text)
)

pytestmark = [*INJECTS]


class Sentinel:
    """Somebody has it for as long as the frame of a call."""


def in_a_cycle(cache, point):
    """Have the exception come there; its traceback, and so everything in its frames, is kept by one of these frames."""
    sentinel, kept = Sentinel(), None
    with raising(point, KeyboardInterrupt):
        try:
            cache.fetch(str(point), lambda: 1)
        except KeyboardInterrupt as raised:
            kept = raised
    return kept is not None and weakref.ref(sentinel)


@pytest.fixture
def nothing_collected():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def unawaited(monkeypatch):
    """The coroutines that the interpreter warned of."""
    told = []
    monkeypatch.setattr(warnings, "_warn_unawaited_coroutine", lambda work: told.append(work.__qualname__))
    return told


def test_nothing_of_an_injected_exception_outlives_its_test(nothing_collected, unawaited):
    left = []
    with Cache("memory://contained") as cache:
        with noting() as points:
            cache.fetch("q", lambda: 1)
        with contained():
            left += [ref for point in points if (ref := in_a_cycle(cache, point))]
            assert any(ref() is not None for ref in left), "nothing was left that could be collected later"
    assert len(left) > 20
    assert all(ref() is None for ref in left)
    assert unawaited, "no exception came between a coroutine and its first step"
    unawaited.clear()
    gc.collect()
    assert not unawaited


def test_a_test_that_injects_nothing_collects_nothing(nothing_collected):
    box = [Sentinel()]
    box.append(box)
    left = weakref.ref(box[0])
    with contained():
        del box
    assert left() is not None


@pytest.mark.parametrize("path", INJECTING, ids=lambda path: path.stem)
def test_each_file_of_tests_that_injects_contains_what_it_leaves(path):
    assert "*INJECTS" in path.read_text("utf-8")
