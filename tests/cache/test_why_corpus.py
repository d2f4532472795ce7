"""`why` on recorded traffic: 200 pairs of requests that differ in one known place, 200 requests of another tenant, and
100 answers that were stored and are gone, on each kind of store.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from askonce import Cache, Policy
from askonce.core.field_digests import step
from askonce.core.policy import resolve
from askonce.core.providers.expected import expected_of
from askonce.core.providers.request import judge_request
from askonce.core.shapes import LONGEST
from tests.changes import changed
from tests.corpus import interactions
from tests.store.keeping import lose

PAIRS = 200
SOME = pytest.mark.parametrize("count", [25, pytest.param(PAIRS, marks=pytest.mark.slow)])
ANSWER = {"id": "x", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}]}  # fmt: skip
ALL = Policy(tool_calls="store", searched="store")
Places = list[tuple[list[str | int], Any]]


def body_of(record: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that was sent; empty if it was none."""
    body = record["request_body"]
    try:
        found = json.loads(body) if isinstance(body, str) else body
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@pytest.fixture(scope="module")
def requests(corpus_dir: Path) -> list[dict[str, Any]]:
    """Recorded requests of several APIs, each once, in an order that is the same in every run."""
    found: dict[str, dict[str, Any]] = {}
    for record in interactions(corpus_dir):
        if body := body_of(record):
            found.setdefault(json.dumps(body, sort_keys=True), body)
    some = list(found.values())
    random.Random(7).shuffle(some)
    return some


def leaves(value: Any, path: list[str | int]) -> Iterator[tuple[list[str | int], Any]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, [*path, name])
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from leaves(one, [*path, at])
    else:
        yield path, value


def named(path: list[str | int]) -> str:
    place = ""
    for one in path:
        place = step(place, one)
    return place


def other(value: Any, draw: random.Random) -> tuple[Any, str]:
    """Another value for a field, and the kind of the difference."""
    if isinstance(value, bool) or value is None:
        return (not value if value is not None else "set"), "value"
    if isinstance(value, int | float):
        return value + draw.randint(1, 9), "digits" if abs(value) >= 10**9 else "value"
    if draw.random() < 0.4 or len(value) > LONGEST:
        return f"{value} (asked {draw.randint(1, 10**6)})", "value"
    if (digit := next((at for at, one in enumerate(value) if one in "0123456789"), None)) is not None:
        return value[:digit] + str((int(value[digit]) + 1) % 10) + value[digit + 1 :], "digits"
    if value.strip() and value.swapcase() != value and value.swapcase().casefold() == value.casefold():
        return value.swapcase(), "case"
    return value + "!", "value"


def pairs(requests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str, str]]:
    """A request, the same changed in one place, the name of the place, and how it differs there."""
    draw = random.Random(11)
    for request in requests:
        places = list(leaves(request, []))
        path, value = draw.choice(places)
        new, kind = other(value, draw)
        pair = request, changed(request, path, new)
        if not any(judge_request(one, resolve(ALL)) for one in pair):
            yield *pair, named(path), kind


@SOME
def test_the_changed_place_is_named_in_all_pairs(requests: list[dict[str, Any]], count: int) -> None:
    wrong = []
    for request, new, place, kind in islice(pairs(requests), count):
        with Cache("memory://", policy=ALL) as cache:
            cache.fetch(request, lambda: ANSWER)
            found = cache.fetch(new, lambda: ANSWER).why()
            if (found.reason, found.field, found.kind) != ("near", place, kind):
                wrong.append((place, kind, found))
    assert not wrong, wrong[:5]


@pytest.mark.slow
def test_the_nearest_of_all_recorded_requests_is_the_one_that_was_changed(requests: list[dict[str, Any]]) -> None:
    some = [one for one in pairs(requests) if len(json.dumps(one[0])) < 20_000][:PAIRS]
    with Cache("memory://", policy=ALL) as cache:
        keys = {}
        for request, *_ in some:
            keys[json.dumps(request)] = cache.fetch(request, lambda: ANSWER).key
            cache.why(request)
        named_right = 0
        for request, new, place, kind in some:
            found = cache.why(new)
            if found.reason in {"passed", "hit"}:
                named_right += 1
                continue
            named_right += (found.field, found.kind, found.nearest) == (place, kind, keys[json.dumps(request)])
    assert named_right >= PAIRS - 4, named_right  # a recorded session may hold a request that is nearer still


