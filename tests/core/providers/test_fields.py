"""Parts of a body that do not count: only where that is known and no answer repeats them, and never a user's text."""

from __future__ import annotations

import copy
import json
import os
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typing_extensions
from anthropic.types import message_create_params as message_params
from anthropic.types.beta import message_create_params as beta_message_params
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from askonce.core import keys
from askonce.core.providers import APIS
from askonce.core.providers.api import Left
from askonce.core.providers.fields import FORM, left_out, per_input, unmark
from askonce.core.providers.hosts import PROVIDERS
from askonce.core.providers.operations import Operation, agreed
from tests.corpus import by_path
from tests.profiles import examples

PAGE = Path(__file__).parents[3] / "docs" / "keys.md"
HOSTS = {
    "openai": ("api.openai.com", "/v1"),
    "azure": ("mine.openai.azure.com", "/openai/v1"),
    "anthropic": ("api.anthropic.com", ""),
    "vertex": ("aiplatform.googleapis.com", "/v1/projects/p/locations/l"),
    "bedrock": ("bedrock-runtime.us-east-1.amazonaws.com", "/model/a.b"),
    "": ("llm.internal", "/v1"),
}
Record = dict[str, Any]


def at(provider: str, operation: str) -> Operation:
    host, base = HOSTS[provider]
    found = by_path("POST", base + operation, host)
    assert found is not None
    assert found.provider == provider
    return found


def key_body(operation: Operation, body: Any) -> bytes:
    """The body's part of the key, as an exchange works it out."""
    raw = json.dumps(body).encode()
    meant = agreed(operation, body)
    assert meant is not None
    exact = keys.parsed(raw)
    assert exact is not None
    unmark(meant, exact, raw)
    return keys.canonical_fields(exact, raw, left_out(meant))


