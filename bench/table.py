"""The table of bars: which rows there are, in the order of the issues that ask for them."""

from __future__ import annotations

from bench import (
    clusters,
    eviction,
    failovers,
    forks,
    gateways,
    hits,
    leases,
    lifetimes,
    near,
    outages,
    project,
    sealing,
    stored,
    storms,
    streams,
    wakeups,
)
from bench.row import ROWS

THEMES = (
    clusters,
    eviction,
    failovers,
    forks,
    gateways,
    hits,
    leases,
    lifetimes,
    near,
    outages,
    project,
    sealing,
    storms,
    stored,
    streams,
    wakeups,
)
ORDER = """
    clone wheel cold killed replaced unreplaced failures cancels forks blocked outages refusals refusals-sqlite troubles
    storm hit hit-tutorial hit-server hit-many hit-sqlite hit-async wake-valkey wake-sqlite import opens bound
    streams stream-first stream-killed stream-crowd stream-cpu stream-memory slow flaky
    stale steady ends down storm-all fresh-cost accounting header memory scope client-hit client-miss
    failover cluster eviction money visit near-hit near-storm cluster-cold cluster-streams
    hit-compressed hit-encrypted memory-compressed flipped
    gateway-hit gateway-miss gateway-streams gateway-litellm
"""
TABLE = tuple(ROWS[name] for name in ORDER.split())
