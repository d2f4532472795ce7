"""The scripted provider's streams, read by the SDKs that real programs use."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from askonce.testing import Provider, ScriptedCall, Step, UpstreamError, answer
from askonce.testing.answers import Protocol, Shape
from askonce.testing.streamed import STREAMED, events, frames
from tests.took import Took

CLAUDE = "claude-of-the-tests"
EIFFEL: Any = [{"role": "user", "content": "Summarize the Eiffel Tower."}]
SHAPES: list[Shape] = ["complete", "refused", "truncated", "filtered", "empty", "tool_call"]


@pytest.fixture
def chat(provider: Provider):
    with openai.OpenAI(base_url=provider.openai_url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(provider: Provider):
    with anthropic.Anthropic(base_url=provider.url, api_key="any", max_retries=0) as made:
        yield made


@pytest.fixture
def gemini(provider: Provider):
    from google import genai

    made = genai.Client(api_key="any", http_options={"base_url": provider.url})
    yield made
    made.close()


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-4.1-mini", messages=EIFFEL, stream=True, **more)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chat_stream_put_together_by_the_sdk_is_the_whole_answer(provider, chat, shape):
    provider.script(None, shape)
    whole = chat.chat.completions.create(model="gpt-4.1-mini", messages=EIFFEL)
    manner = {"model": "gpt-4.1-mini", "messages": EIFFEL, "stream_options": {"include_usage": True}}
    with chat.chat.completions.stream(**manner) as stream:
        seen = [event.chunk for event in stream if event.type == "chunk"]
    chosen = stream.current_completion_snapshot.choices[0]
    assert chosen.finish_reason == whole.choices[0].finish_reason
    assert (chosen.message.content or "") == (whole.choices[0].message.content or "")
    assert chosen.message.refusal == whole.choices[0].message.refusal
    called, made = chosen.message.tool_calls or [], whole.choices[0].message.tool_calls or []
    assert [call.function.arguments for call in called] == [call.function.arguments for call in made]
    assert seen[-1].usage == whole.usage


@pytest.mark.parametrize("shape", SHAPES)
def test_a_responses_stream_ends_with_the_whole_answer_and_its_pieces_are_its_text(provider, chat, shape):
    provider.script(None, shape)
    whole = chat.responses.create(model="gpt-4.1-mini", input="Why?")
    with chat.responses.create(model="gpt-4.1-mini", input="Why?", stream=True) as stream:
        seen = list(stream)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == f"response.{whole.status}"
    assert seen[-1].response.output == whole.output
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert text == whole.output_text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_messages_stream_put_together_by_the_sdk_is_the_whole_answer(provider, claude, shape):
    provider.script(None, shape)
    asked: Any = {"model": CLAUDE, "max_tokens": 9, "messages": EIFFEL}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        got = stream.get_final_message()
    assert [block.to_dict() for block in got.content] == [block.to_dict() for block in whole.content]
    assert (got.stop_reason, got.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_gemini_stream_says_what_the_whole_answer_says(provider, gemini, shape):
    provider.script(None, shape)
    asked: Any = {"model": "gemini-2.5-flash", "contents": "Why?"}
    whole = gemini.models.generate_content(**asked)
    seen = list(gemini.models.generate_content_stream(**asked))
    assert "".join(chunk.text or "" for chunk in seen) == (whole.text or "")
    assert seen[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason
    assert seen[-1].function_calls == whole.function_calls
    assert whole.model_version == "gemini-2.5-flash"
    assert provider.paid("Why?") == 2


def test_a_gemini_stream_is_one_json_array_where_events_are_not_asked_for(provider):
    with httpx2.Client(base_url=provider.url) as client:
        body = {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}
        got = client.post("/v1beta/models/gemini-2.5-flash:streamGenerateContent", json=body).json()
    assert len(got) > 2
    assert got[-1]["candidates"][0]["finishReason"] == "STOP"


def test_events_come_at_the_scripted_pace_and_not_all_at_the_end(provider, chat):
    provider.script(None, Step(hang=True, after=3, pace=0.05))
    took = Took()
    with ask(chat) as stream:
        first = [next(stream) for _ in range(3)]
        assert took.wall >= 0.1
        assert provider.in_flight == 1
        with ThreadPoolExecutor(1) as pool:
            rest = pool.submit(list, stream)
            assert not rest.done()
            assert provider.release() == 1
            assert rest.result(60)[-1].choices[0].finish_reason == "stop"
    assert first[1].choices[0].delta.content
    assert provider.in_flight == 0


def test_a_stream_is_cut_after_the_scripted_number_of_events(provider, chat):
    provider.script(None, Step(error=ConnectionError, after=2))
    with ask(chat) as stream:
        assert len([next(stream), next(stream)]) == 2
        with pytest.raises(openai.APIConnectionError):
            next(stream)


def test_a_status_after_some_events_is_the_providers_own_error_event(provider, chat, claude):
    provider.script(None, Step(status=529, after=2))
    with pytest.raises(openai.APIError, match="529"):
        list(ask(chat))
    with pytest.raises(anthropic.APIError, match="529"):
        list(claude.messages.create(model=CLAUDE, max_tokens=9, messages=EIFFEL, stream=True))
    *_before, last = chat.responses.create(model="gpt-4.1-mini", input="Why?", stream=True)
    assert (last.type, "529" in last.message) == ("error", True)  # the SDK hands this event to its caller


@pytest.mark.parametrize(("status", "raised"), [(429, openai.RateLimitError), (500, openai.InternalServerError)])
def test_a_status_before_the_first_event_is_an_ordinary_refusal(provider, chat, status, raised):
    provider.script(None, status)
    with pytest.raises(raised):
        ask(chat)
    assert provider.calls == 1


def test_a_body_of_events_is_sent_as_scripted(provider, chat):
    made = events({"model": "m"}, "openai.chat", answer({"messages": EIFFEL}, "openai.chat"))
    provider.script(None, Step(body=made[:2]))
    with ask(chat) as stream:
        assert len(list(stream)) == 2


def test_a_reader_that_leaves_has_still_paid_and_the_call_is_over(provider, chat):
    provider.script(None, Step(pace=0.01))
    with ask(chat) as stream:
        next(stream)
    deadline = time.monotonic() + 5
    while provider.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (provider.calls, provider.in_flight) == (1, 0)


@pytest.mark.parametrize("protocol", list(STREAMED))
@pytest.mark.parametrize("shape", SHAPES)
def test_every_protocol_and_shape_has_a_stream(protocol: Protocol, shape: Shape):
    request = {"model": "m", "messages": EIFFEL}
    sent = events(request, protocol, answer(request, protocol, shape))
    assert sent
    assert all(frame.endswith(b"\n\n") for frame in frames(protocol, sent))


def test_closing_says_nothing_while_clients_hold_connections(caplog):
    clients = [httpx2.Client() for _ in range(8)]
    with caplog.at_level(logging.DEBUG, "asyncio"):
        with Provider(pace=0.05) as provider:
            provider.script("hangs", Step(hang=True, after=1))
            for client in clients[:6]:
                client.post(f"{provider.openai_url}/responses", json={"input": "Why?"})
            for client in clients[6:]:
                manner = client.stream(
                    "POST", f"{provider.openai_url}/responses", json={"input": "hangs", "stream": True}
                )
                manner.__enter__()
        gc.collect()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    for client in clients:
        client.close()


def test_a_call_in_process_streams_the_same_events():
    call = ScriptedCall()
    request = {"model": "gpt-4.1-mini", "messages": EIFFEL}
    sent = list(call.stream(request))
    assert (
        "".join(event["choices"][0]["delta"].get("content", "") for event in sent)
        == (call(request)["choices"][0]["message"]["content"])
    )

    async def taken() -> list[Any]:
        return [event async for event in call.aio_stream(request)]

    assert [event["choices"] for event in asyncio.run(taken())] == [event["choices"] for event in sent]
    assert (call.paid(request), call.in_flight) == (3, 0)


def test_a_call_in_process_fails_after_the_scripted_number_of_events():
    call = ScriptedCall()
    call.script(None, Step(status=500, after=2), Step(error=ConnectionError, after=1), 429)
    stream = call.stream({"input": "Why?"})
    assert len([next(stream), next(stream)]) == 2
    with pytest.raises(UpstreamError):
        next(stream)
    stream = call.stream({"input": "Why?"})
    next(stream)
    with pytest.raises(ConnectionError):
        next(stream)
    with pytest.raises(UpstreamError):
        next(call.stream({"input": "Why?"}))
    assert (call.calls, call.in_flight) == (3, 0)
