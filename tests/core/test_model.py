"""An entry's bytes: what is sealed comes back, a change is noticed, and no bytes cause a crash."""

from __future__ import annotations

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.model import (
    CODEC,
    DATES_AT,
    DURATION,
    FIELDS,
    FORMAT,
    HEAD_SIZE,
    ODD,
    PRICE,
    SCOPE,
    SEALED_SIZE,
    SPENT,
    TAGS,
    TTL_CAP,
    USAGE,
    Corrupt,
    Dates,
    Lifetime,
    Snapshot,
    check_odd,
    entry_body,
    entry_fields,
    pack_dates,
    pack_fields,
    read_entry,
    read_head,
    seal,
    unpack_extensions,
    unpack_fields,
)

DIGEST, FILL = bytes(range(32)), b"F" * 16
SNAPSHOT = Snapshot(b"epoch001", 7)
DATES = Dates(1_000, 2_000, 3_000, 4_000)
UPPER_HALVES = {at + nth for at in range(DATES_AT, DATES_AT + 32, 8) for nth in range(4)}
EXTENSIONS = {FIELDS: pack_fields((3, 513)), TAGS: b"doc:42", DURATION: b"\0\0\5\0"}


def whole(form="v", extensions=EXTENSIONS, body=b'{"answer":42}', ttl=1_000, dates=DATES):
    return seal(form, DIGEST, FILL, 1_500_000, SNAPSHOT, ttl, extensions, body).dated(dates)


def resealed(data: bytes) -> bytes:
    """An entry whose header was changed, its checksum made right again: what a stranger could have written."""
    check = zlib.crc32(data[HEAD_SIZE:], zlib.crc32(data[: SEALED_SIZE - 4]))
    return data[: SEALED_SIZE - 4] + struct.pack(">I", check) + data[SEALED_SIZE:]


def reason(data: bytes, form="v", digest=DIGEST) -> str:
    with pytest.raises(Corrupt) as caught:
        read_entry(data, digest, form)
    return caught.value.reason


class TestSealed:
    @given(
        st.sampled_from("vjs"),
        st.binary(max_size=300),
        st.lists(st.integers(0, 0xFFFF), max_size=5),
        st.tuples(st.integers(1, 2**53), st.integers(0, 2**32 - 1), st.integers(0, 2**40)),
    )
    def test_everything_comes_back(self, form, body, fields, numbers):
        order, clock, ttl = numbers
        snapshot = Snapshot(b"12345678", clock)
        sealed = seal(form, DIGEST, FILL, order, snapshot, ttl, {FIELDS: pack_fields(fields), TAGS: b"t"}, body)
        data = sealed.dated(DATES)
        head = read_entry(data, DIGEST, form)
        assert (head.form, head.digest, head.fill, head.order) == (form, DIGEST, FILL, order)
        assert (Snapshot(head.epoch, head.clock), head.ttl) == (snapshot, min(ttl, TTL_CAP))
        assert (head.created, head.fresh, head.stale, head.error, head.hard) == (*DATES, 4_000)
        assert bytes(entry_body(data, head)) == body
        assert entry_fields(data, head) == tuple(fields)
        assert unpack_extensions(data, head)[TAGS] == b"t"
        assert sealed.size == len(data)

    def test_the_bytes_of_an_entry_are_these(self):
        head = whole(extensions={FIELDS: b"\0\3"}, body=b"{}")
        assert head[:8] == b"ao" + bytes([FORMAT, 0]) + struct.pack(">I", 125)
        assert head[8:40] == DIGEST
        assert head[40:64] == FILL + struct.pack(">Q", 1_500_000)
        assert head[64:80] == b"epoch001" + struct.pack(">II", 7, 1_000)
        assert head[DATES_AT:116] == struct.pack(">QQQQ", *DATES)
        assert head[116:120] == struct.pack(">I", 1_000 + 6_000 + 15_000 + 28_000)
        assert head[HEAD_SIZE:] == b"\1\0\2\0\3{}"

    def test_the_fields_stand_first_where_the_stores_script_looks_for_them(self):
        assert whole(extensions={TAGS: b"t", CODEC: b"z", FIELDS: b"\0\3"})[HEAD_SIZE] == FIELDS

    def test_the_fields_of_an_entry_without_any_are_none(self):
        data = whole(extensions={})
        assert entry_fields(data, read_head(data)) == ()

    @given(st.lists(st.integers(0, 0xFFFF)))
    def test_fields_come_back(self, fields):
        assert unpack_fields(pack_fields(fields)) == tuple(fields)

    def test_new_dates_need_no_new_seal(self):
        later = Dates(1_000, 5_000, 6_000, 2**41)
        data = whole()
        slid = data[:DATES_AT] + pack_dates(later) + data[HEAD_SIZE:]
        assert read_entry(slid, DIGEST, "v").error == 2**41


