"""Which parts of a request's body are left out of its key, where, and why.

A field is left out only for an operation whose answers neither repeat it nor depend on it, and only at hosts that are
known to treat it so: a gateway may choose a model, a price list or a customer by `user`. Only the form of an answer
(`stream`) is left out everywhere, because the form is kept beside the key. The purpose of a field does not matter: an
API that repeats `metadata` counts it.

Marks are fields inside blocks, where a provider's prompt cache may break. They change only the price. They are removed
only where the provider documents them: the schema of a tool, its input and texts may hold a user's field of the same
name.

Each API lists its own (Api.left_out, Api.marks, Api.per_input), and docs/keys.md is written from these lists.
"""

from __future__ import annotations

from askonce.core.providers import APIS
from askonce.core.providers.api import FORM, Body
from askonce.core.providers.hosts import PROVIDERS
from askonce.core.providers.operations import Operation

__all__ = ["FORM", "left_out", "per_input", "unmark"]


def left_out(operation: Operation) -> frozenset[str]:
    """The top-level fields that do not count in a request of this operation."""
    return _LEFT[operation.api.name, operation.provider]


def unmark(operation: Operation, body: Body, raw: bytes) -> None:
    """Remove the marks of this operation from `body`; `raw` are the bytes it was parsed from."""
    for mark in _MARKS[operation.api.name, operation.provider]:
        if mark.field.encode() in raw:  # avoids a walk through every block of every request
            mark.take(body)


def per_input(operation: Operation, body: Body) -> bool:
    """Whether a request may be cut into its inputs: all of its other fields mean the same for each."""
    known = operation.api.per_input
    return body.keys() <= known.get(operation.provider, known.get("", frozenset()))


_EVERY = [(api, provider) for api in APIS for provider in ("", *PROVIDERS)]
_LEFT = {
    (api.name, at): frozenset(left.field for left in api.left_out if not left.providers or at in left.providers)
    for api, at in _EVERY
}
_MARKS = {(api.name, at): [mark for mark in api.marks if at in mark.providers] for api, at in _EVERY}
