"""What a doctor looks at where a gateway is named: whether it is one, is ready, takes the token, reaches its store."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from askonce import __version__
from askonce.cli import say
from askonce.cli.check import Check
from askonce.cli.place import Place
from askonce.cli.remedies import REMEDIES
from askonce.cli.remote import HEALTH, Gateway, GatewayView, Reply
from askonce.errors import AskonceError
from askonce.runtime.drive import drive
from askonce.store.redis.names import DEFAULT

READY = "/_askonce/ready"


def gateway_checks(place: Place) -> Iterator[Check]:
    """The diagnosis of a gateway, line by line; it ends early where nothing further can be tried."""
    return _walk(place, Gateway(place.url))


def _walk(place: Place, gateway: Gateway) -> Iterator[Check]:
    yield Check("gateway", f"{gateway.text} (named by {place.source})")
    reached = _reached(gateway)
    yield reached
    if reached.state == "bad":
        return
    yield _ready(gateway)
    yield from _encrypted(gateway)
    yield from _admin(gateway)


def _reached(gateway: Gateway) -> Check:
    begun = time.perf_counter()
    try:
        reply = gateway.ask("GET", HEALTH)
    except AskonceError as trouble:
        return Check("reach", str(trouble), "bad", "a gateway is named by its own address, as http://host:port")
    told = _told(reply)
    if reply.status != HTTPStatus.OK or told.get("status") != "ok":
        return Check("reach", f"{gateway.text} is no gateway of askonce", "bad", "check the address and its path")
    said = f"it answers after {say.time(time.perf_counter() - begun)}, version {told.get('version')}"
    if told.get("version") == __version__:
        return Check("reach", said)
    return Check("reach", said, "hint", f"this command is of version {__version__}: use the gateway's")


def _told(reply: Reply) -> dict[str, Any]:
    try:
        told = json.loads(reply.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _ready(gateway: Gateway) -> Check:
    told = _told(gateway.ask("GET", READY))
    if told.get("status") == "ready":
        return Check("ready", "it reaches its store")
    if told.get("status") == "uncached":
        kind = str(told.get("store"))
        remedy = REMEDIES.get(kind, "run askonce doctor where the gateway runs").format(prefix=DEFAULT)
        return Check("ready", f"calls go upstream uncached: its store fails ({kind})", "bad", remedy)
    return Check("ready", "it is about to end", "hint", "wait until its successor answers")


def _encrypted(gateway: Gateway) -> Iterator[Check]:
    if gateway.secure or not gateway.token.text or _is_loopback(gateway.host):
        return
    remedy = "write https://, with TLS in front of the gateway, or ask where the gateway runs"
    yield Check("token", "the token goes to another machine unencrypted", "hint", remedy)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _admin(gateway: Gateway) -> Iterator[Check]:
    try:
        about = drive(GatewayView(gateway).about())
    except AskonceError as trouble:
        yield Check("admin", str(trouble), "bad", "the other commands need the admin API: see docs/admin.md")
        return
    yield Check("admin", f"it takes the token of {gateway.token.source}")
    yield Check("store", about.store)
    yield Check("prefix", f'"{about.prefix}"' if about.prefix else "none")
