"""What is remembered of the names of headers says of any headers what looking at each of them says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from askonce.gateway import heads, wire
from askonce.gateway.heads import ended_by
from askonce.http.call import decoded
from askonce.http.credentials import Header
from askonce.http.header_names import LARGEST, SHAPES, Places
from askonce.http.response import Response, age_of, of_connection, pack, personal, unpack

NAMES = [
    *(b"Host", b"content-length", b"Connection", b"transfer-encoding", b"Upgrade", b"expect", b"TE", b"Keep-Alive"),
    *(b"authorization", b"content-type", b"Age", b"age", b"set-cookie", b"x-request-id", b"content-encoding", b"x-a"),
    *(b"retry-after", b"x-ratelimit-limit-requests", b"cache-status", b"via", b"cf-ray", b"X-A"),
]
VALUES = [
    b"",
    b"1",
    b"keep-alive",
    b"close, x-a",
    b"x-request-id",
    b"gzip",
    b"chunked",
    b"NTLM x",
    b"Bearer k",
    b"upgrade",
]
headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=12)


@given(headers)
def test_what_crosses_of_an_answer_is_what_crosses_header_by_header(came: list[Header]) -> None:
    named = {name for key, value in came if key.lower() == b"connection" for name in ended_by(value)}
    gone = {b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection", b"te", b"trailer"}
    assert heads.returned(came) == [pair for pair in came if pair[0].lower() not in gone | named]


@given(headers)
def test_what_is_kept_of_an_answer_is_what_is_kept_header_by_header(came: list[Header]) -> None:
    words = [value.lower().split(b",") for name, value in came if name.lower() == b"connection"]
    named = {word.strip() for line in words for word in line}
    kept = [(name, value) for name, value in came if not of_connection(name) and name.lower() not in named]
    kept = [(name, value) for name, value in kept if not (name.lower() == b"content-encoding" and value == b"gzip")]
    assert decoded(wire, came) == kept
    for stored in (True, False):
        made = unpack(pack(Response(200, came, b""), stored=stored))
        assert isinstance(made, Response)
        assert made.headers == [pair for pair in came if not personal(pair[0], rates=stored)]


@given(headers)
def test_an_age_is_the_highest_one(came: list[Header]) -> None:
    assert age_of(came) == int(any(name.lower() == b"age" and value == b"1" for name, value in came))


def test_only_so_many_names_are_remembered() -> None:
    places = Places(lambda name: name == b"a")
    for number in range(3 * SHAPES):
        assert places.of([(b"a", b""), (b"%d" % number, b"")]) == (0,)
    assert 0 < len(places) <= SHAPES
    long = [(b"x" * LARGEST, b""), (b"a", b"")]
    assert places.of(long) == (1,)
    assert tuple(name for name, _ in long) not in places
