"""The wrapper of the tutorial from which this project starts, as printed there, with types."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

import redis

r: Any = redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

PREFIX = "llm:v3:"  # bump on every prompt-template change -> mass-invalidate
DEFAULT_TTL = 60 * 60 * 24  # 24h
HOT_TTL = 60 * 60 * 6  # hot keys live 6h sliding
HOT_THRESHOLD = 10  # seen this many times in 1h -> hot


def _key(messages: list[dict[str, Any]], model: str) -> str:
    blob = json.dumps({"model": model, "messages": messages}, sort_keys=True)
    h = hashlib.sha256(blob.encode()).hexdigest()[:32]
    return f"{PREFIX}{model}:{h}"


def get_or_set(
    messages: list[dict[str, Any]], model: str, call_fn: Callable[[], Any], ttl: int = DEFAULT_TTL
) -> dict[str, Any]:
    key = _key(messages, model)

    cached = r.get(key)
    if cached:
        r.expire(key, HOT_TTL)  # sliding window on hits
        return json.loads(cached)  # type: ignore[no-any-return]

    # Stale-while-revalidate: only one worker calls the API at a time
    lock_key = f"{key}:lock"
    if r.set(lock_key, "1", nx=True, ex=10):
        try:
            result = call_fn()
            r.set(key, json.dumps(result), ex=ttl)
            r.incr(f"{key}:hits", 1)
            return result  # type: ignore[no-any-return]
        finally:
            r.delete(lock_key)
    else:
        time.sleep(0.1)
        return get_or_set(messages, model, call_fn, ttl)