TURNS: Any = [{"role": "user", "content": "?"}]
CHAT = {"model": "m", "messages": TURNS}
ASKED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("openai", "/chat/completions", CHAT, {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"}),
    ("azure", "/chat/completions", CHAT, {"user": "u", "prompt_cache_retention": "24h"}),
    ("openai", "/completions", {"model": "m", "prompt": "?"}, {"user": "u"}),
    ("openai", "/embeddings", {"model": "m", "input": "?"}, {"user": "u"}),
    ("anthropic", "/v1/messages", {**CHAT, "max_tokens": 5}, {"metadata": {"user_id": "u"}}),
    ("anthropic", "/v1/messages", {**CHAT, "max_tokens": 5}, {"cache_control": {"type": "ephemeral"}}),
    (
        "vertex",
        "/publishers/google/models/g:generateContent",
        {"contents": [{"parts": [{"text": "?"}]}]},
        {"labels": {"team": "a"}},
    ),
    (
        "bedrock",
        "/converse",
        {"messages": [{"role": "user", "content": [{"text": "?"}]}]},
        {"requestMetadata": {"team": "a"}},
    ),
]


@pytest.mark.parametrize(("provider", "path", "body", "more"), ASKED)
def test_a_field_that_no_answer_repeats_is_left_out_at_its_providers_own_host(provider, path, body, more):
    operation = at(provider, path)
    assert key_body(operation, body) == key_body(operation, {**body, **more})


@pytest.mark.parametrize(("provider", "path", "body", "more"), ASKED)
def test_at_any_other_host_it_counts(provider, path, body, more):
    there = "/v1" if provider == "vertex" else "/model/a.b" if provider == "bedrock" else ""
    path = path.removeprefix("/v1")
    operation = by_path("POST", (there or "/v1") + path, "gateway.example")
    assert operation is not None
    assert key_body(operation, body) != key_body(operation, {**body, **more})


REPEATED = ["metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "store"]


@pytest.mark.parametrize("field", [*REPEATED, "prompt_cache_options", "service_tier", "truncation"])
@pytest.mark.parametrize("provider", ["openai", "azure", ""])
def test_what_the_responses_api_says_back_counts(provider, field):
    operation = at(provider, "/responses")
    body = {"model": "m", "input": "?"}
    assert key_body(operation, {**body, field: "a"}) != key_body(operation, {**body, field: "b"})


@pytest.mark.parametrize("field", ["metadata", "store", "prompt_cache_options", "seed", "service_tier", "n"])
def test_what_may_show_in_a_chat_answer_counts(field):
    operation = at("openai", "/chat/completions")
    assert key_body(operation, {**CHAT, field: 1}) != key_body(operation, CHAT)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses"])
def test_how_an_answer_is_told_is_left_out_anywhere(path):
    body = {"model": "m", "messages": TURNS, "prompt": "?", "input": "?"}
    told = {**body, "stream": True, "stream_options": {"include_usage": True}}
    for provider in ("openai", "azure", ""):
        if provider != "azure" or path != "/completions":
            operation = at(provider, path)
            assert key_body(operation, body) == key_body(operation, told)
    assert {left.field for api in APIS for left in api.left_out if not left.providers} == FORM


# --- marks of prompt caches ---

MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
BREAK = {"prompt_cache_breakpoint": {"mode": "explicit"}}


def marked(mark: dict[str, Any]) -> dict[str, Any]:
    """A request with `mark` everywhere where Anthropic takes one."""
    text = {"type": "text", "text": "?", **mark}
    document = {"type": "document", "source": {"type": "content", "content": [text]}, **mark}
    found = {"type": "web_fetch_tool_result", "content": {"type": "web_fetch_result", "content": document}, **mark}
    used = {"type": "tool_use", "id": "1", "name": "f", "input": {"cache_control": "mine"}, **mark}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [text, document], **mark}
    return {
        "model": "m",
        "max_tokens": 5,
        "anthropic_version": "v",
        "system": [{"type": "text", "text": "be brief", **mark}],
        "tools": [{"name": "f", "input_schema": {"properties": {"cache_control": {"type": "object"}}}, **mark}],
        "messages": [
            {"role": "user", "content": [text, {"type": "search_result", "content": [text], **mark}]},
            {"role": "assistant", "content": [used, found]},
            {"role": "user", "content": [result, {"type": "image", "source": {"type": "url"}, **mark}]},
        ],
    }


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("anthropic", "/v1/messages"),
        ("bedrock", "/invoke"),
        ("vertex", "/publishers/anthropic/models/c:rawPredict"),
    ],
)
def test_a_mark_of_a_prompt_cache_does_not_count_wherever_a_provider_takes_it(provider, path):
    operation = at(provider, path)
    assert key_body(operation, marked(MARK)) == key_body(operation, marked({}))
    assert key_body(operation, marked({"cache_control": None})) == key_body(operation, marked({}))
    assert b"ephemeral" not in key_body(operation, marked(MARK))
    assert b'"cache_control":"mine"' in key_body(operation, marked(MARK))


def arms(kind: Any) -> list[tuple[Any, bool]]:
    """The classes that a type of an SDK's stands for, and whether they come in a list."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, Iterable, Sequence):
        return [(one, True) for one, _ in arms(inner[0])]
    if origin in (typing.Union, types.UnionType):
        return [arm for one in inner for arm in arms(one)]
    if origin is typing.Annotated or "Required" in str(origin):
        return arms(inner[0])
    return [(kind, False)] if typing_extensions.is_typeddict(kind) else []


Step = tuple[str, bool, Any]


def ways(kind: Any, field: str, above: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """The ways through a request's types to whatever may hold this field."""
    hints = typing.get_type_hints(kind)
    if field in hints and above:
        yield above
    for name, hint in hints.items():
        for inner, many in arms(hint):
            if all(inner is not step[2] for step in above):
                yield from ways(inner, field, (*above, (name, many, inner)))


def along(way: tuple[Step, ...], mark: dict[str, Any]) -> Any:
    """A value with a mark at the end of a way."""
    made: Any = copy.deepcopy(mark)
    for name, many, _ in reversed(way):
        made = {"type": "text", "role": "user", name: [made] if many else made}
    return made


SDK_MARKS = [
    ("anthropic", "/v1/messages", MARK, message_params.MessageCreateParamsBase),
    ("anthropic", "/v1/messages", MARK, beta_message_params.MessageCreateParamsBase),
    ("openai", "/chat/completions", BREAK, chat_params.CompletionCreateParamsBase),
    ("openai", "/responses", BREAK, response_params.ResponseCreateParamsBase),
]


