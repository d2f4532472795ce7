"""What handles of both kinds share: the settings that they add, and the context that gives them to all calls inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from askonce.cache.base import BaseCache, scoping
from askonce.cache.common import CacheOrHandle
from askonce.cache.options import settings_of
from askonce.core.wording import shown
from askonce.engine.question import Settings
from askonce.events import ELSEWHERE, left


class Scoped(CacheOrHandle):
    """A cache with its own settings. As a context, it gives them to all calls of that cache made inside."""

    def __init__(self, base: BaseCache, settings: Settings) -> None:
        self._base = base
        self._own = settings

    def _settings(self, own: Mapping[str, Any]) -> Settings:
        return self._base.within(self._standing(own))

    def _standing(self, own: Mapping[str, Any]) -> Settings:
        return settings_of(own).over(self._own) if own else self._own

    def __repr__(self) -> str:
        # Without the tenant: some name it by a credential.
        own = self._own._replace(tenant=None)._asdict()
        said = ", ".join(f"{name}={shown(value)}" for name, value in own.items() if value)
        return f"<{type(self).__name__} {said or 'without settings'} of {self._base.described('cache')}>"

    def __enter__(self) -> Self:
        scoping.set((*scoping.get(), (self._base, self._own)))
        return self

    def __exit__(self, *raised: object) -> None:
        if not left(scoping, self._base, self._own):
            self._base.events.warn_once("scoped", ELSEWHERE, "scoped()")
