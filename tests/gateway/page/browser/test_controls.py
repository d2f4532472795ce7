"""Each control, used as a person uses it, on a page whose cache is under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from askonce import AsyncCache
from tests.gateway.page.browser.conftest import Opened
from tests.gateway.page.conftest import TOKEN, store
from tests.gateway.page.serving import served
from tests.gateway.page.sights import NOW, Told, ToldView, busy, hour

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.waits]


@asynccontextmanager
async def loaded(tmp_path: Any) -> AsyncIterator[tuple[str, AsyncCache, Told]]:
    """The address of a page whose cache is asked all the time, its cache, and what its view tells."""
    told = busy(NOW)
    async with AsyncCache(f"sqlite:///{tmp_path / 'answers.db'}", prefix="llm:v3") as cache:
        for n in range(12):
            await store(cache, f"answer {n}", n, scope="support/triage" if n % 2 else "evals", tags=[f"doc:{n}"])
        async with served(ToldView(cache, told)) as address:
            load = asyncio.create_task(_ask(cache))
            try:
                yield address, cache, told
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)


async def _ask(cache: AsyncCache) -> None:
    number = 0
    while True:
        await asyncio.gather(*(store(cache, "load", 1000 + (number + n) % 50, scope="load") for n in range(8)))
        number += 1
        await asyncio.sleep(0.02)


async def test_one_logs_in_with_the_token_and_out_again(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, _, _), opened(address, login=False, noise=True) as page:
        await page.get_by_label("Admin token").fill("not the token")
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("This is not the token.").wait_for()
        await page.get_by_label("Admin token").fill(TOKEN)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_text("Saved today").wait_for()
        assert "token" not in page.url
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_label("Admin token").wait_for()
        await page.goto(address)
        await page.get_by_label("Admin token").wait_for()


async def test_one_searches_opens_an_answer_and_invalidates_it(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, cache, _), opened(address) as page:
        await page.get_by_role("link", name="Answers").click()
        await page.get_by_label("Tag").fill("doc:7")
        await page.get_by_role("button", name="Search").click()
        (row,) = await page.locator("tbody tr").all()
        assert "support/triage" in await row.inner_text()
        await row.get_by_role("link").click()
        assert "answer 7" not in await page.locator("main").inner_text()
        await page.get_by_role("link", name="Show the answer").click()
        assert "answer 7" in await page.get_by_label("The answer").inner_text()
        await page.get_by_role("button", name="Invalidate …").click()
        await page.get_by_role("button", name="Invalidate 1 answer").click()
        await page.get_by_text("Invalidated: key").wait_for()
        assert not [one async for one in cache.entries() if one.live and one.tags == ("doc:7",)]


async def test_one_looks_what_an_invalidation_reaches_and_leaves_it_or_does_it(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, cache, _), opened(address) as page:
        await page.get_by_role("link", name="Invalidate").click()
        await page.get_by_label("What").select_option("scope")
        await page.get_by_label("Name").fill("support")
        await page.get_by_role("button", name="See what it reaches").click()
        await page.get_by_text("6 answers", exact=True).wait_for()
        await page.get_by_role("link", name="Cancel").click()
        assert not await page.get_by_text("6 answers").count()
        assert sum([one.live async for one in cache.entries() if one.scope != "load"]) == 12
        await page.get_by_label("Name").fill("support")
        await page.get_by_label("Name").press("Enter")
        await page.get_by_role("button", name="Invalidate 6 answers").click()
        await page.get_by_text("Invalidated: scope support.").wait_for()
        assert sum([one.live async for one in cache.entries() if one.scope != "load"]) == 6


async def test_calls_numbers_and_lists_follow_what_happens_and_keep_the_place_of_the_reader(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, _, told), opened(address) as page:
        await page.get_by_text("live", exact=True).wait_for()
        await page.get_by_text("As a table").click()
        link = page.get_by_role("region", name="Hottest answers").get_by_role("link").first
        await link.focus()
        told.activity = replace(told.activity, hours=(hour(NOW, 200, 180),))
        told.flights = []
        told.misses = told.misses[:1]
        await page.get_by_text("No call is running.").wait_for()
        await page.get_by_text("200 lookups").wait_for()
        await page.wait_for_function("() => document.querySelectorAll('#lists > section tbody tr').length === 1")
        assert await page.locator("details").get_attribute("open") is not None, "what was opened stays open"
        assert await link.evaluate("link => link === document.activeElement"), "the focus stays where it was"
        assert await page.locator("canvas").count() == 1


async def test_the_chart_reads_out_its_values_and_follows_the_colours(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, _, _), opened(address) as page:
        await page.locator("canvas").wait_for()
        before = await page.locator("figcaption").inner_text()
        await page.locator(".u-over").hover()
        await page.wait_for_function(
            "() => /^\\d\\d:00 UTC: \\d+ % of/.test(document.querySelector('figcaption').textContent)"
        )
        await page.mouse.move(1, 1)
        await page.wait_for_function("text => document.querySelector('figcaption').textContent === text", arg=before)
        light = await page.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        await page.emulate_media(color_scheme="dark")
        await page.wait_for_function("old => document.querySelector('canvas').toDataURL() !== old", arg=light)
        await page.set_viewport_size({"width": 700, "height": 800})
        await page.wait_for_function("() => document.querySelector('canvas').getBoundingClientRect().width < 650")


@pytest.mark.parametrize("fault", ["abort", "hold"])
async def test_a_page_asks_by_itself_while_no_event_comes(tmp_path, opened: Opened, fault):
    """A proxy that cuts streams, and one that takes them and passes nothing on."""
    async with loaded(tmp_path) as (address, _, told), opened(address, noise=True) as page:
        await page.clock.install()

        async def broken(route: Any) -> None:
            if fault == "abort":
                await route.abort()

        await page.route("**/live", broken)
        await page.goto(address)
        told.flights = []
        await page.clock.fast_forward(16_000)
        await page.get_by_text("updated every 5 s").wait_for()
        await page.get_by_text("No call is running.").wait_for()
        await page.unroute("**/live")
        await page.clock.fast_forward(120_000)
        await page.get_by_text("live", exact=True).wait_for()


async def test_a_page_whose_session_is_over_goes_to_the_login(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, _, told), opened(address, noise=True) as page:
        await page.get_by_text("live", exact=True).wait_for()
        await page.context.clear_cookies()
        told.activity = replace(told.activity, hours=(hour(NOW, 200, 180),))
        await page.get_by_label("Admin token").wait_for()


async def test_without_scripts_a_page_is_whole_and_its_forms_work(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, cache, _), opened(address, java_script_enabled=False) as page:
        assert "$12.84" in await page.locator("main").inner_text()
        await page.get_by_text("As a table").click()
        assert await page.get_by_role("row", name="UTC").count() >= 20
        await page.goto(f"{address}invalidate?by=tag&value=doc:3")
        await page.get_by_role("button", name="Invalidate 1 answer").click()
        await page.get_by_text("Invalidated: tag doc:3.").wait_for()
        assert [one.live async for one in cache.entries() if one.tags == ("doc:3",)] == [False]


async def test_a_keyboard_reaches_everything_in_the_order_of_the_page(tmp_path, opened: Opened):
    async with loaded(tmp_path) as (address, _, _), opened(address) as page:
        await page.locator("canvas").wait_for()
        seen = []
        for _ in range(40):
            await page.keyboard.press("Tab")
            place = await page.evaluate(
                "(() => {const e = document.activeElement; return e.innerText || e.ariaLabel || e.tagName})()"
            )
            seen.append(place.split("\n")[0])
        assert seen[:6] == ["Skip to the content", "askonce", "Overview", "Answers", "Invalidate", "Log out"]
        assert "As a table" in seen
        visible = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert visible == "solid"
        await page.goto(address)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        assert page.url.endswith("#main")
