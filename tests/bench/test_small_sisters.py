"""The bench itself, and small versions of rows that no other test covers: storms under an observer, and outages.

The time bars need a quiet machine and are not checked here; everything else is as strict.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest

from bench import against, bars, cli, machine, outages, workers
from bench.bars import page
from bench.compare import Pair, Ratio
from bench.failovers import EVENTS
from bench.places import MODES, Opener, Skipped, nowhere, sqlite, valkey
from bench.row import ROWS, Outcome, Reading, Row, Seen, measured, run
from bench.storms import FAULTS, Invalidation, Lookup, violations
from bench.table import TABLE
from bench.workers import Failed


def in_turn(names: dict[str, str], quick: int = 99) -> list[Any]:
    """Each name with a store, by turns, the first `quick` of them; other pairs are slow. `names`: what they are called."""
    marks = {sqlite: [], valkey: [pytest.mark.servers]}
    return [
        pytest.param(
            opener,
            name,
            id=f"{called}-{opener.__name__}",
            marks=[*marks[opener], *[pytest.mark.slow] * (at != number % 2 or number >= quick)],
        )
        for number, (name, called) in enumerate(names.items())
        for at, opener in enumerate(marks)
    ]


# the observer


@pytest.mark.parametrize(
    ("began", "born", "violates"),
    [
        (10.0, 4.0, True),  # asked after the acknowledgement, called before the invalidation
        (10.0, 5.5, False),  # called while it was under way
        (5.5, 4.0, False),  # asked before it was acknowledged
        (6.0, 4.0, False),  # asked at the very moment of the acknowledgement
        (10.0, 5.0, False),  # called at the very moment of the invalidation
    ],
)
def test_the_observer_blames_what_was_born_before_an_invalidation_that_was_over_before_the_lookup(
    began, born, violates
):
    lookups = [Lookup(1, began, born)]

    assert violations(lookups, [Invalidation(1, called=5.0, returned=6.0)]) == (lookups if violates else [])


def test_the_observer_does_not_confuse_questions():
    assert not violations([Lookup(2, 10.0, 4.0)], [Invalidation(1, called=5.0, returned=6.0)])


def test_the_observer_takes_the_latest_of_the_invalidations_that_were_over():
    slow, quick = Invalidation(1, called=1.0, returned=9.0), Invalidation(1, called=5.0, returned=6.0)

    assert violations([Lookup(1, 10.0, 4.0)], [slow, quick])
    assert not violations([Lookup(1, 5.5, 4.0)], [slow, quick])


# storms


@pytest.fixture(scope="module")
def forked() -> Iterator[None]:
    """Workers are forked from an interpreter that has imported what they need: that takes most of a small storm's time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.storms"])
    with mock.patch.object(workers, "_processes", context):
        yield


def storm(name: str, opener: Opener, fault: str = "") -> Reading:
    (reading,) = measured(ROWS[name], opener, "threads", fault and f"planted: {fault}", quick=True)
    return reading


@pytest.mark.concurrency
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("opener", "name"), in_turn({"storm": "by request", "storm-all": "by scope, tag and model"}))
def test_no_answer_in_a_storm_is_older_than_an_invalidation(opener: Opener, name):
    reading = storm(name, opener)

    assert reading.numbers["violations"] == 0, reading.measured
    assert reading.numbers["stored"], reading.measured


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("opener", "fault"), in_turn({fault: fault for fault in FAULTS}, quick=2))
def test_a_planted_fault_is_seen_by_the_observer(opener: Opener, fault):
    # A race is not lost every time, so the storm is repeated.
    assert any(storm("storm", opener, fault).numbers["violations"] for _ in range(20))


# failovers


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.parametrize("opener", ROWS["failover"].stores, ids=lambda opener: opener.__qualname__)
@pytest.mark.parametrize("how", list(EVENTS))
def test_no_answer_in_a_failover_of_a_service_is_older_than_an_invalidation(opener: Opener, how):
    (reading,) = measured(ROWS["failover"], opener, "threads", how, quick=True)

    assert reading.numbers["violations"] == reading.numbers["errors"] == 0, reading.measured


# outages


def few(name: str, lookups: int) -> Row:
    """A row of outages with few lookups."""
    return ROWS[name]._replace(run=lambda case: ROWS[name].run(case, lookups))


