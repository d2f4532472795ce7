"""What the key of a request over HTTP is made of, worked out once more: a request met before is not read at all.

Only what went upstream needs it, to be explained (core.parts), and the background thread does it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from askonce.core import keys
from askonce.core.keys import Form
from askonce.core.parts import Later, Parts
from askonce.core.providers import bounded
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.operations import Operation
from askonce.core.providers.scan import stream_variant
from askonce.engine.question import Plan
from askonce.http.body_keys import Bodies
from askonce.http.callers import Callers
from askonce.http.request import SentRequest, Target, target_of


def form_of(sent: SentRequest, target: Target, body: dict[str, Any]) -> tuple[Form, str]:
    """The form of the wanted answer, and the URL's part of the key.

    A plain stream shares its question with the answer in one piece. A stream with options has other bytes and is
    another question: its options follow the URL, like a fragment.
    """
    if not (target.operation.streamed_by_path or body.get("stream")):
        return "j", target.upstream
    variant = stream_variant(body, target.operation.api, sent.url.partition("?")[2])
    return "s", f"{target.upstream}#{variant}" if variant else target.upstream


class Described(NamedTuple):
    """Describes the requests of one client. `prune`: removes fields that do not count from a body."""

    callers: Callers
    bodies: Bodies
    same_as: tuple[tuple[str, str], ...]
    prune: Callable[[dict[str, Any]], None] | None

    def later(self, sent: SentRequest, operation: Operation, plan: Plan, form: Form, who: str) -> Later:
        """The parts of a request whose question is known."""
        return Later(len(sent.body or b""), partial(self._parts, sent, operation, plan.unfiltered, form, who))

    def _parts(self, sent: SentRequest, operation: Operation, plan: Plan, form: Form, who: str) -> Parts:
        body = sent.body or b""
        aimed = target_of if len(sent.url) <= bounded.SHORT else target_of.__wrapped__
        target = aimed(sent.method, sent.url, self.same_as)
        assert target is not None
        carries = self.callers.beside(sent, self.callers.read_headers(sent), target)
        counts = self.callers.counts(carries, form, tenant=bool(plan.tenant))
        exact = keys.parsed(body)
        read = _loose(body) if exact is None else exact
        if self.prune is not None:
            self.prune(read)
        _, place = form_of(sent, target._replace(operation=operation), read)
        return plan.parts(self.bodies.key(operation, exact, body), place, counts, who)


def _loose(body: bytes) -> dict[str, Any]:
    found = bounded.loads(body)
    assert isinstance(found, dict)
    return found
