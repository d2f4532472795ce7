"""One line a request: always one, always whole, and never a word of what was said."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import askonce
from askonce.events import Status
from askonce.metrics import request_log
from askonce.metrics.request_log import RequestLog
from tests.metrics.test_prometheus import Named
from tests.profiles import examples
from tests.took import Took

COLUMNS = ["time", "key", "outcome", "detail", "model", "tenant", "status", "seconds", "bytes", "tokens_saved"]
SAID = {
    "choices": [{"message": {"role": "assistant", "content": "an answer of some words"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
}


def asked(model="gpt", content="a prompt of some words"):
    return {"model": model, "messages": [{"role": "user", "content": content}]}


def lines_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def cache():
    with askonce.Cache("memory://") as made:
        yield made


def test_a_lookup_is_a_line_that_says_how_it_ended_and_nothing_of_what_was_said(cache):
    stream = io.StringIO()
    stop = askonce.request_log(cache, stream)
    paid = cache.fetch(asked(), lambda: SAID, tenant="acme")
    cache.fetch(asked(), lambda: SAID, tenant="acme")
    stop()
    cache.fetch(asked(), lambda: SAID)
    miss, hit = lines_of(stream)
    assert list(miss) == list(hit) == COLUMNS
    assert (miss["outcome"], hit["outcome"]) == ("miss", "hit")
    assert miss["key"] == hit["key"] == paid.key
    assert (hit["model"], hit["tenant"], hit["status"]) == ("gpt", "acme", None)
    assert hit["bytes"] == len(json.dumps(SAID, separators=(",", ":")))
    assert (miss["tokens_saved"], hit["tokens_saved"]) == (None, 42)
    assert 0 < hit["seconds"] < 30
    assert hit["time"].endswith("Z")
    assert "words" not in stream.getvalue()


@given(st.text(), st.text(), st.text())
@settings(max_examples=examples(100), deadline=None)
def test_whatever_is_in_a_name_a_line_is_one_line_of_ascii_and_of_json(model, tenant, detail):
    stream = io.StringIO()
    log = RequestLog(stream)
    log.looked_up("miss", Status("", fwd="miss", detail=detail), Named(model, tenant), None)
    log.looked_up("miss", Status("", fwd="miss", detail="\x85\u2028\x1b[2J\x7f\ud800"), Named("\r\n", "\0"), None)
    assert len(stream.getvalue().splitlines()) == 2
    assert stream.getvalue().isascii()
    assert all(list(line) == COLUMNS for line in lines_of(stream))


def test_a_key_that_somebody_calls_a_tenant_or_a_model_is_not_written():
    stream = io.StringIO()
    secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD"
    RequestLog(stream).looked_up("hit", Status("", hit=True), Named(secret, f"Bearer {secret}"), None)
    assert secret not in stream.getvalue()


def test_a_request_with_several_lookups_is_one_line(cache):
    stream = io.StringIO()
    log = RequestLog(stream)
    stop = cache._base.events.observe(log)
    cache.fetch(asked(content="1"), lambda: SAID)
    with log.request() as record:
        cache.fetch(asked(content="1"), lambda: SAID)
        cache.fetch(asked(content="2"), lambda: SAID)
        record.status, record.bytes = 200, 7
    stop()
    (_, line) = lines_of(stream)
    assert (line["outcome"], line["detail"], line["key"]) == ("miss", "hits-1-of-2", "")
    assert (line["status"], line["bytes"]) == (200, 7)


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(text)


def test_a_stream_that_breaks_is_told_once_and_no_caller_notices(cache, caplog):
    askonce.request_log(cache, Broken())
    for _ in range(3):
        assert cache.fetch(asked(), lambda: SAID).value == SAID
    assert [one.levelname for one in caplog.records] == ["WARNING"]


def read_all(pipe: int) -> bytes:
    """What waits in a pipe."""
    found = b""
    while select.select([pipe], [], [], 0)[0]:
        found += os.read(pipe, 65_536)
    return found


@pytest.fixture
def full():
    """Both ends of a pipe that is full, and whose writer would wait, as for a stopped terminal."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    rescue = threading.Timer(10, read_all, [reader])
    rescue.start()
    with os.fdopen(writer, "w", encoding="ascii") as stream:
        yield reader, stream
    rescue.cancel()
    os.close(reader)


def test_a_pipe_that_nobody_reads_holds_up_no_caller_and_gets_lines_again_when_it_is_read(cache, full, caplog):
    reader, stream = full
    askonce.request_log(cache, stream)
    took = Took()
    for number in range(100):
        assert cache.fetch(asked(content=f"{number}"), lambda: SAID).value == SAID
    assert took.seconds < 100 * request_log.PATIENCE / 4  # only the first has waited
    read_all(reader)
    cache.fetch(asked(content="read again"), lambda: SAID)
    assert json.loads(read_all(reader))["outcome"] == "miss"
    assert [one.getMessage() for one in caplog.records] == [
        "the request log is not read: lines are left out until it is"
    ]


def test_lines_go_to_stderr_unless_told_and_only_of_a_cache(cache, capsys):
    askonce.request_log(cache)
    cache.fetch(asked(), lambda: SAID)
    assert json.loads(capsys.readouterr().err)["outcome"] == "miss"
    with pytest.raises(askonce.UsageError, match="give a Cache"):
        askonce.request_log(sys.stdout)
