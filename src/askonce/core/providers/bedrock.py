"""Where Bedrock serves its operations."""

from __future__ import annotations

import re

from askonce.core.providers.api import Path
from askonce.core.providers.paths import STEP

__all__ = ["at_bedrock"]

# An id, or an ARN: older SDKs leave the slash in it as it is. Elsewhere than at Bedrock an id has to look like one.
_ARN = r"arn(?::|%3[aA])aws[^/;]*(?:/[^/;]+)?"
_MODEL = f"/model/(?P<model>{_ARN}|{STEP})"
_LIKE = rf"/model/(?P<model>{_ARN}|(?:[a-z][\w-]*\.)+[\w:%.-]+)"
_DRAFT = re.compile(r":prompt/[^:]+$")  # a prompt without a version: edited any time


def _settled(model: str) -> bool:
    return _DRAFT.search(model) is None


def at_bedrock(plain: str, streamed: str) -> tuple[Path, ...]:
    """Where an operation is served: at Bedrock, and wherever a model's id looks like one of Bedrock's."""
    return (
        Path(_MODEL, "bedrock", ends=(plain, streamed), framed=True, settled=_settled),
        Path(_LIKE, ends=(plain, streamed), framed=True, settled=_settled),
    )
