"""Spans and metrics of OpenTelemetry, read back from its own SDK."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time

import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import askonce
from askonce.core import libraries
from askonce.otel import instrument
from askonce.testing.answers import answer
from askonce.testing.provider import Provider

MODEL = "gpt-4.1-mini"


class Sdk:
    """The application's OpenTelemetry, in memory."""

    def __init__(self):
        self.spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider, self.meter_provider = TracerProvider(), MeterProvider([self._reader])
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))

    def watch(self, cache=None):
        return instrument(cache, self.tracer_provider, self.meter_provider)

    def finished(self):
        found = self.spans.get_finished_spans()
        self.spans.clear()
        return found

    def points(self, name):
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def sdk():
    return Sdk()


@pytest.fixture
def cache():
    with askonce.Cache("memory://") as made:
        yield made


def asked(content="a prompt of some words", **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def said():
    return answer(asked(), "openai.chat")


def attributes(span):
    return dict(span.attributes)


def test_a_lookup_has_a_span_by_the_conventions_with_how_it_ended_and_no_words(cache, sdk):
    sdk.watch(cache)
    for _ in range(2):
        cache.fetch(asked(), said)
    miss, hit = sdk.finished()
    assert miss.name == hit.name == f"chat {MODEL}"
    assert miss.kind is SpanKind.CLIENT
    assert attributes(hit) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "askonce.outcome": "hit",
        "askonce.key": attributes(miss)["askonce.key"],
        "askonce.stored": False,
        "askonce.saved_tokens": attributes(miss)["gen_ai.usage.input_tokens"]
        + attributes(miss)["gen_ai.usage.output_tokens"],
    }
    assert attributes(miss)["askonce.outcome"] == "miss"
    assert attributes(miss)["askonce.stored"] is True
    assert len(attributes(miss)["askonce.key"]) == 12
    assert "words" not in miss.to_json() + hit.to_json()


def test_metrics_count_lookups_and_time_operations(cache, sdk):
    sdk.watch(cache)
    for content in ("1", "1", "2"):
        cache.fetch(asked(content), said, tenant="acme")
    counted = {point.attributes["askonce.outcome"]: point for point in sdk.points("askonce.lookups")}
    assert {outcome: point.value for outcome, point in counted.items()} == {"hit": 1, "miss": 2}
    assert dict(counted["hit"].attributes) == {
        "askonce.outcome": "hit",
        "gen_ai.request.model": MODEL,
        "askonce.tenant": "acme",
    }
    timed = sdk.points("gen_ai.client.operation.duration")
    assert {point.attributes["askonce.outcome"]: point.count for point in timed} == {"hit": 1, "miss": 2}
    assert timed[0].explicit_bounds[0] == 0.01
    paid = {point.attributes["gen_ai.token.type"]: point for point in sdk.points("gen_ai.client.token.usage")}
    used = said()["usage"]
    assert (paid["input"].sum, paid["output"].sum) == (2 * used["prompt_tokens"], 2 * used["completion_tokens"])
    assert paid["input"].count == 2


def test_spans_of_the_upstream_call_are_children_of_the_lookup_s(cache, sdk):
    sdk.watch(cache)
    tracer = sdk.tracer_provider.get_tracer("http client")

    def call():
        with tracer.start_as_current_span("POST"):
            return said()

    cache.fetch(asked(), call)
    child, lookup = sdk.finished()
    assert child.parent.span_id == lookup.context.span_id
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_in_tasks_too_and_a_failure_says_only_its_type(sdk):
    async with askonce.AsyncCache("memory://") as cache:
        sdk.watch(cache)
        tracer = sdk.tracer_provider.get_tracer("http client")

        async def call():
            with tracer.start_as_current_span("POST"):
                raise ConnectionError("words of a prompt")

        with pytest.raises(ConnectionError):
            await cache.fetch(asked(), call)
    child, lookup = sdk.finished()
    assert child.parent.span_id == lookup.context.span_id
    assert lookup.status.status_code is StatusCode.ERROR
    assert attributes(lookup)["error.type"] == "ConnectionError"
    assert "words" not in lookup.to_json()


@pytest.mark.parametrize(
    ("url", "api", "operation", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai.chat", "chat", "openai"),
        ("https://api.openai.com/v1/embeddings", "openai.embeddings", "embeddings", "openai"),
        ("https://api.anthropic.com/v1/messages", "anthropic.messages", "chat", "anthropic"),
        ("https://api.mistral.ai/v1/chat/completions", "openai.chat", "chat", "mistral_ai"),
        ("https://of-mine.openai.azure.com/openai/v1/chat/completions", "openai.chat", "chat", "azure.ai.openai"),
        ("http://localhost:8000/v1/messages", "anthropic.messages", "chat", "anthropic"),
        ("http://localhost:8000/v1/chat/completions", "openai.chat", "chat", "openai"),
    ],
)
def test_an_http_request_names_its_operation_and_its_provider(cache, sdk, url, api, operation, provider):
    sdk.watch(cache)
    body = {"openai.embeddings": {"model": MODEL, "input": ["1", "2"]}, "anthropic.messages": asked(max_tokens=9)}.get(
        api, asked()
    )

    def upstream(request):
        return httpx2.Response(200, json=answer(json.loads(request.read()), api))

    with cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream)) as client:
        for _ in range(2):
            client.post(url, json=body, headers={"x-api-key": "k", "anthropic-version": "2023-06-01"})
    miss, hit = sdk.finished()
    for span, outcome in ((miss, "miss"), (hit, "hit")):
        assert attributes(span)["gen_ai.operation.name"] == operation
        assert attributes(span)["gen_ai.provider.name"] == provider
        assert attributes(span)["askonce.outcome"] == outcome
    assert attributes(hit).get("askonce.hits", 1) == attributes(hit).get("askonce.lookups", 1)


