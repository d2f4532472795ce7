"""Requests that are meant to do harm: their paths, their framing, their heads, their slowness."""

from __future__ import annotations

import json
import re
import socket
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.asking import Provider, ask, configured, told, was_hit
from tests.gateway.running import Running, Tap, raw_call, received, request, serving
from tests.remains import resident

BODY = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}).encode()
KEY = "Authorization: Bearer sk-a"
TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def tap():
    with Tap(Provider()) as tap:
        yield tap


@pytest.fixture(scope="module")
def running(tap):
    with serving(tap.url, admin_token=TOKEN, limits_body_timeout=2, limits_head_timeout=1) as running:
        yield running


measured = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def statuses(said):
    return [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d{3})", said, re.MULTILINE)]


def alive(running):
    """Whether the gateway still serves, as before."""
    return statuses(raw_call(running.port, request(BODY, headers=(KEY,)))) == [200]


# --- framing -----------------------------------------------------------------------------------------------------

CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
HOST = b"Host: gateway\r\n"
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
AUTH = KEY.encode() + b"\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: gateway\r\n\r\n"

SMUGGLING = {
    "length and chunks": LINE + HOST + LENGTH + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "chunks and length": LINE + HOST + CHUNKED + LENGTH + b"\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": LINE + HOST + b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + SMUGGLED,
    "the same length twice": LINE + HOST + LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": LINE + HOST + b"Content-Length: 43, 43\r\n\r\n" + SMUGGLED,
    "a negative length": LINE + HOST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a signed length": LINE + HOST + b"Content-Length: +43\r\n\r\n" + SMUGGLED,
    "a hexadecimal length": LINE + HOST + b"Content-Length: 0x2b\r\n\r\n" + SMUGGLED,
    "a huge length": LINE + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "an empty length": LINE + HOST + b"Content-Length: \r\n\r\n" + SMUGGLED,
    "an unknown coding": LINE + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked not last": LINE + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": LINE + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a tab before chunked": LINE + HOST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space before the colon": LINE + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a space before the length's colon": LINE + HOST + b"Content-Length : 43\r\n\r\n" + SMUGGLED,
    "a folded header": LINE + HOST + b"X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
    "a folded length": LINE + HOST + b"Content-Length:\r\n 43\r\n\r\n" + SMUGGLED,
    "bare line feeds": LINE.replace(b"\r", b"") + HOST.replace(b"\r", b"") + b"\n" + SMUGGLED,
    "a bare line feed in the head": LINE + b"X-A: 1\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a bare carriage return": LINE + b"X-A: 1\rTransfer-Encoding: chunked\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a NUL in a value": LINE + HOST + b"X-A: a\0b\r\n\r\n" + SMUGGLED,
    "a NUL in a name": LINE + HOST + b"X\0A: a\r\n\r\n" + SMUGGLED,
    "a NUL in the path": b"GET /v1\0 HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a bad chunk size": LINE + HOST + CHUNKED + b"\r\nzz\r\n\r\n" + SMUGGLED,
    "a chunk that is longer than it says": LINE + HOST + CHUNKED + b"\r\n2\r\nabcd\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk size with a bare line feed": LINE + HOST + CHUNKED + b"\r\n2\nab\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk extension with a bare line feed": LINE + HOST + CHUNKED + b"\r\n2;a\nb\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "an enormous chunk size": LINE + HOST + CHUNKED + b"\r\nfffffffffffffffff\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "no Host": LINE + LENGTH + b"\r\n" + BODY,
    "two Hosts": LINE + HOST + b"Host: evil\r\n" + LENGTH + b"\r\n" + BODY,
    "the same Host twice": LINE + HOST + HOST + LENGTH + b"\r\n" + BODY,
    "an empty name": LINE + HOST + b": x\r\n\r\n" + SMUGGLED,
    "no colon": LINE + HOST + b"nonsense\r\n\r\n" + SMUGGLED,
    "no version": b"POST /v1/chat/completions\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a version of tomorrow": b"POST /v1/chat/completions HTTP/3.7\r\n" + HOST + b"\r\n" + SMUGGLED,
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + SMUGGLED,
    "an unknown method": b"SMUGGLE / HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED,
    "a body for GET by old rules": b"GET /x HTTP/1.0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("shape", SMUGGLING, ids=SMUGGLING)
def test_nothing_is_smuggled_past_the_gateway(running, tap, shape):
    before = len(tap.heard)
    said = raw_call(running.port, SMUGGLING[shape], timeout=10)
    assert not [one for one in tap.heard[before:] if b"smuggled" in one.line], shape
    assert [status for status in statuses(said) if status < 400] == [], shape
    assert alive(running)


@pytest.mark.parametrize(
    "head",
    [
        b"X-A: a\r\nAuthorization: Bearer sk-b\r\n",
        b"X-A: a%0d%0aAuthorization: Bearer sk-b\r\n",
        "X-A: a\u560d\u560aauthorization: x\r\n".encode(),
        b"askonce-scope: a\x85b\r\n",
        b"askonce-tags: a%0d%0aset-cookie: x\r\n",
        b"askonce-variant: x\ty\r\n",
        b"cache-control: max-age=1\x0bset-cookie\r\n",
        b"askonce-scope: " + b"\xff" * 20 + b"\r\n",
        b"askonce-scope: " + b"a/" * 20_000 + b"\r\n",
        b"askonce-tags: " + b"a," * 20_000 + b"\r\n",
        b"askonce-variant: " + b"9" * 5_000 + b"\r\n",
        b"askonce-ttl: " + b"9" * 5_000 + b"\r\n",
        b"cache-control: " + b"max-age=9," * 5_000 + b"\r\n",
        b"cookie: " + b"a=1;" * 10_000 + b"\r\n",
    ],
    ids=range(14),
)
def test_what_headers_say_stays_in_their_own_lines(running, tap, head):
    data = LINE + HOST + head + LENGTH + b"Connection: close\r\n\r\n" + BODY
    said = raw_call(running.port, data)
    lines = said.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert not [line for line in lines if line.startswith(b"set-cookie")]
    assert statuses(said)[:1] != [500]
    assert len(statuses(said)) == 1
    assert alive(running)


# --- paths -------------------------------------------------------------------------------------------------------

PATHS = [
    *(
        "/_askonce/api/stats",
        "/_askonce/",
        "/_askonce",
        "/_askonce//api",
        "//_askonce/api",
        "/_askonce/api/../api/stats",
    ),
    *(
        "/_ASKONCE/api/stats",
        "/%5faskonce/api/stats",
        "/%5Faskonce/api/stats",
        "/_askonce%2fapi%2fstats",
        "/./_askonce/",
    ),
    *(
        "/v1/../_askonce/api/stats",
        "/v1/%2e%2e/_askonce/api/stats",
        "/_askonce;a=b/api/stats",
        "/_askonce/api/stats%00",
    ),
    *(
        "/_askonce\\api\\stats",
        "/x/..;/_askonce/api/stats",
        "http://gateway/_askonce/api/stats",
        "/_askonce/api/entries",
    ),
    *(
        "http://169.254.169.254/latest/meta-data",
        "//169.254.169.254/latest",
        "/@169.254.169.254/",
        "/.169.254.169.254/",
    ),
    *("http://evil.example/v1/chat/completions", "/\\evil.example/", "*", "/?//evil.example", "/#@evil.example/"),
    *("/v1/chat%2Fcompletions", "/v1/chat/../chat/completions", "/v1//chat/completions", "/v1/chat/completions/"),
    *("/%252e%252e/_askonce/api", "/_askonce/..%2f..%2fetc/passwd", "/_askonce/static/../../../etc/passwd", "/%"),
    *("/_askonce/static/%2e%2e/%2e%2e/pyproject.toml", "/%ff%fe", "/" + "a/" * 5000, "/" + "%2e%2e/" * 500 + "etc"),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
@pytest.mark.parametrize("method", ["POST", pytest.param("GET", marks=pytest.mark.slow)])
def test_no_path_reaches_another_host_or_what_is_behind_the_token(running, tap, path, method):
    before = len(tap.heard)
    head = f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    said = raw_call(running.port, head.encode())
    (status, *more) = statuses(said) or [0]
    if not path.startswith("/") and "//gateway/" not in path:
        assert (status, tap.heard[before:]) == (400, [])
    assert more == []
    assert status != 500, said[:300]
    if status == 200 and "askonce" in path.lower():
        assert not re.search(rb'"(entries|stats|hits|prefix)"', said), said[:300]
    for heard in tap.heard[before:]:
        # What passes arrives as it was spelled: another spelling could name another thing.
        assert heard.line.split(b" ")[1].decode("latin-1") == path
        hosts = [value.decode() for name, value in heard.headers if name.lower() == b"host"]
        assert hosts == [tap.host]
    assert alive(running)


def test_an_error_page_repeats_nothing_of_the_request(running):
    secret = "sk-proj-verysecret"
    for data in (
        request(BODY, headers=(f"Authorization: Bearer {secret}", "Host: x")),
        request(BODY, path=f"/v1/chat/completions?key={secret}", headers=("Host: x",)),
        f"GET /_askonce/{secret} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode(),
        f"GET /_askonce/api/{secret} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode(),
        f"BREW /{secret} HTTP/1.1\r\nHost: g\r\n\r\n".encode(),
    ):
        assert secret.encode() not in raw_call(running.port, data)


@pytest.mark.parametrize("scheme", ["NTLM abc", "negotiate abc=", " Negotiate\tabc", "Kerberos abc"])
def test_a_credential_that_authenticates_a_connection_is_not_sent_on_one_that_others_use(running, tap, scheme):
    before = len(tap.heard)
    said = raw_call(running.port, request(BODY, headers=(KEY, f"authorization: {scheme}")))
    assert (statuses(said), tap.heard[before:]) == ([501], [])


# --- size and slowness -------------------------------------------------------------------------------------------


@measured
def test_a_head_that_never_ends_is_refused_before_it_takes_memory(running):
    before = resident()
    for line in (b"X-A: " + b"a" * 65_000 + b"\r\n", b"a" * 65_000):
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as caller:
            caller.sendall(LINE + HOST)
            sent = 0
            try:
                while sent < 64 * 2**20:
                    caller.sendall(line)
                    sent += len(line)
            except OSError:
                pass
            assert sent < 8 * 2**20
    assert resident() - before < 16 * 2**20
    assert alive(running)


def test_a_head_of_many_small_headers_is_refused(running):
    many = b"".join(b"a%d:\r\n" % number for number in range(6000))
    began = time.process_time()
    for lines in (many, many[: len(many) // 2], b"a:\r\n" * 501):
        assert statuses(raw_call(running.port, LINE + HOST + lines + b"\r\n")) == [431]
    assert time.process_time() - began < 1
    few = b"a:\r\n" * 400
    assert statuses(
        raw_call(running.port, LINE + HOST + AUTH + few + LENGTH + b"Connection: close\r\n\r\n" + BODY)
    ) == [200]


@measured
def test_a_body_of_100_mb_passes_and_takes_no_memory_of_its_size(running, tap):
    size, piece, seen = 100 * 2**20, b"a" * 2**20, []
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as caller:
        close = b"Connection: close\r\n"
        caller.sendall(b"POST /v1/files HTTP/1.1\r\n" + HOST + AUTH + close + b"Content-Length: %d\r\n\r\n" % size)
        before = resident()
        for _ in range(size // len(piece)):
            caller.sendall(piece)
            seen.append(resident())
        assert statuses(received(caller)) == [200]
    assert max(seen) - before < 32 * 2**20
    assert alive(running)


@pytest.mark.parametrize(
    "part",
    ["a head", *(pytest.param(part, marks=pytest.mark.slow) for part in ("nothing", "a line", "a body", "chunks"))],
)
def test_a_slow_caller_is_let_go_and_holds_nobody_up(running, part):
    begun = {
        "nothing": b"",
        "a line": b"POST /v1",
        "a head": LINE + HOST + b"X-A: ",
        "a body": LINE + HOST + AUTH + b"Content-Length: 1000000\r\n\r\n",
        "chunks": LINE + HOST + AUTH + CHUNKED + b"\r\n",
    }[part]
    drop = b"1\r\na\r\n" if part == "chunks" else b"a"
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as caller:
        caller.sendall(begun)
        began = time.monotonic()
        caller.settimeout(0.2)
        while time.monotonic() - began < 12:
            try:
                if part != "nothing":
                    caller.sendall(drop)
                said = caller.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            if part != "nothing" and said:
                assert statuses(said) == [408]
            break
        else:
            pytest.fail("it is still open")
    assert alive(running)


# --- at random ---------------------------------------------------------------------------------------------------

NAMES = [b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"askonce-scope", b"askonce-tags"]
NAMES += [b"askonce-ttl", b"askonce-mode", b"askonce-tenant", b"cache-control", b"Connection", b"Expect", b"Upgrade"]
NAMES += [b"Content-Type", b"Accept", b"x-api-key", b"cookie", b"Range", b"Accept-Encoding", b"X-Forwarded-For", b"Via"]
VALUES = [b"0", b"5", b"chunked", b"gateway", b"Bearer sk-a", b"Bearer sk-x", b"close", b"100-continue", b"h2c", b"a/b"]
VALUES += [
    b"no-cache",
    b"no-store",
    b"max-age=0",
    b"only-if-cached",
    b"-1",
    b"nan",
    b"gzip",
    b"text/event-stream",
    b"*",
]
HEADERS = st.tuples(
    st.sampled_from(NAMES) | st.binary(max_size=12), st.sampled_from(VALUES) | st.binary(max_size=30)
).map(lambda pair: pair[0] + b": " + pair[1])
TARGETS = st.sampled_from([one.encode() for one in PATHS if len(one) < 100] + [b"/v1/chat/completions"] * 20)
LINES = st.tuples(
    st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"X"]),
    TARGETS | st.binary(max_size=30),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""]),
).map(b" ".join)
VALUES_OF_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["model", "messages", "stream", "input", "tools", "user", "metadata", "temperature", "n", "store"]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.just(BODY),
    st.dictionaries(FIELDS | st.text(max_size=5), VALUES_OF_JSON, max_size=6).map(lambda one: json.dumps(one).encode()),
    st.dictionaries(FIELDS, VALUES_OF_JSON, max_size=4).map(
        lambda one: json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **one}).encode()
    ),
)


