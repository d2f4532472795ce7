"""What is exported to Prometheus: right numbers, bounded labels, each process its own."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import askonce
from askonce.core import libraries
from askonce.events import Events, Status
from askonce.metrics import prometheus, series
from askonce.metrics.counts import Counts
from askonce.metrics.series import OTHER, ROWS, VALUES

SAID = {"choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}
CUT = {"choices": [{"message": {"role": "assistant", "content": "hel"}, "finish_reason": "length"}]}


def asked(model="gpt", content="hi", **more):
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


def samples(exporter, accept=""):
    """Each sample of the page: its name and labels, and its value."""
    page, kind = exporter.text(accept)
    read = parse_openmetrics if "openmetrics" in kind else parse
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in read(page.decode())
        for one in family.samples
    }


def total(found, name, **labels):
    return sum(value for (one, said), value in found.items() if one == name and labels.items() <= dict(said).items())


@pytest.fixture
def cache():
    with askonce.Cache("memory://") as made:
        yield made


@pytest.fixture
def exporter(cache):
    return prometheus(cache, CollectorRegistry())


def fail():
    raise ConnectionError("upstream is away")


def test_a_page_says_what_was_asked_of_which_model_by_whom_and_how_it_ended(cache, exporter):
    cache.fetch(asked(), lambda: SAID, tenant="acme")
    cache.fetch(asked(), lambda: SAID, tenant="acme")
    cache.fetch(asked("small"), lambda: CUT)
    cache.fetch(asked(tools=[{"type": "web_search"}]), lambda: SAID)
    with pytest.raises(ConnectionError):
        cache.fetch(asked("big"), fail)
    found = samples(exporter)
    hit = {"outcome": "hit", "model": "gpt", "tenant": "acme", "detail": ""}
    assert total(found, "askonce_lookups_total", **hit) == 1
    assert total(found, "askonce_lookups_total", **{**hit, "outcome": "miss"}) == 1
    assert total(found, "askonce_lookups_total", outcome="miss", model="small", detail="truncated") == 1
    assert total(found, "askonce_lookups_total", outcome="bypass", model="gpt") == 1
    assert total(found, "askonce_calls_total", model="gpt", tenant="acme") == 1
    assert total(found, "askonce_stored_total", model="gpt", tenant="acme") == 1
    assert total(found, "askonce_unstored_total", model="small", detail="truncated") == 1
    assert total(found, "askonce_failures_total", model="big", detail="ConnectionError") == 1
    assert total(found, "askonce_call_duration_seconds_count") == 2
    assert total(found, "askonce_lookup_duration_seconds_count", outcome="hit") == 1


def test_the_page_and_the_statistics_of_a_cache_are_the_same_numbers(cache, exporter):
    for number in range(12):
        for _ in range(number % 3 + 1):
            cache.fetch(asked(content=f"{number % 5}"), lambda number=number: SAID if number % 4 else CUT)
    stats, found = cache.stats(), samples(exporter)
    assert total(found, "askonce_lookups_total") == stats["lookups"]
    for name, outcome in (("hit", "hit"), ("miss", "miss")):
        assert total(found, "askonce_lookups_total", outcome=outcome) == stats[name]
    assert total(found, "askonce_calls_total") == stats["call"]
    assert total(found, "askonce_stored_total") == stats["stored"]
    assert total(found, "askonce_unstored_total") == stats["unstored"]


async def test_an_http_client_counts_what_passes_under_its_model(exporter, cache):
    import httpx2

    def upstream(request):
        return httpx2.Response(200, json=SAID)

    with cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream)) as client:
        for body in (asked(), asked(), asked(tools=[{"type": "web_search"}])):
            client.post("https://api.openai.com/v1/chat/completions", json=body, headers={"authorization": "Bearer x"})
    found = samples(exporter)
    assert total(found, "askonce_lookups_total", model="gpt") == 3
    assert total(found, "askonce_lookups_total", model="gpt", outcome="hit") == 1
    assert total(found, "askonce_lookups_total", model="gpt", outcome="bypass") == 1


def test_a_call_in_progress_and_an_open_breaker_show(cache, exporter):
    began, go_on = threading.Event(), threading.Event()

    def call():
        began.set()
        go_on.wait(60)
        return SAID

    asking = threading.Thread(target=cache.fetch, args=(asked(), call))
    asking.start()
    assert began.wait(60)
    assert total(samples(exporter), "askonce_flights") == 1
    go_on.set()
    asking.join()
    assert total(samples(exporter), "askonce_flights") == 0
    assert total(samples(exporter), "askonce_breaker_open") == 0
    cache._base.engine().background.breakers.failed("", "read", "store-denied")
    assert total(samples(exporter), "askonce_breaker_open", direction="read") == 1
    cache._base.engine().background.breakers.close("", cache._base.engine().background.breakers.of("").read)


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=20), st.booleans()), max_size=200))
@settings(max_examples=8, deadline=None)
def test_whatever_names_others_send_the_page_stays_small_and_whole(named):
    with askonce.Cache("memory://") as cache:
        exporter = prometheus(cache, CollectorRegistry())
        for at, (model, detail, hit) in enumerate(named):
            subject = Named(f"{model}{at % 150}", f"tenant-{at % 120}")
            cache._base.events.lookup(Status("", hit=hit, fwd="" if hit else "miss", detail=detail), subject)
            cache._base.events.emit("failed", "", detail, model=subject.model, tenant=subject.tenant)
        found = samples(exporter)
        assert samples(exporter, "application/openmetrics-text; version=1.0.0") == found
    for name in ("askonce_lookups_total", "askonce_failures_total"):
        assert total(found, name) == len(named)
        for label, most in (("model", VALUES), ("tenant", VALUES), ("detail", VALUES)):
            values = {dict(said)[label] for one, said in found if one == name}
            assert len(values - {OTHER}) <= most


class Named:
    began = 0.0

    def __init__(self, model, tenant=""):
        self.model, self.tenant = model, tenant


def test_names_that_never_had_an_answer_make_room_for_one_that_has():
    counts, events = Counts(), Events()
    events.observe(counts)
    for number in range(10 * ROWS):
        events.lookup(Status("", fwd="miss", detail="status-404"), Named(f"invented-{number}"))
    events.lookup(Status("", hit=True), Named("real"))
    events.lookup(Status("", hit=True), Named("real"))
    assert counts.lookups.counts["hit", "", "real", ""] == 2
    assert sum(counts.lookups.counts.values()) == 10 * ROWS + 2
    assert len(counts.lookups.counts) <= VALUES + 3


@pytest.mark.parametrize(
    "secret", ["sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD", "Bearer abcdefghijklmnop", "x" * 5000]
)
def test_a_tenant_that_is_a_key_is_not_shown(cache, exporter, secret):
    cache.fetch(asked(), lambda: SAID, tenant=secret)
    assert secret not in exporter.text()[0].decode()
    assert total(samples(exporter), "askonce_lookups_total", tenant=OTHER) == 1


def test_caches_of_one_registry_add_up_until_they_are_closed_and_none_is_kept_alive():
    registry = CollectorRegistry()
    first, second = askonce.Cache("memory://"), askonce.Cache("memory://")
    exporters = [prometheus(one, registry) for one in (first, second, second)]
    for cache in (first, second):
        cache.fetch(asked(), lambda: SAID)
    assert total(samples(exporters[0]), "askonce_lookups_total") == 2
    exporters[2].close()
    second.fetch(asked(), lambda: SAID)
    assert total(samples(exporters[0]), "askonce_lookups_total") == 2
    gone = weakref.ref(first)
    first.close()
    del first, cache
    gc.collect()
    assert gone() is None
    assert total(samples(exporters[0]), "askonce_lookups_total") == 2
    second.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_exports_only_its_own_numbers(cache, exporter):
    cache.fetch(asked(), lambda: SAID)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        before = total(samples(exporter), "askonce_lookups_total")
        cache.fetch(asked(), lambda: SAID)
        os.write(writes, f"{before} {total(samples(exporter), 'askonce_lookups_total')}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 100) == b"0 1.0"
    assert total(samples(exporter), "askonce_lookups_total") == 1


def test_without_the_library_the_error_names_the_extra(cache, monkeypatch):
    libraries.prometheus_client.cache_clear()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(askonce.ConfigError, match=r"askonce\[metrics\]"):
        prometheus(cache)
    with pytest.raises(askonce.UsageError, match="give a Cache"):
        prometheus("redis://", CollectorRegistry())


def test_no_lookup_is_lost_when_threads_count_at_once():
    counts, events, number = Counts(), Events(), 3000
    events.observe(counts)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def count(mine):
            for at in range(number):
                subject = Named(f"model-{at % 130}")
                subject.began = time.perf_counter()
                events.lookup(Status("", hit=at % 2 == 0, fwd="miss" if at % 2 else ""), subject)
                events.emit("called", seconds=0.1, model=f"model-{mine}", tenant="")

        threads = [threading.Thread(target=count, args=(mine,)) for mine in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(before)
    assert sum(counts.lookups.counts.values()) == 4 * number
    assert sum(map(sum, counts.lookup_seconds.rows.values())) == 4 * number
    assert sum(map(sum, counts.call_seconds.rows.values())) == 4 * number


def test_a_duration_is_counted_though_its_row_is_taken_away_meanwhile(monkeypatch):
    durations = series.Durations((1.0,), series.LabelValues())
    durations.observe("m", 0.5)
    search = series.bisect_left
    monkeypatch.setattr(series, "bisect_left", lambda *given: (durations._fold("m"), search(*given))[1])
    durations.observe("m", 0.25)
    assert sum(map(sum, durations.rows.values())) == 2
    assert sum(durations.sums.values()) == 0.75


def test_a_scrape_may_ask_for_some_metrics_alone(cache, exporter):
    cache.fetch(asked(), lambda: SAID)
    some = exporter.registry.restricted_registry(["askonce_calls_total", "askonce_flights"])
    assert {one.name for family in some.collect() for one in family.samples} == {
        "askonce_calls_total",
        "askonce_flights",
    }


def test_the_default_registry_is_the_library_s_own(cache):
    from prometheus_client import REGISTRY, generate_latest

    exporter = prometheus(cache)
    try:
        cache.fetch(asked(), lambda: SAID)
        assert b'askonce_lookups_total{detail="",model="gpt"' in generate_latest(REGISTRY)
    finally:
        exporter.close()
