"""One stream and many readers: in this process, in another, and of either module; and its end for each."""

from __future__ import annotations

import asyncio
import time

import httpx
import httpx2
import openai
import pytest

from askonce import AsyncCache, Cache, Policy
from tests.http.streams.talking import SSE, STORY, STREAM, URL, Reading, Talking, chunk, event, wait_until
from tests.took import Took


def clients(place, talking, other, elsewhere):
    """A leader's client and a follower's, perhaps in a place that only the store joins with the first."""
    one = Cache(place)
    two = Cache(place) if elsewhere else one
    return one, two, one.http_client(module=talking.module, inner=talking), two.http_client(module=other)


@pytest.mark.concurrency
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("other", [httpx2, httpx], ids=["httpx2", "httpx"])
def test_who_asks_meanwhile_gets_what_was_said_and_then_each_part_as_it_comes(place, talking, other, elsewhere):
    one, two, leads, follows = clients(place, talking, other, elsewhere)
    with one, two, leads, follows:
        leader = Reading(leads)
        wait_until(lambda: talking.lines)
        talking.line.say(*STORY[:2])
        leader.wait_for(2)
        late = [Reading(follows), Reading(follows)]
        for reader in late:
            reader.wait_for(2)
        talking.line.say(STORY[2])
        for reader in late:
            reader.wait_for(3)
        talking.line.say(*STORY[3:])
        talking.line.ends()
        assert leader.whole() == late[0].whole() == late[1].whole() == STORY
        assert "x-ratelimit-remaining" in leader.headers
        assert all("collapsed" in one.headers["cache-status"] for one in late)
        assert all(one.headers["x-request-id"] == "req_1" for one in late)
        assert "x-ratelimit-remaining" not in late[0].headers
        hit = Reading(follows)
        assert hit.whole() == STORY
        assert hit.headers["cache-status"].startswith("askonce; hit")
    assert len(talking.lines) == 1


@pytest.mark.concurrency
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("other", [httpx2, httpx], ids=["httpx2", "httpx"])
def test_an_upstream_that_breaks_breaks_every_reader_by_his_own_modules_error_and_nothing_is_kept(
    place, talking, other, elsewhere
):
    one, two, leads, follows = clients(place, talking, other, elsewhere)
    with one, two, leads, follows:
        leader = Reading(leads)
        wait_until(lambda: talking.lines)
        talking.line.say(*STORY[:2])
        leader.wait_for(2)
        late = Reading(follows)
        late.wait_for(2)
        broken = talking.module.ReadError("the wire broke")
        talking.line.ends(broken)
        assert leader.whole() == late.whole() == STORY[:2]
        assert leader.error is broken
        assert type(late.error) is (other.RemoteProtocolError if elsewhere else other.ReadError)
        assert late.error.request.url == URL
        assert one.stats().get("stored", 0) == 0


@pytest.mark.concurrency
@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_error_of_upstreams_is_shared_whole_with_those_who_waited_for_the_stream(place, talking, elsewhere):
    talking.status, talking.headers = 429, {"content-type": "application/json", "retry-after": "7"}
    one, two, leads, follows = clients(place, talking, httpx, elsewhere)
    with one, two, leads, follows:
        leader = Reading(leads)
        wait_until(lambda: talking.lines)
        late = Reading(follows)
        wait_until(lambda: two.stats()["waiting"] if elsewhere else one._base._engine.board.flights()[0].followers)
        talking.line.say(b'{"error": {"message": "slow down"}}')
        talking.line.ends()
        assert leader.whole() == late.whole() == (b'{"error": {"message": "slow down"}}',)
        assert leader.status == late.status == 429
        assert late.headers["retry-after"] == "7"
    assert len(talking.lines) == 1


@pytest.mark.concurrency
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_stream_that_opens_says_nothing_and_ends_is_what_who_waited_gets_too(place, talking, elsewhere):
    one, two, leads, follows = clients(place, talking, httpx, elsewhere)
    with one, two, leads, follows:
        leader = Reading(leads)
        wait_until(lambda: talking.lines)
        late = Reading(follows)
        wait_until(lambda: one._base._engine.board.flights()[0].pump.followed if elsewhere else late.status)
        talking.line.ends()
        assert leader.whole() == late.whole() == ()
        assert (late.status, late.error) == (200, None)
        assert late.headers["content-type"] == SSE["content-type"]
        assert "collapsed" in late.headers["cache-status"]
        assert one.stats()["unstored.empty"] == 1
        assert not two.stats().get("call", 0) or not elsewhere
    assert len(talking.lines) == 1


@pytest.mark.concurrency
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_follower_waits_for_a_part_no_longer_than_its_read_timeout(place, talking, elsewhere):
    one, two, leads, follows = clients(place, talking, httpx, elsewhere)
    with one, two, leads, follows:
        leader = Reading(leads)
        wait_until(lambda: talking.lines)
        talking.line.say(STORY[0])
        leader.wait_for(1)
        late = Reading(follows, timeout=0.3)
        late.wait_for(1)
        took = Took()
        late.whole()
        assert isinstance(late.error, httpx.ReadTimeout)
        assert took.wall > 0.1
        assert took.seconds < 0.8
        talking.line.say(*STORY[1:])
        talking.line.ends()
        assert leader.whole() == STORY


