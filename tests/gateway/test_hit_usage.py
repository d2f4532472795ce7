"""Usage in stored answers, set to zero: in every API's answers and streams, and nowhere else."""

from __future__ import annotations

import base64
import itertools
import json
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers.eventstream import events
from askonce.gateway.hit_usage import PLACES, Frames, Lines, without_usage
from askonce.gateway.transport import GatewayTransport
from tests.corpus import interactions
from tests.gateway.asking import ask, configured
from tests.gateway.running import Running, Tap, answer


def placed(value, way):
    """A value, in objects by the names on the way there."""
    for name in reversed(way):
        value = {name: value, "kept": 5}
    return value


@pytest.mark.parametrize("place", sorted(PLACES))
def test_numbers_become_zero_at_the_places_of_usage_and_every_other_byte_stays(place):
    used = {"a": 12, "b": [1.5e3, -2], "c": {"d": 7, "tier": "7 of 9"}, "e": None, "f": True}
    body = json.dumps(placed(used, place), indent=1) + "\n"
    none = {"a": 0, "b": [0, 0], "c": {"d": 0, "tier": "7 of 9"}, "e": None, "f": True}
    assert without_usage(body.encode()) == (json.dumps(placed(none, place), indent=1) + "\n").encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"content": [{"type": "tool_use", "input": {"usage": 5, "total_tokens": 6}}]}',
        b'{"choices": [{"message": {"content": "usage: 5", "usage": {"a": 5}}}]}',
        b'{"usage": ',
        b'{"usage": {"a": 1}',
        b'{"usage" 1}',
        b"[usage",
        b"usage 5",
        b'"usage"',
        b"5 usage",
        b'\xff{"usage": 5}',
        b'{"usage": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_usage_of_an_api_stays(body):
    assert without_usage(body) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["usage", "response", "delta", "x", "usageMetadata"]), inner, max_size=3)
    ),
)


@given(JSON)
def test_a_document_stays_the_same_but_for_its_usage(value):
    made = json.loads(without_usage(json.dumps(value).encode()))

    def less(one, way=()):
        if isinstance(one, dict):
            return {name: less(part, (*way, name)) for name, part in one.items() if (*way, name) not in PLACES}
        return [less(part, way) for part in one] if isinstance(one, list) and not way else one

    assert less(made) == less(value)


def cut(data, pieces):
    at = sorted({number % (len(data) + 1) for number in pieces})
    return [data[a:b] for a, b in itertools.pairwise([0, *at, len(data)])]


EVENTS = (
    b'event: message_start\r\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25}}}\r\n\r\n'
    b'data: {"choices":[],"usage":{"total_tokens":9}}\n\n: usage 5\ndata:{"usageMetadata":{"n":3}}\n\ndata: [DONE]\n\n'
    b'{"done":true,"eval_count":3}'
)


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_a_stream_is_the_same_however_it_is_cut(pieces):
    steps = Lines()
    made = b"".join([*map(steps.fed, cut(EVENTS, pieces)), steps.rest()])
    assert made == EVENTS.replace(b":25}", b":0}").replace(b":9}", b":0}").replace(b":3}", b":0}")


PRETTY = json.dumps(
    [{"candidates": [{"text": "a } ] é"}], "usageMetadata": {"n": n}} for n in (3, 4, 55)], indent=2, ensure_ascii=False
)
CLAUSE = '{"choices":[{"text":"a\\u0028"}],\n"usage":{"total_tokens":99,\n"prompt_tokens":7}}'
SPELLINGS = {
    "lines end with CR": EVENTS.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    "lines end with CRLF": EVENTS.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "a mark of byte order": b"\xef\xbb\xbfdata: " + EVENTS.split(b"data: ")[1],
    "data in several lines": f"id: 7\ndata: {CLAUSE.replace(chr(10), chr(10) + 'data: ')}\nevent: x\n\ndata: [DONE]\n\n".encode(),
    "a document in each line of an event": b'data: {"usage":{"n":12}}\ndata: {"usage":{"n":34}}\n\n',
    "no space": EVENTS.replace(b"data: ", b"data:"),
    "a tab": EVENTS.replace(b"data: ", b"data:\t"),
    "no empty line at the end": b'data: {"usage":{"n":12}}',
    "JSON lines": b'{"eval_count":3}\n{"a":1}\n\n{"eval_count":4}\r\n{"eval_count":5}',
    "a list": PRETTY.encode(),
    "a list in one line": b"\r\n " + json.dumps(json.loads(PRETTY), ensure_ascii=False).encode() + b"\r\n",
}


USUAL = {"lines end with CR", "data in several lines", "a list"}


@pytest.mark.parametrize(
    "spelling", [one if one in USUAL else pytest.param(one, marks=pytest.mark.slow) for one in SPELLINGS]
)
@given(pieces=st.lists(st.integers(0, 10_000), max_size=12))
def test_usage_becomes_zero_in_every_spelling_of_a_stream(spelling, pieces):
    stream = SPELLINGS[spelling]
    steps = Lines()
    made = b"".join([*map(steps.fed, cut(stream, pieces)), steps.rest()])
    assert made == re.sub(rb'("(?!a")\w+": ?)\d+', rb"\g<1>0", stream)
    assert made != stream


