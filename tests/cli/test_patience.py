"""Commands give a store that is slow for a moment the time that people have, and not the 0.2 s of a lookup."""

import threading

import pytest

from askonce import Cache
from askonce.cli import main
from askonce.testing.servers import ValkeyServer
from tests.took import Took


@pytest.mark.servers
@pytest.mark.parametrize("command", [["ls"], ["stats"], ["sweep"], ["savings"], ["invalidate", "--scope", "a"]])
def test_a_command_waits_for_a_store_that_is_frozen_for_a_second(command, capsys):
    with ValkeyServer() as server:
        with Cache(server.url) as cache:
            cache.fetch({"q": 1}, lambda: 1)
        server.freeze()
        thaw = threading.Timer(0.6, server.thaw)
        thaw.start()
        try:
            took = Took()
            assert main([command[0], "--url", server.url, *command[1:]]) == 0
            assert took.wall > 0.3
        finally:
            thaw.join()


def test_a_timeout_in_the_url_goes_before(monkeypatch):
    from askonce.cli.place import PATIENCE, patience

    assert patience("redis://host/0?socket_timeout=1") == {"socket_connect_timeout": PATIENCE}
    assert patience("rediss+cluster://host") == {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
    assert patience("sqlite:///a.db") == patience("memory://") == patience("http://host") == {}
