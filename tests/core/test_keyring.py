"""Rings of keys: what is one, and what is said of what is none."""

from __future__ import annotations

import base64
import copy
import hmac
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core import labels
from askonce.core.keyring import Keys
from askonce.errors import ConfigError

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))  # the same in every worker: they stand in the names of tests


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["hex", "base64", "urlsafe", "unpadded", "bytes"]))
def test_a_key_is_the_same_in_every_spelling(key, spelling):
    written = {
        "hex": key.hex(),
        "base64": base64.b64encode(key).decode(),
        "urlsafe": base64.urlsafe_b64encode(key).decode(),
        "unpadded": base64.b64encode(key).decode().rstrip("="),
        "bytes": key,
    }[spelling]
    assert Keys({"a": written}).first.derived(b"x") == Keys({"a": key}).first.derived(b"x")


def test_a_ring_is_text_with_comments_on_lines_or_behind_commas():
    line = base64.b64encode(KEY).decode()
    for text in (
        f"# mine\nb={line}  # new\n\na={OTHER.hex()}\nnames={KEY.hex()}",
        f"b={line},a={OTHER.hex()},names={KEY.hex()}",
    ):
        ring = Keys.parse(text)
        assert ring.ids == ("b", "a")
        assert ring.first.id == b"b"
        assert ring.names_from == ""


@pytest.mark.parametrize(
    ("ring", "says"),
    [
        ("", "empty"),
        ("# nothing", "empty"),
        ({}, "empty"),
        ({"a": KEY[:16]}, "16 bytes"),
        ({"a": KEY + b"!"}, "33 bytes"),
        ({"a": "c2hvcnQ="}, "5 bytes"),
        ({"a": "not base64!"}, "neither base64 nor hex"),
        ({"a": 7}, "neither base64 nor hex"),
        ({"a": None}, "neither base64 nor hex"),
        ({"": KEY}, "not the id of a key"),
        ({"names": KEY}, "not the id of a key"),
        ({"a b": KEY}, "not the id of a key"),
        ({"a" * 33: KEY}, "not the id of a key"),
        ({7: KEY}, "not the id of a key"),
        ({"a": KEY, "b": KEY}, "are equal"),
        ([("a", KEY), ("a", OTHER)], "two keys have the id a"),
        (f"a={KEY.hex()} a={OTHER.hex()}", "two keys have the id a"),
        (f"a={KEY.hex()} names={OTHER.hex()} names={KEY.hex()}", "2 lines names="),
        (KEY.hex(), "without '='"),
        (None, "a dict of ids and keys"),
        (7, "a dict of ids and keys"),
        ([1, 2], "a dict of ids and keys"),
    ],
)
def test_what_is_no_ring_is_an_error_that_says_what_to_do_and_shows_no_key(ring, says):
    with pytest.raises(ConfigError, match=says) as error:
        Keys.parse(ring) if isinstance(ring, str) else Keys(ring)
    assert KEY.hex()[:12] not in str(error.value)
    assert repr(KEY)[2:20] not in str(error.value)


def test_a_bad_secret_for_names_is_an_error():
    for names in (b"short", "zz", 7):
        with pytest.raises(ConfigError, match="the key names"):
            Keys({"a": KEY}, names=names)


def test_no_key_is_shown_or_pickled():
    ring = Keys({"a": KEY, "b": OTHER})
    assert repr(ring) == "<Keys a, b>"
    assert repr(ring.first) == "<key a>"
    for carried in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="ASKONCE_KEYS"):
            carried(ring)


def test_a_rotation_moves_no_name():
    before = Keys({"a": KEY})
    after = Keys({"b": OTHER, "a": KEY})
    assert before.names.digest(b"question") == after.names.digest(b"question")
    assert before.names.labels == after.names.labels
    assert after.names_from == "a"
    retired = Keys({"b": OTHER}, names=after.names_secret)
    assert retired.names.digest(b"question") == before.names.digest(b"question")
    assert Keys({"b": OTHER}).names.digest(b"question") != before.names.digest(b"question")


def test_the_digest_of_a_name_is_an_hmac():
    ring = Keys({"a": KEY}, names=OTHER)
    secret = _secret_of(ring)
    assert ring.names.digest(bytes(32)) == hmac.digest(secret, bytes(32), "sha256")
    assert ring.names.labels not in {KEY, OTHER, secret}


def _secret_of(ring: Keys) -> bytes:
    from askonce.core.keyring import NAMES, KeyOf

    return KeyOf(NAMES, ring.names_secret).derived(b"digests")


def test_keyed_fields_are_others_and_fit_where_plain_ones_do():
    plain = labels.fields("a/b", "m", ("t:1", "t:2"))
    keyed = labels.fields("a/b", "m", ("t:1", "t:2"), b"secret")
    assert plain != keyed
    assert len(keyed) == 5
    assert all(0 <= one < 2**14 for one in keyed)
    assert labels.fields("a/b", "m", ("t:1", "t:2")) == plain


def test_keys_for_two_contexts_have_nothing_in_common():
    key = Keys({"a": KEY}).first
    assert len({key.derived(context) for context in (b"", b"a", b"b", b"ab")}) == 4
    assert key.derived(b"") != KEY
