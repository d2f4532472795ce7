"""Bedrock over HTTP: Converse and InvokeModel, in one piece and in AWS's frames, kept and replayed to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from askonce import Cache
from askonce.core.providers.eventstream import CONTENT_TYPE
from tests.core.aws import claude, converse, failure, nova

HOST = "https://bedrock-runtime.us-east-1.amazonaws.com"
NOVA = "us.amazon.nova-lite-v1%3A0"
ARN = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3A{}%2Fabc123"
KEY = {"authorization": "Bearer ABSKQmVkcm9ja0FQSUtleQ"}  # a lasting key: AWS_BEARER_TOKEN_BEDROCK
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "Where?"}]}]}
CLAUDE: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Where?"}],
}
SAID = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Paris."}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 2},
}
FRAMES = {"content-type": CONTENT_TYPE, "x-amzn-requestid": "r"}


@pytest.fixture
def client(cache, talking):
    talking.headers = FRAMES
    with cache.http_client(module=talking.module, inner=talking, headers=KEY) as client:
        yield client


def post(cache: Cache, client: Any, path: str, body: Any, **more: Any) -> tuple[list[bytes], Any]:
    """The parts of the answer, and the status of the lookup."""
    with cache.watch() as seen, client.stream("POST", HOST + path, json=body, **more) as response:
        parts = list(response.iter_bytes())
    return parts, seen[0]


STREAMS = [
    (f"/model/{NOVA}/converse-stream", ASKED, converse("Paris in France.")),
    (f"/model/{NOVA}/invoke-with-response-stream", {**ASKED, "schemaVersion": "messages-v1"}, nova("Paris in France.")),
    ("/model/us.anthropic.claude-opus-4-8/invoke-with-response-stream", CLAUDE, claude("Paris in France.")),
    *(
        (f"/model/{ARN.format(kind)}/converse-stream", ASKED, converse())
        for kind in ("application-inference-profile", "provisioned-model", "imported-model")
    ),
]


@pytest.mark.parametrize(("path", "body", "frames"), STREAMS)
def test_a_stream_is_paid_once_and_replayed_in_the_very_parts_in_which_it_came(
    cache, client, talking, path, body, frames
):
    talking.tell(*frames)
    first, paid = post(cache, client, path, body)
    again, kept = post(cache, client, path, body)
    assert first == again == frames
    assert (paid.hit, kept.hit) == (False, True)
    assert len(talking.lines) == 1


@pytest.mark.parametrize(
    ("reason", "frames"),
    [
        ("truncated", converse(finish="max_tokens")),
        ("incomplete", converse()[:-1]),
        ("incomplete", [*converse()[:-1], converse()[-1][:-1]]),
        ("error", [*converse()[:3], failure("throttlingException", "slow down")]),
        ("filtered", converse(finish="guardrail_intervened")),
    ],
)
def test_a_stream_that_is_not_whole_passes_through_and_is_not_kept(cache, client, talking, reason, frames):
    talking.tell(*frames)
    for _ in range(2):
        parts, status = post(cache, client, f"/model/{NOVA}/converse-stream", ASKED)
        assert b"".join(parts) == b"".join(frames)
        assert not status.hit
    assert cache.stats()[f"unstored.{reason}"] == 2
    assert len(talking.lines) == 2


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (f"/model/{NOVA}/converse", ASKED, SAID),
        (f"/model/{NOVA}/invoke", {**ASKED, "inferenceConfig": {"maxTokens": 9}}, SAID),
        (f"/model/{ARN.format('application-inference-profile')}/converse", ASKED, SAID),
        (
            "/model/anthropic.claude-3-haiku-20240307-v1:0/invoke",
            CLAUDE,
            {"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "Paris."}]},
        ),
    ],
)
def test_an_answer_in_one_piece_is_kept_by_its_own_shape(cache, client, talking, path, body, answer):
    talking.headers = {"content-type": "application/json"}
    talking.tell(json.dumps(answer).encode())
    statuses = [post(cache, client, path, body)[1] for _ in range(2)]
    assert [status.hit for status in statuses] == [False, True]


def test_a_stream_and_an_answer_in_one_piece_never_stand_for_each_other(cache, talking):
    """SDKs read AWS's frames from the one and JSON from the other."""
    talking.headers = FRAMES
    talking.tell(*claude())
    base = "/model/us.anthropic.claude-opus-4-8/invoke"
    with cache.http_client(module=talking.module, inner=talking, headers=KEY, share_forms=True) as client:
        post(cache, client, f"{base}-with-response-stream", CLAUDE)
        assert not post(cache, client, base, CLAUDE)[1].hit
        assert post(cache, client, f"{base}-with-response-stream", CLAUDE)[0] == claude()


def test_a_signature_or_a_key_of_some_hours_names_nobody_so_a_tenant_is_needed(cache, talking):
    talking.headers = FRAMES
    talking.tell(*converse())
    path = f"/model/{NOVA}/converse-stream"
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=A/20261123/us-east-1/bedrock/aws4_request, Signature=1"}
    with cache.http_client(module=talking.module, inner=talking) as client:
        assert post(cache, client, path, ASKED, headers=signed)[1].detail == "tenant-needed"
    with cache.http_client(module=talking.module, inner=talking, tenant="us") as client:
        hits = [
            post(cache, client, path, ASKED, headers={**signed, "x-amz-date": date})[1].hit for date in ("one", "two")
        ]
    assert hits == [False, True]


def test_only_if_cached_is_answered_in_awss_shape(client):
    response = client.post(f"{HOST}/model/{NOVA}/converse", json=ASKED, headers={"cache-control": "only-if-cached"})
    assert response.status_code == 504
    assert "only-if-cached" in response.json()["message"]
    assert response.headers["x-amzn-errortype"] == "not_cached"


def test_store_if_is_given_the_events(cache, talking):
    talking.headers = FRAMES
    talking.tell(*converse("Paris in France."))
    given: list[Any] = []

    def kept(values: Any) -> bool:
        given.append(values)
        return True

    with cache.http_client(module=talking.module, inner=talking, headers=KEY, store_if=kept) as client:
        post(cache, client, f"/model/{NOVA}/converse-stream", ASKED)
    (values,) = given
    assert values[0] == {"messageStart": {"role": "assistant"}}
    assert list(values[-1]) == ["metadata"]
