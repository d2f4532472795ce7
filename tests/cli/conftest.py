"""Every test of the command line has an environment of its own, and only the test names a store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import pytest
import typer

from askonce.cli import main

built = functools.cache(typer.main.get_command)


@pytest.fixture(scope="module", autouse=True)
def _built_once() -> Iterator[None]:
    """A process builds its commands once, and so do these tests, which run hundreds: it takes 10 ms, and a run 2."""
    with mock.patch.object(typer.main, "get_command", built):
        yield


class Said(NamedTuple):
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path):
    for name in ("ASKONCE_URL", "ASKONCE_PREFIX", "ASKONCE_MODE", "ASKONCE_KEYS", "ASKONCE_COMPRESS", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def askonce(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command line in this process."""

    def run(*words: str) -> Said:
        code = main(list(words))
        return Said(*capsys.readouterr(), code)

    return run
