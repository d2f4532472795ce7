"""Many callers in several processes, one call; an answer that may not be stored is still shared with its followers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from askonce.testing import Provider, Step
from tests.fixtures import SHARED, place_of
from tests.siblings import Sibling, siblings

SHARES = [7, 6, 6, 6]  # 25 callers in 4 processes


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(delay=0.5) as provider:
        yield provider


@pytest.fixture(scope="module")
def processes(provider: Provider) -> Iterator[list[Sibling]]:
    with siblings("tests.http.callers", [[provider.openai_url]] * len(SHARES)) as started:
        for process in started:
            assert process.stdout.readline() == "ready\n"
        yield started


def ask_all(store: str, processes: list[Sibling], question: str) -> list[dict[str, Any]]:
    for process, number in zip(processes, SHARES, strict=False):
        process.stdin.write(json.dumps([store, number, question]) + "\n")
        process.stdin.flush()
    return [one for process in processes for one in json.loads(process.stdout.readline())]


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
def test_25_callers_in_4_processes_share_one_call_whatever_it_brings(store, provider, processes):
    provider.reset()
    provider.script("warm", Step(delay=0))
    ask_all(store, processes, "warm")  # what a process makes at its first question may take longer than a call
    for question, (step, detail) in CASES.items():
        provider.script(question, step)
        got = ask_all(store, processes, question)
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
        ask_all(store, processes[:1], question)
        assert provider.paid(question) == (2 if detail else 1), "what may not be stored was"
