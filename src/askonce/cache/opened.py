"""What a cache is opened with: its settings as a user gives them, and the parts that they make."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self, Unpack

from askonce.cache import config
from askonce.cache.base import BaseCache, Origin, Parts, scoping
from askonce.cache.near import near_for
from askonce.cache.observed import Observed
from askonce.cache.options import FIELDS, check_spelling, policy_of, settings_of, taken
from askonce.cache.pricing import Prices, pricer_of
from askonce.cache.sealing import Encryption, codec_of, find_compression, portable
from askonce.cache.streams import pace_of
from askonce.cache.typing import CacheOptions, Replay
from askonce.core.policy import Consistency, Policy
from askonce.core.rules import RULE_WORDS, Rules
from askonce.core.wording import flag
from askonce.engine.planner import Planner
from askonce.engine.question import NOTHING, Settings
from askonce.errors import ConfigError


class OpenedCache(Observed):
    """A cache, and not a handle on one: what it is made of is given here."""

    _asynchronous: ClassVar[bool] = False

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

        The store: `url`, by default that of `configure`, $ASKONCE_URL, $REDIS_URL, or a file in the cache folder; or
        `redis_client`, a configured redis-py client (of a server, a Cluster or a Sentinel service) whose settings are
        used (None: the URL). `prefix` starts every key (else $ASKONCE_PREFIX); a new one makes all old keys
        unreachable. `near`: what of Redis this process keeps, bytes or such as "64MB" (else $ASKONCE_NEAR).

        Lookups: `policy` has the defaults of this cache (None: those of `Policy`); its fields may be given as keywords
        too, such as ``ttl=3600``. `scopes`: the policies of calls in a scope (None: no others). `tenant`: whose answers
        these are. `mode`: on, off, refresh, only-if-cached (else $ASKONCE_MODE, else on). `strict`: a lookup raises
        StoreUnavailable instead of going upstream without the store. `consistency`: strong never uses `near` (None:
        bounded). `replay`: stored streams come ``at-once``, or ``paced`` as they were recorded, `replay_speed` times as
        fast.

        Stored answers: `compress`, ``zstd`` (else $ASKONCE_COMPRESS, else off). `encryption`: the keys (`Keys`), a file
        of them, or a function that returns them (else $ASKONCE_KEYS). `prices`: what models cost, as a dict or a file,
        or False for no prices (else $ASKONCE_PRICES). `more`: rules about requests (`RuleWords`), and the store's own
        options (`max_bytes`, in bytes).
        """
        options: dict[str, Any] = {**more}  # in the end, those of the store
        rules, fields = Rules.of(taken(RULE_WORDS, options)), taken(FIELDS, options)
        check_spelling(options, CACHE_OPTIONS, ConfigError)
        config.warn_of_misspelt(CACHE_OPTIONS)
        prefix, mode = config.find_prefix(prefix), config.find_mode(mode)
        if redis_client is not None:
            if url is not None:
                raise ConfigError("give a URL or redis_client=, not both")
            url, options["client"] = "redis://", redis_client
        policy, scopes = config.setting("policy", policy), config.setting("scopes", scopes)
        prices, consistency = config.setting("prices", prices), config.setting("consistency", consistency)
        codec, pricer = codec_of(compress, encryption), pricer_of(prices)
        if consistency is not None:
            fields["consistency"] = consistency
        own = policy_of(policy, fields)
        planner = Planner(prefix, tenant, own, {} if scopes is None else scopes, mode, codec.names)
        address = config.find_url(url)
        if size := near_for(address, near, config.default_near(), config.giver("near")):
            options["near"] = size
        pace = pace_of(replay, replay_speed)
        flag("strict", strict)
        said = {"url": address, "prefix": prefix, "mode": mode, "near": size, "tenant": tenant, "strict": strict}
        said |= {"policy": policy or Policy(), "scopes": scopes or {}, "consistency": own.consistency or "bounded"}
        said |= {"replay": replay, "replay_speed": replay_speed, **more, **_decided(compress, encryption, prices)}
        origin = Origin(type(self), said, redis_client is None)
        parts = Parts(prefix, mode, rules, planner, codec, pricer, strict, pace, origin)
        with config.naming(config.url_variable(url)):
            self._base = self._new_base(parts, address, options)

    def _new_base(self, parts: Parts, url: str, options: Mapping[str, Any]) -> BaseCache:
        return BaseCache(parts, url, options, asynchronous=self._asynchronous)

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        settings = settings_of(own) if own else NOTHING
        return self._base.within(settings) if scoping.get() else settings

    def __reduce__(self) -> tuple[Any, ...]:
        return _around, (type(self), self._base)

    def __copy__(self) -> Self:
        """A cache of its own with the same settings: two that share everything would be closed together."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        return self._base.described(type(self).__name__)


CACHE_OPTIONS = RULE_WORDS | FIELDS | {"url", *(OpenedCache.__init__.__kwdefaults__ or ())}


def _decided(compress: str | bool | None, encryption: Encryption | None, prices: Prices | None) -> dict[str, Any]:
    """These settings as decided here: no `configure` and no variable decides them where the cache is unpickled."""
    listed = config.found("prices", prices)
    keys = portable(config.setting("encryption", encryption))
    return {"compress": find_compression(compress), "encryption": keys, "prices": True if listed is None else listed}


def _around(kind: type[OpenedCache], base: BaseCache) -> OpenedCache:
    """The cache around what was unpickled, which outcomes and handles that were pickled with it share."""
    made = kind.__new__(kind)
    made._base = base  # noqa: SLF001 - as __init__ does
    return made
