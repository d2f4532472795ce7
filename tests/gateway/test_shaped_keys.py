"""What a key is made of under rules that shape it: the same, whether the request is read or was met before."""

from __future__ import annotations

import json

import pytest

from askonce import Cache
from askonce.gateway.config import GatewayConfig, Rule, Upstream
from askonce.gateway.gateway_rules import Operator, rules_for
from askonce.http.request import SentRequest

URL = "https://api.openai.com"
HEADERS = [(b"host", b"api.openai.com"), (b"authorization", b"Bearer sk-a"), (b"openai-beta", b"assistants=v2")]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Well, WELL"}], "metadata": {"trace": "1"}}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
EXACT = [json.dumps(CHAT), json.dumps(STREAM)]
INEXACT = [text.replace('"model": "m"', '"model": "m", "model": "m"') for text in EXACT]

RULES = {
    "none of them": Rule(tags=("t",)),
    "a field": Rule(ignore_fields=("metadata",)),
    "a field within a field": Rule(ignore_fields=("metadata.trace",)),
    "a field that makes another form": Rule(ignore_fields=("stream_options",)),
    "a field for one model": Rule(model=("m",), ignore_fields=("metadata",)),
    "a header": Rule(ignore_headers=("openai-beta",)),
    "case": Rule(fold=("case",)),
    "a host": Rule(same=("eu.api.openai.com", "api.openai.com")),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("body", EXACT + INEXACT, ids=["chat", "stream", "a name twice", "a name twice in a stream"])
def test_a_request_that_was_met_before_is_described_as_it_was_read(rule, body):
    sent = SentRequest("POST", f"{URL}/v1/chat/completions", HEADERS, body.encode())
    upstream = Upstream(url=URL)
    config = GatewayConfig(upstreams=(upstream,), rules=(rule,))
    with Cache("memory://") as cache:
        rules = rules_for(Operator.of(config), upstream, cache._base)
        read, met = rules.read(sent), rules.read(sent)
        assert read.question is not None
        assert met.question is not None
        assert met.question.key == read.question.key
        assert met.question.parts is None  # nothing of it was read
        rules.describe(met)
        assert met.question.parts() == read.question.parts()
