"""Answers: those that used a search, name their end, or had to be JSON; and parts, in one piece and as streams."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, AIMessageChunk, message_to_dict
from pydantic_core import to_jsonable_python

from askonce.core.expiry import end_of, signed_until
from askonce.core.judge import Judge, Verdict
from askonce.core.policy import Policy, Terms, resolve
from askonce.core.providers.expected import PLAIN, Expected
from askonce.core.providers.items import ItemScan
from askonce.core.providers.scan import StreamScan, read, streams_read
from askonce.core.providers.sources import carries_sources
from tests.corpus import by_path

TERMS = resolve()
SEARCHED = resolve(Policy(searched="store"))
GIVEN = Expected(given=True)
JSON = Expected(json=True)
NOW = 1_800_000_000.0


def judged(value: Any, expected: Expected = PLAIN, terms: Terms = TERMS) -> Verdict:
    return Judge(terms, expected).value(value, orjson.dumps(value), NOW)


def items(*values: Any, expected: Expected = PLAIN, terms: Terms = TERMS) -> Verdict:
    scan = Judge(terms, expected).items()
    for value in values:
        scan.feed(orjson.dumps(value))
    return scan.verdict(NOW)


def chat(finish: str = "stop", *, top: dict[str, Any] | None = None, **message: Any) -> dict[str, Any]:
    told = {"role": "assistant", "content": "Paris."} | message
    choice = {"index": 0, "message": told, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], **(top or {})}


def message(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "stop_reason": "end_turn", "content": [*blocks], **more}


def text(value: str = "Paris.", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": value, **more}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": [*output], **more}


def said(value: str = "Paris.", **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": value, **more}]
    return {"type": "message", "role": "assistant", "status": "completed", "content": content}


def gemini(**more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": "Paris."}]}
    return {"candidates": [{"content": content, "finishReason": "STOP", **more}], "usageMetadata": {"x": 1}}


def converse(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": [*blocks]}}, "stopReason": "end_turn"}


def cohere(citations: list[Any]) -> dict[str, Any]:
    content = [{"type": "text", "text": "Paris."}]
    return {"finish_reason": "COMPLETE", "message": {"role": "assistant", "content": content, "citations": citations}}


def cited(location: dict[str, Any]) -> dict[str, Any]:
    return {"citationsContent": {"content": [{"text": "Paris."}], "citations": [{"location": location}]}}


URL = {"type": "url_citation", "url_citation": {"url": "https://a.com"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

# --- what was searched for ---

FOUND = [
    chat(annotations=[URL]),
    chat(annotations=[{"type": "file_citation", "file_id": "f"}]),
    chat(annotations=[{"type": "of_tomorrow"}]),
    chat(top={"citations": ["https://a.com"]}),
    chat(top={"search_results": [{"title": "a", "url": "https://a.com"}]}),
    chat(top={"web_search": [{"title": "a"}]}),
    chat(top={"search_info": {"search_results": [{"index": 1}]}}),
    chat(top={"references": [{"url": "https://a.com"}]}),
    chat(top={"usage": {"num_search_queries": 2}}),
    chat(top={"usage": {"num_sources_used": 3}}),
    chat(top={"usage": {"server_tool_use": {"web_search_requests": 1}}}),
    chat(context={"intent": "[]", "citations": []}),
    chat(context={"citations": [{"content": "c"}], "intent": "[]"}),
    chat(provider_specific_fields={"citations": [[{"url": "u"}]]}),
    chat(executed_tools=[{"type": "search", "search_results": {"results": []}}]),
    message(text(citations=[{"type": "web_search_result_location", "url": "https://a.com"}])),
    message(text(citations=[{"type": "search_result_location", "source": "s"}])),
    message({"type": "server_tool_use", "name": "web_search", "id": "1"}, text()),
    message({"type": "web_search_tool_result", "tool_use_id": "1", "content": []}, text()),
    message({"type": "web_fetch_tool_result", "tool_use_id": "1", "content": {}}, text()),
    message(text(), usage={"server_tool_use": {"web_search_requests": 1}}),
    response({"type": "web_search_call", "id": "ws"}, said()),
    response({"type": "file_search_call", "id": "fs"}, said()),
    response(said(annotations=[URL])),
    response(said(), tool_usage={"web_search": {"num_requests": 1}}),
    gemini(groundingMetadata={"webSearchQueries": ["?"]}),
    gemini(urlContextMetadata={"urlMetadata": [{"retrievedUrl": "u"}]}),
    gemini(grounding_metadata={"grounding_chunks": [{"web": {"uri": "u"}}]}),
    converse(cited({"web": {"url": "https://a.com"}})),
    converse(cited({"searchResultLocation": {"searchResultIndex": 0}})),
    converse({"toolUse": {"name": "nova_grounding", "type": "server_tool_use"}}, {"text": "Paris."}),
    cohere([{"start": 0, "end": 3, "sources": [{"type": "document", "id": "d"}]}]),
    cohere([{"start": 0, "end": 3, "document_ids": ["web-search_0"]}]),
]


@pytest.mark.parametrize("answer", FOUND, ids=str)
def test_an_answer_that_carries_sources_was_searched_for(answer):
    assert judged(answer).reason == "searched"
    assert judged(answer, terms=SEARCHED).reason == ""
    assert judged(orjson.dumps(answer).decode()).reason == "searched"
    assert judged({"ms": 12, "answer": answer}).reason == "searched"


CALL_OPTIONS = [
    chat(annotations=[]),
    chat(annotations=[{"type": "file", "file": {"hash": "h", "content": []}}]),
    chat(content="see [1]: https://a.com"),
    chat(top={"citations": [], "search_results": [], "usage": {"num_search_queries": 0}}),
    chat(parsed={"citations": ["said by the user's own type"], "sources": [1]}),
    message(text(citations=[{"type": "char_location", "cited_text": "t", "document_index": 0}])),
    message(text(citations=[{"type": "page_location"}, {"type": "content_block_location"}])),
    message(text(), usage={"server_tool_use": {"web_search_requests": 0}}),
    response(said(annotations=[]), metadata={"sources": ["mine"]}, tools=[{"sources": [1]}]),
    response(said(), tool_usage={"web_search": {"num_requests": 0}}),
    gemini(citationMetadata={"citationSources": [{"uri": "u", "license": "mit"}]}),
    gemini(groundingMetadata={}),
    converse(cited({"documentPage": {"documentIndex": 0}})),
    converse({"text": "Paris."}) | {"trace": {"guardrail": {"contextualGroundingPolicy": {"filters": [1]}}}},
]


@pytest.mark.parametrize("answer", CALL_OPTIONS, ids=str)
def test_what_cites_the_questions_own_pages_or_nothing_was_not(answer):
    assert judged(answer).reason == ""


GIVEN_BACK = [
    message(text(citations=[{"type": "search_result_location", "source": "s"}])),
    converse(cited({"searchResultLocation": {"searchResultIndex": 0}})),
    cohere([{"start": 0, "end": 3, "sources": [{"type": "document", "id": "d"}, {"type": "tool", "id": "t"}]}]),
]


@pytest.mark.parametrize("answer", GIVEN_BACK, ids=str)
def test_what_cites_sources_that_the_question_brought_along_was_not_searched_for(answer):
    assert judged(answer, GIVEN).reason == ""
    assert judged(answer).reason == "searched"


def test_a_web_page_was_not_in_the_question_whatever_else_it_brought_along():
    for answer in FOUND:
        if answer not in GIVEN_BACK and answer != FOUND[-2] and answer != FOUND[-1]:
            assert judged(answer, GIVEN).reason == "searched", answer


EVENTS: list[list[dict[str, Any]]] = [
    [
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}}]},
        {"object": "chat.completion.chunk", "citations": ["https://a.com"], "choices": []},
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ],
    [
        {"type": "message_start", "message": {"type": "message", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "u"}},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ],
    [
        {"type": "response.created", "response": {}},
        {"type": "response.output_text.annotation.added", "annotation": URL},
        {"type": "response.completed", "response": response(said())},
    ],
    [
        {"candidates": [{"content": {"parts": [{"text": "a"}]}, "index": 0}]},
        {"candidates": [{"finishReason": "STOP", "urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "u"}]}}]},
    ],
]


@pytest.mark.parametrize("events", EVENTS, ids=lambda events: str(events[0])[:30])
def test_a_stream_that_tells_of_sources_in_any_event_was_searched_for(events):
    assert items(*events).reason == "searched"
    assert items(*events, terms=SEARCHED).reason == ""
    body = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events) + b"data: [DONE]\n\n"
    for cut in (1, 7, 64, len(body)):
        scan = Judge(TERMS).stream("text/event-stream")
        for at in range(0, len(body), cut):
            scan.feed(body[at : at + cut])
        assert scan.verdict(NOW).reason == "searched"


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(), lambda one: st.lists(one) | st.dictionaries(
    st.sampled_from(["citations", "annotations", "sources", "context", "type", "location", "x"]) | st.text(), one
)))  # fmt: skip
def test_no_value_makes_the_search_for_sources_or_ends_raise(value):
    assert carries_sources(value) in {True, False}
    end_of(value, NOW, dates=True)
    judged(value)


# --- blocks and items that no list has -----------------------------------------------------------------------------


def candidate(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [*parts, {"text": "a"}]}, "finishReason": "STOP"}]}


def conversed(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": [*blocks, {"text": "a"}]}}, "stopReason": "end_turn"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            candidate({"thoughtSignature": "s", "text": "b", "partMetadata": {"a": 1}}, {"inlineData": {"data": "a"}}),
            "",
        ),
        (candidate({"text": "b", "code_execution_result": None, "function_call": None, "thought": None}), ""),
        *(
            (candidate({name: {"id": "1"}}), "server-tool")
            for name in ("functionResponse", "serverToolCall", "new_part")
        ),
        (conversed({"reasoningContent": {}}, {"image": {"format": "png"}}), ""),
        *((conversed({name: {"id": "1"}}), "server-tool") for name in ("toolRun", "SDK_UNKNOWN_MEMBER")),
        (chat(content=[{"type": "thinking", "thinking": []}, text(), {"type": "callout", "text": "a"}]), ""),
        (chat(top={"error": "overloaded"}), "error"),
        (chat(top={"error": {}}), ""),
        *(
            ({"object": "list", "data": [{"embedding": [0.1]}, {"embedding": vector}]}, why)
            for vector, why in (
                ([0.5, 1], ""),
                ("AAAA", ""),
                ([[0.1]], ""),
                ([0.5, None], "empty"),
                ([None, 1], "empty"),
            )
        ),
        (chat(content=[{"type": "refusal", "refusal": "no"}]), "refused"),
        (chat(content=[text(), {"type": "tool_use", "name": "f"}]), "tool-call"),
        (chat(content=[text(), {"type": "server_tool_use", "name": "web_search"}]), "searched"),
        (chat(content=[text(), {"type": "server_tool_use", "name": "bash"}]), "server-tool"),
        (chat(content=[text(), {"type": "code_interpreter_call"}]), "server-tool"),
        *(
            (response({"type": "message", "status": status, "content": [{"type": "output_text", "text": "a"}]}), why)
            for status, why in (
                ("completed", ""),
                (None, ""),
                ("generating", "unknown-ending"),
                ("queued", "incomplete"),
            )
        ),
    ],
    ids=str,
)
def test_what_no_list_has_was_made_by_a_tool_or_is_not_whole(answer, why):
    assert judged(answer).reason == why


# --- what names its end ---


def b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


END = int(NOW) + 3600  # 2027-01-15T09:00:00Z
CLOUDFRONT = base64.b64encode(
    json.dumps({"Statement": [{"Condition": {"DateLessThan": {"AWS:EpochTime": END}}}]}).encode()
).decode()
SIGNED = [
    "https://b.s3.amazonaws.com/k?X-Amz-Date=20270115T080000Z&X-Amz-Expires=3600&X-Amz-Signature=s",
    f"https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Expires={END}&Signature=s",
    f"https://d.cloudfront.net/k?Expires={END}&Signature=s&Key-Pair-Id=K",
    f"https://d.cloudfront.net/k?Policy={CLOUDFRONT.translate({43: 45, 61: 95, 47: 126})}&Signature=s&Key-Pair-Id=K",
    "https://storage.googleapis.com/b/k?X-Goog-Date=20270115T080000Z&X-Goog-Expires=3600&X-Goog-Signature=s",
    "https://x.blob.core.windows.net/k?st=2027-01-15T07%3A00%3A00Z&se=2027-01-15T09%3A00%3A00Z&sp=r&sig=s",
    f"https://b.oss-cn-beijing.aliyuncs.com/k?Expires={END}&OSSAccessKeyId=L&Signature=s%3D",
    f"https://b.cos.myqcloud.com/k?q-sign-time={END - 60};{END}&q-signature=s",
    "https://b.tos.com/k?X-Tos-Date=20270115T080000Z&X-Tos-Expires=3600&X-Tos-Signature=s",
    f"https://cdn.discordapp.com/k.png?ex={END:x}&is=1&hm=s",
    f"https://x.supabase.co/k?token=h.{b64({'exp': END}).rstrip('=')}.s",
    f"https://x.akamaized.net/k?hdnts=exp={END}~acl=/*~hmac=s",
    f"https://cdn.example.com/k?expires={END}&signature=s",
    f"https://cdn.example.com/k?exp={END * 1000}&sig=s",
]


@pytest.mark.parametrize("url", SIGNED, ids=lambda url: url[8:30])
def test_a_signed_url_ends_when_it_says(url):
    assert signed_until(url) == END
    for value in (url, {"url": url}, {"data": [{"url": url, "revised_prompt": None}]}, chat(images=[{"url": url}])):
        assert judged(value).life == 3_600_000
    assert judged({"url": url.replace(str(END), str(END))}, terms=resolve(Policy(ttl=60))).reason == ""


@pytest.mark.parametrize(
    "text_",
    [
        "https://a.com/?page=2",
        "https://a.com/?expires=1",
        f"https://a.com/?expires={END}",  # not signed: a date, but no promise that the URL works until then
        f"see https://a.com/?expires={END}&sig=s",
        f"https://a.com/?expires={END}&sig=s\nis the link",
        f"ftp://a.com/?expires={END}&sig=s",
        "https://a.com/?sig=s&se=tomorrow",
        f"https://a.com/?expires={END}&sig=s&" + "&".join(f"a{n}=1" for n in range(200)),
        "https://a.com/?sig=s&exp=99999999999999999999999",
        "https://" + "a" * 20_000 + f"?expires={END}&sig=s",
    ],
    ids=lambda text: text[:40],
)
def test_any_other_url_or_text_has_no_end(text_):
    assert signed_until(text_) is None


@pytest.mark.parametrize("name", ["expires_at", "expiresAt", "expire_time", "expireTime", "expires", "expiration_time"])
@pytest.mark.parametrize(
    "date", [END, float(END), END * 1000, str(END), "2027-01-15T09:00:00Z", "2027-01-15T10:00:00.123+01:00"]
)
def test_a_date_of_the_providers_ends_the_answer_at_any_depth(name, date):
    for answer in (
        chat(top={name: date}),
        chat(audio={"id": "a", name: date}),
        message(text(), container={"id": "c", name: date}),
        {"object": "file", "id": "file_1", name: date},
        {"name": "cachedContents/abc", name: date},
    ):
        assert judged(answer).life in {3_600_000, 3_600_122}, answer


def test_the_earliest_of_several_ends_counts_and_a_duration_counts_from_now():
    answer = chat(top={"expires_at": END}, audio={"expires_at": END - 600})
    assert judged(answer).life == 3_000_000
    assert judged(chat(top={"expires_in": 60})).life == 60_000
    assert judged(chat(top={"expires_after_seconds": 90})).life == 90_000


@pytest.mark.parametrize(
    "value",
    [
        {"coupon": {"expires_at": "1999-01-01"}},
        {"expires_at": 1_000_000_001},
        {"documents": [{"expire_time": "1999-01-01T00:00:00Z"}]},
        chat(content='{"expires_at": 1000000001}'),
        chat(content="It expires_at 1999-01-01."),
        response(said(), metadata={"expires_at": "1000000001"}),
        response(said(), tools=[{"parameters": {"properties": {"expires_at": {"type": "string"}}}}]),
        chat(parsed={"expires_at": "1999-01-01"}),
        chat(top={"expires_at": None}),
        chat(top={"expires_at": "never"}),
        chat(top={"expires_at": True}),
    ],
    ids=str,
)
def test_a_date_of_the_users_own_is_none_of_ours(value):
    assert judged(value) == Verdict("", None)


def test_what_has_ended_is_not_kept_in_streams_neither():
    old = SIGNED[5].replace("2027", "2020")
    assert judged(chat(images=[{"url": old}])).reason == "expired"
    assert judged(old).reason == "expired"
    done = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"x": 1}, "finish_reason": "stop"}]}
    opened = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a"}}]}
    assert items(opened, {**done, "expires_at": 1_000_000_001}).reason == "expired"
    assert items(opened, {**done, "expires_at": END}).life == 3_600_000
    assert items({"word": "a"}, {"url": old}).reason == "expired"


# --- what had to be JSON ---

BROKEN = ['Sure! {"a": 1}', '{"city": "Par', "```json\n{}\n```", "Paris", "{'a': 1}", '{"a": 1} {"b": 2}']
WHOLE = ['{"a": 1}', ' \n{"a": [1, 2]}\n', "[]", '"Paris"', "42", "null", '{"a": NaN}', '{"a": ' + "9" * 40 + "}"]


def answers(told: str) -> list[Any]:
    """The same text as each protocol says it, and as a call may return it."""
    return [
        chat(content=told),
        chat(content=[{"type": "text", "text": told}]),
        {"object": "text_completion", "choices": [{"text": told, "finish_reason": "stop"}]},
        message({"type": "thinking", "thinking": "hm"}, text(told)),
        response({"type": "reasoning"}, said(told)),
        {"candidates": [{"content": {"parts": [{"text": told[:3]}, {"text": told[3:]}]}, "finishReason": "STOP"}]},
        converse({"reasoningContent": {}}, {"text": told}),
        {"finish_reason": "COMPLETE", "message": {"content": [{"type": "text", "text": told}]}},
        {"model": "m", "done": True, "done_reason": "stop", "message": {"content": told}},
        {"role": "assistant", "content": told},
        told,
    ]


@pytest.mark.parametrize("told", BROKEN)
def test_an_answer_that_was_demanded_as_json_and_is_not_is_not_kept(told):
    for answer in answers(told):
        assert judged(answer, JSON).reason == "invalid-json", answer
        assert judged(answer).reason == ""


@pytest.mark.parametrize("told", WHOLE)
def test_any_json_will_do(told):
    for answer in answers(told):
        assert judged(answer, JSON).reason == "", answer


def test_a_call_a_preamble_and_the_users_own_data_are_not_asked_to_be_json():
    store = resolve(Policy(tool_calls="store"))
    assert judged(chat("tool_calls", content=None, tool_calls=[CALL]), JSON, store).reason == ""
    assert judged(message(text("Here it is:"), text('{"a": 1}')), JSON).reason == ""
    assert judged(message(text("Here it is:"), text('{"a": 1')), JSON).reason == "invalid-json"
    assert judged({"parsed": 1}, JSON).reason == ""
    assert judged(["Paris"], JSON).reason == ""


@pytest.mark.parametrize(
    ("pieces", "why"), [(['{"a"', ": 1}"], ""), (['{"a"', ": 1"], "invalid-json"), (["1", "x"], "invalid-json")]
)
def test_a_stream_is_asked_for_its_text_in_one_piece(pieces, why):
    chunks = [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": p}}]} for p in pieces]
    chunks.append({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert items(*chunks, expected=JSON).reason == why
    events = [
        {"type": "message_start", "message": {"type": "message", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    assert items(*events, expected=JSON).reason == why
    parts = [{"candidates": [{"content": {"parts": [{"text": p}]}}]} for p in pieces]
    parts[-1]["candidates"][0]["finishReason"] = "STOP"
    assert items(*parts, expected=JSON).reason == why
    assert items(*pieces, expected=JSON).reason == why


# --- parts ---

LANGCHAIN = AIMessage(content="Par", response_metadata={"finish_reason": "length"})
CALLING = AIMessage(content="", tool_calls=[{"name": "f", "args": {}, "id": "call_1"}])
PARTS: list[tuple[Any, str]] = [
    ({"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None}, "tool-call"),
    ({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}, "tool-call"),
    ({"role": "assistant", "content": None, "refusal": "I can't."}, "refused"),
    ({"role": "assistant", "content": "Paris.", "annotations": [URL]}, "searched"),
    ({"role": "assistant", "content": ""}, "empty"),
    ({"role": "assistant", "content": "Paris."}, ""),
    ({"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Par"}}, "truncated"),
    ([{"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant", "content": "P"}}], "filtered"),
    ([{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}], "tool-call"),
    ([CALL], "tool-call"),
    ({"text": "Let me look.", "tool_calls": [CALL]}, "tool-call"),
    ({"content": {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}, "tool-call"),
    ({"content": {"role": "model", "parts": [{"text": "P"}]}, "finish_reason": "MAX_TOKENS"}, "truncated"),
    ({"role": "model", "parts": [{"text": "Paris."}]}, ""),
    ([{"text": "a"}, {"functionCall": {"name": "f", "args": {}}}], "tool-call"),
    ([text(), {"type": "tool_use", "id": "t", "name": "f", "input": {}}], "tool-call"),
    ([text(), {"type": "code_execution_tool_result", "tool_use_id": "t", "content": {}}], "server-tool"),
    ([text()], ""),
    ({"type": "tool_use", "id": "t", "name": "f", "input": {}}, "tool-call"),
    ({"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}, "tool-call"),
    (
        {"message": {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]}},
        "tool-call",
    ),
    (said() | {"status": "incomplete"}, "incomplete"),
    ([said() | {"status": "in_progress"}], "incomplete"),
    (said(), ""),
    ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, "tool-call"),
    ({"type": "code_interpreter_call", "id": "c", "status": "completed"}, "server-tool"),
    ({"output": [said()], "usage": {}, "response_id": "r"}, ""),
    ({"output": [{"type": "function_call", "call_id": "c"}], "usage": {}, "response_id": "r"}, "tool-call"),
    (LANGCHAIN.model_dump(), "truncated"),
    (dumpd(LANGCHAIN), "truncated"),
    (message_to_dict(LANGCHAIN), "truncated"),
    (CALLING.model_dump(), "tool-call"),
    ([CALLING.model_dump()], "tool-call"),
    (AIMessage(content="Paris.", response_metadata={"stop_reason": "end_turn"}).model_dump(), ""),
    (AIMessage(content="P", response_metadata={"citations": ["u"]}).model_dump(), "searched"),
    (AIMessage(content="", additional_kwargs={"refusal": "no"}).model_dump(), "refused"),
    ({"generations": [[{"text": "P", "message": LANGCHAIN.model_dump()}]]}, "truncated"),
    ({"generated_text": "P", "details": {"finish_reason": "length", "generated_tokens": 1}}, "truncated"),
    ([{"generated_text": "P", "details": {"finish_reason": "length", "generated_tokens": 1}}], "truncated"),
    ({"results": [{"outputText": "P", "completionReason": "LENGTH"}]}, "truncated"),
    ({"generation": "P", "stop_reason": "length"}, "truncated"),
    ({"outputs": [{"text": "P", "stop_reason": "length"}]}, "truncated"),
    ({"completions": [{"data": {"text": "P"}, "finishReason": {"reason": "length"}}]}, "truncated"),
    ({"finish_reason": "content_filter", "content": "", "usage": {"prompt_tokens": 1}}, "filtered"),
    ({"text": "P", "grounding_metadata": {"grounding_chunks": [{"web": {"uri": "u"}}]}}, "searched"),
    ({"output": {"text": "P"}, "citations": [{"retrievedReferences": [{"content": {}}]}]}, "searched"),
    ({"text": "P", "annotations": [URL]}, "searched"),
    ({"ms": 12, "answer": chat("length")}, "truncated"),
    ([chat(), chat("length")], "truncated"),
    ({"a": chat(), "b": chat("tool_calls", tool_calls=[CALL])}, "tool-call"),
]


def test_a_response_of_pydantic_ai_is_judged_by_the_rules_of_the_whole():
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart  # not by every worker, for each file

    said: list[tuple[Any, str]] = [
        (ModelResponse([TextPart("P")], finish_reason="length"), "truncated"),
        (ModelResponse([TextPart("P"), ToolCallPart("f", {})]), "tool-call"),
        ([ModelResponse([TextPart("P")], finish_reason="content_filter")], "filtered"),
        (ModelResponse([TextPart("Paris.")], finish_reason="stop"), ""),
    ]
    for response, why in said:
        test_a_part_of_an_answer_is_judged_by_the_rules_of_the_whole(to_jsonable_python(response), why)


@pytest.mark.parametrize(
    ("value", "why"), PARTS, ids=lambda value: value if isinstance(value, str) else str(value)[:60]
)
def test_a_part_of_an_answer_is_judged_by_the_rules_of_the_whole(value, why):
    assert judged(value).reason == why
    assert judged(orjson.dumps(value).decode()).reason == why
    assert judged({"took": 1.5, "result": value}).reason in {why, "" if why == "empty" else why}


@pytest.mark.parametrize(
    "value",
    [
        {"type": "phone_call", "id": 1, "status": "done"},
        {"people": [{"role": "assistant", "name": "Ada"}]},
        {"role": "user", "content": ""},
        {"function": {"name": "f", "parameters": {"type": "object"}}},
        [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}],
        {"finish_reason": "tired"},
        {"stop_reason": "length"},
        {"type": "ai", "title": "a field of study"},
        {"kind": "response", "parts": ["wheel", "axle"]},
        {"content": {"parts": ["a", "b"]}, "title": "x"},
        {"type": "message", "role": "assistant", "body": "x"},
        {"sources": ["a"], "citations": ["b"], "search_results": [1]},
        {"errors": [{"message": "m"}], "error": None},
        {"output": [{"type": "message"}]},
        [[0.1, 0.2], [0.3]],
        {"choices": [{"text": "A"}, {"text": "B"}]},
        {"tool_calls": 3},
    ],
    ids=str,
)
def test_data_of_the_users_own_is_kept_as_it_is(value):
    assert judged(value).reason == ""


def test_a_recorded_answer_is_judged_alike_whole_and_in_parts(corpus_dir: Path):
    seen = 0
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["api"] != "openai.chat" or record["status"] != 200 or record["stream"]:
                continue
            value = json.loads(record["response_body"])
            whole, choices = judged(value).reason, value.get("choices")
            if whole in {"error", "searched"} or not choices:
                continue
            seen += 1
            assert judged(choices).reason == whole, record["id"]
            if len(choices) == 1:
                assert judged(choices[0]).reason == whole, record["id"]
                if whole not in ("truncated", "filtered"):
                    assert judged(choices[0]["message"]).reason == whole, record["id"]
    assert seen > 300


# --- items ---

DELTA = {
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "Par"}, "finish_reason": None}],
}


def ended(finish: str) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}


ITEMS: list[tuple[list[Any], str]] = [
    ([DELTA, ended("stop")], ""),
    ([DELTA, ended("length")], "truncated"),
    ([DELTA, ended("content_filter")], "filtered"),
    ([DELTA], "incomplete"),
    ([DELTA, {"error": {"message": "overloaded", "code": 502}}], "error"),
    ([{"object": "", "choices": [], "prompt_filter_results": []}, DELTA, ended("length")], "truncated"),
    ([{"type": "chunk", "chunk": DELTA, "snapshot": {}}, {"type": "chunk", "chunk": ended("length")}], "truncated"),
    ([{"type": "raw_response_event", "data": {"type": "response.created"}}], "incomplete"),
    (
        [{"type": "raw_response_event", "data": {"type": "response.completed", "response": response(said())}}],
        "",
    ),
    ([{"event": None, "data": orjson.dumps(DELTA).decode()}, {"event": None, "data": "[DONE]"}], "incomplete"),
    ([{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}], "incomplete"),
    ([{"type": "response.output_text.delta", "delta": "a"}], "incomplete"),
    ([{"type": "response.completed", "response": response(said(), status="incomplete")}], "incomplete"),
    ([{"candidates": [{"content": {"parts": [{"text": "a"}]}}]}], "incomplete"),
    ([{"candidates": [{"content": {"parts": [{"text": "a"}]}, "finish_reason": "MAX_TOKENS"}]}], "truncated"),
    (
        [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "a"}, "contentBlockIndex": 0}},
            {"contentBlockStop": {"contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "max_tokens"}},
            {"metadata": {"usage": {"inputTokens": 1}}},
        ],
        "truncated",
    ),
    ([{"messageStart": {"role": "assistant"}}], "incomplete"),
    ([{"throttlingException": {"message": "slow down"}}], "error"),
    ([{"type": "message-start", "id": "1"}, {"type": "content-delta", "delta": {}}], "incomplete"),
    ([{"type": "message-start"}, {"type": "message-end", "delta": {"finish_reason": "MAX_TOKENS"}}], "truncated"),
    ([{"model": "m", "message": {"content": "a"}, "done": False}], "incomplete"),
    ([{"model": "m", "response": "a", "done": False}, {"model": "m", "response": "", "done": True}], ""),
    ([{"model": "m", "response": "a", "done": True, "done_reason": "length"}], "truncated"),
    ([AIMessageChunk(content="a").model_dump(), AIMessageChunk(content="b").model_dump()], ""),
    ([AIMessageChunk(content="a").model_dump(), LANGCHAIN.model_dump() | {"type": "AIMessageChunk"}], "truncated"),
    ([{"delta": {"content": "a"}, "finish_reason": None}], "incomplete"),
    ([{"delta": {"content": "a"}, "finish_reason": None}, {"delta": {}, "finish_reason": "length"}], "truncated"),
    ([{"content": "a"}, {"tool_calls": [CALL]}], "tool-call"),
    (["Par", "is."], ""),
    (["", "  ", "\n"], "empty"),
    ([{"word": "a"}, {"word": "b"}], ""),
    ([0], ""),
    ([None], ""),
    ([[1, 2], "x", {"a": 1}], ""),
    ([{"error": {"message": "m", "type": "t"}}], "error"),
    ([chat()], ""),
    ([chat("length")], "truncated"),
    (["data: " + orjson.dumps(DELTA).decode(), "", "data: " + orjson.dumps(ended("length")).decode(), ""], "incomplete"),
    (["data: " + orjson.dumps(DELTA).decode() + "\n\n", "data: [DONE]\n\n"], "incomplete"),
    ([": ping", "", "data: " + orjson.dumps(DELTA).decode(), "", "data: [DONE]", ""], "incomplete"),
    (['{"model": "m", "response": "a", "done": false}\n'], "incomplete"),
    ([], "empty"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "why"), ITEMS, ids=lambda value: value if isinstance(value, str) else str(value)[:60]
)
def test_the_items_of_a_stream_are_judged_like_the_answer_that_they_make_up(values, why):
    assert items(*values).reason == why


def test_recorded_streams_are_judged_alike_as_bytes_as_items_and_as_lines(corpus_dir: Path):
    seen = 0
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            named = by_path(record["method"], record["url_path"], record["host"])
            body = (record["response_body"] or "").encode()
            if not (record["stream"] and record["status"] == 200 and body and named and streams_read(named.api)):
                continue
            kind = record["response_headers"].get("content-type", "")
            as_bytes = StreamScan(named.api, content_type=kind)
            as_bytes.feed(body)
            as_items, as_lines = ItemScan(), ItemScan()
            for value in read(body, kind).values:
                as_items.feed(orjson.dumps(value))
            for line in body.decode().splitlines():
                as_lines.feed(orjson.dumps(line))
            assert as_items.verdict() == as_lines.verdict() == as_bytes.verdict(), record["id"]
            seen += 1
    assert seen > 500


@given(st.lists(st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["type", "choices", "delta", "data", "event", "done"]), one),
)))  # fmt: skip
def test_no_items_make_their_judge_raise(values):
    assert items(*values).reason or values
