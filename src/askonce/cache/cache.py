"""Cache and AsyncCache: what users hold, and the handles made of them. The twins differ only in `await`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Self, Unpack

from askonce.cache.base import Shell, scoping
from askonce.cache.common import Asker, Call, Outcome, Own, settings_of
from askonce.cache.streams import AsyncStream, Stream
from askonce.engine.question import Settings
from askonce.runtime.drive import drive
from askonce.store.inventory import Listed


class Asks(Asker):
    """What can be asked of a Cache and of its handles; every method blocks."""

    def get_or_set(self, messages: object, model: str, call_fn: Call, ttl: float | None = None, **more: Any) -> Any:
        """The answer to `messages` put to `model`; `call_fn()` runs only if nobody has it. `ttl` in seconds.

        Keywords named in Own are askonce's; all others are part of the question: temperature, seed, response_format...
        """
        request, settings = self._tutorial(messages, model, ttl, more)
        return drive(self._shell.ask(request, call_fn, settings)).value

    def fetch(self, request: object, call: Call, **own: Unpack[Own]) -> Outcome:
        """The Outcome for any JSON-like `request`, all of which is the key; `call()` runs in this thread, if at all.

        What `call` raises passes untouched. RequestError: the request has no exact JSON form. NotCached: there is no
        answer, and ``control="only-if-cached"``.
        """
        return drive(self._shell.ask(request, call, self._settings(own)))

    def fetch_stream(self, request: object, open_stream: Call, **own: Unpack[Own]) -> Stream:
        """An iterator of the items of a stream; ``open_stream()`` gives the upstream's, and is called if nobody has it.

        Callers who ask while it runs, in any process, get what was said so far and then each item as it comes. What is
        kept is a stream that came to its end, judged like any answer; leaving early leaves it to go on for
        Policy.abandon_limit s.
        """
        playback, status = drive(self._shell.stream(request, open_stream, self._settings(own)))
        return Stream(playback, status, self._shell.forgets)

    def scoped(self, **own: Unpack[Own]) -> Handle:
        """A handle with settings of its own, and a context that gives them to the calls made inside."""
        return Handle(self._shell, self._settings(own))

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
        aim = self._aim(request, tenant, variant, said)
        return drive(self._shell.drop(aim, dry_run=dry_run))

    def entries(self) -> Iterator[Listed]:
        """What the store holds of this prefix, in no order: headers only, read in small steps while you iterate."""
        walk = self._shell.listed()
        while True:
            try:
                yield drive(walk.__anext__())  # type: ignore[arg-type]  # has the send of a coroutine
            except StopAsyncIteration:
                return

    def sweep(self) -> int:
        """Delete the entries that were invalidated; how many. Harmless at any time: they go by themselves too."""
        return drive(self._shell.swept())


class AsksAsync(Asker):
    """What can be asked of an AsyncCache and of its handles."""

    async def get_or_set(
        self, messages: object, model: str, call_fn: Call, ttl: float | None = None, **more: Any
    ) -> Any:
        """Asks.get_or_set; `call_fn()` returns something to await, and runs in a task of its own."""
        request, settings = self._tutorial(messages, model, ttl, more)
        return (await self._shell.ask(request, call_fn, settings)).value

    async def fetch(self, request: object, call: Call, **own: Unpack[Own]) -> Outcome:
        """Asks.fetch; cancelling a caller never cancels the call that others, or the store, will profit from."""
        return await self._shell.ask(request, call, self._settings(own))

    async def fetch_stream(self, request: object, open_stream: Call, **own: Unpack[Own]) -> AsyncStream:
        """Asks.fetch_stream; `open_stream()` gives an async iterator, or something to await that does."""
        playback, status = await self._shell.stream(request, open_stream, self._settings(own))
        return AsyncStream(playback, status, self._shell.forgets)

    def scoped(self, **own: Unpack[Own]) -> AsyncHandle:
        """Asks.scoped."""
        return AsyncHandle(self._shell, self._settings(own))

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
        """Asks.invalidate."""
        said = {"key": key, "scope": scope, "tag": tag, "model": model, "everything": everything}
        aim = self._aim(request, tenant, variant, said)
        return await self._shell.drop(aim, dry_run=dry_run)

    def entries(self) -> AsyncIterator[Listed]:
        """Asks.entries."""
        return self._shell.listed()

    async def sweep(self) -> int:
        """Asks.sweep."""
        return await self._shell.swept()


class Cache(Asks, Shell):
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


class AsyncCache(AsksAsync, Shell):
    """The cache for tasks: a call runs in a task of its own, with its caller's context."""

    asynchronous = True

    async def aclose(self, limit: float | None = None) -> list[str]:
        """Cache.close; unless given, 0 also in a task that is being cancelled, as by a Ctrl-C."""
        return await self.shut(limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()


class _Scoped(Asker):
    """A cache with settings of its own. As a context, it gives them to whatever asks that cache inside."""

    def __init__(self, shell: Shell, settings: Settings) -> None:
        self._cache = shell
        self._own = settings

    @property
    def _shell(self) -> Shell:
        return self._cache

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return self._shell.within(self._standing(own))

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own).over(self._own) if own else self._own

    def __enter__(self) -> Self:
        scoping.set((*scoping.get(), (self._shell, self._own)))
        return self

    def __exit__(self, *raised: object) -> None:
        # No token: one handle may be entered by many tasks at once, and a token belongs to one of them.
        scoping.set(scoping.get()[:-1])


class Handle(Asks, _Scoped):
    """A Cache with settings of its own."""


class AsyncHandle(AsksAsync, _Scoped):
    """An AsyncCache with settings of its own."""
