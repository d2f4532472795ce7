"""Pieces of paths that several APIs share, and what may stand before an operation at a host that is nobody's own."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["DEPLOYED", "MODEL", "STEP", "VERSION", "based", "mounted"]

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
