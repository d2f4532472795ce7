"""Requests: one that depends on more than its own words passes and names the field; plain cases do not pass."""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.policy import Policy, resolve
from askonce.core.providers.expected import Expected, expected_of
from askonce.core.providers.inert import NAMES
from askonce.core.providers.operations import agreed
from askonce.core.providers.request import judge_request
from tests.corpus import by_path

TERMS = resolve()
SEARCHED = resolve(Policy(searched="store"))
ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
TOKEN = re.compile(r"[A-Za-z*][\w!#$%&'*+.^`|~:/-]*", re.ASCII)  # RFC 8941


def passes(more: dict[str, Any], **how: Any) -> str:
    return judge_request({**ASKED, **more}, TERMS, **how)


# --- the rows of public reports ---


def test_azures_data_sources_pass_by_name():
    search = {"type": "azure_search", "parameters": {"index_name": "docs"}}
    assert passes({"data_sources": [search]}) == "field-data_sources"
    assert judge_request({"messages": ASKED["messages"], "data_sources": [search]}, TERMS) == "field-data_sources"
    assert passes({"dataSources": [search]}) == "field-dataSources"


def test_a_prompt_by_id_passes_until_it_names_its_version():
    prompt = {"id": "pmpt_1", "variables": {"city": "Paris"}}
    assert judge_request({"prompt": prompt, "input": "?"}, TERMS) == "field-prompt"
    assert judge_request({"prompt": {**prompt, "version": None}, "model": "m"}, TERMS) == "field-prompt"
    assert judge_request({"prompt": {**prompt, "version": "2"}, "input": "?"}, TERMS) == ""


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ({"functionDeclarations": [{"name": "f"}]}, "tools"),
        ({"googleSearch": {}}, "server-tools"),
        ({"codeExecution": {}}, "server-tools"),
        ({"f": {"description": "d", "parameters": {}}}, "tools"),
        ({"type": "web_search"}, "server-tools"),
        ("web_search", "server-tools"),
        ("auto", "server-tools"),
        (True, "server-tools"),
        (["web_search"], "server-tools"),
        ([["f"]], "server-tools"),
    ],
)
def test_tools_of_whatever_shape_pass(tools, why):
    for request in (ASKED, {"contents": [{"parts": [{"text": "?"}]}]}):
        assert judge_request({**request, "tools": tools}, TERMS) == why
        assert judge_request({**request, "config": {"tools": tools}}, TERMS) == why
        assert judge_request({**request, "extra_body": {"tools": tools}}, TERMS) == why


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": ASKED["messages"], "tools": [FUNCTION]},
        {"messages": [], "tools": [FUNCTION]},
        {"input": "?", "tools": [FUNCTION]},
        {"prompt": "?", "functions": [{"name": "f"}]},
        {"url": "https://llm.example.com", "body": {**ASKED, "tools": [FUNCTION]}},
        {"custom_id": "1", "body": {"model": "m", "input": "?", "tools": [FUNCTION]}},
    ],
    ids=str,
)
def test_what_is_asked_with_tools_is_for_a_model_also_where_none_is_named(request_):
    assert judge_request(request_, TERMS) == "tools"


def test_an_item_or_message_that_brings_tools_along_is_looked_into():
    item = {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]}
    assert judge_request({"model": "m", "input": [item, {"role": "user", "content": "?"}]}, TERMS) == "tools"
    assert judge_request({"model": "m", "messages": [{"role": "system", "tools": [FUNCTION]}]}, TERMS) == "tools"


# --- members of the kind ---

