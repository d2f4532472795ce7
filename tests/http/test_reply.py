"""An answer's bytes, into the store and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.http.response import Failure, Response, pack, pack_failure, unpack

LATIN = st.text(st.characters(max_codepoint=255), max_size=20).map(lambda text: text.encode("latin-1"))


@given(st.integers(100, 599), st.lists(st.tuples(st.just(b"x-") | LATIN, LATIN), max_size=5), st.binary(max_size=99))
def test_a_reply_comes_back_as_it_was(status, headers, body):
    headers = [(b"x" + name, value) for name, value in headers]
    got = unpack(memoryview(pack(Response(status, headers, body), stored=False)))
    assert isinstance(got, Response)
    assert (got.status, list(got.headers), got.body) == (status, headers, body)


HEADERS = [
    *((b"Content-Type", b"application/json"), (b"x-request-id", b"r"), (b"date", b"today")),
    *((b"Set-Cookie", b"a=1"), (b"Connection", b"keep-alive"), (b"Age", b"3"), (b"alt-svc", b"h3")),
    *((b"x-ratelimit-remaining-tokens", b"1"), (b"anthropic-ratelimit-requests-limit", b"2"), (b"retry-after", b"3")),
]


def names(data: bytes) -> list[str]:
    got = unpack(data)
    assert isinstance(got, Response)
    return [name.decode().lower() for name, _ in got.headers]


def test_what_is_stored_is_free_of_what_was_the_first_readers_alone():
    assert names(pack(Response(200, HEADERS, b""), stored=True)) == ["content-type", "x-request-id", "date"]


def test_what_is_shared_keeps_the_limits_that_are_everybodys():
    shared = names(pack(Response(429, HEADERS, b""), stored=False))
    assert {"retry-after", "x-ratelimit-remaining-tokens"} <= set(shared)
    assert {"set-cookie", "connection", "age"}.isdisjoint(shared)


def test_whose_credential_was_refused_is_said_only_where_nothing_is_stored():
    reply = Response(401, [], b"", who="abc")
    refused = unpack(pack(reply, stored=False))
    assert isinstance(refused, Response)
    assert refused.who == "abc"
    assert b"abc" not in pack(reply, stored=True)


def test_a_failure_comes_back_by_its_name():
    failure = Failure("ReadTimeout", "the read timed out", 5.0)
    assert unpack(pack_failure(failure)) == failure


@pytest.mark.parametrize("data", [b"", b"\0\0\0\5hello", b"\0\0\0\2{}", b"\0\0\0\2[]", b"\xff\xff\xff\xff"])
def test_bytes_that_are_no_reply_are_refused_by_value_error(data):
    with pytest.raises(ValueError):
        unpack(data)