@st.composite
def requests(draw):
    """Bytes that are a request, or nearly one."""
    headers = draw(st.lists(HEADERS, max_size=6))
    body = draw(BODIES)
    if draw(st.booleans()):
        headers += [b"Host: gateway", b"Content-Length: %d" % len(body)]
    if draw(st.booleans()):
        headers.append(b"Authorization: Bearer " + draw(st.sampled_from([b"sk-a", b"sk-b", b"sk-x"])))
    data = b"\r\n".join([draw(LINES), *headers, b"Connection: close", b"", b""]) + body
    cut = draw(st.integers(0, len(data)) | st.none())
    if draw(st.integers(0, 9)) == 0 and cut is not None:
        return data[:cut] + draw(st.binary(max_size=4)) + data[cut + 1 :]
    return data


def try_at_random(running, data):
    said = raw_call(running.port, data, over=True)
    assert 500 not in statuses(said), said
    if b"Bearer sk-a" not in data and b"Bearer sk-b" not in data:
        assert b'"answer ' not in said, "an answer without a credential that upstream accepts"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(requests())
def test_random_requests_bring_no_error_of_ours_and_no_answer_to_strangers(running, data):
    try_at_random(running, data)


def test_the_gateway_lives_on_after_random_requests(running):
    assert alive(running)


@measured
@pytest.mark.slow
def test_ten_thousand_random_requests_leave_memory_flat(tmp_path, tap):
    with Running(configured(tmp_path, tap, "[tenants]\nby = 'shared'\n[limits]\nbody_timeout = 2\n")) as running:
        ask(running, "sk-a")

        @settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(requests())
        def many(data):
            try_at_random(running, data)

        many()
        before = resident()
        many()
        grown = resident() - before
        assert told(ask(running, "sk-a")).startswith("answer")
        assert was_hit(ask(running, "sk-a"))
    assert grown < 40 * 2**20
