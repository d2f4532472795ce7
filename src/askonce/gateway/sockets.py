"""Listening sockets: one for each worker and address, so that the kernel spreads connections evenly.

Workers that share one socket are woken in the order in which they slept last, and a few of them get most connections.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from itertools import chain

from askonce.core.wording import shown
from askonce.errors import ConfigError

BACKLOG = 2048
TRIES = 8  # ports that are tried where any free one will do
_SHARED = getattr(socket, "SO_REUSEPORT", None)


def listening(host: str, port: int, workers: int) -> list[list[socket.socket]]:
    """The sockets of each worker; ConfigError if the address cannot be had. Port 0: any free one, the same for all."""
    if workers > 1 and _SHARED is None:
        raise ConfigError("several workers need SO_REUSEPORT, which this system lacks: write --workers 1")
    addresses = _addresses(host, port)
    for _ in range(TRIES):
        found: list[list[socket.socket]] = [[] for _ in range(workers)]
        try:
            _listen_at_all(addresses, port, found)
        except OSError as wrong:
            for one in chain(*found):
                one.close()
            if port == 0 and wrong.errno == errno.EADDRINUSE:
                continue  # free at one address, and not at the next: take another one
            raise ConfigError(_why(host, port, wrong)) from None
        return found
    raise ConfigError(f"no port is free at all addresses of {host}: write a --port")


def _listen_at_all(
    addresses: Sequence[tuple[int, tuple[str, int]]], port: int, found: list[list[socket.socket]]
) -> None:
    """Listen at each address that this machine has; the error of the last one that it has not, if it has none."""
    skipped: OSError | None = None
    for family, address in addresses:
        try:
            port = _listen_at(family, (address[0], port or address[1], *address[2:]), found)
        except OSError as wrong:
            if wrong.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            skipped = wrong
    if skipped is not None and not found[0]:
        raise skipped


def _addresses(host: str, port: int) -> Sequence[tuple[int, tuple[str, int]]]:
    try:
        infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as wrong:  # the latter: a name that no resolver takes
        why = getattr(wrong, "strerror", None) or "no name of a host"
        raise ConfigError(f"--host {shown(host)} names no address ({why}): write 127.0.0.1 or 0.0.0.0") from None
    found: list[tuple[int, tuple[str, int]]] = [(info[0], info[4]) for info in infos]  # type: ignore[misc]
    if any(family == socket.AF_INET6 and _is_any(address[0]) for family, address in found):
        # Every network, IPv4 too: in a socket of its own, whose peers have plain addresses and no mapped ones.
        found.append((socket.AF_INET, ("0.0.0.0", port)))  # noqa: S104 - as was asked for
    return list(dict.fromkeys(found))


def _is_any(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


def _listen_at(family: int, address: tuple[object, ...], found: list[list[socket.socket]]) -> int:
    """Listen at an address for each worker; return the port."""
    shared = len(found) > 1
    if shared and address[1]:
        _bound(family, address, shared=False).close()  # a shared socket would be given beside another program's
    for mine in found:
        made = _bound(family, address, shared=shared)
        made.listen(BACKLOG)
        mine.append(made)
        address = (address[0], made.getsockname()[1], *address[2:])
    port = address[1]
    assert isinstance(port, int)
    return port


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            assert _SHARED is not None
            made.setsockopt(socket.SOL_SOCKET, _SHARED, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    made.set_inheritable(False)
    return made


def _why(host: str, port: int, wrong: OSError) -> str:
    if wrong.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: stop the other program, or write another --port"
    if wrong.errno in {errno.EACCES, errno.EPERM}:
        return f"port {port} of {host} is not allowed to this user: write a --port above 1023"
    return f"cannot listen at {host} port {port} ({wrong.strerror}): write another --host"
