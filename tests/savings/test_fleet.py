"""Four processes, a mix of everything, and a restart: the accounts are equal to what the provider itself counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from askonce import Cache
from askonce.core.spent import Balance, Spent
from askonce.testing import Provider
from askonce.testing.provider import Received
from askonce.testing.script import Step, Turn
from tests.fixtures import place_of
from tests.savings import worker
from tests.siblings import siblings

PROCESSES = 4
ROOT = Path(__file__).parents[2]


class Counting(Provider):
    """A provider that counts the tokens of the answers that it gave."""

    tokens = 0

    def _begin(self, question: str) -> Turn:
        turn = super()._begin(question)
        received: Received = self.requests[-1]
        if turn.step.status == 200 and turn.step.error is None:
            self.tokens += tokens(turn.body(received.request(), received.protocol or "plain"))
        return turn


def tokens(body: Any) -> int:
    counts = body["usage"]
    return sum(counts.get(name, 0) for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"))


@pytest.fixture
def provider():
    with Counting(delay=0.02) as provider:
        refused, failing, truncated = worker.BAD
        provider.script(refused, "refused")
        provider.script(failing, Step(status=500, delay=0.05))
        provider.script(truncated, "truncated")
        # Trouble in between: an old answer is served where there is one.
        for text in worker.TEXTS[:4]:
            provider.script(text, *[Step()] * 3, *[Step(status=503)] * 2, Step())
        yield provider


def run(store: str, provider: Provider, seed: int, count: int, folder: Path) -> list[int]:
    """Run the processes; the tokens of all answers that their callers got."""
    results = [folder / f"{seed}-{number}.json" for number in range(PROCESSES)]
    arguments = [
        [store, provider.url, f"{seed}{number}", str(count), str(result)] for number, result in enumerate(results)
    ]
    with siblings(worker.__name__, arguments) as children:
        assert [child.wait() for child in children] == [0] * PROCESSES
    return [told for result in results for told in json.loads(result.read_text("utf-8"))]


@pytest.mark.waits
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("sqlite", 8),
        pytest.param("sqlite", 40, marks=pytest.mark.slow),
        pytest.param("valkey", 40, marks=pytest.mark.slow),
    ],
)
def test_a_fleet_counts_what_the_provider_counted_to_the_token(kind, count, provider, request, tmp_path):
    store = place_of(kind, request, tmp_path)
    told = [token for seed in (1, 2) for token in run(store, provider, seed, count, tmp_path)]  # two: a restart
    with Cache(store) as cache:
        savings = cache.savings(since=1, by="model")
    total = savings.total
    assert total.paid.calls == provider.calls
    assert total.paid.tokens == provider.tokens
    assert total.asked.calls + total.unanswered == len(told)
    assert total.asked.tokens == sum(told)
    assert total.saved.tokens == sum(told) - provider.tokens
    assert total.saved.calls == len(told) - provider.calls
    for name in ("led", "hits", "joined", "stale", "refreshes"):
        assert getattr(total, name).calls > 0, f"nothing of this kind happened: {name}"
    rows = {row.label: row.balance for row in savings.rows}
    assert sum(rows.values(), Balance()) == total
    assert rows["embed-9"].paid.unpriced > 0
    for model, (put_in, got_out) in {"gpt-9": (2, 10), "gpt-9-mini": (2, 10), "claude-9": (3, 15)}.items():
        for spent in (rows[model].paid, rows[model].saved):
            assert spent.nanodollars == 1000 * (spent.tokens_in * put_in + spent.tokens_out * got_out)
            assert isinstance(spent, Spent)


SCRIPT = """
import sys
from askonce import Cache
cache = Cache(sys.argv[1])
for _ in range(3):
    cache.fetch({"model": "m", "n": 1}, lambda: {"answer": 1})
"""


@pytest.mark.waits
def test_a_script_that_ends_without_closing_loses_no_count(shared):
    for _ in range(2):
        subprocess.run([sys.executable, "-c", SCRIPT, str(shared)], cwd=ROOT, check=True, timeout=60)
    with Cache(str(shared)) as cache:
        total = cache.savings().total
    assert (total.led.calls, total.hits.calls) == (1, 5)