def test_an_item_of_a_list_is_passed_on_when_it_ends():
    steps = Lines()
    passed = [steps.fed(PRETTY.encode()[at : at + 7]) for at in range(0, len(PRETTY.encode()), 7)]
    assert sum(map(bool, passed)) == 3
    assert len(steps.rest()) < 10


def frame(payload, **headers):
    lines = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
        for name, value in ((f":{name.replace('_', '-')}", value) for name, value in headers.items())
    )
    head = (len(lines) + len(payload) + 16).to_bytes(4, "big") + len(lines).to_bytes(4, "big")
    data = head + zlib.crc32(head).to_bytes(4, "big") + lines + payload
    return data + zlib.crc32(data).to_bytes(4, "big")


@given(st.lists(st.integers(0, 10_000), max_size=12), st.binary(max_size=40))
def test_frames_of_aws_stay_valid_and_what_is_no_frame_passes(pieces, tail):
    inner = json.dumps({"type": "message_delta", "usage": {"output_tokens": 123}}).encode()
    chunk = json.dumps({"bytes": base64.b64encode(inner).decode(), "p": "abc"}).encode()
    data = frame(
        b'{"usage":{"inputTokens":4567},"metrics":{"latencyMs":9}}', message_type="event", event_type="metadata"
    )
    data += frame(chunk, message_type="event", event_type="chunk") + frame(b'{"a":1}', message_type="event")
    steps = Frames()
    made = b"".join([*map(steps.fed, cut(data + tail, pieces)), steps.rest()])
    assert made.endswith(tail)
    found = list(events(made[: len(made) - len(tail)]))
    assert [json.loads(event.data) for event in found] == [
        {"usage": {"inputTokens": 0}, "metrics": {"latencyMs": 9}},
        {"type": "message_delta", "usage": {"output_tokens": 0}},
        {"a": 1},
    ]


def test_the_recorded_answers_of_all_apis_say_that_nothing_was_used(corpus_dir):
    names = {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"}
    names |= {"promptTokenCount", "candidatesTokenCount", "totalTokenCount", "inputTokens", "outputTokens"}
    counted = 0
    for record in itertools.islice(interactions(corpus_dir), 0, None, 7):
        body = record["response_body"]
        counts = "count" in record["url_path"] or record["url_path"].endswith("/input_tokens")  # what was asked
        if not isinstance(body, str) or record["status"] != 200 or counts:
            continue
        steps = Lines()
        made = steps.fed(body.encode()) + steps.rest() if record["stream"] else without_usage(body.encode())
        for number in _numbers(made.decode(), names):
            assert number == 0, record["id"]
            counted += 1
    assert counted > 500


def _numbers(text, names):
    for line in text.splitlines() if "data:" in text else [text]:
        try:
            value = json.loads(line.removeprefix("data:"))
        except ValueError:
            continue
        stack = [value]
        while stack:
            one = stack.pop()
            if isinstance(one, dict):
                for name, part in one.items():
                    if name in names and isinstance(part, int):
                        yield part
                    # A tool's arguments and results are what was said.
                    if name not in {"input", "arguments", "content", "args", "output"}:
                        stack.append(part)
            elif isinstance(one, list):
                stack.extend(one)


STREAM = (
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"yes"},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"total_tokens":41}}\n\n'
    b"data: [DONE]\n\n"
)
WHOLE = (
    b'{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":'
    b'{"role":"assistant","content":"yes"}}],"usage":{"total_tokens":41}}'
)


@pytest.mark.parametrize("stream", [False, True])
def test_hits_use_nothing_where_the_operator_says_so_and_the_payer_sees_what_it_paid(tmp_path, stream):
    def says(heard):
        return answer(STREAM, kind="text/event-stream") if b'"stream"' in heard.body else answer(WHOLE)

    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    rule = "[[rule]]\nhit_usage = 'zero'\n[[rule]]\nmodel = 'o3'\nhit_usage = 'recorded'\n"
    with Tap(says) as tap, Running(configured(tmp_path, tap, rule)) as running:
        paid, hit = (ask(running, more=more) for _ in range(2))
        assert b'"total_tokens":41' in paid.content
        assert hit.content == paid.content.replace(b"41", b"0")
        assert [ask(running, model="o3", more=more).content for _ in range(2)] == [paid.content] * 2


def test_a_replay_has_the_pace_that_its_rule_says(tmp_path, monkeypatch):
    def says(_):
        return answer(STREAM, kind="text/event-stream")

    rule = "[[rule]]\nreplay = 'paced'\nreplay_speed = 2\n[[rule]]\nmodel = 'o3'\nreplay = 'at-once'\n"
    with Tap(says) as tap, Running(configured(tmp_path, tap, rule)) as running:
        paces = []
        seen = GatewayTransport._opened

        def opened(self, call, found):
            made = seen(self, call, found)
            if found.entry is not None:
                paces.append(found.value.pace)
            return made

        monkeypatch.setattr(GatewayTransport, "_opened", opened)
        for model in ("gpt-4o", "o3"):
            for _ in range(2):
                assert ask(running, model=model, more={"stream": True}).content == STREAM
    assert paces == [2.0, 0.0]
