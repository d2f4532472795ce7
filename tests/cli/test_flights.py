"""flights: the calls of other processes, and who waits for them."""

import json
import subprocess
import sys
import threading

import pytest

from askonce import Cache
from tests.crowd import eventually

LEADER = """
import sys
from askonce import Cache

def call():
    print("under way", flush=True)
    sys.stdin.readline()
    return "done"

with Cache(sys.argv[1], prefix="llm") as cache:
    cache.fetch({"model": "m", "q": sys.argv[2]}, call, scope="a/b")
"""


@pytest.fixture
def leading(shared):
    """Another process that makes a call, until it is told to end."""
    child = subprocess.Popen(
        [sys.executable, "-c", LEADER, shared, "one"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "under way\n"
    yield child
    child.communicate("\n", timeout=30)
    assert child.returncode == 0


def listed(askonce, store, *words):
    said = askonce("flights", "--url", store, "--prefix", "llm", *words)
    assert said.code == 0, said.err
    return said


@pytest.mark.waits
def test_a_call_of_another_process_is_listed_with_those_who_wait_for_it_until_it_ends(
    askonce, shared, leading, monkeypatch
):
    monkeypatch.setattr("askonce.cli.flights.FLIGHTS", 1)
    said = listed(askonce, shared, "--json")
    (flight,) = json.loads(said.out)
    assert said.err == ""
    assert "only the 1 longest" in listed(askonce, shared).err
    assert (flight["here"], flight["wanted"], flight["followers"]) == (False, False, 0)
    assert 0 <= flight["seconds"] < 120
    with Cache(shared, prefix="llm") as cache:
        request = {"model": "m", "q": "one"}
        waiting = [
            threading.Thread(target=cache.fetch, args=(request, dict), kwargs={"scope": "a/b"}) for _ in range(3)
        ]
        for one in waiting:
            one.start()

        def now():
            return json.loads(listed(askonce, shared, "--json").out)[0]

        eventually(
            lambda: now()["wanted"] and now()["processes"] in {1, None} and now()["followers"] == 3, "all three wait"
        )
        heading, line = listed(askonce, shared).out.splitlines()
        told = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
        assert (told["key"], told["wanted"], told["here"]) == (flight["key"], "yes", "no")
        leading.stdin.write("\n")
        leading.stdin.flush()
        for one in waiting:
            one.join(60)
    said = listed(askonce, shared)
    assert len(said.out.splitlines()) == 1
    assert "no calls are under way" in said.err