@pytest.mark.servers
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", list(outages.AWAY))
def test_trouble_never_reaches_a_caller_and_ends_by_itself(mode, trouble):
    (reading,) = measured(few("outages", 50), valkey, mode, trouble, quick=True)

    assert "back_s" in reading.numbers or reading.numbers["paid"] == 0, reading.measured
    assert reading.numbers.get("visible", True), reading.measured


def test_a_refusal_is_met_by_one_paid_call_and_ends_by_itself():
    (reading,) = measured(few("refusals-sqlite", 20), sqlite, "threads", quick=True)

    assert reading.numbers["paid"] == 1, reading.measured
    assert reading.numbers["visible"], reading.measured


# rows


def test_every_row_stands_in_the_table_once():
    assert sorted(ROWS) == sorted(row.name for row in TABLE)


@pytest.mark.parametrize(
    ("said", "passed"), [((True,), True), ((True, None), True), ((True, False), False), ((None,), None), ((), None)]
)
def test_a_row_has_passed_when_something_met_a_bar_and_nothing_missed_one(said, passed):
    assert Outcome(ROWS["hit"], [Reading("case", "seen", one) for one in said], 1.0).passed is passed


@pytest.mark.parametrize(
    ("error", "passed"), [(Failed("why"), False), (KeyError("why"), False), (Skipped("why"), None)]
)
def test_a_row_that_breaks_off_says_why_and_keeps_what_it_saw(error, passed, capsys):
    def broken(_case):
        yield Seen("seen", passed=True)
        raise error

    outcome = run(Row("row", "what", "bar", broken, stores=(nowhere,)), quick=True)

    assert [reading.passed for reading in outcome.readings] == [True, passed]
    assert "why" in outcome.readings[1].measured
    capsys.readouterr()


def test_a_ratio_is_the_median_of_separate_runs_and_says_how_far_apart_they_were():
    runs = [Pair(first, 10.0, sums=9.0) for first in (13.0, 9.0, 11.0)]

    measured, passed, numbers = Ratio("one", "other", 1.2).judged(runs)

    assert measured.startswith("1.10 (0.90 to 1.30 in 3 runs;")
    assert passed
    assert numbers["value"] == pytest.approx(1.1)
    assert Ratio("one", "other", 1.0).judged(runs)[1] is False
    assert Ratio("one", "other", None).judged(runs)[1] is None
    assert Ratio("one", "other", 1.2).judged([*runs[:2], runs[2]._replace(right=False)])[1] is False
    assert Ratio("one", "other", 1.0, added=True).judged(runs)[0].startswith("0.00 ms more (-0.00 to 0.00")
    assert Ratio("one", "other", 0.001, added=True).judged(runs)[0].startswith("1.00 us more (-1.00 to 3.00")


def compared(case):
    return Pair(os.getpid(), 1.0)


@pytest.mark.slow
def test_each_run_of_a_comparison_has_a_process_and_a_store_of_its_own():
    row = Row("row", "what", "bar", compared, ratio=Ratio("one", "other", None), modes=("threads",))

    (reading,) = measured(row, sqlite, "threads", quick=False)

    assert reading.numbers["low"] < reading.numbers["value"] < reading.numbers["high"]


def test_a_missed_bar_stands_on_the_page():
    facts = {"date": "2026-01-01 00:00 UTC", "commit": "abc", "load before": "0.1", "cpu": "fast"}
    notes = {row.name: {"facts": facts, "passed": True, "seconds": 3, "readings": []} for row in TABLE}
    notes["hit"] |= {"passed": False, "readings": [["case | one", "2 us", False]]}
    notes["cold"] |= {"facts": facts | {"load before": "1.7", "load after": "2.5"}}

    text = page(notes)

    assert f"| hit | {ROWS['hit'].what} | {ROWS['hit'].bar} | FAIL |" in text
    assert "| case \\| one | 2 us | FAIL |" in text
    assert "- cpu: fast" in text
    assert "- load before a row: 0.10 to 1.70" in text
    assert "load 1.7 before and 2.5 after" in text


