"""The command line in general: its help, and its answers to mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from askonce import __version__
from askonce.cli.manual import page
from askonce.cli.place import find

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=30, check=False)


class TestAsAProgram:
    def test_it_says_its_version(self):
        done = python("-m", "askonce.cli", "--version")
        assert (done.returncode, done.stdout) == (0, f"askonce {__version__}\n")

    def test_without_the_extra_it_names_what_to_install_in_one_line(self):
        program = "import sys; sys.modules['{}'] = None; from askonce.cli import main; sys.exit(main(['demo']))"
        for missing in ("typer", "rich"):
            done = python("-c", program.format(missing))
            assert done.returncode == 1
            assert done.stderr.count("\n") == 1
            assert "pip install 'askonce[cli]'" in done.stderr

    def test_a_missing_module_of_our_own_is_a_bug_and_not_a_missing_extra(self):
        program = (
            "import sys; sys.modules['askonce.runtime.drive'] = None; from askonce.cli import main; main(['stats'])"
        )
        done = python("-c", program)
        assert "askonce.runtime.drive" in done.stderr
        assert "pip install" not in done.stderr

    def test_importing_it_loads_neither_typer_nor_rich(self):
        program = "import sys, askonce.cli; print({'typer', 'rich'} & set(sys.modules))"
        assert python("-c", program).stdout == "set()\n"

    def test_a_mistake_is_one_line_and_exit_code_2(self):
        done = python("-m", "askonce.cli", "stats", "--url", "ftp://somewhere")
        assert done.returncode == 2
        assert done.stderr.startswith("askonce: no store has the scheme 'ftp': write sqlite:///file.db")
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""


class TestHelp:
    def test_without_a_command_it_lists_the_commands(self, askonce):
        said = askonce()
        assert said.code == 0
        for command in ("demo", "doctor", "stats", "ls", "show", "invalidate", "sweep"):
            assert f"\n  {command} " in said.out
        assert "..." not in said.out.partition("Commands:")[2], "a summary is too long to be shown whole"

    def test_the_page_in_the_documentation_is_the_commands_own_help(self):
        assert DOCS.read_text("utf-8") == page(), "python -m askonce.cli.manual > docs/cli.md"

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["demo", "--nope"], "No such option: --nope"),
            (["demo", "--processes", "1"], "'--processes'"),
            (["demo", "--url"], "--url"),
            (["stats", "extra"], "extra"),
        ],
    )
    def test_a_wrong_command_line_is_one_line_that_names_the_help(self, askonce, words, told):
        said = askonce(*words)
        assert said.code == 2
        assert told in said.err
        assert said.err.count("\n") == 1
        assert "--help)" in said.err
        assert said.out == ""


class TestTheChain:
    def test_each_link_is_found_where_the_cache_finds_it_and_named(self, monkeypatch):
        assert find(None, None).source == "the default"
        assert find(None, None).url.startswith("sqlite:////")
        monkeypatch.setenv("REDIS_URL", "redis://there:1/0")
        assert find(None, None)[:2] == ("redis://there:1/0", "$REDIS_URL")
        monkeypatch.setenv("ASKONCE_URL", "redis://here:1/0")
        assert find(None, None)[:2] == ("redis://here:1/0", "$ASKONCE_URL")
        assert find("memory://", None)[:2] == ("memory://", "--url")

    def test_a_prefix_is_the_one_given_even_if_that_is_none(self, monkeypatch):
        assert find(None, None)[2:] == ("", "the default")
        monkeypatch.setenv("ASKONCE_PREFIX", "llm:v3")
        assert find(None, None)[2:] == ("llm:v3", "$ASKONCE_PREFIX")
        assert find(None, "")[2:] == ("", "--prefix")
