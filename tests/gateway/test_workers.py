"""Several workers on one store and one port: signals under load, and a worker that is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from askonce.testing import Provider
from tests.crowd import eventually
from tests.gateway.running import CLIENT
from tests.gateway.served import Served

pytestmark = [pytest.mark.waits]
KEY = {"authorization": "Bearer sk-1"}


class Load:
    """Callers that ask again and again, each over a new connection, until they are told to stop."""

    def __init__(self, url: str, callers: int = 6, questions: int = 40) -> None:
        self.answered: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self.asked = itertools.count()
        self._url = url
        self._questions = questions
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, name="caller") for _ in range(callers)]

    def _ask(self) -> None:
        while not self._over.is_set():
            question = f"q{next(self.asked) % self._questions}"
            body = {"model": "m", "messages": [{"role": "user", "content": question}]}
            try:
                came = CLIENT.post(f"{self._url}/v1/chat/completions", json=body, headers=KEY, timeout=20)
            except httpx2.TransportError as error:
                self.errors.append(error)
                continue
            assert question in came.text
            self.answered[came.status_code] += 1

    def wait_until_answered(self, number: int) -> None:
        eventually(lambda: self.answered.total() >= number, f"{number} requests are answered", 30)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def write(file: Path, provider: Provider, **more: Any) -> None:
    lines = [f'[[upstream]]\nurl = "{provider.url}"', f'[store]\nurl = "sqlite:///{file.parent}/answers.db"']
    lines += ["[server]\nworkers = 2\ndrain = 10", *(f"{name} = {value}" for name, value in more.items())]
    file.write_text("\n".join(lines))


def paid_once(provider: Provider, questions: int = 40) -> bool:
    return all(provider.paid(f"q{number}") <= 1 for number in range(questions))


@pytest.mark.slow
def test_a_reload_under_load_loses_no_request_and_pays_nothing_twice(file):
    with Provider(delay=0.05) as provider:
        write(file, provider)
        with Served("--config", file) as served, Load(served.url) as load:
            for number in (1, 2):
                load.wait_until_answered(number * 30)
                served.tell(signal.SIGHUP)
                served.wait_for("was read again", times=2 * number)
            file.write_text("[serverr]")
            served.tell(signal.SIGHUP)
            served.wait_for("the configuration is wrong, the one before stays in use: .*server")
            load.wait_until_answered(load.answered.total() + 20)
        assert not load.errors
        assert set(load.answered) == {200}
        assert paid_once(provider)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_and_nobody_else_notices(file):
    with Provider(delay=0.05) as provider:
        write(file, provider)
        with Served("--config", file) as served, Load(served.url, callers=6) as load:
            load.wait_until_answered(30)
            victim = served.workers()[0]
            os.kill(victim, signal.SIGKILL)
            served.wait_for(r"worker \d ended \(exit code -9\): another one starts")
            load.wait_until_answered(load.answered.total() + 60)
            assert len(served.workers()) == 2
        # Only calls that the killed worker had may have been cut, or are paid again.
        assert len(load.errors) <= 6
        assert set(load.answered) == {200}
        assert sum(provider.paid(f"q{number}") - 1 for number in range(40) if provider.paid(f"q{number}")) <= 6


def test_an_end_under_load_finishes_every_call_that_had_begun(file):
    with Provider(delay=0.3) as provider:
        write(file, provider)
        with Served("--config", file) as served, Load(served.url, questions=10_000) as load:
            load.wait_until_answered(6)
            served.tell(signal.SIGTERM)
            assert served.end() == 0
        paid = sum(provider.paid(f"q{number}") for number in range(next(load.asked)))
        assert set(load.answered) == {200}
        assert load.answered.total() == paid  # whoever had its call begun got its answer


@pytest.mark.slow
def test_one_worker_ends_with_its_flights_and_a_second_signal_ends_it_at_once(file):
    with Provider(delay=30) as provider:
        write(file, provider)
        with Served("--config", file, "--workers", "1") as served:
            thread = threading.Thread(target=one, args=(served.url,))
            thread.start()
            provider.wait_until_paid("q0")
            served.tell(signal.SIGTERM)
            time.sleep(0.3)
            assert not served.ended
            served.tell(signal.SIGTERM)
            assert served.end() == 0
            thread.join(60)
        assert not [line for line in served.lines if "Traceback" in line]


def one(url: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "q0"}]}
    with contextlib.suppress(httpx2.TransportError):
        CLIENT.post(f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=20)
