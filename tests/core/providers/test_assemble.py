"""A stream as the answer in one piece, and the reverse: an SDK makes the same of either.

The judges are the SDKs' own accumulators, the answers that were recorded in both forms, and the conversion there and
back.
"""

from __future__ import annotations

import gzip
import json
from operator import itemgetter
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.core.providers import APIS
from askonce.core.providers.assemble import to_json, to_stream
from askonce.core.providers.fields import left_out
from askonce.core.providers.scan import StreamScan, read
from tests.corpus import by_path, canonical_body, sample
from tests.profiles import examples

ROWS = {api.name: api for api in APIS}
MESSAGES: Any = [{"role": "user", "content": "?"}]
Record = dict[str, Any]


@pytest.fixture(scope="module")
def records(corpus_dir) -> list[tuple[Record, str, bytes]]:
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        found = [record for record in map(json.loads, lines) if record["status"] == 200 and record["response_body"]]
    paths = [(record, by_path(record["method"], record["url_path"], record["host"])) for record in found]
    return [(record, path.api.name, record["response_body"].encode()) for record, path in paths if path]


@pytest.fixture(scope="module")
def streams(records) -> list[tuple[Record, str, bytes]]:
    """Those that any policy stores."""
    return [(r, name, body) for r, name, body in records if r["stream"] and storable(name, body)]


@pytest.fixture(scope="module")
def answers(records) -> list[tuple[Record, str, bytes]]:
    return [
        (record, name, body)
        for record, name, body in records
        if not record["stream"]
        and name not in {"embeddings", "message", "converse"}  # Bedrock's event streams have no other form
        and not ROWS[name].verdict(json.loads(body), "store")
    ]


def storable(name: str, body: bytes, tool_calls: str = "store") -> bool:
    judge = StreamScan(ROWS[name], tool_calls, "text/event-stream")
    judge.feed(body)
    return not judge.verdict()


def bare(value: Any) -> Any:
    """Without what holds nothing, at any depth: null, an empty list or text."""
    if isinstance(value, dict):
        kept = {name: bare(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, [], "", {})}
    return [bare(item) for item in value] if isinstance(value, list) else value


# --- what SDKs make of it ---


class Host:
    """Answers the next request with a body."""

    def __init__(self) -> None:
        self.body, self.type = b"", ""
        http = httpx2.Client(transport=httpx2.MockTransport(self.answer))
        self.openai = openai.OpenAI(api_key="k", base_url="http://127.0.0.1/v1", http_client=http)
        self.anthropic = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1", http_client=http)

    def answer(self, _request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self.type}, content=self.body)

    def streamed(self, name: str, body: bytes) -> Any:
        """The final object of the SDK's accumulator."""
        self.body, self.type = body, "text/event-stream"
        if name == "chat":
            with self.openai.chat.completions.stream(model="m", messages=MESSAGES) as stream:
                return final(stream.get_final_completion())
        if name == "responses":
            with self.openai.responses.stream(model="m", input="?") as parts:
                return final(parts.get_final_response())
        with self.anthropic.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as said:
            return final(said.get_final_message())

    def plain(self, name: str, body: bytes) -> Any:
        self.body, self.type = body, "application/json"
        if name == "chat":
            return final(self.openai.chat.completions.create(model="m", messages=MESSAGES))
        if name == "responses":
            return final(self.openai.responses.create(model="m", input="?"))
        return final(self.anthropic.messages.create(model="m", max_tokens=9, messages=MESSAGES))


# What hosts say once in a stream, and not as OpenAI does; its accumulator drops it.
LOST = {
    **dict.fromkeys(("openrouter-fe25ee6e95de", "openai-aba42e3c127c", "openai-a96c46584dc7"), "system_fingerprint"),
    **dict.fromkeys(("groq-a66b664dd641", "groq-1e30b963a514", "groq-45e173ddb769"), "usage"),
    "openrouter-cc67f7bee445": "service_tier",
}


def final(answer: Any) -> Any:
    """An SDK's object, without what OpenAI's accumulator does to other hosts' fields."""
    found = bare(answer.to_dict())
    for choice in found.get("choices", ()):
        choice.pop("native_finish_reason", None)  # dropped
        choice["message"].pop("channel", None)  # accumulated, like the role that some hosts repeat in every chunk
        choice["message"]["role"] = choice["message"]["role"][: len("assistant")]
    return unnumbered(found)


@pytest.fixture(scope="module")
def host():
    return Host()


