"""Whether an answer fits its request: model names, repeated fields, ids; with recorded traffic and invented names."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.providers.fits import OTHER_MODEL, OTHER_REQUEST, Request, ids_of, misfit
from askonce.core.providers.learned_hosts import IN_A_ROW, KEPT, LearnedHosts
from askonce.core.providers.names import akin, of_a_stranger
from askonce.core.providers.operations import agreed, model_of
from askonce.core.providers.streamed import read
from tests.corpus import by_path

HOSTS = ("openai", "azure", "anthropic", "gemini", "vertex", "bedrock", "mistral", "voyage", "")


def asking(model: str = "m", provider: str = "", ids: dict[str, str] | None = None, **body: Any) -> Request:
    return Request(model, provider, "chat host", lambda: {"model": model, **body}, ids or {})


def told(asked: Request, *values: dict[str, Any], learned: LearnedHosts | None = None, **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return misfit(asked, list(values), learned or LearnedHosts(), named)


def of(name: object) -> dict[str, Any]:
    return {"object": "chat.completion", "model": name}


# --- a provider's own host ---------------------------------------------------------------------------------------

STRANGERS = [
    ("openai", "gpt-4.1-mini", "moonshotai/kimi-k2"),
    ("openai", "gpt-4o", "gpt-4o-mini-2024-07-18"),
    ("openai", "gpt-4o-mini", "gpt-4o-2024-08-06"),
    ("openai", "gpt-4o", "gpt-4-0613"),
    ("openai", "gpt-4.1-mini", "gpt-4o-mini-2024-07-18"),
    ("openai", "o3-mini", "o4-mini-2025-04-16"),
    ("openai", "gpt-5", "gpt-4.1-2025-04-14"),
    ("openai", "gpt-5", "gpt-5.2-2025-12-11"),
    ("openai", "gpt-4", "gpt-4.1-2025-04-14"),
    ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme::a1", "ft:gpt-4o-2024-08-06:acme::a2"),
    ("openai", "gpt-4o", "claude-sonnet-4-5-20250929"),
    ("anthropic", "claude-sonnet-4-5", "claude-haiku-4-5-20251001"),
    ("anthropic", "claude-3-5-haiku-latest", "claude-haiku-4-5-20251001"),
    ("anthropic", "claude-opus-4-1", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-5-20250929"),
    ("gemini", "gemini-2.5-flash", "gemini-2.5-pro"),
    ("gemini", "gemini-2.5-flash", "claude-opus-4-1"),
    ("mistral", "mistral-large-latest", "llama-3.1-70b"),
    ("voyage", "voyage-3", "gpt-4o"),
    ("bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0", "deepseek-r1"),
    ("vertex", "claude-sonnet-4-5", "gemini-2.5-pro"),
]
ALIASES = [
    ("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    ("openai", "gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
    ("openai", "gpt-3.5-turbo-16k", "gpt-3.5-turbo-0125"),
    ("openai", "gpt-4-turbo-preview", "gpt-4-0125-preview"),
    ("openai", "gpt-4-vision-preview", "gpt-4-1106-vision-preview"),
    ("openai", "gpt-4-32k", "gpt-4-32k-0613"),
    ("openai", "gpt-5.6", "gpt-5.6-sol"),
    ("openai", "chatgpt-4o-latest", "gpt-4o-2024-11-20"),
    ("openai", "text-embedding-ada-002", "text-embedding-ada-002-v2"),
    ("openai", "davinci-002", "davinci:2023-07-21-v2"),
    ("openai", "computer-use-preview", "computer-use-preview-2025-03-11"),
    ("openai", "ft:gpt-4o-mini:acme::a1", "ft:gpt-4o-mini-2024-07-18:acme::a1"),
    ("openai", "a-name-of-tomorrow", "another-name-of-tomorrow"),
    ("openai", "gpt-4o", ""),
    ("anthropic", "claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("anthropic", "claude-sonnet-4-0", "claude-sonnet-4-20250514"),
    ("anthropic", "claude-2", "claude-2.1"),
    ("gemini", "gemini-flash-latest", "gemini-2.5-flash-preview-09-2025"),
    ("gemini", "gemini-2.5-pro-preview-03-25", "models/gemini-2.5-pro-preview-05-06"),
    ("gemini", "gemini-exp-1206", "gemini-2.5-pro"),
    ("mistral", "pixtral-12b", "ministral-14b-latest"),
    ("azure", "gpt-4o", "gpt-4.1-mini-2025-04-14"),  # the name of a deployment
    ("azure", "Cohere-embed-v3-english", "embed-english-v3.0"),
    ("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/mine", "claude-haiku-4-5-20251001"),
    ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-48k-20240307"),
    ("vertex", "1234567890", "gemini-2.0-flash"),
    ("", "gpt-3.5-turbo", "llama-3.2-3b-instruct"),  # a server on this machine, under the name that a tool asks for
    ("", "gpt-4o", "azure/gpt-4o-2024-08-06"),
    ("", "openrouter/auto", "anthropic/claude-sonnet-4.5"),
    ("", "tgi", "meta-llama/Llama-3.1-8B-Instruct"),
    ("", "claude-sonnet-4-5", "deepseek-chat"),  # DeepSeek's own endpoint for Anthropic's SDK
]


@pytest.mark.parametrize(("provider", "asked", "got"), STRANGERS)
def test_a_model_that_its_vendors_own_host_cannot_mean_by_this_name_is_another(provider, asked, got):
    assert told(asking(asked, provider), of(got)) == OTHER_MODEL
    assert told(asking(asked, provider), {}, {"type": "message_start", "message": {"model": got}}) == OTHER_MODEL
    assert told(asking(asked, provider), {"type": "response.created", "response": of(got)}) == OTHER_MODEL
    assert told(asking(asked, provider), {"modelVersion": got}) == OTHER_MODEL


@pytest.mark.parametrize(("provider", "asked", "got"), ALIASES)
def test_what_an_alias_a_deployment_a_gateway_or_a_router_becomes_fits(provider, asked, got):
    assert told(asking(asked, provider), of(got)) == ""


@pytest.mark.parametrize("provider", HOSTS)
@given(name=st.text(max_size=40), got=st.one_of(st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=2)))
def test_the_name_asked_for_and_what_is_no_name_fit_anywhere(provider, name, got):
    assert told(asking(name, provider), of(name), of(got)) == ""


@pytest.mark.parametrize(("provider", "asked", "got"), STRANGERS)
def test_a_request_that_names_several_models_or_none_fits_whichever_answers(provider, asked, got):
    for choice in ({"models": [got]}, {"fallbacks": [{"model": got}]}, {"context_window_fallbacks": [got]}):
        assert told(asking(asked, provider, **choice), of(got)) == ""
    assert told(asking("", provider), of(got)) == ""


# --- any other host ----------------------------------------------------------------------------------------------


def test_a_model_that_answered_under_its_own_name_does_not_answer_under_a_strangers():
    learned = LearnedHosts()
    for name in ("my-llama", "org/my-llama"):
        assert told(asking("my-llama"), of(name), learned=learned) == ""
    assert told(asking("my-llama"), of("my-qwen"), learned=learned) == OTHER_MODEL
    assert told(asking("fast"), of("my-qwen"), learned=learned) == "", "an alias: nothing is known of it"


def test_a_model_of_another_vendor_that_the_same_host_is_asked_for_is_not_the_one_asked_for_here():
    learned = LearnedHosts()
    learned.going("chat host", "qwen2.5-7b", ())
    assert told(asking("llama-3.1-8b"), of("Qwen/Qwen2.5-7B"), learned=learned) == OTHER_MODEL
    assert told(asking("llama-3.1-8b"), of("gemma-2-9b"), learned=learned) == "", "nobody asks for it"
    assert told(asking("fast"), of("qwen2.5-7b"), learned=learned) == "", "an alias of it"
    assert told(asking("llama-3.1-8b")._replace(where="elsewhere"), of("qwen2.5-7b"), learned=learned) == ""


def test_a_name_that_its_operator_moved_to_another_model_is_found_out_and_answers_out_of_step_are_not():
    learned = LearnedHosts()
    told(asking("my-llama"), of("my-llama"), learned=learned)
    moved = [told(asking("my-llama"), of("my-qwen"), learned=learned) for _ in range(IN_A_ROW + 5)]
    assert moved == [OTHER_MODEL] * IN_A_ROW + [""] * 5
    told(asking("my-llama"), of("my-llama"), learned=learned)
    for turn in range(4 * IN_A_ROW):
        right = turn % (IN_A_ROW - 1) == 0
        got = told(asking("my-llama"), of("my-llama" if right else "my-qwen"), learned=learned)
        assert got == ("" if right else OTHER_MODEL)


def test_what_is_learned_is_bounded():
    learned = LearnedHosts()
    for at in range(3 * KEPT):
        asked = asking(f"model {'x' * (at % 7)}{at}a", ids={"x-request-id": f"request {at}"})
        learned.going(f"{at % 5}", asked.model, asked.ids.values())
        told(asked, of(asked.model), learned=learned)
    assert max(len(learned.asked(str(at))) for at in range(5)) <= KEPT
    assert sum(learned.sent(f"request {at}") for at in range(3 * KEPT)) <= KEPT


# --- what is repeated ----------------------------------------------------------------------------------------------

REPEATED: list[tuple[str, Any, Any]] = [
    ("instructions", "Be brief.", "Be long."),
    ("previous_response_id", "resp_1", "resp_2"),
    ("max_output_tokens", 100, 200),
    ("temperature", 0.25, 0.75),
    ("top_p", 1, 0.5),
    ("user", "a", "b"),
    ("safety_identifier", "a", "b"),
    ("prompt_cache_key", "a", "b"),
    ("metadata", {"run": "1"}, {"run": "2"}),
]


def response(**fields: Any) -> dict[str, Any]:
    return {"object": "response", "model": "m", "output": [], **fields}


@pytest.mark.parametrize("provider", ["openai", "azure", ""])
@pytest.mark.parametrize(("name", "mine", "other"), REPEATED)
def test_a_response_that_repeats_another_requests_fields_is_that_ones(name, mine, other, provider):
    anywhere = name in ("metadata", "previous_response_id")
    asked = asking(provider=provider, **{name: mine})
    assert (
        told(asked, response(**{name: mine})) == told(asked, response(**{name: None})) == told(asked, response()) == ""
    )
    for value in (response(**{name: other}), {"type": "response.completed", "response": response(**{name: other})}):
        assert told(asked, value) == (OTHER_REQUEST if provider or anywhere else "")
    assert told(asking(provider=provider), response(**{name: other})) == "", "nothing was asked for: a default"
    assert told(asked, {**response(**{name: other}), "object": "chat.completion"}) == ""


def test_what_a_host_adds_or_rounds_is_no_other_requests():
    asked = asking(provider="openai", temperature=0.1, max_output_tokens=10, metadata={"a": "1"}, instructions="x")
    value = response(temperature=0.10000000149, max_output_tokens=10.0, metadata={"a": "1", "b": "2"})
    assert told(asked, value, {**value, "instructions": [{"type": "message"}]}) == ""


# --- ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x-client-request-id", "x-ms-client-request-id", "client-request-id"])
def test_a_clients_own_id_that_comes_back_as_another_is_another_requests(name):
    asked = asking(ids={name: "mine"})
    assert misfit(asked, [of("m")], LearnedHosts(), {name: "other"}) == OTHER_REQUEST
    assert misfit(asked, [of("m")], LearnedHosts(), {name: "mine"}) == ""
    assert (
        misfit(asked, [of("m")], LearnedHosts(), {}) == misfit(asking(), [of("m")], LearnedHosts(), {name: "x"}) == ""
    )


@pytest.mark.parametrize("name", ["x-request-id", "x-correlation-id", "request-id", "idempotency-key"])
def test_a_server_may_have_an_id_of_its_own_but_not_one_that_another_request_was_sent_with(name):
    learned, asked = LearnedHosts(), asking(ids={name: "request 1"})
    assert misfit(asked, [of("m")], learned, {name: "req_of_the_server"}) == ""
    learned.going("chat host", "m", ["request 1", "request 2"])
    assert misfit(asked, [of("m")], learned, {name: "request 2"}) == OTHER_REQUEST
    assert misfit(asked, [of("m")], learned, {name: "request 1"}) == ""
    # A server that is now known to repeat ids repeats those of other processes too.
    assert misfit(asked, [of("m")], learned, {name: "request of another process"}) == OTHER_REQUEST


@pytest.mark.parametrize("field", ["id", "request_id", "rid"])
@pytest.mark.parametrize("before", ["", "chatcmpl-", "resp_"])
def test_an_answer_named_by_the_id_of_another_request_is_that_ones(field, before):
    learned, asked = LearnedHosts(), asking(ids={"x-request-id": "request-0001"})
    learned.going("chat host", "m", ["request-0001", "request-0002"])
    assert told(asked, {**of("m"), field: f"{before}request-0001"}, learned=learned) == ""
    assert told(asked, {**of("m"), field: f"{before}request-0002"}, learned=learned) == OTHER_REQUEST


def test_ids_are_found_in_headers_and_in_bodies():
    headers = [("x-request-id", "1"), ("accept", "*/*"), ("x-client-request-id", "")]
    assert ids_of(headers) == {"x-request-id": "1"}
    assert ids_of(headers, lambda: {"request_id": "2", "rid": 3}) == {"x-request-id": "1", "request_id": "2"}


# --- recorded traffic --------------------------------------------------------------------------------------------


class Recorded(NamedTuple):
    id: str
    asked: Request
    values: list[dict[str, Any]]
    headers: dict[str, str]

    def fits(self, learned: LearnedHosts) -> str:
        return misfit(self.asked, self.values, learned, self.headers)


@pytest.fixture(scope="module")
def recorded(corpus_dir: Path) -> list[Recorded]:
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [one for one in map(_recorded, map(json.loads, lines)) if one]


def _recorded(record: dict[str, Any]) -> Recorded | None:
    operation = by_path(record["method"], record["url_path"], record["host"])
    try:
        body = json.loads(record["request_body"] or "null")
    except ValueError:
        return None
    operation = agreed(operation, body) if operation and isinstance(body, dict) else None
    if operation is None or record["status"] != 200:
        return None
    text = record["response_body"]
    raw = text.encode() if text is not None else base64.b64decode(record["response_body_b64"])
    headers = {name.lower(): value for name, value in record["response_headers"].items()}
    values = read(raw, headers.get("content-type", "")).values if record["stream"] else [json.loads(raw)]
    where = f"{operation.api.name} {record['stream']} {record['host']}"
    ids = ids_of([(name.lower(), value) for name, value in record["request_headers"].items()], lambda: body)
    asked = Request(model_of(operation, body), operation.provider, where, lambda: body, ids)
    return Recorded(record["id"], asked, values, dict(ids_of(headers.items())))


# A test suite's proxy had replaced OpenAI's answers by Moonshot's, with OpenRouter's ids.
NO_OPENAIS = {
    *("openai-3842047c7f1d", "openai-aba42e3c127c", "openai-3cdc05c40fd0", "openai-a96c46584dc7"),
    "openai-5dfb545c4005",
}


@pytest.mark.parametrize("learning", [False, True], ids=["alone", "one after another"])
def test_every_recorded_answer_fits_its_request_but_for_five_that_are_none(recorded, learning):
    learned = LearnedHosts()
    strange = {}
    for one in recorded:
        learned = learned if learning else LearnedHosts()
        learned.going(one.asked.where, one.asked.model, one.asked.ids.values())
        if reason := one.fits(learned):
            strange[one.id] = reason
    assert strange == dict.fromkeys(NO_OPENAIS, OTHER_MODEL)
    assert len(recorded) > 2900


def test_most_recorded_answers_of_another_model_of_the_same_host_are_told(recorded):
    """Each is given to a request for every other model, at the two hosts of most records."""
    for provider in ("openai", "anthropic"):
        one_each = {
            one.asked.model: one for one in recorded if one.asked.provider == provider and one.id not in NO_OPENAIS
        }
        pairs = [*itertools.permutations(one_each.values(), 2)]
        pairs = [
            (one, other)
            for one, other in pairs
            if NUMBERED.match(one.asked.model) and named(other) and not akin(one.asked.model, other.asked.model)
        ]
        found = sum(bool(other._replace(asked=one.asked).fits(LearnedHosts())) for one, other in pairs)
        assert found > 0.9 * len(pairs) > 20, (provider, found, len(pairs))


NUMBERED = re.compile(r"gpt-\d|o\d|claude-")


def named(one: Recorded) -> bool:
    """Whether its answer says a name with a number."""
    return any(NUMBERED.match(name) for name in re.findall(r'"model": "([^"]*)"', json.dumps(one.values)))


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(HOSTS))
def test_no_name_whatever_breaks_the_reader_of_names(one, other, provider):
    assert akin(one, one)
    assert akin(one, other) == akin(other, one)
    assert not of_a_stranger(provider, one, one)
