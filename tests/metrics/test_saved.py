"""What was saved, for Prometheus: the same numbers as `savings()`, for as long as this process counts."""

from __future__ import annotations

import os

import pytest
from prometheus_client import CollectorRegistry

import askonce
from askonce.metrics import prometheus
from askonce.metrics.series import LabelValues, Series
from askonce.testing.answers import answer
from tests.metrics.test_prometheus import asked, samples, total

PRICES = {"gpt": {"input": 2.0, "output": 8.0}}


def called(content="hi", model="gpt"):
    return answer(asked(model, content), "openai.chat")


@pytest.fixture
def cache(request):
    with askonce.Cache("memory://", prefix=request.node.name, prices=PRICES) as made:
        yield made


@pytest.fixture
def exporter(cache):
    return prometheus(cache, CollectorRegistry())


def agree(found, balance, **labels):
    """The page and a Balance say the same."""
    kinds = (
        ("saved", {"hit": balance.hits, "joined": balance.joined, "stale": balance.stale}),
        ("paid", {"led": balance.led, "refresh": balance.refreshes, "doubled": balance.doubled}),
    )
    for word, spent in kinds:
        for kind, one in spent.items():
            for unit in ("tokens", "usd", "seconds"):
                name = f"askonce_{word}_{unit}_total"
                assert total(found, name, kind=kind, **labels) == pytest.approx(getattr(one, unit)), (name, kind)


def test_the_page_says_what_savings_says(cache, exporter):
    for content, times in (("1", 4), ("2", 1), ("3", 2)):
        for _ in range(times):
            cache.fetch(asked(content=content), lambda content=content: called(content), tenant="acme")
    cache.fetch(asked("unheard-of"), lambda: called(model="unheard-of"))
    saved = cache.savings(by="model")
    assert saved.total.hits.calls == 4
    assert saved.total.hits.usd > 0
    found = samples(exporter)
    agree(found, saved.total)
    for row in saved.rows:
        agree(found, row.balance, model=row.label)
    assert total(found, "askonce_saved_tokens_total", tenant="acme") == saved.total.hits.tokens
    assert total(found, "askonce_unpriced_total", model="unheard-of") == 1


def test_what_other_prefixes_of_one_store_saved_is_theirs(cache, exporter):
    with askonce.Cache("memory://", prefix="another", prices=PRICES) as other:
        for one in (cache, other, other):
            one.fetch(asked(), called)
        assert other.savings().total.hits.calls == 1
        saved = cache.savings().total
        agree(samples(exporter), saved)


def test_after_the_exporter_is_closed_nothing_is_added(cache, exporter):
    cache.fetch(asked(), called)
    cache.savings()
    before = samples(exporter)
    exporter.close()
    cache.fetch(asked(content="2"), lambda: called("2"))
    cache.savings()
    assert total(samples(exporter), "askonce_paid_tokens_total") == total(before, "askonce_paid_tokens_total") > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_counts_its_own(tmp_path):
    with askonce.Cache(f"sqlite:///{tmp_path}/answers.db", prices=PRICES) as cache:
        exporter = prometheus(cache, CollectorRegistry())
        cache.fetch(asked(), called)
        cache.savings()
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            cache.fetch(asked(), called)
            cache.savings()
            found = samples(exporter)
            kinds = [total(found, f"askonce_{word}_tokens_total") for word in ("paid", "saved")]
            os.write(writes, " ".join(str(int(kind)) for kind in kinds).encode())
            os._exit(0)
        os.waitpid(child, 0)
        tokens = int(total(samples(exporter), "askonce_paid_tokens_total"))
        assert os.read(reads, 100).decode().split() == ["0", str(tokens)]


def test_a_counter_never_goes_down_when_something_is_taken_back():
    series = Series(LabelValues())
    seen = []
    for by in (5, -2, 1, 3, -10, 4, 7, 0):
        series.settle(("gpt",), by)
        seen.append(series.counts.get(("gpt",), 0))
    assert seen == sorted(seen)
    assert seen[-1] == 8
