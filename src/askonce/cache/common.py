"""Who can be asked: a cache, or a handle on one; and what a call may say about itself.

A call's own keywords are a closed list (`Own`), the same in every way of use. Everything else given to `get_or_set` is
part of the question, and so of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from askonce.cache.selector import Aim, aim_at
from askonce.core.policy import Policy
from askonce.core.rules import RULE_WORDS, Rules
from askonce.engine.question import Settings, tags_of
from askonce.errors import UsageError
from askonce.events import Status

if TYPE_CHECKING:
    from askonce.cache.base import Shell
    from askonce.http.rules import Exchange

Call = Callable[[], Any]


class Own(TypedDict, total=False):
    """The keywords of a call, a handle, a header: all that is ours and not the question's."""

    ttl: float | None  # s that the answer stays fresh
    scope: str | None  # a path such as support/triage/v3; joins the key
    tags: Iterable[str] | None  # what the answer depends on; joins the entry
    variant: int | str | None  # which of several wanted answers; joins the key
    tenant: str | None  # whose answer it is; joins the key
    policy: Policy | None
    control: str | None  # RFC 9111 directives, such as "no-cache" or "max-age=60, stale-if-error=600"
    store_if: Callable[[Any], bool] | None  # says of an answer, or of the items of a stream, whether it may be stored


OWN = frozenset(Own.__annotations__)


@dataclass(slots=True)
class Outcome:
    """What a lookup gave: `value`, the caller's own copy; `status`; `key`, 64 hex digits to invalidate by."""

    value: Any
    status: Status
    key: str
    _forget: Callable[[str], Any]

    def forget(self) -> Any:
        """Make this answer unservable everywhere, at once (with an AsyncCache: ``await outcome.forget()``)."""
        return self._forget(self.key)

    def __repr__(self) -> str:
        return f"<Outcome {self.status}>"


class Asker:
    """Who can be asked: a cache, or a handle on one."""

    @property
    def _shell(self) -> Shell:
        """The cache itself."""
        raise NotImplementedError

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own)

    def _aim(self, request: object, tenant: str | None, variant: int | str | None, said: dict[str, Any]) -> Aim:
        """What an invalidation means. With a request, a scope says under which it was asked, and is no aim itself."""
        if request is None:
            return aim_at(**said)
        own = {"tenant": tenant, "variant": variant, "scope": said.pop("scope")}
        settings = self._settings({name: value for name, value in own.items() if value is not None})
        return aim_at(request=self._shell.key_of(request, settings), **said)

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        """The settings of a client made here, whatever the context in which it is made."""
        return settings_of(own)

    def http_client(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **more: Any) -> Any:
        """A client for an SDK's `http_client=`: httpx2's if that is installed, else httpx's, or the `module` given.

        Sync from a Cache, async from an AsyncCache. Keywords of `Own` hold for all of its calls, those of `RuleWords`
        add to the rules of the cache, `inner` is the transport behind ours; with `share_forms` a stored stream answers
        a request without ``stream`` and the other way round, where that is exact. The rest is the client's own, with
        the defaults of the SDKs. Closing it never closes the cache.
        """
        from askonce.http import client

        exchange = self._exchange(more, share_forms=share_forms)
        return client.client(exchange, self._shell.engine, module, inner, more, asynchronous=self._shell.asynchronous)

    def transport(self, *, module: Any = None, inner: Any = None, share_forms: bool = False, **own: Any) -> Any:
        """The transport of http_client() alone, for a client of one's own."""
        from askonce.http import client

        exchange = self._exchange(own, share_forms=share_forms)
        settings_of(own)  # what is left is a mistake, named
        return client.transport(exchange, self._shell.engine, module, inner, asynchronous=self._shell.asynchronous)

    def _exchange(self, more: dict[str, Any], *, share_forms: bool) -> Exchange:
        """What decides for one client; takes out of `more` what is said to us."""
        own = {name: more.pop(name) for name in OWN & more.keys()}
        rules = Rules.of({name: more.pop(name) for name in RULE_WORDS & more.keys()})
        return self._shell.exchange(self._standing(own), rules, share_forms=share_forms)

    def _tutorial(
        self, messages: object, model: str, ttl: float | None, more: dict[str, Any]
    ) -> tuple[dict[str, Any], Settings]:
        """The request and the settings of a get_or_set: what is not ours is the question's."""
        own = {name: more.pop(name) for name in OWN & more.keys()}
        if ttl is not None:
            own["ttl"] = ttl
        return {"messages": messages, "model": model, **more}, self._settings(own)


def settings_of(own: Mapping[str, Any]) -> Settings:
    """Keywords of a call as Settings; UsageError names the ones there are."""
    unknown = own.keys() - OWN
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: not a setting; there are {', '.join(sorted(OWN))}")
    return Settings(**{**own, "tags": tags_of(own.get("tags"))})
