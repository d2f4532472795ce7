"""top: what all processes did, on a terminal, in a pipe and through a gateway."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from askonce import AsyncCache, Cache
from askonce.cli import top
from askonce.gateway.results import Flight, Pulse
from tests.crowd import eventually
from tests.gateway.mounted import TOKEN, mounted
from tests.hosted import served

DAY = 86_400
PULSE = Pulse(1_790_000_000.0, 100, 70, 5, 5, 20, 25, 3, 1, 12.345, [])


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path}/top.db"
    with Cache(url, prefix="llm") as cache:
        for number in range(6):
            cache.fetch({"model": "m", "n": number % 2}, lambda: {"answer": 1})
    return url


def counts(told):
    return {name: told[name] for name in ("lookups", "hits", "led", "calls", "flights")}


def test_a_look_counts_what_all_processes_did(askonce, store):
    said = askonce("top", "--url", store, "--prefix", "llm", "--json")
    assert said.code == 0, said.err
    assert counts(json.loads(said.out)) == {"lookups": 6, "hits": 4, "led": 2, "calls": 2, "flights": []}


def test_a_pipe_gets_a_heading_and_a_line_for_each_look(askonce, store):
    heading, line = askonce("top", "--url", store, "--prefix", "llm", "--once").out.splitlines()
    told = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
    assert (told["lookups"], told["hits"], told["flights"]) == ("6", "4", "0")
    assert float(told["at"]) > 1_700_000_000


def test_a_gateway_shows_the_same(askonce, store, monkeypatch):
    monkeypatch.setenv("ASKONCE_TOKEN", TOKEN)
    with served(mounted(AsyncCache(store, prefix="llm"))) as url:
        told = json.loads(askonce("top", "--url", url, "--json").out)
    of_store = json.loads(askonce("top", "--url", store, "--prefix", "llm", "--json").out)
    assert {**told, "at": 0} == {**of_store, "at": 0}


@pytest.mark.waits
def test_a_pipe_is_written_as_it_goes_on_and_its_reader_may_leave(store):
    words = ["top", "--url", store, "--prefix", "llm", "--every", "0.2"]
    child = subprocess.Popen(
        [sys.executable, "-m", "askonce", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = [child.stdout.readline() for _ in range(4)]
    assert lines[0].startswith("at\tlookups")
    times = [float(line.split("\t")[0]) for line in lines[1:]]
    assert times == sorted(times)
    child.stdout.close()
    assert child.wait(60) == 0
    assert child.stderr.read() == ""
    child.stderr.close()


@pytest.mark.waits
def test_a_terminal_is_drawn_again_until_it_is_interrupted(store):
    child, screen = pty.fork()
    if child == 0:
        os.environ |= {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
        words = ["top", "--url", store, "--prefix", "llm", "--every", "0.2"]
        os.execv(sys.executable, [sys.executable, "-m", "askonce", *words])
    shown = b""
    until = time.monotonic() + 60
    while shown.count(b"no calls are under way") < 3 and time.monotonic() < until:
        shown += os.read(screen, 65536)
    os.kill(child, signal.SIGINT)
    rest = threading.Thread(target=_drained, args=(screen,))
    rest.start()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    rest.join(60)
    os.close(screen)
    assert shown.count(b"no calls are under way") >= 3
    assert b"Traceback" not in shown


def _drained(screen):
    try:
        while os.read(screen, 65536):
            pass
    except OSError:
        return


def drawn(pulse, before, width=80, height=24):
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(top.screen(pulse, before, console))
    text = console.export_text()
    console.file.close()
    return text


def test_rates_are_of_the_time_between_two_looks_and_never_below_nothing():
    before = Pulse(PULSE.at - 2, 80, 70, 5, 5, 0, 0, 90, 0, 0.0, [])
    words = [line.split() for line in drawn(PULSE, before).splitlines()]
    rates = {" ".join(rest): rate for _, rate, *rest in [one for one in words if len(one) > 2]}
    assert (rates["lookups"], rates["answered by a call of their own"]) == ("10.0", "10.0")
    # Fewer than before: at midnight the counts begin again.
    assert rates["requests that were not looked up"] == "0.0"
    assert "-" not in rates.values()


@pytest.mark.parametrize(
    ("number", "said"), [(0, "no calls are"), (1, "1 call"), (999, "999 calls"), (1000, "1,000 calls or more")]
)
def test_the_calls_under_way_are_counted_as_far_as_they_are_read(number, said):
    flights = [Flight(f"{one:032x}", "s", 0.0, 3.0, 9.0, False, 0, False, None) for one in range(number)]
    assert f"{said} under way" in drawn(replace(PULSE, flights=flights), None)


@pytest.mark.parametrize(("led", "said"), [(0, "100%"), (1, "99.9%"), (4_000, "60%"), (9_999, "0.1%"), (10_000, "0%")])
def test_a_share_is_whole_only_if_it_is(led, said):
    assert f", {said} answered without" in drawn(replace(PULSE, lookups=10_000, led=led), None, 200)
    assert "answered without" not in drawn(replace(PULSE, lookups=0, led=0), None, 200)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_every_line_fits_the_terminal(width):
    flights = [
        Flight(f"{number:032x}", "s", 0.0, 3.5 * number, 9.0, True, 3, True, 2, "m" * 40) for number in range(60)
    ]
    pulse = Pulse(PULSE.at, 10**9, 10**9, 0, 0, 5, 5, 0, 0, 10**6, flights)
    text = drawn(pulse, PULSE, width, 24)
    assert max(map(len, text.splitlines())) <= width
    assert f"{0:012x}" in text
    if width >= 60:
        assert len(text.splitlines()) <= 24
        assert "1,000,000,000" in text


def test_a_flight_of_another_process_is_shown(askonce, store):
    going = threading.Event()

    def call():
        going.wait(60)
        return 1

    with Cache(store, prefix="llm") as cache:
        caller = threading.Thread(target=cache.fetch, args=({"q": "slow"}, call))
        caller.start()

        def flights():
            return json.loads(askonce("top", "--url", store, "--prefix", "llm", "--json").out)["flights"]

        (flight,) = eventually(flights, "the flight is listed")
        going.set()
        caller.join(60)
    assert flight["seconds"] >= 0
