"""An exception at any line of what reads a stream, in its task: every reader gets the stream or an error, and soon.

Its flight may have no lease, because the store cannot be reached or because the stream is too large to be kept. Then the
background thread does not watch over it, and only the end of the task tells its readers.
"""

from __future__ import annotations

import asyncio

import pytest

from askonce import AsyncCache, Policy
from askonce.stream import pump
from tests.injection.inject import INJECTS, noting, raising
from tests.injection.signals import Limit
from tests.injection.stranger import items
from tests.took import Took

SOON = 1.0  # s
HANG = 4.0  # s
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
NOWHERE = "redis://127.0.0.1:1/0"
KEPT, TOO_LARGE = Policy(), Policy(max_answer_bytes=30)

pytestmark = [
    pytest.mark.concurrency,
    *INJECTS,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def said():
    for item in items(REQUEST):
        await asyncio.sleep(0.001)
        yield item


async def read(cache, policy):
    """What one reader gets: all items, or what was raised; TimeoutError if it hangs."""

    async def whole():
        return [item async for item in await cache.fetch_stream(REQUEST, said, policy=policy)]

    try:
        return await asyncio.wait_for(whole(), HANG)
    except (Exception, asyncio.CancelledError) as error:
        return error


async def readers(url, policy):
    async with AsyncCache(url) as cache:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        return await asyncio.gather(read(cache, policy), read(cache, policy))


@pytest.mark.parametrize(
    ("url", "policy"),
    [("memory://", KEPT), ("memory://", TOO_LARGE), (NOWHERE, KEPT)],
    ids=["kept", "too large", "no store"],
)
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)], ids=["some points", "all points"])
def test_a_stream_whose_task_is_interrupted_anywhere_leaves_no_reader_waiting(url, policy, step):
    with noting(1, pump.__file__) as points:
        assert asyncio.run(readers(url, policy)) == [items(REQUEST)] * 2
    assert len(points) > 50
    met = 0
    for point in points[::step]:
        took = Took()
        with raising(point, Limit, pump.__file__) as injection:
            got = asyncio.run(readers(url, policy))
        met += injection.done
        assert not any(isinstance(one, TimeoutError) for one in got), f"{point}: {got}"
        assert took.seconds < HANG + SOON
    assert met > 50 / step
