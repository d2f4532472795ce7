"""A thousand streams at once through one worker of `askonce serve`: what they cost upstream and in memory, and every byte."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from askonce.testing import Provider, Step
from tests.gateway.served import Served
from tests.remains import peak

pytestmark = [
    pytest.mark.slow,
    pytest.mark.waits,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]
KEY = {"authorization": "Bearer sk-1"}
FEW, MANY, MORE = 200, 1000, 1.5
WORDS = " ".join(f"word-{number:03}" for number in range(200))  # of 2 KB


def asked(question: str) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": [{"role": "user", "content": question}]}


class Crowd(NamedTuple):
    """What callers got, by their question; the gateway's largest memory in bytes."""

    bodies: dict[str, set[bytes]]
    calls: Counter[int]  # how many questions cost so many
    memory: int


async def read(session: aiohttp.ClientSession, url: str, question: str, began: asyncio.Semaphore) -> bytes:
    """All of a stream; `began` is released once its first event is there."""
    async with session.post(f"{url}/v1/chat/completions", json=asked(question), headers=KEY) as came:
        found = await came.content.readany()
        while b"data: " not in found:
            found += await came.content.readany()
        began.release()
        return found + await came.content.read()


async def all_at_once(url: str, provider: Provider, questions: list[str]) -> list[bytes]:
    """What each caller gets. No stream goes on before all have begun."""
    began = asyncio.Semaphore(0)
    timeout, connector = aiohttp.ClientTimeout(total=240), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        tasks = [asyncio.ensure_future(read(session, url, question, began)) for question in questions]
        for _ in questions:
            await began.acquire()
        for question in set(questions):
            provider.release(question)
        return await asyncio.gather(*tasks)


def crowd(folder: Path, streams: int, questions: int) -> Crowd:
    names = [f"question {number % questions} {WORDS}" for number in range(streams)]
    with contextlib.ExitStack() as around:
        provider = around.enter_context(Provider())
        for name in names[:questions]:
            provider.script(name, Step(hang=True, after=2))
        store = f"sqlite:///{folder}/{streams}-{questions}.db"
        gateway = around.enter_context(Served("--upstream", provider.url, "--url", store))
        came = asyncio.run(all_at_once(gateway.url, provider, names))
        bodies: dict[str, set[bytes]] = {}
        for name, body in zip(names, came, strict=True):
            bodies.setdefault(name, set()).add(body)
        return Crowd(bodies, Counter(provider.paid(name) for name in names[:questions]), peak(gateway.pid))


async def told_by(provider: Provider, question: str) -> bytes:
    async with aiohttp.ClientSession() as session:
        return await read(session, provider.url, question, asyncio.Semaphore(0))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return crowd(tmp_path_factory.mktemp("few"), FEW, FEW)


@pytest.mark.parametrize("questions", [1, FEW])
def test_a_thousand_streams_at_once_cost_a_call_for_each_question_and_little_memory(few, tmp_path, questions):
    found = crowd(tmp_path, MANY, questions)
    assert found.calls == {1: questions}
    with Provider() as alone:  # another one, which nobody stands before: the first answers are the same
        for question, bodies in found.bodies.items():
            assert bodies == {asyncio.run(told_by(alone, question))}
            assert len(next(iter(bodies))) > 5_000
    assert len(found.bodies) == questions
    assert found.memory <= MORE * few.memory, (found.memory, few.memory)
