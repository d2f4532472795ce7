"""Prometheus metrics of caches: collected when they are scraped, from counts that exist.

Each process exports its own numbers. Names and labels are in docs/metrics.md, and the dashboard in docs/grafana uses
them; tests compare the three.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from askonce.core.libraries import prometheus_client
from askonce.errors import UsageError
from askonce.events import log
from askonce.metrics.counts import Counts
from askonce.metrics.series import Durations, Row, Series

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from askonce.cache.base import BaseCache


class Metric(NamedTuple):
    """A metric's name, what it counts, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


LOOKUPS = Metric("askonce_lookups", "Lookups, by how they ended.", ("outcome", "detail", "model", "tenant"))
LOOKUP_SECONDS = Metric("askonce_lookup_duration_seconds", "Time of a lookup; a stream's until it opens.", ("outcome",))
CALLS = Metric("askonce_calls", "Upstream calls that began.", ("model", "tenant"))
CALL_SECONDS = Metric("askonce_call_duration_seconds", "Time of an upstream call, to its end.", ("model",))
FAILURES = Metric("askonce_failures", "Upstream calls that raised an exception.", ("detail", "model", "tenant"))
STORED = Metric("askonce_stored", "Answers that were stored.", ("model", "tenant"))
UNSTORED = Metric("askonce_unstored", "Answers that were not stored, by why.", ("detail", "model", "tenant"))
EVENTS = Metric("askonce_events", "Everything else that happened, by askonce's names of events.", ("event", "detail"))
FLIGHTS = Metric("askonce_flights", "Upstream calls in progress.")
WAITING = Metric("askonce_waiting", "Callers that wait for a call of another process.")
BREAKER = Metric("askonce_breaker_open", "1 while the store is not used in this direction, else 0.", ("direction",))
NEAR_BYTES = Metric("askonce_near_bytes", "Bytes of answers in the near cache.")
NEAR_ENTRIES = Metric("askonce_near_entries", "Answers in the near cache.")


class Exporter:
    """What `prometheus()` returns: the page that is scraped, and the end of it."""

    def __init__(self, registry: CollectorRegistry, stop: Callable[[], None]) -> None:
        self.registry = registry
        self.close = stop

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that the request's Accept header asks for."""
        encoder, content_type = prometheus_client().exposition.choose_encoder(accept)
        return encoder(self.registry), content_type


def prometheus(cache: Any, registry: CollectorRegistry | None = None) -> Exporter:
    """Count what a cache does from now on, and export it to `registry` (None: prometheus_client's own).

    The numbers of several caches in one registry are added up. ConfigError if prometheus-client is not installed.
    """
    base: BaseCache | None = getattr(cache, "_base", None)
    if base is None:
        raise UsageError(f"prometheus({cache!r}): give a Cache or an AsyncCache")
    registry = registry or prometheus_client().REGISTRY
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors.setdefault(registry, Collector())
        if collector.begun():
            registry.register(collector)
    return Exporter(registry, collector.add(base))


class Collector:
    """The metrics of all caches of one registry. It keeps none of them alive."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._caches: weakref.WeakKeyDictionary[BaseCache, Callable[[], None]] = weakref.WeakKeyDictionary()
        self._begun: list[bool] = []

    def begun(self) -> bool:
        """Whether this is the first call."""
        self._begun.append(not self._begun)
        return self._begun[-1]

    def add(self, cache: BaseCache) -> Callable[[], None]:
        """Count what a cache does, once; returns what ends that."""
        if cache not in self._caches:
            self._caches[cache] = cache.events.observe(self.counts)
        mine = weakref.ref(cache)

        def stop() -> None:
            known = mine()
            ends = None if known is None else self._caches.pop(known, None)
            if ends is not None:
                ends()

        return stop

    def describe(self) -> Iterable[Any]:
        """No names: the counts need not be collected to register them."""
        return ()

    def collect(self) -> Iterator[Any]:
        """All metrics, for a scrape."""
        counts = self.counts
        for metric, series in (
            (LOOKUPS, counts.lookups),
            (CALLS, counts.calls),
            (FAILURES, counts.failures),
            (STORED, counts.stored),
            (UNSTORED, counts.unstored),
            (EVENTS, counts.events),
        ):
            yield _counter(metric, series)
        yield _histogram(LOOKUP_SECONDS, counts.lookup_seconds)
        yield _histogram(CALL_SECONDS, counts.call_seconds)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Any]:
        states = [state for cache in list(self._caches) if (state := _state(cache)) is not None]
        directions = ("connect", "read", "write")
        shut: dict[Row, float] = {
            (name,): max((state["breakers"][name] != "closed" for state in states), default=0) for name in directions
        }
        yield _gauge(BREAKER, shut)
        yield _gauge(FLIGHTS, {(): sum(state["flights"] for state in states)})
        yield _gauge(WAITING, {(): sum(state["waiting"] for state in states)})
        near = [state["near cache"] for state in states if "near cache" in state]
        yield _gauge(NEAR_BYTES, {(): sum(one["bytes"] for one in near)})
        yield _gauge(NEAR_ENTRIES, {(): sum(one["entries"] for one in near)})


_collectors: weakref.WeakKeyDictionary[Any, Collector] = weakref.WeakKeyDictionary()


def _state(cache: BaseCache) -> dict[str, Any] | None:
    try:
        return cache.stats()
    except Exception:  # noqa: BLE001 - one cache in trouble must not take the page away
        log.exception("the state of a cache could not be read for its metrics")
        return None


def _counter(metric: Metric, series: Series) -> Any:
    family = prometheus_client().metrics_core.CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for row, count in sorted(series.counts.copy().items()):
        family.add_metric(row, count)
    return family


def _gauge(metric: Metric, values: dict[Row, float]) -> Any:
    family = prometheus_client().metrics_core.GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for row, value in values.items():
        family.add_metric(row, value)
    return family


def _histogram(metric: Metric, durations: Durations) -> Any:
    family = prometheus_client().metrics_core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for text, buckets in sorted(durations.rows.copy().items()):
        total, rows = 0, []
        for bound, count in zip((*durations.bounds, float("inf")), buckets, strict=True):
            total += count
            rows.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        family.add_metric((text,), rows, durations.sums.get(text, 0.0))
    return family
