"""Several processes behind one port: any of them shows the sum, and what one counted stays when it is gone."""

from __future__ import annotations

import os
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

import askonce
from askonce.metrics import prometheus
from askonce.metrics.shared import FRESH, SharedFolder
from askonce.metrics.snapshot import Snapshot
from tests.metrics.test_prometheus import SAID, asked, samples, total


class Process:
    """A process as far as its numbers go: a cache, a registry and a place in the folder."""

    def __init__(self, folder):
        self.cache = askonce.Cache("memory://")
        self.exporter = prometheus(self.cache, CollectorRegistry())
        self.exporter.share(SharedFolder(folder))

    def ask(self, content, call=lambda: SAID):
        self.cache.fetch(asked(content=content), call)


@pytest.fixture
def two(tmp_path):
    made = Process(tmp_path), Process(tmp_path)
    yield made
    for one in made:
        one.cache.close()


def test_each_shows_the_sum_of_all(two):
    one, other = two
    for content in ("1", "2", "3"):
        one.ask(content)
        other.ask(f"other {content}")
    one.exporter.write()
    other.exporter.write()
    shown = [samples(process.exporter) for process in two]
    for name in ("askonce_lookups_total", "askonce_calls_total", "askonce_lookup_duration_seconds_count"):
        assert [total(found, name) for found in shown] == [6, 6]
    assert shown[0] == shown[1]


def test_what_a_process_that_is_gone_counted_stays_and_what_it_had_in_progress_does_not(two, tmp_path):
    one, other = two
    began, go_on = threading.Event(), threading.Event()

    def call():
        began.set()
        go_on.wait(60)
        return SAID

    asking = threading.Thread(target=other.ask, args=("slow", call))
    asking.start()
    assert began.wait(60)
    other.exporter.write()
    assert total(samples(one.exporter), "askonce_flights") == 1
    for file in tmp_path.glob("*.json"):
        os.utime(file, (time.time() - 2 * FRESH,) * 2)
    found = samples(one.exporter)
    go_on.set()
    asking.join()
    assert total(found, "askonce_flights") == 0
    assert total(found, "askonce_calls_total") == 1


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"counters":{}}', b'{"counters":{"a":1}}', Snapshot().to_json()[:-3]])
def test_a_file_that_cannot_be_read_takes_no_page_away(two, tmp_path, junk):
    one, other = two
    other.ask("1")
    other.exporter.write()
    (tmp_path / "0-junk.json").write_bytes(junk)
    assert total(samples(one.exporter), "askonce_lookups_total") == 1


def test_a_snapshot_is_the_same_after_it_was_written(two):
    one, _ = two
    one.ask("1")
    made = one.exporter._collector.snapshot()
    read = Snapshot.from_json(made.to_json())
    assert (read.counters, read.gauges) == (made.counters, made.gauges)
    assert read.histograms == {name: dict(rows) for name, rows in made.histograms.items()}
