"""An upstream that knows its credentials, and callers that ask it through a gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from askonce.gateway.config import GatewayConfig, load
from tests.gateway.running import CLIENT, JSON, Heard, Running, Tap, answer

DENIED = b'{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}'


@dataclass
class Provider:
    """It answers the good keys, each call with another text."""

    good: set[str] = field(default_factory=lambda: {"sk-a", "sk-b"})
    down: bool = False
    calls: int = 0

    def __call__(self, heard: Heard) -> bytes:
        if self.down:
            return answer(b'{"error":{"message":"down"}}', "503 Service Unavailable")
        headers = {name.lower(): value.decode() for name, value in heard.headers}
        key = headers.get(b"authorization", "").removeprefix("Bearer ") or headers.get(b"x-api-key", "")
        if key not in self.good:
            return answer(DENIED, "401 Unauthorized", {"x-request-id": "req_1"})
        self.calls += 1
        return answer(JSON.replace(b'"yes"', f'"answer {self.calls}"'.encode()))


def configured(tmp_path: Any, tap: Tap, text: str, store: str = "memory://") -> GatewayConfig:
    path = tmp_path / "askonce.toml"
    path.write_text(f"[server]\nport = 0\n[store]\nurl = '{store}'\n[[upstream]]\nurl = '{tap.url}'\n{text}", "utf-8")
    return load(path)


def ask(
    running: Running,
    key: str | None = "sk-a",
    text: str = "hi",
    *,
    model: str = "gpt-4o",
    path: str = "/v1/chat/completions",
    more: Mapping[str, object] | None = None,
    **headers: str,
) -> httpx2.Response:
    """Ask one question. Names of headers are written with underscores."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        said["authorization"] = f"Bearer {key}"
    body = {"model": model, "messages": [{"role": "user", "content": text}], **(more or {})}
    return CLIENT.post(running.url + path, content=json.dumps(body), headers=said, timeout=20)


def told(response: httpx2.Response) -> str:
    """What the answer says."""
    found: str = response.json()["choices"][0]["message"]["content"]
    return found


def was_hit(response: httpx2.Response) -> bool:
    return "hit" in response.headers.get("cache-status", "").split("; ")
