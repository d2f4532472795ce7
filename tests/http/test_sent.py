"""What is read from a request: where it goes, whose it is, and which headers count."""

from __future__ import annotations

import base64
import hashlib
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import Policy
from askonce.core import keys
from askonce.engine.planner import Planner
from askonce.events import Events
from askonce.http.credentials import LASTING, binds, covers_body, fingerprint, rotates
from askonce.http.request import SentRequest, name_of, read_headers, target_of, without_ours
from askonce.http.rules import ClientRules

CHAT = "https://api.example/v1/chat/completions"


def jwt(**claims: object) -> str:
    parts = ({"alg": "RS256"}, claims)
    packed = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join((*packed, "c2lnbmF0dXJl"))


def secrets(*headers: tuple[str, str]) -> bytes:
    return read_headers([(name.encode(), value.encode()) for name, value in headers]).secrets


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
    both = [upstream(f"{base}:streamGenerateContent?{query}") for query in ("alt=sse&alt=json", "alt=json&alt=sse")]
    assert both[0] != both[1]


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
    "value",
    [
        *("Bearer sk-proj-abc", "Bearer gsk_1", "Basic dXNlcjpwYXNz", "Bearer AWSish", f"Bearer {jwt(group='me')}"),
        *("bearer sk-1", "Bearer  sk-1", "Api-Key AQVN", "ApiKey bXk=", "Key id:secret", "a1b2c3d4e5", "Bearer ", ""),
    ],
)
def test_a_credential_that_stays_is_no_reason_to_pass(value):
    assert not rotates(secrets(("authorization", value)))


@pytest.mark.parametrize(
    "value",
    [
        *("Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa+g", "NTLM TlRMTVNTUAAB", "Negotiate", "NTLM", "Kerberos abc"),
        'Digest username="me", realm="r", nonce="n", uri="/v1", response="6629fae4", nc=00000001, cnonce="0a4f"',
        'Hawk id="dh37", ts="1353832234", nonce="j4h3g2", mac="6R4r"',
        "DPoP eyJhbGciOiJFUzI1NiJ9",
        "GNAP OS9M2PMHKUR64TB8N6BW7OZB8CDFONP219RP1LT0",
        'MAC id="h480djs93hd8", nonce="264095:dj83hs9s", mac="SLDJd4"',
        'Signature keyId="rsa-key-1",algorithm="hs2019",headers="date",signature="Base64"',
        'OAuth oauth_consumer_key="k", oauth_nonce="n", oauth_timestamp="1"',
        "TC3-HMAC-SHA256 Credential=AKID/2026-11-23/hunyuan/tc3_request, SignedHeaders=host, Signature=1",
        "ACS3-HMAC-SHA256 Credential=k,SignedHeaders=host,Signature=1",
        "bce-auth-v1/ak/2026-11-23T08:23:49Z/1800/host/1d5ce5f46464",
        "EG1-HMAC-SHA256 client_token=a;access_token=b;timestamp=1;nonce=c;signature=d",
        "SharedKey account:signature",
        "HOBA result=1",
        "SCRAM-SHA-256 data=biws",
        'Mutual sid="1"',
        "PrivateToken token=abc",
        "GoogleLogin auth=DQAAA",
        "Bearer v4.public.eyJzdWIiOiJtZSJ9",
        "Bearer bedrock-api-key-YmVkcm9jay5hbWF6b25hd3M",
        f"Bearer hf_oauth_{jwt(exp=1)}",
        "SomethingOfTomorrow abc",
    ],
)
def test_a_scheme_that_is_not_known_to_last_is_taken_to_be_made_anew(value):
    assert rotates(secrets(("Authorization", value)))


@given(st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=12))
def test_any_scheme_but_those_that_last_is_taken_to_be_made_anew(scheme):
    assert rotates(secrets(("authorization", f"{scheme} abc123"))) == (scheme.lower().encode() not in LASTING)


@pytest.mark.parametrize("name", ["Signature", "Signature-Input", "DPoP", "X-Amz-Security-Token"])
def test_a_proof_beside_a_key_is_made_anew_too(name):
    assert rotates(secrets(("authorization", "Bearer sk-1"), (name, "sig1=:K2qGT5:")))


def test_a_ticket_signs_in_the_connection_and_a_key_does_not():
    for value, bound in (
        ("NTLM TlRM", True),
        ("negotiate YII", True),
        ("Bearer sk-1", False),
        ("Basic bnRsbQ==", False),
    ):
        assert binds([(b"Accept", b"*/*"), (b"Authorization", value.encode())]) == bound


SIGNING = (
    *(
        "Digest",
        "repr-digest",
        "signature",
        "x-amz-content-sha256",
        "x-amz-checksum-crc32c",
        "x-goog-hash",
        "X-Signature",
    ),
    *("X-Hub-Signature-256", "x-body-hmac", "X-Sig", "x_content_sha1", "x-payload-mac", "X-Request-Proof", "x-md5"),
)


