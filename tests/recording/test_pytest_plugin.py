"""The pytest plugin: recorded once, replayed without a call, and a miss that names itself."""

from __future__ import annotations

import contextlib
import textwrap
from importlib.metadata import entry_points
from typing import Any

import openai
import pytest

from askonce.errors import NotCached
from askonce.recording.caches import RecordedCache, Recording
from askonce.testing import Provider

pytest_plugins = ["pytester"]

INSTALLED = any(one.name == "askonce" for one in entry_points(group="pytest11"))
SUITE = """
import asyncio
import httpx2
import openai
import pytest

def client(cache, **more):
    return openai.OpenAI(base_url="{url}", api_key="k", http_client=cache.http_client(), max_retries=0, **more)

def ask(cache, text="hi", **more):
    messages = [{{"role": "user", "content": text}}]
    with client(cache) as sdk:
        return sdk.chat.completions.create(model="gpt-4.1-mini", messages=messages, **more)

{tests}
"""


# Each would be imported anew by every pytest inside: that takes longer than to run its tests.
OTHERS = ("asyncio", "hypothesispytest", "anyio", "langsmith_plugin", "playwright", "schemathesis")
WITHOUT = [f"-pno:{name}" for name in ("cacheprovider", *OTHERS)]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """The SDK imported here, to its last corner: or every pytest inside would import it anew."""
    import askonce.pytest_plugin  # noqa: F401

    with Provider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as sdk:
        sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        sdk.responses.create(model="m", input="hi")
        sdk.embeddings.create(model="m", input="hi")
        with pytest.raises(openai.NotFoundError):
            sdk.models.list()


@pytest.fixture
def run(pytester: pytest.Pytester, provider: Any) -> Any:
    """Runs a suite, with an argument or two, in a pytest of its own."""

    def run(tests: str, *arguments: str) -> Any:
        pytester.makepyfile(test_suite=SUITE.format(url=provider.openai_url, tests=tests))
        plugin = [] if INSTALLED else ["-p", "askonce.pytest_plugin"]
        return pytester.runpytest_inprocess(*plugin, *WITHOUT, *arguments)

    return run


GREETS = """
def test_it_greets(askonce_cache):
    assert "hi" in ask(askonce_cache).choices[0].message.content
"""


def test_what_was_recorded_once_is_replayed_without_a_call(run, provider, pytester):
    run(GREETS, "--askonce=record").assert_outcomes(passed=1)
    assert len(provider.requests) == 1
    assert (pytester.path / "askonce-recorded.db").exists()
    run(GREETS, "--askonce=record").assert_outcomes(passed=1)
    run(GREETS).assert_outcomes(passed=1)
    run(GREETS, "--askonce=replay").assert_outcomes(passed=1)
    assert len(provider.requests) == 1


def test_without_a_recording_nothing_is_called_and_the_test_fails(run, provider):
    result = run(GREETS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "askonce: 1 request(s) of this test are not recorded in *askonce-recorded.db",
            "*no similar request is recorded*",
        ]
    )
    assert len(provider.requests) == 0


def test_a_miss_names_the_request_and_how_it_differs_from_its_nearest_neighbour(run, provider):
    tests = """
def test_one(askonce_cache):
    ask(askonce_cache, "a long question about the weather")
    ask(askonce_cache, "hi", seed=1)
"""
    run(tests, "--askonce=record").assert_outcomes(passed=1)
    result = run(tests.replace("seed=1", "seed=2, temperature=0"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "  POST http://127.0.0.1:*/v1/chat/completions model=gpt-4.1-mini",
            "    the most similar recorded request differs in 2 field(s):",
            "      body.seed: 1 recorded, 2 asked",
            "      body.temperature: nothing recorded, 0 asked",
            "  to record what is missing: pytest --askonce=record",
        ]
    )
    assert len(provider.requests) == 2


def test_a_miss_that_the_program_swallows_fails_its_test_all_the_same(run):
    tests = """
def test_it_does_not_care(askonce_cache):
    try:
        ask(askonce_cache)
    except openai.APIError:
        pass

def test_another(askonce_cache):
    pass
"""
    run(tests).assert_outcomes(passed=1, failed=1)


