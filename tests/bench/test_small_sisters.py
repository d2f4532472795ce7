"""The bench itself, and small sisters of rows that no other test stands for: storms under an observer, and outages.

The bars of time are for a quiet machine. Here they are as wide as a busy one needs; everything else is as strict.
"""

from __future__ import annotations

import json
import logging

import pytest

from bench import bars, cli, outages, storm
from bench.bars import page
from bench.births import Invalidation, Lookup, violations
from bench.places import MODES, Opener, sqlite, valkey
from bench.row import Failed, Outcome, Reading, Row, Skipped, run
from bench.table import ROWS, TABLE

BUSY = 1.0  # s that a lookup may be late on a busy machine, where 0.25 are the bar
PLACES = [sqlite, pytest.param(valkey, marks=pytest.mark.servers)]


# the observer


@pytest.mark.parametrize(
    ("began", "born", "violates"),
    [
        (10.0, 4.0, True),  # asked after the acknowledgement, born before the call
        (10.0, 5.5, False),  # born while it was under way
        (5.5, 4.0, False),  # asked before it was acknowledged
        (6.0, 4.0, False),  # asked in the very moment of the acknowledgement
        (10.0, 5.0, False),  # born in the very moment of the call
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


@pytest.mark.concurrency
@pytest.mark.parametrize("opener", PLACES)
@pytest.mark.parametrize("full", [False, True], ids=["by request", "by scope, tag and model"])
def test_no_answer_in_a_storm_is_older_than_an_invalidation(opener: Opener, full):
    reading = storm.judged(opener, 1.0, "", full=full)

    assert reading.numbers["violations"] == 0, reading.measured
    assert reading.numbers["stored"], reading.measured


@pytest.mark.parametrize("opener", PLACES)
@pytest.mark.parametrize("fault", list(storm.FAULTS))
def test_a_planted_fault_is_seen_by_the_observer(opener: Opener, fault):
    # A race is not lost every time: on a busy machine it is run again.
    seen = (storm.judged(opener, 1.0, fault, full=False).numbers["violations"] for _ in range(4))

    assert any(seen)


# outages


@pytest.mark.servers
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", list(outages.TROUBLES))
def test_trouble_never_reaches_a_caller_and_ends_by_itself(mode, trouble):
    reading = outages.met(valkey, mode, trouble, 50)

    late = [reading.numbers[name] for name in ("first_s", "over_s", "most_s") if name in reading.numbers]
    assert max(late) <= BUSY, reading.measured
    assert reading.numbers.get("back_s", 0.0) <= outages.BACK + BUSY, reading.measured
    assert reading.numbers.get("paid", 0) == 0, reading.measured


# rows


def test_every_row_has_a_name_of_its_own():
    assert len(ROWS) == len(TABLE)


@pytest.mark.parametrize(
    ("said", "passed"), [((True,), True), ((True, None), True), ((True, False), False), ((None,), None), ((), None)]
)
def test_a_row_has_passed_when_something_met_a_bar_and_nothing_missed_one(said, passed):
    assert Outcome(ROWS["hit"], [Reading("case", "seen", one) for one in said], 1.0).passed is passed


@pytest.mark.parametrize(
    ("error", "passed"), [(Failed("why"), False), (KeyError("why"), False), (Skipped("why"), None)]
)
def test_a_row_that_breaks_off_says_why_and_keeps_what_it_saw(error, passed, capsys):
    def broken(_quick: bool):
        yield Reading("first", "seen", passed=True)
        raise error

    outcome = run(Row("row", "what", "bar", broken), quick=True)

    assert [reading.passed for reading in outcome.readings] == [True, passed]
    assert "why" in outcome.readings[1].measured
    capsys.readouterr()


def test_a_missed_bar_stands_on_the_page():
    facts = {"date": "2026-01-01 00:00 UTC", "commit": "abc", "load before": "0.1", "cpu": "fast"}
    notes = {row.name: {"facts": facts, "passed": True, "seconds": 3, "readings": []} for row in TABLE}
    notes["hit"] |= {"passed": False, "readings": [["case | one", "2 us", False]]}

    text = page(notes)

    assert f"| hit | {ROWS['hit'].what} | {ROWS['hit'].bar} | FAIL |" in text
    assert "| case \\| one | 2 us | FAIL |" in text
    assert "- cpu: fast" in text


def test_a_row_is_measured_again_by_its_name_and_the_others_keep_their_notes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bars, "NOTES", tmp_path / "bars.json")
    monkeypatch.setattr(bars, "PAGE", tmp_path / "bars.md")
    monkeypatch.setattr(bars, "TABLE", (one := ROWS["header"], two := ROWS["import"]))
    for module in (bars, cli):
        monkeypatch.setattr(module, "ROWS", {one.name: one, two.name: two._replace(run=lambda _: [])})
    assert bars.main(["import"]) == 0
    assert not bars.PAGE.exists(), "half a table would hide the other half"
    assert bars.main(["--missing"]) == 0
    assert list(json.loads(bars.NOTES.read_text())) == ["import", "header"]
    assert "## header" in bars.PAGE.read_text()
    with pytest.raises(SystemExit):
        bars.main(["nosuch"])
    assert logging.getLogger("askonce").level == logging.NOTSET, "what a row silences speaks again"
    capsys.readouterr()
