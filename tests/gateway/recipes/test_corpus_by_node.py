"""Recorded traffic by OpenAI's SDK for Node: through the gateway it makes of each answer what it makes without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.served import Served
from tests.http.test_corpus import base_of
from tests.support import ReplayUpstream

PROGRAM = Path(__file__).with_name("corpus.mjs")
MODULES = Path(os.environ.get("ASKONCE_NODE", ""))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("node") and (MODULES / "node_modules" / "openai").is_dir()),
        reason="Node or its packages are not installed here: make recipes",
    ),
]
Record = dict[str, Any]


@pytest.fixture
def program() -> Iterator[Path]:
    """The program beside its packages, where an import looks for them."""
    copy = MODULES / f"corpus-{os.getpid()}.mjs"
    shutil.copy(PROGRAM, copy)
    yield copy
    copy.unlink()


def asked(url: str, record: Record) -> dict[str, Any] | None:
    """A request as the program reads it; None for one that this SDK does not send."""
    aimed = base_of(url, record)
    if aimed is None or aimed[2] == "/v1/messages":
        return None
    base, query, end = aimed
    headers = {"x-replay-host": record["host"], "askonce-scope": record["id"]}
    body = json.loads(record["request_body"])
    return {"url": base, "query": query, "end": end, "body": body, "headers": headers, "key": record["id"]}


def told(program: Path, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the SDK makes of the answers."""
    lines = "".join(json.dumps(one) + "\n" for one in questions)
    done = subprocess.run(
        ["node", str(program)], input=lines, capture_output=True, text=True, timeout=900, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_all_of_openais_traffic_is_the_same_to_its_sdk_for_node(records, corpus_dir, program, tmp_path):
    with ReplayUpstream(corpus_dir, "--dup", "first") as upstream:
        sent = [(one, record) for record in records if (one := asked(upstream.url, record)) is not None]
        without = told(program, [one for one, _ in sent])
        with Served("--upstream", upstream.url, "--url", f"sqlite:///{tmp_path}/answers.db") as gateway:
            through = [one | {"url": one["url"].replace(upstream.url, gateway.url)} for one, _ in sent]
            upstream.reset()
            first = told(program, through)
            paid = upstream.calls()["total"]
            second = told(program, through)
            again = upstream.calls()["total"] - paid
    assert len(sent) > 1000
    for (_, record), direct, one, two in zip(sent, without, first, second, strict=True):
        assert (one, two) == (direct, direct), record["id"]
    assert sum("answer" in one for one in without) > 700
    assert sum("error" not in one and len(one["events"]) > 1 for one in without if "events" in one) > 200
    assert again < paid * 0.7, (paid, again)
