"""All recorded traffic through the gateway: as without it, the first time and the second, in bytes and to the SDKs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.corpus import sample
from tests.gateway.running import Running, serving
from tests.http.streams.test_corpus import events, streams
from tests.http.test_corpus import base_of, given, request_of, sdk_of
from tests.support import ReplayUpstream

Record = dict[str, Any]
EVERY = pytest.mark.parametrize("every", [64, pytest.param(1, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def running(steady_replay: ReplayUpstream) -> Iterator[Running]:
    with serving(steady_replay.url) as running:
        yield running


def own(record: Record) -> dict[str, str]:
    """Headers that keep this record's answers apart: many are recorded with several, and one is a 401."""
    return {"askonce-scope": record["id"], "authorization": f"Bearer {record['id']}"}


@EVERY
def test_every_recorded_answer_is_the_same_bytes_the_first_time_and_the_second(records, steady_replay, running, every):
    tried: Counter[tuple[str, bool]] = Counter()
    with httpx2.Client(timeout=60) as client:
        for record in sample(records, every):
            without = given(client.send(request_of(client, steady_replay.url, record)))
            for _ in range(2):
                came = client.send(request_of(client, running.url, record, **own(record)))
                assert given(came) == without, record["id"]
            tried[record["api"], "hit" in came.headers["cache-status"]] += 1
    assert tried.total() > 3000 // every, tried
    answered = {api for api, hit in tried if hit}
    assert answered >= {"openai.chat", "openai.responses", "anthropic.messages"}, tried
    assert sum(count for (_, hit), count in tried.items() if hit) > 1300 // every, tried


@pytest.mark.slow
def test_every_recorded_stream_is_parsed_by_the_sdks_as_without_the_gateway(records, steady_replay, running):
    tried: Counter[tuple[str, bool]] = Counter()
    with httpx2.Client(timeout=60) as client:
        for record in streams(records):
            aimed, through = base_of(steady_replay.url, record), base_of(running.url, record)
            if aimed is None or through is None or aimed[2] == "/embeddings":
                continue
            body = json.loads(record["request_body"])
            without = events(sdk_of(*aimed, record, client), aimed[2], body)
            sdk = sdk_of(*through, record, client).with_options(
                api_key=record["id"], default_headers={"askonce-scope": f"sdk/{record['id']}"}
            )
            steady_replay.reset()
            for _ in range(2):
                assert events(sdk, aimed[2], body) == without, record["id"]
            tried[aimed[2], steady_replay.calls()["total"] == 1] += 1
    assert {end for end, _ in tried} == {"/chat/completions", "/responses", "/v1/messages"}, tried
    assert tried.total() > 400, tried
    assert sum(count for (_, hit), count in tried.items() if hit) > 280, tried
