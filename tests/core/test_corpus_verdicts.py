"""Traffic that others recorded against real providers: what is stored of it, and what is one question.

The records carry fields (finish_reason, has_tool_calls_in_response, ...) that their collectors wrote; these are the
judge here. What they forbid is never stored. What they and a plain look at the text allow is stored, with exceptions
named one by one.
"""

from __future__ import annotations

import itertools
import json
import re
import typing
from collections import Counter, defaultdict
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.types import Message
from anthropic.types import message_create_params as message_params
from anthropic.types.beta import message_create_params as beta_message_params
from openai.types import CreateEmbeddingResponse
from openai.types import completion_create_params as completion_params
from openai.types import embedding_create_params as embedding_params
from openai.types.chat import ChatCompletion
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import Response
from openai.types.responses import response_create_params as response_params

from askonce.core.headers import HEADER_CLASSES, asks_stream, header_class, ignored_header
from askonce.core.judge import Judge, judge_answer
from askonce.core.keys import RAW, canonical
from askonce.core.policy import resolve
from askonce.core.providers import APIS, by_answer
from askonce.core.providers.expected import PLAIN, expected_of
from askonce.core.providers.operations import Operation, agreed, model_of
from askonce.core.providers.request import judge_request
from tests.corpus import by_path, canonical_body

ROWS = {api.name: api for api in APIS}
TERMS = resolve()
JUDGED = {
    "openai.chat": "chat",
    "openai.completions": "completions",
    "openai.responses": "responses",
    "openai.embeddings": "embeddings",
    "anthropic.messages": "messages",
    "gemini.generateContent": "gemini",
    "bedrock.converse": "converse",
    "cohere.v2.chat": "message",
}
FORBIDDEN = {
    "length",
    "max_tokens",
    "max_output_tokens",
    "content_filter",
    "tool_calls",
    "tool_use",
    "function_call",
} | {*("guardrail_intervened", "pause_turn", "unexpected_tool_call", "tool_call", "2")}

Record = dict[str, Any]


@pytest.fixture(scope="module")
def answers(records) -> list[tuple[Record, Any]]:
    """Every answer of HTTP 200, in one piece, of the protocols of the table."""
    plain = (record for record in records if record["status"] == 200 and not record["stream"])
    return [(record, json.loads(record["response_body"])) for record in plain if record["api"] in JUDGED]


def operation_of(record: Record) -> Operation | None:
    """What a record asks, by its host, path and body; None where they do not agree on an operation."""
    operation = by_path(record["method"], record["url_path"], record["host"])
    try:
        body = json.loads(record["request_body"] or "null")
    except ValueError:
        return None
    return agreed(operation, body) if operation and isinstance(body, dict) else None


NO_JSON = {"aws_bedrock-f930d5be5b15"}  # a request with promptVariables, recorded with a bracket too few


def forbidden(record: Record, value: Any) -> bool:
    """Whether the record's own fields say that this answer may not be kept."""
    endings = set(re.split(r"[|:]", str(record["finish_reason"]).lower()))
    return bool(
        not FORBIDDEN.isdisjoint(endings)
        or record["has_tool_calls_in_response"]
        or record["has_refusal"]
        or (record["finish_reason"] is None and value.get("status") == "queued")
        or value.get("error")
    )


