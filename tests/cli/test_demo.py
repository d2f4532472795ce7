"""The demo at small size: what it shows was measured, and its exit code says whether the promises held."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from askonce.cli import demo as cli
from askonce.demo import load, scenes
from askonce.demo.load import Scale
from askonce.demo.worker import BORN, Counts
from askonce.testing import answer
from askonce.testing.servers import Server

SMALL = Scale(processes=2, callers=3, questions=3, median=0.03, call=0.2, lease=1.0, hits=300)
SIZE = ("--processes", "2", "--callers", "3", "--questions", "2")


@pytest.fixture(autouse=True)
def _temporary_files_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    assert list(folder.iterdir()) == [], "the demo left something behind"


def start(*words: str) -> subprocess.Popen[str]:
    program = (sys.executable, "-m", "askonce.cli", "demo", *words)
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def played(url: str | None, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = cli.run(url, None, SMALL, as_json=True)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if told["kept"] else 1)
    return told


def check(told: dict[str, Any]) -> None:
    assert [promise["text"] for promise in told["promises"] if not promise["kept"]] == []
    assert len(told["promises"]) == 5
    cold, day, again = told["rows"]
    assert (cold["asked"], cold["plain"]["paid"], cold["cached"]["paid"]) == (6, 6, 1)
    assert cold["cached"]["hits"] + cold["cached"]["collapsed"] == 5
    assert (day["asked"], day["plain"]["paid"], day["cached"]["paid"]) == (18, 18, day["distinct"])
    assert (again["plain"]["paid"], again["cached"]["paid"], again["cached"]["hits"]) == (18, 0, 18)
    assert 0 < told["hit"]["p50"] <= told["hit"]["p99"]
    assert (told["invalidation"]["paid"], told["invalidation"]["old"]) == (1, 0)
    assert (told["crash"]["paid"], told["crash"]["waiting"]) == (2, 3)
    assert 0 < told["crash"]["takeover"] < told["crash"]["served"]


class TestTheDemo:
    def test_it_keeps_its_promises_on_sqlite(self, capsys):
        check(played(None, capsys))

    def test_it_keeps_its_promises_on_a_valkey_and_leaves_nothing_there(self, valkey: Server, capsys):
        valkey.command("SET", "mine", "1")
        check(played(valkey.url, capsys))
        assert valkey.command("KEYS", "*") == [b"mine"]

    def test_as_a_program_it_prints_plain_text_where_no_terminal_is(self):
        with start(*SIZE) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert "\x1b" not in out
        assert out.count("\nkept  ") == 5
        for word in ("without  a cache", "with  askonce", "A hit costs", "A process dies"):
            assert word in out

    def test_everybody_asks_what_the_load_without_a_cache_asks(self):
        assert load.day(SMALL) == load.day(SMALL)
        assert len(load.day(SMALL)) == SMALL.everybody
        assert len(set(load.questions())) == len(load.questions())


class TestWhatGoesWrong:
    def test_a_store_where_nobody_listens_is_one_line(self, askonce):
        said = askonce("demo", "--url", "redis://:secret@127.0.0.1:1/0")
        assert said.code == 1
        assert said.err.count("\n") == 1
        assert "redis://127.0.0.1:1/0" in said.err
        assert "secret" not in said.err

    def test_memory_cannot_be_shared_by_processes(self, askonce):
        said = askonce("demo", "--url", "memory://")
        assert said.code == 2
        assert "one process's own" in said.err

    def test_a_process_that_dies_ends_it_with_its_last_words(self, monkeypatch, askonce):
        monkeypatch.setattr(cli, "Scale", lambda **own: Scale(**own, median=0.0))  # nothing takes no time
        said = askonce("demo", *SIZE)
        assert said.code == 1
        last = "askonce.errors.ConfigError: Lognormal(0.0, most=0.0): write seconds above 0, as in Lognormal(0.5)"
        assert said.err == f"askonce: a process of the demo died: {last}\n"

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
    def test_ctrl_c_leaves_no_process_behind(self, monkeypatch):
        mark = f"askonce-demo-test-{os.getpid()}"
        monkeypatch.setenv("ASKONCE_TEST_MARK", mark)
        with start(*SIZE) as process:
            until = time.monotonic() + 60
            while len(marked(mark)) < 5 and time.monotonic() < until:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        assert process.returncode == 130
        # A process that was just being started ends by itself, when it finds that nobody talks to it.
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.01)
        assert marked(mark) == []


def marked(mark: str) -> list[int]:
    """The processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def report() -> scenes.Report:
    """A report of a run in which all went well."""
    made = scenes.Report("a store", Scale())
    for title, asked, distinct, paid in (("cold", 100, 1, 1), ("day", 800, 68, 68), ("again", 800, 68, 0)):
        made.rows.append(scenes.Row(title, asked, distinct, scenes.Measured(asked, 1.0), scenes.Measured(paid, 0.1)))
    made.hit = scenes.HitCost(30.0, 100.0, 2000)
    made.invalidation = scenes.Invalidation(0.001, 100, 1, 0)
    made.crash = scenes.Crash(0.4, 75, 1.0, 0.9, 0.8, 1.7, 2)
    made.seconds = 10.0
    return made