@pytest.mark.concurrency
def test_the_sdk_reports_a_stream_that_is_cut_and_whose_it_was(place, talking):
    with (
        Cache(place) as leads,
        Cache(place) as cache,
        leads.http_client(module=talking.module, inner=talking) as client,
        cache.http_client() as http,
    ):
        leader = Reading(client, headers={"authorization": "Bearer k"})
        wait_until(lambda: talking.lines)
        talking.line.say(*STORY[:2])
        leader.wait_for(2)
        sdk = openai.OpenAI(base_url=URL.removesuffix("/chat/completions"), api_key="k", http_client=http)
        stream = sdk.chat.completions.create(**STREAM)
        assert next(stream).choices[0].delta.content == "Once"
        grant = leads._base._engine.board.flights()[0].grant
        assert grant is not None
        talking.line.ends(talking.module.ReadError("gone"))
        leader.whole()
        with pytest.raises(openai.APIConnectionError) as raised:
            list(stream)
        assert isinstance(raised.value.__cause__, httpx2.RemoteProtocolError)
        assert grant.id.hex() in str(raised.value.__cause__)


def test_a_stream_with_usage_and_one_without_are_kept_apart(cache, talking):
    talking.tell(*STORY)
    with_usage = {**STREAM, "stream_options": {"include_usage": True}}
    with cache.http_client(module=talking.module, inner=talking) as client:
        keys = [client.post(URL, json=body).headers["cache-status"].split("key=")[1] for body in (STREAM, with_usage)]
        assert keys[0] != keys[1]
        said = [client.post(URL, json=body).headers["cache-status"] for body in (STREAM, with_usage)]
    assert all(one.startswith("askonce; hit") for one in said)
    assert len(talking.lines) == 2


def test_a_plain_stream_and_the_answer_in_one_piece_are_one_question_in_two_forms(cache, talking):
    talking.tell(*STORY)
    with cache.http_client(module=talking.module, inner=talking) as client, cache.watch() as statuses:
        client.post(URL, json=STREAM)
        talking.tell(b"{}").headers = {"content-type": "application/json"}
        assert client.post(URL, json={**STREAM, "stream": False}).content == b"{}"
        cache.invalidate(key=statuses[0].key)
        assert len({one.key for one in statuses}) == 1
        talking.tell(*STORY).headers = SSE
        assert not client.post(URL, json=STREAM).headers["cache-status"].startswith("askonce; hit")


def test_a_stored_stream_is_replayed_at_the_pace_it_came_if_that_is_wanted(module):
    talking = Talking(module)
    with (
        Cache("memory://", replay="paced", replay_speed=2.0) as cache,
        cache.http_client(module=module, inner=talking) as client,
    ):
        leader = Reading(client)
        wait_until(lambda: talking.lines)
        for part in STORY:
            time.sleep(0.04)
            talking.line.say(part)
        talking.line.ends()
        assert leader.whole() == STORY
        took = Took()
        assert Reading(client).whole() == STORY
        assert took.wall >= 0.08
        assert took.seconds < 1


def test_store_if_is_given_the_events(module, talking):
    talking.tell(*STORY)
    seen = []

    def wanted(events):
        seen.append(events)
        return False

    with Cache("memory://") as cache:
        with cache.http_client(module=module, inner=talking, store_if=wanted) as client:
            client.post(URL, json=STREAM)
        assert cache.stats()["unstored.store-if"] == 1
    assert [choice["delta"].get("content") for one in seen[0] for choice in one["choices"]][:2] == ["Once", " upon"]


@pytest.mark.concurrency
async def test_tasks_share_a_stream_and_leave_nothing_behind(module):
    talking = Talking(module)
    async with AsyncCache("memory://") as cache, cache.http_client(module=module, inner=talking) as client:

        async def read():
            async with client.stream("POST", URL, json=STREAM) as response:
                return tuple([part async for part in response.aiter_bytes()])

        readers = [asyncio.create_task(read()) for _ in range(10)]
        await asyncio.to_thread(wait_until, lambda: talking.lines)
        for part in STORY:
            talking.line.say(part)
            await asyncio.sleep(0.005)
        talking.line.ends()
        assert await asyncio.gather(*readers) == [STORY] * 10
        assert await read() == STORY
        assert len(talking.lines) == 1
        assert talking.line.closed.is_set()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.concurrency
async def test_tasks_are_not_slowed_by_one_who_does_not_read_and_upstream_is_held_back_when_nobody_does(module):
    talking = Talking(module)
    many = [chunk(f" {n}") for n in range(1000)]
    async with (
        AsyncCache("memory://", policy=Policy(on_abandon="close")) as cache,
        cache.http_client(module=module, inner=talking) as client,
        client.stream("POST", URL, json=STREAM) as slow,
    ):
        parts = slow.aiter_bytes()
        talking.line.say(*many, event(b"[DONE]"))
        talking.line.ends()
        await anext(parts)
        await asyncio.sleep(0.1)
        assert talking.line.read < 300
        async with client.stream("POST", URL, json=STREAM) as quick:
            assert len([part async for part in quick.aiter_bytes()]) == 1001
        assert len([part async for part in parts]) == 1000
