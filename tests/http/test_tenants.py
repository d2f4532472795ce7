"""No tenant ever gets another's answer, and a refusal reaches only its addressee."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from askonce import Cache
from askonce.http.credentials import challenges
from tests.crowd import gathered
from tests.http.conftest import CHAT
from tests.http.test_requests import ANSWER, URL
from tests.http.test_sent import jwt
from tests.http.upstreams import Scripted

REVOKED = {"Bearer sk-revoked", "Bearer sk-wrong"}


def asked_by(request: Any) -> str:
    return str(request.headers.get("authorization"))


def door(module: Any, refusal: int = 401) -> Scripted:
    """An upstream that says who asked, and refuses those it does not know, or sends them to where they sign in."""

    def answer(request: Any) -> Any:
        if asked_by(request) in REVOKED:
            error = {"error": {"message": "Incorrect API key", "type": "invalid"}}
            return module.Response(refusal, json=error, headers={"location": "https://sign.in/?who=1"})
        return module.Response(200, json={**ANSWER, "for": asked_by(request)})

    return Scripted(module, answer)


def ask(client: Any, who: str) -> Any:
    return client.post(URL, json=CHAT, headers={"authorization": who})


@pytest.fixture
def inner(module):
    return door(module)


def test_two_credentials_never_share_and_a_revoked_one_gets_its_refusal(module, cache, inner):
    with cache.http_client(module=module, inner=inner) as client:
        for _ in range(2):
            assert ask(client, "Bearer sk-1").json()["for"] == "Bearer sk-1"
            assert ask(client, "Bearer sk-2").json()["for"] == "Bearer sk-2"
            assert ask(client, "Bearer sk-revoked").status_code == 401
    assert [asked_by_line(one) for one in inner.requests] == ["1", "2", "revoked", "revoked"]


def asked_by_line(seen: Any) -> str:
    return str(dict(seen.headers)[b"authorization"].decode().removeprefix("Bearer sk-"))


@pytest.mark.parametrize("named", ["client", "cache", "context"])
def test_a_tenant_that_is_named_shares_whatever_its_credentials(module, inner, named):
    tenants = {where: "us" if where == named else None for where in ("client", "cache", "context")}
    with (
        Cache("memory://", tenant=tenants["cache"] or "") as cache,
        cache.http_client(module=module, inner=inner, tenant=tenants["client"]) as client,
        cache.scoped(tenant=tenants["context"]),
    ):
        assert ask(client, "Bearer sk-1").json() == ask(client, "Bearer sk-2").json()
    assert len(inner.requests) == 1


def test_two_named_tenants_never_share(module, cache, inner):
    clients = [cache.http_client(module=module, inner=inner, tenant=tenant) for tenant in ("us", "them")]
    for client in clients:
        ask(client, "Bearer sk-1")
    assert len(inner.requests) == 2


@pytest.mark.parametrize("refusal", [401, 302, 307])
def test_a_refusal_is_not_shared_with_the_other_credentials_of_a_tenant(module, cache, refusal):
    """A leader with a wrong key, and followers of the same tenant with the right one and with another wrong one."""
    gate = threading.Event()
    inner = door(module, refusal)
    answer = inner.answer

    def slow(request: Any) -> Any:
        if asked_by(request) == "Bearer sk-wrong" and len(inner.requests) == 1:
            assert gate.wait(60)
        return answer(request)

    inner.answer = slow
    client = cache.http_client(module=module, inner=inner, tenant="us", follow_redirects=False)
    got: dict[str, Any] = {}

    def asking(name: str, who: str) -> threading.Thread:
        thread = threading.Thread(target=lambda: got.update({name: ask(client, who)}))
        thread.start()
        return thread

    threads = [asking("leader", "Bearer sk-wrong")]
    gathered(cache, 1)
    threads += [asking("same", "Bearer sk-wrong"), asking("good", "Bearer sk-1"), asking("other", "Bearer sk-revoked")]
    gathered(cache, 4)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert got["leader"].status_code == got["same"].status_code == refusal
    assert got["good"].json()["for"] == "Bearer sk-1"
    # A caller with another wrong key asked again, or found what the good key had stored.
    assert got["other"].status_code in {200, refusal}
    assert [asked_by_line(one) for one in inner.requests].count("wrong") == 1


@pytest.mark.parametrize("tenant", ["", "us"])
def test_a_challenge_is_its_callers_alone(module, tenant):
    gate, fresh, taken_up = threading.Event(), iter(range(100)), set()

    def answer(request: Any) -> Any:
        shown = str(request.headers.get("authorization", ""))
        nonce = shown.partition('nonce="')[2].partition('"')[0]
        if nonce and nonce not in taken_up:
            taken_up.add(nonce)
            return module.Response(200, json=ANSWER, headers={"authentication-info": f'nextnonce="{nonce}"'})
        asks = {"www-authenticate": f'Digest realm="r", qop="auth", algorithm=MD5, nonce="{next(fresh)}"'}
        assert gate.wait(60)
        return module.Response(401, json={}, headers=asks)

    with (
        Cache("memory://", tenant=tenant) as cache,
        cache.http_client(module=module, inner=Scripted(module, answer)) as client,
    ):
        got: list[Any] = []
        asking = [
            threading.Thread(target=lambda: got.append(client.post(URL, json=CHAT, auth=module.DigestAuth("me", "pw"))))
            for _ in range(4)
        ]
        for thread in asking:
            thread.start()
        gathered(cache, 4)
        gate.set()
        for thread in asking:
            thread.join(60)
        last = client.post(URL, json=CHAT, auth=module.DigestAuth("me", "pw"))
    assert [one.status_code for one in (*got, last)] == [200] * 5
    assert ("hit" in last.headers.get("cache-status", "")) is bool(tenant)
    assert ("authentication-info" in last.headers) is not bool(tenant)


@pytest.mark.parametrize(
    ("said", "alone"),
    [
        (["Bearer"], False),
        (['Bearer realm="x", error="invalid_token"', 'Basic realm="x"'], False),
        ([], False),
        (["Negotiate"], True),
        (["Basic realm=x", "NTLM TlRMTVNTUAAC"], True),
        (['Basic realm="x", Digest nonce="a"'], True),
        (["HOBA max-age=9, challenge=a"], True),
        ([""], True),
    ],
)
def test_only_challenges_that_say_the_same_to_all_are_shared(said, alone):
    assert challenges([(b"WWW-Authenticate", one.encode()) for one in said]) is alone


@pytest.mark.parametrize(
    "credential",
    [
        {"authorization": f"Bearer {jwt(exp=2_000_000_000)}"},
        {"authorization": "AWS4-HMAC-SHA256 Credential=A/20261123/eu/bedrock/aws4_request, SignedHeaders=host"},
        {"authorization": "Bearer ya29.abc"},
    ],
)
def test_a_credential_that_rotates_passes_with_one_warning_unless_a_tenant_is_named(module, cache, caplog, credential):
    inner = door(module)
    with cache.watch() as seen, cache.http_client(module=module, inner=inner, headers=credential) as client:
        client.post(URL, json=CHAT)
        client.post(URL, json=CHAT)
    assert [status.detail for status in seen] == ["tenant-needed"] * 2
    assert ["tenant=" in record.message for record in caplog.records] == [True]
    with cache.http_client(module=module, inner=inner, headers=credential, tenant="us") as client:
        client.post(URL, json=CHAT)
        client.post(URL, json=CHAT)
    assert len(inner.requests) == 3


def test_a_key_in_the_query_is_a_credential_too(module, cache, inner):
    url = "https://g.example/v1beta/models/gemini-2.5-flash:generateContent?key="
    with cache.http_client(module=module, inner=inner) as client:
        for key in ("one", "two", "one"):
            client.post(url + key, json={"contents": [{"parts": [{"text": "hi"}]}]})
    assert len(inner.requests) == 3  # the gateway's answers are not Gemini's, and not stored: the key is what counts
    with cache.watch() as seen, cache.http_client(module=module, inner=inner) as client:
        for key in ("one", "two", "one"):
            client.post(url + key, json={"contents": [{"parts": [{"text": "hi"}]}]})
    assert seen[0].key == seen[2].key != seen[1].key


def setting(module: Any, *names: str) -> Scripted:
    """An upstream that sets cookies of these names to a new value with every answer."""
    made = iter(range(1000))

    def answer(request: Any) -> Any:
        cookies = [("set-cookie", f"{name}={next(made)}; path=/") for name in names]
        return module.Response(200, headers=cookies, stream=module.ByteStream(json.dumps(ANSWER).encode()))

    return Scripted(module, answer)


def test_cookies_of_balancers_do_not_make_every_call_a_new_question(module, cache):
    inner = setting(module, "_cfuvid", "AWSALB", "visid_incap_77")
    with cache.http_client(module=module, inner=inner, headers={"x-api-key": "k"}) as client:
        for question in ("a", "a", "b", "a", "b"):
            client.post(URL, json={**CHAT, "seed": ord(question)})
    assert len(inner.requests) == 2


def test_a_cookie_that_the_caller_brought_tells_callers_apart(module, cache, inner):
    for who in ("me", "you"):
        with cache.http_client(module=module, inner=inner, cookies={"session": who}) as client:
            client.post(URL, json=CHAT)
    assert len(inner.requests) == 2


def test_no_credential_is_found_in_what_is_stored(module, tmp_path):
    secret = "sk-very-secret-1"
    inner = Scripted(module, lambda _: module.Response(200, json=ANSWER))
    with (
        Cache(f"sqlite:///{tmp_path}/askonce.db") as cache,
        cache.http_client(module=module, inner=inner) as client,
    ):
        ask(client, f"Bearer {secret}")
        assert "hit" in ask(client, f"Bearer {secret}").headers["cache-status"]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"chat.completion" in kept
    assert secret.encode() not in kept
