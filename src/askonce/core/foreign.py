"""Types of other packages, by the names under which annotations ask for them: imported when somebody asks.

An extra that is not installed has no types. Its parameters are of any type then, so that annotations still resolve.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

__all__ = ["CollectorRegistry", "MeterProvider", "TracerProvider"]

_HOMES = {
    "MeterProvider": "opentelemetry.metrics",
    "TracerProvider": "opentelemetry.trace",
    "CollectorRegistry": "prometheus_client",
}


def __getattr__(name: str) -> Any:
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(home), name)
    except ImportError:
        return Any
