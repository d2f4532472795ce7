"""Savings and activity as JSON: the numbers, and the sums of them that people want."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from askonce.core.savings import Activity, Hour, Latency, Row, Savings
from askonce.core.spent import KINDS, Balance
from askonce.core.tallies import EDGES
from askonce.gateway.rebuilt import rebuilt

SHARES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


def activity_json(activity: Activity) -> dict[str, Any]:
    """An Activity as JSON."""
    return {
        "hours": [_hour(one) for one in activity.hours],
        "passed": dict(activity.passed),
        "unstored": dict(activity.unstored),
        "hottest": [{"key": key, "hits": hits} for key, hits in activity.hottest],
        "hits": _latency(activity.hits),
        "calls": _latency(activity.calls),
        "edges_ms": list(EDGES),
    }


def _hour(hour: Hour) -> dict[str, Any]:
    at = hour.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"at": at, "balance": hour.balance.as_dict(), "hits": _latency(hour.hits), "calls": _latency(hour.calls)}


def _latency(latency: Latency) -> dict[str, Any]:
    quantiles = {name: latency.quantile(share) for name, share in SHARES.items()}
    return {"count": latency.count, **quantiles, "counts": list(latency.counts)}


def savings_of(told: Any) -> Savings:
    """The Savings of their JSON (`Savings.as_dict`). ValueError for any other."""
    try:
        by = tuple(told["by"])
        rows = tuple(Row(tuple(row[name] for name in by), rebuilt(Balance, row)) for row in told["rows"])
        since, until = date.fromisoformat(told["since"]), date.fromisoformat(told["until"])
        return Savings(since, until, rebuilt(Balance, told["total"]), by, rows)
    except (KeyError, TypeError) as missing:
        raise ValueError(f"no savings: {missing}") from None


# --- their schemas -------------------------------------------------------------------------------------------------

_INTEGER, _NUMBER = {"type": "integer"}, {"type": "number"}
_SPENT_FIELDS = ("calls", "tokens_in", "tokens_out", "tokens_cached", "nanodollars", "ms", "unpriced", "tokens")
_SPENT = {**dict.fromkeys(_SPENT_FIELDS, _INTEGER), "usd": _NUMBER, "seconds": _NUMBER}


def _object(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties), **more}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


_SUMS = {
    **dict.fromkeys((*KINDS, "asked", "paid", "saved"), _object(_SPENT)),
    "unanswered": _INTEGER,
    "hit_ratio": _NUMBER,
}
_QUANTILE = {"anyOf": [_NUMBER, {"type": "null"}]}
_LATENCY = _object({"count": _INTEGER, **dict.fromkeys(SHARES, _QUANTILE), "counts": _list(_INTEGER)})
_COUNTS = {"type": "object", "additionalProperties": _INTEGER}
_TEXT = {"type": "string"}
SAVINGS = _object(
    {"since": _TEXT, "until": _TEXT, "by": _list(_TEXT), "total": _object(_SUMS), "rows": _list(_object(_SUMS))},
    description="What all processes asked, paid and saved. asked = led + hits + joined + stale, paid = led + refreshes"
    " + doubled, saved = asked - paid.",
)
ACTIVITY = _object(
    {
        "hours": _list(_object({"at": _TEXT, "balance": _object(_SUMS), "hits": _LATENCY, "calls": _LATENCY})),
        "passed": _COUNTS,
        "unstored": _COUNTS,
        "hottest": _list(_object({"key": _TEXT, "hits": _INTEGER})),
        "hits": _LATENCY,
        "calls": _LATENCY,
        "edges_ms": _list(_NUMBER),
    },
    description="What all processes did: by hour, why requests passed and answers were not stored, the hottest keys.",
)
