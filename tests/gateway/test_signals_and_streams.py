"""Signals while streams run: each ends whole for its caller, one that was left is stored, and nothing is paid twice."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import read_until, received, request
from tests.gateway.served import Served

pytestmark = [pytest.mark.slow, pytest.mark.waits]
READERS = 12
DONE = b"data: [DONE]\n\n"


def opened(served: Served, question: str) -> tuple[socket.socket, bytes]:
    """A stream of which the first event has come."""
    parts = urlsplit(served.url)
    caller = socket.create_connection((parts.hostname, parts.port), 60)
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": question}]}
    caller.sendall(request(json.dumps(body).encode(), headers=("Authorization: Bearer sk-1",)))
    return caller, read_until(caller, b"data: ")


def refuses(served: Served) -> bool:
    parts = urlsplit(served.url)
    try:
        socket.create_connection((parts.hostname, parts.port), 1).close()
    except OSError:
        return True
    return False


def configured(folder: Path, provider: Provider) -> Path:
    file = folder / "gateway.toml"
    file.write_text(
        f"[server]\nworkers = 2\ndrain = 30\n[store]\nurl = 'sqlite:///{folder}/answers.db'\n"
        f"[[upstream]]\nurl = '{provider.url}'\n"
    )
    return file


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_loses_no_stream_and_pays_none_twice(told, tmp_path):
    names = [f"question {number // 2}" for number in range(READERS)]  # two readers of each
    with Provider() as provider:
        file = configured(tmp_path, provider)
        for name in {*names, "left"}:
            provider.script(name, Step(hang=True, after=2))
        with Served("--config", file) as served:
            readers = [opened(served, name) for name in names]
            opened(served, "left")[0].close()
            served.tell(told)
            if told is signal.SIGTERM:
                eventually(lambda: refuses(served), "nobody new is let in", 20)
            else:
                served.wait_for("the configuration was read again", times=2)
            for name in {*names, "left"}:
                provider.release(name)
            came = [found + received(caller) for caller, found in readers]
            for caller, _ in readers:
                caller.close()
            served.tell(signal.SIGTERM)
            assert served.end() == 0
        assert all(DONE in one for one in came)
        assert [provider.paid(name) for name in {*names, "left"}] == [1] * (READERS // 2 + 1)
        with Served("--config", file) as served:  # what they were told is stored, also that which nobody waited for
            for name in ("left", *names):
                caller, found = opened(served, name)
                assert DONE in found + received(caller)
                caller.close()
        assert provider.calls == READERS // 2 + 1