WORLDLY: list[tuple[dict[str, Any], str]] = [
    ({"retrieval": {"index": "docs"}}, "field-retrieval"),
    ({"rag": {"top_k": 3}}, "field-rag"),
    ({"rag": True}, "field-rag"),
    ({"knowledge_base": "kb_1"}, "field-knowledge_base"),
    ({"knowledgeBaseId": "kb_1"}, "field-knowledgeBaseId"),
    ({"assistant": {"id": "a"}}, "field-assistant"),
    ({"assistant_id": "asst_1"}, "field-assistant_id"),
    ({"agent_id": "ag_1"}, "field-agent_id"),
    ({"thread_id": "t"}, "field-thread_id"),
    ({"session": {"id": "s"}}, "field-session"),
    ({"session_id": "s"}, "field-session_id"),
    ({"session_params": {"id": 1}}, "field-session_params"),
    ({"memory": {"enabled": True}}, "field-memory"),
    ({"memory": True}, "field-memory"),
    ({"conversation_id": "c"}, "field-conversation_id"),
    ({"chat_id": "c"}, "field-chat_id"),
    ({"file_ids": ["file_1"]}, "field-file_ids"),
    ({"files": [{"type": "collection", "id": "c"}]}, "field-files"),
    ({"tool_ids": ["t"]}, "field-tool_ids"),
    ({"enabled_tools": "all"}, "field-enabled_tools"),
    ({"compound_custom": {"tools": {"enabled_tools": ["web_search"]}}}, "field-compound_custom"),
    ({"web_search": True}, "field-web_search"),
    ({"web_search": {"enable": True}}, "field-web_search"),
    ({"search": True}, "field-search"),
    ({"enable_search": True}, "field-enable_search"),
    ({"search_recency_filter": "week"}, "field-search_recency_filter"),
    ({"search_domain_filter": ["a.com"]}, "field-search_domain_filter"),
    ({"return_citations": True}, "field-return_citations"),
    ({"use_search_engine": True}, "field-use_search_engine"),
    ({"enable_enhancement": True}, "field-enable_enhancement"),
    ({"include_domains": ["a.com"]}, "field-include_domains"),
    ({"deferred": True}, "field-deferred"),
    ({"previous_interaction_id": "i"}, "field-previous_interaction_id"),
    ({"parentId": "m"}, "field-parentId"),
    ({"kb_id": "k"}, "field-kb_id"),
    ({"bot_id": "b"}, "field-bot_id"),
    ({"vector_store_id": "v"}, "field-vector_store_id"),
    ({"enable_code_interpreter": True}, "field-enable_code_interpreter"),
    ({"sandbox_id": "s"}, "field-sandbox_id"),
    ({"url_context": True}, "field-url_context"),
    ({"real_time": True}, "field-real_time"),
    ({"enable_personalization": True}, "field-enable_personalization"),
    ({"preset": "@preset/comedian"}, "field-preset"),
    ({"prompt_id": "p"}, "field-prompt_id"),
    ({"model": "@preset/comedian"}, "field-model"),
    ({"modelId": "arn:aws:bedrock:us-east-1:1:prompt/ABC"}, "field-modelId"),
    ({"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "DRAFT"}}, "field-guardrailConfig"),
    ({"guardrails": ["pii-mask"]}, "field-guardrails"),
    ({"diagnostics": {"previous_message_id": "msg_1"}}, "field-diagnostics"),
    ({"prompt_cache_options": {"comparison_response_id": "resp_1"}}, "field-prompt_cache_options"),
    ({"context": {"documents": ["d"]}}, "field-context"),
    ({"continuation_token": "t"}, "field-continuation_token"),
    ({"of_tomorrow": [1]}, "field-of_tomorrow"),
    ({"config": {"of_tomorrow": {"x": 1}}}, "field-of_tomorrow"),
    ({"extra_body": {"data_sources": [{}]}}, "field-data_sources"),
    ({"model": "gpt-4o-search-preview"}, "server-tools"),
    ({"model": "gpt-5-search-api-2025-10-14"}, "server-tools"),
    ({"model": "sonar-pro"}, "server-tools"),
    ({"model": "perplexity/sonar"}, "server-tools"),
    ({"model": "llama-3.1-sonar-large-128k-online"}, "server-tools"),
    ({"model": "groq/compound-mini"}, "server-tools"),
    ({"model": "compound-beta"}, "server-tools"),
    ({"model": "o3-deep-research"}, "server-tools"),
    ({"model": "jina-deepsearch-v1"}, "server-tools"),
    ({"models": ["a", "b:online"]}, "server-tools"),
]


@pytest.mark.parametrize(("more", "why"), WORLDLY, ids=lambda value: value if isinstance(value, str) else str(value))
def test_a_field_that_may_depend_on_the_world_passes_and_is_named(more, why):
    assert passes(more) == why


names = st.text(min_size=1, max_size=200).filter(lambda name: name not in ASKED)


@given(names, st.sampled_from([{"x": 1}, [1], [{}], {"": ""}]))
def test_an_object_or_list_that_nobody_knows_passes_whatever_it_is_called(name, value):
    why = judge_request({**ASKED, name: value}, TERMS)
    if not why:
        assert inert(name)
    assert not why or TOKEN.fullmatch(why), why
    assert judge_request({**ASKED, name: value}, TERMS, inert=frozenset({name})) == ""


@given(names, st.sampled_from([None, False, [], {}]))
def test_a_field_that_holds_nothing_is_no_reason(name, value):
    assert judge_request({**ASKED, name: value}, TERMS) in {"", "server-tools"}  # web_search_options={} searches


@given(names, st.one_of(st.integers(), st.floats(), st.text(), st.booleans()))
def test_no_single_value_makes_a_request_raise(name, value):
    assert not (why := judge_request({**ASKED, name: value}, TERMS)) or TOKEN.fullmatch(why)


def inert(name: str) -> bool:
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower() in NAMES | {"config", "extra_body"}


def test_the_operators_word_lets_a_field_through_and_no_other():
    more = {"moods": ["calm"], "data_sources": [{}]}
    assert passes(more) == "field-moods"
    assert passes(more, inert={"moods"}) == "field-data_sources"
    assert passes(more, inert={"moods", "data_sources"}) == ""
    assert passes({**more, "tools": [FUNCTION]}, inert={"moods", "data_sources"}) == "tools"


# --- the plain cases ---

PLAIN: list[dict[str, Any]] = [
    {"temperature": 0.2, "top_p": 1, "seed": 7, "stop": ["\n"], "logit_bias": {"50256": -100}, "n": 2},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    {"reasoning": {"effort": "high"}, "text": {"format": {"type": "text"}}, "include": ["x"], "truncation": "auto"},
    {"thinking": {"type": "enabled", "budget_tokens": 2000}, "system": [{"type": "text", "text": "s"}]},
    {"output_config": {"format": {"type": "json_schema"}}, "context_management": {"edits": [{}]}},
    {"generationConfig": {"temperature": 0}, "safetySettings": [{}], "systemInstruction": {"parts": [{}]}},
    {"cachedContent": "cachedContents/1", "labels": {"team": "a"}},
    {"config": {"temperature": 0, "safety_settings": [{}], "response_schema": {"type": "OBJECT"}}},
    {"modalities": ["text", "audio"], "audio": {"voice": "x"}, "prediction": {"type": "content", "content": "x"}},
    {"guided_json": {"type": "object"}, "chat_template_kwargs": {"enable_thinking": False}, "stop_token_ids": [1]},
    {"structured_outputs": {"choice": ["a", "b"]}, "mm_processor_kwargs": {"x": 1}, "documents": [{"text": "t"}]},
    {"extra_body": {"top_k": 20, "guided_choice": ["a"], "chat_template_kwargs": {}}},
    {
        "options": {"num_ctx": 4096},
        "format": {"type": "object", "properties": {}},
        "keep_alive": "5m",
        "context": [1, 2],
    },
    {"samplers": ["top_k"], "dry_sequence_breakers": ["\n"], "json_schema": {}, "lora": [{"id": 0, "scale": 1}]},
    {"provider": {"order": ["x"]}, "models": ["a", "b"], "route": "fallback", "transforms": ["middle-out"]},
    {"usage": {"include": True}, "trace": {"id": "1"}, "plugins": [{"id": "response-healing"}]},
    {"inferenceConfig": {"maxTokens": 5}, "performanceConfig": {"latency": "optimized"}, "requestMetadata": {"a": "b"}},
    {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "3"}, "outputConfig": {"textFormat": {}}},
    {"additionalModelRequestFields": {"thinking": {"type": "enabled"}}, "additionalModelResponseFieldPaths": ["/x"]},
    {"guardrails": [{"block_on_error": True}], "safe_prompt": True, "prompt_mode": "reasoning", "random_seed": 1},
    {"citation_options": {"mode": "ACCURATE"}, "safety_mode": "STRICT", "strict_tools": True, "k": 0, "p": 0.7},
    {
        "tool_choice": {"type": "auto"},
        "parallel_tool_calls": False,
        "max_tool_calls": 3,
        "disable_tool_validation": True,
    },
    {"metadata": {"user": "1", "tools": "x"}, "user": "alice", "store": True, "service_tier": "flex"},
    {
        "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "cache_control": {"ttl": "5m"},
    },
    {
        "fallbacks": [{"model": "b"}],
        "speed": "fast",
        "inference_geo": "eu",
        "billing_policy": {"type": "billing_policy"},
    },
    {"disable_search": True, "search_mode": "off"},
    {"lang": "de", "agent": "billing", "prompt_version": "v3", "variables": {"name": "Ada"}},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.com/b.png"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]}]},
    {"model": "text-search-ada-doc-001"},
    {"model": "mistral-research"},
    {"modelId": "arn:aws:bedrock:us-east-1:1:prompt/ABC:2"},
]


@pytest.mark.parametrize("more", PLAIN, ids=",".join)
def test_what_providers_and_servers_document_as_words_of_the_question_is_looked_up(more):
    assert passes(more) == ""


@pytest.mark.parametrize(
    "request_",
    [
        {"tools": [FUNCTION], "question": "not for a model"},
        {"messages": ["a mail", "another"], "customer": {"id": 1}},
        {"conversation": "c", "background": True},
        {"documents": ["d"], "data_sources": ["s"]},
        {"rows": [{"model": "T"}], "filter": {"x": 1}},
        {"prompt": {"text": "t"}},
    ],
    ids=str,
)
def test_what_is_no_request_for_a_model_is_the_users_own(request_):
    assert judge_request(request_, TERMS) == ""


# --- searched="store" ---

SEARCHES: list[dict[str, Any]] = [
    {"model": "perplexity/sonar"},
    {"model": "m:online"},
    {"web_search_options": {}},
    {"search_parameters": {"mode": "auto"}},
    {"plugins": [{"id": "web"}]},
    {"enable_search": True},
    {"data_sources": [{}]},
    {"search_domain_filter": ["a.com"]},
    {"tools": [{"type": "web_search_20260318"}]},
    {"tools": [{"googleSearch": {}}, {"urlContext": {}}]},
    {"tools": [{"type": "file_search"}]},
]


@pytest.mark.parametrize("more", SEARCHES, ids=str)
def test_whoever_keeps_searched_answers_looks_up_the_requests_that_only_search(more):
    assert passes(more)
    assert judge_request({**ASKED, **more}, SEARCHED) == ""


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "code_interpreter"}]},
        {"tools": [{"type": "web_search"}, {"type": "mcp"}]},
        {"tools": [{"googleSearch": {}, "codeExecution": {}}]},
        {"tools": [{"type": "tool_search_tool_bm25_20251119"}]},
        {"tools": [{"type": "web_search"}, FUNCTION]},
        {"mcp_servers": [{"url": "u"}]},
        {"previous_response_id": "r"},
        {"thread_id": "t"},
        {"plugins": [{"id": "web"}, {"id": "code"}]},
    ],
    ids=str,
)
def test_whoever_keeps_searched_answers_keeps_nothing_else(more):
    assert judge_request({**ASKED, **more}, SEARCHED) != ""


