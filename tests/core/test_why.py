"""Where two requests differ, by their digests alone; what is said of it; and that nothing of a request is in either."""

from __future__ import annotations

import contextlib
import copy
import string
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core.differences import differences, nearest
from askonce.core.field_digests import OBJECT, ROOM, Digests, Node, leaves, packed, step, unpacked
from askonce.core.keys import RAW, canonical
from askonce.core.parts import Parts
from askonce.core.seen import Invalidated, Seen, owner_of, read_note
from askonce.core.shapes import without_numbers
from askonce.core.why import KINDS, REASONS, Evidence, Gone, Near, Past, Stored, decide, moment, passed
from tests.changes import changed
from tests.profiles import examples

SECRET = b"s" * 16
CHAT: dict[str, Any] = {
    "model": "gpt-4.1-mini",
    "temperature": 0.5,
    "seed": 1_764_130_000,
    "stop": ["END", "STOP"],
    "messages": [
        {
            "role": "system",
            "content": "Today is Wed, 25 November 2026, 10:05. Request 3f2a11aa-abcd-beef-cafe-deadbeef0001.",
        },
        {"role": "user", "content": "What is a caf\u00e9?"},
    ],
    "tools": [{"type": "function", "function": {"name": name, "description": f"Does {name}."}} for name in "abc"],
}
HEADERS = (("openai-beta", "a=1"),)


def parts(body: object, **said: Any) -> Parts:
    plain: dict[str, Any] = {"asker": "", "scope": "", "variant": "", "upstream": "2 https://api.openai.com/v1/x?"}
    return Parts(**({**plain, "headers": HEADERS, "body": canonical(body)} | said))


def keyed_as(body: bytes) -> Parts:
    return parts(None)._replace(body=body)


def stored_tree(of: Parts, digests: Digests) -> Node:
    """A tree as it comes back from a store."""
    return unpacked(packed(digests.tree(of.fields())))


def compared(new: Parts, old: Parts) -> list[tuple[str, str]]:
    digests = Digests(SECRET)
    before, now = stored_tree(old, digests), stored_tree(new, digests)
    found = nearest(now, [before], lambda name: digests.names.get(name, "?"))
    return [] if found is None else [(one.field, one.kind) for one in found.differences]


SYSTEM = CHAT["messages"][0]["content"]


@pytest.mark.parametrize(
    ("path", "value", "field", "kind"),
    [
        (["temperature"], 0.7, "temperature", "value"),
        (["temperature"], "0.5", "temperature", "type"),
        (["seed"], 1_764_130_001, "seed", "digits"),
        (["stop"], ["STOP", "END"], "stop", "order"),
        (["messages", 1, "content"], "What is a house?", "messages[1].content", "value"),
        (["messages", 1, "content"], "what  is a\ncaf\u00c9?", "messages[1].content", "case"),
        (["messages", 1, "content"], "What is a cafe\u0301?", "messages[1].content", "unicode"),
        (["messages", 1, "content"], "What is a caf\u00e9\u200b?", "messages[1].content", "unicode"),
        (["messages", 0, "content"], SYSTEM.replace("10:05", "9:59:59.123"), "messages[0].content", "digits"),
        (
            ["messages", 0, "content"],
            SYSTEM.replace("Wed, 25 November", "Thursday, 3 Dec"),
            "messages[0].content",
            "digits",
        ),
        (
            ["messages", 0, "content"],
            SYSTEM.replace("3f2a11aa-abcd-beef", "deadbeef-0000-feed"),
            "messages[0].content",
            "digits",
        ),
        (["tools", 2, "function", "description"], "Other.", "tools[2].function.description", "value"),
        (["user"], "u", "user", "extra"),
        (["tools", 1, "strict"], True, "tools[1].strict", "extra"),
        (["odd name!"], 1, '["odd name!"]', "extra"),
    ],
)
def test_one_changed_place_is_named_with_its_kind(path: list[Any], value: Any, field: str, kind: str) -> None:
    assert compared(parts(changed(CHAT, path, value)), parts(CHAT)) == [(field, kind)]


