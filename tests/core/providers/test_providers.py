"""Protocols are told apart and their answers are read, whatever other input comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core.headers import CREDENTIAL_HEADERS, HEADER_CLASSES, header_class, ignored_header
from askonce.core.providers import APIS, by_answer
from askonce.core.providers.answers import failed
from askonce.core.providers.items import TELLING
from askonce.core.providers.parts import SIGNS
from tests.profiles import examples

ROWS = {api.name: api for api in APIS}


def chat(finish: object = "stop", **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": "Paris."} | message
    return {"object": "chat.completion", "choices": [{"index": 0, "message": told, "finish_reason": finish}]}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "error": None, "output": list(output)} | more


def said(text: str = "Paris.", kind: str = "output_text") -> dict[str, Any]:
    return {"type": "message", "content": [{"type": kind, "text": text}]}


def message(finish: object = "end_turn", *blocks: dict[str, Any]) -> dict[str, Any]:
    content = list(blocks) or [{"type": "text", "text": "Paris."}]
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": finish}


def gemini(finish: object = "STOP", *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": list(parts) or [{"text": "Paris."}]}
    return {
        "candidates": [{"content": content, "finishReason": finish} | more],
        "usageMetadata": {"totalTokenCount": 3},
    }


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
LIST = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]}
COMPLETION = {"object": "text_completion", "choices": [{"text": " Paris.", "finish_reason": "stop"}]}
CONVERSE = {"output": {"message": {"role": "assistant", "content": [{"text": "Paris."}]}}, "stopReason": "end_turn"}
COHERE = {"id": "x", "finish_reason": "COMPLETE", "message": {"content": [{"type": "text", "text": "Paris."}]}}
OLLAMA = {"model": "m", "message": {"content": "Paris."}, "done_reason": "stop", "done": True}

WHOLE = [
    ("chat", chat()),
    ("chat", {"choices": [{"message": {"content": "Paris."}}]}),
    ("chat", chat(content=[{"type": "thinking", "thinking": []}, {"type": "text", "text": "Paris."}])),
    ("chat", chat(content=None, audio={"data": "..."})),
    ("chat", chat(tool_calls=None, function_call=None, refusal=None)),
    ("completions", COMPLETION),
    ("responses", response({"type": "reasoning"}, said())),
    ("embeddings", LIST),
    ("embeddings", {"object": "list", "data": [{"embedding": "AAAA"}]}),
    ("messages", message()),
    ("messages", message("stop_sequence")),
    ("messages", message("end_turn", {"type": "thinking", "thinking": "..."}, {"type": "text", "text": "Paris."})),
    ("gemini", gemini()),
    ("gemini", gemini(1)),
    (
        "gemini",
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finish_reason": "STOP"}], "prompt_feedback": None},
    ),
    ("converse", CONVERSE),
    ("message", COHERE),
    ("ollama", OLLAMA),
]


@pytest.mark.parametrize(("name", "answer"), WHOLE)
def test_a_whole_answer_is_recognised_by_its_shape_and_may_be_stored(name, answer):
    protocol = by_answer(answer)
    assert protocol is not None
    assert protocol.name == name
    assert protocol.verdict(answer) == ""


NOT_STORED = [
    ("tool-call", chat("tool_calls", content=None, tool_calls=[CALL])),
    ("tool-call", chat("stop", content=None, tool_calls=[CALL])),
    ("tool-call", chat("function_call", content=None, function_call={"name": "f", "arguments": "{}"})),
    ("truncated", chat("length")),
    ("filtered", chat("content_filter", content=None)),
    ("refused", chat(content=None, refusal="I can't.")),
    ("empty", chat(content="")),
    ("empty", chat(content=" \n")),
    ("empty", chat(content=None)),
    ("empty", {"object": "chat.completion", "choices": []}),
    ("incomplete", chat(None)),
    ("unknown-ending", chat("insufficient_system_resource")),
    ("searched", chat(executed_tools=[{"type": "search"}])),
    ("server-tool", chat(executed_tools=[{"type": "search"}, {"type": "python"}])),
    ("error", chat() | {"error": {"message": "overloaded"}}),
    ("error", {"object": "chat.completion", "choices": [chat()["choices"][0] | {"error": {"code": 502}}]}),
    ("truncated", {"object": "chat.completion", "choices": [chat()["choices"][0], chat("length")["choices"][0]]}),
    ("truncated", COMPLETION | {"choices": [{"text": "Par", "finish_reason": "length"}]}),
    ("incomplete", COMPLETION | {"choices": [{"text": "Par", "finish_reason": None}]}),
    ("empty", COMPLETION | {"choices": [{"text": "", "finish_reason": "stop"}]}),
    ("tool-call", response({"type": "function_call", "name": "f"})),
    ("tool-call", response({"type": "computer_call"})),
    ("searched", response({"type": "web_search_call"}, said())),
    ("server-tool", response({"type": "web_search_call"}, {"type": "code_interpreter_call"}, said())),
    ("server-tool", response({"type": "tool_search_call"}, said())),
    ("server-tool", response({"type": "a_call_of_tomorrow"}, said())),
    ("truncated", response(said(), status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
    ("filtered", response(said(), status="incomplete", incomplete_details={"reason": "content_filter"})),
    ("refused", response({"type": "message", "content": [{"type": "refusal", "refusal": "I can't."}]})),
    ("incomplete", response(status="queued")),
    ("incomplete", response(status="in_progress")),
    ("incomplete", response(status="cancelled")),
    ("error", response(status="failed", error={"code": "server_error", "message": "..."})),
    ("error", response(status="failed")),
    ("empty", response({"type": "reasoning"})),
    ("empty", response()),
    ("empty", {"object": "list", "data": [{"embedding": []}]}),
    ("tool-call", message("tool_use", {"type": "text", "text": "Let me"}, {"type": "tool_use", "name": "f"})),
    ("tool-call", message("end_turn", {"type": "tool_use", "name": "f"})),
    ("truncated", message("max_tokens")),
    ("truncated", message("model_context_window_exceeded")),
    ("refused", message("refusal")),
    ("incomplete", message("pause_turn")),
    ("incomplete", message(None)),
    ("empty", message("end_turn", {"type": "text", "text": ""})),
    ("empty", message("end_turn", {"type": "thinking", "thinking": "hm"})),
    ("server-tool", message("end_turn", {"type": "server_tool_use"}, {"type": "text", "text": "Paris."})),
    ("server-tool", message("end_turn", {"type": "mcp_tool_use"}, {"type": "text", "text": "Paris."})),
    ("error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("tool-call", gemini("STOP", {"functionCall": {"name": "f", "args": {}}})),
    ("tool-call", gemini("STOP", {"function_call": {"name": "f", "args": {}}})),
    ("error", gemini("UNEXPECTED_TOOL_CALL", {"functionCall": {"name": "f"}})),
    ("error", gemini("MALFORMED_FUNCTION_CALL")),
    ("truncated", gemini("MAX_TOKENS")),
    ("truncated", gemini(2)),
    ("filtered", gemini("SAFETY")),
    ("filtered", gemini(3)),
    ("filtered", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {}}),
    ("unknown-ending", gemini(99)),
    ("incomplete", gemini(None)),
    ("empty", gemini("STOP", {"text": "", "thoughtSignature": "x"})),
    ("empty", gemini("STOP", {"text": "thinking", "thought": True})),
    ("empty", {"usageMetadata": {"totalTokenCount": 1}, "modelVersion": "gemini"}),
    ("server-tool", gemini("STOP", {"executableCode": {"code": "1"}}, {"text": "1"})),
    ("searched", gemini(groundingMetadata={"webSearchQueries": ["x"]})),
    ("tool-call", CONVERSE | {"stopReason": "tool_use"}),
    ("filtered", CONVERSE | {"stopReason": "guardrail_intervened"}),
    ("truncated", COHERE | {"finish_reason": "MAX_TOKENS"}),
    ("tool-call", COHERE | {"finish_reason": "TOOL_CALL", "message": {"tool_calls": [CALL]}}),
    ("incomplete", OLLAMA | {"done": False}),
    ("truncated", OLLAMA | {"done_reason": "length"}),
]


@pytest.mark.parametrize(("reason", "answer"), NOT_STORED, ids=lambda value: value if isinstance(value, str) else "")
def test_an_answer_that_may_not_be_stored_says_why(reason, answer):
    protocol = by_answer(answer)
    assert (protocol.verdict(answer) if protocol else "error" if failed(answer) else "") == reason


def test_tool_calls_are_kept_only_as_far_as_asked_for():
    one, two = chat("tool_calls", tool_calls=[CALL]), chat("tool_calls", tool_calls=[CALL, CALL])
    kept = {word: (ROWS["chat"].verdict(one, word), ROWS["chat"].verdict(two, word)) for word in ("pass", "judge")}
    assert kept == {"pass": ("tool-call", "tool-call"), "judge": ("tool-call", "tool-call")}
    assert ROWS["chat"].verdict(one, "structured") == ""
    assert ROWS["chat"].verdict(two, "structured") == "tool-call"
    assert ROWS["chat"].verdict(one, "store") == ROWS["chat"].verdict(two, "store") == ""


def test_what_the_provider_ran_is_not_kept_whatever_is_asked_for():
    assert ROWS["responses"].verdict(response({"type": "mcp_call"}, said()), "store", "store") == "server-tool"
    assert ROWS["responses"].verdict(response({"type": "web_search_call"}, said()), "store") == "searched"
    assert ROWS["responses"].verdict(response({"type": "web_search_call"}, said()), "pass", "store") == ""
    assert ROWS["chat"].verdict(chat("length", tool_calls=[CALL]), "store") == "truncated"


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [{"text": "Paris"}, {"text": "Rome"}]},
        {"candidates": [{"name": "Ada", "content": "..."}]},
        {"message": "hello", "finish_reason": "done"},
        {"error": {"mean": 0.1, "max": 0.3}},
        {"error": None, "rows": []},
        {"type": "message", "content": "a mail"},
        {"data": [{"id": 1}], "object": "list"},
        {"output": "x", "object": "response"} | {"object": "reply"},
        {"embeddings": [[0.1]], "usageMetadata": {"promptTokenCount": 1}},
        {},
        [],
        [{"choices": []}],
        "text",
        7,
        None,
    ],
)
def test_a_users_own_data_is_nobodys_answer(value):
    assert by_answer(value) is None
    assert not failed(value)


@pytest.mark.parametrize("value", [{"error": {"message": "no", "code": 400}}, {"error": "model not found"}])
def test_an_error_that_came_as_an_answer_is_an_error(value):
    assert failed(value)
    assert {protocol.verdict(value) for protocol in APIS} == {"error"}


def test_an_answer_of_another_shape_is_not_taken_for_the_protocols_own():
    assert ROWS["chat"].verdict({"hello": "world"}) == "unrecognised"
    assert ROWS["chat"].verdict("text") == "unrecognised"


junk: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, 7, "", "text", [], [None], ["x"], [[]], {}, {"x": None}, {"text": 1}, [{}]]
)


def spoiled(value: Any, draw: Any) -> Any:
    """The answer with something in it that no provider ever sent."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: spoiled(value[name], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        return [spoiled(value[0], draw), *value[1:]]
    return draw(junk)


