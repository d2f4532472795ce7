"""Workers of other servers, which fork in their own ways: Celery's pool, uWSGI with and without its hooks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.concurrency]

UWSGI = shutil.which("uwsgi", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
ASKING = """
import os, time
from pathlib import Path
from askonce import Cache

here = Path(__file__).parent
cache = Cache(f"sqlite:///{here}/answers.db")
cache.fetch("boot", lambda: 1)  # before the fork

def ask(question, seconds):
    def call():
        with (here / "paid").open("a") as paid:
            paid.write(question + "\\n")
        time.sleep(seconds)
        return question
    outcome = cache.fetch({"q": question}, call)
    return [outcome.value, cache.stats()["background"], os.getpid()]
"""
APP = """
import json
from asking import ask

def application(environ, start):
    body = json.dumps(ask(environ["QUERY_STRING"], 0.5)).encode()
    start("200 OK", [("Content-Type", "application/json")])
    return [body]
"""
TASKS = """
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from asking import ask as asked, here

app = Celery("tasks", broker="filesystem://", backend=f"file://{here}/results")
folders = {"data_folder_in": f"{here}/queue", "data_folder_out": f"{here}/queue", "control_folder": f"{here}/control"}
app.conf.broker_transport_options = folders

@app.task
def ask(question, seconds):
    return asked(question, seconds)

@app.task(soft_time_limit=1)
def limited(question):
    try:
        return asked(question, 60)
    except SoftTimeLimitExceeded:
        return "limited"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("asking", ASKING), ("app", APP), ("tasks", TASKS)):
        (tmp_path / f"{name}.py").write_text(text)
    for name in ("results", "queue", "control"):
        (tmp_path / name).mkdir()
    return tmp_path


def paid(folder: Path, question: str) -> int:
    return (folder / "paid").read_text().split().count(question)


def started(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, ended as an operator would, without a traceback in its log."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in (folder / "log").read_text()


@pytest.mark.skipif(UWSGI is None, reason="uwsgi is not installed: pip install uwsgi")
@pytest.mark.parametrize("flags", ["", "--lazy-apps", "--py-call-osafterfork"])
def test_workers_of_uwsgi_pay_once_and_each_has_a_background_thread(folder, flags):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert UWSGI is not None
    command = [UWSGI, "--http-socket", f"127.0.0.1:{port}", "--wsgi-file", "app.py", "--die-on-term", "--master"]
    home = ["-H", sys.prefix] if sys.prefix != sys.base_prefix else []
    for _ in started(folder, *command, "--processes", "2", "--threads", "4", *home, *flags.split()):

        def get(question: str) -> Any:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/?{question}", timeout=20) as response:
                return json.load(response)

        _ready(lambda: get("first"))
        with ThreadPoolExecutor(8) as crowd:
            got = list(crowd.map(get, ["same"] * 8))
        assert {(value, background) for value, background, _ in got} == {("same", "ok")}
        assert len({pid for *_, pid in got}) == 2
        assert paid(folder, "same") == 1


def _ready(ask: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            ask()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


ASKED = """
import json, sys, tasks
print(json.dumps([one.get(timeout=40) for one in [tasks.ask.delay("same", 0.5) for _ in range(8)]]))
print(json.dumps(tasks.limited.delay("limited").get(timeout=40)))
print(json.dumps(tasks.ask.delay("limited", 0).get(timeout=40)))
"""


@pytest.mark.skipif(find_spec("celery") is None, reason="celery is not installed: pip install celery")
def test_workers_of_celery_pay_once_and_a_time_limit_leaves_no_lease(folder):
    worker = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "4", "--prefetch-multiplier", "1"]
    for _ in started(folder, *worker, "--without-gossip", "--without-mingle", "--without-heartbeat"):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", ASKED], cwd=folder, env=environment, capture_output=True, timeout=120, check=True
        )
        same, limited, after = map(json.loads, done.stdout.splitlines())
        assert {(value, background) for value, background, _ in same} == {("same", "ok")}
        assert paid(folder, "same") == 1
        assert limited == "limited"
        assert after[0] == "limited"
        assert paid(folder, "limited") == 2, "who was ended by his limit holds nothing, and nobody waits for him"