# --- every field there is ---

COUNTED = (  # single values by their types; never an object or list
    "frequency_penalty logprobs n presence_penalty reasoning_effort store top_logprobs verbosity best_of echo dimensions "
    "encoding_format inference_geo speed fallback_credit_token disable_tool_validation include_reasoning reasoning_format "
    "stream min_tokens prompt_logprobs prompt_mode random_seed repetition_penalty safe_prompt top_prompt_logprobs k p "
    "priority safety_mode audio_timestamp automatic_continuation candidate_count response_logprobs response_mime_type "
    "should_return_http_response cached_content enable_enhanced_civic_answers"
)
HEADERS = {"betas", "user_profile_id", "workspace_id"}  # sent as such by Anthropic's SDK
WORLD = (  # passes on purpose
    "tools functions web_search_options background conversation previous_response_id prompt container mcp_servers thread "
    "diagnostics compound_custom exclude_domains include_domains search_settings model_armor_config continuation_token"
)


def hints(module: str, name: str) -> Collection[str]:
    """The fields of a class of an SDK, which is imported when it is asked for."""
    return typing.get_type_hints(getattr(importlib.import_module(module), name))


def arguments(module: str, name: str, method: str) -> Collection[str]:
    function = getattr(getattr(importlib.import_module(module), name), method)
    return set(inspect.signature(function).parameters) - {"self"}