@pytest.mark.parametrize(("provider", "path", "mark", "params"), SDK_MARKS)
def test_a_mark_is_taken_out_wherever_the_installed_sdk_can_put_one(provider, path, mark, params):
    operation, places = at(provider, path), set()
    for way in ways(params, next(iter(mark))):
        body = along(way, mark)
        unmark(operation, body, json.dumps(mark).encode())
        places.add(".".join(name for name, *_ in way))
        assert next(iter(mark)) not in json.dumps(body), places
    assert len(places) >= 2


def test_at_any_other_host_a_mark_counts():
    operation = by_path("POST", "/anthropic/v1/messages", "gateway.example")
    assert operation is not None
    assert key_body(operation, marked(MARK)) != key_body(operation, marked({}))


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every dict in a value."""
    if isinstance(value, dict):
        yield path
    for name, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(item, (*path, name))


def put(value: Any, path: tuple[Any, ...], more: dict[str, Any]) -> Any:
    made = copy.deepcopy(value)
    at = made
    for name in path:
        at = at[name]
    at.update(more)
    return made


USERS_OWN = ("input", "input_schema", "properties", "text", "metadata", "citations")


def test_a_field_of_that_name_counts_where_it_is_the_users_own():
    operation = at("anthropic", "/v1/messages")
    plain = marked({})
    plain["messages"][0]["content"][0]["citations"] = [{"type": "char_location"}]
    for path in paths(plain):
        same = key_body(operation, put(plain, path, MARK)) == key_body(operation, plain)
        blocks = (path and path[-1] != "source" and path[:1] != ("messages",)) or "content" in path
        users = any(name in USERS_OWN for name in path) or (path and path[-1] == "source")
        assert same == (not users and (bool(blocks) or path == ())), path


@given(st.text() | st.integers(-9, 9) | st.booleans() | st.lists(st.integers(-9, 9)))
def test_what_is_no_mark_counts(value):
    operation = at("anthropic", "/v1/messages")
    plain = {**CHAT, "max_tokens": 5, "system": [{"type": "text", "text": "?"}]}
    odd = {**plain, "system": [{"type": "text", "text": "?", "cache_control": value}]}
    assert key_body(operation, odd) != key_body(operation, plain)


def test_openais_breakpoints_do_not_count_in_content_and_count_elsewhere():
    chat, responses = at("openai", "/chat/completions"), at("azure", "/responses")

    def asked(**more: Any) -> Any:
        part = {"type": "text", "text": "?", **more}
        return {**CHAT, "messages": [{"role": "user", "content": [part]}]}

    def items(**more: Any) -> Any:
        part = {"type": "input_text", "text": "?", **more}
        items = [{"role": "user", "content": [part]}, {"type": "function_call_output", "output": [part]}]
        return {"model": "m", "input": items}

    assert key_body(chat, asked(**BREAK)) == key_body(chat, asked())
    assert key_body(responses, items(**BREAK)) == key_body(responses, items())
    tool = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": BREAK}}}]}
    assert key_body(chat, {**asked(), **tool}) != key_body(chat, {**asked(), "tools": []})
    unknown = by_path("POST", "/v1/chat/completions", "gateway.example")
    assert unknown is not None
    assert key_body(unknown, asked(**BREAK)) != key_body(unknown, asked())


def test_where_the_answer_tells_of_breakpoints_they_count():
    operation = at("openai", "/responses")
    asks: Any = {"model": "m", "prompt_cache_options": {"mode": "explicit", "comparison_response_id": "resp_1"}}
    one, other = (
        {**asks, "input": [{"role": "user", "content": [{"type": "input_text", "text": "?", **more}]}]}
        for more in ({}, BREAK)
    )
    assert key_body(operation, one) != key_body(operation, other)


def test_converses_cache_points_do_not_count_and_what_looks_like_one_does():
    operation = at("bedrock", "/converse")
    point = {"cachePoint": {"type": "default"}}

    def asked(*points: Any) -> Any:
        return {
            "system": [{"text": "be brief"}, *points],
            "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}, *points]},
            "messages": [{"role": "user", "content": [{"text": "?"}, *points]}],
        }

    assert key_body(operation, asked(point)) == key_body(operation, asked())
    assert key_body(operation, asked({**point, "text": "x"})) != key_body(operation, asked())
    result = {"toolResult": {"content": [{"json": {"blocks": [point]}}]}}
    assert key_body(operation, asked(result)) != key_body(
        operation, asked({"toolResult": {"content": [{"json": {"blocks": []}}]}})
    )


@given(st.data())
@settings(max_examples=examples(30), deadline=None)
def test_no_request_makes_the_taking_out_raise(data):
    junk = st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["content", "source", "cache_control", "tools", "cachePoint"]), inner)
        ),
    )
    body = data.draw(st.dictionaries(st.sampled_from(["system", "tools", "messages", "input", "toolConfig"]), junk))
    raw = b'"cache_control" "prompt_cache_breakpoint" "cachePoint"'
    for provider, path in (("anthropic", "/v1/messages"), ("openai", "/responses"), ("bedrock", "/converse")):
        unmark(at(provider, path), copy.deepcopy(body), raw)


# --- batches ---


@pytest.mark.parametrize("field", ["late_chunking", "task", "user", "provider", "x", "input_type", "truncate"])
def test_a_batch_with_a_field_that_is_not_known_to_be_each_inputs_own_is_one_question(field):
    body = {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 4}
    assert per_input(at("", "/embeddings"), body)
    assert not per_input(at("", "/embeddings"), {**body, field: True})


def test_what_is_known_of_a_provider_counts_there_alone():
    body = {"model": "m", "input": ["a"], "user": "u"}
    assert per_input(at("openai", "/embeddings"), body)
    assert not per_input(at("", "/embeddings"), body)
    assert {host for api in APIS for host in api.per_input} <= {*PROVIDERS, ""}


# --- the law over recorded traffic ---


def leaves(value: Any) -> Iterator[str]:
    """The texts in a value; numbers and truths are in too many answers to mean anything."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from leaves(item)


