"""The proxy that imitates bad networks leaves nothing open, at whatever moment it ends."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings
from contextlib import ExitStack, closing, suppress
from types import SimpleNamespace

import pytest

from askonce.testing.proxy import Proxy

pytestmark = pytest.mark.concurrency

MOST = 8  # turns of its loop in which a connection is accepted and led on; it needs fewer
PATIENCE = 20.0  # s


def until_hung_up(one: socket.socket) -> None:
    """Wait until the other side of a connection has closed it; TimeoutError if it does not."""
    one.settimeout(PATIENCE)
    with suppress(ConnectionError):
        while one.recv(100):
            pass


async def end(proxy: Proxy, turns: int) -> None:
    """Close a proxy after some turns of its loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    await proxy._end()


@pytest.mark.parametrize("turns", range(MOST))
@pytest.mark.parametrize("bad", [None, Proxy.drop_idle, Proxy.cut], ids=["calm", "connections dropped", "cut"])
def test_what_connects_while_a_proxy_ends_is_closed_with_it(turns, bad):
    with (
        warnings.catch_warnings(record=True) as told,
        ExitStack() as ours,
        closing(socket.create_server(("127.0.0.1", 0))) as server,
    ):
        warnings.simplefilter("always")
        port = server.getsockname()[1]
        with Proxy(SimpleNamespace(port=port, url=f"redis://127.0.0.1:{port}")) as proxy:
            address = "127.0.0.1", proxy.port
            early = [ours.enter_context(closing(socket.create_connection(address))) for _ in range(2)]
            theirs = [ours.enter_context(closing(server.accept()[0])) for _ in early]
            if bad is not None:
                bad(proxy)
            stands = threading.Event()
            proxy._loop.call_soon_threadsafe(stands.wait, PATIENCE)
            late = [ours.enter_context(closing(socket.create_connection(address))) for _ in range(3)]
            theirs[0].close()  # the one whose client is not told of it, if connections are dropped
            ended = asyncio.run_coroutine_threadsafe(end(proxy, turns), proxy._loop)
            stands.set()
            ended.result(PATIENCE)
        del proxy, ended
        gc.collect()
        for one in (*early, *late, theirs[1]):
            until_hung_up(one)
    assert not [str(one.message) for one in told if issubclass(one.category, ResourceWarning)]
