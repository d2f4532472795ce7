"""What may be kept of streams: rows by hand, then every recorded stream, whole and cut.

As in test_corpus_verdicts, the records' own fields and a plain look at the text are the judge.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from operator import itemgetter
from typing import Any

import pytest

from askonce.core.providers import APIS
from askonce.core.providers.scan import StreamScan, read, stream_variant, streams_read
from tests.corpus import by_path, sample
from tests.took import Took

ROWS = {api.name: api for api in APIS}
SSE = "text/event-stream; charset=utf-8"
Record = dict[str, Any]


def judge(name: str | None, body: bytes, tool_calls: str = "pass", content_type: str = SSE) -> StreamScan:
    found = StreamScan(ROWS[name] if name else None, tool_calls, content_type)
    for at in range(0, len(body), 4096):
        found.feed(body[at : at + 4096])
    return found


def sse(*values: object, done: bool = False, named: bool = False) -> bytes:
    names = [f"event: {value['type']}\n" if named and isinstance(value, dict) else "" for value in values]
    events = [f"{name}data: {json.dumps(value)}\n\n" for name, value in zip(names, values, strict=True)]
    return ("".join(events) + "data: [DONE]\n\n" * done).encode()


def chunk(finish: str | None = None, index: int = 0, usage: object = None, **delta: Any) -> Record:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"object": "chat.completion.chunk", "choices": [choice], "usage": usage}


def block(*deltas: Record, start: Record | None = None, index: int = 0) -> list[Record]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start or {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def message(*blocks: Record, stop: str | None = "end_turn", last: bool = True) -> bytes:
    start: Record = {
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 3},
    }
    ends = [{"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 2}}]
    ends += [{"type": "message_stop"}] * last
    return sse({"type": "message_start", "message": start}, *blocks, *ends, named=True)


def response(*output: Record, status: str = "completed", **more: Any) -> Record:
    body = {"object": "response", "status": status, "output": list(output), **more}
    return {"type": f"response.{status}", "response": body}


def gemini(*texts: str, finish: str | None = "STOP", **more: Any) -> list[Record]:
    chunks: list[Record] = [{"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]} for text in texts]
    chunks[-1]["candidates"][0] |= {"finishReason": finish} if finish else {}
    chunks[-1]["candidates"][0] |= more
    return chunks


HI = chunk(content="hi")
TEXT = {"type": "text_delta", "text": "hi"}
SAID = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
CALL = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]
MORE = [{"index": 0, "function": {"arguments": "{}"}}]
OTHER = [{"index": 1, "id": "d", "function": {"name": "g", "arguments": "{}"}}]


# --- chat ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (sse(chunk(role="assistant", content=""), HI, chunk("stop"), done=True), ""),
        (sse(HI, chunk("stop"), {"choices": [], "usage": {"prompt_tokens": 1}}, done=True), ""),
        (sse(HI, chunk("stop")).replace(b"\n", b"\r\n") + b"data:[DONE]\r\n\r\n", ""),
        (b": OPENROUTER PROCESSING\n\n" + sse(HI, chunk("stop"), done=True).replace(b"data: ", b"data:   "), ""),
        (sse(chunk(content=[{"type": "text", "text": "hi"}]), chunk("stop"), done=True), ""),
        (b"data:\n\n" + sse(HI, chunk("stop"), done=True), ""),
        # no [DONE]: the usage shows the end
        (sse(HI, chunk("stop", usage={"prompt_tokens": 1})), ""),
        (sse(HI, chunk("stop"), {"choices": [], "usage": {"prompt_tokens": 1}}), ""),
        (sse(HI, chunk("stop") | {"x_groq": {"usage": {"prompt_tokens": 1}}}), ""),
        (sse(HI, chunk("stop")), "incomplete"),
        (sse(chunk(content="hi", usage={"prompt_tokens": 1})), "incomplete"),
        # endings
        (sse(HI, chunk("length"), done=True), "truncated"),
        (sse(HI, chunk("content_filter"), done=True), "filtered"),
        (sse(HI, chunk("something"), done=True), "unknown-ending"),
        (sse(HI, chunk("error"), done=True), "error"),
        (sse(HI, done=True), "incomplete"),
        (sse(HI, chunk("stop"), chunk(index=1, content="ho"), done=True), "incomplete"),
        (sse(HI, chunk("stop"), chunk("stop", index=1, content="ho"), done=True), ""),
        (sse(HI, chunk("stop"), chunk("length", index=1, content="ho"), done=True), "truncated"),
        (sse(HI, chunk("stop"), chunk("stop", index=1), done=True), "empty"),
        # what is in it
        (sse(chunk(refusal="I"), chunk("stop"), done=True), "refused"),
        (sse(chunk(content=" \n"), chunk("stop", content=""), done=True), "empty"),
        (sse(chunk(reasoning="so"), chunk("stop"), done=True), "empty"),
        (sse(chunk(content=[{"type": "thinking", "thinking": []}]), chunk("stop"), done=True), "empty"),
        (sse(done=True), "empty"),
        (sse(chunk(tool_calls=CALL), chunk("tool_calls"), done=True), "tool-call"),
        (sse(HI, chunk(tool_calls=CALL), chunk("stop"), done=True), "tool-call"),
        (sse(chunk(function_call={"name": "f"}), chunk("function_call"), done=True), "tool-call"),
        (sse(chunk(content="hi", executed_tools=[{"type": "search"}]), chunk("stop"), done=True), "searched"),
        # errors inside a 200
        (sse(HI, {"error": {"message": "no", "code": 400}}, done=True), "error"),
        (sse(HI, chunk("stop") | {"error": {"code": 400}}, done=True), "error"),
        (sse(HI, chunk("stop")) + b'event: error\ndata: "overloaded"\n\ndata: [DONE]\n\n', "error"),
        # not a stream
        (b"", "empty"),
        (b'{"error":{"message":"no"}}', "error"),
        (b"<html><body>Bad gateway</body></html>", "not-sse"),
        (sse(HI, chunk("stop")) + b"data: {garbage\n\ndata: [DONE]\n\n", "not-sse"),
        (sse(HI, "a string", chunk("stop"), done=True), "not-sse"),
        (sse(HI, chunk("stop"), done=True).replace(b"hi", b"\xff"), "not-sse"),
    ],
)
def test_a_chat_stream_is_kept_when_it_ended_well_and_holds_something(body, reason):
    assert judge("chat", body).verdict() == reason


@pytest.mark.parametrize(
    ("tool_calls", "body", "reason"),
    [
        ("store", sse(chunk(tool_calls=CALL), chunk(tool_calls=MORE), chunk("tool_calls"), done=True), ""),
        ("structured", sse(chunk(tool_calls=CALL), chunk(tool_calls=MORE), chunk("tool_calls"), done=True), ""),
        ("structured", sse(chunk(tool_calls=CALL), chunk(tool_calls=OTHER), chunk("stop"), done=True), "tool-call"),
        ("structured", sse(chunk(tool_calls=[{"id": "a"}, {"id": "b"}]), chunk("stop"), done=True), "tool-call"),
        ("judge", sse(chunk(tool_calls=CALL), chunk("tool_calls"), done=True), "tool-call"),
        ("judge", sse(HI, chunk("stop"), done=True), ""),
        ("store", sse(chunk(tool_calls=CALL), chunk(tool_calls=MORE)), "incomplete"),
    ],
)
def test_tool_calls_in_a_stream_are_kept_as_the_policy_says(tool_calls, body, reason):
    assert judge("chat", body, tool_calls).verdict() == reason


def test_old_completions_have_texts_instead_of_deltas():
    chunks = [{"object": "text_completion", "choices": [{"index": 0, "text": "hi", "finish_reason": None}]}]
    last = {"object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    assert judge("completions", sse(*chunks, last, done=True)).verdict() == ""
    assert judge("completions", sse(*chunks, done=True)).verdict() == "incomplete"
    assert judge("completions", sse(last, done=True)).verdict() == "empty"


# --- messages ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (message(*block(TEXT)), ""),
        (message({"type": "ping"}, *block({"type": "thinking_delta", "thinking": "so"}), *block(TEXT, index=1)), ""),
        (message(*block(TEXT), stop="max_tokens"), "truncated"),
        (message(*block(TEXT), stop="refusal"), "refused"),
        (message(*block(TEXT), stop="pause_turn"), "incomplete"),
        (message(*block(TEXT), stop=None), "incomplete"),
        (message(*block(TEXT), last=False), "incomplete"),
        (message(*block(TEXT)[:-1]), "incomplete"),
        (message(*block(TEXT)[1:]), "incomplete"),
        (message(*block()), "empty"),
        (
            message(*block(start={"type": "tool_use", "id": "t", "name": "f", "input": {}}), stop="tool_use"),
            "tool-call",
        ),
        (message(*block(start={"type": "server_tool_use"}), *block(TEXT, index=1)), "server-tool"),
        (message(*block(TEXT), {"type": "error", "error": {"type": "overloaded_error"}}), "error"),
        (sse({"type": "message_stop"}, named=True), "incomplete"),
    ],
)
def test_a_message_stream_is_kept_when_it_stopped_well_and_holds_something(body, reason):
    assert judge("messages", body).verdict() == reason
    assert judge("messages", body.replace(b"\n", b"\r\n")).verdict() == reason


# --- responses ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (sse({"type": "response.created"}, response(SAID), named=True), ""),
        (sse({"type": "response.created"}, response(SAID), done=True), ""),
        (sse({"type": "response.output_item.done", "item": SAID}, response()), ""),
        (sse({"type": "response.output_item.done", "item": SAID}), "incomplete"),
        (sse(response(SAID, status="incomplete", incomplete_details={"reason": "max_output_tokens"})), "truncated"),
        (sse(response(SAID, status="failed", error={"code": "server_error"})), "error"),
        (sse({"type": "error", "code": "server_error", "message": "no"}, named=True), "error"),
        (sse(response({"type": "function_call"})), "tool-call"),
        (sse(response({"type": "web_search_call"}, SAID)), "searched"),
        (sse(response({"type": "code_interpreter_call"}, SAID)), "server-tool"),
        (sse(response({"type": "message", "content": [{"type": "refusal", "refusal": "I"}]})), "refused"),
        (sse(response()), "empty"),
        (sse({"type": "response.completed"}), "unrecognised"),
    ],
)
def test_a_response_stream_is_judged_by_the_response_it_closes_with(body, reason):
    assert judge("responses", body).verdict() == reason


# --- Gemini ---


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (gemini("a", "b"), ""),
        (gemini("a", "b", finish=None), "incomplete"),
        (gemini("a", "b", finish="MAX_TOKENS"), "truncated"),
        (gemini("a", finish="SAFETY"), "filtered"),
        (gemini("", " "), "empty"),
        (gemini("a", groundingMetadata={"webSearchQueries": ["?"]}), "searched"),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], "filtered"),
        ([*gemini("a", finish=None), {"error": {"code": 503, "message": "no"}}], "error"),
        ([*gemini("a"), {"candidates": [{"index": 1, "content": {"parts": [{"text": "b"}]}}]}], "incomplete"),
        (
            [{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}]}],
            "tool-call",
        ),
        ([{"usageMetadata": {"promptTokenCount": 1}, "modelVersion": "m"}], "empty"),
    ],
)
def test_gemini_is_judged_alike_as_events_and_as_an_array(chunks, reason):
    assert judge("gemini", sse(*chunks).replace(b"\n", b"\r\n")).verdict() == reason
    array = json.dumps(chunks, indent=1).encode()
    assert judge("gemini", array, content_type="application/json").verdict() == reason
    for cut in range(1, len(array)):
        assert judge("gemini", array[:cut], content_type="application/json").verdict()


# --- the end, and what else it says ---


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("chat", sse(HI, chunk("stop"), done=True)),
        ("chat", sse(HI, done=True).replace(b"\n", b"\r")),
        ("messages", message(*block(TEXT))),
        ("messages", message(*block(TEXT)).replace(b"event: ", b"event:").replace(b"\n", b"\r\n")),
        ("messages", re.sub(rb"event: \w+\n", b"", message(*block(TEXT)))),
        ("responses", sse({"type": "response.created"}, response(SAID), named=True)),
        ("responses", sse({"type": "response.created"}, response(SAID, status="failed"))),
    ],
)
def test_the_end_is_seen_when_its_event_is_closed_and_not_before(name, body):
    for cut in range(len(body) - 1):
        assert not judge(name, body[:cut]).whole(), cut
        assert not judge(None, body[:cut]).whole(), cut
    assert judge(name, body).whole()
    assert judge(None, body).whole()


def test_an_answer_that_speaks_of_the_end_has_not_ended():
    assert not judge("chat", sse(chunk(content="then comes\ndata: [DONE]\n\n"))).whole()
    assert not judge("messages", message(*block(TEXT | {"text": "event: message_stop\n\n"}), last=False)).whole()


def test_gemini_has_no_last_event_so_its_end_is_never_seen_before_upstreams():
    assert not judge("gemini", sse(*gemini("a"))).whole()


def test_a_host_that_answers_in_one_piece_is_judged_as_any_answer():
    choice = {"finish_reason": "stop", "message": {"content": "hi"}}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 1}}).encode()
    assert judge("chat", body, content_type="application/json").verdict() == ""
    assert judge("chat", body, content_type="application/json").usage() == (1, 0)
    assert judge("chat", body.replace(b"stop", b"length"), content_type="application/json").verdict() == "truncated"
    assert judge("chat", body[:-1], content_type="application/json").verdict() == "incomplete"
    assert judge("chat", body).verdict() == "not-sse"


def test_items_of_a_known_protocol_are_recognised_without_being_told():
    items = [chunk(content="hi"), chunk("length")]
    body = b"".join(json.dumps(item).encode() for item in items)
    assert judge(None, body, content_type="").verdict() == "truncated"
    assert judge(None, body.replace(b"length", b"stop"), content_type="").verdict() == ""


def test_what_is_no_protocols_stream_may_be_kept_unless_it_is_empty_or_an_error():
    assert judge(None, b'"word""another"', content_type="").verdict() == ""
    assert judge(None, b'{"my": 1}{"own": 2}', content_type="").verdict() == ""
    assert judge(None, b'{"error": {"message": "no"}}', content_type="").verdict() == "error"
    assert judge(None, b"", content_type="").verdict() == "empty"
    assert judge(None, b"data: 1\n\n").usage() is None
    assert judge("embeddings", sse(HI, done=True)).verdict() == "unrecognised"


def test_what_is_too_large_to_be_judged_is_let_go():
    found = StreamScan(ROWS["chat"], content_type=SSE, limit=10)
    found.feed(sse(HI, chunk("stop"), done=True))
    assert (found.verdict(), found.whole()) == ("too-large", False)


def test_usage_is_read_from_wherever_the_protocol_streams_it():
    assert judge("messages", message(*block(TEXT))).usage() == (3, 2)
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    assert judge("chat", sse(HI, chunk("stop"), {"choices": [], "usage": usage}, done=True)).usage() == (5, 7)
    assert judge("chat", sse(HI, chunk("stop"), done=True)).usage() is None
    assert judge("gemini", sse(*gemini("a"), {"usageMetadata": {"promptTokenCount": 2}})).usage() == (2, 0)


# --- variants ---


@pytest.mark.parametrize(
    ("options", "variant"),
    [
        (None, ""),
        ({}, ""),
        ({"include_usage": False}, ""),
        ({"include_usage": None, "include_obfuscation": True}, ""),
        ({"include_usage": True}, "include_usage=true"),
        ({"include_usage": True, "include_obfuscation": False}, "include_obfuscation=false,include_usage=true"),
        ({"chunk_size": 5}, "chunk_size=5"),
        ("odd", ""),
    ],
)
def test_a_variant_says_what_changes_the_bytes_of_a_stream(options, variant):
    assert stream_variant({"stream": True, "stream_options": options}) == variant


def test_a_variant_is_short_and_plain_whatever_is_asked_for():
    odd = ["false", "true", "no", 1, 2, 1.0, [True], {"a": 1}]  # "false" is no stream to one host, and one to another
    assert len({stream_variant({"stream": value}) for value in odd}) == len(odd)
    assert {stream_variant({"stream": value}) for value in (True, False, None)} == {""}
    names = {stream_variant({"stream_options": {"later": "x" * size, "{tag}": 2**70}}) for size in (1, 2, 900)}
    assert len(names) == 3
    assert all(re.fullmatch(r"\w{64}", name) for name in names)


def test_gemini_without_alt_sse_is_an_array():
    assert stream_variant({}, ROWS["gemini"], "key=k&alt=sse") == ""
    assert stream_variant({}, ROWS["gemini"], "key=k") == "array"
    assert stream_variant({}, ROWS["chat"], "") == ""


# --- cost ---


def test_a_part_on_its_way_costs_next_to_nothing():
    found = StreamScan(ROWS["chat"], content_type=SSE)
    part = sse(HI)
    took = Took()
    for _ in range(20_000):
        found.feed(part)
    assert took.seconds < 20_000 * 5e-6


# --- recorded traffic ---

FORBIDDEN = {"length", "max_tokens", "max_output_tokens", "content_filter", "tool_calls", "tool_use", "pause_turn"}
# Their fields count only calls by the program; in these the provider ran a tool.
RAN_A_TOOL = {
    **dict.fromkeys(("google_gemini-1af43bef387a", "google_gemini-fc1092c9b217"), "searched"),  # googleSearch
    **dict.fromkeys(("google_gemini-1b8b6b2d8c17", "google_gemini-561886766be5"), "searched"),
    **dict.fromkeys(("google_gemini-7900d72c34cf", "google_gemini-bce7d9ec3463"), "server-tool"),  # codeExecution
    **dict.fromkeys(
        ("openrouter-75e900e629b2", "openrouter-cc67f7bee445"), "searched"
    ),  # annotations, web_search_requests
    "openai-7d1792225e10": "server-tool",  # mcp_list_tools
    "groq-a295618ccd0d": "searched",  # compound-beta: executed_tools, without being asked
}


@pytest.fixture(scope="module")
def streams(corpus_dir) -> list[tuple[Record, str, bytes]]:
    """Every stream of HTTP 200 of the protocols of the table: its record, the protocol's name, the body."""
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [record for record in map(json.loads, lines) if record["stream"] and record["status"] == 200]
    found = [
        (record, by_path(record["method"], record["url_path"], record["host"]))
        for record in records
        if record["response_body"]
    ]
    read = [(record, path.api.name) for record, path in found if path and streams_read(path.api)]
    return [(record, name, record["response_body"].encode()) for record, name in read]


