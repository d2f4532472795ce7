"""Where a gateway listens: at what it says, and at all that its operator means."""

from __future__ import annotations

import contextlib
import socket

import pytest

from askonce.gateway.sockets import listening


def reachable(port: int) -> set[str]:
    found = set()
    for address in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((address, port), 5):
            found.add(address)
    return found


BOTH = {"127.0.0.1", "::1"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("host", "reached"),
    [("::", BOTH), ("0::0", BOTH), ("0.0.0.0", {"127.0.0.1"}), ("127.0.0.1", {"127.0.0.1"}), ("::1", {"::1"})],
)
def test_every_network_is_that_of_both_kinds_of_addresses(host, reached, workers):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    sockets = listening(host, 0, workers)
    try:
        ports = {one.getsockname()[1] for mine in sockets for one in mine}
        assert len(ports) == 1
        assert len(sockets) == workers
        assert reachable(ports.pop()) == reached
    finally:
        for mine in sockets:
            for one in mine:
                one.close()