def test_an_answer_that_is_an_error_has_its_number_for_a_type(cache, sdk):
    sdk.watch(cache)

    def upstream(request):
        return httpx2.Response(429, json={"error": {"message": "slower", "type": "rate_limit"}})

    with cache.http_client(module=httpx2, inner=httpx2.MockTransport(upstream)) as client:
        client.post("https://api.openai.com/v1/chat/completions", json=asked())
    (span,) = sdk.finished()
    assert attributes(span)["error.type"] == "429"
    assert span.status.status_code is StatusCode.ERROR


def test_the_span_of_a_stream_that_is_called_for_ends_with_it(cache, sdk):
    sdk.watch(cache)
    parts = [
        {"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    first = cache.fetch_stream(asked(stream=True), lambda: iter(parts))
    assert next(first) == parts[0]
    assert not sdk.finished()
    assert list(first) == parts[1:]
    (led,) = sdk.finished()
    assert list(cache.fetch_stream(asked(stream=True), lambda: iter(parts))) == parts
    (replayed,) = sdk.finished()
    for span, outcome in ((led, "miss"), (replayed, "hit")):
        assert attributes(span)["gen_ai.request.stream"] is True
        assert attributes(span)["askonce.outcome"] == outcome


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stream_or_an_answer_of_an_sdk_has_one_span_and_an_upstream_that_breaks_has_an_error(sdk, streamed):
    with Provider() as provider:
        provider.script("broken", ConnectionError())
        async with (
            askonce.AsyncCache("memory://", prefix=f"spans-{streamed}") as cache,
            openai.AsyncOpenAI(
                base_url=provider.openai_url, api_key="k", http_client=cache.http_client(), max_retries=0
            ) as client,
        ):
            sdk.watch(cache)

            async def ask(content):
                told = {"stream_options": {"include_usage": True}} if streamed else {}
                made = await client.chat.completions.create(**asked(content), stream=streamed, **told)
                return [part async for part in made] if streamed else made

            said = await asyncio.gather(*[ask("together") for _ in range(5)])
            assert said == [said[0]] * 5
            await ask("together")
            finished = sdk.finished()
            spans = {attributes(span)["askonce.outcome"]: attributes(span) for span in finished}
            outcomes = sorted(attributes(span)["askonce.outcome"] for span in finished)
            used = sum(spans["miss"][f"gen_ai.usage.{kind}_tokens"] for kind in ("input", "output"))
            assert spans["hit"]["askonce.saved_tokens"] == used > 0
            assert not any(name.startswith("gen_ai.usage") for name in spans["hit"])
            assert outcomes == ["collapsed"] * 4 + ["hit", "miss"]
            assert sum(point.sum for point in sdk.points("gen_ai.client.token.usage")) > 0
            with pytest.raises(openai.APIConnectionError):
                await ask("broken")
            (broken,) = sdk.finished()
    assert attributes(broken)["error.type"] == "broken"
    assert broken.status.status_code is StatusCode.ERROR


def test_an_old_answer_in_place_of_an_error_is_no_error(sdk):
    with askonce.Cache("memory://", prefix="old", ttl=0.01, grace=0, stale_if_error=60, max_age=60) as cache:
        cache.fetch(asked(), said)
        time.sleep(0.05)
        sdk.watch(cache)

        def away():
            raise ConnectionError

        assert cache.fetch(asked(), away).value == said()
    (span,) = sdk.finished()
    assert attributes(span)["askonce.outcome"] == "stale"
    assert "error.type" not in attributes(span)


def test_all_caches_are_instrumented_later_ones_too_until_it_ends(cache, sdk):
    stop = sdk.watch()
    with askonce.Cache("memory://") as later:
        try:
            for one in (cache, later):
                one.fetch(asked(), said)
        finally:
            stop()
        assert len(sdk.finished()) == 2
        for one in (cache, later):
            one.fetch(asked(), said)
        assert not sdk.finished()
        assert [cache._base.events.observed, later._base.events.observed] == [False, False]


def test_what_goes_wrong_in_telemetry_reaches_no_caller(cache, sdk, caplog):
    sdk.watch(cache)
    made = next(iter(cache._base.events._observers.values()))
    made.tracer = None
    made._lookups = None
    assert cache.fetch(asked(), said).value == said()
    made.tracer = sdk.tracer_provider.get_tracer("askonce")
    made.durations = None
    assert cache.fetch(asked(), said).value == said()
    assert caplog.records


async def test_a_lookup_that_is_left_behind_breaks_nothing_of_another(sdk):
    async with askonce.AsyncCache("memory://") as cache:
        sdk.watch(cache)
        left = cache.fetch(asked(), said)
        left.close()
        await cache.fetch(asked(), said)
        del left
        gc.collect()
    assert len(sdk.finished()) == 1


def test_without_the_library_the_error_names_the_extra(cache, monkeypatch):
    libraries.opentelemetry.cache_clear()
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(askonce.ConfigError, match=r"askonce\[otel\]"):
        instrument(cache)
    libraries.opentelemetry.cache_clear()
    with pytest.raises(askonce.UsageError, match="give a Cache"):
        instrument("memory://")
