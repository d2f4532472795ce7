"""One question asked in both forms is paid once: opt-in, and only if nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from askonce import Cache
from tests.http.streams.talking import STORY, STREAM, URL, chunk, event
from tests.http.streams.test_corpus import streams
from tests.http.test_corpus import request_of

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
TOLD = (
    *STORY[:-1],
    event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [], "usage": USAGE}),
    STORY[-1],
)
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "usage": USAGE,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Once upon a time"}, "finish_reason": "stop"}],
}
PLAIN = {**STREAM, "stream": False}
WITH_USAGE = {**STREAM, "stream_options": {"include_usage": True}}


@pytest.fixture
def client(cache, talking):
    with cache.http_client(module=talking.module, inner=talking, share_forms=True) as client:
        yield client


@pytest.mark.parametrize("asked", [STREAM, WITH_USAGE])
def test_a_stored_stream_answers_a_request_without_stream(client, talking, asked):
    talking.tell(*TOLD)
    client.post(URL, json=asked)
    response = client.post(URL, json=PLAIN)
    assert response.json() == WHOLE
    assert response.headers["content-type"] == "application/json"
    assert "detail=assembled" in response.headers["cache-status"]
    assert response.headers["x-request-id"] == "req_1"
    assert len(talking.lines) == 1


@pytest.mark.parametrize("asked", [STREAM, WITH_USAGE])
def test_a_stored_answer_answers_a_request_for_a_stream(client, talking, asked):
    talking.tell(json.dumps(WHOLE).encode()).headers = {"content-type": "application/json"}
    client.post(URL, json=PLAIN)
    response = client.post(URL, json=asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert "detail=assembled" in response.headers["cache-status"]
    assert response.text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])
    assert text == "Once upon a time"
    assert [one["usage"] for one in chunks if one.get("usage")] == [USAGE]
    assert len(talking.lines) == 1


def test_what_could_not_be_exact_is_asked_upstream(client, talking):
    talking.tell(chunk("hi"), chunk(finish="stop"), STORY[-1])  # without its usage
    client.post(URL, json=STREAM)
    talking.tell(json.dumps(WHOLE).encode()).headers = {"content-type": "application/json"}
    assert client.post(URL, json=PLAIN).json() == WHOLE
    assert len(talking.lines) == 2


def test_without_the_option_each_form_is_paid_for(cache, talking):
    talking.tell(*TOLD)
    with cache.http_client(module=talking.module, inner=talking) as client:
        client.post(URL, json=STREAM)
        client.post(URL, json=PLAIN)
    assert len(talking.lines) == 2


def test_what_is_invalidated_answers_in_no_form(cache, client, talking):
    talking.tell(*TOLD)
    client.post(URL, json=STREAM)
    cache.invalidate(everything=True)
    talking.tell(json.dumps(WHOLE).encode()).headers = {"content-type": "application/json"}
    assert "assembled" not in client.post(URL, json=PLAIN).headers["cache-status"]


def test_recorded_streams_answer_without_stream_and_say_what_they_say(records, steady_replay):
    made: Counter[str] = Counter()
    with Cache("memory://", max_bytes=2**30) as cache, cache.http_client(tenant="t", share_forms=True) as client:
        for record in streams(records)[::4]:
            body: Any = json.loads(record["request_body"])
            if "stream" not in body or record["has_tools"]:
                continue
            scope = {"askonce-scope": record["id"]}
            client.send(request_of(client, steady_replay.url, record, **scope))
            plain = {**record, "request_body": json.dumps({**body, "stream": False})}
            with cache.watch() as statuses:
                answer = client.send(request_of(client, steady_replay.url, plain, **scope))
            if statuses[0].detail == "assembled":
                made[record["api"]] += 1
                assert answer.json()["usage"]
    assert made["openai.responses"] > 5, made
    assert made["anthropic.messages"] > 10, made
    assert made["openai.chat"] > 5, made
