"""One process of the test of a fleet: it asks a random mix of questions, and writes down what each answer told.

worker.py STORE PROVIDER SEED COUNT RESULT
"""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2

from askonce import Cache, Policy
from tests.patience import with_files

MODELS = ("gpt-9-mini", "gpt-9", "claude-9")
TEXTS = [f"question number {number:03}" for number in range(12)]
INPUTS = [f"text to embed {number:03}" for number in range(8)]
BAD = "refused question", "failing question", "truncated question"
POLICY = Policy(ttl=0.4, grace=60.0, stale_if_error=60.0, max_age=120.0)
PRICES = {"gpt-9*": {"input": 2, "output": 10}, "claude-*": {"input": 3, "output": 15}}
CHAT, MESSAGES, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"


def drawn(dice: random.Random) -> tuple[str, dict[str, Any]]:
    """A path and a body."""
    text = dice.choice(BAD) if dice.random() < 0.15 else dice.choice(TEXTS)
    turns = [{"role": "user", "content": text}]
    kind = dice.randrange(6)
    if kind == 0:
        return EMBEDDINGS, {"model": "embed-9", "input": dice.sample(INPUTS, dice.randint(1, 4))}
    if kind == 1:
        return RESPONSES, {"model": "gpt-9", "input": text}
    if kind == 2:
        return MESSAGES, {"model": "claude-9", "max_tokens": 99, "messages": turns, "stream": dice.random() < 0.5}
    body: dict[str, Any] = {"model": dice.choice(MODELS[:2]), "messages": turns}
    if kind == 3:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return CHAT, body


def tokens_of(path: str, body: dict[str, Any], response: httpx2.Response) -> int:
    """The tokens of the answer that a caller got, in and out."""
    if response.status_code != 200:
        return 0
    if path == EMBEDDINGS:
        return sum((len(text) + 2) // 4 + 1 for text in body["input"])
    usages = [value.get("usage") or (value.get("message") or {}).get("usage") or {} for value in objects(response.text)]
    counts: dict[str, int] = {}
    for usage in usages:
        counts |= {name: count for name, count in usage.items() if isinstance(count, int)}
    return sum(count for name, count in counts.items() if name.endswith("_tokens") and not name.startswith("total"))


def objects(text: str) -> list[dict[str, Any]]:
    """The objects of an answer, or of the events of a stream."""
    if not text.lstrip().startswith(("data:", "event:")):
        return [json.loads(text)]
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line.startswith("{")]


def main() -> None:
    with_files()
    store, provider, seed, count, result = sys.argv[1:]
    told: list[int] = []

    def ask(client: httpx2.Client, dice: random.Random) -> None:
        for _ in range(int(count)):
            path, body = drawn(dice)
            response = client.post(provider + path, json=body, headers={"authorization": "Bearer sk-test"})
            told.append(tokens_of(path, body, response))

    patient: dict[str, Any] = {"socket_timeout": 10.0} if store.startswith("redis") else {}
    cache = Cache(store, policy=POLICY, prices=PRICES, **patient)
    with cache.http_client(timeout=60) as client, cache:  # the cache ends first: it waits for refreshes under way
        dice = [random.Random(f"{seed} {number}") for number in range(3)]
        threads = [threading.Thread(target=ask, args=(client, one)) for one in dice]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    Path(result).write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()
