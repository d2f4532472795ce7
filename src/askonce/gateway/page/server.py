"""The page on a server of its own, for ``askonce dashboard``: one process, on an address of this machine."""

from __future__ import annotations

import socket
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn

from askonce.errors import AskonceError
from askonce.gateway.page.app import MOUNT, alone, page_app
from askonce.gateway.page.session import Sessions, new_token
from askonce.gateway.page.starts import Start
from askonce.gateway.view import View

HOST = "127.0.0.1"
PORT = 8182
LEAVE = 3  # s that pages have to end when the server ends


def listening(port: int | None) -> socket.socket:
    """A socket on the loopback address; without a `port`, on PORT or on any free one. AskonceError if it is in use."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, PORT if port is None else port))
    except OSError as error:
        if port is None:
            made.bind((HOST, 0))
            return made
        made.close()
        raise AskonceError(f"port {port} cannot be used: {error.strerror}; name another one with --port") from None
    return made


async def serve(
    view: View, where: socket.socket, started: Callable[[str], None], lines: Sequence[Start], *, browser: bool
) -> None:
    """Show the page of a view until the process is told to end. `started` hears the link, which logs in."""
    token = new_token()
    link = f"http://{HOST}:{where.getsockname()[1]}{MOUNT}/?token={token}"
    app = alone(
        page_app(view, Sessions(token, time.time), starts=lambda _origin: lines, stopping=lambda: server.should_exit)
    )
    # Without a log of requests: the link has the token.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=LEAVE
    )
    server = _Server(config, lambda: _tell(link, started, browser=browser))
    await server.serve(sockets=[where])


def _tell(link: str, started: Callable[[str], None], *, browser: bool) -> None:
    started(link)
    if browser:
        with suppress(webbrowser.Error):
            webbrowser.open(link)


class _Server(uvicorn.Server):
    """A server that says when it listens."""

    def __init__(self, config: uvicorn.Config, say: Callable[[], None]) -> None:
        super().__init__(config)
        self._say = say

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        if self.started:
            self._say()
