"""The tutorial's wiring with the real SDKs inside `call_fn`, on recorded interactions, in 4 processes, twice.

The requests are chat completions, Responses and messages of other people's programs. What may be kept is paid once by
all processes together. A request with tools passes; an answer that calls a tool, or was cut, is returned and never
kept. Every caller gets what the SDK alone gives.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.corpus import interactions
from tests.fixtures import place_of
from tests.siblings import siblings
from tests.tutorial.asker import Asking

pytestmark = pytest.mark.concurrency

ENDS = {"openai.chat": "/chat/completions", "openai.responses": "/responses", "anthropic.messages": "/v1/messages"}
WHOLE = {"stop", "end_turn", "stop_sequence", "completed"}
STATEFUL = ("previous_response_id", "conversation", "background", "thread")
MODES = ("threads", "tasks", "threads", "tasks")
ROUNDS = 2
MOST = 200
WANTED = {"keep": 50, "cut": 6, "tools": 17}  # of MOST, of each operation, as far as there are so many


def kind_of(record: dict[str, Any], body: dict[str, Any]) -> str:
    """What should become of a recorded interaction, by what its recorder says of it."""
    if any(body.get(name) for name in STATEFUL):
        return ""
    if record["has_tools"]:
        return "tools"
    ends = set((record["finish_reason"] or "").split("|"))
    if ends & {"length", "max_tokens", "incomplete", "max_output_tokens"}:
        return "cut"
    return "keep" if ends and ends <= WHOLE and not record["has_tool_calls_in_response"] else ""


@pytest.fixture(scope="module", params=[MOST // 5, pytest.param(MOST, marks=pytest.mark.slow)])
def chosen(corpus_dir, request):
    """So many interactions: {id: record}, with their body and what should become of them."""
    records = list(interactions(corpus_dir))
    times = Counter(record["request_key"] for record in records)
    found: dict[str, dict[str, Any]] = {}
    wanted = {kind: -(-number * request.param // MOST) for kind, number in WANTED.items()}
    room = Counter({(api, kind): number for api in ENDS for kind, number in wanted.items()})
    for record in records:
        end = ENDS.get(record["api"], "?")
        one = record["status"] == 200 and not record["stream"] and times[record["request_key"]] == 1
        named = "<" not in record["host"]  # a region was removed from its name: no URL
        if not (one and named and record["url_path"].endswith(end)):
            continue
        body = json.loads(record["request_body"])
        kind = kind_of(record, body)
        if kind and room[record["api"], kind] and len(found) < request.param:
            room[record["api"], kind] -= 1
            names = {"id": record["id"], "host": record["host"], "path": record["url_path"], "end": end, "kind": kind}
            found[record["id"]] = {**names, "body": body}
    return found


@pytest.fixture(scope="module")
def askers(chosen, _session_replay, tmp_path_factory):
    """Four processes, ready."""
    file = tmp_path_factory.mktemp("recorded") / "records.json"
    file.write_text(json.dumps(list(chosen.values())), "utf-8")
    settings = [json.dumps({"upstream": _session_replay.url, "mode": mode, "records": str(file)}) for mode in MODES]
    with siblings("tests.tutorial.asker", [[one] for one in settings]) as made:
        for process in made:
            assert process.stdout.readline() == "ready\n"
        yield made


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("valkey", marks=[pytest.mark.servers, pytest.mark.slow])])
def test_recorded_traffic_is_paid_once_and_what_may_not_be_kept_is_not(
    kind, request, tmp_path, askers, chosen, replay_upstream
):
    place = place_of(kind, request, tmp_path)
    assert len(chosen) in {MOST // 5, MOST}
    alone = Asking(replay_upstream.url, asynchronous=False)
    expected = {name: json.dumps(alone.call(record)(), sort_keys=True) for name, record in chosen.items()}
    replay_upstream.reset()
    rounds = []
    for _ in range(ROUNDS):
        for process in askers:
            process.stdin.write(f"{place}\n")
            process.stdin.flush()
        rounds.append([answer for process in askers for answer in json.loads(process.stdout.readline())])
    paid = replay_upstream.calls()["by_id"]
    troubled: Counter[str] = (
        Counter()
    )  # lookups that a machine too busy for a store's patience sent upstream and reported
    for number, answers in enumerate(rounds):
        assert len(answers) == len(chosen) * len(MODES)
        for name, value, *statuses in answers:
            assert value == expected[name], name
            (status,) = statuses
            troubled[name] += "store-" in status
            kind = chosen[name]["kind"]
            assert (" hit" in status) <= (kind == "keep"), (name, status)
            assert ("fwd=bypass; " in status) == (kind == "tools"), (name, status)
            assert number == 0 or kind != "keep" or " hit" in status or troubled[name], (name, status)
    for name, record in chosen.items():
        if record["kind"] == "keep":
            assert 1 <= paid[name] <= 1 + troubled[name], name
        elif record["kind"] == "tools":
            assert paid[name] == ROUNDS * len(MODES), name
        else:
            assert ROUNDS <= paid[name] <= ROUNDS * len(MODES), name
    assert troubled.total() <= 0.01 * ROUNDS * len(chosen) * len(MODES), troubled
