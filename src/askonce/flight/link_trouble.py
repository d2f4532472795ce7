"""The trouble of the background thread's connection, as its users hear of it."""

from __future__ import annotations

import time

from askonce.core.breaker import StoreBreakers
from askonce.events import log
from askonce.flight.users import Users
from askonce.store import StoreTrouble

QUIET = 2.0  # s of trouble, after which it is reported once more


class LinkTrouble:
    """The trouble of a link, or of one of its primaries: told when it begins, if it lasts, and when it is over."""

    def __init__(self, users: Users, breakers: StoreBreakers) -> None:
        self._users = users
        self._breakers = breakers
        self._trouble: StoreTrouble | None = None
        self._since = 0.0  # monotonic s

    @property
    def kind(self) -> str:
        """What it is; empty if there is none."""
        return self._trouble.kind if self._trouble is not None else ""

    def met(self, trouble: StoreTrouble) -> None:
        """The link has this trouble now."""
        if str(trouble) != str(self._trouble):
            log.debug("the background connection: %s", trouble)
        now = time.monotonic()
        if self._trouble is None:
            self._since = now
            for user in self._users.alive():
                user.disconnected(trouble)
        elif now - self._since > QUIET and not self._breakers.shut:
            for user in self._users.alive():
                user.unreachable(trouble)
        self._trouble = trouble.alone()

    def over(self) -> bool:
        """The link works; return whether it had trouble before."""
        had, self._trouble = self._trouble is not None, None
        if had:
            for user in self._users.alive():
                user.reconnected()
        return had