def test_tool_calls_cut_answers_and_errors_of_the_request_are_recorded_and_those_of_the_moment_are_not(run, provider):
    provider.script("cut", "truncated")
    provider.script("tool", "tool_call")
    provider.script("bad", 400)
    tests = """
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]

def test_all(askonce_cache):
    assert ask(askonce_cache, "cut", max_tokens=5).choices[0].finish_reason == "length"
    assert ask(askonce_cache, "tool", tools=TOOLS).choices[0].message.tool_calls
    with pytest.raises(openai.BadRequestError):
        ask(askonce_cache, "bad")
"""
    run(tests, "--askonce=record").assert_outcomes(passed=1)
    assert len(provider.requests) == 3
    run(tests).assert_outcomes(passed=1)
    assert len(provider.requests) == 3
    provider.script("limited", 429)
    limited = """
def test_limited(askonce_cache):
    with pytest.raises(openai.RateLimitError):
        ask(askonce_cache, "limited")
"""
    run(limited, "--askonce=record").assert_outcomes(passed=1)
    run(limited).assert_outcomes(failed=1)


def test_lifetimes_directives_and_credentials_of_the_program_do_not_matter(run, provider):
    tests = """
def test_it(askonce_cache):
    with askonce_cache.scoped(ttl=0, control="no-cache", tenant="me"), askonce_cache.http_client(ttl=0) as http:
        sdk = openai.OpenAI(base_url="URL", api_key="KEY", http_client=http, organization="ORG")
        sdk.embeddings.create(model="m", input=["a", "b"], extra_headers={"cache-control": "no-cache"})
""".replace("URL", provider.openai_url)
    run(tests, "--askonce=record").assert_outcomes(passed=1)
    run(tests.replace("KEY", "none").replace("ORG", "other")).assert_outcomes(passed=1)
    assert len(provider.requests) == 1


def test_what_cannot_be_recorded_is_not_sent_in_replay(run, provider):
    tests = """
def test_models(askonce_cache):
    with client(askonce_cache) as sdk, pytest.raises(openai.InternalServerError):
        sdk.models.list()
"""
    result = run(tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["  GET http://127.0.0.1:*/v1/models", "    cannot be recorded: *"])
    assert len(provider.requests) == 0


def test_fetch_is_recorded_too(run):
    tests = """
calls = []

def answer():
    calls.append(1)
    return {"a": len(calls)}

def test_fetch(askonce_cache):
    request = {"model": "m", "tools": [{"type": "function", "function": {"name": "f"}}]}
    assert askonce_cache.fetch(request, answer).value == {"a": 1}
    assert calls == CALLS
"""
    run(tests.replace("CALLS", "[1]"), "--askonce=record").assert_outcomes(passed=1)
    run(tests.replace("CALLS", "[]")).assert_outcomes(passed=1)


def test_async_code_has_a_cache_of_its_own(run, provider):
    tests = """
def test_it(askonce_async_cache):
    async def main():
        async with askonce_async_cache.http_client() as http:
            sdk = openai.AsyncOpenAI(base_url="URL", api_key="k", http_client=http)
            answer = await sdk.responses.create(model="gpt-4.1-mini", input="hi")
            assert "hi" in answer.output_text
    asyncio.run(main())
""".replace("URL", provider.openai_url)
    run(tests, "--askonce=record").assert_outcomes(passed=1)
    run(tests).assert_outcomes(passed=1)
    assert len(provider.requests) == 1


def test_off_calls_upstream_and_records_nothing(run, provider, pytester):
    for _ in range(2):
        run(GREETS, "--askonce=off").assert_outcomes(passed=1)
    assert len(provider.requests) == 2
    assert not (pytester.path / "askonce-recorded.db").exists()


