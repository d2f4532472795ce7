"""What a gateway tells of itself: its numbers, and a line for each request."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

import askonce
from askonce.testing.provider import Provider
from tests.crowd import eventually
from tests.gateway.running import CLIENT, JSON, Tap, answer, serving
from tests.gateway.served import served

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "words of a prompt"}]}
SSE = b'data: {"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def post(url, body, path="/v1/chat/completions"):
    headers = {"authorization": f"Bearer {SECRET}"}
    return CLIENT.post(f"{url}{path}", json=body, headers=headers, timeout=30)


def numbers(gateway):
    text, kind = gateway.do(gateway.gateway.telemetry.metrics())
    assert kind.startswith("text/plain")
    return {
        (one.name, one.labels.get("outcome")): one.value
        for family in parse(text.decode())
        for one in family.samples
        if one.value
    }, text.decode()


def test_a_gateway_counts_what_it_serves_and_shows_no_credential():
    with Tap() as tap, serving(tap.url) as gateway:
        for _ in range(3):
            assert post(gateway.url, BODY).content == JSON
        found, text = numbers(gateway)
    assert len(tap.heard) == 1
    assert found["askonce_lookups_total", "miss"] == 1
    assert found["askonce_lookups_total", "hit"] == 2
    assert found["askonce_calls_total", None] == 1
    assert SECRET not in text
    assert "words" not in text


def test_it_writes_a_line_for_each_request_when_it_is_told_to(capsys):
    with Tap(lambda _: answer(SSE, kind="text/event-stream")) as tap, serving(tap.url, log_requests=True) as gateway:
        for _ in range(2):
            assert post(gateway.url, {**BODY, "stream": True}).content == SSE
        assert post(gateway.url, BODY, "/v1/unheard-of").status_code == 200
    written = capsys.readouterr().out
    lines = [json.loads(line) for line in written.splitlines()]
    miss, hit, other = lines
    for line, outcome in ((miss, "miss"), (hit, "hit")):
        assert (line["outcome"], line["model"], line["status"]) == (outcome, "gpt-4.1-mini", 200)
        assert line["bytes"] == len(SSE)
        assert 0 < line["seconds"] < 30
    assert hit["key"] == miss["key"]
    assert (other["outcome"], other["detail"], other["key"]) == ("bypass", "unknown-path", "")
    assert SECRET not in written
    assert "words" not in written


def test_it_writes_nothing_unless_told(capsys):
    with Tap() as tap, serving(tap.url) as gateway:
        post(gateway.url, BODY)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/nowhere"])
def test_an_upstream_that_is_away_is_a_line_too(capsys, path):
    with serving("http://127.0.0.1:9", log_requests=True) as gateway:
        answered = post(gateway.url, BODY, path)
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["status"] == answered.status_code >= 500


SUMMED = ("askonce_lookups", "askonce_saved_tokens", "askonce_saved_usd", "askonce_paid_tokens")


@pytest.mark.slow
def test_whichever_worker_is_scraped_shows_the_sum_of_all_to_whoever_has_the_token(tmp_path):
    token = "0123456789abcdef0123456789abcdef"
    (tmp_path / "token").write_text(token)
    store, admin = f"sqlite:///{tmp_path}/answers.db", str(tmp_path / "token")
    asked = 40
    with (
        Provider() as provider,
        served("--upstream", provider.url, "--workers", "3", "--url", store, "--admin-token-file", admin) as url,
    ):
        for number in range(asked):
            said = {**BODY, "messages": [{"role": "user", "content": f"{number % 10}"}]}
            assert post(url, said).status_code == 200

        def scraped():
            page = CLIENT.get(f"{url}/_askonce/metrics", headers={"authorization": f"Bearer {token}"}, timeout=30)
            assert page.status_code == 200
            families = {family.name: family.samples for family in parse(page.text)}
            return {name: sum(one.value for one in families[name]) for name in SUMMED}

        def settled():
            with askonce.Cache(store) as cache:
                saved = cache.savings().total
            sums = (asked, saved.hits.tokens, saved.hits.usd, saved.led.tokens)
            expected = dict(zip(SUMMED, map(pytest.approx, sums), strict=True))
            return saved.hits.calls == asked - 10 and all(scraped() == expected for _ in range(6))

        eventually(settled, "all workers' sum, and what the store says was saved")
        assert CLIENT.get(f"{url}/_askonce/metrics").status_code == 401