@pytest.mark.parametrize(
    ("signed", "headers"),
    [
        (False, [("authorization", "Bearer sk-1"), ("content-length", "3")]),
        (True, [("authorization", "AWS4-HMAC-SHA256 Credential=A, SignedHeaders=host, Signature=1")]),
        (True, [("authorization", "TC3-HMAC-SHA256 Credential=A, SignedHeaders=host, Signature=1")]),
        (True, [("authorization", "Bearer sk-1"), ("content-digest", "sha-256=:X48E9q:")]),
        (True, [("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ==")]),
        (True, [("authorization", "Bearer sk-1"), ("Signature-Input", 'sig1=("content-digest")')]),
        *[(True, [("authorization", "Bearer sk-1"), (name, "9f2c")]) for name in SIGNING],
        *[
            (False, [("authorization", "Bearer sk-1"), (name, "9f2c")])
            for name in ("x-signal", "x-design", "x-machine")
        ],
    ],
)
def test_what_is_signed_with_its_body_is_known(signed, headers):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert covers_body(raw, secrets(*headers)) == signed


def test_aws_session_tokens_and_presigned_urls_rotate():
    assert rotates(secrets(("x-amz-security-token", "FwoG")))
    for query in (
        "X-Amz-Signature=1&X-Amz-Date=2",
        "X-Goog-Signature=1",
        "access_token=ya29.a0Af",
        f"key={jwt(exp=1)}",
    ):
        target = target_of("POST", f"{CHAT}?{query}")
        assert target is not None
        assert rotates(target.secrets)


# --- which headers count ---


def test_headers_count_unless_their_class_says_otherwise():
    found = read_headers(
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
    assert read_headers(headers).ours == {"askonce-scope": "a", "cache-control": "no-cache", "askonce-new": "?"}
    assert without_ours(headers) == [(b"X-A", b"1")]


def test_what_a_signature_covers_stays_on():
    signed = b"AWS4-HMAC-SHA256 Credential=A, SignedHeaders=askonce-scope;host, Signature=1"
    headers = [(b"askonce-scope", b"a"), (b"askonce-tags", b"t"), (b"authorization", signed)]
    assert without_ours(headers) == [(b"askonce-scope", b"a"), (b"authorization", signed)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"Signature-Input", b'sig1=("@method" "Askonce-Scope";req "content-digest");created=1618884473;keyid="k"'),
        (b"Authorization", b'Signature keyId="k",headers="(request-target) host askonce-scope",signature="x"'),
        (b"Signature", b'keyId="k",headers="askonce-scope",signature="x"'),
        (b"Authorization", b"ACS3-HMAC-SHA256 Credential=k,SignedHeaders=askonce-scope;host,Signature=1"),
    ],
)
def test_what_any_kind_of_signature_covers_stays_on(name, value):
    headers = [(b"askonce-scope", b"a"), (b"askonce-tags", b"t"), (name, value)]
    assert without_ours(headers) == [(b"askonce-scope", b"a"), (name, value)]


def test_two_values_that_differ_in_a_byte_are_two():
    one, other = read_headers([(b"x-user", "é".encode())]), read_headers([(b"x-user", "é".encode("latin-1"))])
    assert one.counts != other.counts


def test_a_secret_is_named_by_its_header_and_a_cookie_by_its_own_name():
    assert [name_of(one) for one in (b"authorization:Bearer k", b"cookie:Session=a=b", b"x-api-key:k")] == [
        *("authorization", "cookie:session", "x-api-key")
    ]


ALWAYS = [  # headers, those that count, and the credential: as before values and members were judged
    ([], [], b""),
    ([("X-Own", "1"), ("x-own", "2")], [("x-own", "1"), ("x-own", "2")], b""),
    ([("anthropic-version", "2023-06-01"), ("x-api-key", "k")], [("anthropic-version", "2023-06-01")], b"x-api-key:k"),
    (
        [("Authorization", "Basic dXNlcjpwYXNz"), ("Cookie", "session=me; a=b; __cf_bm=1"), ("x-portkey-config", "c")],
        [("x-portkey-config", "c")],
        b"authorization:Basic dXNlcjpwYXNz\ncookie:session=me\ncookie:a=b",
    ),
    ([("Cookie", "s=1"), ("Authorization", "Bearer sk-1")], [], b"cookie:s=1\nauthorization:Bearer sk-1"),
    (
        [
            *(("User-Agent", "a"), ("Accept", "application/json"), ("Content-Type", "application/json")),
            *(("x-stainless-lang", "python"), ("Accept-Encoding", "gzip"), ("Host", "api.example"), ("b3", "1")),
        ],
        [],
        b"",
    ),
]


@pytest.mark.parametrize(("headers", "counts", "secret"), ALWAYS)
def test_a_request_of_headers_that_always_counted_keeps_its_key(monkeypatch, headers, counts, secret):
    made: list[tuple[list[tuple[str, str]], str]] = []
    digest = keys.digest
    monkeypatch.setattr(keys, "digest", lambda **of: made.append((list(of["headers"]), of["tenant"])) or digest(**of))
    raw = [(name.encode(), value.encode()) for name, value in headers]
    body = b'{"messages":[{"content":"hi","role":"user"}],"model":"m"}'
    ClientRules(Planner("p", "", Policy(), {}, "on"), Events(), "on").read(SentRequest("POST", CHAT, raw, body))
    assert made == [(counts, hashlib.sha256(secret).hexdigest() if secret else "")]
