"""Keys: equal questions have one key, and no others do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import hashlib
import json
import math
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from askonce.core import keys, labels
from askonce.core.keys import Key, canonical, digest
from askonce.core.labels import check_scope, check_tag, check_tags, field, fields
from askonce.errors import ConfigError, RequestError
from tests.corpus import canonical_body
from tests.profiles import examples

GOLDEN = json.loads((Path(__file__).parent / "golden_keys.json").read_text("utf-8"))

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1e-5, 1e-4, 9.5e15, 1e16, 2.0**53, 2.0**53 - 1, 5e-324, 1e308]),
)
texts = st.text(st.characters(exclude_categories=()), max_size=12)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
wire_texts = st.text(max_size=12)
wire_leaves = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
)
wire_bodies = st.dictionaries(
    wire_texts,
    st.recursive(
        wire_leaves | wire_texts, lambda i: st.lists(i, max_size=4) | st.dictionaries(wire_texts, i, max_size=4)
    ),
    max_size=5,
)


def meaning(value: Any) -> Any:
    """What makes two questions one, said without JSON: an integral double below 2**53 is the integer, no more."""
    if isinstance(value, dict):
        return "dict", frozenset((name, meaning(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(meaning, value))
    if isinstance(value, float):
        return ("int", int(value)) if value.is_integer() and abs(value) < 2**53 else ("float", value.hex())
    return type(value).__name__, value


def disguised(value: Any, draw: Any) -> Any:
    """The same question, written in another way."""
    if isinstance(value, dict):
        names = draw(st.permutations(list(value)))
        return {name: disguised(value[name], draw) for name in names}
    if isinstance(value, list):
        items = [disguised(item, draw) for item in value]
        return tuple(items) if draw(st.booleans()) else items
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return float(value) if draw(st.booleans()) else value
    return value


def mutated(value: Any, draw: Any) -> Any:
    """The question with one leaf, key or length changed (perhaps into the same again: `meaning` knows)."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(list(value)))
        rest = {other: item for other, item in value.items() if other != name}
        return rest if draw(st.integers(0, 4)) == 0 else {**rest, name: mutated(value[name], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], mutated(value[at], draw), *value[at + 1 :]]
    return draw(leaves)


# --- the canonical body ---


@pytest.mark.parametrize("case", GOLDEN["canonical"], ids=lambda case: case["canonical"][:40])
def test_a_golden_request_keeps_its_canonical_form_or_the_format_gets_a_new_number(case):
    assert GOLDEN["format"] == keys.FORMAT, "a new format: write new golden vectors beside the old"
    assert canonical(case["request"]) == case["canonical"].encode()


@pytest.mark.parametrize("case", GOLDEN["body"], ids=lambda case: case["raw"][:40])
def test_a_golden_body_keeps_its_canonical_form_or_the_format_gets_a_new_number(case):
    assert canonical_body(case["raw"].encode(), case["drop"]) == case["canonical"].encode()


@given(st.data(), values)
@settings(max_examples=examples(300), deadline=None)
def test_a_question_written_in_another_way_is_the_same_question(data, value):
    assert canonical(disguised(value, data.draw)) == canonical(value)


@given(st.data(), values)
@settings(max_examples=examples(600), deadline=None)
def test_two_questions_share_a_body_exactly_when_they_mean_the_same(data, value):
    share_exactly_when_the_same(data, value)


@pytest.mark.slow
@given(st.data(), values)
@settings(max_examples=10_000, deadline=None)
def test_10_000_pairs_share_a_body_exactly_when_they_mean_the_same(data, value):
    share_exactly_when_the_same(data, value)


def share_exactly_when_the_same(data, value):
    other = mutated(value, data.draw)
    assert (canonical(value) == canonical(other)) == (meaning(value) == meaning(other))


@given(values)
@settings(max_examples=examples(300), deadline=None)
def test_a_canonical_body_says_what_was_asked(value):
    assert meaning(json.loads(canonical(value).decode("utf-8", "surrogatepass"))) == meaning(value)


