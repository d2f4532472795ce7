"""Every page, wide and narrow, light and dark: no complaint of the browser, none of axe, nothing cut off, and soon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from askonce import AsyncCache
from tests.gateway.page.browser.conftest import NARROW, WIDE, Opened, shot
from tests.gateway.page.conftest import TOKEN, store
from tests.gateway.page.serving import served
from tests.gateway.page.sights import MODELS, NOW, SCOPES, Told, ToldView, busy, miss

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed (make page has it)")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.waits]

SOON = 300  # ms
LONG = "a-model-with-a-name-that-has-no-end-" * 4
ANSWER = "Paris is the capital of France.\n<b>Not bold</b> \x1b[31mnot red\x1b[0m"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A page of a cache that is in use, with answers."""
    file = tmp_path_factory.mktemp("page") / "answers.db"
    async with AsyncCache(f"sqlite:///{file}", prefix="llm:v3") as cache:
        for n in range(24):
            await store(cache, ANSWER, n, scope=SCOPES[n % 4] or None, tags=[f"doc:{n % 5}"], model=MODELS[n % 4])
        told = busy(NOW)
        told.address = "redis://cache.internal:6379/0"
        async with served(ToldView(cache, told)) as made:
            yield made


LOOKS = [
    pytest.param(size, scheme, id=f"{name}-{scheme}")
    for name, size in (("wide", WIDE), ("narrow", NARROW))
    for scheme in ("light", "dark")
]
PAGES = ["", "entries", "entries?scope=nothing", "invalidate", "invalidate?by=scope&value=support", "nothing"]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
async def test_pages_are_accessible_and_fit(address: str, opened: Opened, size: Any, scheme: str) -> None:
    async with opened(address, viewport=size, color_scheme=scheme, noise=True) as page:
        key = await first_key(page, address)
        for path in (*PAGES, f"entries/{key}", f"entries/{key}?body=1"):
            await page.goto(address + path)
            await page.wait_for_load_state("load")
            await fits(page, path)


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
async def test_an_empty_page_a_login_and_a_page_full_of_long_words(opened: Opened, size: Any, scheme: str) -> None:
    async with AsyncCache("memory://", prefix="llm:v3") as cache, served(ToldView(cache, Told())) as empty:
        async with opened(empty, viewport=size, color_scheme=scheme) as page:
            await fits(page, "empty")
            if size is WIDE and scheme == "light":
                await shot(page, "empty", whole=False)
        async with opened(empty, viewport=size, color_scheme=scheme, login=False) as page:
            await fits(page, "login")
    async with AsyncCache("memory://", prefix="p" * 60) as cache:
        told = busy(NOW)
        told.misses = [miss(NOW, 5, LONG, LONG, LONG, LONG)]
        async with served(ToldView(cache, told)) as long, opened(long, viewport=size, color_scheme=scheme) as page:
            await fits(page, "long words")


async def first_key(page: Any, address: str) -> str:
    await page.goto(f"{address}entries")
    return str(await page.locator("tbody th a").first.get_attribute("href")).rpartition("/")[2]


async def fits(page: Any, what: str) -> None:
    found = await axe.Axe().run(page)
    assert found.violations_count == 0, f"{what}: {found.generate_report()}"
    wide, seen = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen, f"{what} is {wide - seen} px too wide"


PICTURES = [
    ("overview-light", "", WIDE, "light"),
    ("overview-dark", "", WIDE, "dark"),
    ("screen", "", WIDE, "light"),
    ("phone", "", NARROW, "dark"),
    ("invalidate", "invalidate?by=scope&value=support", WIDE, "light"),
]


@pytest.mark.parametrize(("name", "path", "size", "scheme"), PICTURES, ids=[one[0] for one in PICTURES])
async def test_a_picture_of_the_docs(
    address: str, opened: Opened, name: str, path: str, size: Any, scheme: str
) -> None:
    async with opened(address, color_scheme=scheme, viewport=size) as page:
        await page.locator("canvas").wait_for()
        await page.get_by_text("live", exact=True).wait_for()
        if path:
            await page.goto(address + path)
        await shot(page, name, whole=name.startswith("overview"))


async def test_the_first_paint_comes_soon(address: str, opened: Opened) -> None:
    """For whoever has a session and nothing of the page yet. On a busy machine, no page comes soon: a bare one tells."""
    bare, whole = [], []
    for _ in range(7):
        bare.append(await painted(opened, f"{address}login"))
        whole.append(await painted(opened, address))
    assert min(whole) <= max(SOON, 1.5 * min(bare)), (whole, bare)


async def painted(opened: Opened, address: str) -> float:
    """When the first paint of a page came, ms after it was asked for."""
    async with opened("about:blank", login=False) as page:
        await page.context.request.get(f"{address.removesuffix('login')}?token={TOKEN}")
        await page.goto(address)
        await page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
        return float(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))


async def test_a_page_asks_nobody_else_and_for_little(address: str, opened: Opened) -> None:
    asked: list[Any] = []
    async with opened(address) as page:
        page.on("requestfinished", lambda one: asked.append(one))  # noqa: PLW0108  # an attribute is set on it
        await page.goto(address)
        await page.locator("canvas").wait_for()
        sizes = [(one.url, (await one.sizes())["responseBodySize"]) for one in asked]
    assert all(url.startswith(address) for url, _ in sizes)
    assert sum(size for url, size in sizes if "/live" not in url) <= 60_000, sizes