def test_a_field_that_is_not_there_any_more_and_a_message_that_is_new_are_named() -> None:
    assert compared(parts({**CHAT, "temperature": None}), parts(CHAT)) == [("temperature", "value")]
    assert compared(parts(CHAT), parts({**CHAT, "top_p": 1})) == [("top_p", "missing")]
    longer = {**CHAT, "messages": [*CHAT["messages"], {"role": "user", "content": "And then?"}]}
    assert compared(parts(longer), parts(CHAT)) == [("messages[2]", "extra")]
    assert compared(parts(CHAT), parts(longer)) == [("messages[2]", "missing")]
    between = {**CHAT, "messages": [CHAT["messages"][0], {"role": "user", "content": "Hm."}, CHAT["messages"][1]]}
    assert compared(parts(between), parts(CHAT)) == [("messages[1]", "extra")]


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"scope": "support"}, "scope"),
        ({"variant": "2"}, "variant"),
        ({"upstream": "2 https://eu.api.openai.com/v1/x?"}, "url"),
        ({"upstream": "2 https://api.openai.com/v1/x?#usage"}, "options"),
        ({"headers": (("openai-beta", "a=2"),)}, "header openai-beta"),
        ({"headers": (*HEADERS, ("x-new", "1"))}, "header x-new"),
        ({"headers": ()}, "header openai-beta"),
        ({"body": b"normalize abc\0" + canonical(CHAT)}, "rules"),
    ],
)
def test_what_is_beside_the_body_is_named_too(said: dict[str, Any], field: str) -> None:
    assert [name for name, _ in compared(parts(CHAT)._replace(**said), parts(CHAT))] == [field]


def test_a_body_that_is_no_object_or_no_json_is_one_place() -> None:
    assert compared(parts("one"), parts("two")) == [("body", "value")]
    assert compared(parts(["one", "two"]), parts(["one", "six"])) == [("[1]", "value")]
    broken = keyed_as(RAW + b'{"a": 1'), keyed_as(RAW + b'{"b": 1')
    assert compared(*broken) == [("body", "value")]
    assert compared(keyed_as(RAW + b'{"a":1,"a":2}'), keyed_as(RAW + b'{"a":1,"a":3}')) == [("a", "value")]


def test_the_nearest_of_many_is_the_one_that_differs_least_and_one_of_another_kind_is_not_near() -> None:
    digests = Digests(SECRET)
    others = [parts({"model": f"m{at}", "input": [f"text {at}"], "dimensions": at}) for at in range(20)]
    olds = [stored_tree(one, digests) for one in (*others, parts(changed(CHAT, ["seed"], 7)), parts(CHAT), *others)]
    new = stored_tree(parts(changed(CHAT, ["temperature"], 1)), digests)
    found = nearest(new, olds, lambda name: digests.names.get(name, "?"))
    assert found is not None
    assert (found.at, [one.field for one in found.differences]) == (21, ["temperature"])
    assert nearest(new, olds[:20], lambda name: digests.names.get(name, "?")) is None


