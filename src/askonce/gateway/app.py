"""The gateway as an ASGI application: plain, so that it runs under any server, and below a path of any application.

A request is read, sent through the transport of its upstream, and its answer is written part by part. Paths below
``/_askonce`` are the gateway's own. What protects against slow and oversized requests is the server's part: see
gateway.protocol for `askonce serve`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from askonce.cache.cache import AsyncCache
from askonce.events import log
from askonce.gateway import heads, replies
from askonce.gateway.answers import WHOLE, Cut, Send, said, write
from askonce.gateway.bodies import Bodies
from askonce.gateway.caller import LEAVES, Caller, Disconnected, Misframed, Receive, TooLarge, Upload
from askonce.gateway.config import GatewayConfig
from askonce.gateway.own_paths import OwnPaths
from askonce.gateway.paths import NO_FRAGMENT, climbs, is_ours, sent_path
from askonce.gateway.repeated import AtHand, Repeated
from askonce.gateway.serving import Route, Serving, check, serving
from askonce.gateway.telemetry import Telemetry
from askonce.gateway.transport import is_hit
from askonce.gateway.wire import Request, Whole
from askonce.gateway.wire_errors import RequestError
from askonce.http.plain_request import PlainRequest
from askonce.http.rules import Asked

LEAST = 1.0  # s for flights without a caller, even if callers took all the time there was
LOOK = 0.25  # s between two looks whether a cache that a reload replaced is still needed

Scope = Mapping[str, Any]


class Gateway:
    """A caching reverse proxy for LLM APIs: an ASGI application.

    Made of a configuration (gateway.config), and optionally of a cache of yours, which it then does not close. The
    first request opens it, or ``async with``, or the server's lifespan. ConfigError for a configuration that cannot be
    used; an unreachable store is no error. `cache`: None to make one by the configuration. `shared`: the folder in
    which workers of one port show their numbers (None: they do not).
    """

    def __init__(self, config: GatewayConfig, *, cache: AsyncCache | None = None, shared: Path | None = None) -> None:
        check(config)
        self.config = config
        self._brought = cache
        self._serving: Serving | None = None
        self._own = OwnPaths(self)
        self.telemetry = Telemetry(shared)
        self.at_hand = AtHand(self)
        self._bodies = Bodies(config.limits)
        self._retired: set[asyncio.Task[Any]] = set()
        self._clients: list[Any] = []
        self._stops = 0.0  # when it has to have ended (monotonic s)
        self._closes = 0.0  # the same, once all requests have ended

    # what it is made of

    @property
    def serving(self) -> Serving:
        """What is in use now; made at first use, in the event loop."""
        if self._serving is None:
            self._serving = serving(self.config, cache=self._brought)
            self.telemetry.watch(self._serving.cache, self.config.log)
        return self._serving

    @property
    def repeated(self) -> Repeated | None:
        """The heads of requests that are known under the configuration in use; None before the first request."""
        return None if self._serving is None else self._serving.repeated

    @property
    def cache(self) -> AsyncCache:
        """The cache."""
        return self.serving.cache

    def reads(self, sent: PlainRequest) -> Asked:
        """What a request to it would ask, or why it would pass; UsageError if no upstream stands behind its path."""
        return self.serving.reads(sent)

    def reload(self, config: GatewayConfig) -> None:
        """Use another configuration from the next request on. ConfigError, and no change, if it cannot be used."""
        check(config)
        before = self.serving
        after = serving(config, before, self._brought)
        self.config, self._serving = config, after
        self._bodies = Bodies(config.limits)
        self.telemetry.watch(after.cache, config.log)
        self._own.reloaded()
        if after.client is not before.client:
            self._clients.append(before.client)  # flights under way still use it
        if after.cache is not before.cache:
            self._retire(before)

    def _retire(self, old: Serving) -> None:
        task = asyncio.get_running_loop().create_task(self._close_cache(old))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _close_cache(self, old: Serving) -> None:
        """Close the cache of a configuration after the last call that began under it, or when the gateway is closed."""
        # Not at once, with a limit: a closed cache has no answer for requests that have begun and not asked yet, nor
        # for those that wait for another worker's call, and a call may take longer than any shutdown may.
        while not self._closes and old.goes_on():  # noqa: ASYNC110 - nothing tells a gateway of the end of a flight
            await asyncio.sleep(LOOK)
        await old.cache.aclose(max(LEAST, self._closes - time.monotonic()))

    def stop(self) -> None:
        """Say that it is not ready any more: it ends soon."""
        self._stops = self._stops or time.monotonic() + self.config.server.drain

    @property
    def stopping(self) -> bool:
        """Whether it ends soon."""
        return self._stops > 0

    async def aclose(self) -> None:
        """Finish the flights under way, within `server.drain` s, and close what it opened."""
        if self._serving is None:
            return
        self.stop()
        limit = max(LEAST, self._stops - time.monotonic())
        self._closes = time.monotonic() + limit
        if self._brought is None:
            self._retire(self._serving)
        if self._retired:
            await asyncio.wait(self._retired, timeout=limit + 1)
        for client in (self._serving.client, *self._clients):
            await client.aclose()
        self._serving, self._stops, self._closes = None, 0.0, 0.0

    async def __aenter__(self) -> Self:
        self.serving  # noqa: B018 - opens it
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        kind = scope["type"]
        if kind == "http":
            path, use = sent_path(scope), self.serving.use
            use.requests += 1
            try:
                if is_ours(path):
                    await self._own(path, scope, receive, send)
                elif self.telemetry.writes:
                    scope = {**scope, WHOLE: None}  # it counts the messages of an answer
                    await self.telemetry.proxied(send, partial(self._proxied, path, scope, receive))
                else:
                    await self._proxied(path, scope, receive, send)
            finally:
                use.requests -= 1
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await _refuse_websocket(scope, receive, send)

    async def _proxied(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        caller = Caller(receive, scope.get(LEAVES))
        request: Request | None = None
        try:
            asked = await self._asked(path, scope, caller)
            if isinstance(asked, Whole):
                await write(asked, scope, send)
                return
            route, request = asked
            await caller.watched(self._exchange(route, request, caller, scope, send))
        except Disconnected:
            return
        except asyncio.CancelledError:
            if not (caller.left or self.stopping):
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            if not caller.left:
                await self._end_late(caller, request, scope, send)
        finally:
            await caller.end()

    async def _end_late(self, caller: Caller, request: Request | None, scope: Scope, send: Send) -> None:
        """Tell a caller that the gateway ends before its call: its server would say only that something is wrong."""
        if caller.answered:
            raise Cut(_ENDS)
        method, url = ("", "") if request is None else (request.method, request.url)
        await write(replies.error(503, "stopping", _ENDS, method=method, url=url), scope, send)

    async def _asked(self, path: str, scope: Scope, caller: Caller) -> Whole | tuple[Route, Request]:
        """The request for upstream and its route, or why there is none."""
        found = self.serving.route(path) if path.startswith("/") else None  # it is appended to a base URL
        if found is None:
            return replies.error(404, "unknown_path", self._unknown())
        route, rest = found
        if climbs(rest):
            return replies.error(400, "path_outside", _OUTSIDE)
        if "#" in rest or b"#" in scope["query_string"]:
            return replies.error(400, "fragment", NO_FRAGMENT)
        sent = scope.get("askonce.headers") or scope["headers"]
        sent = self.serving.operator.tenants.vouched(sent, (scope.get("client") or (None,))[0])
        if scope["method"] == "CONNECT":
            return replies.error(501, "connect", _NO_TUNNEL)
        head = heads.read(sent, route.host)
        if head.upgrade == b"websocket":
            return replies.error(501, "websocket", _NO_WEBSOCKET)
        if head.binds:
            return replies.error(501, "connection_bound", _BOUND)
        method, query = scope["method"], scope["query_string"]
        url = f"{route.base}{rest}?{query.decode('latin-1')}" if query else route.base + rest
        try:
            return route, await self._bodies.request(method, url, head, caller)
        except (TooLarge, Misframed) as why:
            return _refused(why, method, url)

    async def _exchange(self, route: Route, request: Request, caller: Caller, scope: Scope, send: Send) -> None:
        try:
            answer = await route.transport.handle(request)
        except RequestError as why:
            answer = self._failed(why, request)
        caller.answered = True
        await write(answer, scope, send)
        if route.repeated.used and isinstance(answer, Whole) and is_hit(answer):
            route.repeated.note(scope, request, route.transport)

    def _failed(self, why: RequestError, request: Request) -> Whole:
        if isinstance(request.stream, Upload) and (ended := request.stream.ended) is not None:
            if isinstance(ended, Disconnected):
                raise ended
            return _refused(ended, request.method, request.url)
        log.info("a call upstream failed: %s", why)
        return replies.failed(why, method=request.method, url=request.url)

    def _unknown(self) -> str:
        known = ", ".join(route.path or "/" for route in self.serving.routes)  # not the path: it may hold a secret
        return f"no upstream stands behind this path: the gateway knows {known}"

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self.serving  # noqa: B018 - opens it
        await self._own.say_if_away()
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:
            if not self.stopping:
                raise
            return  # it was told to end at once, and its server does not wait
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})


_NO_WEBSOCKET = (
    "the gateway does not proxy WebSockets: send HTTP requests (streams come as server-sent events), or connect to the"
    " provider itself"
)
_OUTSIDE = "the path leads out of its upstream: write it without `..`"
_NO_TUNNEL = "the gateway is the base URL of an API: it opens no tunnels"
_ENDS = "the gateway ends, and does not wait for this call any longer"
_BOUND = (
    "NTLM, Negotiate and Kerberos authenticate a connection, and the gateway's connections serve all callers: send a"
    " key or a token"
)
_TOO_LARGE = "the body of the request is larger than the gateway accepts (limits.body)"


_MISFRAMED = "the body of the request is longer or shorter than its Content-Length says"


def _refused(why: TooLarge | Misframed, method: str, url: str) -> Whole:
    """The answer to a request whose body is wrong."""
    if isinstance(why, TooLarge):
        return replies.error(413, "request_too_large", _TOO_LARGE, method=method, url=url)
    return replies.error(400, "body_misframed", _MISFRAMED, method=method, url=url)


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1000, "reason": _NO_WEBSOCKET[:120]})
        return
    refusal = replies.error(501, "websocket", _NO_WEBSOCKET)

    async def as_websocket(message: MutableMapping[str, Any]) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await said(refusal, as_websocket)
