"""What a request is: host, path and body have to agree; the end of a path alone shows nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers.hosts import place_of, provider_of
from askonce.core.providers.operations import agreed, model_of
from tests.corpus import by_path

TURN = {"role": "user", "content": "?"}
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"model": "m", "messages": [TURN]},
    "completions": {"model": "m", "prompt": "?"},
    "responses": {"model": "m", "input": "?"},
    "embeddings": {"model": "m", "input": ["?"]},
    "messages": {"model": "m", "max_tokens": 5, "messages": [TURN]},
    "claude": {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5, "messages": [TURN]},
    "message": {"model": "m", "messages": [TURN]},
    "gemini": {"contents": [{"parts": [{"text": "?"}]}]},
    "converse": {"messages": [{"role": "user", "content": [{"text": "?"}]}]},
}

PATHS = [
    ("/v1/chat/completions", "chat", False, ""),
    ("/chat/completions", "chat", False, ""),
    ("/openai/v1/chat/completions", "chat", False, ""),
    ("/api/v1/chat/completions", "chat", False, ""),
    ("/models/chat/completions?api-version=2024-05-01-preview", "chat", False, ""),
    ("/openai/deployments/gpt%2D4o/chat/completions?api-version=2024-02-01", "chat", False, "gpt-4o"),
    ("/v1/completions", "completions", False, ""),
    ("/openai/deployments/d/completions", "completions", False, "d"),
    ("/v1/responses", "responses", False, ""),
    ("/openai/responses?api-version=x", "responses", False, ""),
    ("/v1/embeddings", "embeddings", False, ""),
    ("/api/v1/embeddings", "embeddings", False, ""),
    ("/openai/deployments/d/embeddings", "embeddings", False, "d"),
    ("/v1/messages", "messages", False, ""),
    ("/v1/messages?beta=true", "messages", False, ""),
    ("/anthropic/v1/messages", "messages", False, ""),
    (
        "/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke",
        "claude",
        False,
        "anthropic.claude-3-haiku-20240307-v1:0",
    ),
    (
        "/model/us.anthropic.claude-opus-4-8/invoke-with-response-stream",
        "claude",
        True,
        "us.anthropic.claude-opus-4-8",
    ),
    ("/v1/projects/p/locations/l/publishers/anthropic/models/claude@2:rawPredict", "claude", False, "claude@2"),
    ("/v1/projects/p/locations/l/publishers/anthropic/models/claude@2:streamRawPredict", "claude", True, "claude@2"),
    ("/v1/projects/p/locations/l/publishers/mistralai/models/large:rawPredict", "chat", False, "large"),
    ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini", False, "gemini-2.5-flash"),
    ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini", True, "gemini-2.5-flash"),
    ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "gemini", False, "g"),
    ("/v1/projects/p/locations/l/endpoints/7:generateContent", "gemini", False, "7"),
    ("/v1beta/tunedModels/t:generateContent", "gemini", False, "t"),
    ("/v2/chat", "message", False, ""),
    ("/model/us.amazon.nova-lite-v1%3A0/converse", "converse", False, "us.amazon.nova-lite-v1:0"),
    ("/model/us.amazon.nova-lite-v1:0/converse-stream", "converse", True, "us.amazon.nova-lite-v1:0"),
]


@pytest.mark.parametrize(("path", "shape", "streamed", "model"), PATHS)
def test_a_path_names_its_operation(path, shape, streamed, model):
    operation = by_path("POST", path)
    assert operation is not None
    meant = agreed(operation, BODIES[shape])
    assert meant is not None
    assert meant.api.name == {"claude": "messages"}.get(shape, shape)
    assert (meant.streamed_by_path, meant.model, meant.provider) == (streamed, model, "")


def test_asking_for_a_stream_by_path_is_the_same_question():
    for streamed, plain in (
        ("/v1beta/models/g:streamGenerateContent", "/v1beta/models/g:generateContent"),
        ("/model/a.anthropic.c/invoke-with-response-stream", "/model/a.anthropic.c/invoke"),
        ("/model/a.nova/converse-stream", "/model/a.nova/converse"),
        ("/publishers/anthropic/models/c:streamRawPredict", "/publishers/anthropic/models/c:rawPredict"),
    ):
        one, other = by_path("POST", streamed), by_path("POST", plain)
        assert one is not None
        assert other is not None
        assert one.path == other.path == plain


# --- base URLs that people use ---

BASES = [
    *("", "/v1", "/v1beta", "/v4", "/api/v1", "/openai", "/openai/v1", "/v1/openai", "/v3/openai", "/inference/v1"),
    *("/compatible-mode/v1", "/api/paas/v4", "/api/v3", "/v1beta/openai", "/serving-endpoints", "/inference"),
    *("/v1/0123456789abcdef0123456789abcdef/prod/openai", "/v1/0123456789abcdef0123456789abcdef/prod/compat"),
    *("/v1/0123456789abcdef0123456789abcdef/prod/groq", "/v1/0123456789abcdef0123456789abcdef/prod/custom-mine"),
    *("/client/v4/accounts/0123456789abcdef0123456789abcdef/ai/v1", "/models/org/name/v1", "/hf-inference/models/n/v1"),
    *("/v2/4xk2m9/openai/v1", "/environments/production/sync/v1", "/9f3c1e2a-0b1c-4d5e-8f90-a1b2c3d4e5f6/v1"),
    *("/v1/projects/p/locations/l/endpoints/openapi", "/gateway/openai/v1", "/llm", "/team-a/proxy", "/litellm"),
    *("/azure-openai-eu", "/my_openai", "/teams/7/openai", "/openai-compatible"),
]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["chat", "responses", "embeddings"])
def test_no_base_url_of_a_gateway_or_a_host_is_lost(base, name):
    operation = by_path("POST", base + {"chat": "/chat/completions"}.get(name, f"/{name}"))
    assert operation is not None
    assert agreed(operation, BODIES[name]) is not None


@pytest.mark.parametrize(
    "base", ["", "/anthropic", "/api", "/api/anthropic", "/v1/0123456789abcdef0123456789abcdef/prod/anthropic"]
)
def test_anthropics_messages_are_found_under_any_base_url(base):
    assert by_path("POST", f"{base}/v1/messages") is not None


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/api/chat/completions", ""),  # Open WebUI
        ("/v1/solar/chat/completions", ""),
        ("/orgs/mine/inference/chat/completions", ""),
        ("/engines/m/chat/completions", "m"),
        ("/v2/inference/deployments/d0123456789/chat/completions", "d0123456789"),
        ("/v1/0123456789abcdef0123456789abcdef/prod/azure-openai/resource/gpt/chat/completions", "gpt"),
        ("/v1/0123456789abcdef0123456789abcdef/prod/google-ai-studio/v1/models/g:generateContent", "g"),
        ("/gemini/v1beta/models/g:generateContent", "g"),
        ("/bedrock/model/eu.amazon.nova-lite-v1:0/converse", "eu.amazon.nova-lite-v1:0"),
        ("/v1/0123/prod/aws-bedrock/bedrock-runtime/us-east-1/model/a.nova/invoke", "a.nova"),
    ],
)
def test_what_gateways_put_before_an_operation_is_a_base_url_too(path, model):
    operation = by_path("POST", path)
    assert operation is not None
    assert operation.model == model


# --- look-alikes ---

LIKE = [
    *("/v1/surveys/7/responses", "/api/surveys/1/responses", "/v1/forms/abc/responses", "/surveys/7/responses"),
    *("/v1/threads/thread_1/messages", "/conversations/5/messages", "/v1/tickets/5/messages", "/api/messages"),
    *("/messages", "/v2/messages", "/v1/rooms/5/chat/completions", "/v1/surveys/7/chat/completions"),
    *("/forms/9f3c1e2a-0b1c-4d5e-8f90-a1b2c3d4e5f6/chat/completions", "/v1/users/u/embeddings", "/users/3/embeddings"),
    *("/v1/courses/7/completions", "/v1/fim/completions", "/v1/agents/completions", "/habits/completions"),
    *("/api/embeddings", "/api/chat", "/v1/chat", "/rooms/v2/chat/7", "/v1/models", "/v1/messages/count_tokens"),
    *("/v1/messages/batches", "/v1/responses/compact", "/v1/responses/resp_1", "/v1/responses/input_tokens"),
    *("/v1/chat/completions/chatcmpl-1", "/v1/chat/completions/batch", "/v1/batches", "/v1/embeddings/batch"),
    *("/v1beta/models/g:countTokens", "/v1beta/models/g:batchEmbedContents", "/v1beta/models/g:batchGenerateContent"),
    *("/v1/items/g:generateContent", "/v1/shops/5/models/g:generateContent", "/v1beta/g:generateContent"),
    *("/publishers/anthropic/models/count-tokens:rawPredict", "/publishers/google/models/g:rawPredict"),
    *(
        "/api/model/5/invoke",
        "/model/7/converse",
        "/model/mine/invoke",
        "/model/a.b/count-tokens",
        "/model/a.b/convers",
    ),
    *("/v1/images/generations", "/v1/audio/transcriptions", "/v1/moderations", "/v1/rerank", ""),
]
SPELLED = [
    *("/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/v1/chat//completions"),
    *("/V1/Chat/Completions", "/v1/chat/COMPLETIONS", "/v1/chat%2Fcompletions", "/v1/%63hat/completions"),
    *("/v1/chat;x=1/completions", "/v1;x=1/chat/completions", "/v1/chat/completions;x=1", "/v1/./chat/completions"),
    *("/v1/../v1/chat/completions", "/v1/%2e%2e/v1/chat/completions", "/v1%2Fsurveys/7%2Fv1/chat/completions"),
    *("/v1/messages/", "/v1//messages", "/v1/responses/", "/v1/embeddings/", "/model//converse"),
]


@pytest.mark.parametrize("path", [*LIKE, *SPELLED])
def test_what_only_looks_like_an_operation_is_not_ours(path):
    assert by_path("POST", path) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "post"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/model/a.b/converse"])
def test_only_a_post_asks_a_model(method, path):
    assert by_path(method, path) is None


names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).filter(lambda text: text.strip("-"))
ids = (
    st.integers(0, 10**9).map(str)
    | st.uuids().map(str)
    | st.from_regex(r"[a-z]{2,8}_[a-z0-9]{5,9}[0-9]", fullmatch=True)
)


@given(st.sampled_from(["/v1", "/api", "/api/v2", ""]), names, ids, st.sampled_from(["chat/completions", *BODIES]))
def test_an_item_of_a_collection_has_no_operation_whatever_it_is_called(base, collection, one, name):
    assert by_path("POST", f"{base}/{collection}/{one}/{name}") is None


# --- a provider's own host ---


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("API.OpenAI.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("mine.openai.azure.com", "azure"),
        ("mine.cognitiveservices.azure.com", "azure"),
        ("mine.services.ai.azure.com", "azure"),
        ("mine.openai.azure.us", "azure"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("aiplatform.googleapis.com", "vertex"),
        ("us-central1-aiplatform.googleapis.com", "vertex"),
        ("aiplatform.eu.rep.googleapis.com", "vertex"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock"),
        ("vpce-0a1b-2c.bedrock-runtime.eu-west-1.vpce.amazonaws.com", "bedrock"),
        *(
            (host, "")
            for host in ("api.openai.com.evil.example", "notapi.openai.com", "openai.azure.com", "api-openai.com")
        ),
        *(
            (host, "")
            for host in ("api.openai.com:8443", "evil.example/api.openai.com", "a.b.api.openai.com", "localhost")
        ),
        *((host, "") for host in ("xapi.anthropic.com", "evil-aiplatform.googleapis.com.example", "amazonaws.com", "")),
        ("bedrock-runtime.us-east-1.amazonaws.com.example", ""),
    ],
)
def test_a_providers_own_host_is_told_by_its_whole_name(host, provider):
    assert provider_of(host) == provider


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("api.openai.com", "/proxy/v1/chat/completions"),
        ("api.openai.com", "/chat/completions"),
        ("api.openai.com", "/v1/openai/responses"),
        ("api.openai.com", "/v1/messages"),
        ("mine.openai.azure.com", "/v1/chat/completions"),
        ("api.anthropic.com", "/anthropic/v1/messages"),
        ("api.anthropic.com", "/v1/responses"),
        ("generativelanguage.googleapis.com", "/v1/chat/completions"),
        ("us-central1-aiplatform.googleapis.com", "/v1beta/models/g:generateContent"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "/bedrock/model/a.b/converse"),
    ],
)
def test_a_providers_own_host_has_exact_paths(host, path):
    assert by_path("POST", path, host) is None


ARN = "arn:aws:bedrock:us-east-1:123456789012:"


@pytest.mark.parametrize("action", ["invoke", "invoke-with-response-stream", "converse", "converse-stream"])
@pytest.mark.parametrize(
    "model",
    [
        *("amazon.nova-lite-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "global.anthropic.claude-opus-4-8"),
        *(f"{ARN}{kind}/abc123" for kind in ("application-inference-profile", "provisioned-model", "custom-model")),
        *(f"{ARN}{kind}/abc123" for kind in ("imported-model", "custom-model-deployment", "default-prompt-router")),
        f"{ARN}inference-profile/us.anthropic.claude-sonnet-4-20250514-v1:0",
        "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:provisioned-model/abc123",
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine",
    ],
)
def test_bedrock_models_are_read_however_they_are_named_and_spelled(model, action):
    from urllib.parse import quote

    for host in ("bedrock-runtime.us-east-1.amazonaws.com", "gateway.example"):
        for spelled in (model, quote(model, safe=""), quote(model, safe=":")):
            operation = by_path("POST", f"/model/{spelled}/{action}", host)
            assert operation is not None, (host, spelled)
            assert operation.model == model
            assert operation.streamed_by_path == action.endswith("stream")
            assert operation.framed


# --- the body has the last word ---

OTHER = [
    ("/v1/responses", {"survey": 7, "answers": [1, 2]}),
    ("/v1/responses", {"input": "very good"}),
    ("/v1/responses", {"model": "m"}),
    ("/v1/responses", {"model": "m", "input": {"question": 1}}),
    ("/v1/responses", {"model": {"id": 3}, "input": "?"}),
    ("/responses", {"form": "f", "responses": {"1": "yes"}}),
    ("/v1/messages", {"channel": "c", "text": "hi"}),
    ("/v1/messages", {"role": "user", "content": "hi"}),
    ("/v1/messages", {"model": "m", "messages": [TURN]}),
    ("/v1/messages", {"model": "m", "max_tokens": "5", "messages": [TURN]}),
    ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": ["hi"]}),
    ("/v1/messages", {"max_tokens": 5, "messages": [TURN]}),
    ("/chat/completions", {"chat": 7, "completed": True}),
    ("/chat/completions", {"model": "m", "messages": []}),
    ("/chat/completions", {"model": "m", "messages": "hi"}),
    ("/chat/completions", {"model": "m", "messages": {"role": "user"}}),
    ("/chat/completions", {"model": "m", "messages": [{"content": "hi"}]}),
    ("/chat/completions", {"model": "m", "messages": [{"role": 1, "content": "hi"}]}),
    ("/chat/completions", {"messages": [TURN]}),
    ("/v1/embeddings", {"model": "m"}),
    ("/v1/embeddings", {"video": "v", "input": "x"}),
    ("/v1/embeddings", {"model": "m", "input": []}),
    ("/v1/completions", {"course": 7}),
    ("/v1/completions", {"model": "m", "prompt": {"a": 1}}),
    ("/v2/chat", {"room": 1, "text": "hi"}),
    ("/v1beta/models/g:generateContent", {"content": "hi"}),
    ("/v1beta/models/g:generateContent", {"contents": [{"text": "hi"}]}),
    ("/v1beta/models/g:generateContent", {"contents": []}),
    ("/model/a.b/converse", {"messages": [TURN]}),
    ("/model/a.b/converse", {"promptVariables": {"a": {"text": "b"}}}),
    ("/model/a.b/invoke", {"inputText": "hi"}),
    ("/model/a.b/invoke", {"prompt": "hi", "max_gen_len": 5}),
]


@pytest.mark.parametrize(("path", "body"), OTHER)
def test_a_body_of_another_shape_is_no_request_of_the_operation(path, body):
    operation = by_path("POST", path)
    assert operation is not None
    assert agreed(operation, body) is None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (BODIES["claude"], "messages"),
        (BODIES["converse"] | {"schemaVersion": "messages-v1", "inferenceConfig": {"maxTokens": 5}}, "converse"),
        ({"messages": [TURN], "max_tokens": 5}, "chat"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "?"}]}], "max_tokens": 5}, "chat"),
    ],
)
def test_where_one_path_serves_several_protocols_the_body_says_which(body, name):
    operation = by_path("POST", "/model/a.b/invoke")
    assert operation is not None
    meant = agreed(operation, body)
    assert meant is not None
    assert meant.api.name == name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {"model": "m", "input": [{"role": "user", "content": "?"}]}),
        ("/v1/responses", {"prompt": {"id": "pmpt_1"}}),
        ("/v1/responses", {"model": "m", "previous_response_id": "resp_1"}),
        ("/chat/completions", {"models": ["a", "b"], "messages": [TURN]}),
        ("/openai/deployments/d/chat/completions", {"messages": [TURN]}),
        ("/v1/chat/completions", {"model": "m", "messages": [{"role": "assistant", "tool_calls": []}]}),
        ("/v1/embeddings", {"model": "m", "input": [[1, 2], [3]]}),
        ("/v1/embeddings", {"model": "m", "input": [{"text": "?"}]}),
        ("/v1/completions", {"model": "m", "prompt": [1, 2]}),
        ("/v1beta/models/g:generateContent", {"contents": {"parts": {"text": "?"}}}),
    ],
)
def test_what_an_api_takes_is_a_request_of_it(path, body):
    operation = by_path("POST", path)
    assert operation is not None
    assert agreed(operation, body) is not None


@given(
    st.sampled_from([path for path, *_ in PATHS]),
    st.dictionaries(
        st.sampled_from(["messages", "model", "input"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner, max_size=2)
            ),
        ),
    ),
)
def test_no_body_makes_the_reading_raise(path, body):
    operation = by_path("POST", path)
    assert operation is not None
    agreed(operation, body)


def test_the_model_is_the_urls_where_the_url_names_one():
    def model(body: Any, path: str) -> str:
        operation = by_path("POST", path)
        assert operation is not None
        return model_of(operation, body)

    assert model({"model": "body"}, "/openai/deployments/url/chat/completions") == "url"
    assert model({"model": "body"}, "/v1/chat/completions") == "body"
    assert model({}, "/v1beta/models/g:generateContent") == "g"
    assert model({"model": None}, "/v1/chat/completions") == model("text", "/v1/chat/completions") == ""


# --- hosts that are the same ---


def test_hosts_that_are_the_same_are_one_place_whatever_scheme_and_port_they_have():
    same = {"llm.internal": "api.openai.com", "eu.llm.internal:8080": "llm.internal"}
    meant = place_of("https", "api.openai.com", same)
    assert (meant.host, meant.provider, meant.same) == ("api.openai.com", "openai", True)
    for scheme, host in (
        *(("http", "llm.internal"), ("http", "llm.internal:4000"), ("https", "LLM.internal:443")),
        ("http", "eu.llm.internal:8080"),
    ):
        assert place_of(scheme, host, same) == meant
    assert place_of("http", "eu.llm.internal:8081", same) == ("http", "eu.llm.internal:8081", "", False)
    assert place_of("https", "llm.other", same) == ("https", "llm.other", "", False)


def test_a_name_with_its_port_counts_before_the_name_alone():
    same = {
        "localhost": "api.openai.com",
        "localhost:8001": "api.anthropic.com",
        "tls.internal:443": "api.openai.com",
    }
    assert place_of("http", "localhost:8000", same).provider == "openai"
    assert place_of("http", "localhost:8001", same).provider == "anthropic"
    assert place_of("https", "tls.internal", same).provider == "openai"
    six = {"[::1]": "api.openai.com", "[::1]:8001": "api.anthropic.com"}
    assert [place_of("http", host, six).provider for host in ("[::1]", "[::1]:8000", "[::1]:8001", "[::2]:8000")] == [
        *("openai", "openai", "anthropic", "")
    ]
    assert place_of("http", "tls.internal", same).provider == ""


def test_a_prompt_that_may_be_edited_any_time_is_no_question():
    host = "bedrock-runtime.us-east-1.amazonaws.com"
    assert by_path("POST", f"/model/{ARN}prompt%2FABC/converse", host) is None
    assert by_path("POST", f"/model/{ARN}prompt%2FABC:3/converse", host) is not None
