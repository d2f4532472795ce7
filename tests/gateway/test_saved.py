"""Headers of a hit: what it saved, and how old it is."""

from __future__ import annotations

import json

import pytest

from askonce.core.spent import Spent
from askonce.gateway.saved import headers_of
from tests.gateway.asking import ask, configured, was_hit
from tests.gateway.running import Running, Tap, answer

WHOLE = (
    b'{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"finish_reason":"stop","message":'
    b'{"role":"assistant","content":"yes"}}],"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}}'
)
STREAM = (
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{"content":"yes"},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m-1","choices":[],"usage":{"prompt_tokens":1000,'
    b'"completion_tokens":500,"total_tokens":1500}}\n\ndata: [DONE]\n\n'
)
PRICES = {"models": {"m-1": {"input": 2.0, "output": 10.0}}}


def says(heard):
    if b'"stream"' in heard.body:
        return answer(STREAM, kind="text/event-stream")
    return answer(WHOLE)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("rule", ["", "[[rule]]\nhit_usage = 'zero'\n"])
def test_a_hit_says_what_it_saved_and_its_age_and_a_call_says_neither(tmp_path, stream, rule):
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    with Tap(says) as tap, Running(configured(tmp_path, tap, f"[prices]\nfile = 'prices.json'\n{rule}")) as running:
        paid, hit = (ask(running, model="m-1", more=more) for _ in range(2))
    assert not was_hit(paid)
    assert not [name for name in paid.headers if name.startswith("askonce-")]
    assert was_hit(hit)
    assert hit.headers["askonce-saved-tokens"] == "1500"
    assert float(hit.headers["askonce-saved-usd"]) == pytest.approx(0.007)
    assert int(hit.headers["age"]) < 30


def test_an_answer_without_usage_says_nothing_and_one_without_a_price_says_its_tokens():
    assert headers_of(Spent(calls=1)) == ()
    assert headers_of(Spent(calls=1, tokens_in=3, tokens_out=4, unpriced=1)) == ((b"askonce-saved-tokens", b"7"),)
    for nano, said in ((0, b"0.0"), (1, b"0.000000001"), (1_500_000_000, b"1.5"), (20_000_000_000, b"20.0")):
        assert headers_of(Spent(tokens_in=1, nanodollars=nano))[1:] == ((b"askonce-saved-usd", said),)
