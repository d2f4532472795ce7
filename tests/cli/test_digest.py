"""``askonce digest``: what it prints is what the gateway reads."""

from __future__ import annotations

import hashlib
import io

import pytest

from askonce.cli import main
from askonce.gateway.tenant_file import read_tenants


@pytest.fixture
def typed(monkeypatch):
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_the_digest_of_a_key_is_its_sha256_and_the_key_is_not_shown(typed, capsys):
    typed("  sk-secret \r\n")
    assert main(["digest"]) == 0
    assert capsys.readouterr().out == f"{hashlib.sha256(b'sk-secret').hexdigest()}\n"


def test_lines_with_a_name_are_a_file_of_tenants(typed, capsys, tmp_path):
    typed("sk-1\n\nsk-2\n")
    assert main(["digest", "--tenant", "red team"]) == 0
    (tmp_path / "tenants.txt").write_text(capsys.readouterr().out)
    found = read_tenants(tmp_path / "tenants.txt")
    assert found == {hashlib.sha256(key).hexdigest(): "red team" for key in (b"sk-1", b"sk-2")}


@pytest.mark.parametrize(("given", "text"), [([], ""), ([], " \n"), (["--tenant", " "], "sk-1"), (["sk-1"], "sk-1")])
def test_no_key_no_name_and_a_key_as_an_argument_are_mistakes(typed, capsys, given, text):
    typed(text)
    assert main(["digest", *given]) == 2
    assert not capsys.readouterr().out


def test_a_terminal_is_asked(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: "sk-1")
    assert main(["digest"]) == 0
    assert capsys.readouterr().out == f"{hashlib.sha256(b'sk-1').hexdigest()}\n"
