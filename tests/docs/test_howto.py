"""The programs of the how-to pages do what the pages say, and each question is paid as often as they say."""

from __future__ import annotations

import pytest

from askonce.testing import Provider
from tools import blocks

pytestmark = pytest.mark.slow

PAGES = sorted((blocks.ROOT / "docs" / "howto").glob("*.md"))
FASTAPI = """
import asyncio
import httpx2

async def main():
    async with lifespan(app), httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as browser:
        said = await asyncio.gather(*(browser.get("/answer", params={"question": "What is a lease?"}) for _ in range(5)))
    assert all(one.json()["answer"] for one in said)

asyncio.run(main())
"""
CELERY = """
app.conf.task_always_eager = True
assert summarize.delay("a lease").get() == summarize.delay("a lease").get()
"""
LAMBDA = """
event = {"question": "What is a lease?"}
assert handler(event, None) == handler(event, None)
"""
PAID = {
    "agents": ("", {"What is a lease?": 1}),
    "celery": (CELERY, {"Summarize: a lease": 1}),
    "ci": ('assert cache.stats()["lookups"] == 1', {}),
    "evaluations": ("", {"What is 2 + 2?": 3, "What is 3 + 5?": 3}),
    "fastapi": (FASTAPI, {"What is a lease?": 1}),
    "lambda": (LAMBDA, {"What is a lease?": 1}),
    "notebooks": ("", {"Name a city in France.": 1, "Name a city in Japan.": 1}),
}


def test_each_page_has_a_program_that_is_tried_here():
    assert [page.stem for page in PAGES] == sorted(PAID)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_a_program_that_runs_and_pays_each_question_once_a_variant(page, valkey):
    (block,) = blocks.of(page.name, page.read_text("utf-8"))
    assert not block.how
    more, paid = PAID[page.stem]
    code = block.code.replace("redis://localhost:6379/0", valkey.url) + more
    with Provider() as provider:
        around = {"OPENAI_BASE_URL": provider.openai_url, "OPENAI_API_KEY": "any"}
        assert blocks.run(block._replace(code=code), around) == ""
        assert provider.questions == paid
