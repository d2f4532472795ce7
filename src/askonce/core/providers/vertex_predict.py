"""Vertex's rawPredict, which carries the APIs of the models' makers as InvokeModel does."""

from __future__ import annotations

from askonce.core.providers.api import Carrier, Path
from askonce.core.providers.bedrock_invoke import CARRIED
from askonce.core.providers.paths import STEP, VERSION

__all__ = ["CARRIER"]

_MODEL = r"/publishers/(?:anthropic|mistralai)/models/(?!count-tokens)(?P<model>[^/:;]+)"
_ENDS = (":rawPredict", ":streamRawPredict")
CARRIER = Carrier(
    (
        Path(f"/{VERSION}/projects/{STEP}/locations/{STEP}{_MODEL}", "vertex", ends=_ENDS),
        Path(_MODEL, ends=_ENDS),
    ),
    CARRIED,
)
