"""What a cache and its handles share: clients for SDKs, and how arguments become settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from askonce.cache.base import BaseCache
from askonce.cache.options import CALL_OPTIONS, CLIENT_OPTIONS, OPTIONS, asked_of, check_spelling, settings_of, taken
from askonce.cache.selector import Selector, select
from askonce.core.rules import RULE_WORDS, Rules
from askonce.core.wording import Entered, flag
from askonce.engine.question import Settings
from askonce.errors import UsageError

if TYPE_CHECKING:
    from askonce.http.rules import ClientRules


class CacheOrHandle(Entered):
    """A cache, or a handle on one."""

    # All that is not for users stands there, so that `cache.` completes to what is.
    _base: BaseCache

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own)

    def _checked(self, own: Mapping[str, Any]) -> Settings:
        """The same, with wrong values found where they are given, and not at the first lookup."""
        settings = self._settings(own)
        self._base.check(settings)
        return settings

    def _selector(
        self, request: object, tenant: str | None, variant: int | str | None, said: dict[str, Any]
    ) -> Selector:
        """The selector of an invalidation. With a request, a scope is part of the question and selects nothing."""
        if request is None:
            if tenant is not None or variant is not None:
                raise UsageError(
                    "tenant= and variant= are part of a request's key: give request=, too, or leave them out"
                )
            names = self._base.codec.names
            return select(**said, secret=b"" if names is None else names.labels)
        own = {"tenant": tenant, "variant": variant, "scope": said.pop("scope")}
        settings = self._settings({name: value for name, value in own.items() if value is not None})
        return select(request=self._base.key_of(request, settings), **said)

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        """The settings of a client made here, whatever context it is made in."""
        return settings_of(own)

    def _http_client(self, module: Any, inner: Any, *, share_forms: bool, more: dict[str, Any]) -> Any:
        return self._base.http_client(self._client_rules(more, share_forms=share_forms), module, inner, more)

    def transport(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **own: Any) -> Any:
        """Return only the transport of http_client(), for a client of your own.

        `module`, `inner` and `share_forms` (None and False by default), and errors as in `http_client`.
        """
        client_rules = self._client_rules(own, share_forms=share_forms)
        settings_of(own)  # raises for an unknown keyword, and names it
        return self._base.transport(client_rules, module, inner)

    def _client_rules(self, more: dict[str, Any], *, share_forms: bool) -> ClientRules:
        """The rules of one client; takes askonce's keywords out of `more`."""
        flag("share_forms", share_forms)
        own = taken(OPTIONS, more)
        rules = Rules.of(taken(RULE_WORDS, more))
        check_spelling(more, CLIENT_OPTIONS, UsageError)
        return self._base.client_rules(self._standing(own), rules, share_forms=share_forms)

    def _tutorial(
        self, messages: object, model: str, ttl: float | None, more: dict[str, Any]
    ) -> tuple[dict[str, Any], Settings]:
        """The request and the settings of a get_or_set: keywords that are not askonce's are part of the request."""
        own = taken(CALL_OPTIONS, more)
        if ttl is not None:
            own["ttl"] = ttl
        return asked_of(messages, model, more), self._settings(own)
