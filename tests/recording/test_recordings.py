"""Recordings as a file and as a cache: every way in, in order, read-only, and trouble reported as trouble."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from askonce.core.keys import Key
from askonce.errors import NotCached, StoreUnavailable
from askonce.recording.caches import RecordedAsyncCache, RecordedCache, Recording
from askonce.recording.file import APPLICATION, Place, RecordingFile
from tests.support import opened_file

URL = "https://llm.example.com/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chat(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}


def events(text: str, finish: str = "stop") -> bytes:
    choice = {"index": 0, "finish_reason": finish, "delta": {"content": text}}
    chunk = json.dumps({"object": "chat.completion.chunk", "choices": [choice]})
    return f"data: {chunk}\n\ndata: [DONE]\n\n".encode()


def streamed(text: str, finish: str = "stop") -> Any:
    return httpx2.Response(200, content=events(text, finish), headers={"content-type": "text/event-stream"})


class Upstream:
    """Answers each request with the next text, in the form that was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, request: Any) -> Any:
        self.calls += 1
        body = json.loads(request.read())
        text = f"answer {self.calls}"
        if request.url.path.endswith("/embeddings"):
            inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"object": "embedding", "index": at, "embedding": [self.calls, at]} for at in range(len(inputs))]
            return httpx2.Response(200, json={"object": "list", "data": data, "usage": {"prompt_tokens": 1}})
        return streamed(text) if body.get("stream") else httpx2.Response(200, json=chat(text))


Way = Callable[[Any, Upstream], Any]


def over_http(body: dict[str, Any], url: str = URL) -> Way:
    def way(cache: Any, upstream: Upstream) -> Any:
        with cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream)) as client:
            return client.post(url, json=body).read()

    return way


def fetched(cache: Any, upstream: Upstream) -> Any:
    def call() -> Any:
        upstream.calls += 1
        return {"n": upstream.calls}

    return cache.fetch({"model": "m", "q": 1}, call).value


def set_or_got(cache: Any, upstream: Upstream) -> Any:
    def call() -> int:
        upstream.calls += 1
        return upstream.calls

    return cache.get_or_set([{"role": "user", "content": "hi"}], "m", call)


def fetched_stream(cache: Any, upstream: Upstream) -> Any:
    def opened() -> Iterator[Any]:
        upstream.calls += 1
        return iter([{"n": upstream.calls}, "end"])

    return list(cache.fetch_stream({"model": "m", "q": 1}, opened))


