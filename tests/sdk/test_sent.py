"""What is read from a request: where it goes, whose it is, and what of its headers counts."""

from __future__ import annotations

import base64
import json

import pytest

from askonce.http.sent import carried, fingerprint, less_ours, rotates, target_of

CHAT = "https://api.example/v1/chat/completions"


def jwt(**claims: object) -> str:
    parts = ({"alg": "RS256"}, claims)
    packed = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join((*packed, "c2lnbmF0dXJl"))


def secrets(*headers: tuple[str, str]) -> bytes:
    return carried([(name.encode(), value.encode()) for name, value in headers]).secrets


# --- where it goes ---


def upstream(url: str) -> str:
    target = target_of("POST", url)
    assert target is not None
    return target.upstream


def test_host_path_and_query_count_but_not_who_asks():
    assert upstream(CHAT) == "https://api.example/v1/chat/completions?"
    assert upstream(CHAT) != upstream(CHAT.replace("https", "http"))
    assert upstream(CHAT) != upstream(CHAT.replace("example", "other"))
    assert upstream(f"{CHAT}?api-version=1") != upstream(f"{CHAT}?api-version=2")
    assert upstream("https://me:secret@api.example/v1/chat/completions") == upstream(CHAT)
    assert upstream(f"{CHAT}?key=secret&a=1") == upstream(f"{CHAT}?a=1")


def test_a_key_in_the_query_is_a_credential():
    url = "https://g.example/v1beta/models/gemini-2.5-flash:generateContent?key=AIza123"
    target = target_of("POST", url)
    assert target is not None
    assert b"AIza123" in target.secrets
    assert "AIza123" not in target.upstream


def test_how_a_stream_is_framed_is_no_part_of_the_question():
    base = "https://g.example/v1beta/models/gemini-2.5-flash"
    assert upstream(f"{base}:streamGenerateContent?alt=sse") == upstream(f"{base}:generateContent")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/files", "/v1/chat", "/v1/audio/transcriptions"])
def test_what_is_no_operation_of_ours_has_no_target(path):
    assert target_of("POST", f"https://api.example{path}") is None
    assert target_of("GET", CHAT) is None


# --- whose it is ---


def test_credentials_are_told_apart_and_never_kept():
    one, other = secrets(("Authorization", "Bearer sk-1")), secrets(("Authorization", "Bearer sk-2"))
    assert fingerprint(one) != fingerprint(other)
    assert "sk-1" not in fingerprint(one)
    assert fingerprint(secrets(("accept", "*/*"))) == ""
    assert fingerprint(secrets(("x-api-key", "k"))) != fingerprint(secrets(("api-key", "k")))


def test_cookies_that_balancers_hand_out_are_nobodys_credential():
    cookies = "__cf_bm=abc; _cfuvid=1.2-604800000; AWSALBCORS=x; ARRAffinitySameSite=y"
    assert secrets(("cookie", cookies)) == b""
    assert secrets(("cookie", f"{cookies}; session=me")) == secrets(("cookie", "session=me")) != b""


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {jwt(sub='me', exp=1_800_000_000)}",
        "Bearer eyJhbGciOiJkaXIifQ.not-to-be-read.x.y.z",
        "Bearer ya29.a0AfH6SMBx",
        "Bearer sk-ant-oat01-abc",
        "Bearer ghu_16C7e42F292c6912E7710c838347Ae178B4a",
        "tid=abc;exp=1700000000;sku=copilot",
        "AWS4-HMAC-SHA256 Credential=AKIA/20261123/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=1",
    ],
)
def test_a_credential_that_is_replaced_every_so_often_is_noticed(value):
    assert rotates(secrets(("authorization", value)))
    assert rotates(secrets(("accept", "*/*"), ("authorization", value), ("x-api-key", "k")))


@pytest.mark.parametrize(
    "value", ["Bearer sk-proj-abc", "Bearer gsk_1", "Basic dXNlcjpwYXNz", "Bearer AWSish", f"Bearer {jwt(group='me')}"]
)
def test_a_credential_that_stays_is_no_reason_to_pass(value):
    assert not rotates(secrets(("authorization", value)))


def test_aws_session_tokens_and_presigned_urls_rotate():
    assert rotates(secrets(("x-amz-security-token", "FwoG")))
    target = target_of("POST", "https://b.example/model/anthropic.claude-v2/invoke?X-Amz-Signature=1&X-Amz-Date=2")
    assert target is not None
    assert rotates(target.secrets)


# --- which headers count ---


def test_headers_count_unless_their_class_says_otherwise():
    found = carried(
        [
            *((b"User-Agent", b"x"), (b"X-Stainless-Retry-Count", b"1"), (b"Traceparent", b"00-1")),
            *((b"Anthropic-Beta", b"a"), (b"X-My-Own", b"1"), (b"X-Mine-Too", b"2")),
        ],
        {"x-mine-too"},
    )
    assert found.counts == (("anthropic-beta", "a"), ("x-my-own", "1"))
    assert found.unknown == ("x-my-own",)


def test_what_is_said_to_us_is_taken_off():
    headers = [(b"Askonce-Scope", b"a"), (b"Cache-Control", b"no-cache"), (b"X-A", b"1"), (b"askonce-new", b"?")]
    assert carried(headers).ours == {"askonce-scope": "a", "cache-control": "no-cache", "askonce-new": "?"}
    assert less_ours(headers) == [(b"X-A", b"1")]


def test_what_a_signature_covers_stays_on():
    signed = b"AWS4-HMAC-SHA256 Credential=A, SignedHeaders=askonce-scope;host, Signature=1"
    headers = [(b"askonce-scope", b"a"), (b"askonce-tags", b"t"), (b"authorization", signed)]
    assert less_ours(headers) == [(b"askonce-scope", b"a"), (b"authorization", signed)]