def test_the_ini_file_may_say_that_recordings_are_compressed_and_encrypted(run, provider, pytester, monkeypatch):
    monkeypatch.setenv("ASKONCE_KEYS", f"ours={bytes(32).hex()}")
    pytester.makeini("[pytest]\naskonce_compress = zstd\naskonce_encryption = true\n")
    run(GREETS, "--askonce=record").assert_outcomes(passed=1)
    assert b"chat.completion" not in (pytester.path / "askonce-recorded.db").read_bytes()
    run(GREETS).assert_outcomes(passed=1)
    assert len(provider.requests) == 1
    monkeypatch.delenv("ASKONCE_KEYS")
    run(GREETS).assert_outcomes(errors=1)


def test_the_ini_file_may_say_the_mode(run, provider, pytester):
    pytester.makeini("[pytest]\naskonce = record\n")
    run(GREETS).assert_outcomes(passed=1)
    assert len(provider.requests) == 1
    pytester.makeini("[pytest]\naskonce = often\n")
    run(GREETS).assert_outcomes(errors=1)


def test_a_neighbour_is_the_one_that_differs_in_fewest_fields(tmp_path):
    def asked(mode: str, *requests: Any) -> str:
        recording = Recording(tmp_path / "a.db", mode)
        assert recording.told() == ""
        with RecordedCache(recording) as cache:
            for request in requests:
                with contextlib.suppress(NotCached):
                    cache.fetch(request, lambda: 1)
        return recording.told()

    one, other = {"a": 9, "b": [1, 2, {"c": "x" * 99}], "d": {}}, {"a": 1, "b": [1, 3, {"c": "y"}]}
    assert asked("record", one, other) == ""
    told = asked("replay", {"a": 1, "b": [1, 2, {"c": "x" * 99}], "d": {}})
    assert "differs in 1 field(s)" in told
    assert "body.a: 9 recorded, 1 asked" in told
    told = asked("replay", {"a": 1, "b": [1, 3, {"c": "x" * 99}]})
    assert f"body.b[2].c: 'y' recorded, '{'x' * 56}... asked" in told


# --- many kinds of tests, recorded and replayed -----------------------------------------------------------------------

