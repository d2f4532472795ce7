"""Who may have what: stored answers, and the credentials of those who ask for them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from askonce.gateway.tenant_file import digest_of
from tests.crowd import eventually
from tests.gateway.asking import Provider, ask, configured, told, was_hit
from tests.gateway.running import CLIENT, Running, Tap, answer

SHARED = "[tenants]\nby = 'shared'\n"


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def tap(provider):
    with Tap(provider) as tap:
        yield tap


def test_by_default_a_stored_answer_goes_only_to_the_credential_that_paid(tmp_path, tap, provider):
    with Running(configured(tmp_path, tap, "")) as running:
        assert told(ask(running, "sk-a")) == "answer 1"
        assert was_hit(ask(running, "sk-a"))
        assert told(ask(running, "sk-b")) == "answer 2"
        for unknown in ("sk-x", None):
            assert ask(running, unknown).status_code == 401
    assert provider.calls == 2


def test_a_shared_answer_goes_to_a_credential_only_after_upstream_accepted_it(tmp_path, tap, provider):
    with Running(configured(tmp_path, tap, SHARED)) as running:
        assert told(ask(running, "sk-a")) == "answer 1"
        first = ask(running, "sk-b")
        assert told(first) == "answer 2"
        assert "detail=unverified" in first.headers["cache-status"]
        for key in ("sk-a", "sk-b"):
            again = ask(running, key)
            assert was_hit(again)
            assert told(again) == "answer 2"
        for unknown in ("sk-x", None):
            assert ask(running, unknown).status_code == 401


@pytest.mark.parametrize("control", ["only-if-cached", "max-stale=86400", "stale-if-error=86400"])
def test_no_directive_gets_a_shared_answer_for_an_unknown_credential(tmp_path, tap, provider, control):
    with Running(configured(tmp_path, tap, SHARED)) as running:
        ask(running, "sk-a")
        said = ask(running, "sk-x", cache_control=control)
        assert said.status_code in {401, 504}
        provider.down = True
        said = ask(running, "sk-y", cache_control=control)
        assert said.status_code in {503, 504}
        assert "answer 1" not in said.text


def test_an_accepted_credential_is_known_for_its_endpoint_and_model_alone(tmp_path, tap, provider):
    with Running(configured(tmp_path, tap, SHARED)) as running:
        ask(running, "sk-a", model="gpt-4o")
        ask(running, "sk-a", model="o3")
        ask(running, "sk-b", model="gpt-4o", text="other")
        assert was_hit(ask(running, "sk-b", model="gpt-4o"))
        assert not was_hit(ask(running, "sk-b", model="o3"))


ERROR = b'{"error":{"message":"invalid api key","type":"invalid_request_error"}}'
LATE = (
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
)
ODD = {
    "not found": answer(b"{}", "404 Not Found"),
    "too many": answer(b"{}", "429 Too Many Requests"),
    "bad request": answer(b"{}", "400 Bad Request"),
    "forbidden": answer(b"{}", "403 Forbidden"),
    "moved": answer(b"{}", "302 Found", {"location": "/login"}),
    "accepted": answer(b"{}", "202 Accepted"),
    "a page to sign in": answer(b"<html>sign in</html>", kind="text/html"),
    "an error in a 200": answer(ERROR),
    "an error in a stream": answer(b"data: " + ERROR + b"\n\ndata: [DONE]\n\n", kind="text/event-stream"),
    "an error late in a stream": answer(LATE + b"data: " + ERROR + b"\n\n", kind="text/event-stream"),
    "a stream that ends early": answer(LATE, kind="text/event-stream"),
    "nothing": answer(b""),
    "an empty object": answer(b"{}"),
}


OFTEN = {"an error in a 200", "an error late in a stream", "too many", "a page to sign in"}


@pytest.mark.parametrize("odd", [one if one in OFTEN else pytest.param(one, marks=pytest.mark.slow) for one in ODD])
def test_what_may_be_said_without_looking_at_the_credential_makes_nobody_known(tmp_path, provider, odd):
    def says(heard):
        return ODD[odd] if b"odd" in heard.body else provider(heard)

    with Tap(says) as tap, Running(configured(tmp_path, tap, SHARED)) as running:
        ask(running, "sk-a")
        ask(running, "sk-x", text="odd", more={"stream": True} if "stream" in odd else {})
        assert ask(running, "sk-x").status_code == 401


STREAM = (
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"answer 1"},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def test_a_stream_makes_its_credential_known_at_its_end(tmp_path, provider):
    def says(heard):
        said = provider(heard)
        return answer(STREAM, kind="text/event-stream") if b" 200 " in said[:20] else said

    with Tap(says) as tap, Running(configured(tmp_path, tap, SHARED)) as running:
        for key in ("sk-a", "sk-b", "sk-b"):
            last = ask(running, key, more={"stream": True})
            assert last.content == STREAM
        assert was_hit(last)
        assert ask(running, "sk-x", more={"stream": True}).status_code == 401


def test_a_refusal_is_remembered_for_a_minute_and_comes_back_as_it_was(tmp_path, tap, provider, monkeypatch):
    from askonce.gateway import gateway_rules

    clock = [1000.0]
    monkeypatch.setattr(gateway_rules, "boot_clock", lambda: clock[0])
    with Running(configured(tmp_path, tap, "")) as running:
        first = ask(running, "sk-new")
        heard = len(tap.heard)
        provider.good.add("sk-new")
        clock[0] += 59
        again = ask(running, "sk-new")
        assert (again.status_code, again.content, len(tap.heard)) == (401, first.content, heard)
        assert "detail=refused-credential" in again.headers["cache-status"]
        clock[0] += 1.5
        assert ask(running, "sk-new").status_code == 200


def test_a_clock_that_steps_back_gives_no_stored_answer_to_a_credential_that_is_not_known(tmp_path, tap):
    """An answer of the future is fresh for any ttl, also for one of 0."""
    with Running(configured(tmp_path, tap, SHARED)) as running:
        assert ask(running, "sk-a").status_code == 200
        store: Any = running.gateway.cache._base.engine().store
        plain = store._clock
        store._clock = lambda: plain() - 10_000_000
        assert was_hit(ask(running, "sk-a"))
        assert ask(running, "sk-x").status_code == 401
        assert not was_hit(ask(running, "sk-b"))


def test_a_remembered_refusal_is_for_no_caller_who_wants_a_newer_answer(tmp_path, tap, provider, monkeypatch):
    from askonce.gateway import gateway_rules

    clock = [1000.0]
    monkeypatch.setattr(gateway_rules, "boot_clock", lambda: clock[0])
    with Running(configured(tmp_path, tap, "")) as running:
        assert ask(running, "sk-new").status_code == 401
        clock[0] += 20
        provider.good.add("sk-new")
        for control in ("max-age=21", "only-if-cached", "max-stale", "min-fresh=1"):
            assert ask(running, "sk-new", cache_control=control).status_code == 401
        assert ask(running, "sk-new", cache_control="max-age=20").status_code == 200
        provider.good.discard("sk-new")
        assert ask(running, "sk-new", cache_control="no-cache").status_code == 401
        provider.good.add("sk-new")
        assert ask(running, "sk-new").status_code == 401
        assert ask(running, "sk-new", cache_control="max-age=0").status_code == 200


@pytest.mark.parametrize("tenants", ["", SHARED])
def test_a_revoked_credential_gets_no_stored_answer_once_upstream_said_so(
    tmp_path, tap, provider, monkeypatch, tenants
):
    from askonce.gateway import credentials

    monkeypatch.setattr(credentials, "REFUSED", 0.0)
    with Running(configured(tmp_path, tap, tenants)) as running:
        ask(running, "sk-a")
        ask(running, "sk-b", text="other")
        provider.good.clear()
        assert was_hit(ask(running, "sk-a"))  # upstream was not asked since
        assert ask(running, "sk-a", text="new").status_code == 401
        assert ask(running, "sk-a").status_code == 401
        assert ask(running, "sk-a").status_code == 401
        assert was_hit(ask(running, "sk-b", text="other"))


def test_a_worker_that_begins_anew_verifies_a_credential_of_a_named_tenant_again(tmp_path, tap, provider):
    config = configured(tmp_path, tap, SHARED, f"sqlite:///{tmp_path}/a.db")
    with Running(config) as running:
        ask(running, "sk-a")
    provider.good.discard("sk-a")
    with Running(config) as running:
        assert ask(running, "sk-a").status_code == 401


def test_while_upstream_is_down_a_credential_that_it_accepted_once_gets_what_is_stored(
    tmp_path, tap, provider, monkeypatch
):
    from askonce.gateway import gateway_rules

    clock = [1000.0]
    monkeypatch.setattr(gateway_rules, "boot_clock", lambda: clock[0])
    with Running(configured(tmp_path, tap, SHARED)) as running:
        ask(running, "sk-a")
        clock[0] += 3601
        provider.down = True
        assert told(ask(running, "sk-a")) == "answer 1"
        assert ask(running, "sk-x").status_code == 503


def test_many_first_calls_of_one_credential_are_one_call_and_another_credential_does_not_join_it(tmp_path, provider):
    gate = threading.Event()
    gate.set()

    def says(heard):
        gate.wait(60)
        return provider(heard)

    with Tap(says) as tap, Running(configured(tmp_path, tap, SHARED)) as running:
        ask(running, "sk-a", model="o3")  # opens the gateway
        gate.clear()
        answers = []
        keys = ["sk-a"] * 8 + ["sk-b"] * 8 + ["sk-x"] * 8
        threads = [threading.Thread(target=lambda key=key: answers.append((key, ask(running, key)))) for key in keys]
        for one in threads:
            one.start()
        board = running.gateway.cache._base.engine().board
        eventually(lambda: sum(flight.callers for flight in board.flights()) == len(keys), "all wait")
        gate.set()
        for one in threads:
            one.join(60)
    assert {key: answer.status_code for key, answer in answers} == {"sk-a": 200, "sk-b": 200, "sk-x": 401}
    texts = {key: {told(answer) for of, answer in answers if of == key} for key in ("sk-a", "sk-b")}
    assert len(texts["sk-a"]) == len(texts["sk-b"]) == 1
    assert provider.calls == 3


def vectors(heard, provider):
    if not heard.body or b" 200 " not in provider(heard)[:20]:
        return answer(b'{"error":{"message":"no"}}', "401 Unauthorized")
    inputs = json.loads(heard.body)["input"]
    data = [{"object": "embedding", "index": at, "embedding": [len(one)]} for at, one in enumerate(inputs)]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return answer(json.dumps({"object": "list", "data": data, "model": "e", "usage": usage}).encode())


def embedded(running, key, *inputs):
    said = {"authorization": f"Bearer {key}"}
    return CLIENT.post(f"{running.url}/v1/embeddings", json={"model": "e", "input": list(inputs)}, headers=said)


def test_vectors_too_go_only_to_credentials_that_were_accepted(tmp_path, provider):
    with Tap(lambda heard: vectors(heard, provider)) as tap, Running(configured(tmp_path, tap, SHARED)) as running:
        embedded(running, "sk-a", "a", "bb")
        assert embedded(running, "sk-x", "a", "bb").status_code == 401
        assert embedded(running, "sk-x", "a").status_code == 401
        embedded(running, "sk-b", "a", "ccc")
        last = embedded(running, "sk-b", "bb", "ccc", "a")
        assert was_hit(last)
    assert [one["embedding"] for one in last.json()["data"]] == [[2], [3], [1]]
    asked = [(json.loads(one.body)["input"]) for one in tap.heard]
    assert asked == [["a", "bb"], ["a", "bb"], ["a", "ccc"]]  # the second refusal was remembered


def test_a_batch_of_an_unknown_credential_joins_no_call_of_another(tmp_path, provider):
    gate = threading.Event()

    def says(heard):
        if b'"held"' in heard.body:
            gate.wait(60)
        return vectors(heard, provider)

    with Tap(says) as tap, Running(configured(tmp_path, tap, SHARED)) as running:
        embedded(running, "sk-a", "opens")
        answers = {}
        keys = ["sk-a", "sk-b", "sk-x"]
        threads = []
        for number, key in enumerate(keys):
            one = threading.Thread(target=lambda key=key: answers.update({key: embedded(running, key, "held", key)}))
            one.start()
            threads.append(one)
            eventually(
                lambda number=number: len(running.gateway.cache._base.engine().board.flights()) > number, "it asks"
            )
        gate.set()
        for one in threads:
            one.join(60)
    assert {key: said.status_code for key, said in answers.items()} == {"sk-a": 200, "sk-b": 200, "sk-x": 401}
    assert sum(b'"held"' in one.body for one in tap.heard) == 3


# --- names -------------------------------------------------------------------------------------------------------


def listed(tmp_path, **names):
    lines = [f"{digest_of(key.replace('_', '-'))} {name}" for key, name in names.items()]
    (tmp_path / "tenants.txt").write_text("# keys\n" + "\n".join(lines))
    return "[tenants]\nby = 'file'\nfile = 'tenants.txt'\n"


def test_keys_of_one_name_share_answers_and_no_header_names_another(tmp_path, tap, provider):
    provider.good |= {"sk-c", "sk-d"}
    text = listed(tmp_path, sk_a="red", sk_b="red", sk_c="blue")
    with Running(configured(tmp_path, tap, text)) as running:
        ask(running, "sk-a")
        ask(running, "sk-b", text="other")
        assert was_hit(ask(running, "sk-b"))
        for key in ("sk-c", "sk-d"):
            ask(running, key, text="known now")
            for headers in ({}, {"askonce_tenant": "red"}, {"x_team": "red"}, {"askonce_scope": "red"}):
                assert not was_hit(ask(running, key, **headers)) or key not in {"sk-c", "sk-d"}, headers
            said = {told(ask(running, key, **headers)) for headers in ({}, {"askonce_tenant": "red"})}
            assert "answer 1" not in said


def test_a_revoked_key_of_a_name_lends_it_to_no_other_key(tmp_path, tap, provider):
    # Upstream goes by Authorization; the other header has a key of the name that was revoked.
    provider.good = {"sk-a", "sk-evil"}
    text = listed(tmp_path, sk_a="red", sk_old="red")
    with Running(configured(tmp_path, tap, text)) as running:
        first = told(ask(running, "sk-a"))
        for _ in range(2):
            assert told(ask(running, "sk-evil", x_api_key="sk-old")) != first


def test_a_header_names_the_tenant_only_from_a_proxy(tmp_path, tap, provider):
    text = "[tenants]\nby = 'header'\nheader = 'x-team'\n"
    with Running(configured(tmp_path, tap, text)) as running:
        ask(running, "sk-a", x_team="red")
        ask(running, "sk-b", x_team="red", text="other")
        assert was_hit(ask(running, "sk-b", x_team="red"))
        assert not was_hit(ask(running, "sk-b", x_team="blue"))
        assert not was_hit(ask(running, "sk-b"))
    with Running(configured(tmp_path, tap, text + "proxies = ['192.0.2.0/24']\n")) as running:
        ask(running, "sk-a", x_team="red")
        ask(running, "sk-b", x_team="red", text="other")
        assert not was_hit(ask(running, "sk-b", x_team="red"))
    assert [name for name, _ in tap.heard[-1].headers if name.lower() == b"x-team"] == []


@pytest.mark.parametrize("name", ["", "a" * 101, "a\tb", digest_of("sk-a"), digest_of("sk-a").upper()])
def test_a_name_that_is_none_gets_no_stored_answer(tmp_path, tap, provider, name):
    with Running(configured(tmp_path, tap, "[tenants]\nby = 'header'\n")) as running:
        for _ in range(2):
            assert not was_hit(ask(running, "sk-a", askonce_tenant=name)), name


def test_unlisted_keys_can_be_left_out(tmp_path, tap, provider):
    text = listed(tmp_path, sk_a="red") + "unlisted = 'pass'\n"
    with Running(configured(tmp_path, tap, text)) as running:
        ask(running, "sk-b")
        again = ask(running, "sk-b")
        assert again.headers["cache-status"] == "askonce; fwd=bypass; detail=unlisted-credential"