EVERY = [12, pytest.param(1, marks=pytest.mark.slow)]


@pytest.mark.parametrize("every", EVERY)
def test_a_recorded_stream_in_one_piece_is_what_its_sdk_makes_of_the_stream(host, streams, every):
    seen = 0
    for record, name, body in sample(streams, every, itemgetter(0)):
        if name in SDKS and (whole := to_json(ROWS[name], body)):
            ours, theirs = host.plain(name, whole), host.streamed(name, body)
            assert ours | theirs == ours, record["id"]
            assert "".join(ours.keys() - theirs.keys()) == LOST.get(record["id"], ""), record["id"]
            seen += 1
    assert seen > 390 // every


@pytest.mark.parametrize("every", EVERY)
def test_a_recorded_answer_told_as_a_stream_is_to_its_sdk_what_the_answer_is(host, answers, every):
    some = sample(answers, 2 * every, itemgetter(0))
    told = [(r, name, body, to_stream(ROWS[name], body)) for r, name, body in some if name in SDKS]
    for record, name, body, stream in told:
        assert stream is None or host.streamed(name, stream) == host.plain(name, body), record["id"]
    assert sum(stream is not None for *_, stream in told) > 600 // every


SDKS = ("chat", "responses", "messages")


# --- both forms of one question, as they were recorded ---


def shape(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {one for name, item in value.items() for one in shape(item, f"{path}.{name}")}
    if isinstance(value, list):
        return {one for item in value for one in shape(item, f"{path}[]")}
    return {f"{path}:{type(value).__name__}"}


# What only answers in one piece have: who pays, how an ending is explained, counts of nothing.
UNTOLD = {
    *(".billing.payer:str", ".candidates[].finishMessage:str"),
    *(".usageMetadata.candidatesTokenCount:int", ".usageMetadata.thoughtsTokenCount:int"),
}


def test_a_recorded_stream_in_one_piece_lacks_nothing_that_answers_to_its_question_have(streams, answers):
    plain: dict[tuple[Any, ...], list[bytes]] = {}
    for record, name, body in answers:
        plain.setdefault(question(record, name), []).append(body)
    seen = 0
    for record, name, body in streams:
        twins = plain.get(question(record, name))
        if twins and (whole := to_json(ROWS[name], body)):
            shapes = [shape(bare(json.loads(twin))) for twin in twins]
            ours = shape(bare(json.loads(whole)))
            assert min((one - ours for one in shapes), key=len) <= UNTOLD, record["id"]
            seen += 1
    assert seen > 200


def question(record: Record, name: str) -> tuple[Any, ...]:
    path = by_path(record["method"], record["url_path"], record["host"])
    assert path
    return record["host"], path.path, canonical_body(record["request_body"].encode(), tuple(left_out(path)))


# --- there and back ---


@pytest.mark.parametrize("variant", ["", "include_usage=true"])
def test_a_recorded_answer_told_as_a_stream_and_put_together_again_is_the_same(answers, variant):
    for record, name, body in answers:
        if stream := to_stream(ROWS[name], body, variant):
            assert storable(name, stream), record["id"]
            back = json.dumps(read(stream).values[0]) if name == "gemini" else to_json(ROWS[name], stream)
            assert back, record["id"]
            assert bare(json.loads(back)) == unnumbered(bare(json.loads(body))), record["id"]


def unnumbered(answer: Any) -> Any:
    """Without the numbers that some hosts give to calls although they stand in a list."""
    for choice in answer.get("choices", ()):
        for call in choice["message"].get("tool_calls", ()):
            call.pop("index", None)
    return answer


def test_a_recorded_stream_put_together_is_judged_as_the_stream_was(streams):
    for record, name, body in streams:
        if whole := to_json(ROWS[name], body):
            assert ROWS[name].verdict(json.loads(whole), "store") == "", record["id"]
            assert bool(ROWS[name].verdict(json.loads(whole))) == (not storable(name, body, "pass")), record["id"]
            judge = StreamScan(ROWS[name])
            judge.feed(body)
            assert ROWS[name].usage(json.loads(whole)) == judge.usage(), record["id"]


# --- what stays as it is ---

# The bytes of a recorded answer or stream that explain why it has no other form.
REASONS = {
    "chat": [
        "filter_results",  # Azure's, in pieces of its own
        "reasoning_details",  # OpenRouter's, joined by rules of their own
        '"content":[',  # Mistral's thoughts
        '"annotations":[{',  # OpenRouter's searches
        '"function_call":',
        '"annotations": [\n',  # of a search model
    ],
    "messages": ["compaction"],
    "responses": ['"type": "compaction"', '"type":"compaction"', '"status_details"'],
    "gemini": ['"createTime"'],
    "completions": [""],
}


def test_what_has_no_other_form_is_named_here(streams, answers):
    for record, name, body in streams:
        if to_json(ROWS[name], body) is None:
            text = body.decode()
            assert '"usage":{' not in text or any(reason in text for reason in REASONS[name]), record["id"]
    for record, name, body in answers:
        if to_stream(ROWS[name], body) is None:
            assert any(reason in body.decode() for reason in REASONS[name]), record["id"]
    assert sum(to_json(ROWS[name], body) is not None for _, name, body in streams) > 460
    assert sum(to_stream(ROWS[name], body) is not None for _, name, body in answers) > 1700


def chunks(*deltas: Record, finish: str | None = "stop", **top: Any) -> list[Record]:
    choices: list[Record] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    said = [{"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [c]} for c in choices]
    said[-1] |= {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}} | top
    return said


def sse(*values: Record, done: bool = True) -> bytes:
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values).encode() + b"data: [DONE]\n\n" * done


HI: Record = {"role": "assistant", "content": "hi"}


def test_choices_calls_and_log_probabilities_are_joined_by_their_places():
    first = chunks(HI, {"content": " you"})
    first[0]["choices"][0]["logprobs"] = {"content": [{"token": "hi", "logprob": -0.5}], "refusal": None}
    first[1]["choices"][0]["logprobs"] = {"content": [{"token": " you", "logprob": -0.25}], "refusal": None}
    call: Record = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}
    other = chunks({"tool_calls": [call]}, {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})
    for chunk in other:
        chunk["choices"][0]["index"] = 1
    whole = json.loads(to_json(ROWS["chat"], sse(*(c for pair in zip(other, first, strict=True) for c in pair))) or b"")
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["choices"][0]["message"]["content"] == "hi you"
    assert [token["logprob"] for token in whole["choices"][0]["logprobs"]["content"]] == [-0.5, -0.25]
    function = {"name": "f", "arguments": '{"x":1}'}
    assert whole["choices"][1]["message"]["tool_calls"] == [{"id": "a", "type": "function", "function": function}]
    stream = to_stream(ROWS["chat"], json.dumps(whole).encode(), "include_usage=true") or b""
    assert bare(json.loads(to_json(ROWS["chat"], stream) or b"")) == bare(whole)