@given(st.data(), st.sampled_from([answer for _, answer in [*WHOLE, *NOT_STORED]]))
@settings(max_examples=examples(600), deadline=None)
def test_no_answer_makes_a_protocol_raise_however_spoiled(data, answer):
    value = spoiled(answer, data.draw)
    for protocol in APIS:
        assert isinstance(protocol.verdict(value, "store"), str)
        protocol.usage(value)
    by_answer(value)


# --- usage ---


@pytest.mark.parametrize(
    ("name", "answer", "tokens"),
    [
        ("chat", {"usage": {"prompt_tokens": 9, "completion_tokens": 2}}, (9, 2)),
        ("responses", {"usage": {"input_tokens": 9, "output_tokens": 2}}, (9, 2)),
        ("embeddings", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, (9, 0)),
        ("messages", {"usage": {"input_tokens": 3, "cache_read_input_tokens": 6, "output_tokens": 2}}, (9, 2)),
        (
            "gemini",
            {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "thoughtsTokenCount": 5}},
            (9, 7),
        ),
        ("gemini", {"usage_metadata": {"prompt_token_count": 9, "candidates_token_count": None}}, (9, 0)),
        ("converse", {"usage": {"inputTokens": 9, "outputTokens": 2}}, (9, 2)),
        ("message", {"usage": {"tokens": {"input_tokens": 9, "output_tokens": 2}}}, (9, 2)),
        ("chat", {"usage": None}, None),
        ("chat", {}, None),
        ("chat", "text", None),
    ],
)
def test_usage_counts_all_tokens_paid_for(name, answer, tokens):
    assert ROWS[name].usage(answer) == tokens


