"""The admin API of a real gateway, behind its server: who gets there, and by which paths."""

import contextlib
import json
import threading

import hypothesis
import pytest
from hypothesis import strategies as st

from askonce import AsyncCache
from askonce.cli import main
from askonce.gateway.app import Gateway
from tests.crowd import eventually
from tests.gateway.mounted import SHOWN, TOKEN
from tests.gateway.running import CLIENT, JSON, Tap, answer, config_of, raw_call, request, serving

BODY = {"model": "the-model-of-a-secret", "messages": [{"role": "user", "content": "hi"}]}
LEAKS = (b"the-model-of-a-secret", b"sqlite:", b"memory:", b"openapi", TOKEN.encode())
ADMIN = {"admin_token": TOKEN}


@contextlib.contextmanager
def filled(**more):
    """A gateway with one answer, and its upstream."""
    with Tap() as tap, serving(tap.url, **more) as gateway:
        headers = {"authorization": "Bearer sk-one"}
        assert CLIENT.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers, timeout=30).content == JSON
        yield gateway, tap


PATHS = [
    "",
    "/",
    "/api",
    "/api/",
    "/api/stats",
    "/api/entries?limit=1",
    "/api/openapi.json",
    "/metrics",
    "/metrics/",
    "/x",
]


def test_without_a_token_of_its_own_a_gateway_has_no_admin_api_whatever_is_shown():
    with filled() as (gateway, tap):
        for path in PATHS:
            for headers in ((), ("Authorization: Bearer ",), (f"Authorization: Bearer {TOKEN}",)):
                said = raw_call(gateway.port, request(method="GET", path=f"/_askonce{path}", headers=headers))
                assert said.startswith(b"HTTP/1.1 404"), path
                assert not any(leak in said for leak in LEAKS)
        assert len(tap.heard) == 1


@pytest.mark.parametrize("path", ["/api/stats", "/api/", "/api/openapi.json", "/metrics"])
def test_whoever_shows_the_token_is_answered_and_nobody_else(path):
    with filled(**ADMIN) as (gateway, _):
        said = CLIENT.get(f"{gateway.url}/_askonce{path}", headers=SHOWN, timeout=30)
        assert said.status_code == 200
        assert CLIENT.get(f"{gateway.url}/_askonce{path}", timeout=30).status_code == 401


