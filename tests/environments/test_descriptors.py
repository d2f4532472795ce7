"""A process without a free descriptor: its lookups go upstream, visibly, without a traceback; later all works again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fixtures import place_of

PROGRAM = """
import os, sys, time
import resource, askonce
request = {"model": "m"}
paid = []
def call():
    paid.append(1)
    return {"said": len(paid)}
cache = askonce.Cache(sys.argv[1])
if sys.argv[2] == "warm":
    cache.fetch(request, call)
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for number in range(4):
    outcome = cache.fetch({**request, "seed": number}, call)
    assert outcome.value["said"] == len(paid)
    print(outcome.status.detail or "none", flush=True)
for one in held:
    os.close(one)
until = time.monotonic() + 60
while not cache.fetch({**request, "seed": len(paid)}, call).status.stored:
    assert time.monotonic() < until, "it does not recover"
    time.sleep(0.05)
cache.close()
"""


@pytest.mark.parametrize("state", ["cold", "warm"])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def test_without_a_descriptor_lookups_go_upstream_visibly_and_recover(kind, state, tmp_path, request):
    pytest.importorskip("resource", reason="only POSIX bounds descriptors")
    url = place_of(kind, request, tmp_path)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, url, state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if state == "cold":
        assert all(line.startswith("store-") for line in done.stdout.split())
