"""A gateway that ends before its calls: its callers are told so in words that their SDKs read, and its log keeps calm."""

from __future__ import annotations

import json
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

from askonce.gateway.answers import Cut
from askonce.testing import Provider, Step
from tests.gateway.running import read_until, request, serving

MESSAGES: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture
def provider(provider: Provider) -> Provider:
    """The scripted provider, whose answer does not come."""
    provider.script("hi", Step(hang=True))
    return provider


def through_openai(url: str) -> openai.InternalServerError:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
    with pytest.raises(openai.InternalServerError, match="the gateway ends") as raised:
        client.chat.completions.create(model="m", messages=MESSAGES)
    return raised.value


def through_anthropic(url: str) -> anthropic.InternalServerError:
    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    with pytest.raises(anthropic.InternalServerError, match="the gateway ends") as raised:
        client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    body: Any = raised.value.body
    assert body["type"] == "error"  # as this API says it
    return raised.value


@pytest.mark.parametrize("ask", [through_openai, through_anthropic])
def test_a_caller_that_still_waits_is_told_that_the_gateway_ends(provider, ask, caplog):
    caplog.set_level(logging.ERROR)
    with ThreadPoolExecutor(1) as pool:
        with serving(provider.url, server_drain=0.1) as running:
            asked = pool.submit(ask, running.url)
            provider.wait_until_paid("hi")
        assert asked.result(60).status_code == 503
    assert not [record for record in caplog.records if record.exc_info]


def test_a_stream_that_still_runs_breaks_off_and_is_no_error_in_the_log(provider, caplog):
    caplog.set_level(logging.ERROR)
    provider.script("hi", Step(hang=True, after=2))
    body = json.dumps({"model": "m", "stream": True, "messages": MESSAGES}).encode()
    with (
        serving(provider.url, server_drain=0.1) as running,
        socket.create_connection(("127.0.0.1", running.port), 30) as caller,
    ):
        caller.sendall(request(body, headers=("Authorization: Bearer k",), last=False))
        found = read_until(caller, b"data: ", 2)
        running.tell(running.server.end)
        while part := caller.recv(4096):
            found += part
    assert not found.endswith(b"0\r\n\r\n")
    raised = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert raised == [Cut]  # which is left out by the log of `askonce serve`
