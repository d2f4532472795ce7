"""``askonce dashboard``: the pages of a gateway, over any store and without a gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from askonce.cli import say
from askonce.cli.looking import looking_at
from askonce.cli.place import Place, Prefix, StoreUrl, find_kept, is_gateway
from askonce.cli.remote import Gateway
from askonce.core.urls import without_password
from askonce.errors import AskonceError, UsageError
from askonce.runtime.drive import drive

_PORT = "Port of this machine. Default: 8182, or a free one."
Port = Annotated[int | None, typer.Option("--port", metavar="N", min=0, max=65535, help=_PORT)]
Open = Annotated[bool, typer.Option("--open", help="Open the page in your browser.")]
EXTRA = {"starlette", "jinja2", "markupsafe", "uvicorn"}


def dashboard(url: StoreUrl = None, prefix: Prefix = None, port: Port = None, open_: Open = False) -> None:
    """Show the store in a browser: savings, calls, misses, answers.

    The command serves the page on this machine only, and prints a link that logs in. It ends with Ctrl-C. A gateway has
    the same page at /_askonce/.
    """
    where = find_kept(url, prefix)
    if is_gateway(where.url):
        raise UsageError(f"a gateway has its own page: open {Gateway(where.url).text}/_askonce/ with its admin token")
    with looking_at(where) as view:
        drive(view.flights())  # raises if there is no such store: the page would show nothing else
    import asyncio  # late: no other command needs it

    try:
        asyncio.run(_serve(where, port, browser=open_))
    except ImportError as missing:
        if (package := (missing.name or "").partition(".")[0]) not in EXTRA:
            raise
        raise AskonceError(f"{package} is not installed: pip install 'askonce[gateway]'") from None


async def _serve(where: Place, port: int | None, *, browser: bool) -> None:
    from askonce.cache.cache import AsyncCache
    from askonce.gateway.page import server, starts
    from askonce.gateway.view import View

    lines = starts.of_store(without_password(where.url), where.prefix)
    with server.listening(port) as listens:
        async with AsyncCache(where.url, prefix=where.prefix) as cache:
            await server.serve(View(cache), listens, _tell, lines, browser=browser)


def _tell(link: str) -> None:
    say.sentence(f"{link}\n\nCtrl-C ends the page.")
