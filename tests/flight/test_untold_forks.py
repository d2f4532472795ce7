"""Forks that Python does not notice: of a C library, or of a server that embeds Python (uWSGI) and runs no hooks.

The parent made lookups, so it has connections and a background thread. Its children inherit the connections and believe
that they have the thread; nothing tells them otherwise until their first use.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from askonce.testing import Receipts
from tests.crowd import ROOT

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="C's fork is unsafe here"),
]

# A thread that waits for the interpreter's lock while this one forks would leave it in pieces to the child, whatever we
# do: so the background thread is to be asleep, as it is in a server that has been set up. It may wake for a note within
# milliseconds, or for what another process tells: each fork comes when it has gone to sleep for a while, and when the
# system says that it is where it was before this thread, too, slept, and gave it the lock.
FORKED = """
import ctypes, threading, time
from askonce.runtime.wakeup import Wakeup
from askonce.store.redis.waker import Waker

libc = ctypes.PyDLL(None)  # keeps the interpreter's lock, as a server that embeds it does
asleep = {}

def watched(kind):
    plain = kind.wait
    def wait(self, *given):
        me, now = threading.current_thread(), time.monotonic()
        name = me.name
        asleep[name] = (me.native_id, now + given[-1])
        try:
            return plain(self, *given)
        finally:
            asleep.pop(name, None)
    kind.wait = wait

def watch_its_sleep():
    watched(Waker)
    watched(Wakeup)
    time.sleep(0.5)

def sleeps(thread):
    try:
        with open(f"/proc/self/task/{thread}/syscall") as file:
            return file.read()
    except OSError:
        return "it is not said here"

def forked():
    while True:
        thread, until = asleep.get("askonce-background", (0, 0.0))
        before = sleeps(thread)
        time.sleep(0.02)
        if time.monotonic() < until - 0.2 and before == sleeps(thread) and not before.startswith("running"):
            return libc.fork()
"""

PARENT = (
    FORKED
    + """
import asyncio, json, os, sys, threading, time
from askonce import AsyncCache, Cache
from askonce.testing import Receipts
from tests.crowd import heartbeat

mode, url, receipts, path = sys.argv[1:]
receipts = Receipts(receipts)
short = heartbeat(1.5)  # a busy machine may hold a thread up
short.__enter__()
cache = (AsyncCache if mode == "tasks" else Cache)(url)

def ask(question, seconds=0.0):
    def call():
        receipts.write(question)
        time.sleep(seconds)
        return question
    async def aio():
        receipts.write(question)
        await asyncio.sleep(seconds)
        return question
    if mode == "threads":
        return cache.fetch(question, call)
    async def asked():
        return await cache.fetch(question, aio)
    return asyncio.run(asked())

def background():
    return [one.name for one in threading.enumerate() if one.name == "askonce-background"]

assert ask("warm").status.stored
assert background()

def child(number):
    hit = ask("warm").status.hit
    # Longer than a heartbeat, so that only a child with a background thread of its own keeps the lease.
    outcome = ask("long", 2.5)
    own = ask(f"own {number}").status.stored
    return {"hit": hit, "value": outcome.value, "stored": outcome.status.stored, "own": own, "detail": outcome.status.detail,
            "troubles": {name: count for name, count in cache.stats().items() if name.startswith("trouble")}}

watch_its_sleep()
pipes = []
for number in range(3):
    ours, theirs = os.pipe()
    pid = forked()
    if pid == 0:
        try:
            said = child(number)
        except BaseException as error:
            said = {"error": repr(error)}
        os.write(theirs, json.dumps(said).encode())
        os._exit(0)
    os.close(theirs)
    pipes.append((pid, ours))
ask("mine")
told = []
for pid, ours in pipes:
    data = b""
    while more := os.read(ours, 65536):
        data += more
    os.waitpid(pid, 0)
    told.append(json.loads(data))
again = [ask(question).status.hit for question in ("warm", "long", "mine", "own 0", "own 2")]
print(json.dumps({"children": told, "hits": again}))
if mode == "threads":
    cache.close()
"""
)


def run(program: str, *arguments: str) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        told, wrong = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children, too, which hold connections
    assert process.returncode == 0, wrong
    assert not wrong, wrong
    return json.loads(told)


@pytest.mark.parametrize(
    ("mode", "shared"),
    [
        ("threads", "sqlite"),
        pytest.param("tasks", "valkey", marks=pytest.mark.servers),
        pytest.param("threads", "valkey", marks=[pytest.mark.servers, pytest.mark.slow]),
        pytest.param("tasks", "sqlite", marks=pytest.mark.slow),
    ],
    indirect=["shared"],
)
def test_children_of_a_fork_without_hooks_have_threads_and_connections_of_their_own(mode, shared, tmp_path):
    receipts = Receipts(tmp_path / "paid")
    said = run(PARENT, mode, shared, str(receipts.path), str(tmp_path))
    for child in said["children"]:
        assert "error" not in child, child
        assert (child["hit"], child["value"], child["own"]) == (True, "long", True)
        assert not child["troubles"]
    assert sum(child["stored"] for child in said["children"]) == 1, "one led, and the others followed it"
    assert receipts.paid("long") == 1
    assert said["hits"] == [True] * 5


LOCKS = (
    FORKED
    + """
import json, os, subprocess, sys
from askonce import Cache

url = sys.argv[1]
cache = Cache(url)
cache.fetch("warm", lambda: 1)
down, up = os.pipe(), os.pipe()
watch_its_sleep()
pid = forked()
if pid == 0:
    assert cache.fetch("warm", lambda: 2).status.hit
    os.write(up[1], b"x")
    os.read(down[0], 1)
    cache.invalidate(everything=True)  # after the parent's last connection was closed
    os.write(up[1], b"x")
    os.read(down[0], 1)
    os._exit(0)
os.read(up[0], 1)
cache.close()
os.write(down[1], b"x")
os.read(up[0], 1)
other = "import sys; from askonce import Cache; print(Cache(sys.argv[1]).fetch('warm', lambda: 3).value)"
seen = subprocess.run([sys.executable, "-c", other, url], capture_output=True, text=True).stdout
os.write(down[1], b"x")
os.waitpid(pid, 0)
print(json.dumps(seen.strip()))
"""
)


def test_what_such_a_child_invalidates_in_a_file_is_invalid_for_all_though_its_parent_has_closed_it(tmp_path: Path):
    assert run(LOCKS, f"sqlite:///{tmp_path}/answers.db") == "3"
