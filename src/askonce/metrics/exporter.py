"""Prometheus metrics of caches: collected when they are scraped, from counts that exist.

Each process exports its own numbers. Names and labels are in docs/metrics.md, and the dashboard in docs/grafana uses
them; tests compare the three.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from askonce.cache import foreign
from askonce.cache.base import BaseCache, base_of
from askonce.core.libraries import prometheus_client
from askonce.core.spent import Balance
from askonce.core.wording import spelled, with_method
from askonce.events import log
from askonce.flight.accounts import Accounts
from askonce.flight.bookings import Who
from askonce.metrics.counts import CALL_BOUNDS, LOOKUP_BOUNDS, Counts, Money
from askonce.metrics.series import Row
from askonce.metrics.shared import SharedFolder
from askonce.metrics.snapshot import Histogram, Snapshot, summed
from askonce.runtime.forks import around_forks


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
SAVED_TOKENS = Metric(
    "askonce_saved_tokens", "Tokens of answers that were not paid again.", ("kind", "model", "tenant")
)
SAVED_USD = Metric("askonce_saved_usd", "US dollars that those answers had cost.", ("kind", "model", "tenant"))
SAVED_SECONDS = Metric("askonce_saved_seconds", "Time that their calls had taken.", ("kind", "model", "tenant"))
PAID_TOKENS = Metric("askonce_paid_tokens", "Tokens of upstream calls.", ("kind", "model", "tenant"))
PAID_USD = Metric("askonce_paid_usd", "US dollars that upstream calls cost.", ("kind", "model", "tenant"))
PAID_SECONDS = Metric("askonce_paid_seconds", "Time that upstream calls took.", ("kind", "model", "tenant"))
UNPRICED = Metric("askonce_unpriced", "Answers whose price is not known; they add no dollars.", ("model", "tenant"))
FLIGHTS = Metric("askonce_flights", "Upstream calls in progress.")
WAITING = Metric("askonce_waiting", "Callers that wait for a call of another process.")
BREAKER = Metric("askonce_breaker_open", "1 while the store is not used in this direction, else 0.", ("direction",))
NEAR_BYTES = Metric("askonce_near_bytes", "Bytes of answers in the near cache.")
NEAR_ENTRIES = Metric("askonce_near_entries", "Answers in the near cache.")


COUNTERS = (LOOKUPS, CALLS, FAILURES, STORED, UNSTORED, EVENTS, UNPRICED)
SAVED = (SAVED_TOKENS, SAVED_USD, SAVED_SECONDS)
PAID = (PAID_TOKENS, PAID_USD, PAID_SECONDS)
UNITS = (1, 10**9, 1000)  # tokens; nano-dollars of a dollar; ms of a second
HISTOGRAMS = ((LOOKUP_SECONDS, LOOKUP_BOUNDS), (CALL_SECONDS, CALL_BOUNDS))
GAUGES = (BREAKER, FLIGHTS, WAITING, NEAR_BYTES, NEAR_ENTRIES)


class Exporter:
    """What `prometheus()` returns: the page that is scraped, and the end of it."""

    def __init__(self, registry: foreign.CollectorRegistry, collector: Collector, stop: Callable[[], None]) -> None:
        self.registry = registry
        self.close = stop
        self._collector = collector

    def share(self, folder: SharedFolder) -> None:
        """Show the numbers of other processes too, as they wrote them to a folder; see `write`."""
        self._collector.shared = folder

    def write(self) -> None:
        """Write this process's numbers to the shared folder; once a second is often enough."""
        if (shared := self._collector.shared) is not None:
            shared.write(self._collector.snapshot())

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that the request's Accept header asks for."""
        encoder, content_type = prometheus_client().exposition.choose_encoder(accept)
        return encoder(self.registry), content_type


@spelled
def prometheus(cache: Any, registry: foreign.CollectorRegistry | None = None) -> Exporter:
    """Count what a cache does from now on, and export it to `registry` (None: prometheus_client's own).

    The numbers of several caches in one registry are added up. ConfigError if prometheus-client is not installed,
    UsageError if `cache` is no cache, or `registry` no registry.
    """
    base = base_of(cache, "prometheus")
    with_method("registry", registry, "register", "a CollectorRegistry of prometheus_client, or None for its own")
    registry = registry or prometheus_client().REGISTRY
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors.setdefault(registry, made := Collector())
        if collector is made:  # and not another thread's
            registry.register(collector)
    return Exporter(registry, collector, collector.add(base))


