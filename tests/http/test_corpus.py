"""Recorded traffic through plain clients of both modules, and through the real SDKs: only the price changes."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from askonce import Cache
from askonce.events import Status
from tests.corpus import by_path, sample
from tests.http.conftest import Record
from tests.http.upstreams import Noting, Seen

EVERY = [32, pytest.param(1, marks=pytest.mark.slow)]
UNSENT = {"host", "content-length", "accept-encoding", "connection"}


def plain(records: list[Record]) -> list[Record]:
    """Every interaction of an operation of the table that is not a stream."""
    return [one for one in records if not one["stream"] and by_path(one["method"], one["url_path"], one["host"])]


def request_of(client: Any, base: str, record: Record, **more: str) -> Any:
    headers = {name: value for name, value in record["request_headers"].items() if name.lower() not in UNSENT}
    headers = {"authorization": "Bearer sk-test", "x-replay-host": record["host"], **headers, **more}
    return client.build_request(
        record["method"], base + record["url_path"], content=(record["request_body"] or "").encode(), headers=headers
    )


def given(response: Any) -> tuple[int, bytes, str | None]:
    return response.status_code, response.content, response.headers.get("content-type")


def without_ours(seen: Seen) -> Seen:
    """With its headers as a set of lines: they are compared with those of a request that had none of ours."""
    return seen._replace(headers=sorted(pair for pair in seen.headers if not pair[0].lower().startswith(b"askonce-")))


@pytest.mark.parametrize("every", EVERY)
def test_every_recorded_interaction_is_the_same_with_askonce_and_without_the_first_time_and_the_second(
    module, every, records, steady_replay
):
    verdicts: Counter[str] = Counter()
    noting = Noting(module)
    with (
        Cache("memory://", max_bytes=2**30) as cache,
        module.Client(timeout=60) as bare,
        cache.http_client(module=module, inner=noting, tenant="test", timeout=60) as client,
    ):
        for record in sample(plain(records), every):
            asked = request_of(bare, steady_replay.url, record)
            without = given(bare.send(asked))
            sent = Seen(asked.method, str(asked.url), asked.headers.raw, asked.read())
            statuses: list[Status] = []
            for _ in range(2):
                scoped = request_of(client, steady_replay.url, record, **{"askonce-scope": record["id"]})
                with cache.watch() as seen:
                    assert given(client.send(scoped)) == without, record["id"]
                statuses = seen  # one for each input of a batch
            hit = all(status.hit for status in statuses)
            assert all(without_ours(one) == without_ours(sent) for one in noting.requests), record["id"]
            assert len(noting.requests) == (1 if hit else 2), record["id"]
            noting.requests.clear()
            verdicts["hit" if hit else statuses[0].detail] += 1
    assert verdicts["hit"] > 1000 // every


# --- through the SDKs ---

ENDS = ("/chat/completions", "/responses", "/embeddings", "/v1/messages")


def base_of(url: str, record: Record) -> tuple[str, dict[str, str], str] | None:
    """base_url, query and operation for the SDK that sends this request; None where there is none here."""
    path, _, query = record["url_path"].partition("?")
    end = next((end for end in ENDS if path.endswith(end)), None)
    if end is None or record["method"] != "POST" or not isinstance(json.loads(record["request_body"]), dict):
        return None
    return url + path.removesuffix(end), dict(pair.split("=") for pair in query.split("&") if pair), end


def call(client: Any, end: str, body: dict[str, Any]) -> Any:
    """The SDK's own parsed answer, or the status and body of its error; and what it can say of the response."""
    kinds = {
        "/chat/completions": (lambda: client.chat.completions, ("model", "messages")),
        "/responses": (lambda: client.responses, ()),
        "/embeddings": (lambda: client.embeddings, ("model", "input")),
        "/v1/messages": (lambda: client.messages, ("model", "messages", "max_tokens")),
    }
    resource, named = kinds[end]
    given = {name: body.get(name) for name in named}
    rest = {name: value for name, value in body.items() if name not in named}
    try:
        raw = resource().with_raw_response.create(**given, extra_body=rest)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return error.status_code, error.response.content, str(error)
    return raw.status_code, raw.http_response.content, raw.parse()


def sdk_of(base: str, query: dict[str, str], end: str, record: Record, http_client: Any = None) -> Any:
    kind: Any = anthropic.Anthropic if end == "/v1/messages" else openai.OpenAI
    betas = {name: value for name, value in record["request_headers"].items() if name == "anthropic-beta"}
    more: Any = {"default_headers": {"x-replay-host": record["host"], **betas}, "http_client": http_client}
    return kind(base_url=base, api_key="k", max_retries=0, timeout=60, default_query=query, **more)


@pytest.mark.parametrize("every", EVERY)
def test_the_sdks_parse_the_same_answers_and_raise_the_same_errors(records, steady_replay, every):
    tried: Counter[str] = Counter()
    with Cache("memory://", max_bytes=2**30) as cache, httpx2.Client() as bare, cache.http_client() as ours:
        for record in sample(plain(records), every):
            aimed = base_of(steady_replay.url, record)
            if aimed is None or (body := json.loads(record["request_body"])).get("stream"):
                continue
            without = call(sdk_of(*aimed, record, bare), aimed[2], body)
            sdk = sdk_of(*aimed, record, ours)
            with cache.scoped(scope=record["id"]):
                assert call(sdk, aimed[2], body) == without, record["id"]
                assert call(sdk, aimed[2], body) == without, record["id"]
            tried[aimed[2]] += 1
    assert tried.total() > 1500 // every, tried