# --- headers ---


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "X-Api-Key", "User-Agent", "traceparent", "X-Stainless-Retry-Count", "Content-Length"),
        *("accept", "askonce-scope", "Cache-Control", "idempotency-key", "x-client-request-id", "x-stainless-new"),
    ],
)
def test_a_header_that_cannot_change_the_answer_is_ignored(name):
    assert ignored_header(name)


@pytest.mark.parametrize(
    "name",
    [
        "anthropic-version",
        "Anthropic-Beta",
        "openai-beta",
        "openai-organization",
        "x-of-tomorrow",
        "x-amzn-bedrock-trace",
    ],
)
def test_a_header_that_may_change_the_answer_counts_and_so_does_an_unknown_one(name):
    assert not ignored_header(name)


def test_only_an_unknown_header_has_no_class():
    assert header_class("x-of-tomorrow") == ""
    assert header_class("OpenAI-Beta") == "counts"
    assert {header_class(name) for name in CREDENTIAL_HEADERS} == {"credential"}


def test_no_header_is_in_two_classes():
    exact = {name for known in HEADER_CLASSES.values() for name in known if not name.endswith("*")}
    families = [(kind, name[:-1]) for kind, known in HEADER_CLASSES.items() for name in known if name.endswith("*")]
    for name in exact:
        kinds = [kind for kind, known in HEADER_CLASSES.items() if name in known]
        kinds += [kind for kind, family in families if name.startswith(family)]
        assert len(kinds) == 1, (name, kinds)
    for kind, family in families:
        assert [other for other, shorter in families if family.startswith(shorter)] == [kind]


@pytest.mark.parametrize("name", sorted(SIGNS.union(*(api.stream.signs for api in APIS if api.stream))))
def test_each_field_by_which_an_item_tells_shows_in_its_bytes(name):
    assert any(sign in json.dumps({name: 1}).encode() for sign in TELLING)
