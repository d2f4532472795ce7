"""The table of APIs. To add an API, write a file that ends in its `API`, and add its line here.

Answers, events and paths are compared with the APIs in this order. The other files of this folder hold what several
APIs share: how a request is routed and judged (operations, routes, fields, hosts, request), how an answer is read
(answers, parts, sources), how a stream is read (scan, items, streamed, sse, eventstream), and how one form is made from
the other (assemble, exact). Code that knows no API does not belong here.
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
    """The API whose answer `value` is, by its shape; None for anything else."""
    if not isinstance(value, dict):
        return None
    return next((api for api in APIS if api.shape(value)), None)
