"""ls, show and sweep: the contents of a store, seen and reclaimed from a shell; and the same from Python."""

import json

import pytest

from askonce import AsyncCache, Cache
from tests.fixtures import place_of

STORY = [{"word": "once"}, {"word": "upon"}]


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def url(request, tmp_path):
    return place_of(request.param, request, tmp_path)


@pytest.fixture
def filled(url):
    """Six answers of two scopes and one stream under llm:v4, one of them invalidated; three under llm:v3."""
    with Cache(url, prefix="llm:v4") as cache, Cache(url, prefix="llm:v3") as old:
        for number in range(6):
            scope = "support/triage" if number % 2 else "billing"
            cache.fetch({"model": "m", "n": number}, lambda: {"answer": "é"}, scope=scope, tags=[f"doc:{number}"])
        list(cache.fetch_stream({"model": "s"}, lambda: iter(STORY)))
        for number in range(3):
            old.fetch({"n": number}, lambda: {"old": True})
        cache.invalidate(tag="doc:5")
    return url


def listed(askonce, url, *more):
    said = askonce("ls", "--url", url, "--prefix", "llm:v4", "--json", *more)
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_ls_lists_what_can_still_be_served(askonce, filled):
    entries = listed(askonce, filled)
    assert len(entries) == 6
    assert {one["state"] for one in entries} == {"fresh"}
    assert len(listed(askonce, filled, "--dead")) == 7
    assert [one["form"] for one in listed(askonce, filled, "--model", "s")] == ["s"]


def test_ls_narrows_by_scope_tag_and_model_and_stops_at_its_limit(askonce, filled):
    assert {one["scope"] for one in listed(askonce, filled, "--scope", "support")} == {"support/triage"}
    assert not listed(askonce, filled, "--scope", "supp")
    assert len(listed(askonce, filled, "--tag", "doc:2")) == 1
    assert len(listed(askonce, filled, "--limit", "2")) == 2


def test_ls_for_people_is_a_line_an_entry(askonce, filled):
    said = askonce("ls", "--url", filled, "--prefix", "llm:v4", "--tag", "doc:2")
    heading, line = said.out.strip().splitlines()
    assert heading.split()[:3] == ["key", "form", "state"]
    assert "billing" in line
    assert "no such entries" in askonce("ls", "--url", filled, "--prefix", "nobody").err


def test_show_tells_all_of_one_answer(askonce, filled):
    (entry,) = listed(askonce, filled, "--tag", "doc:1")
    said = askonce("show", entry["key"], "--url", filled, "--prefix", "llm:v4")
    assert '"answer": "é"' in said.out
    assert "support/triage" in said.out
    (stream,) = listed(askonce, filled, "--model", "s")
    shown = json.loads(askonce("show", stream["key"], "--url", filled, "--prefix", "llm:v4", "--json").out)
    assert shown[0]["body"] == "".join(json.dumps(item, separators=(",", ":")) for item in STORY)


def test_show_of_a_key_that_is_not_there_or_none_at_all_says_what_to_do(askonce, filled):
    missing = askonce("show", "0" * 64, "--url", filled)
    assert (missing.code, "ls --full" in missing.err) == (1, True)
    wrong = askonce("show", "nonsense", "--url", filled)
    assert (wrong.code, "64 hex digits" in wrong.err) == (2, True)


def test_sweep_reclaims_what_was_invalidated_and_nothing_else(askonce, filled):
    said = askonce("sweep", "--url", filled, "--prefix", "llm:v4", "--json")
    assert json.loads(said.out) == {"prefix": "llm:v4", "met": 7, "deleted": 1, "old_prefixes": {}}
    assert len(listed(askonce, filled, "--dead")) == 6
    assert json.loads(askonce("sweep", "--url", filled, "--prefix", "llm:v4", "--json").out)["deleted"] == 0


def test_sweep_takes_an_old_prefix_away_and_refuses_the_one_in_use(askonce, filled):
    said = askonce("sweep", "--url", filled, "--prefix", "llm:v4", "--old-prefix", "llm:v3", "--json")
    assert json.loads(said.out)["old_prefixes"]["llm:v3"] >= 3
    assert "no such entries" in askonce("ls", "--url", filled, "--prefix", "llm:v3").err
    refused = askonce("sweep", "--url", filled, "--prefix", "llm:v4", "--old-prefix", "llm:v4")
    assert (refused.code, "in use" in refused.err) == (2, True)
    assert len(listed(askonce, filled)) == 6


def test_the_same_from_python(filled):
    with Cache(filled, prefix="llm:v4") as cache:
        assert sum(entry.live for entry in cache.entries()) == 6
        assert cache.sweep() == 1
        assert sum(1 for _ in cache.entries()) == 6


async def test_the_same_from_a_loop(filled):
    async with AsyncCache(filled, prefix="llm:v4") as cache:
        assert len([entry async for entry in cache.entries()]) == 7
        assert await cache.sweep() == 1
