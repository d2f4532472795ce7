"""doctor, stats and invalidate, on real stores."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from askonce import Cache
from askonce.cli import checks_redis, checks_sqlite, remedies
from askonce.cli.stats import STATES
from askonce.testing.servers import Server
from tests.cli.test_lists import in_a_terminal

ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}]}


def request(question: str, model: str = "gpt-4.1-mini"):
    return {"model": model, "messages": [{"role": "user", "content": question}]}


def answered(cache: Cache, question: str, **own) -> str:
    model = own.pop("model", "gpt-4.1-mini")
    return cache.fetch(request(question, model), lambda: ANSWER, **own).key


def kept(url: str, prefix: str = "") -> set[str]:
    """The questions of `filled` that still have an answer."""
    own: dict[str, dict[str, Any]] = {
        "one": {},
        "two": {"scope": "support/v3"},
        "three": {"tags": ["doc:42"]},
        "four": {"model": "gpt-5"},
    }
    found = set()
    with Cache(url, prefix=prefix, mode="only-if-cached") as cache:
        for question, said in own.items():
            try:
                answered(cache, question, **said)
                found.add(question)
            except LookupError:
                continue
    return found


@pytest.fixture(params=["sqlite", "valkey"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/answers.db"
    server: Server = request.getfixturevalue("valkey")
    return server.url


@pytest.fixture
def filled(url: str) -> str:
    with Cache(url) as cache:
        answered(cache, "one")
        answered(cache, "two", scope="support/v3")
        answered(cache, "three", tags=["doc:42"])
        answered(cache, "four", model="gpt-5")
    return url


class TestInvalidate:
    @pytest.mark.parametrize(
        ("words", "gone"),
        [
            (["--scope", "support"], {"two"}),
            (["--scope", "support/v3", "--scope", "other"], {"two"}),
            (["--tag", "doc:42"], {"three"}),
            (["--model", "gpt-5"], {"four"}),
            (["--everything", "--yes"], {"one", "two", "three", "four"}),
        ],
    )
    def test_what_it_reaches_nobody_gets_any_more(self, askonce, filled, words, gone):
        said = askonce("invalidate", "--url", filled, *words, "--dry-run")
        assert said.code == 0
        assert f"would reach {len(gone)} live entr" in said.out
        assert len(kept(filled)) == 4, "a dry run invalidates nothing"
        said = askonce("invalidate", "--url", filled, *words)
        assert (said.code, said.err) == (0, "")
        assert said.out.startswith("invalidated in ")
        assert kept(filled) == {"one", "two", "three", "four"} - gone

    def test_a_key_is_the_one_that_an_outcome_has(self, askonce, url):
        with Cache(url) as cache:
            key = answered(cache, "one")
        assert askonce("invalidate", "--url", url, "--key", key).code == 0
        assert kept(url) == set()

    def test_a_request_is_read_from_a_file_or_from_standard_input(self, askonce, filled, tmp_path, monkeypatch):
        file = tmp_path / "request.json"
        file.write_text(json.dumps(request("one")))
        assert askonce("invalidate", "--url", filled, "--request", str(file)).code == 0
        assert kept(filled) == {"two", "three", "four"}
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request("two"))))
        assert askonce("invalidate", "--url", filled, "--request", "-", "--scope", "support/v3").code == 0
        assert kept(filled) == {"three", "four"}

    def test_a_tenant_and_a_variant_are_a_part_of_the_request(self, askonce, url, tmp_path):
        file = tmp_path / "request.json"
        file.write_text(json.dumps(request("one")))
        with Cache(url) as cache:
            theirs = cache.fetch(request("one"), lambda: ANSWER, tenant="them", variant=2)
            assert askonce("invalidate", "--url", url, "--request", str(file), "--tenant", "them").code == 0
            assert cache.fetch(request("one"), lambda: ANSWER, tenant="them", variant=2).status.hit
            words = ("--request", str(file), "--tenant", "them", "--variant", "2")
            assert askonce("invalidate", "--url", url, *words).code == 0
            again = cache.fetch(request("one"), lambda: ANSWER, tenant="them", variant=2)
        assert again.key == theirs.key
        assert not again.status.hit

    def test_another_prefix_is_left_alone(self, askonce, filled):
        assert askonce("invalidate", "--url", filled, "--prefix", "other", "--everything", "--yes").code == 0
        assert len(kept(filled)) == 4

    def test_everything_is_asked_about_first(self, askonce, filled, monkeypatch):
        said = askonce("invalidate", "--url", filled, "--everything")
        assert said.code == 2
        assert "--yes" in said.err
        for answer, left in (("n\n", 4), ("y\n", 0)):
            terminal = io.StringIO(answer)
            terminal.isatty = lambda: True
            monkeypatch.setattr(sys, "stdin", terminal)
            said = askonce("invalidate", "--url", filled, "--everything")
            assert said.code == (1 if left else 0)
            assert len(kept(filled)) == left

    def test_as_json_it_says_what_was_done(self, askonce, filled):
        told = json.loads(askonce("invalidate", "--url", filled, "--tag", "doc:42", "--dry-run", "--json").out)
        assert told["aim"] == {"tag": ["doc:42"]}
        assert told["reached"] == 1
        assert told["dry_run"] is True

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "in one way: --key, --request, --scope, --tag, --model or --everything"),
            (["--key", "a", "--tag", "b"], "in one way"),
            (["--key", "xyz"], "is not a key"),
            (["--request", "/nowhere/at/all"], "No such file"),
            (["--request", "{file}"], "is not JSON"),
            (["--request", "{null}"], "is null"),
            (["--tag", "b", "--tenant", "c"], "need --request"),
            (["--request", "{null}", "--scope", "a", "--scope", "b"], "the scope of the request"),
            (["--scope", "a//b"], "a//b"),
            (["--tag", ""], "tag"),
        ],
    )
    def test_what_cannot_be_meant_is_one_line_and_exit_code_2(self, askonce, tmp_path, words, told):
        (tmp_path / "file").write_text("{")
        (tmp_path / "null").write_text("null")
        words = [word.format(file=tmp_path / "file", null=tmp_path / "null") for word in words]
        said = askonce("invalidate", "--url", f"sqlite:///{tmp_path}/a.db", *words)
        assert said.code == 2
        assert told in said.err
        assert said.err.count("\n") == 1


class TestStats:
    def test_it_counts_by_state_scope_and_model(self, askonce, filled):
        askonce("invalidate", "--url", filled, "--tag", "doc:42")
        told = json.loads(askonce("stats", "--url", filled, "--json").out)
        assert told["all"]["entries"] == 4
        assert told["all"]["bytes"] > 4 * 100
        assert told["states"] == {"fresh": 3, "invalidated": 1}
        assert {name: group["entries"] for name, group in told["models"].items()} == {"gpt-4.1-mini": 3, "gpt-5": 1}
        assert {name: group["entries"] for name, group in told["scopes"].items()} == {"": 3, "support/v3": 1}

    def test_for_people_it_is_a_page(self, filled):
        said = "\n".join(in_a_terminal(80, "stats", "--url", filled))
        assert "4 entries" in said
        assert "support/v3" in said

    def test_a_pipe_gets_every_number_of_the_json(self, askonce, filled):
        askonce("invalidate", "--url", filled, "--tag", "doc:42")
        told = json.loads(askonce("stats", "--url", filled, "--json").out)
        head, *lines = [line.split("\t") for line in askonce("stats", "--url", filled).out.splitlines()]
        assert head == ["kind", "name", "entries", "size_bytes", "took_s"]
        found = {(kind, name): [float(number or 0) for number in numbers] for kind, name, *numbers in lines}
        assert len(found) == len(lines) == 1 + len(STATES) + len(told["scopes"]) + len(told["models"])
        assert found["all", ""][:2] == [told["all"]["entries"], told["all"]["bytes"]]
        assert {name: found["state", name][0] for name in STATES} == {
            name: told["states"].get(name, 0) for name in STATES
        }
        for kind in ("scope", "model"):
            for name, group in told[f"{kind}s"].items():
                assert found[kind, name] == pytest.approx([group["entries"], group["bytes"], group["took"]], abs=0.001)

    def test_a_long_list_says_how_much_is_left_out(self, askonce, url):
        with Cache(url) as cache:
            for number in range(13):
                answered(cache, f"question {number}", scope=f"scope/{number}")
        assert "and 3 more (--json has all)" in in_a_terminal(80, "stats", "--url", url)
        assert sum(line.startswith("scope\t") for line in askonce("stats", "--url", url).out.splitlines()) == 13

    def test_an_empty_store_and_another_prefix_have_nothing(self, askonce, filled):
        said = askonce("stats", "--url", filled, "--prefix", "other")
        assert said.code == 0
        assert "all\t\t0\t0\t0.000\n" in said.out

    def test_memory_holds_nothing_that_a_command_could_find(self, askonce):
        said = askonce("stats", "--url", "memory://")
        assert said.code == 2
        assert "memory://" in said.err


def states(out: str) -> dict[str, str]:
    """The state of each check."""
    head, *lines = [line.split("\t") for line in out.splitlines()]
    assert head == ["state", "check", "said", "remedy"]
    return {name: state for state, name, _, _ in lines}


class TestDoctor:
    def test_a_store_that_is_well_has_no_bad_line(self, askonce, url):
        said = askonce("doctor", "--url", url, "--prefix", "p")
        assert said.code == 0
        found = states(said.out)
        assert {"askonce", "store", "prefix", "reach", "lookup", "rights"} <= found.keys()
        assert "bad" not in found.values()
        assert "(named by --url)" in said.out

    def test_it_leaves_nothing_behind(self, askonce, valkey: Server):
        assert askonce("doctor", "--url", valkey.url).code == 0
        assert valkey.command("DBSIZE") == 0

    def test_it_leaves_answers_alone(self, askonce, filled):
        assert askonce("doctor", "--url", filled).code == 0
        assert len(kept(filled)) == 4

    def test_a_store_that_is_away_is_bad_and_says_what_to_do(self, askonce):
        said = askonce("doctor", "--url", "redis://:secret@127.0.0.1:1/0")
        assert said.code == 1
        assert states(said.out)["reach"] == "bad"
        assert "\tno server listens there" in said.out
        assert "secret" not in said.out + said.err

    def test_as_json_it_is_a_list_of_checks(self, askonce, tmp_path):
        told = json.loads(askonce("doctor", "--url", f"sqlite:///{tmp_path}/a.db", "--json").out)
        assert told["ok"] is True
        assert {"name", "said", "state", "remedy"} == told["checks"][0].keys()

    def test_memory_is_well_too(self, askonce):
        assert askonce("doctor", "--url", "memory://").code == 0

    def test_a_mode_that_switches_the_cache_off_is_mentioned(self, askonce, monkeypatch):
        monkeypatch.setenv("ASKONCE_MODE", "off")
        assert states(askonce("doctor").out)["mode"] == "hint"

    def test_the_near_cache_of_the_environment_is_named_and_a_wrong_size_is_bad(self, askonce, monkeypatch, valkey):
        monkeypatch.setenv("ASKONCE_NEAR", "64MiB")
        said = askonce("doctor", "--url", valkey.url)
        assert "up to 64.0 MiB" in said.out
        assert {"near": "ok", "tracking": "ok"}.items() <= states(said.out).items()
        assert "needs no near cache" in askonce("doctor", "--url", "memory://").out
        monkeypatch.setenv("ASKONCE_NEAR", "lots")
        said = askonce("doctor", "--url", valkey.url)
        assert states(said.out)["near"] == "bad"
        assert said.code == 1

    def test_the_default_is_named_as_such(self, askonce):
        assert "(named by the default)" in askonce("doctor").out

    @pytest.mark.skipif(sys.platform == "win32", reason="no modes there")
    def test_a_file_that_others_may_open_is_bad_and_one_that_a_group_may_read_is_mentioned(self, askonce, tmp_path):
        url = f"sqlite:///{tmp_path}/a.db"
        with Cache(url) as cache:
            answered(cache, "one")
        (tmp_path / "a.db").chmod(0o644)
        said = askonce("doctor", "--url", url)
        assert states(said.out)["reach"] == "bad"
        assert "chmod 600" in said.out
        (tmp_path / "a.db").chmod(0o640)
        said = askonce("doctor", "--url", url)
        assert states(said.out)["file"] == "hint"
        assert "chmod 600" in said.out

    def test_a_file_of_another_program_is_bad_and_left_as_it_is(self, askonce, tmp_path):
        file = tmp_path / "letters.txt"
        file.write_text("Dear Sir or Madam, " * 100)
        said = askonce("doctor", "--url", f"sqlite:///{file}")
        assert said.code == 1
        assert "name another" in said.out
        assert file.read_text() == "Dear Sir or Madam, " * 100

    def test_a_network_file_system_is_told_from_a_disk(self, tmp_path):
        mounts = tmp_path / "mounts"
        mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/x /mnt/x nfs4 rw 0 0\n/dev/sdb /mnt/x/y xfs rw 0 0\n")
        assert checks_sqlite.file_system(Path("/mnt/x/a.db"), mounts) == "nfs4"
        assert checks_sqlite.file_system(Path("/mnt/x/y/a.db"), mounts) == "xfs"
        assert checks_sqlite.file_system(Path("/mnt/z/a.db"), mounts) == "ext4"
        assert checks_sqlite.file_system(Path("/mnt/z/a.db"), tmp_path / "none") == ""

    @pytest.mark.parametrize(
        ("info", "state", "told"),
        [
            ({"maxmemory": "0", "maxmemory_policy": "noeviction"}, "hint", "set maxmemory,"),
            ({"maxmemory": "100", "maxmemory_policy": "noeviction", "used_memory": "1"}, "hint", "when it is full"),
            ({"maxmemory": "100", "maxmemory_policy": "noeviction", "used_memory": "95"}, "hint", "nearly full"),
            ({"maxmemory": "100", "maxmemory_policy": "allkeys-lfu"}, "ok", ""),
            ({"maxmemory": "100", "maxmemory_policy": "volatile-lru"}, "ok", ""),
        ],
    )
    def test_what_a_full_memory_would_do_is_said_beforehand(self, info, state, told):
        found = {check.name: check for check in checks_redis.judged({"redis_version": "7.2.4", **info})}
        assert found["memory"].state == state
        assert told in found["memory"].remedy
        assert found["server"].state == "ok"

    def test_a_replica_is_bad_and_an_old_server_is_mentioned(self):
        info = {"redis_version": "6.2.1", "role": "slave", "master_host": "there", "master_port": "6379"}
        found = {check.name: check for check in checks_redis.judged(info)}
        assert found["server"].state == "hint"
        assert found["role"].state == "bad"
        assert "there:6379" in found["role"].remedy


class TestDoctorOfAUserWithFewRights:
    def doctor(self, askonce, server: Server, *rights: str):
        server.command("ACL", "SETUSER", "cat", "reset", "on", ">meow", *rights)
        return askonce("doctor", "--prefix", "p", "--url", server.url.replace("redis://", "redis://cat:meow@"))

    def test_the_documented_rights_are_enough(self, askonce, own_valkey: Server):
        said = self.doctor(askonce, own_valkey, "~{p:*", "&{p:*", "+@all", "-@admin", "-@dangerous")
        assert said.code == 0
        assert states(said.out)["rights"] == "ok"
        assert states(said.out)["server"] == "hint", "INFO is not among them"
        assert own_valkey.command("DBSIZE") == 0

    def test_a_missing_right_is_named_with_what_was_tried(self, askonce, own_valkey: Server):
        said = self.doctor(askonce, own_valkey, "~{p:*", "resetchannels", "+@all", "-@admin", "-@dangerous")
        assert said.code == 1
        assert states(said.out)["rights"] == "bad"
        assert "wake others: " in said.out
        assert "&{p:*" in said.out

    def test_a_wrong_password_is_bad(self, askonce, own_valkey: Server):
        own_valkey.command("ACL", "SETUSER", "cat", "reset", "on", ">meow", "+@all")
        said = askonce("doctor", "--url", own_valkey.url.replace("redis://", "redis://cat:wrong@"))
        assert said.code == 1
        assert states(said.out)["reach"] == "bad"
        assert "wrong@" not in said.out

    def test_every_kind_of_trouble_has_a_remedy(self):
        kinds = ("refused", "timeout", "closed", "denied", "readonly", "full", "foreign", "corrupt", "loading")
        kinds += ("down", "moving", "mismatch")  # of a Cluster
        assert set(remedies.REMEDIES) == {f"store-{kind}" for kind in kinds}
        for remedy in remedies.REMEDIES.values():
            assert "{" not in remedy.format(prefix="p").replace("{p:*", "")
