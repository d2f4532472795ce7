"""The names of OpenTelemetry's GenAI semantic conventions (in development, as of 1.42), and what they are for a lookup.

What askonce adds is named ``askonce.*``. No attribute has words of a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askonce.core.providers.names import vendors
from askonce.core.providers.operations import Operation
from askonce.metrics.series import presentable

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"
LOOKUPS = "askonce.lookups"
DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BOUNDS = tuple(4**power for power in range(14))  # 1 to 67,108,864

_OPERATIONS = {"embeddings": "embeddings", "completions": "text_completion", "gemini": "generate_content"}
_HOSTS = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "mistral": "mistral_ai",
}
# At a host that is no provider's own: the provider whose API it speaks.
_APIS = {
    "messages": "anthropic",
    "gemini": "gcp.gen_ai",
    "converse": "aws.bedrock",
    "message": "cohere",
    "ollama": "ollama",
}
# Without an HTTP request: by the model's name.
_VENDORS = {
    "google": "gcp.gen_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "moonshot": "moonshot_ai",
    "ibm": "ibm.watsonx.ai",
}


def operation_of(operation: Operation | None) -> str:
    """``gen_ai.operation.name``."""
    return "chat" if operation is None else _OPERATIONS.get(operation.api.name, "chat")


def provider_of(operation: Operation | None, model: str) -> str:
    """``gen_ai.provider.name``, as far as it is known; else ""."""
    if operation is not None:
        return _HOSTS.get(operation.provider, operation.provider) or _APIS.get(operation.api.name, "openai")
    found = vendors(model)
    (vendor,) = found if len(found) == 1 else ("",)
    return _VENDORS.get(vendor, vendor)


_USED = {
    "tokens_in": "gen_ai.usage.input_tokens",
    "tokens_out": "gen_ai.usage.output_tokens",
    "tokens_cached": "gen_ai.usage.cache_read.input_tokens",
}


def used(data: Mapping[str, object]) -> dict[str, int]:
    """The attributes of the tokens that a call used, by the data of its event."""
    return {name: tokens for key, name in _USED.items() if isinstance(tokens := data.get(key), int)}


def asked(operation: Operation | None, model: str) -> dict[str, Any]:
    """The attributes of a lookup that its spans and metrics share."""
    said = {
        "gen_ai.operation.name": operation_of(operation),
        "gen_ai.provider.name": provider_of(operation, model),
        "gen_ai.request.model": presentable(model),
    }
    return {name: value for name, value in said.items() if value}
