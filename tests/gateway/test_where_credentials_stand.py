"""Credentials in any place of a request, also in one that nobody knows: none gets what another one has, or refuses it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest

from tests.gateway.asking import DENIED, configured
from tests.gateway.running import JSON, Heard, Running, Tap, answer, raw_call, request

MODES = ["", "[tenants]\nby = 'shared'\n"]
GOOD, OTHER, BAD = "good-key-1", "good-key-2", "bad-key-1"
LINES = {
    "bearer": "Authorization: Bearer {}",
    "bearer in small letters": "authorization: bearer {}",
    "no scheme": "Authorization: {}",
    "an unknown scheme": "Authorization: Token {}",
    "a name and a password": "Authorization: Basic {}",
    "x-api-key": "X-API-KEY: {}",
    "azure": "api-key: {}",
    "google": "x-goog-api-key: {}",
    "azure's gateway": "Ocp-Apim-Subscription-Key: {}",
    "a cookie": "Cookie: session={}",
    "the second of two cookies": "Cookie: a=1; session={}",
    "the second of two headers": "Authorization: Bearer public\r\nAuthorization: Bearer {}",
    "beside another": "Authorization: Bearer public\r\nx-api-key: {}",
    "before another": "api-key: {}\r\nAuthorization: Bearer public",
    "a proxy's": "Proxy-Authorization: Bearer {}",
    "a header of nobody": "X-Acme-Pass: {}",
    "a header of nobody, beside another": "Authorization: Bearer public\r\nX-Acme-Pass: {}",
}
QUERIES = [
    "key={}",
    "KEY={}",
    "api_key={}",
    "access_token={}",
    "subscription-key={}",
    "token={}",
    "%6bey={}",
    "a={}&b=1",
]
PLACES = [
    *(pytest.param(("", line), id=name) for name, line in LINES.items()),
    *(pytest.param((f"?{query}", "X-A: 1"), id=f"?{query}") for query in QUERIES),
]


def says() -> Iterator[bytes]:
    for number in itertools.count(1):
        yield answer(JSON.replace(b'"yes"', f'"paid {number}"'.encode()))


@pytest.fixture(scope="module")
def tap():
    answers = says()

    def told(heard: Heard) -> bytes:
        said = b"\n".join([heard.line, heard.body, *map(b": ".join, heard.headers)])
        good = b"good-key-" in said and b"project=theirs" not in heard.line
        return next(answers) if good else answer(DENIED, "401 Unauthorized")

    with Tap(told) as tap:
        yield tap


@pytest.fixture(scope="module", params=MODES, ids=["by credential", "shared"])
def running(request, tap, tmp_path_factory):
    with Running(configured(tmp_path_factory.mktemp("mode"), tap, request.param)) as running:
        yield running


def ask(running: Running, place: tuple[str, str], key: str, text: str, **more: object) -> tuple[int, bytes, bytes]:
    """Status, Cache-Status and the answer."""
    query, line = (one.format(key) for one in place)
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    data = request(json.dumps(body).encode(), path=f"/v1/chat/completions{query}", headers=(line,))
    head, _, said = raw_call(running.port, data).partition(b"\r\n\r\n")
    lines = dict(one.split(b": ", 1) for one in head.split(b"\r\n")[1:])
    return int(head.split()[1]), lines.get(b"cache-status", b""), said


@pytest.mark.parametrize("place", PLACES)
def test_what_is_stored_goes_to_no_other_credential_and_no_refusal_to_a_good_one(running, place, request):
    def asked(key: str) -> tuple[int, bytes, bytes]:
        return ask(running, place, key, request.node.callspec.id)

    status, how, paid = asked(GOOD)
    assert (status, b"paid" in paid) == (200, True), how
    for _ in range(2):
        status, how, said = asked(BAD)
        assert (status, b"paid" in said, b"hit" in how) == (401, False, False)
    assert [asked(key)[0] for key in (GOOD, OTHER)] == [200, 200], "another one's refusal is no refusal of theirs"
    if b"bypass" not in how and b"tenant-needed" not in asked(GOOD)[1]:
        assert b"askonce; hit" in asked(GOOD)[1]


def test_a_refusal_of_a_credential_in_the_body_is_for_no_other_body(running):
    place = ("", "X-A: 1")
    assert ask(running, place, "", "body", api_key=BAD)[0] == 401
    assert ask(running, place, "", "body", api_key=GOOD)[0] == 200
    assert ask(running, place, "", "body", api_key=BAD)[0] == 401


def test_a_key_that_is_refused_for_one_query_is_not_refused_for_another(running):
    """An upstream may say 401 for a project, a deployment or a version that a key may not use."""
    line = "Authorization: Bearer {}"
    for query, status in [("project=mine", 200), ("project=theirs", 401)] * 2:
        assert ask(running, (f"?{query}", line), GOOD, "a query")[0] == status
