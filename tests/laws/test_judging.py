"""One promise for all ways in: an answer that may not be kept is not kept, however it came; and each way in has a
judge.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import askonce
from askonce.core.judge import refused
from askonce.core.providers import inert
from askonce.engine.answer import Answer
from askonce.stream.tape import Opened
from tests.laws.judging import NOT_SAID, RECORDED, RULES, WAYS, Rule, ask_twice, record_and_replay

PAGE = Path(__file__).parents[2] / "docs" / "judging.md"
SOURCE = Path(askonce.__file__).parent


def breakable(way: str, rule: Rule) -> bool:
    return way != "http, batches" or rule.vectors is not None


def recorded(way: str, rule: Rule) -> bool:
    return rule.recorded and (way, rule.why) not in NOT_SAID


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_a_rule_holds_whatever_way_an_answer_comes_in(way, rule, asynchronous):
    if not breakable(way, rule):
        pytest.skip("a vector has no ending, no text and no calls")
    seen = ask_twice(WAYS[way], rule, asynchronous=asynchronous)
    assert (seen.kept, seen.why) == (not rule.why, rule.why)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", RECORDED)
def test_a_recording_keeps_what_was_said_whatever_way_it_came(way, asynchronous):
    kept = {rule.name: record_and_replay(RECORDED[way], rule, asynchronous=asynchronous) for rule in RULES}
    assert kept == {rule.name: recorded(way, rule) for rule in RULES}


# --- by construction ---------------------------------------------------------------------------------------------


def test_an_answer_cannot_be_made_without_a_verdict_nor_a_stream_without_what_judges_it():
    with pytest.raises(TypeError, match="verdict"):
        Answer(b"{}")
    with pytest.raises(TypeError, match="scan"):
        Opened(b"", None)


def test_only_a_judge_says_that_an_answer_may_be_stored():
    with pytest.raises(ValueError, match="Judge"):
        refused("")
    makers = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Verdict"
    }
    assert makers == {"core/judge.py"}


# --- the page ----------------------------------------------------------------------------------------------------


def rules_table() -> list[str]:
    """Each rule, its word, and what it comes to on each way in."""
    head = [f"| | `detail` | {' | '.join(WAYS)} | recordings |", f"|---|---|{'---|' * (len(WAYS) + 1)}"]
    return head + [
        f"| {rule.name} | {f'`{rule.why}`' if rule.why else ''} | "
        f"{' | '.join(_cell(way, rule) for way in WAYS)} | {'yes' if rule.recorded else 'no'} |"
        for rule in RULES
    ]


def _cell(way: str, rule: Rule) -> str:
    return "" if not breakable(way, rule) else "stored" if not rule.why else "passes" if rule.passes else "not stored"


def inert_table() -> list[str]:
    """The fields that are known to be inert."""
    rows = [f"| {what} | {', '.join(f'`{name}`' for name in names.split())} |" for what, names in inert.INERT.items()]
    return ["| | |", "|---|---|", *rows]


@pytest.mark.parametrize("mark", ["rules", "inert"])
def test_the_tables_in_the_docs_are_what_the_code_does(mark):
    page = PAGE.read_text()
    start, begin, rest = page.partition(f"<!-- {mark}: checked by tests/laws/test_judging.py -->\n")
    shown, end, after = rest.partition(f"<!-- end of {mark} -->")
    assert begin
    assert end
    made = "\n".join(rules_table() if mark == "rules" else inert_table()) + "\n"
    if os.environ.get("ASKONCE_WRITE_DOCS"):
        PAGE.write_text(start + begin + made + end + after)
    else:
        assert shown == made
