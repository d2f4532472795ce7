"""The options of a call: a closed list of keywords, the same in every way of use.

Any other keyword of `get_or_set` is part of the question, and so of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from askonce.core.policy import Consistency, Policy
from askonce.engine.question import Settings, tags_of
from askonce.errors import UsageError

Call = Callable[[], Any]


class CallOptions(TypedDict, total=False):
    """The keywords of a call, a handle or a header that are askonce's, not the question's."""

    ttl: float | None  # s that the answer stays fresh
    scope: str | None  # a path such as support/triage/v3; joins the key
    tags: Iterable[str] | None  # what the answer depends on; joins the entry
    variant: int | str | None  # which of several answers to the question; joins the key
    tenant: str | None  # whose answer it is; joins the key
    policy: Policy | None
    consistency: Consistency | None  # "strong": no answer of a near cache
    control: str | None  # RFC 9111 directives, such as "no-cache" or "max-age=60, stale-if-error=600"
    store_if: Callable[[Any], bool] | None  # called with the answer, or a stream's items; returns whether to store it


CALL_OPTIONS = frozenset(CallOptions.__annotations__)


def settings_of(own: Mapping[str, Any]) -> Settings:
    """A call's keywords as Settings; a UsageError for an unknown one names the known ones."""
    unknown = own.keys() - CALL_OPTIONS
    if unknown:
        raise UsageError(
            f"{', '.join(sorted(unknown))}: unknown setting; write any of {', '.join(sorted(CALL_OPTIONS))}"
        )
    return Settings(**{**own, "tags": tags_of(own.get("tags"))})
