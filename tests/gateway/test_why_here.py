"""Why of a request that is sent to a gateway: under its rules and for its tenant, as its callers' requests are read."""

from __future__ import annotations

import io
import json

import pytest

from askonce.cli import main
from tests.gateway.asking import ask, configured
from tests.gateway.running import CLIENT, Running, Tap

TOKEN = "0123456789abcdef0123456789abcdef"
PATH = "/llm/v1/chat/completions"
RULES = f"""
[admin]
token = '{TOKEN}'
[tenants]
by = 'header'
header = 'x-team'
[[upstream]]
path = '/llm'
url = 'https://llm.example/base'
[[rule]]
path = '/llm/*'
scope = 'red/here'
ignore_fields = ['metadata']
ignore_headers = ['x-page']
[[rule]]
model = 'quiet-*'
mode = 'off'
"""


@pytest.fixture
def running(tmp_path):
    with Tap() as tap:
        text = RULES.replace("https://llm.example", tap.url)
        with Running(configured(tmp_path, tap, text)) as running:
            yield running


def explained(running, text="hi", *, model="gpt-4o", path=PATH, status=200, more=None, **headers):
    request = {"model": model, "messages": [{"role": "user", "content": text}]}
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"request": request, "http": {"url": f"{running.url}{path}", "headers": told}, **(more or {})}
    came = CLIENT.post(f"{running.url}/_askonce/api/why", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert came.status_code == status, came.text
    return came.json()


def test_it_is_explained_as_the_gateway_reads_it(running):
    asked = ask(running, path=PATH, x_team="red", x_page="1", more={"metadata": {"page": 1}})
    key = asked.headers["cache-status"].partition('key="')[2].partition('"')[0]
    told = explained(running, x_team="red", authorization="Bearer sk-a")
    assert (told["reason"], told["key"]) == ("hit", key)
    assert explained(running, "hi there", x_team="red", x_page="7")["field"] == "messages[0].content"
    assert explained(running, x_team="blue")["reason"] == "never-seen"
    assert explained(running, x_team="red", model="quiet-1") | {"sentence": ""} == told | {
        "reason": "passed", "by": "rule-off", "key": "", "sentence": "", "when": None,
    }  # fmt: skip
    assert explained(running, x_team="red", askonce_mode="off")["by"] == "asked-off"


def test_a_request_to_an_upstream_is_one_of_a_client_of_its_own(running):
    url = running.gateway.serving.routes[0].base
    body = {
        "request": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        "http": {"url": f"{url}/v1/chat/completions"},
        "tenant": "red",
    }
    came = CLIENT.post(f"{running.url}/_askonce/api/why", json=body, headers={"authorization": f"Bearer {TOKEN}"})
    assert came.json()["reason"] == "never-seen"


def test_what_cannot_be_explained_is_said(running):
    assert "its caller sends in headers" in explained(running, status=400, more={"tenant": "red"})["detail"]
    assert "no upstream" in explained(running, status=400, path="/llm/../v1/chat/completions")["detail"]


def test_the_command_explains_a_request_to_the_gateway_that_it_asks(running, monkeypatch, capsys):
    monkeypatch.setenv("ASKONCE_TOKEN", TOKEN)
    ask(running, path=PATH, x_team="red")
    request = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]})
    monkeypatch.setattr("sys.stdin", io.StringIO(request))
    assert main(["why", "-", "--url", running.url, "--to", running.url + PATH, "--header", "x-team: red"]) == 0
    assert "hit" in capsys.readouterr().out
