"""Bedrock's InvokeModel, which carries the API that the model has: Anthropic's, Nova's (as Converse), or chat."""

from __future__ import annotations

from askonce.core.providers import anthropic_messages, bedrock_converse, openai_chat
from askonce.core.providers.api import Carrier
from askonce.core.providers.bedrock import at_bedrock

__all__ = ["CARRIED", "CARRIER"]

CARRIED = (
    (anthropic_messages.API, anthropic_messages.asks_in_cloud),
    (bedrock_converse.API, bedrock_converse.asks_converse),
    (openai_chat.API, openai_chat.asks_chat),
)
CARRIER = Carrier(at_bedrock("/invoke", "/invoke-with-response-stream"), CARRIED)
