"""Every recorded stream, by plain clients and by the real SDKs: without askonce, the first time, and again."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from askonce import Cache
from tests.corpus import by_path, sample
from tests.http.conftest import Record
from tests.http.test_corpus import base_of, given, request_of, sdk_of

EVERY = [16, pytest.param(1, marks=pytest.mark.slow)]
KEPT = 350  # of all streams; the others are truncated, refused, or requested with tools


def streams(records: list[Record]) -> list[Record]:
    """Every streamed interaction of an operation of the table."""
    return [one for one in records if one["stream"] and by_path(one["method"], one["url_path"], one["host"])]


def parts(client: Any, request: Any) -> tuple[Any, list[bytes]]:
    response = client.send(request, stream=True)
    try:
        return response, list(response.iter_bytes())
    finally:
        response.close()


@pytest.mark.parametrize("every", EVERY)
def test_every_recorded_stream_is_the_same_bytes_without_askonce_the_first_time_and_again(
    module, records, steady_replay, every
):
    said: Counter[str] = Counter()
    chosen = sample(streams(records), every)
    with (
        Cache("memory://", max_bytes=2**30) as cache,
        module.Client(timeout=60) as bare,
        cache.http_client(module=module, tenant="test", timeout=60) as client,
    ):
        for record in chosen:
            without = given(bare.send(request_of(bare, steady_replay.url, record)))
            steady_replay.reset()
            with cache.watch() as statuses:
                scope = {"askonce-scope": record["id"]}
                first, one = parts(client, request_of(client, steady_replay.url, record, **scope))
                again, two = parts(client, request_of(client, steady_replay.url, record, **scope))
            for response, body in ((first, one), (again, two)):
                content_type = response.headers.get("content-type")
                assert (response.status_code, b"".join(body), content_type) == without, record["id"]
            assert steady_replay.calls()["total"] == (1 if statuses[1].hit else 2), record["id"]
            if statuses[1].hit:
                assert two == one, record["id"]  # cut at the same place
                assert again.headers["age"] == "0"
            said["hit" if statuses[1].hit else "not"] += 1
    assert said["hit"] >= KEPT // every, said


def events(client: Any, end: str, body: dict[str, Any]) -> list[Any]:
    """The SDK's own parsed events, and the error that ended them."""
    resources = {
        "/chat/completions": (lambda: client.chat.completions, ("model", "messages")),
        "/responses": (lambda: client.responses, ()),
        "/v1/messages": (lambda: client.messages, ("model", "messages", "max_tokens")),
    }
    resource, named = resources[end]
    given = {name: body.get(name) for name in named}
    rest = {name: value for name, value in body.items() if name not in (*named, "stream")}
    found: list[Any] = []
    try:
        with resource().create(**given, stream=True, extra_body=rest) as stream:
            found.extend(stream)
    except (openai.OpenAIError, anthropic.AnthropicError, ValueError) as error:
        found.append((type(error), str(error)))
    return found


@pytest.mark.parametrize("every", EVERY)
def test_the_sdks_parse_the_same_events(records, steady_replay, every):
    tried: Counter[tuple[str, bool]] = Counter()
    with Cache("memory://", max_bytes=2**30) as cache, httpx2.Client() as bare, cache.http_client() as ours:
        for record in sample(streams(records), every):
            aimed = base_of(steady_replay.url, record)
            if aimed is None or aimed[2] == "/embeddings":
                continue
            body = json.loads(record["request_body"])
            without = events(sdk_of(*aimed, record, bare), aimed[2], body)
            sdk = sdk_of(*aimed, record, ours)
            steady_replay.reset()
            with cache.scoped(scope=record["id"]), cache.watch() as statuses:
                assert events(sdk, aimed[2], body) == without, record["id"]
                assert events(sdk, aimed[2], body) == without, record["id"]
            assert steady_replay.calls()["total"] == (1 if statuses[1].hit else 2), record["id"]
            tried[aimed[2], statuses[1].hit] += 1
    assert {end for end, hit in tried if hit} == {"/chat/completions", "/responses", "/v1/messages"}
    assert tried.total() > 400 // every, tried
