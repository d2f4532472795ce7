"""Paths that servers read in different ways: none leads out of an upstream's base path, and none leaves a rule."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce.gateway.paths import climbs
from tests.gateway.asking import configured
from tests.gateway.running import Running, Tap, answer, raw_call, request, serving

GEMINI = b'{"candidates":[{"content":{"parts":[{"text":"yes"}],"role":"model"},"finishReason":"STOP","index":0}]}'

# Readings of a path by servers that exist. Each returns its steps.
READINGS = {
    "as it is": lambda path: path.split("/"),
    "escapes first": lambda path: unquote(path).split("/"),
    "escapes twice": lambda path: unquote(unquote(path)).split("/"),
    "escapes of a step": lambda path: [unquote(step) for step in path.split("/")],
    "backslashes": lambda path: re.split(r"[/\\]", unquote(path)),
    "parameters cut": lambda path: unquote(re.sub(";[^/]*", "", path)).split("/"),
    "escapes, then parameters cut": lambda path: re.sub(";[^/]*", "", unquote(path)).split("/"),
    "no empty steps": lambda path: [step for step in unquote(path).split("/") if step],
    "the end at a NUL": lambda path: [step.partition("\0")[0] for step in unquote(path).split("/")],
}


def leads_out(steps: list[str]) -> bool:
    """Whether these steps lead above where they begin, by RFC 3986 or a file system."""
    depth = 0
    for step in steps:
        if step == "..":
            depth -= 1
        elif step not in {"", "."}:
            depth += 1
        if depth < 0:
            return True
    return False


PIECES = st.sampled_from(
    [
        *("/", "/", "/", "..", "..", ".", "a", "v1", "%2e", "%2E%2e", ".%2e", "%252e%252e", "%2f", "%2F", "%5c", "\\"),
        *(";", ";x=1", "%3b", "%00", "chat", "...", "..a", "%", "%2"),
    ]
)


@given(st.lists(PIECES, max_size=9).map("".join))
def test_a_path_that_any_server_reads_as_one_above_its_beginning_climbs(path):
    path = f"/{path}"
    for name, reading in READINGS.items():
        if leads_out(reading(path)):
            assert climbs(path), name


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: ".." not in text), max_size=5))
def test_steps_without_dots_do_not_climb(steps):
    assert not climbs("/" + "/".join(quote(step, safe="") for step in steps))


OUT = [
    *("/../admin", "/%2e%2e/admin", "/v1/../../admin", "/v1/%2E./.%2e/x", "/..%2fadmin", "/v1%2f../../x", "/..;/x"),
    *(
        "/..\\x",
        "/%2e%2e%5cx",
        "/v1//../../x",
        "/;x/../y",
        "/%252e%252e/x",
        "/v1/./../../x",
        "/..%00/x",
        "/..?x",
        "/..",
    ),
]


def test_a_path_that_leads_out_of_its_upstream_is_refused_and_goes_nowhere():
    with Tap() as tap, serving(f"/one={tap.url}/base/one", f"/two={tap.url}/two") as running:
        for path in OUT:
            came = raw_call(running.port, request(b"{}", path=f"/one{path}", headers=("Authorization: Bearer sk-1",)))
            assert came.startswith(b"HTTP/1.1 400"), path
            assert b"path_outside" in came
        assert tap.heard == []
        assert raw_call(running.port, request(path="/one/v1/x/../y..z/a%2Fb", method="GET")).startswith(b"HTTP/1.1 200")
    assert [heard.line.split()[1] for heard in tap.heard] == [b"/base/one/v1/x/../y..z/a%2Fb"]


NAMES = ["gemini-2.0", "%67emini-2.0", "gemini%2D2.0", "%67%65%6d%69%6e%69%2d%32.0"]


@pytest.mark.parametrize(
    "glob", ["/v1beta/models/gemini-2*", pytest.param("/v1beta/models/gemini%2D2*", marks=pytest.mark.slow)]
)
def test_another_spelling_of_a_path_leaves_no_rule(tmp_path, glob):
    body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]}).encode()
    with Tap(lambda _: answer(GEMINI)) as tap:
        config = configured(tmp_path, tap, f"[[rule]]\npath = '{glob}'\nmode = 'off'\n")
        with Running(config) as running:
            for name in NAMES:
                path = f"/v1beta/models/{name}:generateContent"
                came = raw_call(running.port, request(body, path=path, headers=("x-goog-api-key: k",)))
                assert b"detail=rule-off" in came, name
            other = raw_call(running.port, request(body, path="/v1beta/models/gemini-1.5:generateContent"))
    assert b"fwd=miss" in other
    assert [heard.line.split()[1].decode() for heard in tap.heard[:-1]] == [
        f"/v1beta/models/{name}:generateContent" for name in NAMES
    ]
