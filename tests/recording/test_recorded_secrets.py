"""The file of a recording holds no secret of a request or its answer, and a replay needs none."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from askonce.core.redact_answer import starred_frames
from askonce.recording.caches import RecordedCache, Recording
from tests.profiles import examples

URL = "https://api.openai.com/v1/chat/completions"
BODY: dict[str, Any] = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "What is a cache?"}]}
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "gpt-4.1-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A memory."}}],
}


class Request(NamedTuple):
    """What is sent."""

    url: str = URL
    headers: Mapping[str, str] = MappingProxyType({})
    body: dict[str, Any] = BODY


Plant = Callable[[str], Request]
Echo = Callable[[str], tuple[dict[str, str], dict[str, Any]]]


def send(path: Path, mode: str, request: Request, said: Callable[[Any], Any] | None = None) -> Any:
    """The answer to a request of a test of its own."""
    recording = Recording(path, mode)
    with RecordedCache(recording) as cache:
        inner = httpx2.MockTransport(said or (lambda _: httpx2.Response(200, json=ANSWER)))
        with cache.http_client(module=httpx2, inner=inner) as client:
            answer = client.post(request.url, json=request.body, headers=request.headers)
            answer.read()
    told = recording.told()
    assert not told, told
    assert not recording.unrecorded()
    return answer


def writings(secret: str) -> list[str]:
    raw = secret.encode()
    encoded = [base64.b64encode(raw), base64.urlsafe_b64encode(raw), base64.b64encode(b"user:" + raw)]
    return [secret, quote(secret, safe=""), json.dumps(secret)[1:-1], *(one.decode().rstrip("=") for one in encoded)]


def absent(path: Path, secret: str) -> None:
    raw = path.read_bytes()
    assert not [way for way in writings(secret) if way.encode() in raw]


@pytest.fixture
def fresh():
    with tempfile.TemporaryDirectory() as folder:
        yield lambda: Path(tempfile.mkdtemp(dir=folder)) / "recorded.db"


# --- names that speak of secrets, in every style -------------------------------------------------------------------

STEMS = [
    *("authorization", "api key", "token", "secret", "password", "credential", "bearer token", "private key"),
    *("session", "cookie", "access token", "client secret", "auth", "passphrase", "refresh token", "api token"),
    *("connection string", "subscription key", "signing key", "jwt", "access key", "proxy authorization"),
]
BEFORE = ["", "", "x", "my", "mcp", "cf access", "upstream", "db", "openai", "gateway v2"]
AFTER = ["", "", "value", "2", "header", "v1"]
APART: list[Callable[[list[str]], str]] = [
    "-".join,
    "_".join,
    lambda words: "-".join(word.capitalize() for word in words),
    lambda words: "_".join(words).upper(),
    ".".join,
]
STYLES = [
    *APART,
    lambda words: words[0] + "".join(word.capitalize() for word in words[1:]),
    lambda words: "".join(word.capitalize() for word in words),
]


@st.composite
def names(draw: Any, styles: Any = tuple(STYLES)) -> str:
    before, stem, after = (draw(st.sampled_from(words)) for words in (BEFORE, STEMS, AFTER))
    run_together = stem.replace(" ", "") if " " in stem and draw(st.booleans()) else stem
    style: Callable[[list[str]], str] = draw(st.sampled_from(styles))
    return style(f"{before} {run_together} {after}".split())


secrets = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~", min_size=16, max_size=48)
plain = st.sampled_from(["a", "config", "tools", "server", "options", "extra", "items"])


@st.composite
def bodies(draw: Any) -> Callable[[str], Any]:
    """A place in a body, at any depth, under a name that speaks of a secret or that is known to carry some."""
    name, flat = draw(names()), draw(names(tuple(APART)))
    inner: Callable[[str], Any] = draw(
        st.sampled_from(
            [
                lambda secret: {name: secret},
                lambda secret: {name: [secret]},
                lambda secret: {name: {"type": "bearer", "value": secret}},
                lambda secret: {name: f"Bearer {secret}"},
                lambda secret: {"headers": {name: secret}},
                lambda secret: {"headers": [[name, secret], {"name": name, "value": secret}]},
                lambda secret: {"headers": [f"{name}: {secret}"], "http_headers": f"{name}: {secret}"},
                lambda secret: {"env": {flat.upper().replace("-", "_").replace(".", "_"): secret}},
                lambda secret: {"variables": [{"name": name, "value": secret}]},
                lambda secret: {"server_url": f"https://me:{secret}@mcp.example.com/sse"},
                lambda secret: {"server_url": f"https://{secret}@mcp.example.com/sse"},
                lambda secret: {"url": f"https://mcp.example.com/sse?{name}={quote(secret)}#{secret}"},
                lambda secret: {"dsn_of_store": f"postgresql://me:{secret}@db/name"},
                lambda secret: {"store": f"mongodb+srv://me:{secret}@db/name?retryWrites=true"},
                lambda secret: {"store": f"Server=tcp:db;Database=x;User ID=me;Password={secret};Encrypt=true"},
                lambda secret: {"store": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={secret}"},
                lambda secret: {"authentication": {"type": "api_key", "key": secret}},
                lambda secret: {"command": f"curl -H 'Authorization: Bearer {secret}' https://h/x?{name}={secret}"},
                lambda secret: {
                    "script": f"export API_TOKEN={secret}\ngit clone https://me:{secret}@git.example.com/x"
                },
                lambda secret: {"env_file": f"A=1\nMY_SECRET={secret}\n"},
                lambda secret: {"config": base64.urlsafe_b64encode(json.dumps({name: secret}).encode()).decode()},
                lambda secret: {"basic": f"Basic {base64.b64encode(f'me:{secret}'.encode()).decode()}"},
                lambda secret: {"args": ["serve", "--api-key", secret, "--token", secret]},
                lambda secret: {"args": [f"--api-key={secret}", f"TOKEN={secret}"]},
                lambda secret: {"header_line": f"Authorization: Bearer {secret}"},
                lambda secret: {"sign_in": f"Bearer {secret}"},
                lambda secret: {"arguments": json.dumps({name: secret})},
                lambda secret: {
                    "parameters": {
                        "type": "object",
                        "properties": {name: {"type": "string", "default": secret, "examples": [secret]}},
                    }
                },
                lambda secret: {"key_file": f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----"},
            ]
        )
    )
    steps = draw(st.lists(plain | st.just(0), max_size=4))

    def made(secret: str) -> Any:
        held = inner(secret)
        for step in steps:
            held = [held] if step == 0 else {str(step): held}
        return held

    return made


UNKNOWN: list[Plant] = [  # only its place and its look show that it is a secret
    lambda secret: Request(headers={"X-Anything": secret}),
    lambda secret: Request(url=f"{URL}?anything={secret}"),
    lambda secret: Request(url=f"https://gateway.example.com/{secret}/v1/chat/completions"),
    lambda secret: Request(body={**BODY, "server": {"headers": {"X-Anything": secret}}}),
    lambda secret: Request(body={**BODY, "server": {"headers": [["X-Anything", secret]]}}),
    lambda secret: Request(body={**BODY, "server": {"headers": [{"name": "X-Anything", "value": secret}]}}),
    lambda secret: Request(body={**BODY, "server": {"headers": [f"X-Anything: {secret}"], "env": {"ANY": secret}}}),
    lambda secret: Request(body={**BODY, "server": {"url": f"https://h/{secret}/sse?anything={secret}"}}),
    lambda secret: Request(body={**BODY, "anything": secret}),
    lambda secret: Request(body={**BODY, "anything": f"eyJhbGciOiJIUzI1NiJ9.{secret}.{secret}"}),
    lambda secret: Request(body={**BODY, "anything": [f"Bearer {secret}"]}),
]


def in_header(name: str) -> Plant:
    return lambda secret: Request(headers={name: secret})


plants: st.SearchStrategy[Plant] = st.one_of(
    names(tuple(APART)).map(in_header),
    st.sampled_from(["Authorization", "X-Api-Key", "Cookie", "CF-Access-Client-Secret", "Proxy-Authorization"]).map(in_header),
    st.just(lambda secret: Request(headers={"Authorization": f"Bearer {secret}"})),
    st.just(lambda secret: Request(headers={"Authorization": "Basic " + base64.b64encode(f"me:{secret}".encode()).decode()})),
    st.just(lambda secret: Request(headers={"Cookie": f"a=b; session={secret}; c=d"})),
    st.just(lambda secret: Request(headers={"X-Gateway": f"Bearer {secret}"})),
    names().map(lambda name: lambda secret: Request(url=f"{URL}?{name}={quote(secret)}&api-version=1")),
    st.just(lambda secret: Request(url=f"{URL}?key={quote(secret)}")),
    st.just(lambda secret: Request(url=URL.replace("https://", f"https://me:{quote(secret)}@"))),
    bodies().map(lambda made: lambda secret: Request(body={**BODY, "metadata": made(secret)})),
    bodies().map(lambda made: lambda secret: Request(body={**BODY, "tools": [{"type": "mcp", "server": made(secret)}]})),
)  # fmt: skip


def nothing(_: str) -> tuple[dict[str, str], dict[str, Any]]:
    return {}, {}


echoes: list[Echo] = [
    nothing,
    lambda secret: ({"X-Echo": secret, "Set-Cookie": f"s={secret}"}, {}),
    lambda secret: ({"Location": f"https://h/?sig={secret}", "X-Request-Id": f"req-{secret}"}, {}),
    lambda secret: ({}, {"tools": [{"type": "mcp", "authorization": secret, "headers": {"X": secret}}]}),
    lambda secret: ({}, {"note": f"you sent {secret}, or {quote(secret, safe='')}"}),
    lambda secret: ({}, {"note": base64.b64encode(secret.encode()).decode()}),
]
SLOW: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


def hidden(fresh: Any, plant: Plant, echo: Echo, secret: str, other: str) -> None:
    path = fresh()
    headers, more = echo(secret)
    first = send(path, "record", plant(secret), lambda _: httpx2.Response(200, json=ANSWER | more, headers=headers))
    note(str(plant(secret)))
    absent(path, secret)
    assert b"What is a cache?" in path.read_bytes()
    again = send(path, "replay", plant(other))
    assert again.json()["choices"] == first.json()["choices"]
    assert len(again.content) == len(first.content)


@settings(max_examples=examples(40), **SLOW)
@given(plants, st.sampled_from(echoes), secrets, secrets)
def test_a_secret_of_a_request_is_not_in_the_file_and_another_one_replays_it(fresh, plant, echo, secret, other):
    hidden(fresh, plant, echo, secret, other)


@pytest.mark.slow
@settings(max_examples=1500, **SLOW)
@given(plants, st.sampled_from(echoes), secrets, secrets)
def test_no_secret_of_1500_is_in_the_file(fresh, plant, echo, secret, other):
    hidden(fresh, plant, echo, secret, other)


@settings(max_examples=examples(25), **SLOW)
@given(st.sampled_from(UNKNOWN), st.sampled_from(echoes), st.uuids().map(lambda one: f"sk-q{one.hex}"))
def test_a_value_that_nothing_calls_harmless_is_not_in_the_file(fresh, plant, echo, secret):
    path = fresh()
    headers, more = echo(secret)
    send(path, "record", plant(secret), lambda _: httpx2.Response(200, json=ANSWER | more, headers=headers))
    absent(path, secret)
    send(path, "replay", plant(secret))


@settings(max_examples=15, **SLOW)
@given(names(), secrets, st.sampled_from([b"data: %b\n\n", b"event: x\r\ndata: %b\r\n\r\n"]), st.integers(1, 30))
def test_a_secret_is_not_in_a_recorded_stream_wherever_it_is_cut(fresh, name, secret, frame, size):
    first = {"object": "chat.completion.chunk", "choices": [], "echo": {"authorization": secret}, "said": secret}
    last = {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "A memory."}, "finish_reason": "stop"}],
    }
    body = b"".join(frame % one for one in (json.dumps(first).encode(), json.dumps(last).encode(), b"[DONE]"))
    parts = [body[at : at + size] for at in range(0, len(body), size)]

    def said(_: Any) -> Any:
        return httpx2.Response(200, content=iter(parts), headers={"content-type": "text/event-stream"})

    path = fresh()
    request = Request(headers={"X-Api-Key": secret}, body={**BODY, "stream": True})
    answer = send(path, "record", request, said)
    assert answer.content == body
    raw = path.read_bytes()
    assert secret.encode() not in raw
    again = send(path, "replay", Request(body={**BODY, "stream": True}))
    assert len(again.content) == len(body)
    assert again.content.replace(b"*", b"") == body.replace(secret.encode(), b"").replace(b"*", b"")


def test_a_secret_in_awss_frames_is_starred_and_their_checksums_are_right(fresh):
    def message(payload: bytes) -> bytes:
        prelude = struct.pack(">II", 16 + len(payload), 0)
        start = prelude + zlib.crc32(prelude).to_bytes(4, "big") + payload
        return start + zlib.crc32(start).to_bytes(4, "big")

    secret = "planted-secret-0123"
    inner = base64.b64encode(json.dumps({"note": f"you sent {secret}"}).encode())
    log = message(b'{"bytes":"%b"}' % inner) + message(b'{"authorization":"%b"}' % secret.encode()) + message(b"{}")
    made = starred_frames(log, [secret])
    assert len(made) == len(log)
    at = 0
    while at < len(made):
        (size,) = struct.unpack_from(">I", made, at)
        assert zlib.crc32(made[at : at + size - 4]) == int.from_bytes(made[at + size - 4 : at + size], "big")
        at += size
    assert secret.encode() not in made
    assert secret.encode() not in base64.b64decode(made[made.index(b':"') + 2 : made.index(b'"}')])
    assert starred_frames(log, []) != log  # by its name
    assert starred_frames(message(b"{}"), [secret]) == message(b"{}")


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({"set-cookie": "sid=planted-secret-0123"}, {}),
        ({"x-session-token": "planted-secret-0123"}, {}),
        ({"x-anything": "planted-secret-0123"}, {}),
        ({"www-authenticate": "Bearer planted-secret-0123"}, {}),
        ({}, {"client_secret": "planted-secret-0123"}),
        ({}, {"session": {"access_token": {"value": "planted-secret-0123"}}}),
        ({}, {"tools": [{"headers": {"X-Foo": "planted-secret-0123"}}]}),
    ],
)
def test_what_upstream_hands_out_is_not_in_the_file_either(fresh, header, body):
    path = fresh()
    send(path, "record", Request(), lambda _: httpx2.Response(200, json=ANSWER | body, headers=header))
    absent(path, "planted-secret-0123")


def test_what_a_model_says_stays_as_it_was_said(fresh):
    message = {
        "role": "assistant",
        "content": "your password is hunter2, the token abc",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"password": "x"}'}}],
    }
    logprobs = {"content": [{"token": "Hel", "logprob": -0.1, "top_logprobs": [{"token": "Hel", "logprob": -0.1}]}]}
    answer = {**ANSWER, "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}]}
    headers = {"x-request-id": "req_1", "openai-processing-ms": "12", "x-ratelimit-limit": "3", "x-cost": "0.25"}
    path = fresh()
    send(path, "record", Request(), lambda _: httpx2.Response(200, json=answer, headers=headers))
    again = send(path, "replay", Request())
    assert again.json() == answer
    assert {name: again.headers.get(name) for name in ("x-request-id", "openai-processing-ms", "x-cost")} == {
        "x-request-id": "req_1",
        "openai-processing-ms": "12",
        "x-cost": "0.25",
    }


# --- what is hidden for being unknown still tells two requests apart, by its name ----------------------------------


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        (Request(headers={"X-Team": "vermilion"}), Request(headers={"X-Team": "blue"}), "headers.x-team: '#"),
        (Request(url=f"{URL}?team=vermilion"), Request(url=f"{URL}?team=blue"), "asked: 'POST https://api.openai.com"),
        (Request(), Request(headers={"X-Team": "blue"}), "headers.x-team: nothing recorded, '#"),
        (
            Request(body={**BODY, "seed": 1}),
            Request(body={**BODY, "seed": 2}),
            "body.seed: 1 recorded, 2 asked",
        ),
        (
            Request(body={**BODY, "x": {"api_key": "a" * 20}}),
            Request(body={**BODY, "x": {}}),
            "body.x.api_key: '[hidden]' recorded, nothing asked",
        ),
    ],
)
def test_a_miss_names_what_differs_although_it_is_hidden(fresh, one, other, named):
    path = fresh()
    send(path, "record", one)
    with pytest.raises(AssertionError) as missed:
        send(path, "replay", other)
    assert named in str(missed.value)
    assert "differs in " in str(missed.value)
    assert "vermilion" not in str(missed.value)  # no word that the name of a temporary folder may hold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"max_tokens": 1}, {"max_tokens": 2}),
        ({"token_ids": [1, 2]}, {"token_ids": [1, 3]}),
        ({"stop_token": "a"}, {"stop_token": "b"}),
        ({"next_page_token": "a"}, {"next_page_token": "b"}),
        ({"tokens": ["a"]}, {"tokens": ["b"]}),
        ({"auth_timeout": 5}, {"auth_timeout": 6}),
        ({"token_type": "a"}, {"token_type": "b"}),
        ({"key": "red"}, {"key": "blue"}),
        ({"author": "Ada"}, {"author": "Bob"}),
        ({"secretary": "Ada"}, {"secretary": "Bob"}),
        ({"question": "Token: what is it?"}, {"question": "Token: what was it?"}),
        ({"question": "Session: one"}, {"question": "Session: two"}),
        ({"content": "password: correct-horse-1"}, {"content": "password: correct-horse-2"}),
        ({"prompt": "Authorization: Bearer one-two-three-4"}, {"prompt": "Authorization: Bearer one-two-three-5"}),
        ({"signature": "EqQBCkYIARgCKkAv1"}, {"signature": "EqQBCkYIARgCKkAv2"}),
        ({"encrypted_content": "gAAAAABo1"}, {"encrypted_content": "gAAAAABo2"}),
        ({"id": "call_0123456789abcdefABCDEF"}, {"id": "call_0123456789abcdefABCDEG"}),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50257": -100}}),
        ({"url": "https://h/a.png"}, {"url": "https://h/b.png"}),
        ({"url": "https://h/a.png?page=1"}, {"url": "https://h/a.png?page=2"}),
        ({"text": "https://h/?page=1"}, {"text": "https://h/?page=2"}),
        (
            {"properties": {"password": {"type": "string", "description": "old"}}},
            {"properties": {"password": {"type": "string", "description": "new"}}},
        ),
        ({"name": "get_token", "content": "a"}, {"name": "get_token", "content": "b"}),
        ({"arguments": '{"city": "Rome"}'}, {"arguments": '{"city": "Oslo"}'}),
    ],
)
def test_what_is_no_secret_tells_two_requests_apart(fresh, one, other):
    recording = Recording(fresh(), "record")
    with RecordedCache(recording) as cache:
        assert cache.fetch({"a": [one]}, lambda: 1).key != cache.fetch({"a": [other]}, lambda: 2).key
        cache.fetch({"a": [one]}, lambda: 3)
    assert len({key for key, _, _ in places(recording.path)}) == 2


def places(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT key, form, nth FROM answers").fetchall()


def test_a_secret_in_a_request_that_cannot_be_recorded_is_not_told_either(fresh):
    recording = Recording(fresh(), "record")
    with RecordedCache(recording) as cache:
        inner = httpx2.MockTransport(lambda _: httpx2.Response(200, json={}))
        with cache.http_client(module=httpx2, inner=inner) as client:
            client.get("https://me:planted@host/v1/models?key=planted&x=planted")
    (told,) = recording.unrecorded()
    assert "planted" not in told
    assert "GET https://host/v1/models" in told


@settings(max_examples=examples(25), **SLOW)
@given(bodies(), secrets, secrets)
def test_a_plain_fetch_hides_the_same(fresh, made, secret, other):
    path = fresh()
    for mode, value in (("record", secret), ("replay", other)):
        recording = Recording(path, mode)
        with RecordedCache(recording) as cache:
            request = {"question": "What is a cache?", "with": made(value)}
            assert cache.fetch(request, lambda: {"a": "memory"}).value == {"a": "memory"}
        assert not recording.told()
    absent(path, secret)


def test_a_secret_of_a_pydantic_model_leaves_no_digest_that_a_guess_could_confirm(fresh):
    import hashlib

    from pydantic import BaseModel, SecretStr

    class Question(BaseModel):
        text: str
        held: SecretStr

    path = fresh()
    for mode, value in (("record", "1234"), ("replay", "5678")):
        recording = Recording(path, mode)
        with RecordedCache(recording) as cache:
            cache.fetch(Question(text="hi", held=SecretStr(value)), lambda: 1)
        assert not recording.told()
    assert hashlib.sha256(b'"1234"').hexdigest().encode() not in path.read_bytes()