@pytest.mark.parametrize("width", [50, 400, 5_000])
def test_a_tree_has_a_bound_and_a_large_request_is_closed_from_below(width: int) -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": f"part {at}"}]} for at in range(width)]}
    digests = Digests(SECRET)
    data = packed(digests.tree(parts(body).fields()))
    assert len(data) <= ROOM
    other = copy.deepcopy(body)
    other["messages"][width // 2]["content"][0]["text"] = "another"  # type: ignore[index]
    (place,) = compared(parts(other), parts(body))
    assert f"messages[{width // 2}].content[0].text".startswith(place[0])
    assert place[0] in {"messages[25].content[0].text", "messages[200]", "messages"}


def test_a_deep_and_an_empty_request_have_trees() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    assert compared(parts({"a": deep, "b": 1}), parts({"a": deep, "b": 2})) == [("b", "value")]
    assert compared(parts({}), parts({})) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_a_tree_comes_back_from_its_bytes(value: object) -> None:
    made = Digests(SECRET).tree({"body": orjson.loads(canonical(value))})
    assert unpacked(packed(made)) == made


@given(st.binary(max_size=60))
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert packed(unpacked(data)) == data


@given(values, values)
def test_two_requests_differ_somewhere_exactly_if_they_differ(one: object, other: object) -> None:
    keyed = canonical(one), canonical(other)
    found = compared(keyed_as(keyed[0]), keyed_as(keyed[1]))
    digests = Digests(SECRET)
    trees = [digests.tree({"body": orjson.loads(body)}) for body in keyed]
    places = differences(trees[0], trees[1], lambda name: digests.names.get(name, "?"))
    assert bool(places) == (keyed[0] != keyed[1])
    assert all(kind in KINDS for _, kind in found)


@settings(max_examples=examples(50))
@given(values, st.binary(min_size=16, max_size=16))
def test_another_owners_tree_of_the_same_request_has_nothing_in_common(value: object, secret: bytes) -> None:
    if secret == SECRET:
        return
    fields = {"body": [orjson.loads(canonical(value)), "some text"]}
    mine, theirs = (Digests(one).tree(fields) for one in (SECRET, secret))
    assert not set(leaves(mine)) & set(leaves(theirs))


def test_no_word_of_a_request_is_in_its_tree() -> None:
    words = ["correct", "horse", "battery", "staple"]
    made = packed(Digests(SECRET).tree(parts({word: f"{word} {word}" for word in words}).fields()))
    assert not [word for word in words if word.encode() in made]


@given(st.text(alphabet=string.ascii_letters + " -_:.,/", max_size=40), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_number_in_a_text_does_not_change_its_shape(text: str, one: int, other: int) -> None:
    assert without_numbers(f"{text}{one} ") == without_numbers(f"{text}{other} ")


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 200])
def test_a_word_with_a_number_is_masked_as_a_whole(size: int) -> None:
    for letter in ("q", "é", "漢", "²"):
        assert without_numbers(f"a_{letter * size}1b c") == "a_0 c"
        assert without_numbers(f"{letter * size}1") == "0"


def test_masking_takes_linear_time() -> None:
    for long in ("a" * 60_000, "1a" * 30_000, "1 " * 30_000, "-abcd" * 12_000, "1-abcd" * 9_000, "may " * 15_000):
        assert without_numbers(f"{long}7")


def test_a_path_is_readable_and_never_longer_than_its_names() -> None:
    assert step("", "model") == "model"
    assert step("messages[0]", "content") == "messages[0].content"
    assert step("a", "b c") == 'a["b c"]'
    assert step("a", "\n") == 'a["\\n"]'
    assert len(step("", "x" * 10_000)) == 80


# --- notes -------------------------------------------------------------------------------------------------------


texts = st.text(max_size=10)
numbers = st.integers(0, 2**48)
seens = st.builds(
    Seen,
    flight=st.binary(max_size=16),
    unstored=texts,
    failed=st.booleans(),
    refresh=st.booleans(),
    model=texts,
    scope=texts,
    took=numbers,
    lag=numbers,
    fresh=numbers,
    hard=numbers,
    held=numbers,
    epoch=st.binary(max_size=8),
    clock=numbers,
    fields=st.lists(st.integers(0, 2**14 - 1), max_size=5).map(tuple),
    labels=st.lists(st.binary(min_size=4, max_size=4), max_size=5).map(tuple),
    tree=st.binary(max_size=20),
)
invalidations = st.builds(
    Invalidated,
    labels=st.lists(st.tuples(st.sampled_from(["tag", "scope", "model"]), texts), max_size=5).map(tuple),
    everything=st.booleans(),
    lag=numbers,
)


