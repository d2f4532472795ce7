"""Envelopes: what they give back, what they refuse, and what is left in them to be read."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.core import libraries, zstd
from askonce.core.codec import PLAIN, Codec
from askonce.core.keyring import CIPHERS, Keys
from askonce.core.keys import Key
from askonce.core.model import (
    DURATION,
    FIELDS,
    MODEL,
    SCOPE,
    TAGS,
    Corrupt,
    Lifetime,
    Snapshot,
    read_entry,
    seal,
    unpack_extensions,
)
from askonce.core.tape import END, FAILED, SHARED, STORED, Ending, data_frame, end_frame, frame, frames

OLD, NEW = os.urandom(32), os.urandom(32)
RING = Keys({"new": NEW, "old": OLD}, names=bytes(32))
CODECS = {
    "plain": Codec(),
    "compressed": Codec(compress=True),
    "encrypted": Codec(keys=RING),
    "both": Codec(compress=True, keys=RING),
}
MOST = 2**20
KEY = Key(bytes(range(32)), "v")
FLIGHT = b"f" * 16
ANSWER = b'{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a secret"}}]}' * 3
PEOPLE = {SCOPE: b"support/triage", MODEL: b"gpt-of-a-test", TAGS: b"doc:42\0customer:acme"}


@pytest.fixture(params=CODECS)
def codec(request) -> Codec:
    return CODECS[request.param]


def entry_of(codec: Codec, body: bytes = ANSWER, key: Key = KEY, flight: bytes = FLIGHT) -> bytes:
    said = {**PEOPLE, FIELDS: b"\0\1\2\3", DURATION: b"\7"}
    sealed = codec.seal(key, flight, 5, Snapshot(b"epochal!", 3), 60_000, said, body)
    return sealed.dated(Lifetime(1000, 10, 10, 5000).dates(99_999))


def opened(codec: Codec, entry: bytes, key: Key = KEY, most: int = MOST) -> bytes:
    head = read_entry(entry, key.digest, key.form)
    return codec.open_entry(key, entry, head, most)[head.length :]


def refusal(codec: Codec, entry: bytes, key: Key = KEY, most: int = MOST) -> str:
    with pytest.raises(Corrupt) as refused:
        opened(codec, entry, key, most)
    return refused.value.reason


@settings(deadline=None)
@given(st.binary(max_size=3000) | st.text(max_size=500).map(str.encode), st.sampled_from(sorted(CODECS)))
def test_what_was_sealed_is_given_back(body, name):
    assert opened(CODECS[name], entry_of(CODECS[name], body)) == body


def test_a_codec_without_work_seals_the_same_bytes_as_ever():
    said = {**PEOPLE, FIELDS: b"\0\1\2\3", DURATION: b"\7"}
    before = seal("v", KEY.digest, FLIGHT, 5, Snapshot(b"epochal!", 3), 60_000, said, ANSWER)
    assert entry_of(PLAIN) == before.dated(Lifetime(1000, 10, 10, 5000).dates(99_999))
    assert not PLAIN.writes


def test_short_and_incompressible_answers_are_stored_as_they_are():
    for body in (b'"yes"', os.urandom(5000)):
        assert entry_of(CODECS["compressed"], body) == entry_of(PLAIN, body)


def test_an_answer_of_a_chat_is_half_as_long_with_the_dictionary():
    answer = b'{"id":"chatcmpl-0","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    answer += b'{"role":"assistant","content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12}}'
    packed = zstd.Zstd.compress(answer)
    assert packed is not None
    assert len(packed) < len(answer) / 2 < len(zstandard.compress(answer))


def test_nothing_of_an_encrypted_entry_can_be_read_but_its_dates_and_the_key_of_its_ring():
    for name in ("encrypted", "both"):
        entry = entry_of(CODECS[name])
        for text in (b"secret", b"chat.completion", *b"\0".join(PEOPLE.values()).split(b"\0")):
            assert text not in entry
        assert b"new" in entry
        head = read_entry(entry, KEY.digest, "v")
        assert CODECS[name].open_labels(head, unpack_extensions(entry, head)).items() >= PEOPLE.items()


def test_equal_answers_of_two_flights_have_nothing_in_common():
    first, second = (entry_of(CODECS["encrypted"], flight=flight)[-300:] for flight in (FLIGHT, b"g" * 16))
    assert sum(one == other for one, other in zip(first, second, strict=True)) < 30


@pytest.mark.parametrize("name", ["compressed", "encrypted", "both"])
def test_every_byte_that_is_changed_is_refused(name):
    codec = CODECS[name]
    entry = entry_of(codec)
    for at, bit in product(range(len(entry)), (0, 5)):
        changed = bytearray(entry)
        changed[at] ^= 1 << bit
        assert refusal(codec, bytes(changed)).startswith("store-")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compressed", "encrypted", "both"])
def test_every_bit_that_is_flipped_in_a_thousand_entries_is_refused(name):
    codec = CODECS[name]
    for number in range(1000):
        entry = entry_of(codec, b'{"answer":%d}' % number * (1 + number % 5), Key(os.urandom(32), "v"), os.urandom(16))
        key = Key(entry[8:40], "v")
        for at in range(8 * len(entry)):
            changed = bytearray(entry)
            changed[at // 8] ^= 1 << at % 8
            refusal(codec, bytes(changed), key)


def forged(entry: bytes, at: int, data: bytes) -> bytes:
    """An entry changed by somebody who can make checksums."""
    import struct
    import zlib

    changed = bytearray(entry)
    changed[at : at + len(data)] = data
    check = zlib.crc32(bytes(changed[120:]), zlib.crc32(bytes(changed[:80])))
    changed[80:84] = struct.pack(">I", check)
    return bytes(changed)


def test_a_forger_who_can_make_checksums_changes_nothing_that_the_client_wrote():
    codec = CODECS["encrypted"]
    entry = entry_of(codec)
    before = opened(codec, forged(entry, 0, b""))
    assert before == ANSWER
    length = read_entry(entry, KEY.digest, "v").length
    for at in [*range(40, 80), *range(120, length), *range(length, len(entry))]:
        changed = forged(entry, at, bytes([entry[at] ^ 1]))
        assert refusal(codec, changed).startswith("store-"), at


def test_an_entry_moved_to_another_question_or_form_is_refused():
    codec = CODECS["encrypted"]
    other = Key(bytes(32), "v")
    assert refusal(codec, forged(entry_of(codec), 8, other.digest), other) == "store-unauthentic"
    form = Key(KEY.digest, "j")
    entry = entry_of(codec)
    assert refusal(codec, forged(entry, 3, bytes([entry[3] | 1])), form) == "store-unauthentic"


def test_a_ring_without_the_key_another_key_of_its_id_and_no_ring_at_all_are_misses():
    entry = entry_of(CODECS["encrypted"])
    assert refusal(Codec(keys=Keys({"old": OLD})), entry) == "store-no-key"
    assert refusal(Codec(keys=Keys({"new": OLD})), entry) == "store-unauthentic"
    assert refusal(PLAIN, entry) == "store-no-key"


def test_after_a_rotation_old_entries_are_read_and_new_ones_have_the_new_key():
    before, after = Keys({"old": OLD}), Keys({"new": NEW, "old": OLD})
    assert opened(Codec(keys=after), entry_of(Codec(keys=before))) == ANSWER
    assert refusal(Codec(keys=before), entry_of(Codec(keys=after))) == "store-no-key"


def test_a_cache_that_encrypts_takes_nothing_plain():
    for name in ("plain", "compressed"):
        assert refusal(CODECS["both"], entry_of(CODECS[name])) == "store-unencrypted"


def test_every_cache_reads_what_another_has_compressed():
    assert opened(PLAIN, entry_of(CODECS["compressed"])) == ANSWER


def test_without_the_library_what_is_compressed_is_a_miss(monkeypatch):
    entry = entry_of(CODECS["compressed"])

    def missing() -> None:
        raise libraries.Missing("not here")

    monkeypatch.setattr(libraries, "zstandard", missing)
    assert refusal(PLAIN, entry) == "store-no-codec"


def envelope(frame_: bytes) -> bytes:
    return bytes((0xA5, 1)) + frame_


def coded(frame_: bytes) -> bytes:
    """An entry whose body is this zstd frame."""
    said = {FIELDS: b"", 3: b"\1\0\0\0\0"}
    sealed = seal("v", KEY.digest, FLIGHT, 5, Snapshot(b"epochal!", 3), 60_000, said, envelope(frame_))
    return sealed.dated(Lifetime(1000, 10, 10, 5000).dates(99_999))


def test_a_frame_that_names_an_unknown_dictionary_is_a_miss():
    made = zstandard.train_dictionary(4096, [os.urandom(50) + b"abcdefghijkl" * 20 for _ in range(200)], dict_id=40_000)
    packed = zstandard.ZstdCompressor(dict_data=made).compress(ANSWER)
    assert refusal(PLAIN, coded(packed)) == "store-no-codec"


def test_a_small_frame_of_much_content_is_refused_before_it_is_made():
    bomb = zstandard.ZstdCompressor().compress(bytes(2**24))
    assert len(bomb) < 2000
    assert refusal(PLAIN, coded(bomb), most=2**20) == "store-oversized"
    assert opened(PLAIN, coded(bomb), most=2**24) == bytes(2**24)


def test_a_frame_that_does_not_say_its_size_or_that_lies_is_refused():
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(ANSWER)
    assert refusal(PLAIN, coded(silent)) == "store-oversized"
    honest = zstandard.ZstdCompressor().compress(ANSWER)
    size = len(ANSWER).to_bytes(2, "little") if len(ANSWER) < 256 else (len(ANSWER) - 256).to_bytes(2, "little")
    at = honest.index(size)
    lying = honest[:at] + (int.from_bytes(size, "little") - 40).to_bytes(2, "little") + honest[at + 2 :]
    assert refusal(PLAIN, coded(lying)) == "store-corrupt"
    assert refusal(PLAIN, coded(honest + b"more")) == "store-corrupt"
    assert refusal(PLAIN, coded(b"no frame at all")) == "store-corrupt"


def test_an_envelope_of_a_later_version_is_a_miss():
    said = {FIELDS: b"", 3: b"\1\0\0\0\0"}
    sealed = seal("v", KEY.digest, FLIGHT, 5, Snapshot(b"epochal!", 3), 60_000, said, bytes((0xA5, 4)) + b"data")
    assert refusal(PLAIN, sealed.dated(Lifetime(1000, 10, 10, 5000).dates(99_999))) == "store-no-codec"


def test_many_threads_open_and_seal_with_one_codec():
    codec = CODECS["both"]
    entries = {number: entry_of(codec, ANSWER + b"%d" % number) for number in range(8)}

    def turns(number: int) -> bool:
        mine = ANSWER + b"%d" % number
        return all(
            opened(codec, entries[number]) == mine and entry_of(codec, mine) == entries[number] for _ in range(200)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(turns, range(8)))


def test_a_key_keeps_few_ciphers():
    codec = Codec(keys=Keys({"a": NEW}))
    for _ in range(3 * CIPHERS):
        key = Key(os.urandom(32), "v")
        assert opened(codec, entry_of(codec, key=key), key) == ANSWER
    assert len(codec._keys.first._ciphers) <= CIPHERS


# --- logs ---------------------------------------------------------------------------------------------------------

PARTS = [data_frame(at, b"part %d " % at * (1 + at % 40)) for at in range(60)]
LOG = frame(2, b'{"status":200}') + b"".join(PARTS)


def test_a_log_is_the_same_bytes_however_it_is_cut_into_appends(codec):
    whole = codec.close_log(KEY, FLIGHT, LOG, 0)
    cut = len(LOG) - len(b"".join(PARTS[20:]))
    assert codec.close_log(KEY, FLIGHT, LOG[:cut], 0) + codec.close_log(KEY, FLIGHT, LOG[cut:], cut) == whole
    assert codec.open_log(KEY, FLIGHT, whole, MOST) == LOG


def test_a_log_whose_frames_change_places_or_are_left_out_is_refused():
    codec = CODECS["encrypted"]
    closed = [frame(*one) for one in frames(codec.close_log(KEY, FLIGHT, LOG, 0))]
    swapped = [closed[0], closed[2], closed[1], *closed[3:]]
    for changed in (swapped, closed[1:], [closed[0], *closed[2:]]):
        with pytest.raises(Corrupt, match="store-unauthentic"):
            codec.open_log(KEY, FLIGHT, b"".join(changed), MOST)
    with pytest.raises(Corrupt, match="store-unauthentic"):
        codec.open_log(KEY, b"g" * 16, b"".join(closed), MOST)


@pytest.mark.parametrize("planted", [data_frame(0, b"planted"), frame(2, b"{}"), end_frame(Ending(SHARED, "x", b"1")),
                                     end_frame(Ending(SHARED)), end_frame(Ending(STORED))])  # fmt: skip
def test_a_cache_that_encrypts_takes_no_plain_frame_that_gives_or_ends_an_answer(planted):
    with pytest.raises(Corrupt, match="store-unencrypted"):
        CODECS["encrypted"].open_log(KEY, FLIGHT, planted, MOST)


def test_a_flight_that_failed_says_so_in_plain_text():
    said = end_frame(Ending(FAILED, "gone"))
    assert CODECS["encrypted"].open_log(KEY, FLIGHT, said, MOST) == said


def test_an_ending_that_a_store_wrote_is_opened_with_its_answer(codec):
    for made in (codec.close_ending(KEY, FLIGHT, Ending(SHARED, "tools", ANSWER)),
                 Ending(SHARED, "moved", codec.seal(KEY, FLIGHT, 5, Snapshot(bytes(8), 1), 9, {}, ANSWER).body)):  # fmt: skip
        (kind, payload), = frames(codec.open_log(KEY, FLIGHT, end_frame(made), MOST))  # fmt: skip
        assert kind == END
        assert payload.endswith(ANSWER)


@pytest.mark.parametrize("name", ["compressed", "both"])
def test_every_recorded_answer_survives(corpus_dir, name):
    with gzip.open(corpus_dir / "dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line)["response_body"] for line in lines]
    bodies = [one.encode() for one in records if one]
    for body in bodies[::4]:
        assert opened(CODECS[name], entry_of(CODECS[name], body)) == body
