"""The page of a real gateway whose callers ask all the time."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from statistics import median

import httpx2
import pytest

from askonce.testing import Provider
from tests.gateway.page.browser.conftest import Opened
from tests.gateway.page.conftest import TOKEN
from tests.gateway.running import Running, serving

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed (make page has it)")
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.waits]

CALLERS = 4
SOON = 300  # ms


@contextlib.contextmanager
def loaded() -> Iterator[Running]:
    """A gateway, and callers of it that ask some questions again and again, and new ones now and then."""
    over = threading.Event()
    failed: list[object] = []

    def ask(number: int) -> None:
        dice = random.Random(number)
        headers = {"authorization": "Bearer sk-one", "askonce-scope": "support/triage"}
        with httpx2.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            while not over.wait(0.05):
                question = dice.randrange(20) if dice.random() < 0.8 else dice.random()
                body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": f"question {question}"}]}
                said = client.post("/v1/chat/completions", json=body)
                if said.status_code != 200:
                    failed.append(said.text)

    with Provider(delay=0.4) as provider, serving(provider.url, admin_token=TOKEN) as gateway:
        callers = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
        for one in callers:
            one.start()
        try:
            yield gateway
        finally:
            over.set()
            for one in callers:
                one.join()
    assert failed == []


async def test_it_shows_what_happens_while_it_happens_and_stays_accessible(opened: Opened) -> None:
    with loaded() as gateway:
        async with opened(f"{gateway.url}/_askonce/") as page:
            saved = page.get_by_role("region", name="Saved today")
            await saved.wait_for()
            await page.get_by_text("live", exact=True).wait_for()
            await page.locator("#flights tbody tr").first.wait_for()
            before = await saved.inner_text()
            await page.wait_for_function(
                "old => document.querySelector('#saved-1').parentElement.innerText !== old", arg=before
            )
            await page.get_by_role("region", name="Recent misses").get_by_text("never asked").first.wait_for()
            assert (await axe.Axe().run(page)).violations_count == 0
            await page.get_by_role("link", name="Answers").click()
            await page.get_by_label("Scope, and below it").fill("support")
            await page.get_by_role("button", name="Search").click()
            assert await page.locator("tbody tr").count() > 5
            await page.get_by_role("link", name="Invalidate").click()
            await page.get_by_label("Name").fill("support")
            await page.get_by_role("button", name="See what it reaches").click()
            await page.get_by_role("button", name="Invalidate", exact=False).filter(has_text="answers").click()
            await page.get_by_text("Invalidated: scope support.").wait_for()


async def test_its_first_paint_comes_soon(opened: Opened) -> None:
    """For whoever has a session and nothing of the page yet, under load."""
    times = []
    with loaded() as gateway:
        for _ in range(7):
            async with opened("about:blank", login=False) as page:
                await page.context.request.get(f"{gateway.url}/_askonce/?token={TOKEN}")
                await page.goto(f"{gateway.url}/_askonce/")
                await page.get_by_role("region", name="Saved today").wait_for()
                await page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
                times.append(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    assert median(times) <= SOON, times
