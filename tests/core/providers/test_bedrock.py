"""Bedrock's streams are judged like all others: by their end and their content, as a whole or not at all."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers import APIS
from askonce.core.providers.eventstream import CONTENT_TYPE
from askonce.core.providers.items import ItemScan
from askonce.core.providers.operations import agreed
from askonce.core.providers.scan import StreamScan, read
from tests.core.aws import chunk, claude, converse, event, failure, nova
from tests.corpus import by_path

ROWS = {api.name: api for api in APIS}


def scan(name: str, body: bytes, tool_calls: str = "pass", **more: Any) -> StreamScan:
    made = StreamScan(ROWS[name], tool_calls, CONTENT_TYPE, **more)
    made.feed(body)
    return made


def use(index: int = 1, **more: Any) -> bytes:
    """A tool call in a stream of Converse."""
    start = {"toolUse": {"toolUseId": "t", "name": "f", **more}}
    delta = {"toolUse": {"input": "{}"}}
    return b"".join(
        [
            event("contentBlockStart", {"contentBlockIndex": index, "start": start}),
            event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}),
            event("contentBlockStop", {"contentBlockIndex": index}),
        ]
    )


def openai(finish: str | None = "stop") -> list[bytes]:
    """The frames of an OpenAI model at InvokeModelWithResponseStream."""
    deltas: list[Any] = [({"role": "assistant", "content": ""}, None), ({"content": "Paris."}, None), ({}, finish)]
    return [
        chunk({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]})
        for delta, end in deltas
    ]


STORED = [("converse", converse()), ("messages", claude()), ("converse", nova()), ("chat", openai())]
REFUSED = [
    ("truncated", "converse", converse(finish="max_tokens")),
    ("truncated", "messages", claude(finish="max_tokens")),
    ("truncated", "converse", nova(finish="max_tokens")),
    ("truncated", "chat", openai("length")),
    ("incomplete", "chat", openai(None)),
    ("filtered", "converse", converse(finish="guardrail_intervened")),
    ("filtered", "converse", nova(**{"amazon-bedrock-guardrailAction": "INTERVENED"})),
    (
        "filtered",
        "messages",
        [*claude()[:-1], chunk({"type": "message_stop", "amazon-bedrock-guardrailAction": "INTERVENED"})],
    ),
    ("unknown-ending", "converse", converse(finish="malformed_of_tomorrow")),
    ("tool-call", "converse", converse("Let me see.", "tool_use", use())),
    ("empty", "converse", converse("")),
    ("incomplete", "converse", converse()[:-1]),
    ("incomplete", "converse", converse()[:-2]),
    ("incomplete", "converse", [*converse()[:2], *converse()[-2:]]),
    ("incomplete", "messages", claude()[:-1]),
    ("incomplete", "converse", nova()[:-1]),
    ("error", "converse", [*converse()[:3], failure("throttlingException", "slow down")]),
    ("error", "converse", [*converse(), failure("modelStreamErrorException", "oh")]),
    ("error", "messages", [*claude()[:4], failure("modelTimeoutException", "late")]),
    ("error", "messages", [*claude()[:4], chunk({"type": "error", "error": {"type": "overloaded_error"}})]),
    ("empty", "converse", []),
]


@pytest.mark.parametrize(("name", "frames"), STORED, ids=["converse", "claude", "nova", "openai"])
def test_a_whole_stream_is_stored_and_its_usage_read(name, frames):
    made = scan(name, b"".join(frames))
    assert made.verdict() == ""
    if name != "chat":
        assert made.usage() == (9, 2)
        assert StreamScan(None).usage() is None


@pytest.mark.parametrize(("reason", "name", "frames"), REFUSED)
def test_a_stream_that_may_not_be_stored_says_why(reason, name, frames):
    assert scan(name, b"".join(frames)).verdict() == reason


def test_what_the_provider_ran_is_not_stored():
    served = scan("converse", b"".join(converse("Here.", "end_turn", use(type="server_tool_use"))), "store")
    assert served.verdict() in ("server-tool", "searched")


def test_a_stream_that_cites_what_it_found_is_not_stored():
    citation = {"title": "t", "location": {"web": {"url": "https://a.example"}}}
    cited = event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": citation}})
    frames = converse("a b")
    assert scan("converse", b"".join([*frames[:2], cited, *frames[2:]])).verdict() == "searched"
    assert scan("converse", b"".join([*frames[:2], cited, *frames[2:]]), searched="store").verdict() == ""


@given(st.data())
def test_a_stream_cut_anywhere_is_not_stored(data):
    name, frames = data.draw(st.sampled_from(STORED[:3]))
    body = b"".join(frames)
    cut = data.draw(st.integers(0, len(body) - 1))
    made = scan(name, body[:cut])
    assert made.verdict() in ("incomplete", "empty")
    assert not made.whole()


@given(st.data())
def test_a_stream_with_a_byte_that_changed_is_not_stored(data):
    name, frames = data.draw(st.sampled_from(STORED))
    spoiled = bytearray(b"".join(frames))
    spoiled[data.draw(st.integers(0, len(spoiled) - 1))] ^= data.draw(st.integers(1, 255))
    assert scan(name, bytes(spoiled)).verdict() in ("incomplete", "empty", "error")


@pytest.mark.parametrize(("name", "frames"), STORED[:3], ids=["converse", "claude", "nova"])
def test_the_end_is_seen_with_the_last_frame_and_not_before(name, frames):
    made = StreamScan(ROWS[name], "pass", CONTENT_TYPE)
    for frame in frames:
        assert not made.whole()
        made.feed(frame)
    assert made.whole()


def test_an_end_that_a_model_says_itself_is_no_event():
    done = event("chunk", {"bytes": base64.b64encode(b"[DONE]").decode()})
    assert scan("chat", b"".join([*openai(), done])).verdict() == ""


def test_frames_are_read_without_being_announced():
    made = StreamScan(ROWS["converse"])
    made.feed(b"".join(converse()))
    assert made.verdict() == ""


def test_a_stream_of_boto3s_items_is_judged_as_the_stream_was():
    for frames, reason in (
        (converse(), ""),
        (converse(finish="max_tokens"), "truncated"),
        (converse()[:-1], "incomplete"),
    ):
        items = ItemScan()
        for value in read(b"".join(frames), CONTENT_TYPE).values:
            items.feed(json.dumps(value).encode())
        assert items.verdict() == reason


def test_many_small_frames_are_not_read_into_much_memory():
    small = chunk([[] for _ in range(2000)])
    body = small * (4 * 1024 * 1024 // len(small))
    assert scan("messages", body).verdict() == "incomplete"


# --- recorded ---


def expected(record: Any, kinds: list[str], stops: list[Any]) -> str:
    if "metadata" not in kinds:
        return "incomplete"
    return {"end_turn": "", "tool_use": "tool-call", "guardrail_intervened": "filtered"}[stops[0]]


def test_every_recorded_stream_of_converse_is_judged_by_its_ending(corpus_dir: Path):
    judged: dict[str, int] = {}
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [record for record in map(json.loads, lines) if record.get("response_body_b64")]
    for record in records:
        operation = by_path(record["method"], record["url_path"], record["host"])
        assert operation is not None
        assert operation.streamed_by_path
        meant = agreed(operation, json.loads(record["request_body"]))
        if meant is None:
            assert "titan-text" in record["url_path"]
            continue
        body = base64.b64decode(record["response_body_b64"])
        made = scan(meant.api.name, body, given=True)
        values = read(body, CONTENT_TYPE).values
        stops = [value["messageStop"]["stopReason"] for value in values if "messageStop" in value]
        reason = made.verdict()
        judged[reason] = judged.get(reason, 0) + 1
        if reason in ("server-tool", "searched"):
            assert "systemTool" in record["request_body"], record["id"]
        elif record["id"] == "aws_bedrock-097b44c2e7d6":
            assert reason == "filtered", "a guardrail wrote into it, beside an ending of the model's own"
        else:
            assert reason == expected(record, [name for value in values for name in value], stops), record["id"]
        assert made.whole(), record["id"]
        assert not scan(meant.api.name, body[:-1]).whole()
    assert judged == {"": 11, "tool-call": 1, "filtered": 3, "searched": 1, "server-tool": 1}
