"""Whether the answers that a cache receives fit its requests, and one warning if they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from askonce.core.providers.answers import Answer
from askonce.core.providers.fits import OTHER_MODEL, Request, misfit
from askonce.core.providers.learned_hosts import LearnedHosts
from askonce.events import Events

NO_IDS: Mapping[str, str] = {}
_SAID = {
    OTHER_MODEL: "an answer of a model that was not asked for",
    "": "an answer to another request, which it repeats,",
}


class Fitting:
    """Compares the answers with the requests of one client or one cache."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._learned = LearnedHosts()

    def going(self, asked: Request) -> None:
        """Note a request that goes upstream."""
        self._learned.going(asked.where, asked.model, asked.ids.values())

    def of(self, asked: Request, headers: Mapping[str, str] = NO_IDS) -> Callable[[list[Answer]], str]:
        """Return a function that says why an answer does not fit this request; `headers` are the response's ids."""

        def found(values: list[Answer]) -> str:
            reason = misfit(asked, values, self._learned, headers)
            if reason:
                self._events.warn_once(
                    reason,
                    "%s arrived for %s: it is returned and not stored; a shared proxy or connection may mix up answers",
                    _SAID.get(reason, _SAID[""]),
                    asked.model or asked.where,
                )
            return reason

        return found
