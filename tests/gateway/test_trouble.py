"""What the gateway says when something is wrong: its configuration, its port, its store, its upstream."""

from __future__ import annotations

import itertools
import json
import logging
import math
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from askonce.cli.app import run
from askonce.errors import ConfigError
from askonce.events import log
from askonce.gateway import upstream_client
from askonce.gateway.app import Gateway
from askonce.gateway.sockets import listening
from askonce.gateway.start import _say
from askonce.runtime.boot_clock import boot_clock
from askonce.testing import Provider, Step
from askonce.testing.servers import free_port
from tests.gateway.running import CLIENT, JSON, Heard, Running, Tap, answer, config_of, next_status, request, serving
from tests.http.test_connection import certificate
from tests.took import Took

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"authorization": "Bearer sk-1"}


def ask(url: str, path: str = "/v1/chat/completions") -> httpx2.Response:
    return CLIENT.post(f"{url}{path}", json=CHAT, headers=KEY, timeout=30)


def test_an_upstream_that_refuses_is_an_error_in_the_shape_of_the_api_that_an_sdk_may_try_again():
    with serving(f"http://127.0.0.1:{free_port()}") as running:
        chat, messages = ask(running.url), ask(running.url, "/v1/messages")
        other = CLIENT.get(f"{running.url}/v1/models")
    assert chat.status_code == messages.status_code == other.status_code == 502
    assert chat.json()["error"]["code"] == "upstream_unreachable"
    assert "no connection to http://127.0.0.1" in chat.json()["error"]["message"]
    assert messages.json()["type"] == "error"
    assert "upstream_unreachable" in other.text
    assert "fwd=miss; detail=upstream-unreachable" in chat.headers["cache-status"]
    assert "x-should-retry" not in chat.headers


def test_an_upstream_that_stays_silent_is_a_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with serving(url, limits_read_timeout=0.2) as running:
            came = ask(running.url)
    assert came.status_code == 504
    assert came.json()["error"]["code"] == "upstream_timeout"


def test_what_came_while_the_gateway_stood_still_is_no_silence():
    """Timers are due first when it goes on: so a call of ten minutes ended that had been answered."""
    event = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n"
    with (
        socket.create_server(("127.0.0.1", 0)) as upstream,
        ThreadPoolExecutor(1) as pool,
        serving(f"http://127.0.0.1:{upstream.getsockname()[1]}") as running,
    ):
        for cut, stream in itertools.product([0, 1, 40, -1], [False, True]):
            said = answer(events, kind="text/event-stream") if stream else answer()
            body = {**CHAT, "stream": stream, "seed": cut}
            future = pool.submit(CLIENT.post, f"{running.url}/v1/chat/completions", json=body, headers=KEY)
            _said_while_it_stands(running, upstream, said[:cut], said[cut:])
            found = future.result(30)
            assert (found.status_code, found.content) == (200, events if stream else JSON)


def _said_while_it_stands(running: Running, upstream: socket.socket, before: bytes, meanwhile: bytes) -> None:
    """An upstream answers, the second part while the gateway stands still until its limit has passed."""
    stands, came = threading.Event(), threading.Event()
    pool: Any = running.gateway.serving.client._session.connector

    def stand_still() -> None:
        stands.set()
        assert came.wait(30)
        for connection in list(pool._acquired):
            connection._on_read_timeout()

    calls, _ = upstream.accept()
    with calls:
        heard = b""
        while not heard.endswith(b"}"):
            heard += calls.recv(65536)
        calls.sendall(before)
        running.tell(stand_still)
        assert stands.wait(30)
        calls.sendall(meanwhile)
        came.set()


def test_a_request_that_comes_when_an_idle_connection_is_to_be_closed_is_answered():
    asked = request(method="GET", path="/x", last=False)
    with Tap() as tap, serving(tap.url) as running:
        for sent in (1, 30, len(asked)):
            with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
                caller.sendall(asked)
                assert next_status(caller) == 200
                _sent_while_it_expires(running, caller, asked[:sent])
                caller.sendall(asked[sent:])
                assert next_status(caller) == 200
    assert len(tap.heard) == 6


def _sent_while_it_expires(running: Running, caller: socket.socket, sent: bytes) -> None:
    """The time of an idle connection is over at the moment when this comes on it."""
    stands, came, mine = threading.Event(), threading.Event(), caller.getsockname()

    def expires() -> None:
        stands.set()
        assert came.wait(30)
        connections: set[Any] = running.server.server_state.connections
        (connection,) = [one for one in connections if one.client == mine]
        connection._answered_at_hand = -math.inf
        connection.timeout_keep_alive_handler()

    running.tell(expires)
    assert stands.wait(30)
    caller.sendall(sent)
    came.set()


