"""Names of fields that requests to known APIs have: a digest of a name is found again by trying them.

A request that is explained knows its own names. These are for what only an earlier request had, and for lists of
misses, which have no request at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from askonce.core.field_digests import Digests
from askonce.core.headers import HEADER_CLASSES
from askonce.core.parts import BODY
from askonce.core.providers.inert import NAMES

_PARTS = f"scope variant url options rules {BODY}"
_INSIDE = """
additionalProperties allOf anyOf arguments args audio base64 blocks bytes cachePoint cache_control candidateCount
citations code const content contentBlocks custom data default definitions $defs delta $ref description detail
dimensions display_name document effort encoding_format end enum exclusiveMaximum exclusiveMinimum file fileData
fileUri file_data file_id file_url filename format function functionCall functionCallingConfig functionDeclarations
functionResponse function_call functions generationConfig guardrailConfig id image image_url include_usage index
inferenceConfig inlineData input input_audio input_image input_schema input_text inputSchema items json json_object
json_schema kind labels last language logprobs maxItems maxLength maxOutputTokens maxTokens max_completion_tokens
max_tokens maximum media_type messages metadata mimeType minItems minLength minimum mode model modelId n name nullable
num_ctx num_predict output outputConfig parameters parts pattern prefixItems presence_penalty frequency_penalty
properties refusal required responseMimeType responseSchema response_format result results role safetySettings schema
$schema seed signature source start status stop stopSequences stop_sequences store stream strict suffix summary system
systemInstruction system_instruction system_fingerprint task temperature text thinking thinkingBudget thinkingConfig
thought title tokens tool toolChoice toolConfig toolResult toolSpec toolUse tool_call_id tool_calls tool_choice
tool_use_id tools topK topP top_k top_logprobs top_p truncate type unevaluatedProperties uri url user value verbosity
video
"""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(one.capitalize() for one in rest)


def _names() -> Iterator[str]:
    yield from _PARTS.split()
    yield from _INSIDE.split()
    for name in NAMES:
        yield from (name, _camel(name))
    for names in HEADER_CLASSES.values():
        yield from (f"header {name}" for name in names)


@lru_cache(maxsize=64)
def known_names(secret: bytes) -> dict[bytes, str]:
    """The known names, by their digests under an owner's secret."""
    digests = Digests(secret)
    return {digests.name(name): name for name in _names()}