class Collector:
    """The metrics of all caches of one registry. It keeps none of them alive."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.shared: SharedFolder | None = None
        self._caches: weakref.WeakKeyDictionary[BaseCache, Callable[[], None]] = weakref.WeakKeyDictionary()
        self._prefixes: frozenset[str] = frozenset()
        self._heard: weakref.WeakSet[Accounts] = weakref.WeakSet()

    def add(self, cache: BaseCache) -> Callable[[], None]:
        """Count what a cache does, once; returns what ends that."""
        if cache not in self._caches:
            self._caches[cache] = cache.events.observe(self.counts)
            self._hear()
        mine = weakref.ref(cache)

        def stop() -> None:
            known = mine()
            ends = None if known is None else self._caches.pop(known, None)
            if ends is not None:
                ends()
                self._hear()

        return stop

    def _hear(self) -> None:
        """Listen to the accounts of all its caches, and to no other; a process has one for each address of a store."""
        engines = [cache.engine() for cache in list(self._caches)]
        self._prefixes = frozenset(engine.store.prefix for engine in engines)
        mine = {engine.accounting.accounts for engine in engines}
        for accounts in mine:
            accounts.listeners[id(self)] = self._balanced
        for accounts in set(self._heard) - mine:
            accounts.listeners.pop(id(self), None)
        self._heard = weakref.WeakSet(mine)

    def _balanced(self, who: Who, balance: Balance) -> None:
        if who.prefix not in self._prefixes:
            return  # of a cache that shares the store
        try:
            self.counts.balanced(who.model, who.tenant, balance)
        except Exception:  # noqa: BLE001 - the background thread has other work, too
            log.exception("savings could not be counted for metrics")

    def after_fork(self) -> None:
        """In a forked child: begin anew. Its parent exports its own numbers, and its caches have new engines."""
        self.counts.clear()
        self._hear()

    def describe(self) -> Iterable[Any]:
        """The names of all metrics, without counts: for the registry, which finds a collector by them."""
        return self._families(Snapshot())

    def collect(self) -> Iterator[Any]:
        """All metrics, for a scrape."""
        return self._families(summed([self.snapshot(), *(() if self.shared is None else self.shared.others())]))

    @staticmethod
    def _families(found: Snapshot) -> Iterator[Any]:
        for metric in (*COUNTERS, *SAVED, *PAID):
            yield _family("Counter", metric, found.counters.get(metric.name, {}))
        for metric, bounds in HISTOGRAMS:
            yield _histogram(metric, bounds, found.histograms.get(metric.name, {}))
        for metric in GAUGES:
            yield _family("Gauge", metric, found.gauges.get(metric.name, {}))

    def snapshot(self) -> Snapshot:
        """The numbers of this process."""
        counts = self.counts
        counters = {metric.name: one.counts.copy() for metric, one in zip(COUNTERS, counts.plain(), strict=True)}
        counters |= _in_units(SAVED, counts.saved) | _in_units(PAID, counts.paid)
        durations = (counts.lookup_seconds, counts.call_seconds)
        histograms = {metric.name: one.copied() for (metric, _), one in zip(HISTOGRAMS, durations, strict=True)}
        states = [state for cache in list(self._caches) if (state := _state(cache)) is not None]
        return Snapshot(counters, histograms, _gauges(states))


_collectors: weakref.WeakKeyDictionary[Any, Collector] = weakref.WeakKeyDictionary()


def _after_fork() -> None:
    for collector in list(_collectors.values()):
        collector.after_fork()


around_forks(in_child=_after_fork)  # after the caches' own: they were imported before


def _state(cache: BaseCache) -> dict[str, Any] | None:
    try:
        return cache.state()
    except Exception:  # noqa: BLE001 - one cache in trouble must not take the page away
        log.exception("the state of a cache could not be read for its metrics")
        return None


def _in_units(metrics: tuple[Metric, ...], money: Money) -> dict[str, dict[Row, float]]:
    return {
        metric.name: {row: count / unit for row, count in one.counts.copy().items()}
        for metric, one, unit in zip(metrics, money.all(), UNITS, strict=True)
    }


def _gauges(states: list[dict[str, Any]]) -> dict[str, dict[Row, float]]:
    """What is in progress in some caches, by their statistics."""
    near = [state["near cache"] for state in states if "near cache" in state]
    found: dict[str, dict[Row, float]] = {
        FLIGHTS.name: {(): sum(state["flights"] for state in states)},
        WAITING.name: {(): sum(state["waiting"] for state in states)},
        NEAR_BYTES.name: {(): sum(one["bytes"] for one in near)},
        NEAR_ENTRIES.name: {(): sum(one["entries"] for one in near)},
    }
    shut = {name: [state["breakers"][name] != "closed" for state in states] for name in ("connect", "read", "write")}
    return {BREAKER.name: {(name,): float(any(ones)) for name, ones in shut.items()}, **found}


def _family(kind: str, metric: Metric, rows: dict[Row, float]) -> Any:
    made = getattr(prometheus_client().metrics_core, f"{kind}MetricFamily")
    family = made(metric.name, metric.help, labels=metric.labels)
    for row, value in sorted(rows.items()):
        family.add_metric(row, value)
    return family


def _histogram(metric: Metric, bounds: tuple[float, ...], rows: dict[str, Histogram]) -> Any:
    family = prometheus_client().metrics_core.HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    edges = [*(str(float(bound)) for bound in bounds), "+Inf"]
    for text, (buckets, total) in sorted(rows.items()):
        family.add_metric((text,), list(zip(edges, accumulate(buckets), strict=True)), total)
    return family
