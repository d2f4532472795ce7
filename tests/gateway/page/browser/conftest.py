"""A real browser, headless, in front of a page on a real server. Skipped where Chromium or Playwright is not installed.

Everything that a browser complains of, in its console or by an exception, fails the test. With ``$ASKONCE_SHOTS``, a
folder, the pictures of the docs are written there.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.page.conftest import TOKEN

CHROMIUM = os.environ.get("ASKONCE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",  # as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
]
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
SHOTS = os.environ.get("ASKONCE_SHOTS")
COLOURS = 256  # of a picture, the most frequent: areas stay as they are, the edges of letters nearly

Opened = Callable[..., AbstractAsyncContextManager[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser takes seconds to start and to look at a page: left out of `make test`, run by `make page`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("slow")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Any]:
    """The browser."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium, or set $ASKONCE_CHROMIUM)")
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed (make page has it)")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def opened(chromium: Any) -> Opened:
    """``async with opened(address) as page``: a page that is logged in. More keywords are those of a browser context."""

    @asynccontextmanager
    async def opened(address: str, *, login: bool = True, noise: bool = False, **more: Any) -> AsyncIterator[Any]:
        context = await chromium.new_context(**{"viewport": WIDE, "color_scheme": "light", **more})
        context.set_default_timeout(20_000)
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda told: complaints.append(f"{told.type}: {told.text}"))
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        await page.goto(f"{address}?token={TOKEN}" if login else address)
        yield page
        await context.close()
        assert noise or complaints == []

    return opened


async def shot(page: Any, name: str, *, whole: bool = True) -> None:
    """Write a picture of a page for the docs, if they are wanted."""
    if SHOTS is None:
        return
    image = pytest.importorskip("PIL.Image")
    picture = image.open(io.BytesIO(await page.screenshot(full_page=whole, animations="disabled"))).convert("RGB")
    several = sorted(picture.getcolors(picture.width * picture.height), reverse=True)[:COLOURS]
    palette = image.new("P", (1, 1))
    # All 256 places are filled: those that are left would be greys.
    palette.putpalette([part for _, colour in (several * COLOURS)[:COLOURS] for part in colour])
    picture.quantize(palette=palette, dither=image.Dither.NONE).save(Path(SHOTS) / f"{name}.png", optimize=True)