UPSTREAM = """
import itertools
import json
from pathlib import Path

import httpx2
import openai
import pytest

CALLS = Path(__file__).with_name("calls.txt")
FINISH = {"cut": "length", "filter": "content_filter"}
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]
BUSY = itertools.count()


def choice(asked, number):
    message = {"role": "assistant", "content": f"{asked} {number}"}
    if asked == "tool":
        call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}
    if asked == "refuse":
        message |= {"content": None, "refusal": "no"}
    if asked == "empty":
        message["content"] = ""
    finish = "tool_calls" if asked == "tool" else FINISH.get(asked, "stop")
    return {"index": 0, "finish_reason": finish}, message


def said(request):
    with CALLS.open("a") as file:
        file.write("x")
    body = json.loads(request.read())
    if request.url.path.endswith("/embeddings"):
        if body["input"] == "too long":
            return httpx2.Response(400, json={"error": {"message": "too long"}})
        data = [{"object": "embedding", "index": at, "embedding": [0.5]} for at, _ in enumerate(body["input"])]
        return httpx2.Response(200, json={"object": "list", "data": data, "model": "e", "usage": {}})
    asked = body["messages"][-1]["content"]
    if asked == "bad":
        return httpx2.Response(400, json={"error": {"message": "bad", "type": "invalid_request_error"}})
    if asked == "limited" or (asked == "busy" and next(BUSY) == 0):
        return httpx2.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after-ms": "1"})
    if asked == "drop":
        raise httpx2.ConnectError("no route")
    head, message = choice(asked, len(CALLS.read_text()))
    if not body.get("stream"):
        made = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        return httpx2.Response(200, json={**made, "choices": [{**head, "message": message}]})
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [{**chunk, "choices": [{**head, "delta": message}]}, "[DONE]"]
    if asked == "break":
        events = [{**chunk, "choices": [{"index": 0, "finish_reason": None, "delta": message}]}]
    text = "".join(f"data: {one if one == '[DONE]' else json.dumps(one)}\\n\\n" for one in events)
    return httpx2.Response(200, content=text.encode(), headers={"content-type": "text/event-stream"})


@pytest.fixture
def sdk(askonce_cache):
    http = askonce_cache.http_client(module=httpx2, inner=httpx2.MockTransport(said))
    with openai.OpenAI(base_url="https://llm.example.com/v1", api_key="k", http_client=http, max_retries=2) as sdk:
        yield sdk


def ask(sdk, text, **more):
    return sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": text}], **more)


def listened(sdk, text, **more):
    with ask(sdk, text, stream=True, **more) as stream:
        return list(stream)


"""
KINDS = """
def test_json(sdk):
    assert ask(sdk, "plain").choices[0].message.content.startswith("plain ")

def test_stream(sdk):
    assert listened(sdk, "plain")[0].choices[0].delta.content.startswith("plain ")

def test_json_cut(sdk):
    assert ask(sdk, "cut", max_tokens=5).choices[0].finish_reason == "length"

def test_stream_cut(sdk):
    assert listened(sdk, "cut", max_tokens=5)[-1].choices[0].finish_reason == "length"

def test_json_tool(sdk):
    assert ask(sdk, "tool", tools=TOOLS).choices[0].message.tool_calls

def test_stream_tool(sdk):
    assert listened(sdk, "tool", tools=TOOLS)[0].choices[0].delta.tool_calls

def test_json_refused(sdk):
    assert ask(sdk, "refuse").choices[0].message.refusal == "no"

def test_stream_refused(sdk):
    assert listened(sdk, "refuse")[0].choices[0].delta.refusal == "no"

def test_stream_filtered(sdk):
    assert listened(sdk, "filter")[0].choices[0].finish_reason == "content_filter"

def test_json_empty(sdk):
    assert ask(sdk, "empty").choices[0].message.content == ""

def test_stream_empty(sdk):
    assert listened(sdk, "empty")[0].choices[0].delta.content == ""

def test_json_bad(sdk):
    with pytest.raises(openai.BadRequestError):
        ask(sdk, "bad")

def test_stream_bad(sdk):
    with pytest.raises(openai.BadRequestError):
        listened(sdk, "bad")

def test_batch(sdk):
    assert len(sdk.embeddings.create(model="e", input=["a", "b"]).data) == 2

def test_batch_bad(sdk):
    with pytest.raises(openai.BadRequestError):
        sdk.embeddings.create(model="e", input="too long")

def test_polling(sdk):
    said = [ask(sdk, "status").choices[0].message.content for _ in range(3)]
    said += [listened(sdk, "status")[0].choices[0].delta.content for _ in range(2)]
    assert said == sorted(said, key=lambda one: int(one.split()[1]))
    assert len(set(said)) == 5

def test_left_early(sdk):
    with ask(sdk, "left", stream=True) as stream:
        assert next(iter(stream)).choices[0].delta.content.startswith("left ")

def test_tried_again(sdk):
    assert ask(sdk, "busy").choices[0].message.content.startswith("busy ")

def test_conversation(sdk):
    first = ask(sdk, "hello").choices[0].message
    more = [{"role": "user", "content": "hello"}, first, {"role": "user", "content": "and?"}]
    assert sdk.chat.completions.create(model="m", messages=more).choices[0].message.content.startswith("and? ")

def test_fetch(askonce_cache):
    request = {"model": "m", "tools": TOOLS, "previous_response_id": "1"}
    assert askonce_cache.fetch(request, lambda: said_once("fetch")).value == "fetch"

def test_fetch_of_an_answer_that_no_cache_keeps(askonce_cache):
    head, message = choice("tool", 1)
    answer = {"object": "chat.completion", "choices": [{**head, "message": message}]}
    assert askonce_cache.fetch({"q": 1}, lambda: said_once(answer)).value == answer

def test_items(askonce_cache):
    assert list(askonce_cache.fetch_stream({"q": 1}, lambda: iter([said_once("a"), None, {"finish_reason": "length"}])))

def test_no_items(askonce_cache):
    assert list(askonce_cache.fetch_stream({"q": 2}, lambda: iter([]))) == []

def test_get_or_set(askonce_cache):
    assert askonce_cache.get_or_set([{"role": "user", "content": "x"}], "m", lambda: said_once(""), tools=TOOLS) == ""

def said_once(answer):
    with CALLS.open("a") as file:
        file.write("x")
    return answer
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Any:
    """Runs a suite over an upstream in process; the calls so far are in calls.txt."""

    def suite(tests: str, *arguments: str) -> Any:
        (pytester.path / "calls.txt").touch()
        pytester.makepyfile(test_suite=UPSTREAM + tests)
        plugin = [] if INSTALLED else ["-p", "askonce.pytest_plugin"]
        return pytester.runpytest_inprocess(*plugin, *WITHOUT, *arguments)

    return suite


def calls(pytester: pytest.Pytester) -> int:
    return len((pytester.path / "calls.txt").read_text())


def test_whatever_a_test_hears_when_it_is_recorded_it_hears_in_replay(suite, pytester):
    number = KINDS.count("def test_")
    assert number >= 20
    result = suite(KINDS, "--askonce=record")
    result.assert_outcomes(passed=number)
    result.stdout.no_fnmatch_line("*not recorded*")
    paid = calls(pytester)
    for _ in range(2):
        suite(KINDS).assert_outcomes(passed=number)
    suite(KINDS, "-k", "polling or left_early or stream_bad").assert_outcomes(passed=3, deselected=number - 3)
    assert calls(pytester) == paid


def test_what_could_not_be_recorded_is_said_when_it_is_recorded(suite, pytester):
    tests = """
