"""What requests of several APIs share: pieces of paths, base URLs of other hosts, and shapes of bodies.

A path alone does not show that a request is for a model: `/v1/surveys/7/responses` takes answers to a survey,
`/api/v1/messages` posts into a channel. Such bodies lack the fields that the operation requires; each API names these
in its `asks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from askonce.core.providers.patterns import pattern

Body = dict[str, Any]

STEP = "[^/;]+"
VERSION = r"v\d+[a-z]*\d*"
MODEL = f"(?P<model>{STEP})"
DEPLOYED = f"(?:/(?:deployments|engines)/{MODEL})?"

# The last word of a base URL whose host speaks OpenAI's API, at gateways and sellers of models; also as part of a name:
# azure-openai-eu. Cloudflare calls a user's own upstream custom-...
_WORDS = frozenset(
    {
        *("openai", "openapi", "compat", "compatible", "inference", "serving-endpoints", "models", "llm", "ai"),
        *("gateway", "proxy", "beta", "custom", "azure", "groq", "mistral", "deepseek", "openrouter", "grok", "xai"),
        *("cerebras", "together", "fireworks", "perplexity", "huggingface", "nvidia", "litellm", "vllm", "ollama"),
    }
)
_ID = pattern(
    r"\d+|[0-9a-f-]*\d[0-9a-f-]{7,}|[a-z]+_(?=\w*\d)\w{6,}|.*%.*", re.IGNORECASE
)  # names an item of a collection


def based(steps: Sequence[str]) -> bool:
    """Accept nothing, or steps that end in a version or such a word."""
    last = steps[-1] if steps else "v1"
    if re.fullmatch(VERSION, last) or last in _WORDS:
        return True
    return not _ID.fullmatch(last) and not _WORDS.isdisjoint(re.split("[-_.]", last))


def mounted(steps: Sequence[str]) -> bool:
    """Accept a base, or names without a number: a mounted server, as in /team-a/proxy or /v1/solar."""
    versions = [at for at, step in enumerate(steps) if re.fullmatch(VERSION, step)]
    after = steps[versions[-1] + 1 :] if versions else steps
    return based(steps) or (len(after) <= (1 if versions else 4) and not any(map(_ID.fullmatch, after)))


def names_model(body: Body) -> bool:
    """Whether a model is named in the usual field."""
    model = body.get("model")
    return isinstance(model, str) and bool(model)


def turns(body: Body, content: Callable[[object], bool]) -> bool:
    """Whether `messages` are turns of a conversation, each with a role and this kind of content."""
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        return False
    # A loop is faster than all(); it runs for every request that is new.
    for turn in said:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and content(turn.get("content"))):
            return False
    return True


def said(value: object) -> bool:
    """Whether there is a text or a list, with content."""
    return isinstance(value, str | list) and bool(value)


def typed(content: object) -> bool:
    """What chat and Anthropic accept as content: text, nothing, or blocks that name their type."""
    if content is None or isinstance(content, str):
        return True
    blocks = content if isinstance(content, list) else [None]
    return all(isinstance(block, str) or (isinstance(block, dict) and "type" in block) for block in blocks)


def without(block: Body, name: str) -> None:
    """Remove a mark from a block; a value that is neither a dict nor null is no mark and stays."""
    if isinstance(block.get(name, {}), dict | None):
        block.pop(name, None)
