"""What a cache and a handle on one have in common: their clients for SDKs, and what is said to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from askonce.cache.options import CALL_OPTIONS, settings_of
from askonce.cache.selector import Selector, select
from askonce.core.rules import RULE_WORDS, Rules
from askonce.engine.question import Settings

if TYPE_CHECKING:
    from askonce.cache.base import BaseCache
    from askonce.http.rules import ClientRules


class CacheOrHandle:
    """Who can be asked: a cache, or a handle on one."""

    @property
    def _base(self) -> BaseCache:
        """The cache itself."""
        raise NotImplementedError

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own)

    def _selector(
        self, request: object, tenant: str | None, variant: int | str | None, said: dict[str, Any]
    ) -> Selector:
        """What an invalidation means. With a request, a scope says under which it was asked, and selects nothing
        itself.
        """
        if request is None:
            return select(**said)
        own = {"tenant": tenant, "variant": variant, "scope": said.pop("scope")}
        settings = self._settings({name: value for name, value in own.items() if value is not None})
        return select(request=self._base.key_of(request, settings), **said)

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        """The settings of a client made here, whatever the context in which it is made."""
        return settings_of(own)

    def http_client(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **more: Any) -> Any:
        """A client for an SDK's `http_client=`: httpx2's if that is installed, else httpx's, or the `module` given.

        Sync from a Cache, async from an AsyncCache. Keywords of `CallOptions` hold for all of its calls, those of
        `RuleWords` add to the rules of the cache, `inner` is the transport behind ours; with `share_forms` a stored
        stream answers a request without ``stream`` and the other way round, where that is exact. The rest is the
        client's own, with the defaults of the SDKs. Closing it never closes the cache.
        """
        from askonce.http import client

        client_rules = self._client_rules(more, share_forms=share_forms)
        return client.client(client_rules, self._base.engine, module, inner, more, asynchronous=self._base.asynchronous)

    def transport(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **own: Any) -> Any:
        """The transport of http_client() alone, for a client of one's own."""
        from askonce.http import client

        client_rules = self._client_rules(own, share_forms=share_forms)
        settings_of(own)  # what is left is a mistake, named
        return client.transport(client_rules, self._base.engine, module, inner, asynchronous=self._base.asynchronous)

    def _client_rules(self, more: dict[str, Any], *, share_forms: bool) -> ClientRules:
        """What decides for one client; takes out of `more` what is said to us."""
        own = {name: more.pop(name) for name in CALL_OPTIONS & more.keys()}
        rules = Rules.of({name: more.pop(name) for name in RULE_WORDS & more.keys()})
        return self._base.client_rules(self._standing(own), rules, share_forms=share_forms)

    def _tutorial(
        self, messages: object, model: str, ttl: float | None, more: dict[str, Any]
    ) -> tuple[dict[str, Any], Settings]:
        """The request and the settings of a get_or_set: what is not ours is the question's."""
        own = {name: more.pop(name) for name in CALL_OPTIONS & more.keys()}
        if ttl is not None:
            own["ttl"] = ttl
        return {"messages": messages, "model": model, **more}, self._settings(own)
