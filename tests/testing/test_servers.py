from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from askonce.testing import RedisServer, ServerMissing, ValkeyServer

pytestmark = pytest.mark.servers

NEVER = Retry(NoBackoff(), 0)
PROGRAMS = [ValkeyServer, RedisServer]


@pytest.fixture(params=PROGRAMS, ids=["valkey", "redis"])
def program(request):
    if request.param.binary() is None:
        pytest.skip(f"{request.param.program} is not installed: {request.param.remedy}")
    return request.param


def connect(server, **more):
    return redis.Redis.from_url(server.url, socket_timeout=2.0, retry=NEVER, **more)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("unix", [False, True], ids=["port", "unix socket"])
def test_a_server_is_there_when_started_and_gone_when_closed(program, unix):
    with program(unix=unix) as server, connect(server) as client:
        assert client.set("a", "1")
        assert server.command("GET", "a") == b"1"
        pid, directory = server.pid, server.socket_path.parent
        assert server.url.startswith("unix://" if unix else "redis://127.0.0.1:")
    assert gone(pid)
    assert not directory.exists()
    assert "stopped" in repr(server)


def test_it_starts_again_empty_at_the_same_address(program):
    with program() as server:
        url = server.url
        server.command("SET", "a", "1")
        server.stop()
        assert not server.running
        with pytest.raises(ConnectionRefusedError):
            server.command("PING")
        server.start()
        assert (server.url, server.command("DBSIZE")) == (url, 0)


def test_it_keeps_nothing_on_disk(program):
    with program() as server:
        server.command("SET", "a", "1")
        assert {path.name for path in server.socket_path.parent.iterdir()} == {"log"}


def test_a_frozen_server_accepts_and_says_nothing_until_it_is_thawed(program):
    with program() as server:
        server.freeze()
        with socket.create_connection(("127.0.0.1", server.port), timeout=1), pytest.raises(TimeoutError):
            server.command("PING", timeout=0.1)
        server.thaw()
        assert server.command("PING") == b"PONG"


def test_a_frozen_server_can_be_closed(program):
    with program() as server:
        server.freeze()
        pid = server.pid
    assert gone(pid)


def test_it_hangs_up_on_its_clients(program):
    with program() as server:
        address = ("127.0.0.1", server.port)
        with socket.create_connection(address, 2) as client, socket.create_connection(address, 2) as listener:
            client.sendall(b"PING\r\n")
            listener.sendall(b"SUBSCRIBE a\r\n")
            assert client.recv(100)
            assert listener.recv(100)
            assert server.kill_connections() == 2
            assert client.recv(100) == listener.recv(100) == b""


def test_a_password_is_asked_of_every_client_and_is_part_of_the_url(program):
    with program(password="secret") as server, connect(server) as client:
        assert client.ping()
        with pytest.raises(redis.AuthenticationError), redis.Redis(port=server.port, retry=NEVER) as stranger:
            stranger.ping()


def test_options_are_lines_of_its_configuration(program):
    with program(options={"maxmemory": "8mb", "maxmemory-policy": "allkeys-lru"}) as server:
        assert server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"8388608"]


def test_a_configuration_it_does_not_take_is_an_error_with_its_last_words(program):
    server = program(options={"no-such-option": "1"})
    with pytest.raises(RuntimeError, match="no-such-option"):
        server.start()
    server.close()


def test_an_error_reply_is_raised(program):
    with program() as server, pytest.raises(RuntimeError, match="unknown command"):
        server.command("NO-SUCH-COMMAND")


def test_a_missing_program_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(RedisServer, "program", "no-such-server")
    with pytest.raises(ServerMissing, match="apt install redis-server"):
        RedisServer().start()


def test_a_forked_child_that_ends_leaves_the_server_alone(program):
    with program() as server:
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert server.command("PING") == b"PONG"


def test_it_dies_with_the_process_that_started_it_even_by_sigkill(program):
    script = (
        f"from askonce.testing import {program.__name__} as S\n"
        "server = S().start()\n"
        "print(server.pid, server.socket_path.parent, flush=True)\n"
        "import time; time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, directory = starter.stdout.readline().split()
        starter.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until and (not gone(int(pid)) or Path(directory).exists()):
        time.sleep(0.05)
    assert gone(int(pid))
    assert not Path(directory).exists()