@given(wire_bodies, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]), st.booleans())
@settings(max_examples=examples(300), deadline=None)
def test_a_body_from_the_wire_is_keyed_as_the_same_request_in_python_is(value, separators, ascii_only):
    raw = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    assert canonical_body(raw) == canonical(value)


@given(st.floats(min_value=keys.SMALL, max_value=keys.LARGE, exclude_max=True))
@settings(max_examples=examples(500))
def test_between_small_and_large_a_float_is_written_as_python_writes_it(number):
    assert (
        canonical([number]) == json.dumps([int(number) if number.is_integer() and number < 2**53 else number]).encode()
    )


def test_one_and_one_point_nought_are_one_and_true_is_not():
    assert canonical({"n": 1}) == canonical({"n": 1.0}) != canonical({"n": True})
    assert canonical({"t": 0}) == canonical({"t": 0.0}) == canonical({"t": -0.0})
    assert canonical({"n": "1"}) != canonical({"n": 1})
    assert canonical({"n": None}) != canonical({})


def test_above_2_to_the_53_a_double_is_not_taken_for_an_integer():
    assert canonical([2**53]) != canonical([2.0**53])
    assert canonical([10**30]) != canonical([1e30])


def test_a_long_list_of_tokens_is_looked_over_for_floats_too():
    tokens = list(range(1000))
    assert canonical([*tokens, 7.0]) == canonical([*tokens, 7])
    assert canonical([tokens, [[1.0]] * 50]) == canonical([tokens, [[1]] * 50])


class Question(BaseModel):
    text: str = "why?"
    temperature: float = 1.0


@dataclasses.dataclass
class Part:
    weight: float = 2.0
    name: str = "a"
    _hidden: int = 3


class Role(enum.StrEnum):
    USER = "user"


class Weight(enum.Enum):
    WHOLE = 1.0
    NONE = math.nan


class Pair(NamedTuple):
    x: int
    y: float


def test_types_of_ones_own_are_written_as_their_plain_data():
    assert canonical({"q": Question()}) == b'{"q":{"temperature":1,"text":"why?"}}'
    assert canonical([Weight.WHOLE]) == b"[1]"
    assert canonical([Part()]) == b'[{"_hidden":3,"name":"a","weight":2}]'
    assert canonical({Role.USER: Role.USER, "p": Pair(1, 2.0)}) == b'{"p":[1,2],"user":"user"}'
    assert canonical(dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)) == b'"2026-01-02T03:00:00+00:00"'
    assert (
        canonical([uuid.UUID(int=1), dt.date(2026, 1, 2)]) == b'["00000000-0000-0000-0000-000000000001","2026-01-02"]'
    )


@pytest.mark.parametrize(
    ("request_", "path", "remedy"),
    [
        ({"messages": [{"role": "user"}, {"content": math.nan}]}, "$.messages[1].content", "None"),
        ({"a": [1.5, -math.inf]}, "$.a[1]", "None"),
        ({"a": {"b c": b"x"}}, "$.a['b c']", "base64"),
        ({"a": {1, 2}}, "$.a", "sorted"),
        ({"a": {1: "x"}}, "$.a[1]", "str(key)"),
        ({"f": print}, "$.f", "variant="),
        ([object()], "$[0]", "variant="),
        ({"q": Question(temperature=math.inf)}, "$.q.temperature", "None"),
        ({"w": [Weight.NONE]}, "$.w[0]", "None"),
        (math.nan, "$", "None"),
    ],
)
def test_a_request_without_an_exact_form_is_refused_with_its_place_and_a_remedy(request_, path, remedy):
    with pytest.raises(RequestError) as caught:
        canonical(request_)
    assert caught.value.path == path
    assert remedy in str(caught.value)


def test_a_circle_is_refused_with_its_place():
    circle: dict[str, Any] = {"messages": []}
    circle["messages"].append(circle)
    with pytest.raises(RequestError, match=r"\$\.messages\[0\]: refers to itself"):
        canonical(circle)


def test_the_same_list_twice_is_no_circle():
    shared = [1.0]
    assert canonical([shared, shared]) == b"[[1],[1]]"


