"""Many callers in several processes, one call; an answer that may not be stored is still shared with its followers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from askonce.testing import Provider, Step
from askonce.testing.servers import watch
from tests.fixtures import SHARED, place_of

ROOT = Path(__file__).parents[2]
SHARES = [7, 6, 6, 6]  # 25 callers in 4 processes


@contextmanager
def callers(store: str, base_url: str) -> Iterator[list[subprocess.Popen[str]]]:
    program = [sys.executable, "-m", "tests.http.callers", store, base_url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(program, cwd=ROOT, start_new_session=True, **pipes) for _ in SHARES]
    watchers = [watch(process.pid) for process in started]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield started
    finally:
        for process in (*watchers, *started):
            process.kill()
            process.communicate()


def ask_all(processes: list[subprocess.Popen[str]], question: str) -> list[dict[str, Any]]:
    for process, number in zip(processes, SHARES, strict=False):
        assert process.stdin is not None
        process.stdin.write(json.dumps([number, question]) + "\n")
        process.stdin.flush()
    return [one for process in processes if process.stdout for one in json.loads(process.stdout.readline())]


@pytest.fixture(params=SHARED)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return place_of(request.param, request, tmp_path)


CASES: dict[str, tuple[Step, str]] = {
    "limited": (Step(status=429, headers={"retry-after": "7"}), "status-429"),
    "broken": (Step(status=500), "status-500"),
    "truncated": (Step(shape="truncated"), "truncated"),
    "garbled": (Step(body=b'{"half": '), "not-json"),
    "fine": (Step(), ""),
    "cut": (Step(error=ConnectionResetError()), "upstream-broken"),
}


@pytest.mark.concurrency
@pytest.mark.servers
def test_25_callers_in_4_processes_share_one_call_whatever_it_brings(store):
    with Provider(delay=0.5) as provider, callers(store, provider.openai_url) as processes:
        for question, (step, detail) in CASES.items():
            provider.script(question, step)
            got = ask_all(processes, question)
            assert len(got) == 25
            assert provider.paid(question) == 1, (question, got)
            if question == "cut":
                assert got == [{"error": "APIConnectionError"}] * 25
                continue
            alike = [{name: one[name] for name in ("status", "body", "headers")} for one in got]
            assert all(one == alike[0] for one in alike), question
            assert (alike[0]["status"], alike[0]["headers"]["retry-after"]) == (
                step.status,
                step.headers.get("retry-after"),
            )
            collapsed = [one for one in got if "collapsed" in one["cache"]]
            assert len(collapsed) == 24
            assert all(f"detail={detail}" in one["cache"] for one in got if detail)
            provider.script(question, Step(delay=0))
            ask_all(processes[:1], question)
            assert provider.paid(question) == (2 if detail else 1), "what may not be stored was"