@pytest.fixture(scope="module")
def kept(streams) -> list[tuple[Record, str, bytes]]:
    return [stream for stream in streams if not judge(stream[1], stream[2]).verdict()]


def forbidden(record: Record) -> bool:
    endings = set(re.split(r"[|:]", str(record["finish_reason"]).lower()))
    return bool(
        record["stream_error"]
        or not record["stream_terminated"]
        or record["finish_reason"] is None
        or not FORBIDDEN.isdisjoint(endings)
        or record["has_tool_calls_in_response"]
        or record["has_refusal"]
    )


def test_no_recorded_stream_is_stored_that_its_records_fields_forbid(streams):
    stored = [r["id"] for r, name, body in streams if forbidden(r) and not judge(name, body).verdict()]
    assert stored == []
    assert sum(forbidden(record) for record, _, _ in streams) > 190


def test_no_recorded_stream_is_refused_that_a_plain_reading_allows_but_for_what_is_named_here(streams):
    reasons = {r["id"]: judge(name, body).verdict() for r, name, body in streams if not forbidden(r)}
    assert {name: reason for name, reason in reasons.items() if reason} == RAN_A_TOOL
    assert len(reasons) > 420


def test_recorded_streams_are_recognised_without_being_told_and_judged_alike(streams):
    for record, name, body in streams:
        assert judge(None, body).verdict() == judge(name, body).verdict(), record["id"]
        assert judge(None, body).usage() == judge(name, body).usage(), record["id"]


def test_the_end_of_every_recorded_stream_is_seen(streams):
    for record, name, body in streams:
        assert judge(name, body).whole() == (record["stream_terminated"] and name != "gemini"), record["id"]


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_a_recorded_stream_that_is_cut_is_not_stored(kept, every):
    """At its event boundaries (of long streams: the last and some others) and anywhere: unless all but [DONE] is
    there.
    """
    dice = random.Random(5)
    for record, name, body in sample(kept, every, itemgetter(0)):
        ends = [found.end() for found in re.finditer(rb"\n\n|\r\n\r\n", body)][:-1]
        some = ends if len(ends) < 150 else ends[-50:] + dice.sample(ends[:-50], 50)
        for cut in {0, len(body) - 1, *some, *(dice.randrange(len(body)) for _ in range(5))}:
            if not judge(name, body[:cut]).verdict():
                found = read(body[:cut], SSE)
                assert found.values == read(body, SSE).values, record["id"]
                assert name != "chat" or b'"usage":{' in body[ends[-2] : cut], record["id"]
