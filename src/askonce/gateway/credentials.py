"""Which credentials are good, by upstream's own word, and for how long that word is believed.

A credential is *known* for a way of asking (URL, model, headers that count) after upstream answered such a request
with an answer that may be stored. It is *refused* after a 401: for a minute the same way of asking gets that 401 again,
and all that was known of the credential there is forgotten. Nothing else makes a credential known: an upstream may
refuse a request, or find nothing, before it looks at the credential.

All this is in the memory of one worker, and bounded. What is forgotten costs a call upstream. Credentials that are bad
do not displace what is known of good ones. Time is an argument (s of boot_clock).
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

from askonce.http.response import Response, personal

REFUSED = 60.0  # s that a 401 is remembered, and never longer
CREDENTIALS = 8192  # good ones remembered
WAYS = 256  # ways of asking remembered of each
REFUSALS = 1024  # replies remembered
DOUBTS = 16384  # credentials that were refused
BODY = 8192  # bytes of a 401 that is remembered

K = TypeVar("K")
V = TypeVar("V")


class Who(NamedTuple):
    """A credential (its digest) at one origin. `shown`: it is one; otherwise a digest of where one may be hidden."""

    origin: str
    credential: str
    shown: bool = True


Way = int  # the hash of URL, model and headers that count; Python keys it anew in each process


class Credentials:
    """What upstreams said of credentials. `recheck`: s for which an acceptance counts."""

    def __init__(self, recheck: float) -> None:
        self.recheck = recheck
        self._accepted: dict[Who, dict[Way, float]] = {}
        self._refused: dict[tuple[Who, Way], tuple[float, Response]] = {}
        self._doubted: dict[Who, float] = {}

    def refusal(self, who: Who, way: Way, now: float, most: float = math.inf) -> Response | None:
        """The 401 that this way of asking got within the last minute, if it is younger than `most` s."""
        found = self._refused.get((who, way)) if self._refused else None
        return found[1] if found is not None and now - found[0] < min(REFUSED, most) else None

    def accepted(self, who: Who, way: Way, now: float) -> bool:
        """Whether upstream accepted this way of asking, and not too long ago."""
        ways = self._accepted.get(who)
        return ways is not None and now - ways.get(way, -self.recheck) < self.recheck

    def lapsed(self, who: Who, way: Way) -> bool:
        """Whether upstream accepted this way of asking once, and has not refused the credential since."""
        return way in self._accepted.get(who, {})

    def proof_age(self, who: Who, now: float) -> float:
        """The age, in s, below which an answer that this very credential paid for proves that it is good."""
        doubted = self._doubted.get(who)
        return self.recheck if doubted is None else min(self.recheck, now - doubted)

    def refused(self, who: Who, way: Way, reply: Response, now: float) -> None:
        """Note that upstream refused a question: the credential (401), or what it asks for (403)."""
        if reply.status == 401:
            self._refuse(who, way, reply, now)
        else:
            self._accepted.get(who, {}).pop(way, None)

    def accept(self, who: Who, way: Way, now: float) -> None:
        """Note that upstream answered a question with what may be stored."""
        ways = self._accepted.pop(who, {})
        _keep(ways, way, now, WAYS)
        _keep(self._accepted, who, ways, CREDENTIALS)  # the last one noted is dropped last
        self._refused.pop((who, way), None)

    def _refuse(self, who: Who, way: Way, reply: Response, now: float) -> None:
        self._accepted.pop(who, None)
        _keep(self._doubted, who, now, DOUBTS)
        # Of a request that shows no credential it is unknown what was refused: it may be in the body.
        if who.shown and len(reply.body) <= BODY:
            headers = [pair for pair in reply.headers if not personal(pair[0], rates=False)]
            _keep(self._refused, (who, way), (now, reply._replace(headers=headers)), REFUSALS)


def _keep(among: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep a value; the oldest is dropped if there are too many."""
    among.pop(key, None)
    if len(among) >= most:
        del among[next(iter(among))]
    among[key] = value
