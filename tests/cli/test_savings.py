"""``askonce savings``: a table, lines for a pipe, JSON; each says the same numbers."""

from __future__ import annotations

import json

import pytest

from askonce import Cache
from tests.cli.test_lists import in_a_terminal

MODELS = {"gpt-9": 2, "gpt-9-mini-with-a-name-that-is-longer-than-a-column-of-a-terminal-may-be": 5, "unpriced-1": 1}
PRICES = {"gpt-9*": {"input": 2, "output": 10}}


def answer(model):
    choices = [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 1_000, "completion_tokens": 200}
    return {"object": "chat.completion", "model": model, "choices": choices, "usage": usage}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    made = f"sqlite:///{tmp_path_factory.mktemp('savings')}/savings.db"
    with Cache(made, prices=PRICES) as cache:
        for model, hits in MODELS.items():
            for _ in range(1 + hits):
                cache.fetch(
                    {"model": model, "messages": []}, lambda model=model: answer(model), scope="a/b", tenant="t"
                )
    return made


def test_json_has_all_numbers(askonce, url):
    said = json.loads(askonce("savings", "--url", url, "--json").out)
    assert (said["total"]["asked"]["calls"], said["total"]["paid"]["calls"], said["total"]["saved"]["calls"]) == (
        11,
        3,
        8,
    )
    assert said["total"]["saved"]["usd"] == pytest.approx(7 * 0.004)
    assert said["total"]["saved"]["unpriced"] == 1
    assert said["rows"] == []


@pytest.mark.parametrize(("by", "rows"), [("model", 3), ("scope", 1), ("tenant", 1), ("day", 1)])
def test_a_pipe_gets_a_line_for_each_group_with_all_numbers(askonce, url, by, rows):
    head, *lines = [line.split("\t") for line in askonce("savings", "--url", url, "--by", by).out.splitlines()]
    assert head[:3] == [by, "asked_calls", "asked_tokens_in"]
    assert len(lines) == rows
    assert {len(line) for line in lines} == {len(head)}
    at = head.index("saved_calls")
    assert sum(int(line[at]) for line in lines) == 8


def test_a_pipe_without_groups_gets_a_line_for_each_kind(askonce, url):
    lines = dict(line.split("\t", 1) for line in askonce("savings", "--url", url).out.splitlines())
    assert set(lines) == {"kind", "asked", "paid", "hits", "joined", "stale", "refreshes", "doubled", "saved"}
    assert lines["saved"].split("\t")[:5] == ["8", "8000", "1600", "0", "0.028"]


@pytest.mark.slow  # its first screen at these widths is one of those kept in screens/
@pytest.mark.parametrize("columns", [60, 80, 200])
def test_a_terminal_gets_a_table_that_fits(url, columns):
    for words in ((), ("--by", "model"), ("--by", "day", "--days", "7")):
        lines = in_a_terminal(columns, "savings", "--url", url, *words)
        assert all(len(line) <= columns for line in lines[1:]), lines
        assert lines[0].startswith("$0.0280 saved, 8 calls of 11")
        assert any("2 answers without a price" in line for line in lines)
    assert (
        len([line for line in in_a_terminal(columns, "savings", "--url", url, "--by", "model") if "gpt-9" in line]) == 2
    )


def test_a_store_in_which_nothing_was_asked_says_so(tmp_path):
    made = f"sqlite:///{tmp_path}/empty.db"
    with Cache(made) as cache:
        list(cache.entries())
        cache.invalidate(everything=True)
    assert "nothing was asked" in in_a_terminal(80, "savings", "--url", made)[0]


@pytest.mark.parametrize(
    ("words", "told"), [(("--by", "modle"), "modle"), (("--days", "0"), "days"), (("--days", "x"), "days")]
)
def test_a_wrong_option_is_an_error_of_the_command_line(askonce, url, words, told):
    said = askonce("savings", "--url", url, *words)
    assert (said.code, told in said.err) == (2, True)
