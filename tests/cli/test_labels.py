"""The labels in a command line: an empty or a wrong one is an error in the shell's words, never a silent match."""

import pytest

from askonce import Cache
from askonce.cli import main

WRONG = [
    ("--scope", "", "leave --scope out"),
    ("--tag", "", "leave --tag out"),
    ("--model", "", "leave --model out"),
    ("--scope", "a//b", "write 'a/b'"),
    ("--scope", "/", "empty part"),
    ("--scope", "a\nb", "control characters"),
    ("--tag", "a\x00b", "control characters"),
    ("--tag", "x" * 2000, "characters: write at most"),
]


@pytest.mark.parametrize("command", ["ls", "invalidate"])
@pytest.mark.parametrize(("option", "value", "said"), WRONG)
def test_a_wrong_label_is_one_line_that_says_what_to_do(command, option, value, said, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/a.db"
    with Cache(url) as cache:
        key = cache.fetch({"q": 1}, lambda: 1, scope="a/b").key
    assert main([command, "--url", url, option, value]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not told.out
    with Cache(url) as cache:
        assert [entry.key for entry in cache.entries() if entry.live] == [key]
