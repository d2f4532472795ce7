"""Callers behind a proxy that says from which address each of them calls."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.gateway.asking import ask, configured, was_hit
from tests.gateway.running import Running, Tap

ADDED = {  # by proxies as they are configured in their own guides; {} is the caller's address
    "nginx": {"x-real-ip": "{}", "x-forwarded-for": "{}", "x-forwarded-proto": "https"},
    "Caddy": {"via": "1.1 Caddy", "x-forwarded-for": "{}", "x-forwarded-host": "llm", "x-forwarded-proto": "https"},
    "Traefik": {"x-forwarded-for": "{}", "x-forwarded-port": "443", "x-forwarded-server": "pod-{}", "x-real-ip": "{}"},
    "ALB": {"x-forwarded-for": "{}", "x-forwarded-port": "443", "x-amzn-trace-id": "Root=1-67891233-abcdef{}"},
    "Envoy": {"x-forwarded-for": "{}", "x-request-id": "{}", "x-envoy-expected-rq-timeout-ms": "15000"},
    "HAProxy": {"forwarded": "proto=https;for={}"},
}
EXAMPLE = Path(__file__).parents[2] / "examples/gateway/behind-a-proxy.toml"
RULES = next(
    rule["ignore_headers"] for rule in tomllib.loads(EXAMPLE.read_text("utf-8"))["rule"] if "ignore_headers" in rule
)


@pytest.mark.parametrize("ignored", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_callers_of_one_key_share_answers_through_a_proxy_if_a_rule_leaves_their_addresses_out(tmp_path, ignored):
    text = f"[[rule]]\nignore_headers = {RULES}\n" if ignored else ""
    with Tap() as tap, Running(configured(tmp_path, tap, text)) as running:
        for proxy, headers in ADDED.items():
            hits = [
                was_hit(ask(running, text=proxy, **{name: value.format(at) for name, value in headers.items()}))
                for at in ("10.0.0.1", "10.0.0.2")
            ]
            assert hits == [False, ignored], proxy
    arrived = {name.lower() for heard in tap.heard for name, _ in heard.headers}
    assert {b"x-forwarded-for", b"forwarded", b"x-real-ip"} <= arrived  # it leaves them out of the key alone
