"""The body's part of a key over HTTP: what counts at its operation, after the operator's rules."""

from __future__ import annotations

import copy
from typing import Any

from askonce.core import keys
from askonce.core.normalize import NotNormal, normal_of
from askonce.core.providers.fields import FORM, left_out, unmark
from askonce.core.providers.operations import Operation
from askonce.core.rules import Rules
from askonce.errors import RequestError

Body = dict[str, Any]


class Bodies:
    """Makes the body's part of keys for one client. `settled`: equal bytes always make equal keys."""

    def __init__(self, rules: Rules) -> None:
        self._normal = normal_of(rules)
        self.settled = rules.normalize is None

    def key(self, operation: Operation, exact: Body | None, raw: bytes) -> bytes:
        """The key of a body, parsed and as received; `exact` is given away. NotNormal if the user's function fails."""
        if not self.settled:
            return self._normalized(operation, keys.parsed(raw))
        if exact is None:
            return keys.RAW + raw
        unmark(operation, exact, raw)
        if self._normal is None:
            return keys.canonical_fields(exact, raw, left_out(operation))
        kept = {name: value for name, value in exact.items() if name not in left_out(operation)}
        try:
            return self._normal.body(kept, text=_asks(operation)) or keys.canonical(kept)
        except RequestError:  # nested too deep
            return keys.RAW + raw

    def input_key(self, operation: Operation, body: Body, one: object) -> bytes:
        """The key of one input of a batch."""
        if not self.settled:
            # A copy, because the function may change it; not of the other inputs, which may be thousands.
            return self._normalized(operation, copy.deepcopy({**body, "input": one}))
        kept = {name: value for name, value in body.items() if name not in left_out(operation)}
        return keys.canonical({**kept, "input": one})

    def _normalized(self, operation: Operation, body: Body | None) -> bytes:
        if body is None:
            raise NotNormal("was not asked: parsing the body would change it")
        assert self._normal is not None
        found = self._normal.body(body, FORM, text=_asks(operation))
        assert found is not None
        return found


def _asks(operation: Operation) -> bool:
    """Whether the user's text is a question; for a vector, case and marks are the subject."""
    return not operation.api.per_input
