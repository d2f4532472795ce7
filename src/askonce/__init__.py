"""askonce: a response cache for LLM calls. Ask once; the whole fleet gets the answer.

    import askonce
    out = askonce.get_or_set(messages=[...], model="gpt-4.1-mini", call_fn=call, ttl=3600)

`Cache` and `AsyncCache` are the whole of it; the functions here use a default Cache, made at the first call.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as _Mapping
from typing import TYPE_CHECKING, Any
from typing import Unpack as _Unpack

from askonce.cache import config as _config
from askonce.cache import configuring as _configuring
from askonce.cache.answer import AsyncOutcome, Outcome
from askonce.cache.cache import AsyncCache, AsyncHandle, Cache, Handle
from askonce.cache.carry import carry
from askonce.cache.pricing import Prices as _Prices
from askonce.cache.sealing import Encryption as _Encryption
from askonce.cache.typing import Fields as _Fields
from askonce.cache.typing import T as _T
from askonce.core.keyring import Keys
from askonce.core.policy import Consistency as _Consistency
from askonce.core.policy import Policy
from askonce.errors import (
    AskonceError,
    CacheClosed,
    ConfigError,
    NotCached,
    PartialInvalidation,
    RequestError,
    StoreUnavailable,
    UsageError,
)
from askonce.events import Event, Status

__version__ = "0.1.0"
__all__ = [
    "AskonceError",
    "AsyncCache",
    "AsyncHandle",
    "AsyncOutcome",
    "Cache",
    "CacheClosed",
    "ConfigError",
    "Event",
    "Handle",
    "Keys",
    "NotCached",
    "Outcome",
    "PartialInvalidation",
    "Policy",
    "RequestError",
    "Status",
    "StoreUnavailable",
    "UsageError",
    "carry",
    "configure",
    "default_cache",
    "get_or_set",
    "request_log",
]

_default: dict[str, tuple[Cache, _config.Defaults]] = {}  # under one name: a dict, because its methods are atomic


def configure(
    *,
    url: str | None = None,
    prefix: str | None = None,
    mode: _config.ModeWord | None = None,
    near: int | str | None = None,
    consistency: _Consistency | None = None,
    policy: Policy | None = None,
    scopes: _Mapping[str, Policy] | None = None,
    compress: str | bool | None = None,
    encryption: _Encryption | None = None,
    prices: _Prices | None = None,
    **fields: _Unpack[_Fields],
) -> None:
    """Set the defaults of caches made from now on, the default cache among them (None: leave it as it is).

    `url`, `prefix`, `mode`, `near` (bytes, or such as "64MB"), `consistency`, `policy`, `scopes`, `compress`,
    `encryption` and `prices` are those of `Cache` (None leaves each as it is); `fields`: those of `Policy`, such as
    ``ttl=3600``, over that of `policy`. Where that changes anything, the next call makes another default cache; the old
    one finishes its calls. ConfigError for a wrong value, UsageError for an unknown keyword.
    """
    said: dict[str, Any] = {
        "url": url,
        "prefix": prefix,
        "mode": mode,
        "near": near,
        "compress": compress,
        "encryption": encryption,
    }
    said |= {"consistency": consistency, "policy": policy, "scopes": scopes, "prices": prices}
    _configuring.configure(said, fields)
    made = _default.get("cache")
    if made is not None and made[1] != _config.defaults(lenient=True):
        _default.pop("cache", None)


def default_cache() -> Cache:
    """Return the Cache behind the functions of this module, made by the first call.

    Its store is that of `configure(url=)`, else of ``$ASKONCE_URL``, else of ``$REDIS_URL``, else an SQLite file.
    """
    made = _default.get("cache")
    if made is None:
        # Of several made at the same moment one is kept. No lock: a fork or a finaliser may come in the middle.
        defaults = _config.defaults()
        with _config.naming(_config.url_variable(None)):
            cache = Cache(defaults.url, prefix=defaults.prefix, mode=defaults.mode)
        made = _default.setdefault("cache", (cache, defaults))
    return made[0]


def get_or_set(messages: object, model: str, call_fn: Callable[[], _T], ttl: float | None = None, **more: Any) -> _T:
    """Return the answer of `model` to `messages`; `call_fn()` runs only if no caller has it. `ttl` in seconds.

    The tutorial's function, on the default cache. Keywords of CallOptions are askonce's; all others are part of the
    question: temperature, seed, ... Those of ``request={...}`` are too, whatever their names. `ttl`: None for the
    policy's. Errors as in `Cache.get_or_set`.
    """
    return default_cache().get_or_set(messages, model, call_fn, ttl, **more)


def request_log(cache: Any, stream: Any = None) -> Callable[[], None]:
    """Write one line of JSON for each lookup of a cache to a text `stream` (None: stderr). Return what ends it.

    Columns: ``time`` (UTC), ``key``, ``outcome``, ``detail``, ``model``, ``tenant``, ``status`` (of HTTP; null for a
    cache alone), ``seconds``, ``bytes`` (of a stored answer), ``tokens_saved``. What is not known is null. No prompt,
    answer or credential is ever in a line. UsageError if `cache` is no cache, or `stream` no text stream.
    """
    from askonce.metrics.request_log import log_requests

    return log_requests(cache, stream)


if not TYPE_CHECKING:  # a module with it has every name for a type checker

    def __getattr__(name: str) -> Any:
        """The rooms that `import askonce` does not load: ``askonce.metrics.prometheus(cache)`` imports them."""
        if name not in {"metrics", "otel"}:
            raise AttributeError(f"module 'askonce' has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"askonce.{name}")