def texts(value: Any) -> list[str]:
    """Everything in an answer that could be read to somebody, or embedded, without knowing any protocol."""
    if isinstance(value, dict):
        if value.get("thought") or value.get("type") == "reasoning" or "reasoningContent" in value:
            return []
        named = [
            item for name, item in value.items() if name in {"text", "content", "embedding"} and isinstance(item, str)
        ]
        return named + [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return ["vector"] if value and isinstance(value[0], float) else [text for item in value for text in texts(item)]
    return []


def judged(record: Record, value: Any) -> str:
    """Why an answer is not stored, as the answer to its own question; some bodies were recorded without their end."""
    try:
        expected = expected_of(json.loads(record["request_body"]))
    except ValueError:
        expected = PLAIN
    return Judge(TERMS, expected).refusal(value)


# A plain reading would let these pass, but they are not stored.
RAN_A_TOOL = {  # their has_tool_calls_in_response counts only calls by the program; these hold the provider's own
    *("groq-215876d212bd", "groq-8bb400868d8b"),  # compound-beta: executed_tools, a web search
    *("google_gemini-d2dc49063f21", "google_gemini-96b89011be6a", "google_gemini-3fe9b3956813"),  # codeExecution,
    *("google_gemini-4a84a6f17afa", "google_gemini-fa1fe8657021", "google_gemini-fd5ae7202f45"),  # googleSearch
    *("google_gemini-8aaab420d7fe", "google_gemini-c962acb13fe0", "google_gemini-38276130c1fa"),
    *("google_gemini-ea1fdf50d2ee", "google_gemini-1e2bee0b68b0", "google_gemini-d66a30528027"),
    *("google_gemini-2898435831e2", "google_gemini-39180a5d2de8", "google_gemini-06a6303fa321"),
    "google_vertex-228691c18b62",
}
SEARCHED = {  # answers that carry sources, or mention a search
    *("openai-ec4301807104", "openrouter-4af3e291b5cb", "openrouter-052c734c92c3"),  # annotations: url_citation
    *("openrouter-b39ca11cb312", "openrouter-dc93a3114df5"),  # usage: web_search_requests
}
# Requests that depend on more than their words, although no field of tools or state says so.
OF_THE_WORLD = {
    *("groq-215876d212bd", "groq-a295618ccd0d", "groq-8bb400868d8b"),  # compound-beta searches
    "openrouter-4af3e291b5cb",  # perplexity/sonar searches
    "openrouter-c2b349768922",  # a preset, which its owner changes by name
    "openai-be694e6e2a69",  # an item of the input brings tools along
}


# --- verdicts ---


def test_every_answer_is_recognised_by_its_shape_as_what_its_path_says(answers):
    for record, value in answers:
        operation, protocol = operation_of(record), by_answer(value)
        if value.keys() == {"error"}:
            continue
        assert protocol is not None, record["id"]
        assert protocol.name == JUDGED[record["api"]], record["id"]
        assert operation is None or operation.api is protocol, record["id"]
        assert operation is not None or record["id"] in NO_JSON, record["id"]


def test_nothing_is_stored_that_the_records_own_fields_forbid(answers):
    stored = [record["id"] for record, value in answers if forbidden(record, value) and not judge_answer(value, TERMS)]
    assert stored == []
    assert sum(forbidden(record, value) for record, value in answers) > 600


def test_nothing_is_refused_that_a_plain_reading_allows_but_for_what_is_named_here(answers):
    refused = {
        record["id"]: reason
        for record, value in answers
        if (reason := judged(record, value)) and not forbidden(record, value) and any(t.strip() for t in texts(value))
    }
    assert {name for name, reason in refused.items() if reason not in {"server-tool", "searched"}} == set()
    assert set(refused) == RAN_A_TOOL | SEARCHED
    assert {refused[name] for name in SEARCHED} == {"searched"}
    assert sum(not judge_answer(value, TERMS) for _, value in answers) > 1300


SDK_ANSWERS: dict[str, Any] = {
    "openai.chat": ChatCompletion,
    "openai.responses": Response,
    "openai.embeddings": CreateEmbeddingResponse,
    "anthropic.messages": Message,
}


@pytest.mark.parametrize("mode", ["python", "json"])
def test_an_answer_dumped_by_its_sdk_is_judged_as_it_was_on_the_wire(answers, mode):
    for record, value in answers:
        if (model := SDK_ANSWERS.get(record["api"])) and value.keys() != {"error"}:
            dumped = model.construct(**value).model_dump(mode=mode, warnings=False)
            assert judge_answer(dumped, TERMS) == judge_answer(value, TERMS), record["id"]


def test_what_the_provider_ran_was_asked_for_in_the_request_so_it_would_have_passed(answers):
    for record, value in answers:
        if judge_answer(value, TERMS) == "server-tool" and record["provider"] != "groq":  # whose model needs no asking
            assert judge_request(json.loads(record["request_body"]), TERMS, known=True) == "server-tools", record["id"]


def test_requests_with_tools_or_state_pass_and_the_others_do_not(records):
    for record in records:
        if operation_of(record) is None:
            continue
        request = json.loads(record["request_body"])
        reason = judge_request(request, TERMS, known=True)
        assert bool(reason) == (plainly_passes(request) or record["id"] in OF_THE_WORLD), (record["id"], reason)
        assert judge_request(request, TERMS) in {reason, ""}


def plainly_passes(request: Record) -> bool:
    if request.get("guardrailConfig", {}).get("guardrailVersion") == "DRAFT":
        return True  # a draft is changed under its name
    state = ("previous_response_id", "conversation", "background", "mcp_servers", "container", "tools", "functions")
    offered = (request.get("toolConfig") or {}).get("tools")  # Converse's
    return bool(offered) or any(request.get(name) for name in state) or "web_search_options" in request


def test_every_usage_that_a_provider_reports_is_read(answers):
    for record, value in answers:
        protocol = by_answer(value)
        if protocol is None or not isinstance(value.get("usage", value.get("usageMetadata")), dict):
            continue
        tokens = protocol.usage(value)
        assert tokens is not None, record["id"]
        assert tokens[0] >= 0 <= tokens[1], record["id"]


def test_the_model_is_found_in_every_request(records):
    for record in records:
        if operation := operation_of(record):
            assert model_of(operation, json.loads(record["request_body"])), record["id"]


# --- keys ---


def test_equal_json_in_different_bytes_is_one_question(records):
    groups: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record["method"] == "POST" and record["request_body"]:
            groups[record["request_key"]].add(record["request_body"])
    pairs = [pair for bodies in groups.values() for pair in itertools.combinations(sorted(bodies), 2)]
    assert len(pairs) >= 40
    for one, other in pairs:
        assert canonical_body(one.encode()) == canonical_body(other.encode())


def test_different_json_is_never_one_question(records):
    meant: dict[bytes, str] = {}
    for record in records:
        if not record["request_body"]:
            continue
        body = canonical_body(record["request_body"].encode())
        if body.startswith(RAW):
            continue
        read = json.dumps(
            json.loads(record["request_body"], parse_float=lambda text: integral(float(text))), sort_keys=True
        )
        assert meant.setdefault(body, read) == read, record["id"]
    assert len(meant) > 2000


def integral(number: float) -> float:
    return int(number) if number.is_integer() else number


def test_a_body_from_the_wire_is_the_same_question_as_its_value_in_python(records):
    for record in records:
        raw = (record["request_body"] or "").encode()
        if not (body := canonical_body(raw)).startswith(RAW):
            assert body == canonical(json.loads(raw)), record["id"]


# --- fields and headers ---

COUNTS = {  # top-level fields that affect the answer, its use, or whether there is one
    "chat": "metadata prompt_cache_options store audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
    "modalities model moderation n parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed "
    "service_tier stop temperature tool_choice tools top_logprobs top_p verbosity web_search_options "
    "reasoning reasoning_format models provider transforms top_k search_settings usage preset",
    "completions": "best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop "
    "suffix temperature top_p",
    "responses": "metadata user safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options access_programs background background_options context_management conversation image include input "
    "instructions max_output_tokens max_tool_calls model moderation parallel_tool_calls previous_response_id prompt "
    "reasoning service_tier store temperature text tool_choice tools top_logprobs top_p truncation provider",
    "embeddings": "dimensions encoding_format input model",
    "message": "documents messages model response_format stop_sequences temperature thinking tool_choice tools",
    "messages": "billing_policy compaction container context_management diagnostics fallback_credit_token fallbacks "
    "inference_geo max_tokens mcp_servers messages model output_config output_format service_tier speed stop_sequences "
    "system temperature thinking thread tool_choice tools top_k top_p anthropic_version",
    "gemini": "cachedContent contents generationConfig systemInstruction toolConfig tools safetySettings",
    "converse": "additionalModelRequestFields additionalModelResponseFieldPaths guardrailConfig inferenceConfig messages "
    "outputConfig performanceConfig serviceTier system toolConfig schemaVersion",
}
# Fields that are left out somewhere.
ANYHOW = {name: {left.field for left in api.left_out} for name, api in ROWS.items()}
IN_HEADERS = {"betas", "user_profile_id", "workspace_id"}  # named as fields by Anthropic's SDK, sent as headers
SDK_FIELDS = [
    ("chat", chat_params.CompletionCreateParamsBase),
    ("completions", completion_params.CompletionCreateParamsBase),
    ("responses", response_params.ResponseCreateParamsBase),
    ("embeddings", embedding_params.EmbeddingCreateParams),
    ("messages", message_params.MessageCreateParamsBase),
    ("messages", beta_message_params.MessageCreateParamsBase),
]


@pytest.mark.parametrize("name", COUNTS)
def test_a_field_counts_or_is_ignored_and_never_both(name):
    assert ANYHOW[name].isdisjoint(COUNTS[name].split())


@pytest.mark.parametrize(("name", "params"), SDK_FIELDS, ids=lambda value: getattr(value, "__module__", value))
def test_every_field_of_the_installed_sdks_is_in_one_class(name, params):
    known = ANYHOW[name] | set(COUNTS[name].split()) | IN_HEADERS
    assert set(typing.get_type_hints(params)) - known == set()


def test_every_field_of_the_recorded_requests_is_in_one_class(records):
    unknown = Counter[tuple[str, str]]()
    for record in records:
        if operation := operation_of(record):
            name = operation.api.name
            known = ANYHOW[name] | set(COUNTS[name].split())
            unknown.update((name, field) for field in json.loads(record["request_body"]) if field not in known)
    assert unknown == {}


def classes(name: str) -> list[str]:
    return [
        kind
        for kind, known in HEADER_CLASSES.items()
        if any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in known)
    ]


