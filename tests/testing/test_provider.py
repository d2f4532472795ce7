from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from askonce.testing import Lognormal, Provider, Step
from tests.took import Took

CLAUDE = "claude-of-the-tests"  # the SDK warns of real models that are retired
EIFFEL = [{"role": "user", "content": "Summarize the Eiffel Tower."}]


@pytest.fixture
def client(provider: Provider):
    with openai.OpenAI(base_url=provider.openai_url, api_key="any") as made:
        yield made


@pytest.fixture
def claude(provider: Provider):
    with anthropic.Anthropic(base_url=provider.url, api_key="any") as made:
        yield made


def post(provider: Provider, path: str, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=5)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def ask(client: openai.OpenAI, question: str = "Why?", **more: Any):
    return client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": question}], **more
    )


def test_a_chat_completion_is_parsed_by_the_sdk_and_counted_by_its_question(provider, client):
    first = client.chat.completions.create(model="gpt-4.1-mini", messages=EIFFEL)
    assert "Eiffel" in first.choices[0].message.content
    assert first.choices[0].finish_reason == "stop"
    assert provider.calls == provider.paid("Summarize the Eiffel Tower.") == 1
    assert provider.paid("something else") == 0


def test_the_text_depends_on_the_question_and_the_id_on_the_call(client):
    first, second, other = ask(client), ask(client), ask(client, "How?")
    assert first.choices == second.choices != other.choices
    assert (first.id[-2:], second.id[-2:]) == ("-1", "-2")


def test_n_choices_are_n_different_texts(client):
    texts = {choice.message.content for choice in ask(client, n=3).choices}
    assert len(texts) == 3


def test_a_response_is_parsed_by_the_sdk(provider, client):
    response = client.responses.create(model="gpt-4.1-mini", input="Why?")
    assert response.status == "completed"
    assert "Why?" in response.output_text
    assert provider.paid("Why?") == 1


def test_a_message_is_parsed_by_anthropics_sdk(provider, claude):
    message = claude.messages.create(model=CLAUDE, max_tokens=100, messages=EIFFEL)
    assert message.stop_reason == "end_turn"
    assert "Eiffel" in message.content[0].text
    assert provider.paid("Summarize the Eiffel Tower.") == 1


def test_embeddings_are_the_same_numbers_in_both_encodings(client):
    packed = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])  # the SDK asks for base64
    plain = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert len(packed.data) == 2


def test_each_shape_is_what_the_sdk_calls_it_in_chat(provider, client):
    provider.script("Why?", "refused", "truncated", "filtered", "tool_call", "empty", "complete")
    choices = [ask(client).choices[0] for _ in range(6)]
    reasons = [choice.finish_reason for choice in choices]
    assert reasons == ["stop", "length", "content_filter", "tool_calls", "stop", "stop"]
    assert choices[0].message.refusal
    assert choices[3].message.tool_calls[0].function.name == "look_up"
    assert choices[4].message.content == ""


def test_each_shape_is_what_the_sdk_calls_it_in_responses(provider, client):
    provider.script("Why?", "refused", "truncated", "filtered", "tool_call", "empty")
    refused, truncated, filtered, tool, empty = [
        client.responses.create(model="gpt-4.1-mini", input="Why?") for _ in range(5)
    ]
    assert refused.output[0].content[0].type == "refusal"
    assert (truncated.status, truncated.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert filtered.incomplete_details.reason == "content_filter"
    assert tool.output[0].type == "function_call"
    assert empty.output == []


def test_each_shape_is_what_the_sdk_calls_it_in_messages(provider, claude):
    provider.script(None, "refused", "truncated", "tool_call", "empty")
    reasons = [claude.messages.create(model=CLAUDE, max_tokens=9, messages=EIFFEL).stop_reason for _ in range(4)]
    assert reasons == ["refusal", "max_tokens", "tool_use", "end_turn"]


def test_the_last_step_repeats_and_none_scripts_every_other_question(provider, client):
    provider.script("Why?", "truncated", "complete")
    provider.script(None, "refused")
    assert [ask(client).choices[0].finish_reason for _ in range(3)] == ["length", "stop", "stop"]
    assert ask(client, "How?").choices[0].message.refusal


@pytest.mark.parametrize(
    ("status", "raised"), [(429, openai.RateLimitError), (500, openai.InternalServerError)], ids=["429", "500"]
)
def test_a_scripted_status_is_one_request_although_the_sdk_would_retry(provider, client, status, raised):
    provider.script("Why?", status)
    with pytest.raises(raised):
        ask(client)
    assert provider.paid("Why?") == 1


def test_a_retry_is_seen_when_the_status_does_not_forbid_it(provider, client):
    provider.script("Why?", Step(status=500, headers={"retry-after-ms": "1"}), "complete")
    assert ask(client).choices[0].finish_reason == "stop"
    assert provider.paid("Why?") == 2


def test_an_exception_in_the_script_cuts_the_connection(provider):
    provider.script("Why?", ValueError("any"))
    with pytest.raises(httpx2.TransportError), httpx2.Client(base_url=provider.url) as client:
        client.post("/v1/responses", json={"input": "Why?"})
    assert provider.paid("Why?") == 1


def test_a_call_hangs_until_it_is_released(provider, client):
    provider.script("Why?", Step(hang=True))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client)
        provider.wait_until_paid("Why?")
        assert provider.in_flight == 1
        assert not asked.done()
        assert provider.release("How?") == 0
        assert provider.release() == 1
        assert asked.result(60).choices[0].finish_reason == "stop"
    assert provider.in_flight == 0


