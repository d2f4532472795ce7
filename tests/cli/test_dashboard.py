"""`askonce dashboard`: a page over any store, on this machine only, for whoever has its link."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import httpx2
import pytest

from askonce import Cache
from askonce.cli import main


@pytest.fixture
def store(tmp_path):
    url = f"sqlite:///{tmp_path / 'answers.db'}"
    with Cache(url, prefix="llm:v3") as cache:
        for _ in range(3):
            cache.fetch({"model": "gpt-5", "messages": ["hi"]}, lambda: {"a": 1}, scope="support")
    return url


@pytest.mark.waits
def test_it_prints_a_link_that_logs_in_and_ends_with_ctrl_c(store):
    program = [sys.executable, "-m", "askonce", "dashboard", "--url", store, "--prefix", "llm:v3", "--port", "0"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as running:
        assert running.stdout is not None
        link = running.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/_askonce/\?token=[\w-]{32}", link)
        with httpx2.Client(follow_redirects=True, timeout=30) as browser:
            address = link.partition("?")[0]
            assert "Admin token" in browser.get(address).text
            page = browser.get(link).text
            assert "Hit ratio" in page
            assert "llm:v3" in page
            assert "support" in browser.get(f"{address}entries").text
            assert browser.get(address.removesuffix("_askonce/")).text == browser.get(address).text
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors == "", "no traceback, and no log that has the token"


def test_a_port_in_use_is_said_and_without_a_port_another_one_is_taken(store, capsys, monkeypatch):
    from askonce.gateway.page import server

    with socket.create_server((server.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["dashboard", "--url", store, "--port", str(port)]) == 1
        assert f"port {port} cannot be used" in capsys.readouterr().err
        monkeypatch.setattr(server, "PORT", port)
        with server.listening(None) as free:
            assert free.getsockname()[0] == "127.0.0.1"
            assert free.getsockname()[1] != port


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--url", "http://127.0.0.1:8181"], 2, "open http://127.0.0.1:8181/_askonce/ with its admin token"),
        (["--url", "memory://"], 2, "memory:// ends with its process"),
        (["--url", "sqlite:////nowhere/answers.db"], 1, "nothing is stored yet"),
        (["--port", "70000"], 2, "a whole number from 0 to 65535"),
    ],
)
def test_what_has_no_page_is_said_in_one_line(arguments, code, said, capsys):
    assert main(["dashboard", *arguments]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["starlette", "jinja2", "uvicorn"])
def test_an_installation_without_the_extra_is_told_which_one(store, missing, capsys, monkeypatch):
    ours = ("askonce.gateway.page", "askonce.gateway.admin")
    for name in [name for name in sys.modules if name.startswith(ours) or name.partition(".")[0] == missing]:
        folder, _, leaf = name.rpartition(".")
        if folder and hasattr(sys.modules.get(folder), leaf):
            # A package holds its modules too: later tests would find there those that are imported anew here.
            monkeypatch.setattr(sys.modules[folder], leaf, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["dashboard", "--url", store]) == 1
    assert f"{missing} is not installed: pip install 'askonce[gateway]'" in capsys.readouterr().err


def test_the_browser_is_opened_when_it_is_asked_for(store, monkeypatch):
    from askonce.gateway.page import server

    told: list[str] = []
    monkeypatch.setattr(server.webbrowser, "open", told.append)
    server._tell("a link", told.append, browser=True)
    assert told == ["a link", "a link"]
    server._tell("a link", told.append, browser=False)
    assert len(told) == 3
