"""Cache and AsyncCache: what users hold, and the handles made of them. The twins differ only in `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Self, Unpack

from askonce.cache.answer import Outcome
from askonce.cache.base import BaseCache, scoping
from askonce.cache.common import CacheOrHandle
from askonce.cache.options import Call, CallOptions, settings_of
from askonce.cache.streams import AsyncStream, Stream
from askonce.engine.question import Settings
from askonce.runtime.drive import drive
from askonce.store.inventory import Listed


class SyncMethods(CacheOrHandle):
    """What can be asked of a Cache and of its handles; every method blocks."""

    def get_or_set(self, messages: object, model: str, call_fn: Call, ttl: float | None = None, **more: Any) -> Any:
        """The answer to `messages` put to `model`; `call_fn()` runs only if nobody has it. `ttl` in seconds.

        Keywords of CallOptions are askonce's; all others are part of the question: temperature, seed, ...
        """
        request, settings = self._tutorial(messages, model, ttl, more)
        return drive(self._base.ask(request, call_fn, settings)).value

    def fetch(self, request: object, call: Call, **own: Unpack[CallOptions]) -> Outcome:
        """The Outcome for any JSON-like `request`, all of which is the key; `call()` runs in this thread, if at all.

        What `call` raises passes untouched. RequestError: the request has no exact JSON form. NotCached: there is no
        answer, and ``control="only-if-cached"``.
        """
        return drive(self._base.ask(request, call, self._settings(own)))

    def fetch_stream(self, request: object, open_stream: Call, **own: Unpack[CallOptions]) -> Stream:
        """An iterator of the items of a stream; ``open_stream()`` gives the upstream's, and is called if nobody has it.

        Callers who ask while it runs, in any process, get what was said so far and then each item as it comes. What is
        kept is a stream that came to its end, judged like any answer; leaving early leaves it to go on for
        Policy.abandon_limit s.
        """
        playback, status = drive(self._base.stream(request, open_stream, self._settings(own)))
        return Stream(playback, status, self._base.forgets)

    def scoped(self, **own: Unpack[CallOptions]) -> Handle:
        """A handle with settings of its own, and a context that gives them to the calls made inside."""
        return Handle(self._base, self._settings(own))

    def invalidate(
        self,
        *,
        key: str | Iterable[str] | None = None,
        request: object = None,
        scope: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        everything: bool = False,
        tenant: str | None = None,
        variant: int | str | None = None,
        dry_run: bool = False,
    ) -> int | None:
        """Once this returns, no lookup that starts later, anywhere, gets an answer whose call began before it.

        Say what in one way: a `key` (an outcome's), a `request` (with the scope, tenant and variant it was asked by),
        a `scope` with all below it, a `tag`, a `model`, or everything of this prefix; one or a list. It costs the same
        however many entries die. `dry_run` only says how many live ones it would reach. StoreUnavailable or
        PartialInvalidation when it could not all be done: nothing is lost by repeating it.
        """
        said = {"key": key, "scope": scope, "tag": tag, "model": model, "everything": everything}
        selector = self._selector(request, tenant, variant, said)
        return drive(self._base.drop(selector, dry_run=dry_run))

    def entries(self) -> Iterator[Listed]:
        """What the store holds of this prefix, in no order: headers only, read in small steps while you iterate."""
        walk = self._base.listed()
        while True:
            try:
                yield drive(walk.__anext__())  # type: ignore[arg-type]  # has the send of a coroutine
            except StopAsyncIteration:
                return

    def sweep(self) -> int:
        """Delete the entries that were invalidated; how many. Harmless at any time: they go by themselves too."""
        return drive(self._base.swept())


class AsyncMethods(CacheOrHandle):
    """What can be asked of an AsyncCache and of its handles."""

    async def get_or_set(
        self, messages: object, model: str, call_fn: Call, ttl: float | None = None, **more: Any
    ) -> Any:
        """SyncMethods.get_or_set; `call_fn()` returns something to await, and runs in a task of its own."""
        request, settings = self._tutorial(messages, model, ttl, more)
        return (await self._base.ask(request, call_fn, settings)).value

    async def fetch(self, request: object, call: Call, **own: Unpack[CallOptions]) -> Outcome:
        """SyncMethods.fetch; cancelling a caller never cancels the call that others, or the store, will profit from."""
        return await self._base.ask(request, call, self._settings(own))

    async def fetch_stream(self, request: object, open_stream: Call, **own: Unpack[CallOptions]) -> AsyncStream:
        """SyncMethods.fetch_stream; `open_stream()` gives an async iterator, or something to await that does."""
        playback, status = await self._base.stream(request, open_stream, self._settings(own))
        return AsyncStream(playback, status, self._base.forgets)

    def scoped(self, **own: Unpack[CallOptions]) -> AsyncHandle:
        """SyncMethods.scoped."""
        return AsyncHandle(self._base, self._settings(own))

    async def invalidate(
        self,
        *,
        key: str | Iterable[str] | None = None,
        request: object = None,
        scope: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        everything: bool = False,
        tenant: str | None = None,
        variant: int | str | None = None,
        dry_run: bool = False,
    ) -> int | None:
        """SyncMethods.invalidate."""
        said = {"key": key, "scope": scope, "tag": tag, "model": model, "everything": everything}
        selector = self._selector(request, tenant, variant, said)
        return await self._base.drop(selector, dry_run=dry_run)

    def entries(self) -> AsyncIterator[Listed]:
        """SyncMethods.entries."""
        return self._base.listed()

    async def sweep(self) -> int:
        """SyncMethods.sweep."""
        return await self._base.swept()


class Cache(BaseCache, SyncMethods):
    """The cache for threads: every method blocks, a call runs in its caller's own thread."""

    def close(self, limit: float | None = None) -> list[str]:
        """Wait at most `limit` s for what is in flight, then let go; the keys of calls that had to be dropped.

        Unless given, 5 s; on the way out of a Ctrl-C, 0.
        """
        return drive(self.shut(limit))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncCache(BaseCache, AsyncMethods):
    """The cache for tasks: a call runs in a task of its own, with its caller's context."""

    asynchronous = True

    async def aclose(self, limit: float | None = None) -> list[str]:
        """Cache.close; unless given, 0 also in a task that is being cancelled, as by a Ctrl-C."""
        return await self.shut(limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class _Scoped(CacheOrHandle):
    """A cache with settings of its own. As a context, it gives them to whatever asks that cache inside."""

    def __init__(self, base: BaseCache, settings: Settings) -> None:
        self._cache = base
        self._own = settings

    @property
    def _base(self) -> BaseCache:
        return self._cache

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return self._base.within(self._standing(own))

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own).over(self._own) if own else self._own

    def __enter__(self) -> Self:
        scoping.set((*scoping.get(), (self._base, self._own)))
        return self

    def __exit__(self, *raised: object) -> None:
        # No token: one handle may be entered by many tasks at once, and a token belongs to one of them.
        scoping.set(scoping.get()[:-1])


class Handle(SyncMethods, _Scoped):
    """A Cache with settings of its own."""


class AsyncHandle(AsyncMethods, _Scoped):
    """An AsyncCache with settings of its own."""