def test_a_row_is_measured_again_by_its_name_and_the_others_keep_their_notes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bars, "NOTES", tmp_path / "bars.json")
    monkeypatch.setattr(machine, "uncommitted", str)
    monkeypatch.setattr(bars, "PAGE", tmp_path / "bars.md")
    monkeypatch.setattr(bars, "TABLE", (one := ROWS["header"], two := ROWS["import"]))
    for module in (bars, cli):
        monkeypatch.setattr(module, "ROWS", {one.name: one, two.name: two._replace(run=lambda _: [], ratio=None)})
    assert bars.main(["import"]) == 0
    assert not bars.PAGE.exists(), "half a table would hide the other half"
    assert bars.main(["--missing"]) == 0
    assert list(json.loads(bars.NOTES.read_text())) == ["import", "header"]
    assert "## header" in bars.PAGE.read_text()
    with pytest.raises(SystemExit):
        bars.main(["nosuch"])
    assert logging.getLogger("askonce").level == logging.NOTSET, "what a row silences speaks again"
    capsys.readouterr()


def test_a_number_is_noted_only_for_a_commit(tmp_path, monkeypatch):
    changed = tmp_path / "bars.json"
    monkeypatch.setattr(bars, "NOTES", changed)
    monkeypatch.setattr(machine, "uncommitted", lambda: " M src/askonce/cache.py")
    monkeypatch.setattr(bars, "measure", lambda *_, **__: pytest.fail("it was measured"))

    with pytest.raises(SystemExit, match=r"(?s)M src/askonce/cache.py.*Commit it"):
        bars.main(["header"])

    assert not changed.exists()


def test_a_row_that_was_measured_before_a_commit_came_is_not_noted(tmp_path, monkeypatch):
    row, commits = ROWS["header"], iter(["a", "b"])
    monkeypatch.setattr(bars, "NOTES", tmp_path / "bars.json")
    monkeypatch.setattr(machine, "uncommitted", str)
    monkeypatch.setattr(machine, "facts", lambda: {"commit": next(commits)})
    monkeypatch.setattr(bars, "measure", lambda *_, **__: [Outcome(row, [], 1.0)])

    with pytest.raises(SystemExit, match="measure it again"):
        bars.main(["header"])

    assert not bars.NOTES.exists()


def test_what_no_commit_has_is_told_but_for_the_notes_themselves(tmp_path, monkeypatch):
    for name in (*machine.WRITTEN, "source.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as committed")
    machine.git("init", "--quiet", root=tmp_path)
    machine.git("add", ".", root=tmp_path)
    machine.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "all", root=tmp_path)
    monkeypatch.setattr(machine, "git", partial(machine.git, root=tmp_path))
    assert machine.uncommitted() == ""
    (tmp_path / machine.WRITTEN[0]).write_text("a note")
    assert machine.uncommitted() == ""
    (tmp_path / "source.py").write_text("a change")
    assert "source.py" in machine.uncommitted()


def test_notes_of_no_commit_are_as_good_as_none(tmp_path, monkeypatch):
    monkeypatch.setattr(bars, "NOTES", tmp_path / "bars.json")
    notes = {name: {"facts": {"commit": commit}} for name, commit in (("hit", "abc"), ("cold", "abc-dirty"))}
    bars.NOTES.write_text(json.dumps(notes))

    assert list(bars._noted()) == ["hit"]


# against another commit


def test_two_trees_work_in_turn_each_with_the_askonce_of_its_own(tmp_path):
    shutil.copytree(machine.ROOT / "src", tmp_path / "src")  # compiled files too: they are as old as their sources

    name, pair = against.compared(tmp_path, "client hit", sqlite, 1)

    assert name == "SQLite"
    assert pair.first > 0
    assert pair.second > 0
    with pytest.raises(Failed, match="was imported from"), against.Tree(tmp_path / "elsewhere", "hit", "memory://"):
        pass


@pytest.mark.skipif(not (machine.ROOT / ".git").exists(), reason="this is no clone of the repository")
def test_the_other_commit_is_checked_out_in_a_folder_that_is_gone_afterwards():
    with against.worktree("HEAD") as tree:
        assert (tree / "src" / "askonce" / "__init__.py").exists()
        assert str(tree) in machine.git("worktree", "list")
    assert not tree.exists()
    assert str(tree) not in machine.git("worktree", "list")


def test_an_unknown_commit_is_refused(capsys):
    with pytest.raises(SystemExit):
        against.main(["no-such-commit"])
    assert "no-such-commit" in capsys.readouterr().err
