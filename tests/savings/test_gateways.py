"""Two gateways on one store, asked at random, ended and started again: equal to what the provider itself counted."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx2
import pytest

from askonce import Cache
from tests.savings import worker
from tests.savings.test_fleet import ROOT, Counting

GATEWAYS, CALLERS, EACH = 2, 3, 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


def started(provider, store):
    port = free_port()
    words = ["serve", "--upstream", provider.url, "--url", store, "--port", str(port), "--log", "warning"]
    return subprocess.Popen([sys.executable, "-m", "askonce", *words], cwd=ROOT), f"http://127.0.0.1:{port}"


def ready(url):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if httpx2.get(f"{url}/_askonce/ready").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the gateway does not begin")


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
            gateways = [started(provider, store) for _ in range(GATEWAYS)]
            for _, url in gateways:
                ready(url)
            callers = [
                threading.Thread(target=ask, args=(url, random.Random(f"{turn} {number} {url}"), told))
                for number in range(CALLERS)
                for _, url in gateways
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            for process, _ in gateways:
                process.send_signal(signal.SIGTERM)
            assert [process.wait(60) for process, _ in gateways] == [0] * GATEWAYS
        with Cache(store) as cache:
            total = cache.savings().total
    assert (total.paid.calls, total.paid.tokens) == (provider.calls, provider.tokens)
    assert (total.asked.calls, total.asked.tokens) == (len(told), sum(told))
    assert total.hits.calls > 0
