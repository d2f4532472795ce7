"""The exceptions that askonce raises.

    AskonceError
    |-- ConfigError          (also ValueError)   an invalid URL, option, policy or directive
    |-- RequestError         (also TypeError)    a request without an exact JSON form, which has no key; names the path
    |-- UsageError           (also TypeError)    a call that cannot work, such as a coroutine given to Cache
    |-- NotCached            (also LookupError)  only-if-cached, and no answer may be served
    |-- CacheClosed          (also RuntimeError) the cache was closed before the call or while it waited
    |-- StoreUnavailable     (also ConnectionError) a command, but never a plain lookup, could not reach the store
    `-- PartialInvalidation  (also StoreUnavailable) an invalidation reached only a part of the store

Upstream errors are not among these: they pass through unchanged. A lookup never raises because the store fails, unless
the cache was made with ``strict=True``. Then it raises StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Portable(Exception):
    """An exception that keeps all its attributes when it is pickled or copied, as process pools do.

    By default Python rebuilds an exception from its arguments alone. That fails if `__init__` needs more, and loses the
    other attributes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    made: Exception = kind.__new__(kind, *args)
    made.args = args
    made.__dict__.update(state)
    return made


class AskonceError(Portable):
    """The base class: ``except AskonceError`` catches every error of askonce and none of the upstream's."""


class ConfigError(AskonceError, ValueError):
    """An invalid URL, option, policy, scope, tag or directive; the message says what to write instead."""


class RequestError(AskonceError, TypeError):
    """A request without an exact JSON form. `path` names the place, as in ``$.messages[2].content``."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class UsageError(AskonceError, TypeError):
    """A call that cannot work; the message says what to do instead."""


class NotCached(AskonceError, LookupError):
    """The call asked for ``only-if-cached``, and no answer may be served. `key` is the question's key.

    `detail`: that of the status. ``only-if-cached``: none is stored; ``store-...``: the store failed; any other one is
    the reason why such a request is not looked up.
    """

    def __init__(self, message: str = "", key: str = "", detail: str = "only-if-cached") -> None:
        super().__init__(message or not_cached(detail))
        self.key = key
        self.detail = detail


def not_cached(detail: str) -> str:
    """The message of a NotCached with this detail."""
    if detail == "only-if-cached":
        return "only-if-cached, and the store has no answer that may be served"
    failed = "the store failed at this lookup" if detail.startswith("store-") else "this request is not looked up"
    return f"only-if-cached, and {failed} ({detail})"


class CacheClosed(AskonceError, RuntimeError):
    """The cache was closed, before the call or while it waited: keep it open as long as its callers."""


class StoreUnavailable(AskonceError, ConnectionError):
    """The store could not be reached, or it refused. `kind` is the detail that statuses carry (``store-timeout``)."""

    def __init__(self, message: str, kind: str = "store-error") -> None:
        super().__init__(message)
        self.kind = kind


class PartialInvalidation(StoreUnavailable):
    """An invalidation reached `done` of `total` partitions. Repeat it: repeating is safe, and finishes it.

    `missed`: the numbers of the other partitions. `primaries`: the servers of a Cluster that have them, without
    passwords; empty for a single server.
    """

    def __init__(
        self, message: str, done: int, total: int, missed: Sequence[int] = (), primaries: Sequence[str] = ()
    ) -> None:
        super().__init__(message, "store-partial")
        self.done = done
        self.total = total
        self.missed = tuple(missed)
        self.primaries = tuple(primaries)
