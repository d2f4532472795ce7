"""Bedrock's InvokeModel and Vertex's rawPredict: they carry several makers' APIs, and the body tells which.

Anthropic's, Converse (which Nova takes there), or chat.
"""

from __future__ import annotations

from askonce.core.providers import anthropic_messages, bedrock_converse, openai_chat
from askonce.core.providers.api import Carrier, Path
from askonce.core.providers.routes import STEP, VERSION

_MODEL = r"/publishers/(?:anthropic|mistralai)/models/(?!count-tokens)(?P<model>[^/:;]+)"
_ENDS = (":rawPredict", ":streamRawPredict")

CARRIER = Carrier(
    (
        Path(f"/{VERSION}/projects/{STEP}/locations/{STEP}{_MODEL}", "vertex", ends=_ENDS),
        Path(_MODEL, ends=_ENDS),
        *bedrock_converse.at_bedrock("/invoke", "/invoke-with-response-stream"),
    ),
    (
        (anthropic_messages.API, anthropic_messages.asks_in_cloud),
        (bedrock_converse.API, bedrock_converse.asks_converse),
        (openai_chat.API, openai_chat.asks_chat),
    ),
)
