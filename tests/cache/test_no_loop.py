"""An AsyncCache without a running asyncio loop, as under trio: a clear error, before anything is claimed."""

from __future__ import annotations

import pytest

from askonce import AsyncCache, Cache, UsageError
from tests.crowd import ASKED


def test_a_lookup_without_an_event_loop_says_what_to_do_and_leaves_no_lease(place):
    async def call():
        raise AssertionError("it was called")

    lookup = AsyncCache(place).fetch(ASKED, call)
    with pytest.raises(UsageError, match=r"trio\.to_thread"):
        lookup.send(None)
    with Cache(place) as cache:
        assert cache.fetch(ASKED, lambda: 1).status.fwd == "miss"
        assert not cache.stats().get("takeover")


@pytest.mark.parametrize("limit", [None, 0, 1])
def test_so_does_the_end_of_a_block_which_hid_what_was_wrong_in_it(place, limit):
    with pytest.raises(UsageError, match=r"trio\.to_thread"):
        AsyncCache(place).aclose(limit).send(None)