@SOME
def test_nothing_of_many_requests_is_revealed_to_another_tenant(requests: list[dict[str, Any]], count: int) -> None:
    with Cache("memory://", policy=ALL) as cache:
        ann, bob = cache.scoped(tenant="ann"), cache.scoped(tenant="bob")
        nothing = bob.why({"model": "m", "messages": []})
        for request in requests[:count]:
            ann.fetch(request, lambda: ANSWER)
            found = bob.why(request)
            if found.reason != "passed":
                assert (found.reason, found.sentence, found.nearest) == (nothing.reason, nothing.sentence, "")
        assert ann.why(requests[0]).reason in {"hit", "passed"}


@SOME
def test_the_changed_place_is_named_through_an_http_client(corpus_dir: Path, count: int) -> None:
    draw, wrong, asked = random.Random(3), [], 0
    records = [one for one in interactions(corpus_dir) if one["api"] in {"openai.chat", "openai.responses"}]
    draw.shuffle(records)

    def reply(request: Any) -> Any:
        return httpx2.Response(200, json=ANSWER, request=request)

    for record in records:
        body = body_of(record)
        if not body or body.get("stream") or asked == count:
            continue
        path, value = draw.choice([one for one in leaves(body, []) if isinstance(one[1], str)])
        url = f"https://{record['host']}{record['url_path']}"
        with Cache("memory://", policy=ALL) as cache:
            client = cache.http_client(module=httpx2, inner=httpx2.MockTransport(reply))
            cache.why(client.post(url, json=body))
            new = changed(body, path, f"{value} and more")
            found = cache.why(client.post(url, json=new))
            if found.reason == "passed":
                continue
            asked += 1
            if (found.reason, found.field) != ("near", named(path)):
                wrong.append((named(path), found))
    assert asked == count
    assert not wrong, wrong[:5]


# --- seen and gone -----------------------------------------------------------------------------------------------

CASES = 100
GONE = ("expired", "scope", "tag", "model", "everything", "forget", "evicted", "not-stored", "failed", "replaced")


@pytest.mark.parametrize("count", [20, pytest.param(CASES, marks=pytest.mark.slow)])
def test_what_was_seen_and_is_gone_says_why(place: str, requests: list[dict[str, Any]], count: int) -> None:
    some = [one for one in requests if not judge_request(one, resolve(ALL)) and isinstance(one.get("model"), str)]
    some = [one for one in some if not expected_of(one).json]
    wrong = []
    with Cache(place, prefix="gone", policy=ALL) as cache:
        for at, request in enumerate(some[:count]):
            how = GONE[at % len(GONE)]
            own: dict[str, Any] = {"scope": f"case-{at}/x", "tags": [f"doc:{at}"]}
            reason, by = gone(cache, request, how, own)
            found = [cache.why(request, **own), cache.fetch(request, lambda: ANSWER, **own).why()]
            wrong += [(how, one) for one in found if (one.reason, one.by) != (reason, by)]
    assert not wrong, wrong[:5]


def gone(cache: Cache, request: dict[str, Any], how: str, own: dict[str, Any]) -> tuple[str, str]:
    """Ask, and have the answer go in one way; return the reason and its name."""
    if how == "failed":
        with pytest.raises(RuntimeError):
            cache.fetch(request, failing, **own)
        return "failed", "RuntimeError"
    life: dict[str, Any] = {"ttl": 0.05, "grace": 0.0, "stale_if_error": 0.0} if how == "expired" else {}
    value = "" if how == "not-stored" else ANSWER
    outcome = cache.fetch(request, lambda: value, **own, **life)
    if how == "expired":
        time.sleep(0.06)
        return "expired", ""
    if how == "not-stored":
        return "not-stored", "empty"
    if how == "evicted":
        lose(cache._base.engine().store)
        return "evicted", ""
    if how == "forget":
        outcome.forget()
        return "invalidated", "forget"
    if how == "replaced":  # invalidated, asked again, and then lost
        cache.invalidate(tag=own["tags"][0])
        cache.fetch(request, lambda: ANSWER, **own)
        lose(cache._base.engine().store)
        return "evicted", ""
    ways: dict[str, dict[str, Any]] = {
        "scope": {"scope": own["scope"].partition("/")[0]},
        "tag": {"tag": own["tags"]},
        "model": {"model": request["model"]},
        "everything": {"everything": True},
    }
    cache.invalidate(**ways[how])
    named = {"scope": ways["scope"].get("scope"), "tag": own["tags"][0], "model": request["model"]}
    return "invalidated", f"{how} {named[how]}" if how in named else how


def failing() -> Any:
    raise RuntimeError
