"""``askonce why``: keys, requests on standard input, and the list of misses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from askonce import Cache

ASKED: dict[str, Any] = {
    "model": "gpt-4.1-mini",
    "temperature": 0.5,
    "messages": [{"role": "user", "content": "Hi 1."}],
}
ANSWER = {"choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}]}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'a.db'}"


@pytest.fixture
def keys(url: str) -> list[str]:
    """The keys of two questions that differ in a number."""
    with Cache(url) as cache:
        first = cache.fetch(ASKED, lambda: ANSWER, tags=["doc:42"]).key
        second = cache.fetch(other("Hi 2."), lambda: ANSWER, scope="support").key
    return [first, second]


def other(text: str) -> dict[str, Any]:
    return {**ASKED, "messages": [{"role": "user", "content": text}]}


def row(out: str) -> dict[str, str]:
    head, line = out.splitlines()
    return dict(zip(head.split("\t"), line.split("\t"), strict=True))


def asked(monkeypatch: pytest.MonkeyPatch, request: object) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))


def test_the_beginning_of_a_key_is_explained_in_one_line(askonce, url: str, keys: list[str]) -> None:
    said = askonce("why", keys[1][:10], "--url", url)
    assert said.code == 0
    told = row(said.out)
    assert (told["reason"], told["key"], told["nearest"]) == ("near", keys[1], keys[0])
    assert (told["field"], told["kind"]) == ("scope", "extra")


def test_a_key_whose_answer_is_gone_is_found_by_its_note(askonce, url: str, keys: list[str]) -> None:
    with Cache(url) as cache:
        cache.invalidate(tag="doc:42")
        cache.sweep()
    told = json.loads(askonce("why", keys[0][:10], "--url", url, "--json").out)
    assert (told["reason"], told["by"]) == ("invalidated", "tag doc:42")


def test_a_request_on_standard_input_is_explained_without_asking(
    askonce, url: str, keys: list[str], monkeypatch
) -> None:
    asked(monkeypatch, {name: value for name, value in other("Hi 3.").items() if name != "model"})
    told = row(askonce("why", "-", "--model", "gpt-4.1-mini", "--url", url).out)
    assert (told["field"], told["kind"], told["nearest"]) == ("messages[0].content", "digits", keys[0])
    asked(monkeypatch, other("Hi 2."))
    assert row(askonce("why", "-", "--scope", "support", "--url", url).out)["reason"] == "hit"
    asked(monkeypatch, other("Hi 2."))
    assert row(askonce("why", "-", "--tenant", "other", "--url", url).out)["reason"] == "never-seen"


def test_a_request_that_an_http_client_sends_is_explained_by_its_url_and_headers(
    askonce, url: str, monkeypatch
) -> None:
    httpx2 = pytest.importorskip("httpx2")
    to, header = "https://api.openai.com/v1/chat/completions", "authorization: Bearer sk-one"
    with Cache(url) as cache:
        client = cache.http_client(
            module=httpx2, inner=httpx2.MockTransport(lambda sent: httpx2.Response(200, json=ANSWER, request=sent))
        )
        client.post(to, json=ASKED, headers={"authorization": "Bearer sk-one"})
    asked(monkeypatch, {**ASKED, "temperature": 1})
    assert row(askonce("why", "-", "--to", to, "--header", header, "--url", url).out)["field"] == "temperature"
    asked(monkeypatch, ASKED)
    assert row(askonce("why", "-", "--to", to, "--header", header, "--url", url).out)["reason"] == "hit"
    asked(monkeypatch, ASKED)
    assert row(askonce("why", "-", "--to", to, "--header", header + "2", "--url", url).out)["reason"] == "never-seen"


def test_without_a_key_the_last_misses_are_listed(askonce, url: str, keys: list[str]) -> None:
    head, *rows = askonce("why", "--url", url).out.splitlines()
    assert head.split("\t")[:3] == ["at", "model", "scope"]
    assert [one.split("\t")[6] for one in rows] == keys[::-1]
    assert len(askonce("why", "--url", url, "--limit", "1").out.splitlines()) == 2
    assert [one["key"] for one in json.loads(askonce("why", "--url", url, "--json").out)] == keys[::-1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["0" * 64], 1, ""),
        (["00ff"], 1, "no key begins with 00ff"),
        (["xyz"], 2, "is not a key"),
        (["-", "--header", "a: b"], 2, "--to"),
        (["-", "--to", "https://x/y", "--header", "nothing"], 2, "is not a header"),
        (["abc", "--model", "m"], 2, "--model needs -"),
        (["--scope", "a"], 2, "--scope needs -"),
    ],
)
def test_what_cannot_be_explained_says_what_to_do(
    askonce, url: str, keys: list[str], monkeypatch, words: list[str], code: int, says: str
) -> None:
    assert keys
    asked(monkeypatch, ASKED)
    said = askonce("why", *words, "--url", url)
    assert said.code == code
    assert says in said.err
    assert said.err.count("\n") <= 1


def test_what_is_no_json_is_an_error_of_one_line(askonce, url: str, keys: list[str], monkeypatch) -> None:
    assert keys
    monkeypatch.setattr(sys, "stdin", io.StringIO("{"))
    said = askonce("why", "-", "--url", url)
    assert (said.code, "is not JSON" in said.err) == (2, True)


@pytest.mark.waits
def test_a_script_that_ends_without_closing_its_cache_has_noted_its_misses(askonce, url: str) -> None:
    script = f"from askonce import Cache; cache = Cache({url!r}); cache.fetch({{'model': 'm', 'a': 1}}, lambda: 1)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert len(askonce("why", "--url", url).out.splitlines()) == 2
