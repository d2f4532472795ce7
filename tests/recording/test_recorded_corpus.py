"""Recorded traffic, recorded again by askonce: a replay brings each session as it was, byte for byte."""

from __future__ import annotations

import base64
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
import pytest

from askonce.core.upstream import everybodys
from askonce.recording.caches import RecordedCache, Recording

KEY = "sk-corpus-0123456789abcdefghij"
OURS = ("host", "content-length", "content-encoding", "transfer-encoding", "set-cookie", "connection")


def sessions(records: list[Any]) -> list[list[Any]]:
    """What one test of somebody's asked, in order."""
    kept = [one for one in records if one["method"] == "POST"]
    ordered = sorted(kept, key=lambda one: (one["source_path"], one["source_index"]))
    return [list(group) for _, group in groupby(ordered, key=lambda one: one["source_path"])]


def body_of(record: Any) -> bytes:
    if record["response_body"] is not None:
        return str(record["response_body"]).encode()
    return base64.b64decode(record.get("response_body_b64") or "")


def answer(record: Any) -> Any:
    headers = [(name, value) for name, value in record["response_headers"].items() if name.lower() not in OURS]
    return httpx2.Response(record["status"], headers=headers, content=body_of(record))


def heard(path: Path, mode: str, session: list[Any]) -> tuple[list[tuple[int, bytes]], Recording]:
    said = iter(session)
    recording = Recording(path, mode)
    with RecordedCache(recording) as cache:
        inner = httpx2.MockTransport(lambda _: answer(next(said)))
        with cache.http_client(module=httpx2, inner=inner, follow_redirects=False) as client:
            return [_sent(client, record) for record in session], recording


def _sent(client: Any, record: Any) -> tuple[int, bytes]:
    headers = {name: value for name, value in record["request_headers"].items() if name.lower() not in OURS}
    url = f"https://{record['host']}{record['url_path']}"
    body = (record["request_body"] or "").encode()
    answer = client.post(url, content=body, headers={**headers, "authorization": f"Bearer {KEY}"})
    return answer.status_code, answer.content


def sweep(chosen: list[list[Any]], tmp_path: Path) -> Counter[str]:
    """Record and replay; how many of the interactions were replayed as they were heard, or else why not."""
    found: Counter[str] = Counter()
    for number, session in enumerate(chosen):
        path = tmp_path / f"{number}.db"
        first, recording = heard(path, "record", session)
        unrecorded = recording.unrecorded()
        assert not recording.told()
        again, replaying = heard(path, "replay", session)
        replaying.told()
        for record, then, now in zip(session, first, again, strict=True):
            found[_ended(record, then, now, unrecorded)] += 1
        if path.exists():
            assert KEY.encode() not in path.read_bytes()
    return found


def _ended(record: Any, then: tuple[int, bytes], now: tuple[int, bytes], unrecorded: list[str]) -> str:
    if then == now:
        return "the same"
    if then[0] == now[0] and all(a == b or b == ord("*") for a, b in zip(then[1], now[1], strict=True)):
        return "the same, less secrets"
    if everybodys(record["status"]):
        return "of the moment"
    if now[0] == 504:
        return f"not recorded: {sorted({text.rpartition(': ')[2] for text in unrecorded})}"
    return f"another answer: {record['id']}"


def test_the_secrets_of_other_peoples_tests_are_starred_and_nothing_else(records, tmp_path):
    chosen = [
        session for session in sessions(records) if any("connector_googlecalendar" in str(one) for one in session)
    ]
    assert sweep(chosen, tmp_path)["the same, less secrets"] == 1


def test_recorded_traffic_is_replayed_as_it_was_heard(records, tmp_path):
    chosen = [session for number, session in enumerate(sessions(records)) if number % 60 == 0]
    found = sweep(chosen, tmp_path)
    assert not [word for word in found if word.startswith("another answer")], found
    assert found["the same"] > 0.9 * found.total(), found
    assert found["the same, less secrets"] <= 1


@pytest.mark.slow
def test_all_recorded_traffic_is_replayed_as_it_was_heard(records, tmp_path):
    found = sweep(sessions(records), tmp_path)
    assert not [word for word in found if word.startswith("another answer")], found
    assert found["the same"] > 0.9 * found.total(), found
    assert found["the same, less secrets"] == 3
