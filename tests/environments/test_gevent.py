"""Under gunicorn's gevent workers, preloaded: the cache was made, and used, before gevent patched the threads'
locks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fixtures import place_of
from tests.took import Took

pytest.importorskip("gevent", reason="gevent is not installed")
pytest.importorskip("gunicorn", reason="gunicorn is not installed")

APPLICATION = """
import json, os, time, askonce
cache = askonce.Cache(os.environ["ASKED_URL"])
cache.fetch({"model": "m", "q": "in the master"}, lambda: {"said": 1})

def application(environ, start_response):
    def call():
        time.sleep(0.3)
        return {"by": f"{os.getpid()} {time.time_ns()}"}
    outcome = cache.fetch({"model": "m", "q": environ["PATH_INFO"]}, call)
    body = json.dumps(outcome.value).encode()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def test_greenlets_of_several_workers_share_one_call_and_none_waits_for_a_lock_of_threads(kind, tmp_path, request):
    url = place_of(kind, request, tmp_path)
    (tmp_path / "served.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "--preload", "-w", "2", "-b", "127.0.0.1:0"]
    environment = {**os.environ, "ASKED_URL": url}
    with subprocess.Popen(
        [*command, "served:application"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            address = _address(server)
            for question in ("first", "second"):
                took = Took()
                with ThreadPoolExecutor(12) as crowd:
                    answers = list(crowd.map(lambda _: _asked(f"{address}/{question}"), range(12)))  # noqa: B023
                assert len(set(answers)) == 1, "it was paid more than once"
                assert took.seconds < 6
        finally:
            server.terminate()
            server.communicate(timeout=60)


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if "Listening at: " in line:
            return line.partition("Listening at: ")[2].split()[0]
    raise AssertionError("gunicorn did not start")


def _asked(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=15) as response:
        answer: bytes = response.read()
        return answer