@given(seens | invalidations)
def test_a_note_comes_back_as_it_was(note: Any) -> None:
    assert read_note(note.packed()) == note


@given(seens | invalidations, st.data())
def test_a_note_that_was_changed_is_refused_or_still_one(note: Any, data: Any) -> None:
    packed_note = bytearray(note.packed())
    at = data.draw(st.integers(0, len(packed_note) - 1))
    packed_note[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        found = read_note(bytes(packed_note))
        assert isinstance(found.lag, int)
        assert found.packed()


@given(st.binary(max_size=80))
def test_bytes_that_are_no_note_are_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        read_note(data)


@given(texts, texts, st.binary(max_size=32))
def test_owners_differ_with_prefix_asker_and_secret(prefix: str, asker: str, secret: bytes) -> None:
    mine = owner_of(prefix, asker, secret)
    assert mine == owner_of(prefix, asker, secret)
    others = {
        owner_of(f"{prefix}x", asker, secret),
        owner_of(prefix, f"{asker}x", secret),
        owner_of(prefix, asker, b"k" * 33),
    }
    assert mine not in others
    assert owner_of("a", "bc") != owner_of("ab", "c")


# --- reasons -----------------------------------------------------------------------------------------------------

NOW = 1_764_130_000_000


def why(**said: Any) -> Any:
    return decide(Evidence("k", NOW, **said))


def test_what_the_store_has_is_more_certain_than_a_note_and_a_note_than_what_is_near() -> None:
    entry = Stored(NOW - 9000, NOW + 1000, NOW + 2000, 1.5, valid=True)
    past = Past(NOW - 9000, "", fresh=NOW - 1000, hard=NOW - 500)
    near = Near("n", NOW - 5000, compared_differences())
    assert why(stored=entry, past=past, near=near).reason == "hit"
    assert why(past=past, near=near).reason == "expired"
    found = why(near=near)
    assert (found.reason, found.field, found.kind, found.nearest) == ("near", "temperature", "value", "n")
    assert why().reason == "never-seen"


def compared_differences() -> list[Any]:
    digests = Digests(SECRET)
    trees = [digests.tree(parts(one).fields()) for one in (changed(CHAT, ["temperature"], 1), CHAT)]
    return differences(trees[0], trees[1], lambda name: digests.names.get(name, "?"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"stored": Stored(NOW - 9, NOW - 5, NOW + 5, 1.0, valid=True)}, "stale"),
        ({"stored": Stored(NOW - 9, NOW - 5, NOW - 4, 1.0, valid=True)}, "expired"),
        (
            {"stored": Stored(NOW - 9, NOW + 5, NOW + 5, 1.0, valid=False), "gone": Gone(NOW - 1, "tag a")},
            "invalidated",
        ),
        ({"past": Past(NOW - 9, "truncated")}, "not-stored"),
        ({"past": Past(NOW - 9, "ConnectError", failed=True)}, "failed"),
        ({"past": Past(NOW - 9, "", fresh=NOW + 9, hard=NOW + 9, valid=False)}, "invalidated"),
        ({"past": Past(NOW - 9, "", fresh=NOW + 9, hard=NOW + 9)}, "evicted"),
        ({"underway": True}, "under-way"),
    ],
)
def test_each_reason_has_its_evidence_and_one_printable_line(said: dict[str, Any], reason: str) -> None:
    found = why(**said)
    assert found.reason == reason
    assert found.reason in REASONS
    assert found.sentence.isprintable()
    assert found.sentence[0].islower()


@given(st.integers(-(2**70), 2**70))
def test_any_number_is_a_moment(ms: int) -> None:
    assert moment(ms).isprintable()


def test_a_rule_is_named_and_explained() -> None:
    assert passed("", "tools").sentence == "not looked up, by the rule tools (the request offers tools)"
    assert "inert=" in passed("", "field-data_sources").sentence
    assert passed("", "some-rule").by == "some-rule"
    assert OBJECT in range(9)