class TestTouched:
    """A visible miss, with its reason, for all that is not a whole entry of this question."""

    # Without the upper halves of the dates: their check is a sum cut to 32 bits, where these do not count.
    @given(st.sampled_from([at for at in range(len(whole())) if at not in UPPER_HALVES]), st.integers(1, 255))
    def test_a_byte_changed_anywhere_is_noticed(self, at, change):
        data = bytearray(whole())
        data[at] ^= change
        assert reason(bytes(data)) in {"store-corrupt", "store-foreign", "store-newer-format"}

    @given(st.integers(0, len(whole()) - 1))
    def test_an_entry_that_was_cut_is_corrupt(self, size):
        assert reason(whole()[:size]) == ("store-corrupt" if size >= 2 else "store-foreign")

    @given(st.binary(max_size=300))
    def test_another_programs_value_is_foreign(self, data):
        assert reason(data) in {"store-foreign", "store-corrupt"}
        assert reason(b"??" + data) == "store-foreign"

    def test_another_questions_entry_is_foreign(self):
        assert reason(whole(), digest=b"d" * 32) == "store-foreign"
        assert reason(whole(), form="s") == "store-foreign"

    def test_another_format_is_newer(self):
        data = whole()
        assert reason(data[:2] + bytes([FORMAT + 1]) + data[3:]) == "store-newer-format"

    def test_a_form_that_does_not_exist_is_foreign(self):
        data = whole()
        assert reason(resealed(data[:3] + b"\3" + data[4:])) == "store-foreign"


class TestExtensions:
    def test_even_types_that_are_not_known_are_skipped(self):
        data = whole(extensions={**EXTENSIONS, 200: b"later"})
        assert entry_fields(data, read_entry(data, DIGEST, "v")) == (3, 513)

    def test_odd_types_that_are_not_known_are_a_visible_miss(self):
        data = whole(extensions={**EXTENSIONS, 201: b"later"})
        assert read_head(data).flags & ODD
        assert reason(data) == "store-newer-format"

    def test_the_fields_alone_need_no_walk(self):
        assert not read_head(whole()).flags & ODD
        check_odd(whole(), read_head(whole()))

    @pytest.mark.parametrize("length", [0, 119, 121, 124, 126, 10_000, 2**32 - 1])
    def test_a_header_length_that_lies_is_corrupt(self, length):
        data = whole(body=b"")
        lying = data[:4] + struct.pack(">I", length) + data[8:]
        with pytest.raises(Corrupt):
            entry_fields(lying, read_head(lying))

    @given(st.binary(max_size=40), st.integers(0, 200))
    def test_no_extensions_whatever_raise_anything_but_corrupt(self, junk, length):
        data = whole(extensions={}, body=b"")[:HEAD_SIZE] + junk
        data = data[:4] + struct.pack(">I", length) + data[8:]
        with contextlib.suppress(Corrupt):
            entry_fields(data, read_head(data))

    def test_fields_of_an_odd_number_of_bytes_are_corrupt(self):
        data = whole(extensions={FIELDS: b"\0\3\0"})
        with pytest.raises(Corrupt):
            entry_fields(data, read_head(data))


class TestLifetime:
    @pytest.mark.parametrize(
        ("life", "dates"),
        [
            (Lifetime(100, 50, 500, 1_000), Dates(7_000, 7_100, 7_150, 7_600)),
            (Lifetime(100, 50, 500, 120), Dates(7_000, 7_100, 7_120, 7_120)),
            (Lifetime(100, 50, 500, 60), Dates(7_000, 7_060, 7_060, 7_060)),
            (Lifetime(100, 0, 0, 1_000), Dates(7_000, 7_100, 7_100, 7_100)),
            (Lifetime(0, 0, 0, 0), Dates(7_000, 7_000, 7_000, 7_000)),
            (Lifetime(100, 50, 500, 1_000, 60), Dates(6_940, 7_040, 7_090, 7_540)),
            (Lifetime(100, 50, 500, 120, 60), Dates(6_940, 7_040, 7_060, 7_060)),
        ],
    )
    def test_the_windows_follow_one_another_and_none_passes_the_cap(self, life, dates):
        assert life.dates(7_000) == dates


@given(st.dictionaries(st.sampled_from([TAGS, SCOPE, DURATION, USAGE, PRICE, FIELDS]), st.binary(max_size=12)))
def test_extensions_come_back_as_they_were_whatever_is_kept_together(extensions):
    sealed = seal("v", bytes(32), bytes(16), 1, Snapshot(bytes(8), 1), 1000, extensions, b"{}")
    data = sealed.dated(Dates(1, 2, 3, 4))
    assert unpack_extensions(data, read_head(data)) == extensions


@pytest.mark.parametrize("took", [0, 1, 127, 128, 16383, 16384, 2**40])
def test_what_an_answer_took_and_used_is_one_extension(took):
    both = {DURATION: took.to_bytes((took.bit_length() + 7) // 8, "big"), USAGE: b"\x05\x07"}
    apart = sum(3 + len(value) for value in both.values())
    sealed = seal("v", bytes(32), bytes(16), 1, Snapshot(bytes(8), 1), 1000, both, b"{}")
    assert len(sealed.extensions) < apart
    data = sealed.dated(Dates(1, 2, 3, 4))
    assert unpack_extensions(data, read_head(data)) == both


def test_a_number_that_does_not_end_is_corrupt():
    sealed = seal("v", bytes(32), bytes(16), 1, Snapshot(bytes(8), 1), 1000, {SPENT: b"\xff\xff"}, b"{}")
    data = sealed.dated(Dates(1, 2, 3, 4))
    with pytest.raises(Corrupt):
        unpack_extensions(data, read_head(data))
