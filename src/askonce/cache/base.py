"""What Cache and AsyncCache share, written once.

It turns a request and a call's settings into a question for the engine, judges the result of the call, and decodes a
copy for each caller.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import orjson

from askonce.cache import config, contents
from askonce.cache.answer import AsyncOutcome, Outcome, answer_of
from askonce.cache.explained import Explained
from askonce.cache.items import PLAIN, PlainItems
from askonce.cache.near import near_for
from askonce.cache.observed import Observed
from askonce.cache.options import POLICY_OPTIONS, Call, check_spelling, policy_of, settings_of
from askonce.cache.pricing import Prices, pricer_of
from askonce.cache.process import known_caches
from askonce.cache.sealing import Encryption, codec_of, find_compression, portable
from askonce.cache.selector import Selector, select
from askonce.cache.stores import no_store, open_store
from askonce.cache.streams import Items, StoredItems, Uncached, pace_of
from askonce.cache.typing import CacheOptions, Replay
from askonce.core.keys import Key
from askonce.core.normalize import normal_of
from askonce.core.policy import Consistency, Policy
from askonce.core.rules import RULE_WORDS, Rules
from askonce.core.wording import flag, shown
from askonce.engine.answer import Answer
from askonce.engine.batch import BatchEngine
from askonce.engine.fitting import Fitting
from askonce.engine.planner import Planner
from askonce.engine.question import NOTHING, Question, Settings
from askonce.engine.reader import Found, Unreadable
from askonce.errors import ConfigError, UsageError
from askonce.events import Events, Status
from askonce.runtime import exits, forks
from askonce.runtime.drive import drive
from askonce.runtime.mode import Mode
from askonce.runtime.threads import Threads
from askonce.store import Store
from askonce.stream.tape import Opened, Playback

if TYPE_CHECKING:
    from askonce.http.rules import ClientRules
    from askonce.store.inventory import Listed


R = TypeVar("R")
Placed = tuple[Playback | StoredItems | Uncached, Status, Question]


class BaseCache(Explained, Observed):
    """The base of both kinds of cache."""

    asynchronous = False
    close_limit = 5.0  # s that close() waits for calls under way, unless it is given a limit

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        redis_client: object = None,
        policy: Policy | None = None,
        scopes: Mapping[str, Policy] | None = None,
        tenant: str = "",
        mode: config.ModeWord | None = None,
        strict: bool = False,
        near: int | str | None = None,
        consistency: Consistency | None = None,
        replay: Replay = "at-once",
        replay_speed: float = 1.0,
        compress: str | bool | None = None,
        encryption: Encryption | None = None,
        prices: Prices | None = None,
        **more: Unpack[CacheOptions],
    ) -> None:
        """Does no I/O. ConfigError for an invalid URL or option; an unreachable store is noticed by lookups, not here.

        `url`: the store, by default that of `configure`, $ASKONCE_URL, $REDIS_URL, or a file in the cache folder.
        `prefix` starts every key (else $ASKONCE_PREFIX); a new one makes all old keys unreachable. `redis_client`: a
        configured redis-py client (of a server, a Cluster or a Sentinel service) in place of a URL (None: the URL),
        whose settings are used. `policy`: the defaults of this cache (None: those of `Policy`); its fields may be given
        as keywords too, such as ``ttl=3600``. `scopes`: those of calls in a scope (None: no others). `tenant`: whose
        answers these are. `mode`: on, off, refresh, only-if-cached (else $ASKONCE_MODE, else on). `strict`: a lookup
        raises StoreUnavailable instead of going upstream without the store. `near`: what of Redis this process keeps,
        bytes or such as "64MB" (else $ASKONCE_NEAR); `consistency`: strong does not use that (None: bounded). `replay`:
        stored streams come ``at-once``, or ``paced`` as they were recorded, `replay_speed` times as fast. `compress`:
        ``zstd`` (else $ASKONCE_COMPRESS, else off). `encryption`: the keys (`Keys`), a file of them, or a function that
        returns them (else $ASKONCE_KEYS). `prices`: what models cost, as a dict or a file, or False for no prices (else
        $ASKONCE_PRICES). `more`: rules about requests (`RuleWords`), and the store's own options (`max_bytes`, in
        bytes).
        """
        given: dict[str, Any] = {**more}
        self.rules = Rules.of({name: given.pop(name) for name in RULE_WORDS & given.keys()})
        fields = {name: given.pop(name) for name in (POLICY_OPTIONS | {"ttl"}) & given.keys()}
        options = given
        check_spelling(options, CACHE_OPTIONS, ConfigError)
        self._normal = normal_of(self.rules)
        self.prefix = config.find_prefix(prefix)
        self.mode = config.find_mode(mode)
        if redis_client is not None:
            if url is not None:
                raise ConfigError("give a URL or redis_client=, not both")
            url, options = "redis://", {**options, "client": redis_client}
        self.codec = codec_of(compress, encryption)
        self._pricer = pricer_of(prices)
        own = policy_of(policy, fields | ({} if consistency is None else {"consistency": consistency}))
        self._planner = Planner(self.prefix, tenant, own, scopes or {}, self.mode, self.codec.names)
        address = config.find_url(url)
        size = near_for(address, near, config.default_near(), config.giver("near"))
        if size:
            options["near"] = size
        pace = pace_of(replay, replay_speed)
        flag("strict", strict)
        with config.naming(config.url_variable(url)):
            store = self._new_store(address, **options)
        said = {"policy": policy, "scopes": scopes, "tenant": tenant, "strict": strict, "replay": replay, **more}
        said |= {"near": size, "consistency": consistency, "replay_speed": replay_speed}
        keys = portable(config.setting("encryption", encryption))
        said |= {"compress": find_compression(compress), "encryption": keys, "prices": prices}
        self._made_of = {"url": address, "prefix": self.prefix, "mode": self.mode, **said}
        self._portable = redis_client is None
        self.events = Events()
        self._fitting = Fitting(self.events)
        self._strict = strict
        self._closed = False
        self._engine = self._new_engine(store)
        self._engine.pace = pace
        known_caches.add(self)

    @property
    def _base(self) -> Self:  # not an attribute: a cache that refers to itself is not freed when it is dropped
        return self

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
        if not self._portable:
            raise TypeError("a cache made with redis_client= cannot be pickled or copied: make it with a URL")
        return _remade, (type(self), self._made_of)

    def __repr__(self) -> str:
        breaker = self.engine().background.breakers.kind()
        state = "breaker closed" if breaker == "closed" else f"breaker open ({breaker})"
        flights = len(self.engine().board.flights())
        named = f" prefix={self.prefix!r}" if self.prefix else ""
        over = ", closed" if self._closed else ""
        where = self.engine().store.address.removesuffix(f"#{self.prefix}")
        return f"<{type(self).__name__} {where}{named}, {state}, {flights} in flight{over}>"

    # shared by both kinds of cache

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        settings = settings_of(own) if own else NOTHING
        return self.within(settings) if scoping.get() else settings

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

    def rules_as(self, kind: Callable[..., R], own: Settings, rules: Rules, *, share_forms: bool = False) -> R:
        """The same, made by `kind`: of what ClientRules is made of."""
        return kind(
            self._planner,
            self.events,
            self.mode,
            own,
            lambda: self._settings({}),
            rules.over(self.rules),
            share_forms=share_forms,
            judges=self.judges,
        )

    def engine(self) -> BatchEngine:
        """The engine of this process. A forked child gets another one, even if no fork hook ran."""
        forks.here()
        return self._engine

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
        return await contents.drop(self.engine(), selector, dry_run=dry_run)

    def listed(self) -> AsyncIterator[Listed]:
        """The entries in the store, for sync and async."""
        return contents.listed(self.engine())

    async def swept(self) -> int:
        """Sweep, for sync and async; return how many entries were deleted."""
        return await contents.swept(self.engine())

    async def shut(self, limit: float | None) -> list[str]:
        """Close, for sync and async."""
        if self._closed:
            return []
        _check_limit(limit)
        self._closed = True
        if limit is None:
            limit = 0.0 if self.engine().mode.must_not_wait() else self.close_limit
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


CACHE_OPTIONS = RULE_WORDS | POLICY_OPTIONS | {"url", "ttl", *(BaseCache.__init__.__kwdefaults__ or ())}


def _remade(kind: type[BaseCache], made_of: dict[str, Any]) -> BaseCache:
    return kind(**made_of)


scoping: contextvars.ContextVar[tuple[tuple[BaseCache, Settings], ...]] = contextvars.ContextVar("askonce", default=())
