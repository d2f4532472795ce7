"""Two gateways and four processes on one store, ended and started again: equal to what the provider itself counted."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
import pytest

from askonce import Cache, Policy
from askonce.core.spent import Balance
from askonce.testing.script import Step
from tests.fixtures import place_of
from tests.gateway.served import Served
from tests.savings import worker
from tests.savings.test_fleet import PROCESSES, ROOT, Counting

GATEWAYS, CALLERS, EACH, TURNS = 2, 3, 30, 2
KEY = {"authorization": "Bearer sk-test"}


@pytest.fixture
def provider() -> Iterator[Counting]:
    with Counting(delay=0.02) as provider:
        refused, failing, truncated = worker.BAD
        provider.script(refused, "refused")
        provider.script(failing, Step(status=500, delay=0.05))
        provider.script(truncated, "truncated")
        for text in worker.TEXTS[:4]:  # an old answer is served meanwhile, where there is one
            provider.script(text, *[Step()] * 3, *[Step(status=503)] * 2, Step())
        yield provider


def configured(folder: Path, provider: Counting, store: str) -> Path:
    """A file for gateways that keep answers as long, and price them, as the processes do."""
    prices, file = folder / "prices.json", folder / "gateway.toml"
    prices.write_text(json.dumps({"models": worker.PRICES}), "utf-8")
    own = {one.name: getattr(worker.POLICY, one.name) for one in fields(Policy)}
    rule = [f"{name} = {value}" for name, value in own.items() if isinstance(value, float)]
    text = ["[server]", "port = 0", "[store]", f"url = '{store}'", "[[upstream]]", f"url = '{provider.url}'"]
    file.write_text("\n".join([*text, "[prices]", "file = 'prices.json'", "[[rule]]", *rule]), "utf-8")
    return file


def ask(url: str, dice: random.Random, told: list[int]) -> None:
    with httpx2.Client(timeout=60) as client:
        for _ in range(EACH):
            path, body = worker.drawn(dice)
            told.append(worker.tokens_of(path, body, client.post(url + path, json=body, headers=KEY)))


def asking(gateways: list[Served], turn: int, told: list[int]) -> list[threading.Thread]:
    """Callers of the gateways, asking."""
    drawn = [
        (one, random.Random(f"{turn} {number} {at}")) for at, one in enumerate(gateways) for number in range(CALLERS)
    ]
    callers = [threading.Thread(target=ask, args=(one.url, dice, told)) for one, dice in drawn]
    for caller in callers:
        caller.start()
    return callers


def working(store: str, provider: Counting, turn: int, folder: Path) -> list[tuple[subprocess.Popen[bytes], Path]]:
    """The processes, which ask by the library, and the files for what they were told."""
    results = [folder / f"{turn}-{number}.json" for number in range(PROCESSES)]
    return [
        (subprocess.Popen([sys.executable, worker.__file__, store, provider.url, f"{turn}{number}", str(EACH), str(result)], cwd=ROOT), result)
        for number, result in enumerate(results)
    ]  # fmt: skip


def all_at_once(file: Path, store: str, provider: Counting, turn: int, told: list[int]) -> None:
    """Gateways and processes at work, and their end."""
    with contextlib.ExitStack() as running:
        gateways = [running.enter_context(Served("--config", file)) for _ in range(GATEWAYS)]
        processes = working(store, provider, turn, file.parent)
        for caller in asking(gateways, turn, told):
            caller.join()
        assert [process.wait(120) for process, _ in processes] == [0] * PROCESSES
        for one in gateways:
            one.tell(signal.SIGTERM)
        assert [one.end() for one in gateways] == [0] * GATEWAYS
    told += [tokens for _, result in processes for tokens in json.loads(result.read_text("utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def test_gateways_and_processes_count_what_the_provider_counted_to_the_token(kind, provider, request, tmp_path):
    store, told = place_of(kind, request, tmp_path), list[int]()
    file = configured(tmp_path, provider, store)
    for turn in range(TURNS):
        all_at_once(file, store, provider, turn, told)
    with Cache(store) as cache:
        savings = cache.savings(since=1, by="model")
    total = savings.total
    assert len(told) == TURNS * EACH * CALLERS * (GATEWAYS + PROCESSES)
    assert (total.paid.calls, total.paid.tokens) == (provider.calls, provider.tokens)
    assert (total.asked.calls + total.unanswered, total.asked.tokens) == (len(told), sum(told))
    assert (total.saved.calls, total.saved.tokens) == (len(told) - provider.calls, sum(told) - provider.tokens)
    for name in ("led", "hits", "joined", "stale", "refreshes"):
        assert getattr(total, name).calls > 0, f"nothing of this kind happened: {name}"
    rows: dict[Any, Balance] = {row.label: row.balance for row in savings.rows}
    assert sum(rows.values(), Balance()) == total
    for model, (put_in, got_out) in {"gpt-9": (2, 10), "gpt-9-mini": (2, 10), "claude-9": (3, 15)}.items():
        for spent in (rows[model].paid, rows[model].saved):
            assert spent.nanodollars == 1000 * (spent.tokens_in * put_in + spent.tokens_out * got_out)
