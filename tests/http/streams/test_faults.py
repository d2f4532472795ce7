"""Upstreams that fail in the middle, and bodies that are not what they say: shown as they are, and never kept."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from typing import Any

import httpx2
import openai
import pytest

from askonce import AsyncCache, Cache, Policy
from tests.core.aws import converse
from tests.http.conftest import Record
from tests.http.streams.talking import SSE, STORY, STREAM, URL, Reading, chunk, event
from tests.http.streams.test_bedrock import ASKED, FRAMES, HOST, KEY
from tests.http.streams.test_corpus import events, streams
from tests.http.streams.test_leaving import SAID
from tests.http.test_corpus import base_of, request_of, sdk_of

FAULTS = {
    "cut after events": "drop-after=2",
    "cut within an event": "drop-bytes=150",
    "silent truncation": "truncate=0.5",
    "garbage": "garbage",
    "an error among the events": "error-event-after=2",
    "a stall past the read timeout": "stall-after=2;stall=5",
    "a reset": "reset",
    "503": "status=503",
}
APIS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini.streamGenerateContent")


def first_of(records: list[Record], api: str) -> Record:
    """A stream of this API that would be kept, long enough to be broken."""
    return next(
        one
        for one in streams(records)
        if one["api"] == api and one["status"] == 200 and not one["has_tools"] and (one["sse_events"] or 0) > 6
        if one["finish_reason"] in {"stop", "end_turn", "completed", "STOP"}
    )


def ended(client: Any, request: Any) -> tuple[Any, ...]:
    """All that a reader gets to see: status, body, and the error that ended it."""
    body = b""
    try:
        response = client.send(request, stream=True)
        with contextlib.closing(response):
            for part in response.iter_bytes():
                body += part
    except httpx2.RequestError as error:
        return type(error), body, str(error)
    return response.status_code, body, ""


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen_as_it_is_without_askonce_and_nothing_is_kept(records, steady_replay, api, name):
    record = first_of(records, api)
    fault = {"x-replay-fault": FAULTS[name]}
    with (
        Cache("memory://") as cache,
        httpx2.Client(timeout=0.4) as bare,
        cache.http_client(tenant="t", timeout=0.4, ignore_headers=["x-replay-fault"]) as client,
    ):
        without = ended(bare, request_of(bare, steady_replay.url, record, **fault))
        got = ended(client, request_of(client, steady_replay.url, record, **fault))
        drawn = slice(19 if name == "garbage" else None)  # the rest is random each time
        assert (got[0], got[1][drawn], got[2]) == (without[0], without[1][drawn], without[2])
        assert cache.stats().get("stored", 0) == 0
        assert cache.stats()["flights"] == 0
        whole = client.send(request_of(client, steady_replay.url, record))
        assert not whole.headers["cache-status"].startswith("askonce; hit")
        assert cache.stats()["stored"] == 1


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - {"garbage"}))
def test_the_sdk_sees_what_it_would_have_seen(records, steady_replay, name):
    record = first_of(records, "openai.chat")
    aimed, body = base_of(steady_replay.url, record), json.loads(record["request_body"])
    assert aimed is not None
    with (
        Cache("memory://") as cache,
        httpx2.Client() as bare,
        cache.http_client(ignore_headers=["x-replay-fault"]) as ours,
    ):
        seen = []
        for http in (bare, ours):
            sdk = sdk_of(*aimed, record, http).with_options(
                timeout=0.4, default_headers={"x-replay-fault": FAULTS[name]}
            )
            seen.append(events(sdk, aimed[2], body))
        assert seen[0] == seen[1]
        assert cache.stats().get("stored", 0) == 0


# --- bodies ---


@pytest.fixture
def client(cache, talking):
    with cache.http_client(module=talking.module, inner=talking) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "empty"),
        (b"<html>busy</html>", "not-sse"),
        (b"\x00\xff" * 1000, "not-sse"),
        (b'{"error": {"message": "no", "type": "server_error"}}', "error"),
        (b"".join(STORY[:-2]) + event(b'{"error": {"message": "no"}}') + event(b"[DONE]"), "error"),
        (b"".join(STORY[:3]), "incomplete"),
        (b"".join((chunk("x" * 20), b"data: \xff\xfe\n\n", *STORY[-2:])), "not-sse"),
        (b"".join((*STORY[:2], chunk(finish="length"), STORY[-1])), "truncated"),
        (b"".join((*STORY[:2], chunk(finish="content_filter"), STORY[-1])), "filtered"),
        (b"".join((chunk(""), chunk(finish="stop"), STORY[-1])), "empty"),
    ],
)
def test_a_body_that_is_no_whole_answer_passes_through_and_is_not_kept(cache, client, talking, body, detail):
    talking.tell(*([body] if body else [b""]))
    for _ in range(2):
        assert client.post(URL, json=STREAM).content == body
    assert cache.stats().get("stored", 0) == 0
    assert set(cache.stats()) & {"unstored." + detail, "unstored.incomplete", "unstored.error"}
    assert len(talking.lines) == 2


GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
SPOKEN = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}], "usageMetadata": {}}
MESSAGE_ITEM = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "hi"}]}
RESPONSE = {"object": "response", "status": "completed", "output": [MESSAGE_ITEM]}
WHOLE: list[tuple[str, dict[str, Any], tuple[bytes, ...], bool]] = [
    ("https://api.example/v1/chat/completions", STREAM, STORY, True),
    ("https://api.example/v1/messages", {**STREAM, "max_tokens": 9}, SAID, True),
    (
        "https://api.example/v1/responses",
        {"model": "m", "input": "hi", "stream": True},
        tuple(
            event({"type": kind, "response": response})
            for kind, response in (("response.created", {"object": "response"}), ("response.completed", RESPONSE))
        ),
        True,
    ),
    (f"{HOST}/model/us.amazon.nova-lite-v1:0/converse-stream", ASKED, tuple(converse()), True),
    (
        "https://api.example/v1beta/models/m:streamGenerateContent?alt=sse",
        GEMINI,
        (event(SPOKEN), event(SPOKEN)),
        False,
    ),
]


@pytest.mark.parametrize(("url", "asked", "told", "ends"), WHOLE, ids=[one[0].rpartition("/")[2] for one in WHOLE])
def test_a_stream_that_breaks_is_kept_if_its_protocols_last_event_came(cache, client, talking, url, asked, told, ends):
    """Gemini has no last event: that more would have come is known only from how its body ends."""
    for parts, kept in ((told[:-1], False), ((*told[:-1], told[-1][:-1]), False), (told, ends)):
        talking.headers = FRAMES if "converse" in url else SSE
        talking.tell(*parts, error=talking.module.RemoteProtocolError("incomplete chunked read"))
        got = b""
        with (
            contextlib.suppress(talking.module.RemoteProtocolError),
            client.stream("POST", url, json=asked, headers=KEY) as response,
        ):
            for part in response.iter_bytes():
                got += part
            pytest.fail("it did not break")
        assert (got, cache.stats().get("stored", 0)) == (b"".join(parts), int(kept))
    again = client.post(url, json=asked, headers=KEY) if ends else None
    assert again is None or again.content == b"".join(told)


@pytest.mark.parametrize("size", [1_000_000, 3_000_000])
def test_events_of_a_megabyte_in_pieces_of_a_packet(cache, client, talking, size):
    body = b"".join((chunk("y" * size), *STORY))
    talking.tell(*(body[at : at + 1500] for at in range(0, len(body), 1500)))
    assert client.post(URL, json=STREAM).content == body
    assert client.post(URL, json=STREAM).content == body
    assert len(talking.lines) == 1


def test_an_answer_over_the_cap_streams_through_and_is_not_kept(talking):
    body = (chunk("z" * 5000), *STORY)
    talking.tell(*body)
    with (
        Cache("memory://", policy=Policy(max_answer_bytes=2000)) as cache,
        cache.http_client(module=talking.module, inner=talking) as client,
    ):
        assert Reading(client).whole() == Reading(client).whole() == body
        assert cache.stats()["unstored.too-large"] == 2


async def test_an_answer_whose_first_part_is_over_the_cap_streams_through_before_its_reader_has_begun(talking):
    body = (chunk("z" * 5000), *STORY)
    talking.tell(*body)
    async with (
        AsyncCache("memory://", policy=Policy(max_answer_bytes=2000)) as cache,
        cache.http_client(module=talking.module, inner=talking) as client,
    ):
        for _ in range(2):
            assert (await client.post(URL, json=STREAM)).content == b"".join(body)
        assert cache.stats()["unstored.too-large"] == 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_an_encoded_stream_is_kept_and_given_decoded(cache, client, talking, encoding):
    plain = b"".join(STORY)
    if encoding == "br":
        brotli = pytest.importorskip("brotli")
        packed = brotli.compress(plain)
    else:
        packed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    talking.tell(*(packed[at : at + 20] for at in range(0, len(packed), 20)))
    talking.headers = {**SSE, "content-encoding": encoding, "content-length": str(len(packed))}
    first, second = client.post(URL, json=STREAM), client.post(URL, json=STREAM)
    assert first.content == second.content == plain
    assert (first.headers["content-encoding"], first.num_bytes_downloaded) == (encoding, len(packed))
    assert not {"content-encoding", "content-length"} & second.headers.keys()
    assert len(talking.lines) == 1


def test_an_encoding_that_the_client_cannot_undo_passes_as_it_came(cache, client, talking):
    talking.tell(b"\x00\x01packed")
    talking.headers = {**SSE, "content-encoding": "snappy"}
    response = client.post(URL, json=STREAM)
    assert (response.content, response.headers["content-encoding"]) == (b"\x00\x01packed", "snappy")
    assert cache.stats().get("stored", 0) == 0


def test_a_damaged_encoding_is_the_modules_decoding_error(cache, client, talking):
    talking.tell(*STORY)
    talking.headers = {**SSE, "content-encoding": "gzip"}
    with pytest.raises(talking.module.DecodingError):
        client.post(URL, json=STREAM)
    assert cache.stats().get("stored", 0) == 0


def test_a_host_that_answers_a_stream_in_one_piece_is_kept_as_what_it_is(cache, client, talking):
    answer = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    talking.tell(json.dumps(answer).encode()).headers = {"content-type": "application/json"}
    for _ in range(2):
        response = client.post(URL, json=STREAM)
        assert response.json() == answer
        assert response.headers["content-type"] == "application/json"
    assert len(talking.lines) == 1


def test_only_if_cached_and_an_unreachable_store(talking):
    talking.tell(*STORY)
    with Cache("memory://") as cache, cache.http_client(module=talking.module, inner=talking) as client:
        missing = client.post(URL, json=STREAM, headers={"cache-control": "only-if-cached"})
        assert missing.status_code == 504
        assert missing.json()["error"]["code"] == "not_cached"
    with Cache("redis://127.0.0.1:1/0") as cache, cache.http_client(module=talking.module, inner=talking) as client:
        response = client.post(URL, json=STREAM)
        assert response.content == b"".join(STORY)
        assert "detail=store-refused" in response.headers["cache-status"]
    with (
        Cache("redis://127.0.0.1:1/0", strict=True) as cache,
        cache.http_client(module=talking.module, inner=talking) as client,
    ):
        sdk_client: Any = openai.OpenAI(base_url="https://api.example/v1", api_key="k", http_client=client)
        with pytest.raises(openai.InternalServerError, match="strict"):
            sdk_client.chat.completions.create(**STREAM)
