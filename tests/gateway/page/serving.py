"""A page on a real server in this loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from tests.gateway.page.conftest import page_of

_servers: dict[str, uvicorn.Server] = {}


@asynccontextmanager
async def served(view: Any) -> AsyncIterator[str]:
    """The address of a page of this view."""
    made = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{made.getsockname()[1]}/_askonce/"
    app = page_of(view, stopping=lambda: _servers[address].should_exit)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=3)
    server = _servers[address] = uvicorn.Server(config)
    task = asyncio.create_task(server.serve([made]))
    try:
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.005)
        yield address
    finally:
        server.should_exit = True
        await task


async def stop(address: str) -> None:
    """Tell a server to end."""
    _servers[address].should_exit = True
