"""Recordings that are compressed and encrypted, and what is said of those that cannot be opened."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from askonce import Keys, NotCached, StoreUnavailable
from askonce.recording.caches import RecordedCache, Recording
from tests.support import opened_file

OLD, NEW = os.urandom(32), os.urandom(32)
RING = Keys({"old": OLD}, names=bytes(32))
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "a very private question"}]}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a very private answer " * 20}}]}


def never() -> Any:
    raise AssertionError("a replay called upstream")


def record(path: Path, **options: Any) -> bytes:
    with RecordedCache(Recording(path, "record", **options)) as cache:
        cache.fetch(REQUEST, lambda: ANSWER)
        list(cache.fetch_stream({**REQUEST, "stream": True}, lambda: iter(["a very private part "] * 30)))
    return path.read_bytes()


def replayed(path: Path, **options: Any) -> tuple[Recording, Any]:
    recording = Recording(path, "replay", **options)
    with RecordedCache(recording) as cache:
        return recording, cache.fetch(REQUEST, never).value


@pytest.mark.parametrize("compress", ["off", "zstd"])
def test_an_encrypted_recording_shows_neither_questions_nor_answers_and_is_replayed(tmp_path, compress):
    data = record(tmp_path / "a.db", compress=compress, encryption=RING)
    assert b"private" not in data
    assert replayed(tmp_path / "a.db", encryption=Keys({"new": NEW, "old": OLD}, names=bytes(32)))[1] == ANSWER
    assert b"private" in record(tmp_path / "plain.db")


def test_a_compressed_recording_is_smaller_and_replayed_without_an_option(tmp_path):
    assert b"private answer a very private answer" not in record(tmp_path / "a.db", compress="zstd")
    assert replayed(tmp_path / "a.db")[1] == ANSWER
    with opened_file(tmp_path / "a.db") as file:
        (size,) = file.execute("SELECT max(length(answer)) FROM answers").fetchone()
    assert size < 250


def test_the_environment_says_nothing_about_a_recording(tmp_path, monkeypatch):
    monkeypatch.setenv("ASKONCE_KEYS", f"old={OLD.hex()}")
    monkeypatch.setenv("ASKONCE_COMPRESS", "zstd")
    assert b"private" in record(tmp_path / "a.db")
    monkeypatch.delenv("ASKONCE_KEYS")
    assert replayed(tmp_path / "a.db")[1] == ANSWER


def test_a_recording_with_another_key_of_that_id_says_so(tmp_path):
    record(tmp_path / "a.db", encryption=RING)
    wrong = Keys({"old": NEW}, names=bytes(32))
    with pytest.raises(StoreUnavailable, match="strict"):
        replayed(tmp_path / "a.db", encryption=wrong)


def test_a_miss_of_an_encrypted_recording_names_the_key_that_is_missing(tmp_path):
    record(tmp_path / "a.db", encryption=RING)
    recording = Recording(tmp_path / "a.db", "replay")
    with RecordedCache(recording) as cache, pytest.raises(NotCached):
        cache.fetch(REQUEST, never)
    assert "set $ASKONCE_KEYS to the ring with which it was recorded" in recording.told()


def test_a_recording_with_keys_is_carried_to_another_process_by_its_file(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"old={OLD.hex()}\nnames={bytes(32).hex()}")
    keys.chmod(0o600)
    record(tmp_path / "a.db", encryption=keys)
    carried = pickle.dumps(Recording(tmp_path / "a.db", "replay", encryption=keys))
    assert OLD not in carried
    with RecordedCache(pickle.loads(carried)) as cache:
        assert cache.fetch(REQUEST, never).value == ANSWER
    with pytest.raises(TypeError, match="ASKONCE_KEYS"):
        pickle.dumps(Recording(tmp_path / "a.db", "replay", encryption=RING))