def test_limited(sdk):
    with pytest.raises(openai.RateLimitError):
        ask(sdk, "limited")

def test_dropped(sdk):
    with pytest.raises(openai.APIConnectionError):
        ask(sdk.with_options(max_retries=0), "drop")

def test_broken(sdk):
    listened(sdk, "break")

def test_unknown(sdk):
    with pytest.raises(openai.APIError):
        sdk.post("/assistants", cast_to=object, body={"messages": [{"content": "limited"}]})

def test_raises(askonce_cache):
    with pytest.raises(ZeroDivisionError):
        askonce_cache.fetch({"q": 1}, lambda: 1 / 0)

def test_is_no_json(askonce_cache):
    assert askonce_cache.fetch({"q": 2}, lambda: {1, 2}).value == {1, 2}
    assert list(askonce_cache.fetch_stream({"q": 3}, lambda: iter([{1}]))) == [{1}]

def test_fine(sdk):
    ask(sdk, "plain")
"""
    result = suite(tests, "--askonce=record")
    result.assert_outcomes(passed=7)
    result.stdout.fnmatch_lines(
        [
            "*= askonce: not recorded =*",
            "test_suite.py::test_limited: POST https://llm.example.com/v1/chat/completions model=m: *status 429*",
            "test_suite.py::test_dropped: POST https://llm.example.com/v1/chat/completions model=m: the call failed: unreachable",
            "test_suite.py::test_broken: POST * (a stream) model=m: its stream was cut",
            "test_suite.py::test_unknown: POST https://llm.example.com/v1/assistants: askonce does not know this operation*",
            "test_suite.py::test_raises: fetch: the call failed: ZeroDivisionError",
            "test_suite.py::test_is_no_json: fetch: its answer is not JSON",
            "test_suite.py::test_is_no_json: fetch (a stream): its answer is not JSON",
        ]
    )
    result.stdout.no_fnmatch_line("*test_fine:*")
    suite(tests).assert_outcomes(failed=6, passed=1)


WIDER = """
@pytest.fixture(scope="SCOPE")
def shared(askonce_SCOPE_cache):
    with askonce_SCOPE_cache.http_client(module=httpx2, inner=httpx2.MockTransport(said)) as http:
        sdk = openai.OpenAI(base_url="https://llm.example.com/v1", api_key="k", http_client=http, max_retries=0)
        yield sdk, ask(sdk, "index").choices[0].message.content

