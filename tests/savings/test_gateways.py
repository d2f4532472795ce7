"""Two gateways on one store, asked at random, ended and started again: equal to what the provider itself counted."""

from __future__ import annotations

import contextlib
import random
import signal
import threading

import httpx2
import pytest

from askonce import Cache
from tests.gateway.served import Served
from tests.savings import worker
from tests.savings.test_fleet import Counting

GATEWAYS, CALLERS, EACH = 2, 3, 30


def ask(url, dice, told):
    with httpx2.Client(timeout=60) as client:
        for _ in range(EACH):
            path, body = worker.drawn(dice)
            response = client.post(url + path, json=body, headers={"authorization": "Bearer sk-test"})
            told.append(worker.tokens_of(path, body, response))


@pytest.mark.slow
def test_two_gateways_count_what_the_provider_counted_to_the_token(tmp_path):
    store, told = f"sqlite:///{tmp_path}/gateways.db", []
    with Counting(delay=0.02) as provider:
        provider.script(worker.BAD[0], "refused")
        provider.script(worker.BAD[2], "truncated")
        for turn in range(2):
            with contextlib.ExitStack() as running:
                gateways = [
                    running.enter_context(Served("--upstream", provider.url, "--url", store)) for _ in range(GATEWAYS)
                ]
                callers = [
                    threading.Thread(target=ask, args=(one.url, random.Random(f"{turn} {number} {one.url}"), told))
                    for number in range(CALLERS)
                    for one in gateways
                ]
                for caller in callers:
                    caller.start()
                for caller in callers:
                    caller.join()
                for one in gateways:
                    one.tell(signal.SIGTERM)
                assert [one.end() for one in gateways] == [0] * GATEWAYS
        with Cache(store) as cache:
            total = cache.savings().total
    assert (total.paid.calls, total.paid.tokens) == (provider.calls, provider.tokens)
    assert (total.asked.calls, total.asked.tokens) == (len(told), sum(told))
    assert total.hits.calls > 0
