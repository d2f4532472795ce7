"""Fixtures for every room: a crowd of callers in either mode, and an empty place in each of the stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from askonce.store.sqlite import file
from askonce.testing import ScriptedCall
from askonce.testing.servers import Server, ServerMissing, Startable
from tests.crowd import MODES, Crowd
from tests.injection.inject import contained as containing
from tests.patience import PATIENT

Started = TypeVar("Started", bound=Startable)

KINDS = ("memory", pytest.param("sqlite"), pytest.param("valkey", marks=pytest.mark.servers))
SHARED = KINDS[1:]  # those that several processes can share


@pytest.fixture
def call() -> Iterator[ScriptedCall]:
    """A call that answers at once, unless a test's script says otherwise; what it held is let go at the end."""
    scripted = ScriptedCall()
    yield scripted
    scripted.reset()


def started(server: Started) -> Iterator[Started]:
    """A server, or several, for a fixture: running, or the test is skipped where the program is missing."""
    try:
        with server:
            yield server
    except ServerMissing as missing:
        pytest.skip(str(missing))


def place_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store; several caches of this process that open it share it."""
    if kind == "memory":
        return f"memory://test-{os.urandom(6).hex()}"
    if kind == "sqlite":
        for name in ("TIMEOUT", "QUEUE"):  # as for a shared server: see `patient`
            request.getfixturevalue("monkeypatch").setattr(file, name, PATIENT)
        return f"sqlite:///{tmp_path}/answers.db"
    server = request.getfixturevalue("redis_server" if kind == "redis" else kind)
    return patient(server)


_PATIENT = f"socket_timeout={PATIENT:g}&socket_connect_timeout={PATIENT:g}"


def patient(server: Server) -> str:
    """The URL of a server that all tests share.

    A crowd takes longer to be scheduled than a store has to answer, where other tests have most of the machine. Tests
    of a store that is away or slow have a server of their own, and its users their 0.2 s.
    """
    return f"{server.url}?{_PATIENT}"


def prompt(url: str) -> str:
    """The URL of the same place, whose users have no patience: where what is lost costs a timeout, and that is tried."""
    return url.removesuffix(f"?{_PATIENT}")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store of each kind that processes can share."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=MODES)
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """Callers that are threads, then callers that are tasks."""
    made = Crowd(request.param)
    yield made
    made.close()


@pytest.fixture
def others(crowd: Crowd) -> Iterator[Crowd]:
    """A second crowd of the same mode: its tasks have a loop of their own, so that one may block and not the other."""
    made = Crowd(crowd.mode)
    yield made
    made.close()


@pytest.fixture
def threads() -> Iterator[Crowd]:
    """Callers that are threads."""
    made = Crowd("threads")
    yield made
    made.close()


@pytest.fixture
def tasks() -> Iterator[Crowd]:
    """Callers that are tasks."""
    made = Crowd("tasks")
    yield made
    made.close()


@pytest.fixture
def contained() -> Iterator[None]:
    """What injected exceptions leave does not outlive the test; see tests.injection.inject."""
    with containing():
        yield
