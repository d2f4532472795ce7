"""Everything that a store holds reaches a terminal only as text: in a table, a body, an error or a log."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce import Cache
from askonce.cli import say
from askonce.core.tape import SHARED, Ending, end_frame, read_ending
from askonce.errors import ConfigError
from askonce.events import Events, printable, readable
from askonce.store import StoreTrouble

HOSTILE = {
    "colours": "\x1b[31mred\x1b[0m",
    "a link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "a title": "\x1b]0;owned\x07",
    "8-bit escapes": "\x9b31m\x9d0;owned\x9c",
    "a second line": "gpt\naskonce: all is well",
    "an overwritten line": "gpt\rgpx\b\b\x7f",
    "a turned direction": "gpt\u202etxt.exe\u2066\u2069\u061c\u200f",
    "invisible letters": "gpt\u200b\ufeff\u2060\U000e0041",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "half a letter": "gpt\ud800",
}
FORBIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unsafe(shown: str, keep: str = "\n") -> list[str]:
    return [one for one in shown if one not in keep and unicodedata.category(one) in FORBIDDEN]


@pytest.fixture(params=HOSTILE, ids=lambda name: name.replace(" ", "-"))
def hostile(request):
    return HOSTILE[request.param]


@pytest.fixture
def stored(tmp_path, hostile):
    """A store with an answer of a model, and a stream, both named in a hostile way and saying hostile things."""
    url = f"sqlite:///{tmp_path}/hostile.db"
    with Cache(url) as cache:
        key = cache.fetch({"model": hostile, "n": 1}, lambda: {"a": hostile.encode("utf-8", "replace").decode()}).key
        stream = cache.fetch_stream({"model": hostile, "n": 2}, lambda: iter(["\x1b[31m", "\x9b1m"]))
        list(stream)
    return url, key, stream.key


@pytest.mark.parametrize("command", [("ls",), ("ls", "--full"), ("stats",)])
def test_lists_and_counts_show_names_by_their_escapes(askonce, stored, command):
    said = askonce(*command, "--url", stored[0])
    assert said.code == 0
    assert not unsafe(said.out, "\n\t")  # a tab only stands between two columns
    assert len(said.out.splitlines()) <= 20
    assert len({line.count("\t") for line in said.out.splitlines()}) == 1


def test_an_answer_is_shown_as_text(askonce, stored):
    for key in stored[1:]:
        said = askonce("show", key, "--url", stored[0])
        assert said.code == 0
        details, _, body = said.out.partition("\n\n")
        assert not unsafe(details, "\n\t") + unsafe(body)
        assert {line.count("\t") for line in details.splitlines()} == {1}  # it stands after a name


@pytest.mark.parametrize("command", [("ls",), ("stats",), ("show",)])
def test_json_stays_json_and_says_it_exactly(askonce, stored, hostile, command):
    more = (stored[1],) if command == ("show",) else ()
    said = askonce(*command, *more, "--url", stored[0], "--json")
    assert said.out.isascii()
    assert not unsafe(said.out)
    told = json.loads(said.out)
    names = list(told["models"]) if command == ("stats",) else [one["model"] for one in told]
    assert set(names) == {hostile.encode("utf-8", "replace").decode()}


@pytest.mark.parametrize("words", [("show", "{}"), ("ls", "--url", "no{}://x"), ("invalidate", "--scope", "{}")])
def test_an_error_is_one_safe_line(askonce, hostile, words, tmp_path):
    said = askonce(*(word.format(hostile.replace("{", "")) for word in words))
    assert not unsafe(said.err)
    assert not unsafe(said.out)
    if said.code:
        assert said.err.count("\n") == 1


def test_a_log_line_is_one_safe_line(hostile, caplog):
    with caplog.at_level(logging.DEBUG, "askonce"):
        Events().warn_once("w", "a word of %s and %r", hostile, hostile)
        Events().warn_once("v", "an error: %s, 100%%", ConfigError(hostile))
        logging.getLogger("askonce").debug("%s", hostile)
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert not unsafe(record.getMessage(), "")


def test_what_a_store_says_of_its_trouble_is_safe_in_every_traceback(hostile):
    assert not unsafe(str(StoreTrouble("store-error", hostile)), "")


def test_a_word_from_another_process_that_is_none_is_not_taken(hostile):
    frame = end_frame(Ending(SHARED, hostile.encode("utf-8", "replace").decode(), b"body"))
    found = read_ending(frame)
    assert found is None or not unsafe(found.detail, "")
    assert read_ending(end_frame(Ending(SHARED, "Ошибка", b"body"))) == Ending(SHARED, "Ошибка", b"body")


def test_a_console_is_the_last_step_that_shows_nothing_else_whatever_it_is_given(capsys, hostile):
    say.console().print(f"[link=https://evil.example]{hostile}[/link]")
    shown = capsys.readouterr().out
    assert not unsafe(shown)
    assert "[link=" in shown


texts = st.text(st.characters(exclude_categories=()), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts)
def test_what_is_printable_prints_and_what_was_printable_is_the_same(text):
    assert printable(text).isprintable()
    assert not unsafe(readable(text), "\n\t\u200c\u200d")
    if text.isprintable():
        assert printable(text) is text
