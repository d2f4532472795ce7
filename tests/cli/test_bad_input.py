"""Bad input to every command: one line on standard error that says what to do, the documented exit code, and no more.

Nothing is printed on standard output, nothing is created, and no secret is shown.
"""

from __future__ import annotations

import io
import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer

from askonce import Cache
from askonce.cli.app import app
from askonce.gateway.settings import SECTIONS
from tests.bad_input import SECRET, files, well_told

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GOOD = ["--url", "sqlite:///good.db"]
UP = ["--upstream", "https://a.b"]
READERS = ["stats", "ls", "savings", "top", "why", "flights", "sweep", "dashboard", "show"]
WORDS = {"show": ["abc"], "top": ["--once"]}

TOML = {
    "syntax": "[server\nport = 1\n",
    "key": "[server]\nprot = 1\n[[upstream]]\nurl = 'https://a.b'\n",
    "type": "[server]\nport = 'abc'\n[[upstream]]\nurl = 'https://a.b'\n",
    "section": "[sever]\nport = 1\n",
    "none": "[server]\nport = 0\n",
    "ca": "[[upstream]]\nurl = 'https://a.b'\nca = 'text.db'\n",
    "host": "[server]\nhost = ''\n[[upstream]]\nurl = 'https://a.b'\n",
    "long": "[server]\ndrain = 1e308\n[[upstream]]\nurl = 'https://a.b'\n",
    "many": "[limits]\nconcurrency = 99999999999999999999\n[[upstream]]\nurl = 'https://a.b'\n",
    "large": "[limits]\nbuffer = '99999999999GB'\n[[upstream]]\nurl = 'https://a.b'\n",
    "refusing": "[limits]\nbody = 0\n[[upstream]]\nurl = 'https://a.b'\n",
    "all": "[[rule]]\nttl = 5\nmodel = []\n[[upstream]]\nurl = 'https://a.b'\n",
    "blank": "[[rule]]\nttl = 5\ntenant = ''\n[tenants]\nby = 'header'\n[[upstream]]\nurl = 'https://a.b'\n",
    "port": "[[upstream]]\nurl = 'https://h:0'\n",
    "several": f"[server]\nport = 99999\n[[upstream]]\nurl = 'https://me:{SECRET}@h'\n[log]\nlevel = 'loud'\n",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what may be taken for a store, a key or a configuration. No test changes anything in it."""
    root = tmp_path_factory.mktemp("bad")
    here = root / "here"
    for folder in (here, here / "folder", root / "home"):
        folder.mkdir(mode=0o700)
    with Cache(f"sqlite:///{here}/good.db") as cache:
        for number in range(17):  # of 17 keys two begin alike
            cache.fetch({"n": number}, dict)
        digits = [one.key[0] for one in cache.entries()]
    texts = {
        "text.db": "no database\n" * 99,
        "short": SECRET,
        "empty": "",
        "null": "null",
        "nojson": "{nope",
        "open": "x",
        "deep": "[" * 100_000,
    }
    texts |= {f"{name}.toml": text for name, text in TOML.items()}
    for name, text in texts.items():
        (here / name).write_text(text)
        (here / name).chmod(0o644 if name == "open" else 0o600)
    (here / "bytes").write_bytes(b"\xff{}")
    with closing(sqlite3.connect(here / "other.db")) as other:
        other.execute("CREATE TABLE users (name)")
    (here / "other.db").chmod(0o600)
    alike = next(one for one in digits if digits.count(one) > 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield root, {"{port}": str(taken.getsockname()[1]), "{alike}": alike}


@pytest.fixture
def wrong(askonce, place, monkeypatch):
    """Run a command line that is wrong; its error."""
    root, words_of = place
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(root / "home"))
    monkeypatch.chdir(root / "here")

    def run(words, code, reads=""):
        monkeypatch.setattr("sys.stdin", io.StringIO(reads))
        before = files(root)
        said = askonce(*(words_of.get(word, word) for word in words))
        assert (said.out, said.code) == ("", code), said
        changed = {path for path, what in files(root).items() if before.get(path) != what}
        assert {path for path in changed if not re.search(r"here(/good\.db(-wal|-shm)?)?$", path)} == set()
        lines = said.err.splitlines()
        assert lines
        for line in lines:
            assert line.startswith("askonce: ")
            well_told(line)
        return said.err

    return run


LINES = [
    # the words of a command line
    (["nonsense"], 2, "--help"),
    (["stat"], 2, "stats"),
    (["--nope"], 2, "--help"),
    (["--verison"], 2, "--version"),
    (["--url", "x", "stats"], 2, "after a command"),
    (["stats", "extra", *GOOD], 2, "extra"),
    (["stats", "--jsn"], 2, "--json"),
    (["ls", "--lmit", "5"], 2, "--limit"),
    (["ls", "--limit", "x", *GOOD], 2, "--limit 50"),
    (["ls", "--limit", "0", *GOOD], 2, "at least 1"),
    (["ls", "--limit=", *GOOD], 2, "--limit '' is empty"),
    (["ls", "--limit"], 2, "--limit"),
    (["ls", "--scope", "a//b", *GOOD], 2, "'a/b'"),
    (["ls", "--tag", "", *GOOD], 2, "leave --tag out"),
    (["ls", *GOOD, *GOOD], 2, "--url is given twice"),
    (["ls", "--limit", "5", "--limit=6", *GOOD], 2, "--limit is given twice"),
    (["serve", *UP, "--port", "1", "--port", "2"], 2, "--port is given twice"),
    (["ls", *GOOD, "--scope", "--json"], 2, "--scope has no value, but the option --json"),
    (["invalidate", *GOOD, "--tag", "--dry-run"], 2, "--tag has no value, but the option --dry-run"),
    (["sweep", *GOOD, "--old-prefix", "--rate=5"], 2, "--old-prefix has no value"),
    (["stats", "--url", "-h"], 2, "--url has no value"),
    (["keys", "--file", "--"], 2, "--file has no value"),
    (["keys", "--file", "-"], 2, "leave --file out"),
    (["savings", "--days", "401", *GOOD], 2, "from 1 to 400"),
    (["savings", "--days", "7d", *GOOD], 2, "--days 30"),
    (["savings", "--by", "modle", *GOOD], 2, "write model"),
    (["savings", "--by", "", *GOOD], 2, "leave --by out"),
    (["top", "--every", "2s", *GOOD], 2, "a number of seconds"),
    (["top", "--every", "inf", *GOOD], 2, "86400"),
    (["sweep", "--rate", "fast", *GOOD], 2, "a whole number"),
    (["sweep", "--old-prefix", "", *GOOD], 2, "name another one"),
    (["demo", "--processes", "1"], 2, "from 2 to 32"),
    (["demo", "--url", "nonsense"], 2, "sqlite:///file.db"),
    (["dashboard", "--port", "99999", *GOOD], 2, "from 0 to 65535"),
    (["dashboard", "--port", "{port}", *GOOD], 1, "another one with --port"),
    (["dashboard", "--url", f"http://u:{SECRET}@localhost:1"], 2, "$ASKONCE_TOKEN"),
    # keys, and what is explained and invalidated
    (["show", *GOOD], 2, "KEY"),
    (["show", "", *GOOD], 2, "hex digits"),
    (["show", "zz", *GOOD], 2, "hex digits"),
    (["show", "{alike}", *GOOD], 2, "more digits"),
    (["show", "0" * 64, *GOOD], 1, "askonce ls --full"),
    (["show", "ab", "--raw", "--json", *GOOD], 2, "one of them"),
    (["why", "", *GOOD], 2, "hex digits"),
    (["why", "{alike}", *GOOD], 2, "more digits"),
    (["why", "--model", "m", *GOOD], 2, "needs -"),
    (["why", "-", *GOOD], 2, "JSON"),
    (["why", "-", "--to", "nonsense", *GOOD], 2, "JSON"),
    (["invalidate", *GOOD], 2, "--everything"),
    (["invalidate", "--tags", "a", *GOOD], 2, "write --tag"),
    (["invalidate", "--tag", "a", "--scope", "b", *GOOD], 2, "one way"),
    (["invalidate", "--everything", *GOOD], 2, "--yes"),
    (["invalidate", "--tag", "a", "--tenant", "t", *GOOD], 2, "--request"),
    (["invalidate", "--key", "{alike}", *GOOD], 2, "more digits"),
    (["invalidate", "--request", "nowhere", *GOOD], 2, "a file of JSON"),
    (["invalidate", "--request", "nojson", *GOOD], 2, "fetch()"),
    (["invalidate", "--request", "null", *GOOD], 2, "give a request"),
    (["invalidate", "--request", "", *GOOD], 2, "leave --request out"),
    (["invalidate", "--request", "deep", *GOOD], 2, "fetch()"),
    (["invalidate", "--request", "bytes", *GOOD], 2, "UTF-8"),
    (["invalidate", "--request", "folder", *GOOD], 2, "name a file"),
    (["invalidate", "--request", "/dev/zero", *GOOD], 2, "or no end"),
    (["keys", "--add", "--file", "/dev/zero"], 2, "chmod 600"),
    (["serve", "--config", "/dev/zero"], 2, "or no end"),
    (["serve", *UP, "--admin-token-file", "/dev/zero"], 2, "or no end"),
    (["invalidate", "--request", "a\0b", *GOOD], 2, "name a file"),
    (["invalidate", "--request", "x" * 9999, *GOOD], 2, "name a file"),
    (["invalidate", "--request", "-", *GOOD], 2, "fetch()"),
    (["invalidate", "--scope", "a/*", *GOOD], 2, "write scope='a'"),
    (["invalidate", "--scope", "*", *GOOD], 2, "everything"),
    (["invalidate", "--model", "gpt-4*", *GOOD], 2, "no glob"),
    # stores
    (["demo", "--url", f"redis://:{SECRET}@127.0.0.1:1/0"], 1, "no server listens there"),
    (["doctor", "--url", "nonsense"], 2, "sqlite:///file.db"),
    (["doctor", "--url", f"redis://:{SECRET}@h:x"], 2, "redis://host:6379/0"),
    # keys of encryption, digests of API keys
    (["keys", "--add"], 2, "--file"),
    (["keys", "--add", "--first", "x", "--file", "f"], 2, "two steps"),
    (["keys", "--file", "text.db"], 2, "--add"),
    (["keys", "--file", "nowhere/keys"], 2, "folder that is yours"),
    (["keys", "--file", ""], 2, "leave --file out"),
    (["keys", "--add", "--file", "short"], 2, "askonce keys"),
    (["keys", "--add", "--file", "open"], 2, "chmod 600"),
    (["keys", "--add", "--file", "folder"], 2, "name a file"),
    (["keys", "--id", "names"], 2, "2026-11"),
    (["digest"], 2, "askonce digest < FILE"),
    (["digest", SECRET], 2, "askonce digest < FILE"),
    (["digest", "--tenant", "a" * 101], 2, "1 to 100"),
    # the gateway
    (["serve"], 2, "--upstream https://"),
    (["serve", "--upstream", "nonsense"], 2, "https://api.openai.com"),
    (["serve", "--upstream", ""], 2, "leave --upstream out"),
    (["serve", "--upstream", f"https://u:{SECRET}@h"], 2, "remove it"),
    (["serve", "--upstream", f"https://h?key={SECRET}"], 2, "only scheme, host and path"),
    (["serve", "--upstream", "openai=https://h"], 2, "'/openai'"),
    (["serve", *UP, *UP], 2, "a path of its own"),
    (["serve", *UP, "--prot", "1"], 2, "--port"),
    (["serve", *UP, "--port", "http"], 2, "a whole number"),
    (["serve", *UP, "--port", "99999"], 2, "from 0 to 65535"),
    (["serve", *UP, "--port", "{port}"], 2, "another --port"),
    (["serve", *UP, "--port", "{port}", "--workers", "2"], 2, "another --port"),
    (["serve", *UP, "--host", ""], 2, "leave --host out"),
    (["serve", *UP, "--host", "no.such.invalid"], 2, "127.0.0.1"),
    (["serve", *UP, "--host", "a..b"], 2, "127.0.0.1"),
    (["serve", *UP, "--workers", "0"], 2, "from 1 to 256"),
    (["serve", *UP, "--mode", "of"], 2, "only-if-cached"),
    (["serve", *UP, "--near", "lots"], 2, "'64MB'"),
    (["serve", *UP, "--log", "loud"], 2, "warning"),
    (["serve", *UP, "--url", "reddis://h"], 2, "redis://"),
    (["serve", *UP, "--admin-token-file", "short"], 2, "at least 16"),
    (["serve", *UP, "--admin-token-file", "empty"], 2, "write a token into it"),
    (["serve", *UP, "--admin-token-file", "nowhere"], 2, "holds the token"),
    (["serve", *UP, "--admin-bind", "x"], 2, "127.0.0.1"),
    (["serve", "--config", "nowhere.toml"], 2, "name a file"),
    (["serve", "--config", "folder"], 2, "name a file"),
    (["serve", "--config", ""], 2, "leave --config out"),
    (["serve", "--config", "syntax.toml"], 2, "syntax.toml:1: "),
    (["serve", "--config", "key.toml"], 2, "key.toml:2: 'prot' is unknown: write port"),
    (["serve", "--config", "type.toml"], 2, "type.toml:2: port = 'abc' is not a whole number: write port = 8181"),
    (["serve", "--config", "section.toml"], 2, "write server"),
    (["serve", "--config", "none.toml"], 2, "--upstream https://"),
    (["serve", "--config", "ca.toml"], 2, "PEM"),
    (["serve", "--config", "host.toml"], 2, "0.0.0.0"),
    (["serve", "--config", "long.toml"], 2, "long.toml:2: drain = 1e+308 is not a number of seconds: write drain = 60"),
    (["serve", "--config", "many.toml"], 2, "many.toml:2: "),
    (["serve", "--config", "large.toml"], 2, "large.toml:2: "),
    (["serve", "--config", "refusing.toml"], 2, "at least 1"),
    (["serve", "--config", "all.toml"], 2, "all.toml:3: model is empty: leave it out"),
    (["serve", "--config", "blank.toml"], 2, "blank.toml:3: tenant is empty: leave it out"),
    (["serve", "--config", "port.toml"], 2, "port.toml:2: "),
]


@pytest.mark.parametrize(("words", "code", "right"), LINES, ids=[" ".join(one[0])[:70] for one in LINES])
def test_a_wrong_command_line_is_one_line_that_says_what_to_do(wrong, words, code, right):
    err = wrong(words, code)
    assert right in err
    assert err.count("\n") == 1


def test_what_is_wrong_with_a_configuration_is_a_line_for_each(wrong):
    assert len(wrong(["serve", "--config", "several.toml"], 2).splitlines()) == 3


@pytest.mark.parametrize(
    ("reads", "more", "right"),
    [
        ("{}", ["--to", "nonsense"], "https://api.openai.com"),
        ("{}", ["--to", "https://h/v1", "--header", "nocolon"], "'name: value'"),
        ("{}", ["--header", "a: b"], "--to"),
        ("{}", ["--to", "https://h/v1", "--header", "a b: c"], "'name: value'"),
        ("{}", ["--to", "https://h/v1", "--header", "a: b\nc: d"], "'name: value'"),
        ("[" * 100_000, [], "fetch()"),
        ("\ufeffnull", [], "fetch()"),
        ("[1]", ["--model", "m"], "JSON object"),
        ("null", [], "fetch()"),
        ("{}", ["--scope", "a//b"], "'a/b'"),
    ],
)
def test_a_wrong_request_to_explain_is_one_line(wrong, reads, more, right):
    assert right in wrong(["why", "-", *more, *GOOD], 2, reads)


STORES = [
    ("nonsense", 2, "sqlite:///file.db"),
    ("good.db", 2, "sqlite:///good.db"),
    ("sqlite:good.db", 2, "sqlite:///file.db"),
    ("", 2, "leave --url out"),
    ("sqlite:///nowhere.db", 1, "name another store"),
    ("sqlite:///folder", 2, "name a file in it"),
    ("sqlite:///text.db", 1, "name another file"),
    ("sqlite:///other.db", 1, "name another file"),
    ("memory://", 2, "name another store"),
    (f"redis://:{SECRET}@127.0.0.1:1/0", 1, "no server listens there: start it"),
]


@pytest.mark.parametrize("command", READERS)
def test_what_is_no_store_is_told_alike_by_every_command(wrong, command):
    for url, code, right in STORES:
        assert right in wrong([command, *WORDS.get(command, []), "--url", url], code)


@pytest.mark.parametrize("command", sorted(set(READERS) - {"dashboard"}))
def test_a_gateway_that_is_not_there_is_told_alike_by_every_command(wrong, command):
    words = [command, *WORDS.get(command, [])]
    wrongs = ["http://", f"http://u:{SECRET}@h", "http://h:x", "http://[::1", "http://[zz]:1", "http:// a:1"]
    for url, code in (*((url, 2) for url in wrongs), ("http://127.0.0.1:1", 1)):
        wrong([*words, "--url", url], code)


ENVIRONMENT = [
    ("ASKONCE_URL", "nonsense", 2),
    ("ASKONCE_URL", f"redis://:{SECRET}@h:x/0", 2),
    ("REDIS_URL", "nonsense", 2),
    ("ASKONCE_MODE", "of", 2),
    ("ASKONCE_COMPRESS", "gzip", 2),
    ("ASKONCE_KEYS", "", 2),
    ("ASKONCE_KEYS", SECRET, 2),
    ("ASKONCE_PRICES", "/no/such", 2),
]


@pytest.mark.parametrize(("name", "value", "code"), ENVIRONMENT, ids=[f"{one[0]}={one[1]}" for one in ENVIRONMENT])
def test_a_wrong_variable_is_named_by_every_command(wrong, monkeypatch, name, value, code):
    monkeypatch.setenv("ASKONCE_URL", "sqlite:///good.db")
    monkeypatch.delenv("ASKONCE_URL" if name == "REDIS_URL" else "REDIS_URL", raising=False)
    monkeypatch.setenv(name, value)
    for command in ("stats", "savings", "doctor"):
        assert name in wrong([command], code)


def test_a_wrong_near_cache_is_named_where_the_store_has_none(wrong, monkeypatch):
    monkeypatch.setenv("ASKONCE_NEAR", "lots")
    for command in sorted(set(READERS) - {"dashboard"}):
        assert "$ASKONCE_NEAR='lots'" in wrong([command, *WORDS.get(command, []), *GOOD], 2)


@pytest.mark.parametrize(
    ("token", "right"), [("a b", "file:PATH"), ("file:/no/such", "admin token"), ("file:empty", "write")]
)
def test_a_wrong_token_is_told_before_anything_is_sent(wrong, monkeypatch, token, right):
    monkeypatch.setenv("ASKONCE_TOKEN", token)
    assert right in wrong(["stats", "--url", "http://127.0.0.1:1"], 2)


# --- generated from the commands and from the gateway's sections -------------------------------------------------

OPTIONS = [(name, option) for name, command in COMMANDS.items() for option in command.params if option.name != "help"]


def valued(option) -> bool:
    return option.opts[0].startswith("--") and not option.is_flag


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=[f"{name} {option.opts[0]}" for name, option in OPTIONS])
def test_every_option_is_named_when_it_is_misspelt_empty_or_no_number(wrong, name, option):
    flag = option.opts[0]
    if not flag.startswith("--"):
        return
    assert f"write {flag}" in wrong([name, f"{flag}x", "1"], 2)
    if valued(option):
        if option.name not in {"prefix", "old_prefix"}:
            assert flag in wrong([name, flag, ""], 2)
        assert flag in wrong([name, flag], 2)
    if option.metavar in {"N", "SECONDS"}:
        assert f"for '{flag}': write a" in wrong([name, flag, "many"], 2)


VARIABLES = sorted(
    {one.metadata["env"] for kind in SECTIONS.values() for one in kind.__dataclass_fields__.values()} - {""}
)
TEXTS = {"ASKONCE_PREFIX", "ASKONCE_HOST"}  # any text is one


@pytest.mark.parametrize("name", sorted(set(VARIABLES) - TEXTS))
def test_every_variable_of_the_gateway_refuses_nonsense(wrong, monkeypatch, name):
    monkeypatch.setenv(name, f"{SECRET}/" if name.endswith(("FILE", "PRICES")) else "@@")
    if name.endswith(("FILE", "PRICES")):
        monkeypatch.setenv(name, "/no/such")
    wrong(["serve", *UP, "--port" if name != "ASKONCE_PORT" else "--workers", "1"], 2)


def test_the_exit_codes_are_those_of_the_documentation():
    table = dict(re.findall(r"^\| (\d) \| (.*) \|$", DOCS.read_text("utf-8"), re.MULTILINE))
    assert table["1"].startswith("the command failed")
    assert table["2"] == "the command line is wrong"
    assert {code for _, code, _ in LINES} == {1, 2}


def test_the_table_has_at_least_eighty_kinds():
    assert len(LINES) + len(STORES) + len(ENVIRONMENT) >= 80
