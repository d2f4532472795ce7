"""How clients are made: the SDKs' defaults, the environment's proxies, and what is refused at once."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from askonce import AsyncCache, Cache, ConfigError, UsageError
from askonce.testing import Provider
from tests.http.conftest import CHAT
from tests.http.test_requests import ANSWER, URL, answering
from tests.http.upstreams import Scripted

PROXIES = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "local.example"}


def behind(client: Any, url: str) -> Any:
    """The inner transport that a URL is sent by."""
    return client._transport_for_url(type(client.base_url)(url)).inner


def test_the_defaults_are_those_of_the_sdks(module, cache):
    with cache.http_client(module=module) as client:
        assert client.timeout == module.Timeout(600.0, connect=5.0)
        assert client.follow_redirects
        pool = client._transport.inner._pool
        assert (pool._max_connections, pool._max_keepalive_connections) == (1000, 100)
    with cache.http_client(module=module, timeout=3, follow_redirects=False) as client:
        assert client.timeout == module.Timeout(3)
        assert not client.follow_redirects


def test_what_openai_makes_of_it_is_what_it_would_have_made_itself(cache):
    ours, theirs = openai.OpenAI(api_key="k", http_client=cache.http_client()), openai.OpenAI(api_key="k")
    assert ours.timeout == theirs.timeout
    assert ours._client.timeout == theirs._client.timeout
    assert ours._client.follow_redirects == theirs._client.follow_redirects
    ours.close()
    theirs.close()


KEPT = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, "SO_KEEPALIVE"),
    "idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"),
    "between": (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
    "probes": (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
}


def kept_alive(response: Any) -> dict[str, int]:
    """The keep-alive options of the connection that a response came by."""
    connection = response.extensions["network_stream"].get_extra_info("socket")
    return {
        name: connection.getsockopt(level, getattr(socket, option))
        for name, (level, option) in KEPT.items()
        if hasattr(socket, option)
    }


def test_connections_are_kept_alive_as_anthropics_sdk_keeps_its_own(module, cache):
    with Provider() as upstream, anthropic.DefaultHttpxClient() as theirs:
        url = f"{upstream.url}/v1/chat/completions"
        wanted = kept_alive(theirs.post(url, json=CHAT))
        with cache.http_client(module=module) as client:
            assert kept_alive(client.post(url, json=CHAT)) == wanted
            assert kept_alive(client.post(f"{upstream.url}/elsewhere", json=CHAT)) == wanted
        with module.Client(transport=cache.transport(module=module)) as client:
            assert kept_alive(client.post(url, json={**CHAT, "seed": 1})) == wanted
    assert wanted["SO_KEEPALIVE"]


async def test_the_same_in_async_mode(module):
    with Provider() as upstream:
        url = f"{upstream.url}/v1/chat/completions"
        async with anthropic.DefaultAsyncHttpxClient() as theirs:
            wanted = kept_alive(await theirs.post(url, json=CHAT))
        async with AsyncCache("memory://") as cache:
            async with cache.http_client(module=module) as client:
                assert kept_alive(await client.post(url, json=CHAT)) == wanted
            async with module.AsyncClient(transport=cache.transport(module=module)) as client:
                assert kept_alive(await client.post(url, json={**CHAT, "seed": 1})) == wanted


def test_a_transport_of_ones_own_keeps_its_own_options(module, cache):
    own, mounted = module.HTTPTransport(), module.HTTPTransport(socket_options=[])
    with cache.http_client(module=module, inner=own, mounts={"https://x.example": mounted}) as client:
        assert behind(client, URL) is own
        assert (own._pool._socket_options, mounted._pool._socket_options) == (None, [])


def test_proxies_of_the_environment_are_honoured_behind_ours(module, cache, monkeypatch):
    for name, value in PROXIES.items():
        monkeypatch.setenv(name, value)
    with module.Client() as bare, cache.http_client(module=module) as client:
        assert client._mounts.keys() == bare._mounts.keys()
        assert behind(client, "https://api.example/")._pool._proxy_url.host == b"proxy.example"
        assert not hasattr(behind(client, "https://local.example/")._pool, "_proxy_url")
    with cache.http_client(module=module, trust_env=False) as client:
        assert not hasattr(behind(client, "https://api.example/")._pool, "_proxy_url")


def test_a_proxy_and_mounts_of_ones_own_are_behind_ours_too(module, cache):
    with cache.http_client(module=module, proxy="http://proxy.example:3128") as client:
        assert behind(client, URL)._pool._proxy_url.host == b"proxy.example"
    mounted = answering(module)
    with cache.http_client(module=module, mounts={"https://api.example": mounted}) as client:
        for _ in range(2):
            client.post(URL, json=CHAT)
    assert len(mounted.requests) == 1
    assert mounted.closed


def test_a_transport_for_a_client_of_ones_own(module, cache):
    inner = answering(module)
    transport = cache.transport(module=module, inner=inner, scope="a")
    assert isinstance(transport, module.BaseTransport)
    with cache.watch() as seen, module.Client(transport=transport) as client:
        client.post(URL, json=CHAT)
        client.post(URL, json=CHAT)
    assert [status.hit for status in seen] == [False, True]
    with cache.transport(module=module) as real:
        assert isinstance(real.inner, module.HTTPTransport)


async def test_an_async_cache_makes_async_clients(module):
    def answer(_: Any) -> Any:
        return module.Response(200, json=ANSWER)

    inner = Scripted(module, answer)
    async with AsyncCache("memory://") as cache:
        assert isinstance(cache.transport(module=module, inner=inner), module.AsyncBaseTransport)
        async with cache.http_client(module=module, inner=inner) as client:
            assert isinstance(client, module.AsyncClient)
            with cache.watch() as seen:
                await asyncio.gather(*(client.post(URL, json=CHAT) for _ in range(5)))
                await client.post(URL, json=CHAT)
        async with cache.transport(module=module) as real:
            assert isinstance(real.inner, module.AsyncHTTPTransport)
    assert len(inner.requests) == 1
    assert inner.closed
    assert sum(status.collapsed for status in seen) == 4
    assert seen[-1].hit


def test_httpx2_is_taken_where_it_is_installed_and_httpx_where_it_is_not(cache, monkeypatch):
    assert isinstance(cache.http_client(), httpx2.Client)
    assert isinstance(cache.http_client(module="httpx"), httpx.Client)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    assert isinstance(cache.http_client(), httpx.Client)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigError, match=r"pip install 'askonce\[http\]'"):
        cache.http_client()


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({"module": "requests"}, ConfigError),
        ({"scope": "a//b"}, ConfigError),
        ({"tags": "doc:1"}, ConfigError),
        ({"ignore_headers": "x-a"}, ConfigError),
        ({"ttl": -1}, ConfigError),
        ({"control": "no-such-directive"}, ConfigError),
    ],
)
def test_what_cannot_be_meant_is_said_when_the_client_is_made(cache, own, error):
    with pytest.raises(error):
        cache.http_client(**own)


def test_a_word_that_neither_we_nor_the_client_know_is_refused(cache):
    with pytest.raises(TypeError):
        cache.http_client(scoop="a")
    with pytest.raises(UsageError):
        cache.transport(scoop="a")


def test_a_redirect_is_followed_and_its_end_is_what_is_kept(module, cache):
    def answer(request: Any) -> Any:
        if request.url.host == "api.example":
            return module.Response(307, headers={"location": "https://other.example/v1/chat/completions"})
        return module.Response(200, json=ANSWER)

    inner = Scripted(module, answer)
    with cache.http_client(module=module, inner=inner) as client:
        for _ in range(2):
            assert client.post(URL, json=CHAT).json() == ANSWER
    assert [one.url.split("/")[2] for one in inner.requests] == ["api.example", "other.example", "api.example"]


def test_a_client_made_before_a_fork_works_in_the_child(module, tmp_path):
    import os

    inner = answering(module)
    with Cache(f"sqlite:///{tmp_path}/a.db") as cache, cache.http_client(module=module, inner=inner) as client:
        client.post(URL, json=CHAT)
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if "hit" in client.post(URL, json=CHAT).headers["cache-status"] else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
