"""What a gateway shows of its callers: no prompt, no answer, no credential, in any line, name or page."""

from __future__ import annotations

import json
import logging

import httpx2
import pytest

from tests.gateway.asking import Provider, ask, configured
from tests.gateway.running import CLIENT, JSON, Heard, Running, Tap, answer, raw_call, request
from tests.support import opened_file

PROMPT, ANSWER = "what-i-ask-in-confidence", "what-i-am-told-in-confidence"
KEYS = ["sk-verysecret-1", "sk-verysecret-2", "sk-verysecret-bad"]
SECRETS = [PROMPT, ANSWER, *KEYS, "session-secret", "eyJhbGciOi"]
TOKEN = "admin-0123456789abcdef"


def says(heard: Heard) -> bytes:
    if PROMPT.encode() not in heard.body:
        return answer(b"{}")
    if b"broken" in heard.body:
        return b""
    if b"odd" in heard.body:
        return answer(b"{" + ANSWER.encode(), "500 Oh")
    denied = Provider(set(KEYS[:2]))(heard)
    return answer(JSON.replace(b"yes", ANSWER.encode())) if b"200 OK" in denied[:20] else denied


def callers(running: Running) -> list[httpx2.Response]:
    """Every way in which a caller can be answered."""
    found = []
    for key in KEYS:
        for more in ({}, {"stream": True}, {"tools": [{"type": "function", "function": {"name": PROMPT}}]}):
            found += [ask(running, key, PROMPT, more=more) for _ in range(2)]
        for text in ("broken", "odd"):
            found.append(ask(running, key, f"{PROMPT} {text}"))
        said: tuple[dict[str, str], ...] = (
            {"askonce_ttl": KEYS[0]},
            {"askonce_mode": KEYS[0]},
            {"askonce_scope": "a//b"},
            {"askonce_unknown": KEYS[0]},
            {"cookie": "s=session-secret"},
            {"x_team": KEYS[0]},
            {"cache_control": "only-if-cached"},
        )
        for headers in said:
            found.append(ask(running, key, f"{PROMPT} {headers}", **headers))  # type: ignore[arg-type]
        found.append(ask(running, None, PROMPT, authorization=f"Bearer eyJhbGciOi.e30.{key}"))
        url = f"{running.url}/v1/chat/completions?key={key}"
        found.append(
            CLIENT.post(url, content=json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}]}))
        )
    return found


@pytest.mark.parametrize("tenants", ["[tenants]\nby = 'shared'\n", pytest.param("", marks=pytest.mark.slow)])
def test_lines_names_and_pages_hold_nothing_that_callers_said_or_were_told(tmp_path, caplog, capfd, tenants):
    caplog.set_level(logging.DEBUG)
    store = tmp_path / "a.db"
    with Tap(says) as tap:
        text = f"{tenants}[admin]\ntoken = '{TOKEN}'\n[log]\nlevel = 'debug'\nrequests = true\n"
        with Running(configured(tmp_path, tap, text, f"sqlite:///{store}")) as running:
            shown = [repr(one.headers) for one in callers(running)]
            hostile = (
                request(b"{}", path=f"/_askonce/{KEYS[0]}"),
                request(b"{}", path=f"/v1/{KEYS[0]}#x"),
                f"GET /{KEYS[0]} HTTP/1.1\r\nAuthorization: Bearer {KEYS[0]}\r\n\r\n".encode(),
                f"NO{KEYS[0]} / HTTP/1.1\r\n\r\n".encode(),
            )
            shown += [raw_call(running.port, data).decode("latin-1") for data in hostile]
            for page in ("metrics", "api/stats", "api/entries", "api/flights"):
                answered = CLIENT.get(f"{running.url}/_askonce/{page}", headers={"authorization": f"Bearer {TOKEN}"})
                assert answered.status_code == 200, page
                shown.append(answered.text)
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]  # the callers'
    lines = [record.getMessage() + str(record.__dict__.get("exc_text") or "") for record in records]
    assert lines
    written = capfd.readouterr()
    for secret in SECRETS:
        for where in (*lines, *shown, written.out, written.err):
            assert secret not in where, f"{secret} in {where[:300]}"
        assert TOKEN not in "".join(lines)
    with opened_file(store) as rows:
        names = rows.execute("select * from sqlite_master").fetchall()
        tables = [name for kind, name, *_ in names if kind == "table"]
        for table in tables:
            for row in rows.execute(f"select * from {table}"):
                said = b" ".join(one if isinstance(one, bytes) else str(one).encode() for one in row)
                for secret in (PROMPT, *KEYS, "session-secret"):
                    assert secret.encode() not in said, table
