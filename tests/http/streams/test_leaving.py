"""Readers that leave: at the last event, before it, or all of them; and the fate of the stream."""

from __future__ import annotations

import asyncio
import threading

import anthropic
import openai
import pytest

from askonce import AsyncCache, Cache, Policy
from askonce.engine.stream_readers import StreamReaders
from askonce.stream.pump import Pump
from tests.http.streams.talking import STORY, STREAM, URL, Reading, Talking, event, soon, wait_until

BASE = URL.removesuffix("/v1/chat/completions")
MESSAGE = (
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
SAID = tuple(b"event: " + str(one["type"]).encode() + b"\n" + event(one) for one in MESSAGE)


def leave_after(client, number):
    """Read so many parts and go."""
    with client.stream("POST", URL, json=STREAM) as response:
        parts = response.iter_bytes()
        return tuple(next(parts) for _ in range(number))


def test_an_sdk_that_leaves_at_the_last_event_leaves_a_whole_answer_though_upstream_says_nothing_more(module, talking):
    """Upstream holds the connection after [DONE]: nobody waits for its end."""
    with Cache("memory://") as cache, cache.http_client(module=module, inner=talking) as http:
        sdk = openai.OpenAI(base_url=f"{BASE}/v1", api_key="k", http_client=http)
        soon(talking, *STORY)
        first = [one.to_dict() for one in sdk.chat.completions.create(**STREAM)]
        assert talking.line.closed.is_set()
        assert cache.stats()["stored"] == 1
        assert [one.to_dict() for one in sdk.chat.completions.create(**STREAM)] == first
    assert len(talking.lines) == 1


def test_the_same_with_messages_of_anthropics(talking, cache):
    if talking.module.__name__ == "httpx":
        pytest.skip("Anthropic's SDK takes httpx2 alone")
    talking.tell(*SAID)
    with cache.http_client(module=talking.module, inner=talking) as http:
        sdk = anthropic.Anthropic(base_url=BASE, api_key="k", http_client=http)
        texts = []
        for _ in range(2):
            with sdk.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}]) as stream:
                texts.append("".join(stream.text_stream))
    assert texts == ["hi", "hi"]
    assert len(talking.lines) == 1
    assert cache.stats()["stored"] == 1


@pytest.mark.concurrency
def test_what_all_readers_left_is_finished_and_kept_and_a_retry_pays_nothing(cache, talking):
    with cache.http_client(module=talking.module, inner=talking) as client:
        soon(talking, *STORY[:3])
        assert leave_after(client, 3) == STORY[:3]
        talking.line.say(*STORY[3:])
        talking.line.ends()
        wait_until(lambda: cache.stats().get("stored"))
        assert Reading(client).whole() == STORY
        assert cache.stats()["abandoned.finish"] == 1
    assert len(talking.lines) == 1


@pytest.mark.concurrency
def test_who_asks_again_joins_what_he_left(cache, talking):
    with cache.http_client(module=talking.module, inner=talking) as client:
        soon(talking, *STORY[:3])
        leave_after(client, 2)
        again = Reading(client)
        again.wait_for(3)
        talking.line.say(*STORY[3:])
        talking.line.ends()
        assert again.whole() == STORY
        assert "collapsed" in again.headers["cache-status"]
        assert "abandoned" not in cache.stats()
    assert len(talking.lines) == 1


@pytest.mark.concurrency
@pytest.mark.parametrize(
    ("where", "verb", "calls", "policy"),
    [
        (StreamReaders, "left", 1, Policy(on_abandon="close")),
        (Pump, "end", 2, Policy(on_abandon="close")),
        (Pump, "end", 2, Policy(abandon_limit=0.01)),
    ],
)
def test_who_begins_to_read_a_stream_while_its_last_reader_leaves_it_gets_all_of_one(
    talking, monkeypatch, where, verb, calls, policy
):
    does, others = getattr(where, verb), []

    async def meanwhile(*given):
        if not others:
            others.append(Reading(client))
            if calls == 1:
                others[0].wait_for(2)
            else:
                talking.tell(*STORY)
                others[0].join(0.05)  # it may have been told whom to follow: it waits for this end
        return await does(*given)

    monkeypatch.setattr(where, verb, meanwhile)
    with (
        Cache("memory://", policy=policy) as cache,
        cache.http_client(module=talking.module, inner=talking) as client,
    ):
        soon(talking, *STORY[:2])
        leave_after(client, 1)
        if calls == 1:
            talking.line.say(*STORY[2:])
            talking.line.ends()
        elif policy.abandon_limit:
            threading.Event().wait(policy.abandon_limit)
            talking.lines[0].say(STORY[2])  # what runs it then looks at the time
        (other,) = wait_until(lambda: others)
        assert other.whole() == STORY
        assert other.error is None
    assert len(talking.lines) == calls


@pytest.mark.parametrize(("on_abandon", "tokens", "lines"), [("finish", (3, 2), 1), ("close", None, 2)])
def test_what_is_left_is_counted_with_its_tokens_where_upstream_told_of_them(talking, on_abandon, tokens, lines):
    seen = []
    talking.tell(*SAID)
    request = {"url": f"{BASE}/v1/messages", "json": {**STREAM, "max_tokens": 9}}
    with Cache("memory://", policy=Policy(on_abandon=on_abandon)) as cache:
        cache.on_event(lambda one: seen.append((one.detail, one.data)) if one.name == "abandoned" else None)
        with cache.http_client(module=talking.module, inner=talking) as client:
            with client.stream("POST", **request) as response:
                next(response.iter_bytes())
            wait_until(lambda: talking.line.closed.is_set() and not cache.stats()["flights"])
            assert seen == [(on_abandon, {"tokens": tokens})]
            with client.stream("POST", **request) as response:
                assert response.read() == b"".join(SAID)
    assert len(talking.lines) == lines


@pytest.mark.concurrency
async def test_a_stream_that_never_ends_is_given_up_some_time_after_its_readers(module):
    talking = Talking(module)
    async with (
        AsyncCache("memory://", policy=Policy(abandon_limit=0.2)) as cache,
        cache.http_client(module=module, inner=talking) as client,
    ):

        async def talk():
            while not (talking.lines and talking.line.closed.is_set()):
                for line in talking.lines:
                    line.say(STORY[0])
                await asyncio.sleep(0.01)

        speaking = asyncio.create_task(talk())
        async with client.stream("POST", URL, json=STREAM) as response:
            await anext(response.aiter_bytes())
        await asyncio.wait_for(speaking, 3)
        assert cache.stats()["dropped.abandon-limit"] == 1
        assert "stored" not in cache.stats()


@pytest.mark.concurrency
def test_the_same_in_threads(talking):
    over = threading.Event()

    def talk():
        wait_until(lambda: talking.lines)
        while not over.wait(0.01):
            talking.line.say(STORY[0])

    threading.Thread(target=talk, daemon=True).start()
    with (
        Cache("memory://", policy=Policy(abandon_limit=0.2)) as cache,
        cache.http_client(module=talking.module, inner=talking) as client,
    ):
        leave_after(client, 2)
        assert talking.line.closed.wait(3)
        over.set()
        wait_until(lambda: not cache.stats()["flights"])
        assert "stored" not in cache.stats()