@pytest.mark.parametrize(("slept", "connections"), [(0.0, 1), (5.0, 2), (8 * 3600.0, 2)])
def test_no_connection_to_an_upstream_outlives_the_sleep_of_the_machine(monkeypatch, slept, connections):
    """Its other end is gone, and nothing says so: a call on it would wait until its limit."""
    with Tap() as tap, serving(tap.url) as running:
        for _ in range(2):
            assert ask(running.url, "/x").status_code == 200
            monkeypatch.setattr(upstream_client, "boot_clock", lambda: boot_clock() + slept)
    assert tap.connections == connections


def test_a_name_that_does_not_exist_is_named():
    with serving("http://no-such-host.invalid") as running:
        came = ask(running.url)
    assert came.status_code == 502
    assert "no-such-host.invalid" in came.json()["error"]["message"]


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_an_upstream_that_hangs_up_or_speaks_no_http_is_an_error(said):
    with Tap(lambda _: said, hangs_up=True) as tap, serving(tap.url) as running:
        assert ask(running.url).status_code == 502


@pytest.mark.parametrize("method", ["DELETE", *(pytest.param(one, marks=pytest.mark.slow) for one in ("GET", "POST"))])
def test_a_request_whose_connection_breaks_is_sent_once(method):
    with (
        Tap(lambda heard: answer() if heard.line.endswith(b"/first HTTP/1.1") else b"") as tap,
        serving(tap.url) as running,
    ):
        CLIENT.request(method, f"{running.url}/first")
        came = CLIENT.request(method, f"{running.url}/second")
    assert came.status_code == 502
    assert [heard.line.split()[1] for heard in tap.heard] == [b"/first", b"/second"]
    assert tap.connections == 1


def test_a_certificate_that_does_not_verify_is_said_and_one_that_the_configuration_names_verifies(tmp_path):
    cert = certificate(tmp_path, "upstream")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert)
    with Tap(context=context) as tap:
        url = tap.url.replace("http:", "https:")
        with serving(url) as running:
            came = ask(running.url)
        assert came.status_code == 502
        assert f"the certificate of {url} does not verify: " in came.json()["error"]["message"]
        file = tmp_path / "gateway.toml"
        file.write_text(f'[[upstream]]\nurl = "{url}"\nca = "{cert}"\n[server]\nport = 0\n[store]\nurl = "memory://"\n')
        with serving(file=file) as running:
            assert ask(running.url).status_code == 200


def test_a_store_that_is_away_at_the_start_is_said_and_calls_go_upstream(caplog):
    store = f"redis://127.0.0.1:{free_port()}"
    with Tap() as tap, serving(tap.url, store=store) as running:
        assert "calls go upstream uncached until it answers" in caplog.text
        assert ask(running.url).status_code == ask(running.url).status_code == 200
        ready = CLIENT.get(f"{running.url}/_askonce/ready")
        assert CLIENT.get(f"{running.url}/_askonce/health").json()["status"] == "ok"
    assert (ready.status_code, ready.json()) == (503, {"status": "uncached", "store": "store-refused"})
    assert len(tap.heard) == 2


@pytest.mark.servers
def test_a_gateway_is_ready_when_its_store_grants_a_claim_and_again_when_it_comes_back(own_valkey):
    with Tap() as tap, serving(tap.url, store=own_valkey.url) as running:
        assert CLIENT.get(f"{running.url}/_askonce/ready").status_code == 200
        own_valkey.command("CONFIG", "SET", "maxmemory", "1")  # it answers reads, and refuses every claim
        full = CLIENT.get(f"{running.url}/_askonce/ready")
        assert (full.status_code, full.json()["store"]) == (503, "store-full")
        own_valkey.command("CONFIG", "SET", "maxmemory", "0")
        assert CLIENT.get(f"{running.url}/_askonce/ready").status_code == 200


def test_a_port_in_use_is_one_clear_line_also_for_several_workers():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in (1, 2):
            with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 is in use"):
                listening("127.0.0.1", port, workers)
    found = listening("127.0.0.1", port, 2)
    with pytest.raises(ConfigError, match="in use"):  # although its sockets could be shared
        listening("127.0.0.1", port, 2)
    for one in (one for sockets in found for one in sockets):
        one.close()