TRICKS = [
    "/_askonce//api/stats",
    "//_askonce/api/stats",
    "/_askonce/api//stats",
    "/_askonce/./api/stats",
    "/_askonce/health/../api/stats",
    "/_askonce/health/..;/api/stats",
    "/_askonce/ready/%2e%2e/api/stats",
    "/v1/../_askonce/api/stats",
    "/v1/%2e%2e/_askonce/api/stats",
    "/%5faskonce/api/stats",
    "/_askonce/%61pi/stats",
    "/_askonce%2fapi%2fstats",
    "/_askonce/api%2fstats",
    "/_askonce/api;x=1/stats",
    "/_askonce/api/stats;",
    "/_askonce/api/stats/",
    "/_askonce/api/stats%00",
    "/_askonce/api/stats%0d%0aauthorization:%20Bearer",
    "/_askonce\\api\\stats",
    "/_ASKONCE/API/STATS",
    "/_askonce/api/../api/stats",
    "/_askonce/static/../api/stats",
    "/_askonce/metrics/../api/stats",
    "/_askonce/api/stats?token=" + TOKEN,
    "/_askonce/api/stats#" + TOKEN,
    "http://gateway/_askonce/api/stats",
    "http://gateway//_askonce/api/stats",
    "/_askonce/api/entries/..%2f..%2fstats",
    "*",
    "_askonce/api/stats",
]
ALSO = [
    (),
    ("X-Original-URL: /_askonce/api/stats",),
    ("X-Rewrite-URL: /_askonce/api/stats", "X-Forwarded-Prefix: /_askonce"),
    ("X-HTTP-Method-Override: GET", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: gateway"),
    (f"Cookie: askonce_session={TOKEN}", f"X-Api-Key: {TOKEN}"),
    (f"Proxy-Authorization: Bearer {TOKEN}",),
    (f"Authorization: Bearer wrong, Bearer {TOKEN}",),
    ("Authorization: Bearer wrong", "Transfer-Encoding: identity"),
]


def test_no_spelling_of_a_path_gets_anything_without_the_token():
    with filled(**ADMIN) as (gateway, _):
        for path in TRICKS:
            for headers in ALSO if path in TRICKS[:3] else ALSO[:2]:
                said = raw_call(gateway.port, request(method="GET", path=path, headers=headers))
                shown = said.replace(TOKEN.encode(), b"") if TOKEN in path else said
                assert not any(leak in shown for leak in LEAKS), (path, headers, said[:300])
        stats = CLIENT.get(f"{gateway.url}/_askonce/api/stats", headers=SHOWN, timeout=30).json()
        assert stats["states"] == {"fresh": 1}


def test_no_spelling_of_a_path_takes_the_token_to_an_upstream():
    with filled(**ADMIN) as (gateway, tap):
        for path in TRICKS:
            raw_call(gateway.port, request(method="GET", path=path, headers=(f"Authorization: Bearer {TOKEN}",)))
        assert [heard.line for heard in tap.heard[1:]] == []
        # What only looks a little like it is the upstream's.
        for path in ("/v1/askonce", "/v1/files/_askonce.txt", "/x_askonce/api"):
            raw_call(gateway.port, request(method="GET", path=path))
        assert len(tap.heard) == 4


def _spelt(letter):
    """A letter of a path, or its escape in one of two cases."""
    escape = f"%{ord(letter):02x}"
    return st.sampled_from([letter, escape, escape.upper(), letter.upper()])


BEFORE = st.lists(st.sampled_from(["", ".", "%2e", "v1/..", "v1/%2E%2e", "health/..;", "\\"]), max_size=3)
SPELT = st.tuples(*[_spelt(letter) for letter in "_askonce"]).map("".join)
PATHS_SPELT = st.builds(
    lambda before, name: "/" + "".join(f"{one}/" for one in before) + name + "/api/stats", BEFORE, SPELT
)


def test_whatever_spelling_is_drawn_it_shows_nothing_without_the_token_and_takes_it_nowhere():
    with filled(**ADMIN) as (gateway, tap):

        @hypothesis.given(PATHS_SPELT)
        @hypothesis.settings(max_examples=30, deadline=None, database=None)
        def spelt(path):
            said = raw_call(gateway.port, request(method="GET", path=path))
            assert not any(leak in said for leak in LEAKS)
            raw_call(gateway.port, request(method="GET", path=path, headers=(f"Authorization: Bearer {TOKEN}",)))
            assert len(tap.heard) == 1

        spelt()


def test_a_body_that_is_another_request_is_no_request():
    inner = b"GET /_askonce/api/stats HTTP/1.1\r\nHost: gateway\r\n\r\n"
    shapes = [
        request(inner, headers=("Transfer-Encoding: chunked",)),
        request(b"0\r\n\r\n" + inner, headers=("Transfer-Encoding: chunked",)),
        request(inner, path="/_askonce/api/invalidate", headers=("Content-Type: application/json",)),
        request(inner, path="/_askonce/health", method="GET"),
        b"GET /_askonce/health HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n" + inner,
    ]
    with filled(**ADMIN) as (gateway, _):
        for shape in shapes:
            said = raw_call(gateway.port, shape)
            assert not any(leak in said for leak in LEAKS), shape


async def asked(gateway, path, server):
    """The status of a request that reached this local address."""
    sent = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("10.0.0.9", 5000),
        "headers": [(b"host", b"gateway"), (b"authorization", f"Bearer {TOKEN}".encode())], "server": server,
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await gateway(scope, receive, send)
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("bind", "reached", "refused"),
    [
        ("127.0.0.1", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"], ["10.0.0.5", "::", "2001:db8::1"]),
        ("10.0.0.5", ["10.0.0.5"], ["127.0.0.1", "10.0.0.6"]),
        ("0.0.0.0", ["127.0.0.1", "10.0.0.5"], []),
    ],
)
async def test_the_api_is_served_at_the_address_that_it_is_bound_to(bind, reached, refused):
    config = config_of("http://127.0.0.1:1", admin_token=TOKEN, admin_bind=bind)
    async with Gateway(config, cache=AsyncCache("memory://")) as gateway:
        for address in (*reached, *refused):
            status = 200 if address in reached else 404
            assert await asked(gateway, "/_askonce/api/about", (address, 8181)) == status, address
        await gateway.cache.aclose()


def test_a_gateway_lists_the_flights_of_another_and_the_command_line_prints_them(tmp_path, capsys, monkeypatch):
    going = threading.Event()

    def slow(_):
        going.wait(60)
        return answer()

    store = f"sqlite:///{tmp_path}/shared.db"
    with Tap(slow) as tap, serving(tap.url, store=store) as leads, serving(tap.url, store=store, **ADMIN) as lists:
        caller = threading.Thread(
            target=CLIENT.post,
            args=(f"{leads.url}/v1/chat/completions",),
            kwargs={"json": BODY, "headers": {"authorization": "Bearer sk"}, "timeout": 60},
        )
        caller.start()
        try:
            flights = eventually(
                lambda: CLIENT.get(f"{lists.url}/_askonce/api/flights", headers=SHOWN).json(), "the flight is listed"
            )
            monkeypatch.setenv("ASKONCE_TOKEN", TOKEN)
            assert main(["flights", "--url", lists.url, "--json"]) == 0
            (told,) = json.loads(capsys.readouterr().out)
        finally:
            going.set()
            caller.join(60)
    assert (flights[0]["here"], told["key"]) == (False, flights[0]["key"])