EMBEDDINGS = "https://llm.example.com/v1/embeddings"
WAYS: dict[str, Way] = {
    "json": over_http(BODY),
    "stream": over_http({**BODY, "stream": True}),
    "a batch": over_http({"model": "e", "input": ["a", "b", "a"]}, EMBEDDINGS),
    "one input": over_http({"model": "e", "input": "a"}, EMBEDDINGS),
    "fetch": fetched,
    "get_or_set": set_or_got,
    "fetch_stream": fetched_stream,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorded.db"


def run(path: Path, mode: str, test: Callable[[Any], Any]) -> tuple[Any, str]:
    """What a test saw, and what it is told in the end."""
    recording = Recording(path, mode)
    with RecordedCache(recording) as cache:
        seen = test(cache)
    return seen, recording.told()


# --- the order of identical requests -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WAYS)
def test_identical_requests_are_replayed_in_their_order(path, name):
    upstream, way = Upstream(), WAYS[name]
    recorded, told = run(path, "record", lambda cache: [way(cache, upstream) for _ in range(3)])
    assert not told
    assert upstream.calls == 3
    assert len({repr(one) for one in recorded}) == 3
    for _ in range(2):
        replayed, told = run(path, "replay", lambda cache: [way(cache, upstream) for _ in range(3)])
        assert (replayed, told) == (recorded, "")
    assert run(path, "record", lambda cache: way(cache, upstream)) == (recorded[0], "")
    assert upstream.calls == 3


@pytest.mark.parametrize("name", WAYS)
def test_one_request_more_than_was_recorded_is_a_miss_that_says_so(path, name):
    upstream, way = Upstream(), WAYS[name]
    run(path, "record", lambda cache: [way(cache, upstream) for _ in range(2)])

    def thrice(cache: Any) -> None:
        way(cache, upstream), way(cache, upstream)
        with contextlib.suppress(NotCached):
            way(cache, upstream)

    _, told = run(path, "replay", thrice)
    assert "asked 3 times in this test, and recorded 2 times" in told
    assert upstream.calls == 2


def test_the_forms_of_one_question_are_counted_apart(path):
    upstream = Upstream()

    def both(cache: Any) -> list[Any]:
        return [WAYS[name](cache, upstream) for name in ("json", "stream", "json", "fetch", "fetch_stream", "stream")]

    recorded, _ = run(path, "record", both)
    assert run(path, "replay", both) == (recorded, "")


def test_a_request_that_is_tried_again_is_still_the_first_of_its_kind(path):
    answers = iter(
        [httpx2.Response(429, json={}), httpx2.Response(500, json={}), httpx2.Response(200, json=chat("at last"))]
    )

    def tries(cache: Any, handler: Any) -> Any:
        with cache.http_client(module=httpx2, inner=httpx2.MockTransport(handler)) as client:
            return next(one.read() for one in iter(lambda: client.post(URL, json=BODY), None) if one.status_code == 200)

    recorded, told = run(path, "record", lambda cache: tries(cache, lambda _: next(answers)))
    assert not told
    assert run(path, "replay", lambda cache: tries(cache, None)) == (recorded, "")


async def test_async_code_asks_in_order_too_and_at_once(path):
    numbers: Iterator[int] = itertools.count()

    async def call() -> int:
        await asyncio.sleep(0)
        return next(numbers)

    async def asked(mode: str) -> list[Any]:
        recording = Recording(path, mode)
        async with RecordedAsyncCache(recording) as cache:
            found = await asyncio.gather(*(cache.fetch({"q": 1}, call) for _ in range(4)))
        assert not recording.told()
        return [one.value for one in found]

    assert sorted(await asked("record")) == [0, 1, 2, 3]
    assert sorted(await asked("replay")) == [0, 1, 2, 3]


async def test_async_clients_of_both_modules_replay_json_and_streams(path):
    for module, mode in itertools.product((httpx2, httpx), ("record", "replay")):
        recording = Recording(path, mode)
        async with RecordedAsyncCache(recording) as cache:

            async def said(request: Any, module: Any = module) -> Any:
                stream = json.loads(request.content).get("stream")
                kind = {"content-type": "text/event-stream"}
                return (
                    module.Response(200, content=events("hi"), headers=kind)
                    if stream
                    else module.Response(200, json=chat("hi"))
                )

            async with cache.http_client(module=module, inner=module.MockTransport(said)) as client:
                for body in (BODY, {**BODY, "stream": True}):
                    assert b"hi" in (await client.post(URL, json=body)).content
        assert not recording.told()


# --- read-only -----------------------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged():
    """Rights count for nobody but root: so this test is somebody else for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def names_in(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


@contextlib.contextmanager
def checkout() -> Iterator[Path]:
    """A folder of the user who is nobody."""
    folder = Path(tempfile.mkdtemp(prefix="askonce-"))
    try:
        yield folder
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_read_only_checkout_is_replayed_and_nothing_is_made_beside_it(unprivileged):
    with checkout() as folder:
        upstream = Upstream()

        def all_ways(cache: Any) -> list[Any]:
            return [way(cache, upstream) for way in WAYS.values()]

        recorded, _ = run(folder / "recorded.db", "record", all_ways)
        assert names_in(folder) == ["recorded.db"]
        (folder / "recorded.db").chmod(0o444)
        folder.chmod(0o555)
        assert run(folder / "recorded.db", "replay", all_ways) == (recorded, "")
        assert names_in(folder) == ["recorded.db"]
        # Recording raises trouble before anything is paid; what is recorded is still replayed.
        assert run(folder / "recorded.db", "record", all_ways) == (recorded, "")
        before = upstream.calls
        with pytest.raises(StoreUnavailable):
            run(folder / "recorded.db", "record", lambda cache: cache.fetch({"q": "new"}, lambda: upstream(None)))
        assert upstream.calls == before


def test_a_recording_is_one_file_that_can_be_copied_while_the_cache_is_open(path, tmp_path):
    with RecordedCache(Recording(path, "record")) as cache:
        fetched(cache, Upstream())
        assert names_in(tmp_path) == ["recorded.db"]
        shutil.copy(path, tmp_path / "copy.db")
    assert run(tmp_path / "copy.db", "replay", lambda cache: fetched(cache, Upstream())) == ({"n": 1}, "")


# --- trouble -------------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"<<<<<<< HEAD\n" * 100)


def pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12288\n")


def foreign(path: Path) -> None:
    path.unlink()
    with opened_file(path) as file:
        file.execute("CREATE TABLE t (a)")


def newer(path: Path) -> None:
    with opened_file(path) as file:
        file.execute("PRAGMA user_version = 99")


def damaged(path: Path) -> None:
    with opened_file(path) as file:
        file.execute("UPDATE answers SET answer = zeroblob(length(answer))")


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def earlier(path: Path) -> None:
    from askonce import Cache

    path.unlink()
    with Cache(f"sqlite:///{path}") as cache:
        cache.fetch({"q": 1}, lambda: 1)


TROUBLES: dict[Callable[[Path], None], str] = {
    garbage: "not a database",
    pointer: "git lfs pull",
    foreign: "not a recording",
    newer: "format 99",
    damaged: "is damaged",
    torn: "",
    folder: "",
    earlier: "record again",
}


@pytest.mark.parametrize("spoil", TROUBLES, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("mode", ["replay", "record"])
def test_trouble_with_the_file_is_told_as_trouble_and_nothing_is_paid(path, spoil, mode):
    upstream = Upstream()
    run(path, "record", lambda cache: [fetched(cache, upstream), WAYS["json"](cache, upstream)])
    spoil(path)

    def test(cache: Any) -> Any:
        with pytest.raises(StoreUnavailable):
            fetched(cache, upstream)
        return WAYS["json"](cache, upstream)

    answer, told = run(path, mode, test)
    assert json.loads(answer)["error"]["code"] == "store_unavailable"
    assert str(path) in told
    assert TROUBLES[spoil] in told
    assert "not recorded" not in told
    assert "no similar request" not in told
    assert upstream.calls == 2


def test_a_file_that_is_held_is_told_as_held(path, monkeypatch):
    monkeypatch.setattr("askonce.recording.file.READING", 0.05)
    run(path, "record", lambda cache: fetched(cache, Upstream()))
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable):
        run(path, "replay", lambda cache: fetched(cache, Upstream()))
    recording = Recording(path, "replay")
    with RecordedCache(recording) as cache, pytest.raises(StoreUnavailable):
        fetched(cache, Upstream())
    assert "another process locks it" in recording.told()
    holder.close()
    assert fetched(cache_of(path), Upstream()) == {"n": 1}


def cache_of(path: Path) -> RecordedCache:
    return RecordedCache(Recording(path, "replay"))


def test_a_file_that_a_tool_turned_to_another_journal_is_read_all_the_same(path):
    run(path, "record", lambda cache: fetched(cache, Upstream()))
    with opened_file(path) as file:
        file.execute("PRAGMA journal_mode = WAL")
    assert run(path, "replay", lambda cache: fetched(cache, Upstream())) == ({"n": 1}, "")


def test_such_a_file_is_read_in_a_read_only_checkout_too(tmp_path, unprivileged):
    del tmp_path
    with checkout() as folder:
        path = folder / "recorded.db"
        test_a_file_that_a_tool_turned_to_another_journal_is_read_all_the_same(path)
        for beside in folder.glob("*-*"):
            beside.unlink()
        folder.chmod(0o555)
        assert run(path, "replay", lambda cache: fetched(cache, Upstream())) == ({"n": 1}, "")
        assert names_in(folder) == ["recorded.db"]


def test_a_journal_that_a_killed_recording_left_is_told_in_replay_and_played_back_by_the_next(
    path, tmp_path, monkeypatch
):
    monkeypatch.setattr("askonce.recording.file.READING", 0.05)
    run(path, "record", lambda cache: fetched(cache, Upstream()))
    killed = tmp_path / "killed.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA cache_size = 1")
        file.execute("BEGIN IMMEDIATE")
        for number in range(50):
            file.execute("INSERT INTO answers VALUES (?, 'v', 0, '{}', zeroblob(9000), 0)", (str(number),))
        shutil.copy(path, killed)
        shutil.copy(f"{path}-journal", f"{killed}-journal")
        file.execute("ROLLBACK")
    recording = Recording(killed, "replay")
    with RecordedCache(recording) as cache, pytest.raises(StoreUnavailable):
        fetched(cache, Upstream())
    assert "record once more" in recording.told()
    for mode in ("record", "replay"):
        assert run(killed, mode, lambda cache: fetched(cache, Upstream())) == ({"n": 1}, "")
    assert not Path(f"{killed}-journal").exists()


def test_without_a_file_all_is_missing_and_no_file_is_made(path):
    for touched in (False, True):
        if touched:
            path.touch()
        recording = Recording(path, "replay")
        with RecordedCache(recording) as cache, pytest.raises(NotCached):
            fetched(cache, Upstream())
        assert "no similar request is recorded" in recording.told()
    assert path.stat().st_size == 0


def _value(cache: RecordedCache, question: int) -> Any:
    return cache.fetch({"q": question}, list).value


def test_many_processes_may_record_into_one_file(path):
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for question in range(8):
                    with RecordedCache(Recording(path, "record")) as cache:
                        cache.fetch({"q": question}, partial(list, [number, question]))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    for question in range(8):
        value, told = run(path, "replay", partial(_value, question=question))
        assert value[1] == question
        assert not told
    assert len(RecordingFile(path).asked()) == 8


def test_a_file_says_what_it_is(path):
    run(path, "record", lambda cache: fetched(cache, Upstream()))
    with opened_file(path) as file:
        assert file.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        key, form, nth = file.execute("SELECT key, form, nth FROM answers").fetchone()
    assert RecordingFile(path).count(Place(key, form)) == 1
    assert nth == 0


def test_what_a_program_invalidates_is_asked_again_and_recorded_as_the_next_of_its_kind(path):
    upstream = Upstream()

    def story(cache: Any) -> list[Any]:
        first = fetched(cache, upstream)
        cache.invalidate(everything=True)
        return [first, fetched(cache, upstream)]

    assert run(path, "record", story) == ([{"n": 1}, {"n": 2}], "")
    assert run(path, "replay", story) == ([{"n": 1}, {"n": 2}], "")


def test_two_who_ask_the_same_at_one_moment_hide_what_both_hide(path):
    recording = Recording(path, "record")
    said = {"asked": "fetch", "body": 2**70}
    first, second = recording.asks(said, {"planted-secret-1"}), recording.asks(said, {"planted-secret-2"})
    assert first == second
    recording.keep(recording.turn(Key(first)), b'"you sent planted-secret-1"')
    assert b"planted" not in path.read_bytes()
    assert RecordingFile(path).asked() == [("v", said)]


def test_a_number_too_large_and_a_name_twice_are_told_apart(path):
    upstream = Upstream()
    bodies = [
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],"seed":%d}' % seed for seed in (2**60, 2**60 + 1)
    ] + [b'{"model":"m","messages":[{"role":"user","content":"hi"}],"a":1,"a":2}']

    def test(cache: Any) -> list[bytes]:
        with cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream)) as client:
            kind = {"content-type": "application/json"}
            return [client.post(URL, content=body, headers=kind).read() for body in bodies]

    recorded, _ = run(path, "record", test)
    assert len(set(recorded)) == 3
    assert run(path, "replay", test) == (recorded, "")


SOURCES = {"the cache": lambda cache: cache, "a handle": lambda cache: cache.scoped(scope="a")}
CLIENTS: dict[str, Callable[[Any, Any], Any]] = {
    "inner": lambda source, inner: source.http_client(module=httpx2, inner=inner),
    "transport": lambda source, inner: source.http_client(module=httpx2, transport=inner),
    "mounts": lambda source, inner: source.http_client(module=httpx2, mounts={"all://": inner}),
    "of one's own": lambda source, inner: httpx2.Client(transport=source.transport(module=httpx2, inner=inner)),
    "a mount of one's own": lambda source, inner: httpx2.Client(
        mounts={"all://": source.transport(module=httpx2, inner=inner)}
    ),
    "nested": lambda source, inner: source.http_client(
        module=httpx2, inner=source.transport(module=httpx2, inner=inner)
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("client", CLIENTS)
def test_in_replay_no_client_of_any_make_has_an_upstream(path, source, client):
    upstream = Upstream()

    def test(cache: Any) -> list[int]:
        with CLIENTS[client](SOURCES[source](cache), httpx2.MockTransport(upstream)) as made:
            return [made.post(url, json=BODY).status_code for url in (URL, URL.replace("chat/completions", "images"))]

    assert run(path, "record", test)[0] == [200, 200]
    paid = upstream.calls
    answers, told = run(path, "replay", test)
    assert (answers, upstream.calls) == ([200, 504], paid)
    assert "cannot be recorded" in told


FOLLOWED = {
    "another host": "https://other.example/v1/chat/completions",
    "a path": "/api/v1/chat/completions",
    "itself": "../chat/completions",
    "a version": "https://other.example/v1/chat/completions?api-version=2",
}
HIDING = {
    "a secret": "https://other.example/v1/chat/completions?token=planted",
    "a value": "/api/v1/chat/completions?who=planted",
    "a user": "https://me:planted@other.example/v1/chat/completions",
    "a fragment": "/api/v1/chat/completions#access_token=planted",
    "a random step": "/planted-9f8e7d6c5b4a39281706f5e4d3c2b1a0/v1/chat/completions",
}


@pytest.mark.parametrize("place", [*FOLLOWED, *HIDING])
@pytest.mark.parametrize("stream", [False, True])
def test_a_redirect_is_followed_in_replay_or_is_said_not_to_be_recorded(path, place, stream):
    """Where it leads is in the file only if the request that follows it would be shown so."""
    upstream, location, redirected = Upstream(), {**FOLLOWED, **HIDING}[place], []

    def answer(request: Any) -> Any:
        if str(request.url) != URL or redirected:
            return upstream(request)
        redirected.append(request)
        return httpx2.Response(307, headers={"location": location})

    def test(cache: Any) -> Any:
        with cache.http_client(module=httpx2, inner=httpx2.MockTransport(answer)) as client:
            got = client.post(URL, json={**BODY, "stream": stream})
            return got.status_code, got.content, str(got.url), [one.status_code for one in got.history]

    recording = Recording(path, "record")
    with RecordedCache(recording) as cache:
        recorded = test(cache)
    assert recorded[0] == 200
    assert len(recording.unrecorded()) == (place in HIDING)
    replayed, told = run(path, "replay", test)
    assert (replayed, told) == (recorded, "") if place in FOLLOWED else (replayed[0], URL in told) == (504, True)
    assert b"planted" not in path.read_bytes()
