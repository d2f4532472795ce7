"""What Cache and AsyncCache share, written once.

It turns a request and a call's settings into a question for the engine, judges the result of the call, and decodes a
copy for each caller.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from askonce.cache import contents, results
from askonce.cache.answer import AsyncOutcome, Outcome, answer_of
from askonce.cache.explained import Explained
from askonce.cache.items import PLAIN, PlainItems
from askonce.cache.options import Call
from askonce.cache.process import known_caches
from askonce.cache.reported import Reported
from askonce.cache.selector import Selector, select
from askonce.cache.stores import no_store, open_store
from askonce.cache.streams import Items, StoredItems, Uncached
from askonce.core.codec import Codec
from askonce.core.keys import Key
from askonce.core.normalize import normal_of
from askonce.core.policy import LONGEST
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.rules import Rules
from askonce.core.wording import flag, shown
from askonce.engine.answer import Answer
from askonce.engine.batch import BatchEngine
from askonce.engine.fitting import Fitting
from askonce.engine.planner import Planner
from askonce.engine.question import NOTHING, Question, Settings
from askonce.engine.reader import Found, Unreadable
from askonce.errors import CacheClosed, UsageError
from askonce.events import Events, Status
from askonce.flight.pricing import Pricer
from askonce.runtime import exits, forks
from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode
from askonce.runtime.threads import Threads
from askonce.store import Store
from askonce.stream.tape import Opened, Playback

if TYPE_CHECKING:
    from askonce.http.rules import ClientRules


R = TypeVar("R")
Placed = tuple[Playback | StoredItems | Uncached, Status, Question]


class Origin(NamedTuple):
    """How the cache that a user holds was made: its class, and the settings that make it again elsewhere."""

    kind: type[Any]
    made_of: Mapping[str, Any]
    portable: bool = True


class Parts(NamedTuple):
    """What a cache is made of, as its settings say."""

    prefix: str
    mode: str
    rules: Rules
    planner: Planner
    codec: Codec
    pricer: Pricer
    strict: bool
    pace: float  # how fast stored streams are replayed
    origin: Origin


class BaseCache(Explained, Reported):
    """What stands under a cache and its handles, of either kind."""

    def __init__(self, parts: Parts, url: str, options: Mapping[str, Any], *, asynchronous: bool) -> None:
        """`options`: of the store at `url`. Does no I/O."""
        self.asynchronous = asynchronous
        self.prefix = parts.prefix
        self.mode = parts.mode
        self.rules = parts.rules
        self.codec = parts.codec
        self.events = Events()
        self._origin = parts.origin
        self._normal = normal_of(parts.rules)
        self._planner = parts.planner
        self._pricer = parts.pricer
        self._fitting = Fitting(self.events)
        self._strict = parts.strict
        self._closed = False
        self._engine = self._new_engine(self._new_store(url, **options))
        self._engine.pace = parts.pace
        known_caches.add(self)

    def _new_store(self, url: str, **options: object) -> Store:
        try:
            return open_store(url, prefix=self.prefix, asynchronous=self.asynchronous, **options)
        except (ImportError, RuntimeError):
            if not exits.ending():
                raise
            return no_store()  # the store's modules can no longer be imported

    def _new_engine(self, store: Store) -> BatchEngine:
        mode, strict = self._new_mode(), self._strict
        return BatchEngine(store, mode, self.events, strict=strict, codec=self.codec, pricer=self._pricer)

    def _new_mode(self) -> Mode:
        if not self.asynchronous:
            return Threads()
        from askonce.runtime.tasks import Tasks

        return Tasks()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings only: a cache in another process has its own connections and flights."""
        if not self._origin.portable:
            raise TypeError("a cache made with redis_client= cannot be pickled or copied: make it with a URL")
        return remade, (self._origin,)

    def described(self, kind: str) -> str:
        """What it is in one line; `kind` is the name of the class that a user holds."""
        breaker = self.engine().background.breakers.kind()
        state = "breaker closed" if breaker == "closed" else f"breaker open ({breaker})"
        flights = len(self.engine().board.flights())
        named = f" prefix={self.prefix!r}" if self.prefix else ""
        over = ", closed" if self._closed else ""
        where = self.engine().store.address.removesuffix(f"#{self.prefix}")
        return f"<{kind} {where}{named}, {state}, {flights} in flight{over}>"

    # shared by both kinds of cache

    def check(self, settings: Settings) -> None:
        """ConfigError if these settings are wrong."""
        self._planner.plan(settings)

    def within(self, settings: Settings) -> Settings:
        """These settings over those of all surrounding contexts; an inner context goes before an outer one."""
        for owner, outer in reversed(scoping.get()):
            if owner is self:
                settings = settings.over(outer)
        return settings

    async def ask(self, request: object, call: Call, settings: Settings) -> Outcome[Any]:
        """Look up a request, for sync and async."""
        plan = self._planner.plan(settings)
        body = self._body(request)
        known = plan.known.recent(body) or self._known(body, plan)
        question = Question(known.key, known.fields, plan, known.model)
        if known.passes:
            found = await self.engine().passed(question, known.passes, lambda: self._called(call))
        else:

            async def paid() -> Answer:
                question.parts = self._parts(plan, known, body)
                judge = self._judge(plan, known, body, "v")
                return answer_of(await self._called(call), judge, self.events)

            found = await self.engine().ask(question, paid)
            try:
                return self._outcome(question, found)
            except Unreadable:
                question.parts = self._parts(plan, known, body)
                return await self.engine().reread(question, paid, partial(self._outcome, question))
        return self._outcome(question, found)

    async def stream(self, request: object, open_stream: Call, settings: Settings, kind: PlainItems = PLAIN) -> Placed:
        """Return a place on a request's stream, for sync and async."""
        plan = self._planner.plan(settings)
        body = self._body(request)
        known = plan.known.recent(body) or self._known(body, plan)
        question = Question(Key(known.key.digest, "s"), known.fields, plan, known.model)

        async def opened() -> Opened:
            question.parts = self._parts(plan, known, body)
            judge = self._judge(plan, known, body, "s")
            items = Items(await self._called(open_stream), self.events, kind, asynchronous=self.asynchronous)
            return Opened(b"", items, judge.items())

        if known.passes:
            found = await self.engine().passed(question, known.passes, opened)
            assert isinstance(found.value, Opened)
            return Uncached(found.value.source), found.status, question
        found = await self.engine().ask(question, opened)
        placed = partial(self._placed, kind, question)
        try:
            return placed(found)
        except Unreadable:
            return await self.engine().reread(question, opened, placed)

    def _placed(self, kind: PlainItems, question: Question, found: Found) -> Placed:
        """A place on a stream. If it is stored, its items are read first."""
        assert isinstance(found.value, Playback)
        stored = found.entry is not None
        place = StoredItems(found.value, kind, empty=self.judges.keeps_empty) if stored else found.value
        return place, found.status, question

    def client_rules(self, own: Settings, rules: Rules, *, share_forms: bool = False) -> ClientRules:
        """The rules of one HTTP client of this cache."""
        from askonce.http.rules import ClientRules

        return self.rules_as(ClientRules, own, rules, share_forms=share_forms)

    def http_client(self, rules: ClientRules, module: Any, inner: Any, options: dict[str, Any]) -> Any:
        """A client with these rules, of a cache or of a handle; `options`: the client's own."""
        from askonce.http import client

        return client.client(rules, self.engine, module, inner, options, asynchronous=self.asynchronous)

    def transport(self, rules: ClientRules, module: Any, inner: Any) -> Any:
        """A transport with these rules."""
        from askonce.http import client

        return client.transport(rules, self.engine, module, inner, asynchronous=self.asynchronous)

    def rules_as(self, kind: Callable[..., R], own: Settings, rules: Rules, *, share_forms: bool = False) -> R:
        """The same, made by `kind`: of what ClientRules is made of."""
        return kind(
            self._planner,
            self.events,
            self.mode,
            own,
            partial(self.within, NOTHING),
            rules.over(self.rules),
            share_forms=share_forms,
            judges=self.judges,
        )

    def engine(self) -> BatchEngine:
        """The engine of this process. A forked child gets another one, even if no fork hook ran."""
        forks.here()
        return self._engine

    def open_engine(self) -> BatchEngine:
        """The same, for whatever uses the store; CacheClosed if the cache was closed, as a lookup says."""
        engine = self.engine()
        if engine.closed and not exits.ending():
            raise CacheClosed("this cache was closed: make a new one")
        return engine

    async def _called(self, call: Call) -> object:
        if not callable(call):
            raise _no_call(call)
        value = call()
        if not inspect.isawaitable(value):
            return value
        if self.asynchronous:
            return await value
        if inspect.iscoroutine(value):
            value.close()
        raise UsageError("the call returned a coroutine: use AsyncCache, or give Cache a plain function")

    def _outcome(self, question: Question, found: Found) -> Outcome[Any]:
        try:
            value = found.value if found.body is None else orjson.loads(found.body)
        except orjson.JSONDecodeError as wrong:
            raise Unreadable from wrong
        saved = None
        if question.served is None and (entry := found.entry) is not None and (head := found.head) is not None:
            saved = partial(self._engine.accounting.saved, head, entry[: head.length])
        kind = AsyncOutcome if self.asynchronous else Outcome
        return kind(value, found.status, found.status.key, self, question, saved)

    def forgets(self, key: str) -> Any:
        """What Outcome.forget does: done when it returns, or, in async mode, when it is awaited."""
        work = self.drop(select(key=key))
        return work if self.asynchronous else drive(work)

    async def drop(self, selector: Selector, *, dry_run: bool = False) -> int | None:
        """Invalidate, for sync and async. A dry run returns how many live entries would be reached."""
        flag("dry_run", dry_run)
        return await contents.drop(self.open_engine(), selector, dry_run=dry_run)

    def listed(self) -> AsyncIterator[results.Listed]:
        """The entries in the store, for sync and async."""
        return contents.listed(self.open_engine())

    async def swept(self) -> int:
        """Sweep, for sync and async; return how many entries were deleted."""
        return await contents.swept(self.open_engine())

    close_limit = 5.0  # s that close() waits for calls under way, unless it is given a limit

    async def shut(self, limit: float | None) -> list[str]:
        """Close, for sync and async."""
        if self._closed:
            return []
        _check_limit(limit)
        self._closed = True
        if limit is None:
            limit = 0.0 if self.engine().mode.must_not_wait() else self.close_limit
        limit = min(limit, LONGEST)  # no lock waits for longer
        dropped = await self.engine().finish(limit)
        if dropped:
            self.events.warn_once(
                "dropped", "the cache was closed while %d call(s) were under way: they were dropped", len(dropped)
            )
        await self.engine().store.close()
        return dropped

    def after_fork(self) -> None:
        """In a forked child: drop the parent's threads, connections and flights."""
        if not self._closed:
            store = self._engine.store
            store.after_fork()
            pace = self._engine.pace
            self._engine = self._new_engine(store)
            self._engine.pace = pace


def _check_limit(limit: object) -> None:
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0):
        raise UsageError(f"limit={shown(limit)}: write seconds, such as limit=5, or None for the default")


def _no_call(given: object) -> UsageError:
    if inspect.iscoroutine(given):
        given.close()
        return UsageError("the call was made already: pass the coroutine function itself, or lambda: ask(...)")
    return UsageError(
        f"{shown(given)} is not a function: pass one that makes the call when it is needed, as in lambda: ask(...)"
    )


scoping: contextvars.ContextVar[tuple[tuple[BaseCache, Settings], ...]] = contextvars.ContextVar("askonce", default=())


def remade(origin: Origin) -> BaseCache:
    """Another one with the same settings."""
    return base_of(origin.kind(**origin.made_of))


def base_of(cache: object, asker: str = "") -> BaseCache:
    """What stands under a cache or a handle; UsageError for anything else, in the name of who asked for a cache."""
    base = getattr(cache, "_base", None)
    if not isinstance(base, BaseCache):
        raise UsageError(f"{asker}({shown(cache)}): give a Cache or an AsyncCache")
    return base
