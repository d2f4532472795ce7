"""How `make suites` tells which differences are right; and a suite of three tests, run both ways."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tools.suites.__main__ import found
from tools.suites.compare import Difference, Ended, Right, differences, ended, judged, listed, steady
from tools.suites.suite import HERE, Suite, chosen, suites


def line(test: str, outcome: str, *, sends: bool = True, text: str = "", lookups: tuple[str, ...] = ()) -> str:
    said = [text] if text else []
    return json.dumps({"test": test, "outcome": outcome, "text": said, "lookups": lookups, "sends": sends})


def test_a_test_ends_as_the_worst_of_its_phases():
    got = ended(
        [
            line("t::a", "passed", sends=False),
            line("t::a", "passed"),
            line("t::b", "passed", lookups=("hit",)),
            line("t::b", "error", text="left open"),
            line("t::c", "skipped", sends=False),
        ]
    )
    assert got == {
        "t::a": Ended("passed", sends=True),
        "t::b": Ended("error", "left open", (), sends=True),
        "t::c": Ended("skipped"),
    }


BEFORE = {
    "t::same": Ended("passed", sends=True),
    "t::worse": Ended("passed", sends=True),
    "t::better": Ended("failed", sends=True),
    "t::gone": Ended("passed", sends=True),
    "t::not_run[1]": Ended("passed"),
}
AFTER = {
    "t::same": Ended("passed"),
    "t::worse": Ended("failed", "1 != 2", ("askonce; hit",)),
    "t::better": Ended("passed"),
}


def test_what_ends_otherwise_differs_for_better_for_worse_or_not_at_all():
    got = differences("sdk", BEFORE, AFTER)
    assert [(one.test, one.before, one.after) for one in got] == [
        ("t::worse", "passed", "failed"),
        ("t::better", "failed", "passed"),
        ("t::gone", "passed", "missing"),
    ]
    assert str(got[0]) == "t::worse: passed -> failed\n    1 != 2\n    lookup: askonce; hit"


def test_what_does_not_come_again_is_no_difference():
    got = differences("sdk", BEFORE, AFTER)
    again = [got[1], got[2]._replace(after="failed"), got[1]._replace(test="t::new")]
    assert steady(got, again) == again[:2]


def test_a_difference_is_by_right_if_it_is_listed_and_what_is_listed_has_to_differ():
    one, two = (Difference("sdk", test, "passed", "failed") for test in ("t::a[x-1]", "t::b"))
    entries = [Right("sdk", "t::a", "a hit"), Right("sdk", "t::z", "gone"), Right("other", "t::b", "not run")]
    got = judged([one, two], entries, ["sdk"])
    assert (got.by_right, got.unlisted, got.gone) == ([one], [two], [entries[1]])
    assert not got.sound
    assert judged([one], entries[:1], ["sdk"]).sound
    assert not judged([two], entries[:1], ["sdk"]).sound
    assert not judged([], entries[:1], ["sdk"]).sound


def test_the_list_of_those_by_right_gives_each_a_reason():
    table = tomllib.loads((HERE / "right.toml").read_text("utf-8"))
    entries = listed(table)
    known = suites(Path("nowhere"))
    assert {entry.suite for entry in entries} <= known.keys()
    assert all(len(entry.reason) > 10 for entry in entries)
    assert len(set(entries)) == len(entries)
    assert not any("[" in entry.test for entry in entries), "a test is listed with all its parameters"


def test_a_suite_is_named_with_or_without_a_version():
    known = suites(Path("nowhere"))
    (groq, openai) = chosen(known, ["groq", "openai==9.9.9"])
    assert (groq.version, openai.version, openai.sdk) == (known["groq"].version, "9.9.9", "openai")
    assert chosen(known, []) == list(known.values())
    with pytest.raises(SystemExit, match="no suite 'gork'"):
        chosen(known, ["gork"])


TOY = """
import httpx2, pytest

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}

def client(paid):
    def answer(request):
        paid.append(request)
        return httpx2.Response(200, json=ANSWER)
    return httpx2.Client(transport=httpx2.MockTransport(answer))

@pytest.mark.parametrize("url", ["https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1/files"])
def test_two_calls_are_two_calls(url):
    paid = []
    for _ in range(2):
        client(paid).post(url, json=CHAT)
    assert len(paid) == 2

def test_a_call_of_its_own():
    paid = []
    assert client(paid).post("https://api.openai.com/v1/chat/completions", json=CHAT).json() == ANSWER
    assert len(paid) == 1

def test_nothing_sent():
    assert 1 + 1 == 3
"""


@pytest.mark.skipif(sys.platform == "win32", reason="its environment is a shell script")
def test_a_hit_is_found_where_a_test_expects_two_calls(tmp_path, monkeypatch, capsys):
    toy = Suite("toy", "1", tmp_path, timeout=0, set={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
    toy.python.parent.mkdir(parents=True)
    toy.python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', "utf-8")
    toy.python.chmod(0o755)
    (toy.tests / "tests").mkdir(parents=True)
    (toy.tests / "tests" / "test_toy.py").write_text(TOY, "utf-8")
    monkeypatch.setattr(Suite, "make", lambda self: None)
    monkeypatch.setattr(Suite, "take", lambda self: None)
    monkeypatch.setattr("tools.suites.__main__.TRIES", 0)
    got: list[Any] = found(toy, anew=False)
    assert "toy 1: 4 tests (3 passed, 1 failed), 3 of them send through a client" in capsys.readouterr().out
    assert [(one.test.partition("::")[2].partition("-")[0], one.before, one.after) for one in got] == [
        ("test_two_calls_are_two_calls[https://api.openai.com/v1/chat/completions]", "passed", "failed")
    ]
    assert "hit" in got[0].lookups[1]
