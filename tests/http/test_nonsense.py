"""Entries with a right checksum and nonsense inside: a visible miss, once, however they are read."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce import AsyncCache, Cache
from askonce.core.keys import Form, Key
from askonce.core.lease import NEVER, Ask, Lead, Limits
from askonce.core.model import FORMAT, FORMS, HEAD_SIZE, MAGIC, ODD, Lifetime, Sealed, pack_extensions
from askonce.core.tape import DATA, META, data_frame, frame
from askonce.engine.reader import Found
from askonce.events import Status
from askonce.runtime.drive import drive
from tests.fixtures import place_of
from tests.profiles import examples

URL = "https://llm.example.com/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
HOUR = 3_600_000
SAID = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "right"}}],
}
CHUNK = {
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "right"}}],
}
EVENTS = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()


@pytest.fixture(params=["memory", "sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def url(request, tmp_path):
    return place_of(request.param, request, tmp_path)


# --- nonsense, sealed ----------------------------------------------------------------------------------------------


def sealed(key: Key, grant: Any, body: bytes, extensions: bytes = b"", *, longer: int = 0, flags: int = 0) -> Sealed:
    """An entry with a right checksum, whatever is in it; `longer`: what its header claims beside what it has."""
    start = struct.pack(
        ">2sBBI32s16sQ8sII",
        *(MAGIC, FORMAT, FORMS.index(key.form) | flags, max(0, HEAD_SIZE + len(extensions) + longer), key.digest),
        *(grant.id, grant.order, grant.snapshot.epoch, grant.snapshot.clock, HOUR),
    )
    check = zlib.crc32(body, zlib.crc32(extensions, zlib.crc32(start)))
    return Sealed(start + struct.pack(">I", check), extensions, body)


def plant(store: Any, key: Key, entry: Callable[[Key, Any], Sealed]) -> None:
    """Fill it under a lease, as another process would."""
    drive(store.forget(key))
    flight = os.urandom(16)
    said = drive(store.claim(key, Ask(flight, flight[:4], (), Limits(HOUR, 0, 0), 0, NEVER, 5000)))
    assert isinstance(said, Lead)
    assert (
        drive(store.fill(key, flight, said.grant.order, entry(key, said.grant), Lifetime(HOUR, 0, 0, HOUR))) == "stored"
    )


class Way(NamedTuple):
    """A way in: asks, and gives what it heard and the status."""

    ask: Callable[[Any], tuple[Any, Any]]
    form: Form


def over_http(body: dict[str, Any], url: str = URL, **more: Any) -> Callable[[Any], tuple[Any, Any]]:
    def ask(cache: Any) -> tuple[Any, Any]:
        def said(request: Any) -> Any:
            cache.paid += 1
            asked = json.loads(request.read())
            if "input" in asked:
                data = [{"index": at, "embedding": [0.5]} for at, _ in enumerate(asked["input"])]
                return httpx2.Response(200, json={"object": "list", "data": data, "usage": {"prompt_tokens": 1}})
            if asked.get("stream"):
                return httpx2.Response(200, content=EVENTS, headers={"content-type": "text/event-stream"})
            return httpx2.Response(200, json=SAID)

        client = cache.http_client(module=httpx2, inner=httpx2.MockTransport(said), **more)
        with cache.watch() as seen, client:
            content = client.post(url, json=body).read()
        return content, seen[-1]

    return ask


def fetched(cache: Any) -> tuple[Any, Any]:
    outcome = cache.fetch({"q": 1}, lambda: paid(cache, {"said": "right"}))
    return outcome.value, outcome.status


def fetched_stream(cache: Any) -> tuple[Any, Any]:
    with cache.fetch_stream({"q": 1}, lambda: iter(paid(cache, ["right", {"a": 1}]))) as stream:
        return list(stream), stream.status


def paid(cache: Any, answer: Any) -> Any:
    cache.paid += 1
    return answer


WAYS = {
    "fetch": Way(fetched, "v"),
    "fetch_stream": Way(fetched_stream, "s"),
    "json": Way(over_http(CHAT), "j"),
    "stream": Way(over_http({**CHAT, "stream": True}), "s"),
    "a vector": Way(over_http({"model": "e", "input": ["a", "b"]}, "https://llm.example.com/v1/embeddings"), "j"),
    "the other form": Way(over_http(CHAT, share_forms=True), "j"),
}


def packed(meta: Any, body: bytes = b"", size: int | None = None) -> bytes:
    head = meta if isinstance(meta, bytes) else orjson.dumps(meta)
    return (len(head) if size is None else size).to_bytes(4, "big") + head + body


OK = {"status": 200, "headers": [["content-type", "application/json"]]}
EVENT_STREAM = {"status": 200, "headers": [["content-type", "text/event-stream"]]}
metas = st.sampled_from(
    [
        *(b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b"\xff\xfe"),
        *({"status": 200}, {"headers": []}, {"status": "200", "headers": []}, {"status": None, "headers": []}),
        *({"status": 1e999, "headers": []}, {"status": -1, "headers": []}, {"status": 10**6, "headers": []}),
        *({"status": 200, "headers": 5}, {"status": 200, "headers": [5]}, {"status": 200, "headers": [["a"]]}),
        *({"status": 200, "headers": [["a", 1]]}, {"status": 200, "headers": [["\u20ac", "x"]]}),
        *({"status": 200, "headers": [], "who": 7}, {"status": 200, "headers": [], "frame": 7}),
        *({"status": 200, "headers": [], "frame": [1, 2, 3, 4, 5, 6]}, {"status": 200, "headers": [], "frame": []}),
        {"status": 200, "headers": [], "frame": ["{", ",", "}", "x", 0, 1]},
        *({"error": "ReadTimeout", "message": "m", "patience": 0.0}, {"error": 5}, {"error": None, "message": 1}),
        {"error": "ReadTimeout", "message": "m", "patience": "long"},
    ]
)
garbage = st.binary(max_size=40) | st.sampled_from(
    [b"", b"not json", b"{", b'{"a":', b"nan", b"\x00" * 9, b"\xff" * 64]
)
frames = st.one_of(
    st.builds(frame, st.sampled_from([DATA, META, 3, 127, 200]), garbage),
    st.builds(data_frame, st.integers(0, 9), garbage.filter(lambda part: not is_json(part))),  # JSON would be a stream
    st.just(frame(META, b"{")),
    st.just(data_frame(0, b'"x')),
)
bodies = {
    "v": garbage.filter(lambda body: not is_json(body)),
    "j": st.one_of(
        garbage, st.builds(packed, metas, garbage), st.builds(packed, st.just(OK), garbage, st.integers(0, 2**31))
    )
    | st.builds(packed, st.just(OK), garbage.filter(lambda body: not is_json(body))),
    "s": st.lists(frames | garbage, min_size=1, max_size=4).map(b"".join)
    | garbage.filter(lambda body: not is_json(body)).map(
        lambda body: frame(META, orjson.dumps(EVENT_STREAM)) + data_frame(0, body)
    ),
}


def is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except ValueError:
        return False
    return True


def entries(form: str) -> Any:
    """An entry of this form with nonsense in its body, in its extensions, or in its header."""
    return st.one_of(
        bodies[form].map(lambda body: lambda key, grant: sealed(key, grant, body)),
        st.builds(
            lambda body, extensions, longer: lambda key, grant: sealed(key, grant, body, extensions, longer=longer),
            bodies[form],
            st.binary(max_size=30),
            st.integers(1, 2**31) | st.integers(-120, -31),  # not the difference that makes another valid entry
        ),
        bodies[form].map(
            lambda body: lambda key, grant: sealed(key, grant, body, pack_extensions({3: b"zstd"}), flags=ODD)
        ),
    )


RIGHT = {
    "v": [b'{"said":"right"}'],
    "j": [packed(OK, orjson.dumps(SAID))],
    "s": [],
}


def keys_of(cache: Any, way: Way) -> list[Key]:
    """The keys under which a way looks: asked once, and forgotten."""
    seen: list[Key] = []
    listening = cache.on_event(lambda event: seen.append(Key.parse(event.key)) if event.name == "stored" else None)
    way.ask(cache)
    listening()
    return [key._replace(form=way.form) for key in seen]


@pytest.fixture
def cache(url) -> Iterator[Any]:
    with Cache(url) as cache:
        cache.paid = 0  # type: ignore[attr-defined]
        yield cache


SLOW = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=8)


@pytest.mark.parametrize("name", WAYS)
def test_nonsense_is_a_visible_miss_and_replaced_whatever_way_it_is_read(cache, name):
    replaced(cache, WAYS[name], SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("name", WAYS)
def test_no_nonsense_of_500_is_served_or_raises(cache, name):
    replaced(cache, WAYS[name], settings(SLOW, max_examples=examples(500)))


def replaced(cache: Any, way: Way, examples: Any) -> None:
    right, _ = way.ask(cache)
    keys = keys_of_again(cache, way)

    @examples
    @given(entries(way.form))
    def law(entry: Any) -> None:
        for key in keys:
            plant(cache._base._engine.store, key, entry)
        before = cache.paid
        heard, status = way.ask(cache)
        assert heard == right
        assert cache.paid > before
        assert status.fwd == "miss"
        assert status.detail.startswith(("store-", "hits-0"))
        paid = cache.paid
        heard, status = way.ask(cache)
        assert (heard, status.hit, cache.paid) == (right, True, paid)

    law()


def keys_of_again(cache: Any, way: Way) -> list[Key]:
    cache.invalidate(everything=True)
    return keys_of(cache, way)


def test_the_other_form_that_is_nonsense_is_passed_over(cache):
    way = WAYS["the other form"]
    right, _ = way.ask(cache)
    (key,) = keys_of_again(cache, way)

    @SLOW
    @given(entries("s"))
    def law(entry: Any) -> None:
        drive(cache._base._engine.store.forget(key))
        plant(cache._base._engine.store, key._replace(form="s"), entry)
        heard, _ = way.ask(cache)
        assert heard == right

    law()


def test_one_vector_that_is_nonsense_is_asked_for_again_by_itself(cache):
    batch = over_http({"model": "e", "input": ["a", "b"]}, "https://llm.example.com/v1/embeddings")
    right, _ = batch(cache)
    keys = keys_of_again(cache, Way(batch, "j"))
    plant(cache._base._engine.store, keys[1], lambda key, grant: sealed(key, grant, b"nonsense"))
    before = cache.paid
    heard, status = batch(cache)
    assert json.loads(heard)["data"] == json.loads(right)["data"]
    assert (status.fwd, status.detail) == ("miss", "store-unreadable")
    assert cache.paid == before + 1
    assert batch(cache)[1].hit
    assert cache.paid == before + 1


async def test_the_same_in_a_loop(url):
    async with AsyncCache(url) as cache:
        calls = 0

        async def call() -> Any:
            nonlocal calls
            calls += 1
            return {"said": "right"}

        async def opened() -> Any:
            nonlocal calls
            calls += 1
            yield "right"

        key = Key.parse((await cache.fetch({"q": 1}, call)).key)
        with Cache(url) as other:
            for form in ("v", "s"):
                plant(
                    other._base._engine.store, key._replace(form=form), lambda key, grant: sealed(key, grant, b"\xff")
                )
        found = await cache.fetch({"q": 1}, call)
        assert (found.value, found.status.fwd, found.status.stored) == ({"said": "right"}, "miss", True)
        async with await cache.fetch_stream({"q": 1}, opened) as stream:
            assert [item async for item in stream] == ["right"]
        assert calls == 3
        assert (await cache.fetch({"q": 1}, call)).status.hit


@pytest.mark.parametrize("name", WAYS)
def test_a_store_in_which_somebody_writes_nonsense_again_and_again_costs_a_call_and_no_error(monkeypatch, name):
    way = WAYS[name]
    with Cache("memory://") as cache:
        cache.paid = 0
        right, _ = way.ask(cache)

        async def nonsense(question: Any, _: object = None) -> Found:
            return Found(Status(question.key.text, hit=True), b"nonsense", None, b"nonsense")

        monkeypatch.setattr(cache._base._engine, "_contend", nonsense)

        async def all_nonsense(questions: Any) -> list[Found]:
            return [await nonsense(question) for question in questions]

        monkeypatch.setattr(cache._base._engine._reader, "look", nonsense)
        monkeypatch.setattr(cache._base._engine._reader, "look_all", all_nonsense)
        for _ in range(2):
            heard, status = way.ask(cache)
            assert heard == right
            assert not status.hit


@pytest.mark.parametrize("command", [("ls",), ("ls", "--dead"), ("stats",), ("show",)])
def test_commands_go_on_over_nonsense(tmp_path, capsys, command):
    from askonce.cli import main

    url = f"sqlite:///{tmp_path}/n.db"
    with Cache(url) as cache:
        key = Key.parse(cache.fetch({"model": "good"}, lambda: 1).key)
        strange = pack_extensions({2: b"\xff", 4: b"\xff\xfe", 6: b"\xff", 10: b"\xff" * 200})
        plant(cache._base._engine.store, key, lambda key, grant: sealed(key, grant, b"\xff", strange))
        broken = Key.parse(cache.fetch({"model": "other"}, lambda: 1).key)
        plant(cache._base._engine.store, broken, lambda key, grant: sealed(key, grant, b"\xff", b"\x01\xff", longer=9))
        cache.fetch({"model": "good-3"}, lambda: 1)
    more = (key.text,) if command == ("show",) else ()
    assert main([*command, *more, "--url", url]) == 0
    shown = capsys.readouterr().out
    assert command == ("show",) or "good-3" in shown
