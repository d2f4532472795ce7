"""kill -9 of one of two workers under load: whoever is connected to the other one meets no error, and waits for nobody dead."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from askonce.testing import Provider, Step
from tests.crowd import eventually
from tests.fixtures import place_of
from tests.gateway.served import Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.waits,
    pytest.mark.skipif(sys.platform != "linux", reason="who owns a connection is read from /proc"),
]
QUESTIONS = 30
HEADERS = {"authorization": "Bearer sk-1", "content-type": "application/json"}


def owner_of(caller: int, pids: list[int]) -> int:
    """The process that has the server's end of the connection from this port; 0 if none of these."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == caller and (inode := fields[9]) != "0":
            for pid in pids:
                with contextlib.suppress(OSError):
                    if any(str(one.readlink()) == f"socket:[{inode}]" for one in Path(f"/proc/{pid}/fd").iterdir()):
                        return pid
    return 0


def streamed(said: str) -> str:
    """What the events of a stream say."""
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


class Caller:
    """A caller of one worker: all that it asks goes over one connection."""

    def __init__(self, url: str, stream: bool = False) -> None:
        parts = urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self.connection.connect()
        self.port: int = self.connection.sock.getsockname()[1]
        self.answers: list[tuple[int, str]] = []
        self.error: Exception | None = None
        self._stream = stream
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self, question: str) -> str:
        body: dict[str, Any] = {
            "model": "m",
            "messages": [{"role": "user", "content": question}],
            "stream": self._stream,
        }
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body), HEADERS)
        came = self.connection.getresponse()
        said = came.read().decode()
        self.answers.append((came.status, came.headers["cache-status"]))
        assert not self._stream or said.endswith("data: [DONE]\n\n")
        assert question in (streamed(said) if self._stream else said)
        return said

    def begin(self, questions: Iterator[str]) -> Self:
        def run() -> None:
            try:
                while not self._over.is_set():
                    self.ask(next(questions))
            except Exception as error:
                self.error = error

        self._thread = threading.Thread(target=run, name="caller")
        self._thread.start()
        return self

    def end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(60)
            assert not self._thread.is_alive()
        self.connection.close()


def drawn(seed: int) -> Iterator[str]:
    dice = random.Random(seed)
    while True:
        yield f"question {dice.randrange(QUESTIONS)}"


def by_worker(served: Served, each: int) -> dict[int, list[Caller]]:
    """So many callers of each worker."""
    pids = served.workers()
    found: dict[int, list[Caller]] = {pid: [] for pid in pids}
    for number in range(400):
        if all(len(callers) == each for callers in found.values()):
            return found
        caller = Caller(served.url, stream=number % 2 == 0)
        caller.ask("first")
        pid = owner_of(caller.port, pids)
        if pid and len(found[pid]) < each:
            found[pid].append(caller)
        else:
            caller.end()
    raise AssertionError(f"the connections are not shared: {found}")


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def test_callers_of_the_other_worker_meet_no_error(kind, request, tmp_path):
    store = place_of(kind, request, tmp_path)
    with Provider(delay=0.2) as provider:
        provider.script("held", Step(hang=True), "complete")
        with Served("--upstream", provider.url, "--url", store, "--workers", "2") as served:
            callers = by_worker(served, 5)
            victim, other = callers
            # One call is the victim's, and a caller of the other worker waits for it.
            leading = callers[victim].pop().begin(iter(["held"]))
            provider.wait_until_paid("held")
            waiting = callers[other].pop().begin(iter(["held"]))
            busy = [one.begin(drawn(at)) for at, one in enumerate(callers[victim] + callers[other])]
            eventually(lambda: sum(len(one.answers) for one in busy) > 60, "they are at work", 60)
            os.kill(victim, signal.SIGKILL)
            served.wait_for(r"worker \d ended \(exit code -9\): another one starts")
            asked = sum(len(one.answers) for one in callers[other])
            eventually(lambda: sum(len(one.answers) for one in callers[other]) > asked + 60, "they go on", 60)
            eventually(lambda: len(waiting.answers) == 2, "who waited for the killed one has its answer", 60)
            for one in (leading, waiting, *busy):
                one.end()
            eventually(lambda: len(served.workers()) == 2, "there are two workers again", 30)
    assert [one.error for one in callers[other]] == [None] * 4
    assert isinstance(waiting.error, StopIteration)  # it asked all that it had to
    assert {status for one in (waiting, *callers[other]) for status, _ in one.answers} == {200}
    assert provider.paid("held") == 2
    again = sum(max(0, provider.paid(f"question {number}") - 1) for number in range(QUESTIONS))
    # Each question is asked whole and as a stream: two calls. Only the calls that the victim had are paid again.
    assert again <= QUESTIONS + len(callers[victim])
