"""What the commands say of a store that is compressed and encrypted, and the command that makes its keys."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from askonce import Cache, Keys
from askonce.cache.sealing import read_keys
from askonce.cli import main

REQUEST = {"model": "m", "n": 1}
ANSWER = {"answer": "a very private answer " * 20}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def filled(askonce: Any, tmp_path: Path, file: Path) -> str:
    """One answer that is encrypted with the key "first", and compressed."""
    url = f"sqlite:///{tmp_path}/cli.db"
    askonce("keys", "--file", str(file), "--id", "first")
    with Cache(url, encryption=file, compress="zstd") as cache:
        cache.fetch(REQUEST, lambda: ANSWER, scope="support", tags=["doc:1"])
    return url


def told(askonce: Any, *words: str) -> Any:
    said = askonce(*words, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def doctor(askonce: Any, url: str) -> dict[str, Any]:
    return {check["name"]: check for check in json.loads(askonce("doctor", "--url", url, "--json").out)["checks"]}


def test_with_the_keys_the_commands_show_everything(askonce, filled, file, monkeypatch):
    monkeypatch.setenv("ASKONCE_KEYS", f"file:{file}")
    (entry,) = told(askonce, "ls", "--url", filled, "--tag", "doc:1")
    assert (entry["scope"], entry["model"], entry["cipher"]) == ("support", "m", "first")
    (shown,) = told(askonce, "show", entry["key"], "--url", filled)
    assert shown["body"] == ANSWER
    said = askonce("show", entry["key"], "--url", filled).out
    assert "\ncipher\tfirst\n" in said
    assert "zstd, dictionary" in said
    assert told(askonce, "stats", "--url", filled)["scopes"]["support"]["entries"] == 1
    assert told(askonce, "invalidate", "--url", filled, "--tag", "doc:1", "--dry-run")["reached"] == 1
    assert doctor(askonce, filled)["keys"]["said"].endswith("entries by key: first (encrypts): 1")
    askonce("invalidate", "--url", filled, "--scope", "support")
    assert told(askonce, "ls", "--url", filled) == []


def test_without_the_keys_they_say_which_one_is_missing_and_show_nothing(askonce, filled):
    (entry,) = told(askonce, "ls", "--url", filled)
    assert (entry["scope"], entry["model"], entry["tags"], entry["readable"]) == ("", "", [], False)
    said = askonce("show", entry["key"], "--url", filled)
    assert "encrypted with key first, which is not here" in " ".join(said.out.split())
    assert "private" not in said.out
    raw = askonce("show", entry["key"], "--url", filled, "--raw")
    assert raw.code == 1
    assert "encrypted with key first" in raw.err
    check = doctor(askonce, filled)["keys"]
    assert (check["state"], "first, which is not here: 1" in check["said"]) == ("hint", True)
    assert "add first to $ASKONCE_KEYS" in check["remedy"]


@pytest.mark.parametrize("label", ["--scope=support", "--tag=doc:1", "--model=m"])
def test_an_invalidation_by_labels_that_would_reach_nothing_is_refused(askonce, filled, label):
    said = askonce("invalidate", "--url", filled, label)
    assert said.code == 2
    assert "encrypted with the key first, which is not here" in said.err
    (entry,) = told(askonce, "ls", "--url", filled)
    assert askonce("invalidate", "--url", filled, "--key", entry["key"]).code == 0


def test_the_doctor_finds_entries_of_another_secret(askonce, filled, file, monkeypatch):
    key = next(line.partition("=")[2] for line in file.read_text().splitlines() if line.startswith("first="))
    monkeypatch.setenv("ASKONCE_KEYS", f"first={key}")
    assert doctor(askonce, filled)["names"]["state"] == "bad"
    with Cache(filled, encryption=Keys({"first": key})) as cache:
        cache.fetch(REQUEST, lambda: ANSWER)
    with Cache(filled, encryption=False) as cache:
        cache.fetch(REQUEST, lambda: ANSWER)
    said = askonce("doctor", "--url", filled).out
    assert "not encrypted: 1" in said
    assert "1 entry is named with another secret" in said
    assert "derived from the key first" in said


def test_a_ring_is_made_and_rotated_without_losing_an_answer(askonce, filled, file):
    def served() -> bool:
        with Cache(filled, encryption=file) as cache:
            return cache.fetch(REQUEST, lambda: None, scope="support").status.hit

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert served()
    assert askonce("keys", "--file", str(file), "--add", "--id", "second").code == 0
    assert read_keys(file).ids == ("first", "second")
    assert served()
    assert askonce("keys", "--file", str(file), "--first", "second").code == 0
    assert read_keys(file).ids == ("second", "first")
    assert served()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in file.parent.iterdir() if "keys" in one.name] == ["keys"]


def test_a_ring_without_a_secret_for_names_gets_a_line_for_the_one_it_has(askonce, file):
    file.write_text(f"old={bytes(32).hex()}\n")
    file.chmod(0o600)
    before = read_keys(file)
    askonce("keys", "--file", str(file), "--add")
    after = read_keys(file)
    assert (before.names_from, after.names_from) == ("old", "")
    assert after.names_secret == before.names_secret
    assert after.ids[0] == "old"


def test_a_printed_ring_is_one_for_the_environment(askonce):
    ring = Keys.parse(askonce("keys").out.strip())
    assert len(ring.ids) == 1
    assert ring.names_from == ""
    assert Keys.parse(askonce("keys").out.strip()).names_secret != ring.names_secret


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--add"], "name it with --file"),
        (["--first", "a"], "name it with --file"),
        (["--file", "{file}", "--add", "--first", "a"], "two steps"),
        (["--file", "{file}"], "exists"),
        (["--file", "{file}", "--first", "third"], "no key third: it has first"),
        (["--file", "{file}", "--add", "--id", "first"], "two keys have the id first"),
        (["--file", "{file}", "--add", "--id", "a b"], "not the id of a key"),
        (["--file", "{file}/no", "--add"], "cannot be read"),
        (["--file", "/nowhere/keys"], "cannot be written"),
    ],
)
def test_what_cannot_be_done_with_keys_is_said_and_changes_nothing(askonce, filled, file, words, says):
    before = file.read_text()
    said = askonce("keys", *(word.format(file=file) for word in words))
    assert said.code == 2
    assert says in said.err
    assert file.read_text() == before


@pytest.mark.parametrize("words", [["--add"], ["--first", "first"], []], ids=["add", "first", "make"])
def test_a_disk_without_room_leaves_the_ring_as_it_was_and_no_half_of_another(askonce, filled, file, words):
    resource = pytest.importorskip("resource")
    target = file if words else file.with_name("another")
    before, most = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, most[1]))  # as a quota: Python ignores the signal
    try:
        code = main(["keys", "--file", str(target), *words])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert code == 2
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir() if "keys" in one.name or "another" in one.name] == ["keys"]
