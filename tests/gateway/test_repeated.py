"""Requests that come again are answered at once: as they would be the usual way, and for nobody else."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any, Self

import httptools
import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askonce.gateway.repeated import length_behind
from askonce.testing import ValkeyServer
from tests.crowd import eventually
from tests.gateway.asking import Provider, configured
from tests.gateway.running import Running, Tap, raw_call, request, serving
from tests.took import Took

KEY = "Authorization: Bearer sk-a"


def question(text: str = "hi", model: str = "gpt-4o") -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


class Connection:
    """A caller that keeps its connection."""

    def __init__(self, running: Running) -> None:
        self._socket = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        self._file = self._socket.makefile("rb")

    def ask(self, *pieces: bytes, answers: int = 1) -> list[tuple[bytes, bytes]]:
        for piece in pieces:
            self._socket.sendall(piece)
            if piece is not pieces[-1]:
                time.sleep(0.002)
        return [self._answer() for _ in range(answers)]

    def send(self, piece: bytes) -> None:
        self._socket.sendall(piece)

    def _answer(self) -> tuple[bytes, bytes]:
        """A head, and a body whose length it says."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            assert line, head
            head += line
        if head.startswith(b"HTTP/1.1 100 "):
            return self._answer()
        found = re.search(rb"content-length: (\d+)", head.lower())
        assert found, head
        return head, self._file.read(int(found[1]))

    def ended(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def at_once(running: Running) -> list[bool]:
    """Whether each request from now on was answered at once."""
    said: list[bool] = []
    repeated = running.gateway.serving.repeated
    answers = repeated.answer

    def noted(head: bytes, body: bytes, peer: str | None) -> bytes | None:
        found = answers(head, body, peer)
        said.append(found is not None)
        return found

    repeated.answer = noted  # type: ignore[method-assign]
    return said


def usual_way(running: Running) -> None:
    """Let no request be answered at once."""
    protocol: Any = running.server._protocol
    protocol.at_hand = None


def stable(head: bytes) -> bytes:
    """A head without what differs between two moments, and between two upstreams."""
    head = re.sub(rb"(?i)age: \d+|; ttl=-?\d+", b"", head)
    return re.sub(rb'key="[0-9a-f]{64}"', b"key", head)


def counted(running: Running) -> tuple[Any, Any]:
    async def savings() -> Any:
        return await running.gateway.cache.savings()

    total = running.do(savings()).total.as_dict()
    whole = {name: value for name, value in _flat(total) if not name.endswith(("ms", "seconds"))}
    return running.gateway.cache._base.events.counts(), whole


def _flat(told: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(told, dict):
        for word, value in told.items():
            yield from _flat(value, f"{name}.{word}")
    else:
        yield name, told


@pytest.fixture
def tap() -> Iterator[Tap]:
    with Tap(Provider()) as tap:
        yield tap


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{}/cache.db"])
def test_a_request_that_comes_again_gets_the_same_bytes_and_counts(tap, tmp_path, store):
    asked = request(question(), headers=(KEY,), last=False)
    with serving(tap.url, store=store.format(tmp_path)) as running, Connection(running) as caller:
        said = at_once(running)
        answers = [caller.ask(asked)[0] for _ in range(20)]
        counts, savings = counted(running)
    assert said == [False] * 3 + [True] * 17  # a call, and the two hits that made its head known
    assert len(tap.heard) == 1
    assert {body for _, body in answers} == {answers[0][1]}
    assert {stable(head) for head, _ in answers[1:]} == {stable(answers[1][0])}
    assert b"cache-status: askonce; hit; ttl=" in answers[-1][0]
    assert (counts["lookups"], counts["hit"], counts["miss"]) == (20, 19, 1)
    assert (savings[".hits.calls"], savings[".led.calls"]) == (19, 1)


def test_an_answer_of_the_near_cache_is_given_at_once(tap):
    asked = request(question(), headers=(KEY,), last=False)
    with ValkeyServer() as server, serving(tap.url, store=server.url, store_near=str(2**24)) as running:
        said = at_once(running)
        with Connection(running) as caller:
            head = b""
            until = time.monotonic() + 60
            while not (said and said[-1]) and time.monotonic() < until:
                head, body = caller.ask(asked)[0]
            counts, savings = counted(running)
    assert said[-1]
    assert b"; detail=near" in head
    assert b"answer 1" in body
    assert counts["hit"] == savings[".hits.calls"] == len(said) - 1


# --- as the usual way --------------------------------------------------------------------------------------------

CONFIGURATIONS = {
    "plain": "",
    "shared": "[tenants]\nby = 'shared'\n",
    "header": "[tenants]\nby = 'header'\nheader = 'x-tenant'\n",
    "trusted": "[tenants]\nby = 'header'\nheader = 'x-tenant'\nverify = false\n",
    "rules": "[[rule]]\nmodel = 'o3'\nmode = 'off'\n[[rule]]\nmodel = 'gpt-4o'\nhit_usage = 'zero'\nscope = 'chat'\n",
    "opt-in": "[[rule]]\nmode = 'opt-in'\n",
    "shaped": "[[rule]]\nmodel = 'o3'\nignore_fields = ['temperature']\n[[rule]]\npath = '/v1/*'\nfold = ['case']\n",
    "logged": "[log]\nrequests = true\n",
}
HEADERS = (
    *(
        "Cache-Control: no-cache",
        "Cache-Control: max-age=0",
        "Cache-Control: only-if-cached",
        "Cache-Control: no-store",
    ),
    *("askonce-mode: off", "askonce-mode: on", "askonce-tags: a", "askonce-scope: s", "askonce-variant: 2"),
    *("X-Tenant: one", "X-Tenant: two", "X-Api-Key: sk-b", "Accept-Language: de", "Expect: 100-continue"),
    *("Connection: keep-alive", "TE: trailers", "X-Unknown: 1"),
)
HEAD = 10_000  # the place behind a head; more: in the body
asks = st.tuples(
    st.just("ask"),
    st.sampled_from(["a", "b", "x", ""]),
    st.sampled_from(["one", "two"]),
    st.sampled_from(["gpt-4o", "o3"]),
    st.lists(st.sampled_from(HEADERS), max_size=1),
    st.integers(1, 5),  # times
)
steps = st.one_of(
    asks,
    asks,
    asks,
    st.tuples(st.just("split"), st.lists(st.sampled_from([HEAD, 1, 30, 90, HEAD + 1, HEAD + 9]), max_size=3)),
    st.tuples(st.just("revoke"), st.sampled_from(["a", "b"])),
    st.tuples(st.just("accept"), st.sampled_from(["a", "x"])),
    st.tuples(st.just("down")),
    st.tuples(st.just("invalidate")),
    st.tuples(st.just("reload"), st.sampled_from(list(CONFIGURATIONS))),
)
HIT: Any = ("ask", "a", "one", "gpt-4o", [], 5)
SCOPED: Any = ("ask", "a", "one", "gpt-4o", ["askonce-scope: s"], 5)
_numbers = itertools.count()


class Side:
    """A gateway with its upstream, and a caller of both."""

    def __init__(self, folder: Any) -> None:
        self._folder = folder
        folder.mkdir()
        self.provider = Provider()
        self._tap = Tap(self.provider)

    def __enter__(self) -> Self:
        self._tap.__enter__()
        self.running = Running(configured(self._folder, self._tap, ""))
        self.running.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.running.__exit__(*raised)
        self._tap.__exit__(*raised)

    def walk(self, number: int, walk: list[Any]) -> list[Any]:
        """Take all steps; what was answered."""
        self.provider.good = {f"sk-{number}-{name}" for name in "ab"}
        self.provider.down = False
        self._use("plain")
        seen: list[Any] = []
        with Connection(self.running) as caller:
            self._splits: list[int] = []
            for step in walk:
                seen += self._step(number, step, caller)
        return seen

    def _step(self, number: int, step: Any, caller: Connection) -> list[Any]:
        match step:
            case ("ask", key, text, model, more, times):
                key = (f"Authorization: Bearer sk-{number}-{key}",) if key else ()
                asked = request(question(f"{text} {number}", model), headers=(*key, *more), last=False)
                return [self._asked(caller, asked) for _ in range(times)]
            case ("split", places):
                self._splits = places
            case ("revoke", key):
                self.provider.good.discard(f"sk-{number}-{key}")
            case ("accept", key):
                self.provider.good.add(f"sk-{number}-{key}")
            case ("down",):
                self.provider.down = not self.provider.down
            case ("invalidate",):
                self.running.do(self.running.gateway.cache.invalidate(everything=True))
            case ("reload", name):
                self._use(name)
        return []

    def _asked(self, caller: Connection, asked: bytes) -> Any:
        end = asked.index(b"\r\n\r\n") + 4
        ends = sorted({end + at - HEAD if at >= HEAD else at for at in self._splits})
        pieces = [asked[start:stop] for start, stop in itertools.pairwise([0, *ends, len(asked)])]
        head, body = caller.ask(*pieces)[0]
        return stable(head), body

    def _use(self, name: str) -> None:
        self.running.reload(configured(self._folder, self._tap, CONFIGURATIONS[name]))


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("sides")
    with Side(folder / "one") as one, Side(folder / "other") as other:
        usual_way(other.running)
        yield one, other


@given(walk=st.lists(steps, min_size=1, max_size=12))
@example(walk=[HIT, ("revoke", "a"), ("ask", "a", "two", "gpt-4o", [], 2), HIT])
@example(walk=[HIT, ("invalidate",), HIT, ("reload", "shared"), HIT, ("ask", "x", "one", "gpt-4o", [], 3)])
@example(walk=[HIT, ("reload", "rules"), HIT, HIT, ("reload", "opt-in"), HIT, ("reload", "logged"), HIT])
@example(walk=[HIT, SCOPED, HIT, SCOPED])
@example(walk=[HIT, ("split", [HEAD]), HIT, ("revoke", "a"), ("ask", "a", "two", "gpt-4o", [], 1), HIT])
@example(walk=[HIT, ("split", [HEAD, HEAD + 1, HEAD + 9]), HIT, ("invalidate",), HIT])
@settings(max_examples=25, deadline=None)
def test_every_request_is_answered_and_counted_as_the_usual_way(sides, walk):
    number = next(_numbers)
    one, other = sides
    assert one.walk(number, walk) == other.walk(number, walk)
    assert one.provider.calls == other.provider.calls
    assert counted(one.running) == counted(other.running)


# --- heads that stand for one request ----------------------------------------------------------------------------


class Parsed:
    """How a server reads bytes."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.heads = 0

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body


LINES = st.one_of(
    st.sampled_from(
        [
            *(b"Host: a", b"Content-Length: 3", b"content-length: 4", b"Content-Length: +3", b"Content-Length: 3, 3"),
            *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Connection: close", b"TE: trailers"),
            *(b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue"),
            *(b" folded: 1", b"X: 1\nContent-Length: 9", b"X: 1\rY: 2", b"Content-Length : 3", b"X:", b""),
        ]
    ),
    st.binary(min_size=1, max_size=8).map(lambda text: b"X: " + text),
)
STARTS = st.sampled_from(
    [
        *(
            b"POST / HTTP/1.1",
            b"POST / HTTP/1.0",
            b"\r\nPOST / HTTP/1.1",
            b"\r\n\r\nPOST / HTTP/1.1",
            b"HEAD / HTTP/1.1",
        ),
        *(b"GET / HTTP/1.1", b"POST / HTTP/1.1\r\nHost: b\r\n", b"CONNECT a:1 HTTP/1.1", b"POST http://a/ HTTP/1.1"),
    ]
)


@given(STARTS, st.lists(LINES, max_size=6), st.sampled_from([b"\r\n", b"\n"]))
@example(b"POST / HTTP/1.1", [b"Host: a", b"Content-Length: 3"], b"\r\n")
@settings(max_examples=500, deadline=None)
def test_a_head_that_is_kept_stands_for_one_request_with_so_long_a_body(start, lines, end):
    data = end.join([start, *lines, b"", b""])
    head = data[: data.find(b"\r\n\r\n") + 4]
    read = Parsed()
    parser = httptools.HttpRequestParser(read)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return
    scope = {"method": parser.get_method().decode(), "headers": read.headers}
    scope["http_version"] = parser.get_http_version()
    length = length_behind(head, scope)
    if (start, end) == (b"POST / HTTP/1.1", b"\r\n") and lines == [b"Host: a", b"Content-Length: 3"]:
        assert length == 3
    if length is not None:
        again = Parsed()
        parser = httptools.HttpRequestParser(again)
        parser.feed_data((head + b"b" * length) * 2)
        assert again.bodies == [b"b" * length] * 2
        assert again.headers == read.headers * 2
        assert parser.should_keep_alive()


# --- connections -------------------------------------------------------------------------------------------------


def test_requests_sent_at_once_are_answered_in_their_order(tap):
    asked = request(question(), headers=(KEY,), last=False)
    other = request(question("other"), headers=(KEY,), last=False)
    with serving(tap.url) as running, Connection(running) as caller:
        for one in (asked, other) * 3:
            caller.ask(one)
        bodies = [body for _, body in caller.ask(asked + other + asked, answers=3)]
    assert [b"answer 1" in body for body in bodies] == [True, False, True]


def test_a_connection_that_was_answered_at_once_is_closed_when_it_was_idle_too_long(tap):
    asked = request(question(), headers=(KEY,), last=False)
    with serving(tap.url, limits_keep_alive=1) as running, Connection(running) as caller:
        said = at_once(running)
        began = time.monotonic()
        while time.monotonic() < began + 1.5:
            caller.ask(asked)
            time.sleep(0.2)
        took = Took()
        assert caller.ended()
        assert took.wall > 0.7
        assert took.seconds < 15
    assert said[-1]


def test_a_client_that_sends_a_head_and_then_its_body_is_answered_at_once(tap):
    with serving(tap.url) as running, httpx2.Client() as client:
        said = at_once(running)
        for _ in range(6):
            headers = {"authorization": "Bearer sk-a"}
            asked = client.post(f"{running.url}/v1/chat/completions", content=question(), headers=headers)
            assert b"answer 1" in asked.content
    assert said[-1]


def test_a_request_that_has_begun_is_answered_when_the_server_ends(tap):
    asked = request(question(), headers=(KEY,), last=False)
    with serving(tap.url) as running, Connection(running) as caller:
        for _ in range(5):
            caller.ask(asked)
        caller.send(asked[:-5])
        (protocol,) = running.server.server_state.connections
        eventually(lambda: bool(getattr(protocol, "_held", b"")), "its head is held")
        running.tell(protocol.shutdown)  # as the server does when it ends
        eventually(lambda: not getattr(protocol, "_held", b""), "it goes the usual way")
        head, body = caller.ask(asked[-5:])[0]
        assert b"connection: close" in head.lower()
        assert b"answer 1" in body
        assert caller.ended()


def test_a_head_alone_must_be_followed_by_its_body_in_time(tap):
    asked = request(question(), headers=(KEY,), last=False)
    head = asked[: asked.index(b"\r\n\r\n") + 4]
    with serving(tap.url, limits_body_timeout=1) as running:
        with Connection(running) as caller:
            for _ in range(5):
                caller.ask(asked)
            assert caller.ask(head)[0][0].startswith(b"HTTP/1.1 408 ")
        assert raw_call(running.port, request(question(), headers=(KEY,))).startswith(b"HTTP/1.1 200")


def test_a_request_that_finds_too_many_others_is_refused_also_if_its_answer_is_at_hand(tap):
    asked = request(question(), headers=(KEY,), last=False)
    with serving(tap.url, limits_concurrency=5) as running, Connection(running) as caller:
        for _ in range(5):
            caller.ask(asked)
        tasks = running.server.server_state.tasks
        others: Any = range(5)
        tasks.update(others)
        assert caller.ask(asked)[0][0].startswith(b"HTTP/1.1 503")
        tasks.difference_update(others)
        assert caller.ask(asked)[0][0].startswith(b"HTTP/1.1 200")
