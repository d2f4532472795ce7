"""Users without all rights: with keys and without channels, and behind servers with an older protocol."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from askonce import Cache
from askonce.cli.checks import checks
from askonce.cli.place import find
from askonce.store.redis import trouble
from askonce.testing.servers import ValkeyServer

REQUEST = {"model": "m", "messages": []}
RIGHTS = {
    "no channels": ["~*", "resetchannels", "+@all"],
    "no command of channels": ["~*", "allchannels", "+@all", "-@pubsub"],
    "another's channels": ["~*", "resetchannels", "&other:*", "+@all"],
}


@pytest.fixture(params=RIGHTS)
def url(request):
    with ValkeyServer() as server:
        server.command("ACL", "SETUSER", "limited", "on", ">p", *RIGHTS[request.param])
        yield server.url.replace("redis://", "redis://limited:p@")


def together(caches, ask):
    """What each cache says to the same question, asked by all at almost the same time."""
    got = []
    crowd = [threading.Thread(target=lambda cache=cache: got.append(ask(cache))) for cache in caches]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(60)
    assert len(got) == len(caches)
    return got


@pytest.mark.servers
def test_without_channels_whoever_waits_asks_again_and_nobody_pays_twice(url, caplog):
    caplog.set_level(logging.WARNING, "askonce")
    paid = []

    def call():
        paid.append(1)
        time.sleep(0.5)  # stands for an upstream; what is measured is who pays
        return {"said": len(paid)}

    # Two names of one server: each has its own background thread, like another process.
    with Cache(url) as here, Cache(url.replace("127.0.0.1", "localhost")) as there:
        outcomes = together([here, there, here, there], lambda cache: cache.fetch(REQUEST, call))
        assert [outcome.value for outcome in outcomes] == [{"said": 1}] * 4
        assert {outcome.status.detail for outcome in outcomes} == {""}
    assert any("may not subscribe" in record.message for record in caplog.records)
    assert len(caplog.records) <= 2


@pytest.mark.servers
def test_without_channels_a_stream_is_still_followed_from_another_process(url):
    opened = []

    def stream():
        opened.append(1)
        for number in range(4):
            time.sleep(0.15)  # stands for an upstream
            yield {"at": number}

    with Cache(url) as here, Cache(url.replace("127.0.0.1", "localhost")) as there:
        got = together([here, there], lambda cache: list(cache.fetch_stream(REQUEST, stream)))
    assert got == [[{"at": number} for number in range(4)]] * 2
    assert len(opened) == 1


@pytest.mark.servers
def test_a_doctor_names_the_right_that_is_missing(url):
    bad = [check for check in checks(find(url, None)) if check.state == "bad"]
    assert bad
    assert all("&{" in check.remedy for check in bad)


@pytest.mark.parametrize("said", ["unknown command 'HELLO'", "NOPROTO unsupported protocol version"])
def test_a_server_that_speaks_no_resp3_is_told_of_in_clear_words(said):
    assert "RESP3" in str(trouble.connecting(ConnectionError(said)))
