from __future__ import annotations

import urllib.request

import pytest

from tests.corpus import interactions


@pytest.mark.servers
@pytest.mark.parametrize("round_", [1, 2])
def test_a_shared_server_is_empty_at_the_beginning_of_each_test(valkey, round_):
    assert valkey.command("DBSIZE") == 0
    valkey.command("SET", "left", "behind")


def test_recorded_traffic_is_replayed_and_counted(corpus_dir, replay_upstream):
    record = next(each for each in interactions(corpus_dir) if each["api"] == "openai.chat" and each["status"] == 200)
    request = urllib.request.Request(
        f"{replay_upstream.url}/h/{record['host']}{record['url_path']}",
        data=record["request_body"].encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200
    assert replay_upstream.calls()["total"] == 1
    replay_upstream.reset()
    assert replay_upstream.calls()["total"] == 0
