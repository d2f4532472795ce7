"""A gateway in place of a store: its admin API, asked over HTTP, answers what a View would.

The standard library's client, since the extra `cli` has no other. It follows no redirect and uses no proxy: the token
goes to the address that was given, and to no other one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from askonce.cli.token import Token, token_of
from askonce.core.savings import Savings
from askonce.core.why import Miss, Why
from askonce.errors import AskonceError, UsageError
from askonce.events import printable
from askonce.gateway.paths import OURS
from askonce.gateway.rebuilt import rebuilt
from askonce.gateway.results import About, Answers, Filter, Flight, Invalidated, Pulse, Rows, Stats, Swept
from askonce.gateway.savings_json import savings_of
from askonce.http.plain_request import PlainRequest

T = TypeVar("T")
API, HEALTH = f"{OURS}/api", f"{OURS}/health"
CONNECT = 5.0  # s
PATIENCE = 600.0  # s that a walk through a large store may take, at a gateway that is well
ASK = 10.0  # s for any other reply, from its first byte to its last one
LARGEST = 2**28  # bytes of an answer


class Reply(NamedTuple):
    """What came back."""

    status: int
    kind: str
    body: bytes

    @property
    def problem(self) -> str:
        """What a problem says; "" for anything else."""
        try:
            told = json.loads(self.body) if self.kind == "application/problem+json" else {}
            return str(told.get("detail", ""))
        except (ValueError, AttributeError):
            return ""


class Gateway:
    """One gateway's address. Nothing is sent before it is asked. UsageError for an invalid URL."""

    def __init__(self, url: str, token: Token | None = None) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # a bracket without the other one, or no address between them
            raise UsageError(f"{printable(url)} is no address of a gateway: write http://host:port") from None
        if parts.username is not None or parts.password is not None:
            raise UsageError("a token in --url can be read by every process: set $ASKONCE_TOKEN instead")
        if not parts.hostname or parts.query or parts.fragment or re.search(r"\s", parts.hostname):
            raise UsageError(f"{url} is no address of a gateway: write http://host:port")
        self.secure = parts.scheme.lower() == "https"
        self.host, self.port = parts.hostname, _port(url) or (443 if self.secure else 80)
        self.base = parts.path.partition(OURS)[0].rstrip("/")
        netloc = f"[{self.host}]" if ":" in self.host else self.host
        self.text = f"{parts.scheme.lower()}://{netloc}:{self.port}{self.base}"
        self.token = token if token is not None else token_of()
        self._patience = 0.0

    def patience(self) -> float:
        """How long a reply may take, in s: long only where a gateway is, and is well."""
        if not self._patience:
            self._patience = PATIENCE if self.is_well() else ASK
        return self._patience

    def is_well(self) -> bool:
        """Whether a gateway of askonce answers there. AskonceError if nothing does."""
        health = self.ask("GET", HEALTH)
        try:
            return health.status == http.client.OK and json.loads(health.body).get("status") == "ok"
        except (ValueError, AttributeError):
            return False

    def ask(self, method: str, path: str, body: Any = None, limit: float | None = None) -> Reply:
        """One request and its reply, within `limit` s (None: ASK). AskonceError if nothing, or no HTTP, answers."""
        connection = self._connection()
        try:
            connection.connect()
            with _Deadline(connection.sock, limit or ASK):
                return _reply(connection, method, self.base + path, body, self._headers(body))
        except (OSError, UnicodeError, http.client.HTTPException) as trouble:
            raise AskonceError(f"{self.text}: {_remedy(trouble)}") from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self.secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=CONNECT, context=context)
        return http.client.HTTPConnection(self.host, self.port, timeout=CONNECT)

    def _headers(self, body: Any) -> dict[str, str]:
        shown = {"authorization": f"Bearer {self.token.text}"} if self.token.text else {}
        return {"accept": "application/json", **shown, **({} if body is None else {"content-type": "application/json"})}


class _Deadline:
    """A time limit of a whole reply: a socket's own timeout begins anew with each byte."""

    def __init__(self, sock: socket.socket, limit: float) -> None:
        sock.settimeout(limit)
        self._sock = sock
        self._over = False
        self._timer = threading.Timer(limit, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        self._over = True
        with contextlib.suppress(OSError):  # the reply ended meanwhile
            self._sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: object, *_: object) -> None:
        self._timer.cancel()
        if self._over and kind is not None:
            raise TimeoutError


def _reply(connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]) -> Reply:
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    told = reply.read(LARGEST)
    if reply.length:
        raise http.client.IncompleteRead(told)
    return Reply(reply.status, reply.headers.get_content_type(), told)


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        raise UsageError(f"{url} has no valid port: write http://host:port") from None


def _remedy(trouble: Exception) -> str:
    if isinstance(trouble, ConnectionRefusedError):
        return "nothing listens there: start a gateway with `askonce serve`, or check the address"
    if isinstance(trouble, socket.gaierror | UnicodeError):
        return "this host has no address: check the name"
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return f"its certificate does not verify ({trouble.verify_message}): name its authority in $SSL_CERT_FILE"
    if isinstance(trouble, ssl.SSLError):
        return "it speaks no TLS: write http:// if it is a gateway without TLS"
    if isinstance(trouble, TimeoutError):
        return "it does not answer in time: check the address, or a firewall between"
    if isinstance(trouble, http.client.IncompleteRead):
        return "its answer broke off, or is very large: try again, with --limit if it has one"
    if isinstance(trouble, http.client.HTTPException | ConnectionError):
        return "what listens there is no gateway, or it needs https://"
    return f"it cannot be asked ({getattr(trouble, 'strerror', None) or trouble})"


