"""A hit's response is the module's own to every program, however it is read."""

from __future__ import annotations

import asyncio
import copy
import pickle

import httpx
import httpx2
import pytest

from askonce import AsyncCache, Cache

URL = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hi"}]}

pytestmark = pytest.mark.waits


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def module(request):
    return request.param


def upstream(module):
    said = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4.1-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "é" * 2_000}, "finish_reason": "stop"}],
    }
    return module.MockTransport(lambda _: module.Response(200, json=said))


@pytest.fixture
def client(module):
    with Cache("memory://") as cache, cache.http_client(module=module, inner=upstream(module)) as made:
        made.post(URL, json=BODY)
        yield made


def bare(module):
    """The response without askonce."""
    with module.Client(transport=upstream(module)) as made:
        return made.post(URL, json=BODY)


def test_it_is_read_at_once_and_is_what_the_module_would_have_made(client, module):
    got, want = client.post(URL, json=BODY), bare(module)
    assert got.headers["cache-status"].startswith("askonce; hit")
    assert type(got) is module.Response
    names = {*want.__dict__} | {"_content", "_num_bytes_downloaded"}
    assert names - {*got.__dict__} <= {"_decoder", "_elapsed", "next_request"}
    assert {*got.__dict__} - {*want.__dict__} <= {"_elapsed"}
    assert (got.content, got.text, got.json()) == (want.content, want.text, want.json())
    assert (got.is_closed, got.is_stream_consumed) == (True, True)
    assert got.num_bytes_downloaded == len(got.content)
    assert got.elapsed.total_seconds() >= 0
    assert b"".join(got.iter_bytes(chunk_size=7)) == want.content
    assert repr(got) == "<Response [200 OK]>"


READERS = {
    "read": lambda response: response.read(),
    "bytes": lambda response: b"".join(response.iter_bytes()),
    "raw": lambda response: b"".join(response.iter_raw(5)),
    "text": lambda response: "".join(response.iter_text()).encode(),
    "lines": lambda response: "\n".join(response.iter_lines()).encode(),
    "twice": lambda response: response.read() and response.read(),
}


@pytest.mark.parametrize("how", READERS)
def test_it_can_be_read_as_a_stream_in_any_way(client, module, how):
    with client.stream("POST", URL, json=BODY) as response:
        assert isinstance(response, module.Response)
        assert response.headers["cache-status"].startswith("askonce; hit")
        assert READERS[how](response) == bare(module).content
        with pytest.raises(module.StreamConsumed):
            next(response.iter_raw())


def test_one_that_was_begun_ends_as_the_module_ends_it(client, module):
    with client.stream("POST", URL, json=BODY) as response:
        next(response.iter_raw(5))
        with pytest.raises(module.StreamConsumed):
            response.read()
    with client.stream("POST", URL, json=BODY) as response:
        response.close()
        with pytest.raises(module.StreamClosed):
            response.read()


@pytest.mark.parametrize("again", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy])
@pytest.mark.parametrize("first", [True, False])
def test_it_can_be_pickled_and_copied_before_and_after_it_is_read(client, module, again, first):
    with client.stream("POST", URL, json=BODY) as response:
        if first:
            response.read()
        made = again(response)
        assert type(made) is module.Response
        assert made.status_code == 200
        if first:
            assert made.content == bare(module).content
        assert response.read() == bare(module).content


def test_a_hook_may_read_it(module):
    read = []
    hooks = {"response": [lambda response: read.append(response.read())]}
    with (
        Cache("memory://") as cache,
        cache.http_client(module=module, inner=upstream(module), event_hooks=hooks) as client,
    ):
        for _ in range(2):
            assert client.post(URL, json=BODY).content == read[-1] == bare(module).content


class Louder:
    """A body in capitals, as a program makes it of another that it gets."""

    def __init__(self, stream):
        self._stream = stream

    def __iter__(self):
        return (part.upper() for part in self._stream)

    def close(self):
        self._stream.close()


def louder(module, response):
    response.stream = type("Louder", (Louder, module.SyncByteStream), {})(response.stream)
    return response


def replaced(module, response):
    response.stream = module.ByteStream(b"other")
    return response


def given(module, response):
    if not hasattr(response, "_content"):
        response._content = b"given"
    return response


def read_first(module, response):
    response.read()
    return louder(module, response)


def half_read(module, response):
    next(response.iter_raw(100))
    return response


@pytest.mark.parametrize("change", [louder, replaced, given, read_first, half_read])
@pytest.mark.parametrize("place", ["hook", "around"])
def test_what_a_program_does_to_a_body_it_does_to_a_hits_too(module, change, place):
    def seen(client):
        try:
            return client.post(URL, json=BODY).content
        except module.StreamError as error:
            return type(error)

    def hooked(response):
        change(module, response)

    class Around(module.BaseTransport):
        def __init__(self, inner):
            self.handle_request = lambda request: change(module, inner.handle_request(request))

    def client(inner):
        if place == "hook":
            return module.Client(transport=inner, event_hooks={"response": [hooked]})
        return module.Client(transport=Around(inner))

    class Unread(module.BaseTransport):
        def handle_request(self, request):
            return module.Response(200, stream=module.ByteStream(upstream(module).handle_request(request).content))

    with (
        Cache("memory://") as cache,
        cache.watch() as statuses,
        client(Unread()) as bare,
        client(cache.transport(module=module, inner=Unread())) as cached,
    ):
        assert seen(bare) == seen(cached) == seen(cached)
    assert [status.hit for status in statuses] == [False, True]


def test_a_task_reads_it_too(module):
    async def main():
        async with AsyncCache("memory://") as cache, cache.http_client(module=module, inner=upstream(module)) as client:
            await client.post(URL, json=BODY)
            got = await client.post(URL, json=BODY)
            assert type(got) is module.Response
            assert got.content == bare(module).content
            assert got.elapsed.total_seconds() >= 0
            async with client.stream("POST", URL, json=BODY) as response:
                with pytest.raises(RuntimeError):
                    response.read()
                assert await response.aread() == bare(module).content
            async with client.stream("POST", URL, json=BODY) as response:
                assert b"".join([part async for part in response.aiter_raw(5)]) == bare(module).content
                with pytest.raises(module.StreamConsumed):
                    await response.aread()

    asyncio.run(main())
