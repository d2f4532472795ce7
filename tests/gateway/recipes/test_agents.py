"""Coding agents behind a gateway: their requests arrive upstream as without it, and only what may be is answered."""

from __future__ import annotations

import itertools
from dataclasses import replace

import anthropic
import openai
import pytest

from askonce.gateway.config import load
from tests.gateway.running import Running, config_of

HEADERS = {"x-app": "cli", "user-agent": "claude-cli/2.1.0 (external, cli)"}
BETAS = ["claude-code-20250219", "interleaved-thinking-2025-05-14", "fine-grained-tool-streaming-2025-05-14"]
READ = {
    "name": "Read",
    "description": "Reads a file.",
    "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
}
SHELL = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False}


def turn(client, *, tools=(), task="Say what this project is."):
    """One turn of Claude Code: a stream of the beta messages API, with markers for the provider's prompt cache."""
    mark = {"cache_control": {"type": "ephemeral"}}
    with client.beta.messages.stream(
        model="claude-opus-4-6",
        max_tokens=32000,
        betas=BETAS,
        system=[{"type": "text", "text": "You are an agent."}, {"type": "text", "text": "The project.", **mark}],
        messages=[{"role": "user", "content": [{"type": "text", "text": task, **mark}]}],
        metadata={"user_id": "user_0123_account__session_4567"},
        extra_headers=HEADERS,
        **({"tools": list(tools)} if tools else {}),
    ) as stream:
        return stream.get_final_text()


def codex_turn(client, *, tools=()):
    """One turn of Codex: a stream of the Responses API that the provider does not keep."""
    stream = client.responses.create(
        model="gpt-5.1-codex",
        instructions="You are an agent.",
        input=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Say what this is."}]}],
        stream=True,
        store=False,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="0190-session",
        extra_headers={"originator": "codex_cli_rs", "session_id": "0190-session"},
        **({"tools": list(tools), "tool_choice": "auto", "parallel_tool_calls": False} if tools else {}),
    )
    return "".join(event.delta for event in stream if event.type == "response.output_text.delta")


def claude(url):
    return anthropic.Anthropic(base_url=url, api_key="key-of-a-test", max_retries=0)


def codex(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="key-of-a-test", max_retries=0)


AGENTS = [
    pytest.param(claude, turn, READ, id="claude-code"),
    pytest.param(codex, codex_turn, SHELL, id="codex", marks=pytest.mark.slow),
]
_numbers = itertools.count()


def running(provider, toml="", tmp_path=None):
    config = config_of(provider.url, store_prefix=f"agents-{next(_numbers)}")
    if toml:
        (tmp_path / "rules.toml").write_text(toml)
        rules = load(tmp_path / "rules.toml", {}, {"upstream": [provider.url]}).rules
        config = replace(config, rules=rules)
    return Running(config)


def sent(request):
    """What a server sees of a request, without what names its own host and connection."""
    own = {"host", "connection", "accept-encoding"}
    return request.method, request.target, request.body, {
        name: value for name, value in request.headers.items() if name not in own
    }  # fmt: skip


@pytest.mark.parametrize(("client", "turn", "tool"), AGENTS)
def test_a_turn_with_tools_passes_and_arrives_as_without_a_gateway(provider, client, turn, tool):
    with client(provider.url) as direct:
        said = turn(direct, tools=[tool])
    with running(provider) as gateway, client(gateway.url) as agent:
        assert [turn(agent, tools=[tool]) for _ in range(2)] == [said] * 2
    without, *through = provider.requests
    assert [sent(one) for one in through] == [sent(without)] * 2


@pytest.mark.parametrize(("client", "turn", "tool"), AGENTS)
def test_a_turn_without_tools_is_answered_from_the_cache(provider, client, turn, tool):
    with running(provider) as gateway, client(gateway.url) as agent:
        assert turn(agent) == turn(agent)
    assert provider.calls == 1


@pytest.mark.parametrize(("client", "turn", "tool"), AGENTS)
def test_a_rule_may_say_that_turns_with_tools_are_answered_too(provider, client, turn, tool, tmp_path):
    with running(provider, '[[rule]]\ntool_calls = "store"\n', tmp_path) as gateway, client(gateway.url) as agent:
        assert turn(agent, tools=[tool]) == turn(agent, tools=[tool])
    assert provider.calls == 1


def test_what_an_agent_asks_beside_its_turns_passes(provider):
    with running(provider) as gateway, claude(gateway.url) as agent, pytest.raises(anthropic.NotFoundError):
        agent.messages.count_tokens(model="claude-opus-4-6", messages=[{"role": "user", "content": "How much?"}])
