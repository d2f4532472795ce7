"""Types of other packages, by the names that annotations have for them; imported when an annotation is resolved.

An extra that is not installed has no types. Its parameters are of any type then, so that annotations still resolve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from askonce.cache.results import late_names

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

_installed = late_names(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    try:
        return _installed(name)
    except ImportError:
        return Any
