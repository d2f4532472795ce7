"""A reload that changes the store: what has begun ends as it began, however long it takes, and is stored where it began."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from askonce.cache.base import base_of
from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.gateway.running import CLIENT, Running, config_of, received, request, serving

HANG = Step(hang=True)


def body_of(question: str, *, stream: bool = False) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": question}], **({"stream": True} if stream else {})}
    ).encode()


def ask(running: Running, question: str, *, stream: bool = False) -> httpx2.Response:
    return CLIENT.post(
        f"{running.url}/v1/chat/completions",
        content=body_of(question, stream=stream),
        headers={"authorization": "Bearer sk-1", "content-type": "application/json"},
        timeout=60,
    )


def status(came: httpx2.Response) -> str:
    return came.headers["cache-status"]


class Changing:
    """A gateway whose store changes at a reload. A shutdown of it waits for nothing."""

    def __init__(self, provider: Provider, folder: Path) -> None:
        self.configs = [
            config_of(provider.url, store=f"sqlite:///{folder}/{name}.db", server_drain=0) for name in ("old", "new")
        ]

    def change(self, running: Running) -> None:
        """Use the new store, and see that it is in use."""
        running.reload(self.configs[1])
        assert "fwd=miss; stored" in status(ask(running, "after the reload"))


@pytest.fixture
def changing(provider, tmp_path):
    return Changing(provider, tmp_path)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_call_that_takes_longer_than_a_shutdown_may_is_paid_once_and_stored(provider, changing, stream):
    provider.script("long", Step(hang=True, after=2 * stream))
    with Running(changing.configs[0]) as running, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, running, "long", stream=stream) for _ in range(2)]
        old = running.gateway.serving
        eventually(lambda: old.use.requests == 2, "both wait")
        provider.wait_until_paid("long")
        changing.change(running)
        provider.release("long")
        assert all(one.result(60).status_code == 200 for one in asked)
        assert len({one.result().content for one in asked}) == 1
        running.reload(changing.configs[0])
        assert "hit" in status(ask(running, "long", stream=stream))
    assert provider.paid("long") == 1


def test_a_call_whose_caller_has_gone_is_stored_all_the_same(provider, changing):
    provider.script("left", HANG)
    with Running(changing.configs[0]) as running:
        with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
            caller.sendall(request(body_of("left"), headers=("Authorization: Bearer sk-1",)))
            provider.wait_until_paid("left")
        old = running.gateway.serving
        eventually(lambda: old.use.requests == 0, "the caller has gone")
        changing.change(running)
        provider.release("left")
        eventually(lambda: not old.goes_on(), "its answer is stored")
        running.reload(changing.configs[0])
        assert "hit" in status(ask(running, "left"))
    assert provider.paid("left") == 1


def test_who_waits_for_another_workers_call_gets_its_answer(provider, changing):
    provider.script("shared", HANG)
    with Running(changing.configs[0]) as leads, Running(changing.configs[0]) as follows, ThreadPoolExecutor(2) as pool:
        led = pool.submit(ask, leads, "shared")
        provider.wait_until_paid("shared")
        joined = pool.submit(ask, follows, "shared")
        waiters = base_of(follows.gateway.cache).engine()._claims.waiters
        eventually(lambda: len(list(waiters)) == 1, "it waits")
        changing.change(follows)
        provider.release("shared")
        assert led.result(60).content == joined.result(60).content
        assert "collapsed" in status(joined.result())
    assert provider.paid("shared") == 1


def test_a_request_that_had_begun_to_arrive_is_asked_where_it_began(provider, changing):
    sent = request(body_of("half"), headers=("Authorization: Bearer sk-1",))
    with Running(changing.configs[0]) as running:
        with socket.create_connection(("127.0.0.1", running.port), 20) as caller:
            old = running.gateway.serving
            caller.sendall(sent[:-20])
            eventually(lambda: old.use.requests == 1, "it has begun")
            changing.change(running)
            caller.sendall(sent[-20:])
            assert b"fwd=miss; stored" in received(caller)
        running.reload(changing.configs[0])
        assert "hit" in status(ask(running, "half"))
    assert provider.paid("half") == 1


def test_the_old_cache_is_closed_after_its_last_call(provider, changing):
    provider.script("last", HANG)
    with Running(changing.configs[0]) as running, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, running, "last")
        provider.wait_until_paid("last")
        old = base_of(running.gateway.cache)
        changing.change(running)
        assert not old._closed
        provider.release("last")
        assert asked.result(60).status_code == 200
        eventually(lambda: old._closed and not running.gateway._retired, "the old cache is closed")


def test_a_shutdown_after_a_reload_waits_no_longer_than_it_may(provider, tmp_path):
    provider.script("late", HANG)
    with serving(provider.url, server_drain=0.2) as running, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, running, "late")
        provider.wait_until_paid("late")
        running.reload(config_of(provider.url, store=f"sqlite:///{tmp_path}/new.db", server_drain=0.2))
        running.tell(running.server.end)
        assert asked.result(60).status_code == 503


def test_the_line_of_a_request_says_what_it_was_though_the_store_changed_meanwhile(provider, tmp_path, capsys):
    provider.script("long", HANG)
    old, new = (
        config_of(provider.url, store=f"sqlite:///{tmp_path}/{name}.db", log_requests=True) for name in ("old", "new")
    )
    with Running(old) as running, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, running, "long")
        provider.wait_until_paid("long")
        running.reload(new)
        running.reload(new)  # which is no second log
        assert "stored" in status(ask(running, "new"))
        provider.release("long")
        assert asked.result(60).status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["outcome"], line["model"]) for line in lines] == [("miss", "m")] * 2