SDKS: dict[str, Callable[[], Collection[str]]] = {
    "openai chat": lambda: hints("openai.types.chat.completion_create_params", "CompletionCreateParamsBase"),
    "openai completions": lambda: hints("openai.types.completion_create_params", "CompletionCreateParamsBase"),
    "openai responses": lambda: hints("openai.types.responses.response_create_params", "ResponseCreateParamsBase"),
    "openai embeddings": lambda: hints("openai.types.embedding_create_params", "EmbeddingCreateParams"),
    "anthropic": lambda: hints("anthropic.types.beta.message_create_params", "MessageCreateParamsBase"),
    "groq": lambda: hints("groq.types.chat.completion_create_params", "CompletionCreateParams"),
    "mistral": lambda: hints("mistralai.client.models.chatcompletionrequest", "ChatCompletionRequestTypedDict"),
    "cohere": lambda: arguments("cohere.v2.client", "V2Client", "chat_stream"),
    "google": lambda: importlib.import_module("google.genai.types").GenerateContentConfig.model_fields,
}


@pytest.mark.parametrize("sdk", SDKS)
def test_every_field_of_the_installed_sdks_is_inert_or_passes_on_purpose(sdk):
    def asked(name: str) -> dict[str, Any]:
        more = {name: [{"x": 1}] if name == "guardrails" else {"x": 1}}
        return {"config": more} if sdk == "google" else more

    names = SDKS[sdk]()
    passing = {name for name in names if passes(asked(name))}
    assert passing - {*COUNTED.split(), *WORLD.split(), *HEADERS} == set()
    assert len(names) > len(passing)