def test_workers_that_cannot_share_their_answers_are_warned_of(caplog):
    sockets = listening("127.0.0.1", 0, 2)
    with caplog.at_level("INFO", "askonce"):
        _say(config_of("https://a"), sockets[:1], "memory://x")
        assert "write --url" not in caplog.text
        _say(config_of("https://a"), sockets, "memory://x")
    assert "memory:// is of each process alone" in caplog.text
    for one in (one for mine in sockets for one in mine):
        one.close()


def test_an_address_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="names no address"):
        listening("no-such-host.invalid", 0, 1)
    with pytest.raises(ConfigError, match="write another --host"):
        listening("192.0.2.1", 0, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no upstream: name one"),
        (["--upstream", "api.openai.com"], "is no URL of http or https"),
        (["--upstream", "https://u:p@api.openai.com"], "remove it, because callers send their own credentials"),
        (["--upstream", "https://a", "--url", "mysql://x"], "no store has the scheme 'mysql'"),
        (["--upstream", "https://a", "--workers", "0"], "workers"),
        (["--upstream", "https://a", "--mode", "maybe"], "mode"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, says, capsys):
    assert run(["serve", "--port", "0", *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_certificates_that_cannot_be_read_are_found_at_the_start(tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    for file in ("ca.pem", "absent.pem"):
        config = config_of("https://a")
        upstream = type(config.upstreams[0])(url="https://a", ca=str(tmp_path / file))
        with pytest.raises(ConfigError, match="cannot be read from"):
            Gateway(type(config)(upstreams=(upstream,)))


def test_a_reload_changes_the_upstream_and_a_wrong_one_changes_nothing():
    with Tap(lambda _: answer(b'"one"')) as one, Tap(lambda _: answer(b'"two"')) as two, serving(one.url) as running:
        assert ask(running.url, "/x").json() == "one"
        running.server._load = lambda: config_of(two.url)
        running.do(reloaded(running))
        assert ask(running.url, "/x").json() == "two"

        def wrong():
            raise ConfigError("line 3: no")

        running.server._load = wrong
        running.do(reloaded(running))
        assert ask(running.url, "/x").json() == "two"


@pytest.mark.parametrize("seconds", [0.5, 1.75, 90])
def test_a_reload_changes_what_the_server_does_with_connections_and_logs(seconds):
    with (
        Tap() as tap,
        serving(tap.url, limits_keep_alive=60, log_level="warning") as running,
        socket.create_connection(("127.0.0.1", running.port), 20) as caller,
    ):
        caller.sendall(request(method="GET", path="/x", last=False))
        assert next_status(caller) == 200
        more = {"limits_keep_alive": seconds, "server_drain": seconds, "log_level": "info"}
        running.server._load = lambda: config_of(tap.url, **more)
        level = log.level
        try:
            running.do(reloaded(running))
            assert log.level == logging.INFO
        finally:
            log.setLevel(level)
        caller.sendall(request(method="GET", path="/x", last=False))
        assert next_status(caller) == 200
        (connection,) = running.server.server_state.connections
        assert connection.timeout_keep_alive == seconds  # also of what was open before
        assert running.server.config.timeout_graceful_shutdown == seconds
        if seconds < 1:
            took = Took()
            assert caller.recv(1) == b""
            assert took.wall > seconds / 2


def test_calls_under_way_end_as_they_began_when_store_and_limits_change(tmp_path):
    with Provider() as provider, serving(provider.url) as running, ThreadPoolExecutor(1) as pool:
        provider.script("hi", Step(hang=True), "complete")
        asked = pool.submit(ask, running.url)
        provider.wait_until_paid("hi")
        store = f"sqlite:///{tmp_path}/other.db"
        running.server._load = lambda: config_of(provider.url, store=store, limits_read_timeout=5)
        running.do(reloaded(running))
        provider.release("hi")
        assert asked.result(60).status_code == 200
        assert "fwd=miss; stored" in ask(running.url).headers["cache-status"]  # in the new store
        assert "hit" in ask(running.url).headers["cache-status"]


async def reloaded(running) -> None:
    running.server.reload()


def test_an_error_of_the_gateway_names_no_secret():
    def says(_: Heard) -> bytes:
        return b""

    with Tap(says) as tap, serving(f"/a={tap.url}") as running:
        for path in ("/v1/sk-secret", "/a/v1/chat/completions?key=sk-secret"):
            came = CLIENT.post(f"{running.url}{path}", content=json.dumps(CHAT), headers={"authorization": "sk-secret"})
            assert came.status_code in {404, 502}
            assert "sk-secret" not in came.text