def test_every_header_of_the_recorded_requests_is_in_one_class(records):
    names = {name.lower() for record in records for name in record["request_headers"]}
    assert {name: classes(name) for name in names if len(classes(name)) != 1} == {}
    assert {name for name in names if header_class(name) == "counts"} == {
        *("openai-beta", "anthropic-version", "anthropic-beta"),
        *("x-amzn-bedrock-guardrailidentifier", "x-amzn-bedrock-guardrailversion", "x-amzn-bedrock-trace"),
    }


def test_no_value_of_a_recorded_request_for_a_model_is_unusual(records):
    """Of those headers whose value decides; a stream's accept is plain where a stream is asked for."""
    unusual = Counter[tuple[str, str]]()
    for record in records:
        if operation_of(record) is not None and record["status"] == 200:
            headers = record["request_headers"].items()
            found = [(name.lower(), value) for name, value in headers if header_class(name) in {"valued", "members"}]
            unusual.update(
                (name, value)
                for name, value in found
                if not ignored_header(name, value) and not (record["stream"] and asks_stream(value))
            )
    assert unusual == {}


def test_every_header_that_the_installed_sdks_send_is_in_one_class():
    names: set[str] = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        names.update(name.lower() for name in request.headers)
        return httpx2.Response(400, json={"error": {"message": "no"}})

    messages: Any = [{"role": "user", "content": "?"}]
    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        one = openai.OpenAI(
            api_key="k", organization="o", project="p", base_url="http://127.0.0.1/v1", http_client=http
        )
        two = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1", http_client=http)
        for ask in (
            lambda: one.chat.completions.create(model="m", messages=messages),
            lambda: one.chat.completions.create(model="m", messages=messages, stream=True),
            lambda: one.chat.completions.with_raw_response.create(model="m", messages=messages),
            lambda: one.responses.create(model="m", input="?"),
            lambda: one.embeddings.create(model="m", input="?"),
            lambda: two.messages.create(model="m", messages=messages, max_tokens=1),
            lambda: two.messages.create(model="m", messages=messages, max_tokens=1, stream=True),
            lambda: two.beta.messages.create(model="m", messages=messages, max_tokens=1, betas=["x"]),
        ):
            with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)):
                ask()
    assert {"authorization", "x-stainless-retry-count", "anthropic-beta", "openai-organization"} <= names
    assert {name: classes(name) for name in names if len(classes(name)) != 1} == {}
