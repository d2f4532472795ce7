"""A cache with `near=`: hits without the server, never older than the limit, whatever happens to what tells it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import askonce
from askonce import AsyncCache, Cache, ConfigError, NotCached, Policy
from askonce.cache import config
from askonce.cache.near import LEAST, size_of
from askonce.runtime import forks
from askonce.store.redis import near as near_cache
from askonce.store.redis.near import LIMIT, RedisNear
from askonce.store.redis.tracking import Tracking
from askonce.testing import ScriptedCall
from askonce.testing.proxy import Proxy
from askonce.testing.servers import Server
from tests.crowd import Crowd, by_turns, eventually
from tests.fixtures import patient
from tests.took import Took

SIZE = "16MB"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Are you near?"}]}
servers = pytest.mark.servers


@pytest.fixture
def cache(crowd: Crowd, valkey: Server) -> Any:
    return crowd.cache(valkey.url, near=SIZE, socket_timeout=5.0)


def detail(crowd: Crowd, cache: Any, call: Any, **own: Any) -> str:
    status = crowd.answer(cache, ASKED, call, **own).status
    return status.detail if status.hit else f"fwd={status.fwd}"


def warmed(crowd: Crowd, cache: Any, call: Any, **own: Any) -> None:
    """Ask until the near cache answers."""
    eventually(lambda: detail(crowd, cache, call, **own) == "near", "a near hit")


# --- what it serves ----------------------------------------------------------------------------------------------


@servers
def test_a_near_hit_sends_nothing_and_counts_like_any_hit(crowd, cache, call, valkey):
    warmed(crowd, cache, call)
    reads = valkey.command("INFO", "commandstats").decode()
    before = int(reads.partition("cmdstat_get:calls=")[2].partition(",")[0])
    stats = cache.stats()
    for _ in range(50):
        warmed(crowd, cache, call)
    after = valkey.command("INFO", "commandstats").decode()
    assert int(after.partition("cmdstat_get:calls=")[2].partition(",")[0]) - before <= 3
    now = cache.stats()
    assert now["hit"] - stats["hit"] >= 50
    assert now["hit.near"] - stats["hit.near"] >= 50
    assert now["near cache"]["state"] == "on"
    assert now["near cache"]["entries"] == 1
    assert 0 < now["near cache"]["bytes"] < now["near cache"]["limit"] == 16_000_000
    assert call.calls == 1


@servers
def test_every_caller_gets_a_copy_of_its_own(crowd, cache, call):
    warmed(crowd, cache, call)
    value = crowd.answer(cache, ASKED, call).value
    value.clear()
    assert crowd.answer(cache, ASKED, call).value


@servers
def test_a_key_that_is_asked_once_is_not_kept(crowd, cache):
    for number in range(20):
        asked = {**ASKED, "seed": number}
        crowd.answer(cache, asked, ScriptedCall())
        crowd.answer(cache, asked, ScriptedCall())
    warmed(crowd, cache, ScriptedCall())
    assert cache.stats()["near cache"]["entries"] == 1


@servers
@pytest.mark.parametrize("own", [{"tenant": "t"}, {"variant": 2}, {"scope": "a/b"}], ids=["tenant", "variant", "scope"])
def test_what_is_another_question_is_one_here_too(crowd, cache, call, own):
    warmed(crowd, cache, call)
    assert detail(crowd, cache, call, **own) == "fwd=miss"


@servers
@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"control": "no-cache"}, "fwd=request"),
        ({"control": "max-age=0"}, "fwd=request"),
        ({"control": "min-fresh=999999999"}, "fwd=request"),
        ({"control": "no-store"}, "fwd=bypass"),
        ({"control": "max-age=100"}, "near"),
        ({"control": "max-stale=100"}, "near"),
        ({"control": "only-if-cached"}, "near"),
        ({"ttl": 10**6}, "near"),
        ({"consistency": "strong"}, ""),
        ({"policy": Policy(consistency="strong")}, ""),
        ({"policy": Policy(consistency="strong"), "consistency": "bounded"}, "near"),
        ({"tags": ["a", "b"]}, "near"),
        ({"tags": ["unheard of"]}, "near"),
    ],
)
def test_a_near_answer_is_judged_like_any_other(crowd, cache, call, own, said):
    warmed(crowd, cache, call)
    if said != "near":
        assert detail(crowd, cache, call, **own) == said
    else:
        warmed(crowd, cache, call, **own)
        assert call.calls == 1


@servers
def test_strong_is_an_option_of_a_cache_a_handle_and_a_header(crowd, valkey, call):
    strong = crowd.cache(patient(valkey), near=SIZE, consistency="strong")
    for _ in range(5):
        crowd.answer(strong, ASKED, call)
    assert detail(crowd, strong, call) == ""
    loose = crowd.cache(valkey.url, near=SIZE, socket_timeout=5.0)
    warmed(crowd, loose, call)
    assert detail(crowd, loose.scoped(consistency="strong"), call) == ""
    assert detail(crowd, strong.scoped(consistency="bounded"), call) == "near"


@servers
def test_an_answer_that_expires_is_not_served_by_a_second_longer(crowd, cache, call):
    own = {"policy": Policy(ttl=1.2, grace=0, jitter=0, stale_if_error=0)}
    took = Took()
    warmed(crowd, cache, call, **own)
    while crowd.answer(cache, ASKED, call, **own).value["id"].endswith("-1"):
        assert took.seconds < 3
    assert took.seconds < 3


@servers
def test_a_hit_near_its_end_offers_to_refresh(crowd, cache):
    slow = ScriptedCall(delay=0.3)
    own = {"policy": Policy(ttl=2, grace=60, jitter=0)}
    crowd.answer(cache, ASKED, slow, **own)
    warmed(crowd, cache, slow, **own)
    eventually(lambda: crowd.answer(cache, ASKED, slow, **own) and slow.calls > 1, "a refresh")
    assert cache.stats()["refresh"] >= 1


@servers
def test_a_key_that_is_hot_by_near_hits_slides(crowd, cache, call):
    own = {"policy": Policy(ttl=3600, hot_ttl=7200, max_age=10**6, hot_threshold=5, hot_window=3600)}
    warmed(crowd, cache, call, **own)
    for _ in range(20):
        crowd.answer(cache, ASKED, call, **own)
    eventually(lambda: crowd.answer(cache, ASKED, call, **own).status.ttl > 3600, "a longer life")
    warmed(crowd, cache, call, **own)
    assert crowd.answer(cache, ASKED, call, **own).status.ttl > 3600


@servers
def test_streams_and_http_are_served_from_near(valkey):
    def upstream(request: httpx.Request) -> httpx.Response:
        body = {"id": "x", "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "near"}}]}  # fmt: skip
        return httpx.Response(200, json=body, request=request)

    with Cache(patient(valkey), near=SIZE) as cache:
        client = cache.http_client(module=httpx, inner=httpx.MockTransport(upstream))

        def ask(**headers: str) -> str:
            url = "https://api.openai.com/v1/chat/completions"
            reply = client.post(url, json=ASKED, headers={"authorization": "Bearer k", **headers})
            return str(reply.headers["cache-status"])

        eventually(lambda: "detail=near" in ask(), "a near hit over HTTP")
        assert "detail=near" not in (said := ask(**{"askonce-consistency": "strong"}))
        assert "hit" in said
        stream = lambda: cache.fetch_stream({"s": 1}, lambda: iter(["a", "b"]))  # noqa: E731
        assert list(stream()) == ["a", "b"]

        def streamed() -> bool:
            one = stream()
            assert list(one) == ["a", "b"]
            return bool(one.status.detail == "near")

        eventually(streamed, "a near hit of a stream")


@servers
def test_a_batch_takes_what_is_near_and_asks_for_the_rest(valkey):
    asked: list[list[str]] = []

    def upstream(request: httpx.Request) -> httpx.Response:
        texts = __import__("json").loads(request.content)["input"]
        asked.append(texts)
        data = [{"object": "embedding", "index": at, "embedding": [float(len(text))]} for at, text in enumerate(texts)]
        return httpx.Response(200, json={"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}}, request=request)  # fmt: skip

    with Cache(patient(valkey), near=SIZE) as cache:
        client = cache.http_client(module=httpx, inner=httpx.MockTransport(upstream))

        def embed(*texts: str) -> list[float]:
            reply = client.post("https://api.openai.com/v1/embeddings", json={"model": "e", "input": list(texts)}, headers={"authorization": "Bearer k"})  # fmt: skip
            return [one["embedding"][0] for one in reply.json()["data"]]

        embed("a", "bb")
        eventually(lambda: embed("a", "bb") and cache.stats().get("hit.near", 0) >= 2, "near hits")
        assert embed("a", "ccc", "bb") == [1.0, 3.0, 2.0]
        assert asked == [["a", "bb"], ["ccc"]]


# --- what ends it ------------------------------------------------------------------------------------------------

AIMS = {
    "key": lambda key: {"key": key},
    "request": lambda _: {"request": ASKED},
    "scope": lambda _: {"scope": "s"},
    "tag": lambda _: {"tag": "t"},
    "model": lambda _: {"model": "m"},
    "everything": lambda _: {"everything": True},
}
OWN = {"scope": "s", "tags": ["t"]}
QUICK = ("key", "tag", "request", "everything")


def elsewhere(server: Server) -> str:
    """The same server by another name, for what stands for another process: it knows nothing of this near cache."""
    return server.url.replace("127.0.0.1", "localhost")


def aimed(aim: str, key: str) -> dict[str, Any]:
    return AIMS[aim](key) if aim != "request" else {"request": ASKED, "scope": "s"}


@servers
@pytest.mark.parametrize(("crowd", "aim"), by_turns(AIMS, QUICK), indirect=["crowd"])
def test_after_its_own_invalidation_a_process_serves_nothing_older_at_once(crowd, cache, call, aim):
    warmed(crowd, cache, call, **OWN)
    for _ in range(5):
        outcome = crowd.answer(cache, ASKED, call, **OWN)
        calls = call.calls
        crowd.do(cache.invalidate, **aimed(aim, outcome.key))
        assert crowd.answer(cache, ASKED, call, **OWN).status.fwd == "miss"
        assert call.calls == calls + 1
        warmed(crowd, cache, call, **OWN)


@servers
@pytest.mark.parametrize("aim", [*AIMS, "refresh"])
def test_what_another_cache_of_the_process_does_is_seen_at_once_whether_it_is_near_or_not(
    threads, valkey, call, aim, monkeypatch
):
    cache, far = threads.cache(valkey.url, near=SIZE, socket_timeout=5.0), threads.cache(valkey.url)
    warmed(threads, cache, call, **OWN)
    key = threads.answer(cache, ASKED, call, **OWN).key
    monkeypatch.setattr(Tracking, "told", lambda *_: True)  # a notice that is late
    if aim == "refresh":
        threads.answer(far, ASKED, call, control="no-cache", **OWN)
    else:
        far.invalidate(**aimed(aim, key))
    assert threads.answer(cache, ASKED, call, **OWN).value["id"].endswith("-2")


@servers
@pytest.mark.parametrize(("crowd", "aim"), by_turns(AIMS, QUICK), indirect=["crowd"])
def test_an_invalidation_of_another_process_reaches_it_by_a_notice(crowd, cache, call, aim, valkey):
    other = crowd.cache(elsewhere(valkey), socket_timeout=5.0)
    warmed(crowd, cache, call, **OWN)
    key = crowd.answer(cache, ASKED, call, **OWN).key
    crowd.do(other.invalidate, **aimed(aim, key))
    took = Took()
    eventually(lambda: not crowd.answer(cache, ASKED, call, **OWN).value["id"].endswith("-1"), "a new answer")
    assert took.seconds < LIMIT
    warmed(crowd, cache, call, **OWN)
    assert call.calls == 2


@servers
def test_a_newer_answer_of_another_process_takes_its_place(crowd, cache, call, valkey):
    other = crowd.cache(elsewhere(valkey), socket_timeout=5.0)
    warmed(crowd, cache, call)
    newer = crowd.answer(other, ASKED, call, control="no-cache").value
    eventually(lambda: crowd.answer(cache, ASKED, call).value == newer, "the newer answer")
    warmed(crowd, cache, call)
    assert crowd.answer(cache, ASKED, call).value == newer


@servers
def test_a_tag_that_other_callers_name_is_looked_at_too(crowd, cache, call, valkey):
    other = crowd.cache(elsewhere(valkey), socket_timeout=5.0)
    warmed(crowd, cache, call)
    warmed(crowd, cache, call, tags=["late"])
    crowd.do(other.invalidate, tag="late")
    eventually(lambda: detail(crowd, cache, call, tags=["late"]) != "near", "a notice")
    calls = call.calls
    crowd.answer(cache, ASKED, call, tags=["late"])
    assert call.calls in {calls, calls + 1}
    assert call.calls == 2


@servers
@pytest.mark.parametrize("what", ["FLUSHALL", "DEL", "EVICT"])
def test_what_is_deleted_at_the_server_is_gone_here(crowd, cache, call, valkey, what):
    warmed(crowd, cache, call)
    if what == "FLUSHALL":
        valkey.command("FLUSHALL")
    else:
        for name in valkey.command("KEYS", "*:e1:*" if what == "DEL" else "*:g1"):
            valkey.command("DEL", name)
    eventually(lambda: crowd.answer(cache, ASKED, call).value["id"].endswith("-2"), "a new answer")
    warmed(crowd, cache, call)


# --- what tells it, in trouble -----------------------------------------------------------------------------------


@servers
def test_a_process_that_was_frozen_serves_nothing_from_before(crowd, cache, call, monkeypatch):
    warmed(crowd, cache, call)
    store = cache._base.engine().store
    key, now = cache._base.key_of(ASKED, cache._settings({})), near_cache.clock
    assert store.near.look(key, ()) is not None
    monkeypatch.setattr(near_cache, "clock", lambda: now() + LIMIT)
    assert store.near.look(key, ()) is None
    monkeypatch.undo()
    warmed(crowd, cache, call)


@servers
def test_a_stopped_process_asks_the_server_when_it_goes_on(valkey, call):
    script = textwrap.dedent(f"""
        import sys, time
        from askonce import Cache
        with Cache({patient(valkey)!r}, near="16MB") as cache:
            ask = lambda: cache.fetch({ASKED!r}, lambda: {{"id": "child"}})
            while ask().status.detail != "near":
                time.sleep(0.01)
            print("near", flush=True)
            sys.stdin.readline()
            print(ask().value["id"], flush=True)
    """)
    with Cache(patient(valkey)) as other:
        other.fetch(ASKED, lambda: {"id": "old"})
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "near\n"
        child.send_signal(signal.SIGSTOP)
        other.invalidate(request=ASKED)
        other.fetch(ASKED, lambda: {"id": "new"})
        child.stdin.write("\n")
        child.stdin.flush()
        time.sleep(LIMIT + 0.1)
        child.send_signal(signal.SIGCONT)
        assert child.stdout.readline() == "new\n"
        child.communicate("")


@servers
def test_a_silent_connection_stops_it_within_the_limit_and_it_goes_on_when_it_speaks(threads, valkey, call):
    with Proxy(valkey) as proxy:
        cache = threads.cache(proxy.url, near=SIZE)
        other = Cache(valkey.url, socket_timeout=5.0)
        warmed(threads, cache, call)
        proxy.drop_idle()
        other.invalidate(request=ASKED)
        other.close()
        since = time.monotonic()
        late = []
        while (began := time.monotonic() - since) < LIMIT + 0.5:
            if threads.answer(cache, ASKED, call).value["id"].endswith("-1") and began > LIMIT:
                late.append(began)
        assert not late
        proxy.mend()
        warmed(threads, cache, call)


@servers
@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_a_lost_connection_empties_it_and_the_next_one_fills_it_again(threads, own_valkey, call, how):
    cache = threads.cache(own_valkey.url, near=SIZE)
    events: list[str] = []
    cache.on_event(lambda event: events.append(event.detail) if event.name == "near" else None)
    warmed(threads, cache, call)
    if how == "killed":
        own_valkey.command("CLIENT", "KILL", "TYPE", "normal")
    else:
        own_valkey.stop()
        own_valkey.start()
    eventually(lambda: "idle" in events, "the loss")
    warmed(threads, cache, call)
    assert events == ["on", "idle", "on"]


@servers
def test_where_tracking_is_refused_it_is_off_and_says_so_once(threads, own_valkey, call, caplog):
    own_valkey.command("ACL", "SETUSER", "narrow", "on", ">pw", "~*", "&*", "+@all", "-client|tracking")
    url = own_valkey.url.replace("redis://", "redis://narrow:pw@")
    cache = threads.cache(url, near=SIZE)
    events: list[str] = []
    cache.on_event(lambda event: events.append(event.detail) if event.name == "near" else None)
    for _ in range(30):
        assert detail(threads, cache, call) in {"", "fwd=miss"}
    eventually(lambda: cache.stats()["near cache"]["state"] == "tracking-refused", "the refusal")
    for _ in range(30):
        assert detail(threads, cache, call) == ""
    assert events == ["tracking-refused"]
    (said,) = [record.getMessage() for record in caplog.records if "near cache" in record.getMessage()]
    assert "doctor" in said
    assert call.calls == 1


@servers
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_begins_with_nothing(valkey, call):
    with Cache(patient(valkey), near=SIZE) as cache:
        eventually(lambda: cache.fetch(ASKED, call.on(ASKED)).status.detail == "near", "a near hit")
        child = os.fork()
        if not child:
            status = cache.fetch(ASKED, lambda: None).status
            kept = cache.stats()["near cache"]["entries"]
            again = 1
            until = time.monotonic() + 60
            while again and time.monotonic() < until:
                again = cache.fetch(ASKED, lambda: None).status.detail != "near"
            os._exit(0 if status.hit and not status.detail and not kept and not again else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert cache.fetch(ASKED, lambda: None).status.hit
    assert forks.pid == os.getpid()


@servers
def test_the_caches_of_a_process_share_it_and_it_goes_with_the_last_of_them(threads, tasks, valkey, call):
    first, second = threads.cache(patient(valkey), near=SIZE), tasks.cache(patient(valkey), near="32MB")
    warmed(threads, first, call)
    assert detail(tasks, second, call) == "near"
    near = first._base.engine().store.near
    assert near is second._base.engine().store.near
    assert near.table.limit == 32_000_000
    assert detail(threads, threads.cache(patient(valkey)), call) == ""
    address = first._base.engine().store.address
    threads.do(first.close)
    tasks.do(second.aclose)
    del near, first, second
    eventually(lambda: near_cache.near_of(address) is None, "its end")


@servers
def test_its_bound_holds_while_it_is_full(threads, valkey):
    cache = threads.cache(patient(valkey), near="1MiB")
    big = "x" * 20_000

    def full() -> bool:
        for number in range(100):
            threads.do(cache.fetch, {"n": number}, lambda: {"text": big})
        near = cache.stats()["near cache"]
        assert near["entries"] <= 50
        assert near["bytes"] <= near["limit"]
        return bool(near["evicted"])

    eventually(full, "something is evicted")


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("near", "size"),
    [("64MB", 64_000_000), ("64 MiB", 2**26), ("1.5gb", 1_500_000_000), ("2000KB", 2_000_000), (2**21, 2**21),
     ("4194304", 2**22), (0, 0), ("0", 0), (" 1MiB ", LEAST)],
)  # fmt: skip
def test_a_size_is_bytes_or_a_text_with_its_unit(near, size):
    assert size_of(near) == size


@pytest.mark.parametrize(
    "near", ["", "many", "64 M", "-1MB", "1e9", "64MB!", -1, 1, 1000, "1KB", True, 1.5, [], {}, b"64MB", "٦٤MB"]
)
def test_anything_else_is_refused_in_words(near):
    for make in (
        lambda: Cache("redis://localhost", near=near),
        lambda: AsyncCache("redis+cluster://localhost", near=near),
        lambda: config.configure(near=near),
    ):
        with pytest.raises(ConfigError, match=r"near=.*(write|at least)"):
            make()


@pytest.mark.parametrize("url", ["memory://x", "sqlite:///{tmp}/x.db"])
def test_stores_of_this_machine_need_none_and_say_so(url, tmp_path):
    with pytest.raises(ConfigError, match="near= is for Redis"):
        Cache(url.format(tmp=tmp_path), near=SIZE)
    Cache(url.format(tmp=tmp_path), near=0).close()


def test_the_word_of_a_consistency_is_checked():
    for make in (
        lambda: Cache("memory://", consistency="weak"),
        lambda: Policy(consistency="weak"),
        lambda: Cache("memory://x").fetch({}, lambda: 1, consistency=True),
    ):
        with pytest.raises(ConfigError, match=r"consistency=.*'bounded', 'strong'"):
            make()


@pytest.fixture
def defaults(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(config, "_configured", dict.fromkeys(config._configured))
    monkeypatch.delenv("ASKONCE_NEAR", raising=False)

    def limit(url: str = "redis://localhost:1", **own: Any) -> int:
        cache = Cache(url, prefix=os.urandom(4).hex(), **own)
        near = cache._base.engine().store.near
        return near.table.limit if isinstance(near, RedisNear) else 0

    return limit


def test_a_default_of_the_environment_and_of_configure_is_for_redis_alone(defaults, monkeypatch):
    assert defaults() == 0
    monkeypatch.setenv("ASKONCE_NEAR", "2MB")
    assert defaults() == 2_000_000
    assert defaults("memory://x") == 0
    assert defaults(near="3MB") == 3_000_000
    assert defaults(near=0) == 0
    askonce.configure(near="4MB")
    assert defaults() == 4_000_000
    askonce.configure(near=0)
    assert defaults() == 0


def test_a_wrong_size_in_the_environment_is_said_whatever_the_store_is(defaults, monkeypatch):
    monkeypatch.setenv("ASKONCE_NEAR", "64MB")
    assert defaults("memory://x") == 0
    monkeypatch.setenv("ASKONCE_NEAR", "lots")
    for url in ((), ("memory://x",)):
        with pytest.raises(ConfigError, match="lots"):
            defaults(*url)


def test_a_pickled_cache_has_the_same_options(defaults):
    import pickle

    cache = pickle.loads(pickle.dumps(Cache("redis://localhost:1", near="2MB", consistency="strong", prefix="p")))
    assert cache._base.engine().store.near.table.limit == 2_000_000
    assert cache._base._planner.plain.terms.consistency == "strong"


@servers
def test_a_lookup_that_takes_only_what_is_stored_asks_the_store_where_the_near_answer_is_too_old(valkey, call):
    own = {"policy": Policy(ttl=1, grace=0, jitter=0, stale_if_error=0)}
    with Cache(patient(valkey), near=SIZE) as cache:
        eventually(lambda: cache.fetch(ASKED, call.on(ASKED), **own).status.detail == "near", "a near hit")
        with pytest.raises(NotCached):
            cache.fetch(ASKED, call.on(ASKED), control="only-if-cached, min-fresh=100", **own)