def test_every_object_and_list_in_recorded_requests_is_inert_or_passes_on_purpose(corpus_dir: Path):
    passing = set()
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            named = by_path(record["method"], record["url_path"], record["host"])
            try:
                body = json.loads(record["request_body"] or "null")
            except ValueError:
                continue
            if named is None or not isinstance(body, dict) or agreed(named, body) is None:
                continue
            passing.add(judge_request(body, TERMS, known=True))
    assert {why for why in passing if why.startswith("field-")} == {"field-preset", "field-guardrailConfig"}


# --- what is expected ---

JSON = [
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {}}},
    {"text": {"format": {"type": "json_schema", "schema": {}}}},
    {"output_config": {"format": {"type": "json_schema"}}},
    {"output_format": {"type": "json_schema"}},
    {"generationConfig": {"responseMimeType": "application/json"}},
    {"generationConfig": {"responseSchema": {"type": "OBJECT"}}},
    {"config": {"response_mime_type": "application/json; charset=utf-8"}},
    {"config": {"response_json_schema": {}, "response_schema": {"type": "OBJECT"}}},
    {"format": "json"},
    {"format": {"type": "object", "properties": {}}},
    {"guided_json": {"type": "object"}},
    {"extra_body": {"guided_json": {"type": "object"}}},
    {"structured_outputs": {"json": {"type": "object"}}},
    {"json_schema": {"type": "object"}},
    {"nvext": {"guided_json": {"type": "object"}}},
    {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {}}}},
    {"grammar": {"type": "json", "value": {}}},
]


@pytest.mark.parametrize("more", JSON, ids=str)
def test_a_request_that_demands_json_says_so(more):
    assert expected_of({**ASKED, **more}) == Expected(json=True)
    begun = [*ASKED["messages"], {"role": "assistant", "content": "{"}]
    assert expected_of({**ASKED, **more, "messages": begun}) == Expected()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "regex", "value": "a"}},
        {"text": {"format": {"type": "text"}}},
        {"text": "some text"},
        {"generationConfig": {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}}},
        {"format": ""},
        {"grammar": "root ::= 'a'"},
        {"structured_outputs": {"choice": ["a"]}},
        {"guided_choice": ["a"]},
    ],
    ids=str,
)
def test_a_request_for_text_or_a_choice_demands_no_json(more):
    assert expected_of({**ASKED, **more}) == Expected()


@pytest.mark.parametrize(
    ("request_", "given"),
    [
        ({"documents": [{"text": "t"}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "search_result", "content": []}]}]}, True),
        ({"messages": [{"role": "tool", "content": "t"}]}, True),
        ({"messages": [{"role": "user", "content": [{"searchResult": {}}]}]}, True),
        ({"input": [{"type": "function_call_output", "output": "t"}]}, True),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, False),
        ({"messages": "?", "input": [1, None]}, False),
        (None, False),
        (["a"], False),
    ],
    ids=str,
)
def test_a_request_that_brings_sources_along_says_so(request_, given):
    assert expected_of(request_).given == given
