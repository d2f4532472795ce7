"""Cache and AsyncCache, which users hold, and the handles made of them. The two kinds differ only in `await`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from askonce.cache import results
from askonce.cache.answer import AsyncOutcome, Outcome
from askonce.cache.common import CacheOrHandle
from askonce.cache.items import items_as
from askonce.cache.opened import OpenedCache
from askonce.cache.options import Options
from askonce.cache.scoped import Scoped
from askonce.cache.streams import AsyncStream, Stream
from askonce.cache.typing import A_co, C_co, ClientModule, I, T
from askonce.core.wording import spelled
from askonce.runtime.drive import drive

if TYPE_CHECKING:
    import httpx2


class SyncMethods(CacheOrHandle):
    """The methods of a Cache and of its handles; every method blocks."""

    def get_or_set(
        self, messages: object, model: str, call_fn: Callable[[], T], ttl: float | None = None, **more: Any
    ) -> T:
        """Return the answer of `model` to `messages`; `call_fn()` runs only if no caller has it. `ttl` in seconds.

        Keywords of CallOptions are askonce's; all others are part of the question: temperature, seed, ... Those of
        ``request={...}`` are too, whatever their names. UsageError for a keyword that is nearly one of askonce's; other
        errors as in `fetch`. `ttl`: None for the policy's.
        """
        request, settings = self._tutorial(messages, model, ttl, more)
        found: T = drive(self._base.ask(request, call_fn, settings)).value
        return found

    def fetch(self, request: object, call: Callable[[], T], **own: Unpack[Options]) -> Outcome[T]:
        """Return the Outcome for a JSON-like `request`; all of it is the key. `call()` runs in this thread, if needed.

        Exceptions of `call` are passed on unchanged. An answer that is no plain JSON is returned and not stored.
        RequestError: the request has no exact JSON form. ConfigError, UsageError: a setting is wrong, or unknown.
        NotCached: there is no answer, and ``control="only-if-cached"``. CacheClosed: the cache is. StoreUnavailable:
        the store failed, and the cache is `strict`.
        """
        return drive(self._base.ask(request, call, self._settings(own)))

    def fetch_stream(
        self, request: object, open_stream: Callable[[], Iterable[I]], *, item: Any = None, **own: Unpack[Options]
    ) -> Stream[I]:
        """Return an iterator of a stream's items for a `request`; ``open_stream()`` returns the upstream's, if needed.

        Callers that ask while it runs, in any process, get the items so far, then each item as it comes. A stream is
        stored if it reaches its end and is judged storable, like any answer. If all callers leave early, it goes on
        for up to Policy.abandon_limit s.

        `item`: the type of its items, if they are not plain JSON but an SDK's events, such as ``ChatCompletionChunk``:
        a pydantic model, a union, a dataclass. Every reader gets items of that type. UsageError if pydantic cannot
        read it. Without `item`, one that is not plain JSON is passed on, and the stream is not stored. Other errors as
        in `fetch`.
        """
        kind = items_as(item)
        playback, status, question = drive(self._base.stream(request, open_stream, self._settings(own), kind))
        return Stream(playback, status, self._base, question, kind)

    @overload
    def http_client(
        self, *, module: None = None, inner: Any = None, share_forms: bool = False, **more: Any
    ) -> httpx2.Client: ...
    @overload
    def http_client(
        self, *, module: ClientModule[C_co, Any], inner: Any = None, share_forms: bool = False, **more: Any
    ) -> C_co: ...
    @overload
    def http_client(self, *, module: str, inner: Any = None, share_forms: bool = False, **more: Any) -> Any: ...
    def http_client(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **more: Any) -> Any:
        """Return a client for a sync SDK's `http_client=`: of httpx2 if it is installed, else httpx, or of `module`.

        Keywords of a handle (`Options`) apply to all its calls; those of `RuleWords` add to the cache's rules; `inner`
        is the transport that sends the requests (None: the module's). With `share_forms` a stored stream answers a
        request without ``stream``, and the other way round, where that is exact. All other keywords are the client's
        own, with the SDKs' defaults. Closing the client never closes the cache. ConfigError: neither module is
        installed, or a setting is wrong. UsageError: a keyword is nearly one of askonce's.
        """
        return self._http_client(module, inner, share_forms=share_forms, more=more)

    def scoped(self, **own: Unpack[Options]) -> Handle:
        """Return a handle with its own settings. As a context, it gives them to all calls made inside.

        They say how it asks. What it lists, counts and invalidates by labels is of the whole prefix, as the cache's is.
        ConfigError for a wrong setting, UsageError for an unknown one.
        """
        return Handle(self._base, self._checked(own))

    @spelled
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
        """After this returns, no lookup that starts later, anywhere, gets an answer whose call began before this.

        Select in one way: a `key` (an outcome's), a `request` (with the scope, tenant and variant it was asked under),
        a `scope` with all below it, a `tag`, a `model`, or everything of this prefix; one or a list. The cost does not
        depend on how many entries it reaches. `dry_run` only returns how many live entries that is. UsageError: nothing
        is selected, or it is selected in several ways. ConfigError: a label is invalid. RequestError: `request` has no
        exact JSON form. StoreUnavailable or PartialInvalidation if not all of it could be done: repeating it is safe.
        CacheClosed: the cache is.
        """
        said = {"key": key, "scope": scope, "tag": tag, "model": model, "everything": everything}
        selector = self._selector(request, tenant, variant, said)
        return drive(self._base.drop(selector, dry_run=dry_run))

    def why(
        self, request: object = None, *, key: str | None = None, stream: bool = False, **own: Unpack[Options]
    ) -> results.Why:
        """Return why a lookup of `request` finds what it finds, without asking; nothing is called, and nothing stored.

        `request`: as it is given to `fetch`, with its settings; or a request or a response of an HTTP client. A
        response that went upstream is explained as it was. `key`: an outcome's, or a status's. `stream`: as it is given
        to `fetch_stream`. UsageError: give one of `request` and `key`. RequestError, ConfigError: as in `fetch`. An
        unreachable store is a reason, and no error. CacheClosed: the cache is. See docs/why.md.
        """
        return drive(self._base.explained(request, key, self._settings(own), stream=stream))

    @spelled
    def misses(self, limit: int = 20) -> list[results.Miss]:
        """Return the last `limit` lookups of all processes that went upstream, the newest first, each with its Why.

        UsageError for a `limit` that is no number from 1, StoreUnavailable if the store cannot be read. CacheClosed:
        the cache is.
        """
        return drive(self._base.missed(limit))

    def entries(self) -> Iterator[results.Listed]:
        """Iterate over this prefix's entries, in no order: only their headers, read in small steps.

        StoreUnavailable if the store cannot be read. CacheClosed: the cache is.
        """
        walk = self._base.listed()
        while True:
            try:
                yield drive(walk.__anext__())  # type: ignore[arg-type]  # has the send of a coroutine
            except StopAsyncIteration:
                return

    @spelled
    def savings(self, *, since: results.Since | None = None, by: str | Sequence[str] = ()) -> results.Savings:
        """What all processes that use this prefix asked, paid and saved since then, in all and by group.

        `since`: a number of days (1 is today, UTC), a date, a datetime or a timedelta, by default all that is kept, 400
        days. `by`: ``model``, ``scope``, ``tenant``, ``day``, or several of them. UsageError for anything else,
        StoreUnavailable if the store cannot be read. CacheClosed: the cache is. What this process has counted is pushed
        first.
        """
        return drive(self._base.saved(since, by))

    @spelled
    def activity(self, *, days: int = 1) -> results.Activity:
        """What all processes that use this prefix did in the last `days`: by hour, passes by reason, the hottest keys.

        `days`: how many, 1 is today (UTC). Errors as in `savings`.
        """
        return drive(self._base.active(days))

    @spelled
    def sweep(self) -> int:
        """Delete invalidated entries; return how many. Safe at any time, never needed: they expire by themselves.

        StoreUnavailable if the store fails: what was deleted stays so. CacheClosed: the cache is.
        """
        return drive(self._base.swept())


class AsyncMethods(CacheOrHandle):
    """The methods of an AsyncCache and of its handles."""

    async def get_or_set(
        self, messages: object, model: str, call_fn: Callable[[], Awaitable[T]], ttl: float | None = None, **more: Any
    ) -> T:
        """Return the answer of `model` to `messages`; `call_fn()` runs only if no caller has it. `ttl` in seconds.

        `call_fn` is a coroutine function; its coroutine runs in a task of its own. Keywords of CallOptions are
        askonce's; all others are part of the question: temperature, seed, ... Those of ``request={...}`` are too,
        whatever their names. UsageError for a keyword that is nearly one of askonce's; other errors as in `fetch`.
        `ttl`: None for the policy's.
        """
        request, settings = self._tutorial(messages, model, ttl, more)
        found: T = (await self._base.ask(request, call_fn, settings)).value
        return found

    async def fetch(self, request: object, call: Callable[[], Awaitable[T]], **own: Unpack[Options]) -> AsyncOutcome[T]:
        """Return the Outcome for a JSON-like `request`; all of it is the key. `call()` is awaited, if needed.

        It runs in a task of its own: cancelling a caller never cancels a call that other callers or the store will use.
        Exceptions of `call` are passed on unchanged. An answer that is no plain JSON is returned and not stored.
        RequestError: the request has no exact JSON form. ConfigError, UsageError: a setting is wrong, or unknown.
        NotCached: there is no answer, and ``control="only-if-cached"``. CacheClosed: the cache is. StoreUnavailable:
        the store failed, and the cache is `strict`.
        """
        found = await self._base.ask(request, call, self._settings(own))
        assert isinstance(found, AsyncOutcome)
        return found

    async def fetch_stream(
        self,
        request: object,
        open_stream: Callable[[], AsyncIterable[I] | Awaitable[AsyncIterable[I]]],
        *,
        item: Any = None,
        **own: Unpack[Options],
    ) -> AsyncStream[I]:
        """Return an async iterator of a stream's items for a `request`; ``open_stream()`` opens upstream's, if needed.

        It returns an async iterator, or an awaitable that returns one. Callers that ask while it runs, in any process,
        get the items so far, then each item as it comes. A stream is stored if it reaches its end and is judged
        storable, like any answer. If all callers leave early, it goes on for up to Policy.abandon_limit s.

        `item`: the type of its items, if they are not plain JSON but an SDK's events, such as ``ChatCompletionChunk``:
        a pydantic model, a union, a dataclass. Every reader gets items of that type. UsageError if pydantic cannot
        read it. Without `item`, one that is not plain JSON is passed on, and the stream is not stored. Other errors as
        in `fetch`.
        """
        kind = items_as(item)
        playback, status, question = await self._base.stream(request, open_stream, self._settings(own), kind)
        return AsyncStream(playback, status, self._base, question, kind)

    @overload
    def http_client(
        self, *, module: None = None, inner: Any = None, share_forms: bool = False, **more: Any
    ) -> httpx2.AsyncClient: ...
    @overload
    def http_client(
        self, *, module: ClientModule[Any, A_co], inner: Any = None, share_forms: bool = False, **more: Any
    ) -> A_co: ...
    @overload
    def http_client(self, *, module: str, inner: Any = None, share_forms: bool = False, **more: Any) -> Any: ...
    def http_client(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **more: Any) -> Any:
        """Return a client for an async SDK's `http_client=`: of httpx2 if it is installed, else httpx, or of `module`.

        Keywords of a handle (`Options`) apply to all its calls; those of `RuleWords` add to the cache's rules; `inner`
        is the transport that sends the requests (None: the module's). With `share_forms` a stored stream answers a
        request without ``stream``, and the other way round, where that is exact. All other keywords are the client's
        own, with the SDKs' defaults. Closing the client never closes the cache. ConfigError: neither module is
        installed, or a setting is wrong. UsageError: a keyword is nearly one of askonce's.
        """
        return self._http_client(module, inner, share_forms=share_forms, more=more)

    def scoped(self, **own: Unpack[Options]) -> AsyncHandle:
        """Return a handle with its own settings. As a context, it gives them to all calls made inside.

        They say how it asks. What it lists, counts and invalidates by labels is of the whole prefix, as the cache's is.
        ConfigError for a wrong setting, UsageError for an unknown one.
        """
        return AsyncHandle(self._base, self._checked(own))

    @spelled
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
        """After this returns, no lookup that starts later, anywhere, gets an answer whose call began before this.

        Select in one way: a `key` (an outcome's), a `request` (with the scope, tenant and variant it was asked under),
        a `scope` with all below it, a `tag`, a `model`, or everything of this prefix; one or a list. The cost does not
        depend on how many entries it reaches. `dry_run` only returns how many live entries that is. UsageError: nothing
        is selected, or it is selected in several ways. ConfigError: a label is invalid. RequestError: `request` has no
        exact JSON form. StoreUnavailable or PartialInvalidation if not all of it could be done: repeating it is safe.
        CacheClosed: the cache is.
        """
        said = {"key": key, "scope": scope, "tag": tag, "model": model, "everything": everything}
        selector = self._selector(request, tenant, variant, said)
        return await self._base.drop(selector, dry_run=dry_run)

    async def why(
        self, request: object = None, *, key: str | None = None, stream: bool = False, **own: Unpack[Options]
    ) -> results.Why:
        """Return why a lookup of `request` finds what it finds, without asking; nothing is called, and nothing stored.

        `request`: as it is given to `fetch`, with its settings; or a request or a response of an HTTP client. A
        response that went upstream is explained as it was. `key`: an outcome's, or a status's. `stream`: as it is given
        to `fetch_stream`. UsageError: give one of `request` and `key`. RequestError, ConfigError: as in `fetch`. An
        unreachable store is a reason, and no error. CacheClosed: the cache is. See docs/why.md.
        """
        return await self._base.explained(request, key, self._settings(own), stream=stream)

    @spelled
    async def misses(self, limit: int = 20) -> list[results.Miss]:
        """Return the last `limit` lookups of all processes that went upstream, the newest first, each with its Why.

        UsageError for a `limit` that is no number from 1, StoreUnavailable if the store cannot be read. CacheClosed:
        the cache is.
        """
        return await self._base.missed(limit)

    def entries(self) -> AsyncIterator[results.Listed]:
        """Iterate over this prefix's entries, in no order: only their headers, read in small steps.

        StoreUnavailable if the store cannot be read. CacheClosed: the cache is.
        """
        return self._base.listed()

    @spelled
    async def savings(self, *, since: results.Since | None = None, by: str | Sequence[str] = ()) -> results.Savings:
        """What all processes that use this prefix asked, paid and saved since then, in all and by group.

        `since`: a number of days (1 is today, UTC), a date, a datetime or a timedelta, by default all that is kept, 400
        days. `by`: ``model``, ``scope``, ``tenant``, ``day``, or several of them. UsageError for anything else,
        StoreUnavailable if the store cannot be read. CacheClosed: the cache is. What this process has counted is pushed
        first.
        """
        return await self._base.saved(since, by)

    @spelled
    async def activity(self, *, days: int = 1) -> results.Activity:
        """What all processes that use this prefix did in the last `days`: by hour, passes by reason, the hottest keys.

        `days`: how many, 1 is today (UTC). Errors as in `savings`.
        """
        return await self._base.active(days)

    @spelled
    async def sweep(self) -> int:
        """Delete invalidated entries; return how many. Safe at any time, never needed: they expire by themselves.

        StoreUnavailable if the store fails: what was deleted stays so. CacheClosed: the cache is.
        """
        return await self._base.swept()


class Cache(OpenedCache, SyncMethods):
    """The cache for threads: every method blocks, and a call runs in its caller's own thread."""

    @spelled
    def close(self, limit: float | None = None) -> list[str]:
        """Wait at most `limit` s for calls under way, then drop the rest and return their keys.

        `limit` is 5 s by default, or 0 while a KeyboardInterrupt is being handled.
        """
        return drive(self._base.shut(limit))

    def __enter__(self) -> Self:
        self._base.open_engine()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncCache(OpenedCache, AsyncMethods):
    """The cache for tasks: a call runs in a task of its own, with its caller's context."""

    _asynchronous = True

    @spelled
    async def aclose(self, limit: float | None = None) -> list[str]:
        """Wait at most `limit` s for calls under way, then drop the rest and return their keys.

        `limit` is 5 s by default, or 0 in a task that is being cancelled, for example by Ctrl-C.
        """
        return await self._base.shut(limit)

    async def __aenter__(self) -> Self:
        self._base.open_engine()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class Handle(SyncMethods, Scoped):
    """A Cache with its own settings: what `scoped` returns. It has no watch, on_event, stats and close."""


class AsyncHandle(AsyncMethods, Scoped):
    """An AsyncCache with its own settings: what `scoped` returns. It has no watch, on_event, stats and aclose."""