class GatewayView:
    """The View of a gateway's store, over HTTP. No method suspends. AskonceError where the gateway does not do it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def about(self) -> About:
        """What it says of itself."""
        return self._got(About, "/about")

    async def now(self) -> float:
        """View.now."""
        return (await self.about()).now

    async def stats(self, progress: Callable[[int], None]) -> Stats:
        """View.stats."""
        del progress  # the gateway walks
        return self._got(Stats, "/stats")

    async def entries(self, wanted: Filter, limit: int) -> Rows:
        """View.entries."""
        given = {"scope": wanted.scope, "tag": wanted.tag, "model": wanted.model, "key": wanted.key or None}
        return self._got(Rows, "/entries", {**given, "dead": wanted.dead or None, "limit": limit})

    async def entry(self, key: str, *, body: bool = False) -> Answers:
        """View.entry."""
        return self._got(Answers, f"/entries/{quote(key, safe='')}", {"body": body or None})

    async def raw(self, key: str) -> bytes:
        """View.raw."""
        return self._asked("GET", f"/entries/{quote(key, safe='')}/raw", "application/octet-stream").body

    async def flights(self) -> list[Flight]:
        """View.flights."""
        return self._got(list[Flight], "/flights")

    async def pulse(self) -> Pulse:
        """View.pulse."""
        return self._got(Pulse, "/pulse")

    async def savings(self, since: int | date | None = None, by: str | Sequence[str] = ()) -> Savings:
        """View.savings."""
        first = {"days": since} if isinstance(since, int) else {"since": since and since.isoformat()}
        split = by if isinstance(by, str) else ",".join(by)
        reply = self._asked("GET", _with("/savings", {**first, "by": split or None}))
        return self._read(reply, savings_of)

    async def why(self, key: str = "", **asked: Any) -> Why:
        """View.why."""
        if key:
            return self._got(Why, f"/why/{quote(key, safe='')}")
        body = {name: one for name, one in asked.items() if one is not None}
        if isinstance(sent := body["request"], PlainRequest):
            headers = {name.decode(): value.decode() for name, value in sent.headers.raw[2:]}
            body |= {"request": json.loads(sent.body), "http": {"url": sent.url, "headers": headers}}
        return self._made(Why, self._asked("POST", "/why", body=body))

    async def misses(self, limit: int = 20) -> list[Miss]:
        """View.misses."""
        return self._got(list[Miss], "/misses", {"limit": limit})

    async def invalidate(self, aim: dict[str, Any], *, dry_run: bool = False) -> Invalidated:
        """View.invalidate."""
        body = {name: one for name, one in aim.items() if one is not None}
        return self._made(Invalidated, self._asked("POST", "/invalidate", body={**body, "dry_run": dry_run}))

    async def sweep(self, rate: int, progress: Callable[[int, int], None]) -> Swept:
        """View.sweep."""
        del progress
        return self._made(Swept, self._asked("POST", _with("/sweep", {"rate": rate})))

    def _got(self, kind: type[T], path: str, given: Mapping[str, object] | None = None) -> T:
        return self._made(kind, self._asked("GET", _with(path, given or {})))

    def _made(self, kind: type[T], reply: Reply) -> T:
        return self._read(reply, lambda told: rebuilt(kind, told))

    def _read(self, reply: Reply, read: Callable[[Any], T]) -> T:
        try:
            return read(json.loads(reply.body))
        except ValueError as wrong:
            text = f"{self.gateway.text} answers in another form ({wrong}): is it of this version?"
            raise AskonceError(text) from None

    def _asked(self, method: str, path: str, kind: str = "application/json", body: Any = None) -> Reply:
        reply = self.gateway.ask(method, API + path, body, self.gateway.patience())
        if reply.status == http.client.OK and reply.kind == kind:
            return reply
        raise _refusal(self.gateway, reply)


def _with(path: str, given: Mapping[str, object]) -> str:
    words = {name: str(one).lower() if one is True else one for name, one in given.items() if one is not None}
    return f"{path}?{urlencode(words)}" if words else path


def _refusal(gateway: Gateway, reply: Reply) -> AskonceError:
    """What to do about a reply that is no result."""
    detail = reply.problem
    if reply.status == http.client.UNAUTHORIZED and detail:
        return AskonceError(f"{gateway.text} {gateway.token.remedy}")
    if detail and reply.status in {http.client.BAD_REQUEST, http.client.CONFLICT}:
        return UsageError(detail)
    if detail:
        return AskonceError(detail)
    return AskonceError(f"{gateway.text} {_unlike(gateway)}")


def _unlike(gateway: Gateway) -> str:
    """Why what answers there has no admin API."""
    if gateway.is_well():
        return "serves no admin API here: it needs a token (admin.token), and is served at the address admin.bind alone"
    return "is no gateway of askonce: check the address"