def test_what_is_nested_deeper_than_orjson_goes_is_still_written_and_deeper_than_python_refused():
    def nested(depth: int) -> Any:
        value: Any = 1.0
        for _ in range(depth):
            value = [value]
        return value

    assert canonical(nested(300)) == b"[" * 300 + b"1" + b"]" * 300
    with pytest.raises(RequestError, match="nested too deep"):
        canonical(nested(3000))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":9007199254740993}',
        b'{"a":-9007199254740993}',
        b'{"a":18446744073709551617}',
        b'{"a":0.10000000000000000001}',
        b'{"a":1e400}',
        b'{"a":1e-400}',
        b'{"a":1e99999999999999999999}',
        b'{"a":0e99999999999999999999}',
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b"[1,2]",
        b'"text"',
        b"not json",
        b"",
        b'\xef\xbb\xbf{"a":1}',
        b"\xff",
        b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_a_body_that_parsing_could_change_is_keyed_by_its_own_bytes(raw):
    assert canonical_body(raw, ("a",)) == keys.RAW + raw


def test_raw_and_parsed_bodies_cannot_meet():
    assert canonical_body(keys.RAW + b"{}") != canonical_body(b"{}")


def test_only_top_level_fields_are_left_out():
    raw = b'{"user":"u","messages":[{"user":"v"}],"stream":true}'
    assert canonical_body(raw, ("user", "stream")) == b'{"messages":[{"user":"v"}]}'


# --- the digest ---

PARTS: dict[str, Any] = {"prefix": "p", "tenant": "t", "scope": "s/v1", "variant": 0, "upstream": "u", "body": b"{}"}


@pytest.mark.parametrize("case", GOLDEN["digest"], ids=lambda case: case["digest"][:12])
def test_a_golden_digest_stays_or_the_format_gets_a_new_number(case):
    parts = {name: value for name, value in case.items() if name != "digest"}
    parts["body"] = parts["body"].encode()
    parts["headers"] = [tuple(line) for line in parts["headers"]]
    assert digest(**parts).hex() == case["digest"]


def test_a_digest_is_sha256_over_parts_that_each_carry_their_length():
    def part(data: bytes) -> bytes:
        return len(data).to_bytes(8, "big") + data

    listed = (b"1", b"p", b"t", b"s/v1", b"0", b"u", b"1", b"openai-beta", b"x=1", b"{}")
    expected = hashlib.sha256(b"".join(map(part, listed))).digest()
    assert digest(**PARTS, headers=[("OpenAI-Beta", "x=1")]) == expected


names = st.text("ab/", max_size=3)
part_lists = st.tuples(names, names, names, names, names, st.lists(st.tuples(names, names), max_size=2), names)


def digest_of(parts: Any) -> bytes:
    prefix, tenant, scope, variant, upstream, headers, body = parts
    return digest(
        prefix=prefix,
        tenant=tenant,
        scope=scope,
        variant=variant,
        upstream=upstream,
        headers=headers,
        body=body.encode(),
    )


@given(part_lists, part_lists)
@settings(max_examples=examples(500))
def test_distinct_parts_have_distinct_digests_even_where_their_concatenation_agrees(one, other):
    def told(parts: Any) -> Any:  # headers are a set of lines, not a list
        return (*parts[:5], sorted(parts[5], key=lambda line: line[0]), parts[6])

    assert (digest_of(one) == digest_of(other)) == (told(one) == told(other))


def test_a_part_cannot_lend_its_end_to_the_next():
    listed = [("ab", "", ""), ("a", "b", ""), ("", "ab", ""), ("", "a", "b"), ("", "", "ab")]
    found = {digest(**PARTS | {"prefix": a, "tenant": b, "scope": c}) for a, b, c in listed}
    assert len(found) == len(listed)


@pytest.mark.parametrize(
    "change",
    [{"prefix": "q"}, {"tenant": ""}, {"scope": "s"}, {"variant": 1}, {"upstream": ""}, {"body": b"[]"}],
    ids=lambda change: next(iter(change)),
)
def test_every_part_counts(change):
    assert digest(**PARTS) != digest(**PARTS | change)


def test_a_variant_is_the_same_as_a_number_and_as_text():
    assert digest(**PARTS | {"variant": 2}) == digest(**PARTS | {"variant": "2"})
    assert digest(**PARTS | {"variant": 1}) != digest(**PARTS | {"variant": True})


