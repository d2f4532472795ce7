"""The table of APIs. To add one is to write its file, which ends in its `API`, and its line here.

The order is that in which an answer, an event or a path is held against them: what asks for more signs comes first.
"""

from __future__ import annotations

from askonce.core.providers import (
    anthropic_messages,
    bedrock_converse,
    clouds,
    cohere_chat,
    gemini_generate,
    ollama_chat,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from askonce.core.providers.api import Api

__all__ = ["APIS", "CARRIERS", "Api", "by_answer"]

APIS = (
    openai_chat.API,
    openai_completions.API,
    openai_responses.API,
    openai_embeddings.API,
    anthropic_messages.API,
    bedrock_converse.API,
    gemini_generate.API,
    cohere_chat.API,
    ollama_chat.API,
)
CARRIERS = (clouds.CARRIER,)


def by_answer(value: object) -> Api | None:
    """The API whose answer `value` is, by its own shape; None for anything else."""
    if not isinstance(value, dict):
        return None
    return next((api for api in APIS if api.shape(value)), None)