@pytest.mark.parametrize(
    "body",
    [
        sse(*chunks(HI)[:-1]),  # no finish reason, no usage
        sse(*chunks(HI, usage=None)),
        sse(*chunks(HI, finish=None)),
        sse(*chunks(HI, news=1)),
        sse(*chunks(HI, id="other")),
        sse(*chunks(HI, {"audio": {"id": "a"}})),
        sse(*chunks(HI, {"content": [{"type": "text"}]})),
        sse(*chunks(HI, {"tool_calls": [{"id": "a", "function": {"name": "f"}}]})),  # no index
        sse(*chunks(HI, {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f"}}]})),
        sse(*chunks(HI), {"error": {"message": "no"}}),
        sse(*chunks(HI)) + b"data: {\n\n",
        b'{"choices": []}',
        b"",
    ],
)
def test_what_cannot_be_exact_in_one_piece_stays_a_stream(body):
    assert to_json(ROWS["chat"], body) is None


def test_the_plain_stream_of_that_kind_is_put_together():
    assert to_json(ROWS["chat"], sse(*chunks(HI, obfuscation="xyz", empty={"news": None}))) is not None


def test_usage_comes_alone_when_asked_for_and_with_the_last_choice_when_not():
    whole = to_json(ROWS["chat"], sse(*chunks(HI))) or b""
    plain, asked = (
        read(to_stream(ROWS["chat"], whole, variant) or b"").values for variant in ("", "include_usage=true")
    )
    assert [bool(chunk.get("usage")) for chunk in plain] == [False, False, True]
    assert plain[-1]["choices"][0]["finish_reason"] == "stop"
    assert [chunk["usage"] is not None for chunk in asked] == [False, False, False, True]
    assert asked[-1]["choices"] == []


def test_a_variant_that_is_not_known_has_no_stream():
    whole = to_json(ROWS["chat"], sse(*chunks(HI))) or b""
    assert to_stream(ROWS["chat"], whole, "include_obfuscation=false,include_usage=true")
    assert to_stream(ROWS["chat"], whole, "chunk_size=5") is None
    assert to_stream(ROWS["embeddings"], whole) is None
    assert to_stream(ROWS["chat"], whole[:-1]) is None


def test_gemini_is_told_as_events_or_as_an_array():
    parts = [{"text": "a"}, {"text": "b"}, {"text": "", "thoughtSignature": "s"}]
    said = [{"candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]} for part in parts]
    last = {"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": {"promptTokenCount": 1}}
    whole = to_json(ROWS["gemini"], sse(*said, last, done=False).replace(b"\n", b"\r\n")) or b""
    assert json.loads(whole)["candidates"][0]["content"]["parts"] == [{"text": "ab"}, parts[2]]
    assert to_json(ROWS["gemini"], json.dumps([*said, last]).encode()) == whole
    events, array = (to_stream(ROWS["gemini"], whole, variant) or b"" for variant in ("", "array"))
    assert (events[:6], events[-4:]) == (b"data: ", b"\r\n\r\n")
    assert json.loads(array) == [json.loads(whole)]
    for body in (events, array):
        assert json.loads(to_json(ROWS["gemini"], body) or b"") == json.loads(whole)


# --- whatever comes, nothing raises ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "text", "message", "stop", "{}", "tool_use"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "index", "text"]), inner),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_or_an_answer_with_anything_anywhere_is_refused_or_judged_but_never_raises(data):
    name = data.draw(st.sampled_from(["chat", "responses", "messages", "gemini"]))
    values = [spoilt(data, value) for value in json.loads(SAMPLES[name])]
    stream = sse(*values)
    judge = StreamScan(ROWS[name])
    judge.feed(stream)
    judge.verdict()
    judge.usage()
    for whole in (to_json(ROWS[name], stream), json.dumps(values[-1]).encode()):
        if whole:
            to_stream(ROWS[name], whole, "include_usage=true")


def spoilt(data: st.DataObject, value: Any) -> Any:
    """`value` with something else in the place of one of its values, sometimes."""
    if not isinstance(value, dict | list) or not value:
        return data.draw(JSON) if data.draw(st.integers(0, 3)) == 0 else value
    place = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy: Any = value.copy()
    copy[place] = data.draw(JSON) if data.draw(st.integers(0, 3)) == 0 else spoilt(data, copy[place])
    return copy


RESPONSE: Record = {
    "object": "response",
    "status": "completed",
    "output": [
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "so"}]},
        {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "hi", "annotations": [{"a": 1}]}]},
        {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1},
}
MESSAGE: Record = {
    "type": "message",
    "content": [{"type": "text", "text": "hi", "citations": [{"a": 1}]}, {"type": "tool_use", "input": {"a": 1}}],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
CHAT: Record = {
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 1},
}
GEMINI: Record = {
    "candidates": [{"index": 0, "finishReason": "STOP", "content": {"parts": [{"text": "hi"}], "role": "model"}}],
    "usageMetadata": {"promptTokenCount": 1},
}
SAMPLES = {
    name: json.dumps([*read(to_stream(ROWS[name], json.dumps(value).encode()) or b"").values, value])
    for name, value in (("chat", CHAT), ("responses", RESPONSE), ("messages", MESSAGE), ("gemini", GEMINI))
}


@pytest.mark.parametrize(("name", "value"), [("responses", RESPONSE), ("messages", MESSAGE), ("chat", CHAT)])
def test_a_sample_comes_back_from_its_stream(name, value):
    stream = to_stream(ROWS[name], json.dumps(value).encode()) or b""
    assert bare(json.loads(to_json(ROWS[name], stream) or b"")) == value


@pytest.mark.parametrize("block", [{"citations": 1}, {"citations": [1]}, {"text": 1}, {"input": [1]}])
def test_a_message_whose_blocks_hold_what_no_delta_can_say_has_no_stream(block):
    odd = MESSAGE | {"content": [{"type": "text", "text": "hi"} | block]}
    assert to_stream(ROWS["messages"], json.dumps(odd).encode()) is None


def test_what_a_response_streamed_and_left_out_of_its_last_event_is_not_put_together():
    events = json.loads(SAMPLES["responses"])[:-1]
    assert to_json(ROWS["responses"], sse(*events)) is not None
    events[-1]["response"]["output"] = RESPONSE["output"][:1]
    assert to_json(ROWS["responses"], sse(*events)) is None