def paid_too_often(made: scenes.Report) -> None:
    made.rows[1].cached.paid += 1


def paid_again(made: scenes.Report) -> None:
    made.rows[2].cached.paid = 1


def wrong_answer(made: scenes.Report) -> None:
    made.wrong = 1


def old_answer(made: scenes.Report) -> None:
    made.invalidation = scenes.Invalidation(0.001, 100, 1, 3)


def third_call(made: scenes.Report) -> None:
    made.crash = scenes.Crash(0.4, 75, 1.0, 0.9, 0.8, 1.7, 3)


def long_wait(made: scenes.Report) -> None:
    made.crash = scenes.Crash(0.4, 75, 1.0, 5.9, 0.8, 6.7, 2)


def trouble(made: scenes.Report) -> None:
    made.trouble = {"store-timeout": 2}


class TestPromises:
    def test_all_went_well(self):
        assert report().kept
        assert len(report().promises) == 5

    @pytest.mark.parametrize(
        "fault", [paid_too_often, paid_again, wrong_answer, old_answer, third_call, long_wait, trouble]
    )
    def test_what_did_not_hold_is_shown_and_is_the_exit_code(self, fault, monkeypatch, capsys):
        made = report()
        fault(made)
        assert [promise.kept for promise in made.promises].count(False) == 1

        async def play(_url, _prefix, _scale, look):
            look(made)
            return made

        monkeypatch.setattr(scenes, "run", play)
        assert cli.run(None, None, SMALL) == 1
        assert capsys.readouterr().out.count("BROKEN") == 1

    def test_a_wrong_and_an_old_answer_are_seen_by_whoever_gets_them(self):
        counts = Counts()
        right = {**answer(load.request("What now?")), BORN: 10.0}
        counts.saw("What now?", right, None, since=5.0)
        assert (counts.asked, counts.wrong, counts.old) == (1, 0, 0)
        counts.saw("What else?", right, None, since=11.0)
        assert (counts.asked, counts.wrong, counts.old) == (2, 1, 1)


class TestTheScreen:
    @pytest.mark.parametrize("width", [60, 80, 200])
    @pytest.mark.parametrize("terminal", [True, False])
    def test_each_part_is_printed_once_and_fits(self, width, terminal):
        made = report()
        out = io.StringIO()
        console = Console(width=width, height=24, file=out, force_terminal=terminal, color_system=None, record=True)
        with cli._shown(console, quiet=False) as look:
            for size in range(4):
                look(scenes.Report(made.store, made.scale, rows=made.rows[:size]))
            for fields in (("hit",), ("hit", "invalidation"), ("hit", "invalidation", "crash"), ("seconds",)):
                known = fields if "hit" in fields else ("hit", "invalidation", "crash", "seconds")
                found = {name: getattr(made, name) for name in known}
                look(scenes.Report(made.store, made.scale, rows=made.rows, **found))
        text = console.export_text()
        assert ("\x1b" in out.getvalue()) == terminal
        for once in ("askonce demo", "A hit costs", "The prompt changes:", "A process dies:", "10.0 s in all"):
            assert text.count(once) == 1, once
        if not terminal:
            assert text.count("in all  ") == 1
            assert max(map(len, text.splitlines())) <= min(width, cli.WIDTH)
        assert text.count("kept") == 5
