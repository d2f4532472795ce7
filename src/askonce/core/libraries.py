"""Libraries of extras: imported when they are needed, and named when they are missing."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

from askonce.errors import ConfigError


class Missing(ConfigError):
    """A library is not installed."""


@lru_cache
def zstandard() -> Any:
    """The module `zstandard`."""
    return _imported("zstandard", "compress=", "zstd")


@lru_cache
def aes_gcm() -> Any:
    """The class AESGCM of `cryptography`."""
    return _imported("cryptography.hazmat.primitives.ciphers.aead", "encryption=", "crypto").AESGCM


def _imported(module: str, option: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise Missing(f"{option} needs {module.partition('.')[0]}: pip install 'askonce[{extra}]' ({error})") from error


@lru_cache
def prometheus_client() -> Any:
    """The module `prometheus_client`."""
    return _imported("prometheus_client", "askonce.metrics", "metrics")


@lru_cache
def opentelemetry(module: str) -> Any:
    """A module of OpenTelemetry's API: ``trace``, ``metrics``."""
    return _imported(f"opentelemetry.{module}", "askonce.otel", "otel")
