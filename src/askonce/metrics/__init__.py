"""Numbers of a cache for other programs: Prometheus metrics, and one log line a request.

The room measures caches through their events and never decides anything. No count here is asked of the store at a hit.
"""

from askonce.metrics.exporter import Exporter, prometheus

__all__ = ["Exporter", "prometheus"]