def test_headers_count_by_name_in_any_case_and_in_any_order():
    one = digest(**PARTS, headers=[("A", "1"), ("B", "2")])
    assert one == digest(**PARTS, headers=[("b", "2"), ("a", "1")])
    assert one != digest(**PARTS, headers=[("a", "2"), ("b", "1")])
    assert one != digest(**PARTS)


def test_a_digest_asked_for_twice_is_the_same():
    assert digest(**PARTS) == digest(**PARTS)


# --- keys ---


def test_a_key_is_shown_as_hex_and_read_back():
    key = Key(digest(**PARTS))
    assert Key.parse(key.text) == key == Key.parse(key.text.upper())
    assert len(key.text) == 64
    assert key.form == "v"


@pytest.mark.parametrize(
    "text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, " " + "a" * 63, None, b"a" * 64, "a" * 62 + "  "]
)
def test_what_is_not_a_key_is_refused_with_the_way_to_get_one(text):
    with pytest.raises(ConfigError, match=r"outcome\.key"):
        Key.parse(text)


# --- scopes, tags, generation fields ---


def test_a_field_is_14_bits_of_a_digest():
    assert [field(kind, text) for kind, text, _ in GOLDEN["field"]] == [number for _, _, number in GOLDEN["field"]]
    assert field("tag", "doc:42") == int.from_bytes(hashlib.sha256(b"tag\0doc:42").digest()[:2], "big") // 4


@given(st.sampled_from(["scope", "model", "tag"]), st.text())
def test_a_field_is_never_out_of_range(kind, text):
    assert 0 <= field(kind, text) < 16384


def test_a_scope_lies_in_every_scope_above_it():
    assert labels.scope_paths("support/triage/v3") == ("support", "support/triage", "support/triage/v3")
    assert labels.scope_paths("") == ()


def test_the_fields_of_a_lookup_are_those_of_its_scopes_model_and_tags_each_once():
    found = fields("a/b", "gpt", ("x", "x"))
    assert found == tuple(
        sorted({field("scope", "a"), field("scope", "a/b"), field("model", "gpt"), field("tag", "x")})
    )
    assert fields("", "", ()) == ()


@pytest.mark.parametrize("scope", ["", "a", "support/triage/v3", "a b", "Straße/日本", "x" * 200])
def test_a_scope_that_is_a_path_is_taken(scope):
    assert check_scope(scope) == scope


@pytest.mark.parametrize(
    ("scope", "remedy"),
    [
        ("/a", "'a'"),
        ("a/", "'a'"),
        ("a//b", "'a/b'"),
        ("/", "support/triage/v3"),
        ("a\nb", "control characters"),
        ("a\x7f", "control characters"),
        ("a\ud800", "control characters"),
        ("x" * 201, "at most 200"),
        (3, "'3'"),
        (None, "text"),
    ],
)
def test_a_scope_that_is_no_path_is_refused_with_what_to_write(scope, remedy):
    with pytest.raises(ConfigError, match=remedy):
        check_scope(scope)


def test_tags_are_sorted_and_each_is_there_once():
    assert check_tags(["doc:42", "a", "doc:42"]) == ("a", "doc:42")
    assert check_tags({"a"}) == check_tags(tag for tag in "a") == ("a",)
    assert check_tags(()) == check_tags([]) == ()
    assert check_tag("a, b") == "a, b"


@pytest.mark.parametrize(
    ("tags", "remedy"),
    [
        ("doc:42", r"tags=\['doc:42'\]"),
        ("", "list of tags"),
        (None, "list of tags"),
        (7, "list of tags"),
        ([""], "empty"),
        (["a", 7], "'7'"),
        ([["a"]], "text"),
        (["x" * 201], "at most 200"),
        (["a\0"], "control characters"),
        ([str(n) for n in range(65)], "at most 64"),
    ],
)
def test_tags_that_cannot_be_meant_are_refused_with_what_to_write(tags, remedy):
    with pytest.raises(ConfigError, match=remedy):
        check_tags(tags)