def test_a_client_that_goes_away_has_still_paid(provider):
    provider.script("Why?", Step(hang=True))
    with httpx2.Client(base_url=provider.url, timeout=0.05) as client, pytest.raises(httpx2.ReadTimeout):
        client.post("/v1/responses", json={"input": "Why?"})
    assert provider.paid("Why?") == 1
    provider.release()
    assert post(provider, "/v1/responses", {"input": "How?"})[0] == 200


def test_a_hundred_callers_wait_out_one_delay_together():
    with Provider(delay=1.0) as provider:
        begun, all_there = Took(), threading.Barrier(100)  # else the last may begin when the first has ended

        def ask(number: int) -> None:
            all_there.wait(60)
            post(provider, "/v1/responses", {"input": f"question {number}"})

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert provider.calls == provider.most_in_flight == 100
    assert begun.wall >= 1.0
    assert begun.seconds < 5.0  # and not one after another


def test_a_lognormal_delay_belongs_to_the_call_and_not_to_the_order_of_arrival():
    delay = Lognormal(median=0.8, seed=7, most=3.0)
    assert delay("Why?", 1) == delay("Why?", 1) != delay("Why?", 2)
    drawn = sorted(delay(f"question {number}", 1) for number in range(999))
    assert 0.7 < drawn[499] < 0.9
    assert drawn[-1] <= 3.0
    assert Lognormal(median=0.8, seed=8)("Why?", 1) != delay("Why?", 1)


def test_a_step_may_have_a_delay_and_a_body_of_its_own():
    with Provider(delay=60) as provider:
        provider.script("Why?", Step(delay=0, body={"error": {"message": "an error inside a 200"}}))
        assert post(provider, "/v1/responses", {"input": "Why?"}) == (
            200,
            {"error": {"message": "an error inside a 200"}},
        )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/unknown", b"{}", 404),
        ("/v1/responses", b"{", 400),
        ("/v1/responses", b"[]", 400),
        ("/v1/embeddings", b'{"input": "Why?", "stream": true}', 400),
    ],
    ids=["unknown path", "not JSON", "not an object", "a stream of embeddings"],
)
def test_what_is_not_a_question_is_refused_and_not_counted(provider, path, body, status):
    got, said = post(provider, path, body)
    assert (got, "error" in said, provider.calls) == (status, True, 0)


def test_requests_are_kept_as_the_bytes_that_came_in(provider):
    body = b'{ "input" : "Why?",\n "temperature": 0.50 }'
    post(provider, "/v1/responses?x=1", body)
    received = provider.requests[-1]
    assert (received.body, received.target, received.protocol) == (body, "/v1/responses?x=1", "openai.responses")


def test_reset_forgets_scripts_and_counts(provider):
    provider.script("Why?", "refused")
    post(provider, "/v1/responses", {"input": "Why?"})
    provider.reset()
    assert (provider.calls, provider.questions, provider.most_in_flight) == (0, {}, 0)
    assert post(provider, "/v1/responses", {"input": "Why?"})[1]["output"][0]["content"][0]["type"] == "output_text"


def test_closing_cuts_what_hangs_and_leaves_no_thread():
    before = threading.active_count()
    with Provider() as provider:
        provider.script("Why?", Step(hang=True))
        with httpx2.Client(base_url=provider.url, timeout=5) as client, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, "/v1/responses", json={"input": "Why?"})
            provider.wait_until_paid()
            provider.close()
            assert isinstance(asked.exception(60), httpx2.TransportError)
    assert threading.active_count() == before


def test_a_port_in_use_is_an_error_at_start(provider):
    with pytest.raises(OSError, match="address already in use"):
        Provider(port=provider.port).start()
