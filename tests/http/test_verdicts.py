"""The table of docs/sdks.md: the fate of recorded traffic, by protocol and reason."""

from __future__ import annotations

import base64
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from askonce.core.judge import Judge
from askonce.core.policy import resolve
from askonce.core.providers.expected import expected_of
from askonce.core.providers.operations import Operation, agreed
from askonce.core.providers.request import judge_request
from askonce.core.providers.scan import streams_read
from tests.corpus import by_path
from tests.http.conftest import Record

PAGE = Path(__file__).parents[2] / "docs" / "sdks.md"
TERMS = resolve()


def asked(record: Record) -> tuple[Operation | None, Any]:
    """The operation that a record's host, path and body agree on, and the body."""
    named = by_path(record["method"], record["url_path"], record["host"])
    try:
        body = json.loads(record["request_body"] or "null")
    except ValueError:
        return None, None
    return (agreed(named, body) if named and isinstance(body, dict) else None), body


def verdict(record: Record, operation: Operation, body: Any) -> str:
    asks_stream = operation.streamed_by_path or body.get("stream")
    reason = judge_request(body, TERMS, known=True)
    if not reason and asks_stream and not streams_read(operation.api):
        reason = "stream"
    if reason:
        return f"passed: {reason}"
    if record["status"] != 200:
        return f"not stored: status {record['status']}"
    judge = Judge(TERMS, expected_of(body), operation.api)
    packed = record.get("response_body_b64")  # AWS's event streams
    answer = base64.b64decode(packed) if packed else record["response_body"].encode()
    if record["stream"]:
        scan = judge.stream(record["response_headers"].get("content-type", ""))
        scan.feed(answer)
        reason = scan.verdict(0).reason
    else:
        reason = judge.reply(200, answer, 0).reason
    return f"not stored: {reason}" if reason else "stored"


def table(records: list[Record]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        operation, body = asked(record)
        if operation is not None:
            counts[operation.api.name][verdict(record, operation, body)] += 1
    names = sorted(counts, key=lambda name: -counts[name].total())
    reasons = sorted(
        {reason for found in counts.values() for reason in found}, key=lambda text: (text != "stored", text)
    )
    head = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    return head + [f"| {one} | {' | '.join(str(counts[name][one] or '') for name in names)} |" for one in reasons]


def test_the_table_in_the_docs_is_what_becomes_of_recorded_traffic(records):
    page = PAGE.read_text()
    start, mark, after = page.partition("tests/http/test_verdicts.py -->\n")
    shown, gap, rest = after.partition("\n\n")
    made = "\n".join(table(records))
    if os.environ.get("ASKONCE_WRITE_DOCS"):
        PAGE.write_text(start + mark + made + gap + rest)
    else:
        assert shown.rstrip("\n") == made
    total = sum(operation is not None for operation, _ in map(asked, records))
    assert f"Over {total:,} interactions" in start
