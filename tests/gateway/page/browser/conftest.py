"""A real browser, headless, in front of a page on a real server. Skipped where Chromium or Playwright is not installed.

Everything that a browser complains of, in its console or by an exception, fails the test. What a page is waited for is
written as a function: Playwright evaluates any other text again and again, and the page's policy forbids that. With ``$ASKONCE_SHOTS``, a
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
COLOURS = 256  # of a picture

Opened = Callable[..., AbstractAsyncContextManager[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser takes seconds to start and to look at a page: left out of `make test`, run by `make page`."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
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
    several = picture.getcolors(picture.width * picture.height)
    kept = _palette({colour: count for count, colour in several})
    # By a table of our own: the library's nearest colour is near to within four of each part, and areas would change.
    places = {colour: min(range(len(kept)), key=lambda at: _apart(kept[at], colour)) for _, colour in several}
    raw = picture.tobytes()
    drawn = image.frombytes("P", picture.size, bytes(places[*raw[at : at + 3]] for at in range(0, len(raw), 3)))
    drawn.putpalette([part for colour in kept for part in colour])
    drawn.save(Path(SHOTS) / f"{name}.png", optimize=True)


def _palette(counts: dict[tuple[int, ...], int]) -> list[tuple[int, ...]]:
    """The most frequent colours, then those that are missed most: areas and small dots stay as they are."""
    kept = sorted(counts, key=lambda colour: -counts[colour])[: COLOURS * 3 // 4]
    missed = {colour: min(_apart(one, colour) for one in kept) for colour in counts}
    while len(kept) < COLOURS and any(missed.values()):
        kept.append(max(missed, key=lambda colour: missed[colour] * counts[colour]))
        missed = {colour: min(apart, _apart(kept[-1], colour)) for colour, apart in missed.items()}
    return kept


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))
