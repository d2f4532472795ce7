"""Spans and metrics of OpenTelemetry, by its GenAI semantic conventions; the API only, the SDK is the application's.

The room measures caches through their events and never decides anything. Without `instrument()` it costs nothing.
"""

from askonce.otel.instrument import instrument

__all__ = ["instrument"]
