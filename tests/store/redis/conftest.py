"""Fixtures of the tests of a Redis."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from askonce.testing.servers import Server, ServerMissing, ValkeyServer
from tests.store.redis.told import patient


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store has time to answer, but for tests of how long it is waited for."""
    if "defaults" not in request.fixturenames:
        patient(monkeypatch)


@pytest.fixture
def defaults() -> None:
    """A store has as much time as a user's, if its URL does not say otherwise."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of localhost that vouches for itself, with its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt install openssl")
    made = tmp_path / "cert.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {tmp_path}/key.pem -out {made}"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([openssl, *words.split(), *names], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary and its replica, without sentinels."""
    with contextlib.ExitStack() as stack:
        try:
            primary = stack.enter_context(ValkeyServer())
        except ServerMissing as missing:
            pytest.skip(str(missing))
        yield primary, stack.enter_context(ValkeyServer(options={"replicaof": f"127.0.0.1 {primary.port}"}))
