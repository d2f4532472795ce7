"""Which fields of a request are inert: they count in the key, and only their words can change an answer.

Sources: the request types of the SDKs of OpenAI, Anthropic, Google, Mistral, Groq and Cohere, and the documentation of
Azure, Bedrock, OpenRouter, Together, Fireworks, DeepSeek, xAI, Qwen, vLLM, SGLang, llama.cpp, TGI, Ollama and LiteLLM.
A test compares every field of the installed SDKs and of recorded traffic with these lists. Names are in snake_case; a
request may also use camelCase.

An unlisted field is inert if it holds a single value (a number, text or flag) and its name does not suggest the outside
world: search, tools, memory. An object or list may hold anything, so it must be known, by this list or by the
operator's word (Rules.inert).
"""

from __future__ import annotations

from collections.abc import Mapping

from askonce.core.providers.patterns import pattern

INERT: Mapping[str, str] = {
    "the question": "messages input inputs contents content system system_instruction instructions query "
    "chat_history history preamble examples few_shot_examples documents tool_results images image_data audio_data "
    "multimodal_data input_ids prompt_token_ids prompt_embeds texts instances requests template suffix prefix "
    "variables prompt_variables template_variables single_embedding_params input_text input_type",
    "sampling": "temperature top_p top_k seed stop stop_sequences stop_words stop_token_ids stop_regex logit_bias "
    "logits_bias bad_words bad_words_ids allowed_token_ids logits_processors samplers sampler_order "
    "dry_sequence_breakers options sampling_params generation_config inference_config text_generation_config "
    "generation_kwargs beam_search_params lora lora_request adapters prediction penalty token_bias",
    "reasoning and length": "thinking reasoning reasoning_config thinking_config truncation context_management "
    "compaction image output_config max_tokens max_completion_tokens max_output_tokens",
    "formats": "response_format text format output_format response_schema response_json_schema json_schema schema "
    "output_schema structured_outputs structural_tag guided_json guided_choice guided_regex guided_grammar grammar "
    "grammar_triggers preserved_tokens ebnf regex choice response_fields modalities response_modalities audio "
    "speech_config image_config audio_config include embedding_types additional_model_response_field_paths "
    "generation_output_config audio_transcription_config",
    "templates and media": "chat_template chat_template_kwargs mm_processor_kwargs media_io_kwargs image_options "
    "video_options translation_options asr_options ocr_options media_resolution enhancements",
    "safety": "safety_settings amazon-bedrock-guardrail_config "
    "moderation moderations safety_identifier user_security_context sensitive_word_check",
    "tool settings": "tool_choice function_call parallel_tool_calls strict_tools tool_prompt tool_stream "
    "max_tool_calls automatic_function_calling",
    "routing and price": "provider models route transforms fallbacks provider_options routing_config "
    "model_selection_config service_tier performance_config background_options access_programs billing_policy "
    "cache_control cache caching usage kv_transfer_params context_window_fallbacks content_policy_fallbacks "
    "additional_drop_params allowed_openai_params prompt_cache_key prompt_cache_retention",
    "caller and reporting": "user metadata labels tags request_metadata litellm_metadata trace debug "
    "stream_options extra_headers extra_query http_options request_options citation_options nvext",
}
NAMES = frozenset(name for names in INERT.values() for name in names.split())

# These words in the name of a single value suggest the outside world.
_WORLD = pattern(
    r"(?:^|_)(?:tools|tool_ids?|tool_?sets?|plugins|connectors|mcp|skills|thread|session|conversation|memory|memories"
    r"|(?:agent|assistant|workflow|dialog|dialogue|chat|collection|dataset|corpus|index|prompt|bot|character|persona"
    r"|notebook|graph|space|store)_ids?|(?:previous|prior|parent|last)_(?:\w+_)?ids?|interactions?|presets?|kb"
    r"|code_(?:interpreter|execution)|sandbox|computer_use|url_context|fetch_urls?|real_?time|personali[sz]\w+"
    r"|continuation|deferred|vector|knowledge|retriev\w+|rag|search\w*|enhancement|civic|web|internet|online"
    r"|brows\w+|crawl\w*|grounding|citations)(?:_|$)"
)
_SEARCH = pattern(
    r"(?:^|_)(?:search\w*|enhancement|web|internet|online|brows\w+|crawl\w*|grounding|retriev\w+|rag|citations?"
    r"|data_?sources?|knowledge\w*|domains?|domain_filter)(?:_|$)"
)
_OFF = pattern(r"(?:disable|no|skip|without)_")


def of_the_world(name: str) -> bool:
    """Whether the name of a single value suggests that the answer depends on more than its words."""
    return bool(_WORLD.search(name)) and not _OFF.match(name)


def of_a_search(name: str) -> bool:
    """Whether a name says only that the provider searches."""
    return bool(_SEARCH.search(name))
