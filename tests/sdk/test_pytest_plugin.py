"""The pytest plugin: recorded once, replayed without a call, and a miss that names itself."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import openai
import pytest

from askonce.recording import Recording
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
        without = [f"-pno:{name}" for name in ("cacheprovider", "asyncio", "hypothesispytest", "anyio")]
        return pytester.runpytest_inprocess(*plugin, *without, *arguments)

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
        ["askonce: 1 request(s) of this test are not recorded in *askonce-recorded.db", "*nothing is recorded there*"]
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
            "    the nearest that is recorded differs in 2 field(s):",
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


def test_the_ini_file_may_say_the_mode(run, provider, pytester):
    pytester.makeini("[pytest]\naskonce = record\n")
    run(GREETS).assert_outcomes(passed=1)
    assert len(provider.requests) == 1
    pytester.makeini("[pytest]\naskonce = often\n")
    run(GREETS).assert_outcomes(errors=1)


def test_a_neighbour_is_the_one_that_differs_in_fewest_fields(tmp_path):
    recording = Recording(tmp_path / "a.db", "replay")
    assert recording.told() == ""
    asked = {"asked": "fetch", "body": {"a": 1, "b": [1, 2, {"c": "x" * 99}], "d": {}}}
    recording._keep("1", {"asked": "fetch", "body": {"a": 9, "b": [1, 2, {"c": "x" * 99}], "d": {}}})
    recording._keep("2", {"asked": "fetch", "body": {"a": 1, "b": [1, 3, {"c": "y"}]}})
    recording.misses.append(asked)
    told = recording.told()
    assert "differs in 1 field(s)" in told
    assert "body.a: 9 recorded, 1 asked" in told
    recording.misses.append({"asked": "fetch", "body": {"a": 1, "b": [1, 3, {"c": "x" * 99}]}})
    assert f"body.b[2].c: 'y' recorded, '{'x' * 56}... asked" in recording.told()