def heard(record: Record) -> set[str]:
    """The texts in an answer, whole or of its events."""
    texts: set[str] = set()
    for line in (record["response_body"] or "").replace("\ndata: ", "\n").removeprefix("data: ").splitlines():
        try:
            texts.update(leaves(json.loads(line)))
        except ValueError:
            continue
    return texts | set(leaves(whole(record["response_body"])))


def whole(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


def test_no_value_of_an_ignored_field_is_in_any_recorded_answer(records):
    seen: Counter[str] = Counter()
    for record in records:
        body = whole(record["request_body"])
        named = by_path(record["method"], record["url_path"], record["host"])
        operation = agreed(named, body) if named and isinstance(body, dict) else None
        for field in (left_out(operation) - FORM) & body.keys() if operation else ():
            said = set(leaves(body[field]))
            seen[field] += 1
            assert not said & heard(record), (record["id"], field)
    assert {"prompt_cache_key", "cache_control", "metadata"} <= seen.keys()


def test_the_law_finds_what_the_responses_api_says_back(records):
    """The same search over fields that count there, for which it has to fail: else the law above shows nothing."""
    repeated = Counter(
        field
        for record in records
        if record["api"] == "openai.responses" and isinstance(body := whole(record["request_body"]), dict)
        for field in ("prompt_cache_key", "instructions", "service_tier")
        if field in body and set(leaves(body[field])) & heard(record)
    )
    assert repeated["prompt_cache_key"] >= 2
    assert repeated["instructions"] > 50


# --- the table in the docs ---


def told(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "any"


def table() -> str:
    fields: dict[Left, list[str]] = {}
    for api in APIS:
        for left in api.left_out:
            fields.setdefault(left, []).append(api.name)
    rows = [
        f"| `{one.field}` | {told(tuple(names))} | {told(one.providers)} | {one.why} |" for one, names in fields.items()
    ]
    rows += [
        f"| `{one.field}` in {one.places} | {api.name} | {told(one.providers)} | where a prompt cache may break:"
        " price and speed |"
        for api in APIS
        for one in api.marks
    ]
    return "\n".join(["| field | requests | at hosts of | why |", "|---|---|---|---|", *rows])


def test_the_table_in_the_docs_is_what_is_ignored():
    page = PAGE.read_text()
    start, mark, after = page.partition("tests/core/providers/test_fields.py -->\n")
    shown, gap, rest = after.partition("\n\n")
    if os.environ.get("ASKONCE_WRITE_DOCS"):
        PAGE.write_text(start + mark + table() + gap + rest)
    else:
        assert shown == table()