class TestOne:
    def test_a(self, shared):
        assert shared[1].startswith("index ")
        assert ask(shared[0], "index").choices[0].message.content.startswith("index ")

    def test_b(self, shared, sdk):
        assert ask(shared[0], "index").choices[0].message.content.startswith("index ")
        assert ask(sdk, "plain")

def test_c(shared):
    assert ask(shared[0], "c").choices[0].message.content.startswith("c ")
"""


@pytest.mark.parametrize("scope", ["class", "module", "package", "session"])
def test_fixtures_of_wider_scopes_are_recorded_and_replayed_whichever_tests_are_run(suite, pytester, scope):
    tests = WIDER.replace("SCOPE", scope)
    suite(tests, "--askonce=record").assert_outcomes(passed=3)
    paid = calls(pytester)
    assert (pytester.path / "askonce-recorded.db").exists()
    suite(tests).assert_outcomes(passed=3)
    for one in ("test_a", "test_b", "test_c"):
        suite(tests, "-k", one).assert_outcomes(passed=1, deselected=2)
    assert calls(pytester) == paid
    changed = tests.replace('"c")', '"d")').replace("c ", "d ")
    result = suite(changed)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*body.messages?0?.content: 'c' recorded, 'd' asked"])


def test_a_shared_fixture_that_asks_for_its_cache_itself_counts_by_itself_too(suite):
    asks = "shared(askonce_session_cache):\n    "
    late = "shared(request):\n    askonce_session_cache = request.getfixturevalue('askonce_session_cache')\n    "
    tests = WIDER.replace("SCOPE", "session").replace(asks, late)
    assert late in tests
    suite(tests, "--askonce=record").assert_outcomes(passed=3)
    suite(tests, "-k", "test_b").assert_outcomes(passed=1, deselected=2)


def test_a_miss_while_a_shared_fixture_is_made_is_the_error_of_the_test_that_it_is_made_for(suite):
    result = suite(WIDER.replace("SCOPE", "session"), "-k", "test_c")
    result.assert_outcomes(errors=1, deselected=2)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_c*", "askonce: 1 request(s) of this test are not recorded*"])


def test_each_scope_has_its_file_where_it_is_looked_for(pytester):
    pytester.makeini("[pytest]\n")
    tests = """
        def test_one(askonce_cache, askonce_class_cache, askonce_module_cache, askonce_package_cache,
                     askonce_session_cache, askonce_session_async_cache):
            folder = {name: cache._base._engine.store.recording.path.parent.name for name, cache in locals().items()}
            assert folder["askonce_cache"] == folder["askonce_module_cache"] == folder["askonce_class_cache"] == "below"
            assert folder["askonce_package_cache"] == folder["askonce_session_cache"] == "ROOT"
            assert folder["askonce_session_async_cache"] == "ROOT"
    """
    below = pytester.mkpydir("package").joinpath("below")
    below.mkdir()
    (below / "__init__.py").touch()
    code = textwrap.dedent(tests).replace("ROOT", pytester.path.name)
    (below / "test_one.py").write_text(code)
    plugin = [] if INSTALLED else ["-p", "askonce.pytest_plugin"]
    pytester.runpytest_inprocess(*plugin, *WITHOUT).assert_outcomes(passed=1)


@pytest.mark.slow
def test_workers_of_xdist_record_into_one_file_and_replay_it(suite, pytester):
    pytest.importorskip("xdist")
    number = KINDS.count("def test_")
    noted = (
        KINDS
        + "\ndef test_limited(sdk):\n    with pytest.raises(openai.RateLimitError):\n        ask(sdk, 'limited')\n"
    )
    result = suite(noted, "--askonce=record", "-n2")
    result.assert_outcomes(passed=number + 1)
    result.stdout.fnmatch_lines(["*= askonce: not recorded =*", "*test_limited: POST *status 429*"])
    paid = calls(pytester)
    result = suite(noted, "-n2")
    result.assert_outcomes(passed=number, failed=1)
    assert calls(pytester) == paid
