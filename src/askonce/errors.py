"""Everything askonce raises of its own.

    AskonceError
    |-- ConfigError          (also ValueError)   a URL, option, policy or directive that cannot be meant
    |-- RequestError         (also TypeError)    a request that has no exact JSON form, so no key; names the path
    |-- UsageError           (also TypeError)    a call made in a way that cannot work (a coroutine given to Cache)
    |-- NotCached            (also LookupError)  only-if-cached, and there is no servable answer
    |-- CacheClosed          (also RuntimeError) the cache was closed before, or while, the call was waiting
    |-- StoreUnavailable     (also ConnectionError) a command (never a plain lookup) could not reach the store
    `-- PartialInvalidation  (also StoreUnavailable) an invalidation reached only a part of the store

An upstream's own errors are none of these: they pass through untouched. A lookup never raises for trouble in the
store unless the cache was made with ``strict=True``; then it raises StoreUnavailable.
"""

from __future__ import annotations

from typing import Any


class Portable(Exception):
    """An exception that is pickled and copied as it is: pools of processes hand them on.

    Python makes an exception anew from its text alone, which fails where more is asked for, and loses the rest.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    made: Exception = kind.__new__(kind, *args)
    made.args = args
    made.__dict__.update(state)
    return made


class AskonceError(Portable):
    """The root: ``except AskonceError`` catches whatever is ours and nothing of the upstream's."""


class ConfigError(AskonceError, ValueError):
    """A URL, option, policy, scope, tag or directive that cannot be meant; the message says what to write instead."""


class RequestError(AskonceError, TypeError):
    """A request that has no exact JSON form. `path` names the place, as in ``$.messages[2].content``."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class UsageError(AskonceError, TypeError):
    """A call made in a way that cannot work; the message names the way that does."""


class NotCached(AskonceError, LookupError):
    """``only-if-cached`` was asked for and the store holds no servable answer. `key` is the question's key."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class CacheClosed(AskonceError, RuntimeError):
    """The cache was closed."""


class StoreUnavailable(AskonceError, ConnectionError):
    """The store could not be reached, or refused; `kind` is the short word that statuses carry (``store-timeout``)."""

    def __init__(self, message: str, kind: str = "store-error") -> None:
        super().__init__(message)
        self.kind = kind


class PartialInvalidation(StoreUnavailable):
    """An invalidation reached `done` of `total` partitions. Nothing is lost by repeating it: do so."""

    def __init__(self, message: str, done: int, total: int) -> None:
        super().__init__(message, "store-partial")
        self.done = done
        self.total = total
