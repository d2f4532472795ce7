"""What requests of several APIs share: pieces of paths, what may stand before an operation at a host that is nobody's
own, and shapes of bodies. A path alone does not say that a request is for a model: `/v1/surveys/7/responses` takes
answers to a survey, `/api/v1/messages` posts into a channel. What is sent there does not have the fields that the
operation of that name cannot do without; each API says by its `asks` which these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

Body = dict[str, Any]

STEP = "[^/;]+"
VERSION = r"v\d+[a-z]*\d*"
MODEL = f"(?P<model>{STEP})"
DEPLOYED = f"(?:/(?:deployments|engines)/{MODEL})?"

# The last word of a base URL whose host speaks OpenAI's API under it, at gateways and at those who sell models; also as
# a part of a name: azure-openai-eu. custom-... is what Cloudflare calls an upstream of one's own.
_WORDS = frozenset(
    {
        *("openai", "openapi", "compat", "compatible", "inference", "serving-endpoints", "models", "llm", "ai"),
        *("gateway", "proxy", "beta", "custom", "azure", "groq", "mistral", "deepseek", "openrouter", "grok", "xai"),
        *("cerebras", "together", "fireworks", "perplexity", "huggingface", "nvidia", "litellm", "vllm", "ollama"),
    }
)
_ID = re.compile(
    r"\d+|[0-9a-f-]*\d[0-9a-f-]{7,}|[a-z]+_(?=\w*\d)\w{6,}|.*%.*", re.IGNORECASE
)  # of an item of a collection


def based(steps: Sequence[str]) -> bool:
    """Nothing, or what ends in a version or such a word."""
    last = steps[-1] if steps else "v1"
    if re.fullmatch(VERSION, last) or last in _WORDS:
        return True
    return not _ID.fullmatch(last) and not _WORDS.isdisjoint(re.split("[-_.]", last))


def mounted(steps: Sequence[str]) -> bool:
    """A base, or names without a number: where somebody mounted a server, as in /team-a/proxy or /v1/solar."""
    versions = [at for at, step in enumerate(steps) if re.fullmatch(VERSION, step)]
    after = steps[versions[-1] + 1 :] if versions else steps
    return based(steps) or (len(after) <= (1 if versions else 4) and not any(map(_ID.fullmatch, after)))


def names_model(body: Body) -> bool:
    """Whether a model is named in the usual field."""
    model = body.get("model")
    return isinstance(model, str) and bool(model)


def turns(body: Body, content: Callable[[object], bool]) -> bool:
    """Whether `messages` are turns of a conversation: each with its role, and content of this kind."""
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        return False
    # A loop and not all(): it is run for every request that was not met before.
    for turn in said:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and content(turn.get("content"))):
            return False
    return True


def said(value: object) -> bool:
    """Whether there is a text, or a list."""
    return isinstance(value, str | list) and bool(value)


def typed(content: object) -> bool:
    """What chat and Anthropic take for content: text, nothing, or blocks that say their type."""
    if content is None or isinstance(content, str):
        return True
    blocks = content if isinstance(content, list) else [None]
    return all(isinstance(block, str) or (isinstance(block, dict) and "type" in block) for block in blocks)


def without(block: Body, name: str) -> None:
    """Take a mark off a block; what is not a dict is no mark, and none of ours to judge."""
    if isinstance(block.get(name, {}), dict | None):
        block.pop(name, None)
