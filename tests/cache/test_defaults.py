"""Where a cache is if the call does not say so, and how operations change it without a change of code.

The order is: the given URL, `configure`, $ASKONCE_URL, $REDIS_URL, an SQLite file in the user's cache folder.
$ASKONCE_PREFIX and $ASKONCE_MODE work likewise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import askonce
from askonce import AsyncCache, Cache, ConfigError, NotCached
from askonce.cache import config
from tests.crowd import HANG, eventually
from tests.flight.test_forks import forked
from tests.remains import Remains, as_before

VARIABLES = ("ASKONCE_URL", "ASKONCE_PREFIX", "ASKONCE_MODE", "REDIS_URL", "XDG_CACHE_HOME", "HOME")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch, tmp_path):
    """An environment that says nothing, a home of its own, and no default cache left behind."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(config, "_configured", dict.fromkeys(config._configured))
    monkeypatch.setattr(config, "_warned", set())
    yield
    for default, _ in [askonce._default.pop(name) for name in list(askonce._default)]:
        default.close()


def address():
    with Cache() as cache:
        return cache._base._engine.store.address


# --- where -------------------------------------------------------------------------------------------------------


def test_the_chain_of_urls(monkeypatch, tmp_path):
    assert str(tmp_path / ".cache" / "askonce" / "askonce.db") in address()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere" / "askonce" / "askonce.db") in address()
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert address().startswith("redis://127.0.0.1:1/0")
    monkeypatch.setenv("ASKONCE_URL", "memory://from-the-environment")
    assert address() == "memory://from-the-environment"
    askonce.configure(url="memory://configured")
    assert address() == "memory://configured"
    with Cache("memory://given") as cache:
        assert cache._base._engine.store.address == "memory://given"


def test_the_default_is_a_file_that_only_its_owner_reads(tmp_path, call):
    with Cache() as cache:
        cache.fetch("q", call.on("q"))
    file = tmp_path / ".cache" / "askonce" / "askonce.db"
    assert file.stat().st_mode & 0o777 == 0o600
    with Cache() as cache:
        assert cache.fetch("q", call.on("q")).status.hit


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@127.0.0.1:1/0", "redis://:***@127.0.0.1:1/0"),
        ("redis://me:secret@127.0.0.1:1/0", "redis://me:***@127.0.0.1:1/0"),
        ("redis://me:se@cret@127.0.0.1:1/0", "redis://me:***@127.0.0.1:1/0"),
        ("redis://127.0.0.1:1/0?password=secret&db=1", "redis://127.0.0.1:1/0?password=***&db=1"),
        ("rediss://127.0.0.1:1/0?ssl_password=secret", "rediss://127.0.0.1:1/0?ssl_password=***"),
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0"),
    ],
)
def test_redis_url_is_said_once_and_without_its_password(monkeypatch, caplog, url, shown):
    caplog.set_level(logging.WARNING, "askonce")
    monkeypatch.setenv("REDIS_URL", url)
    Cache().close()
    Cache().close()
    assert [record.message for record in caplog.records] == [
        f"askonce uses $REDIS_URL: {shown} (set ASKONCE_URL to use another store)"
    ]


HOMELESS = """
import os
import askonce, askonce.store.memory.store, askonce.store.sqlite.store  # before the rights to read them are given up
if os.geteuid() == 0:
    os.setgid(54321)
    os.setuid(54321)
asked = []
def call():
    asked.append(1)
    return {"said": len(asked)}
with askonce.Cache() as one, askonce.Cache() as other:
    said = [cache.fetch("q", call).value["said"] for cache in (one, other)]
print(said, one._base.mode)
"""


HOMES = ["/no/such/home", "/", "relative", "", None, "unwritable", "a file"]


@pytest.mark.parametrize(
    ("home", "mode"),
    [
        pytest.param(home, mode, marks=[pytest.mark.slow] * (at % 2 != number % 2))
        for number, home in enumerate(HOMES)
        for at, mode in enumerate(["on", "off"])
    ],
)
@pytest.mark.waits
def test_without_a_home_that_can_be_written_answers_are_kept_in_memory_and_it_is_said(tmp_path, home, mode):
    if home == "unwritable":
        (tmp_path / home).mkdir(0o555)
    if home == "a file":
        (tmp_path / home).touch()
    tmp_path.chmod(0o755)
    place = str(tmp_path / home) if home in {"unwritable", "a file"} else home
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"ASKONCE_MODE": mode, **({} if place is None else {"HOME": place})}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == ("[1, 1] on" if mode == "on" else "[1, 2] off"), done.stderr
    assert done.stderr.count("askonce finds no cache folder") == 1
    assert "Traceback" not in done.stderr
    with Cache("memory://") as cache:
        assert cache.fetch("q", lambda: 1).value == 1


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x",
        "http://x",
        "redis//x",
        "redis://host:port/0",
        "redis://host/zero",
        "memory://x/y",
        "no url",
        Path("answers.db"),
        7,
    ],
    ids=str,
)
def test_a_wrong_url_raises_at_once(url):
    with pytest.raises(ConfigError) as raised:
        Cache(url)
    assert isinstance(raised.value, ValueError)


def test_making_a_cache_does_no_io(tmp_path):
    Cache(f"sqlite:///{tmp_path}/never/answers.db").close()
    Cache("redis://127.0.0.1:1/0").close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.servers
def test_a_configured_client_says_where(valkey, call):
    redis = pytest.importorskip("redis")
    client = redis.Redis.from_url(valkey.url)
    with Cache(redis_client=client) as cache:
        assert cache.fetch("q", call.on("q")).status.stored
    assert client.ping()  # a user's own client stays open

    async def main():
        async with AsyncCache(redis_client=client) as cache:
            assert (await cache.fetch("q", call.aio_on("q"))).status.hit

    asyncio.run(main())
    client.close()
    with pytest.raises(ConfigError, match="not both"):
        Cache("memory://", redis_client=client)


# --- the prefix --------------------------------------------------------------------------------------------------


def test_the_chain_of_prefixes(monkeypatch):
    def prefix(**said):
        with Cache("memory://", **said) as cache:
            return cache._base.prefix

    assert prefix() == ""
    monkeypatch.setenv("ASKONCE_PREFIX", "from-the-environment")
    assert prefix() == "from-the-environment"
    askonce.configure(prefix="configured")
    assert prefix() == "configured"
    assert prefix(prefix="given") == "given"
    assert prefix(prefix="") == ""


def test_a_new_prefix_makes_every_old_answer_unreachable(crowd, place, call):
    for prefix in ("v3", "v4"):
        cache = crowd.cache(place, prefix=prefix)
        assert crowd.answer(cache, "q", call).status.stored
    assert crowd.answer(crowd.cache(place, prefix="v3"), "q", call).status.hit
    assert call.calls == 2


# --- the mode ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(crowd, place, call):
    """A place where the answer to "q" is stored already."""
    crowd.answer(crowd.cache(place), "q", call)
    return place


def test_off_is_as_if_askonce_were_not_there(crowd, stored, call, monkeypatch):
    monkeypatch.setenv("ASKONCE_MODE", "off")
    cache = crowd.cache(stored)
    for number in (2, 3):
        outcome = crowd.answer(cache, "q", call)
        assert (outcome.status.fwd, outcome.status.detail) == ("bypass", "off")
        assert call.calls == number
    assert crowd.answer(cache, {"not json": object}, lambda: object).value is object
    assert crowd.answer(cache, "q", call, control="only-if-cached").status.detail == "off"


def test_off_needs_no_store(call):
    with Cache("redis://127.0.0.1:1/0", mode="off") as cache:
        assert cache.fetch("q", call.on("q")).status.detail == "off"
        assert "trouble" not in cache.stats()


def test_refresh_asks_again_and_stores(crowd, stored, call, monkeypatch):
    monkeypatch.setenv("ASKONCE_MODE", "refresh")
    outcome = crowd.answer(crowd.cache(stored), "q", call)
    assert (outcome.status.fwd, outcome.status.stored) == ("request", True)
    monkeypatch.delenv("ASKONCE_MODE")
    assert crowd.answer(crowd.cache(stored), "q", call).value == outcome.value
    assert call.calls == 2


def test_only_if_cached_never_pays(crowd, stored, call, monkeypatch):
    monkeypatch.setenv("ASKONCE_MODE", "only-if-cached")
    cache = crowd.cache(stored)
    assert crowd.answer(cache, "q", call).status.hit
    assert isinstance(crowd.ask(cache, "another", call).exception(60), NotCached)
    assert call.calls == 1


def test_the_mode_of_a_cache_wins_over_the_environment(call, monkeypatch):
    monkeypatch.setenv("ASKONCE_MODE", "off")
    askonce.configure(mode="refresh")
    with Cache("memory://") as cache:
        assert cache._base.mode == "refresh"
    with Cache("memory://", mode="on") as cache:
        cache.fetch("q", call.on("q"))
        assert cache.fetch("q", call.on("q")).status.hit


def test_a_mode_that_is_none_is_refused_where_it_is_said(monkeypatch):
    names = "on, off, refresh, only-if-cached"
    with pytest.raises(ConfigError, match=names):
        askonce.configure(mode="maybe")
    with pytest.raises(ConfigError, match=names):
        Cache("memory://", mode="maybe")
    monkeypatch.setenv("ASKONCE_MODE", "maybe")
    with pytest.raises(ConfigError, match=names):
        Cache("memory://")


# --- the functions of the module ---------------------------------------------------------------------------------


def test_get_or_set_of_the_module_is_the_default_caches(call):
    askonce.configure(url="memory://module")
    asked = [{"role": "user", "content": "why?"}]
    first = askonce.get_or_set(messages=asked, model="m", call_fn=call.on("x"), ttl=3600, temperature=0)
    assert askonce.get_or_set(messages=asked, model="m", call_fn=call.on("x"), ttl=3600, temperature=0) == first
    assert call.calls == 1
    assert askonce.default_cache() is askonce.default_cache()
    assert askonce.default_cache().stats()["hit"] == 1


def test_configure_makes_another_default_cache_and_the_old_one_finishes_its_calls(threads, call):
    askonce.configure(url="memory://module", prefix="v3")
    old = askonce.default_cache()
    call.script(None, HANG)
    leading = threads.start(lambda: askonce.get_or_set([], "m", call.on("x"), ttl=60))
    eventually(lambda: call.in_flight, "a call is under way")
    askonce.configure(prefix="v4")
    new = askonce.default_cache()
    assert new is not old
    assert (new._base.prefix, new._base._engine.store.address) == ("v4", "memory://module")
    call.release()
    assert leading.result(60) == old.get_or_set([], "m", lambda: "paid again")
    assert old.stats()["stored"] == 1


@pytest.mark.parametrize("said", [{"url": "memory://module"}, {"prefix": "v3"}, {"mode": "on"}, {}], ids=str)
def test_configure_with_what_is_so_already_leaves_the_default_cache(monkeypatch, said):
    monkeypatch.setenv("ASKONCE_URL", "memory://module")
    askonce.configure(prefix="v3")
    old = askonce.default_cache()
    askonce.configure(**said)
    assert askonce.default_cache() is old


@pytest.mark.waits
def test_configure_drops_the_old_default_cache_without_a_trace(shared):
    before = Remains.now()
    for number in range(20):
        askonce.configure(url=shared, prefix=f"v{number}")
        askonce.get_or_set([], "m", lambda: 1)
    askonce.configure(url="memory://")
    as_before(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_makes_the_default_cache_leaves_no_lock_in_the_child(threads, monkeypatch):
    making, made = threading.Event(), threading.Event()

    class Slow(Cache):
        def __init__(self, *said, **more):
            if threading.current_thread() is not threading.main_thread():
                making.set()
                made.wait(60)
            super().__init__(*said, **more)

    monkeypatch.setattr(askonce, "Cache", Slow)
    askonce.configure(url="memory://module")
    other = threads.start(askonce.default_cache)
    making.wait(60)
    _, wait = forked(lambda: askonce.get_or_set([], "m", lambda: "answer"))
    assert wait() == "answer"
    made.set()
    assert other.result(60) is askonce.default_cache()


def test_the_default_cache_is_made_once_by_many_threads(threads):
    askonce.configure(url="memory://module")
    found = [future.result(60) for future in [threads.start(askonce.default_cache) for _ in range(16)]]
    assert len({id(cache) for cache in found}) == 1


# --- what is imported --------------------------------------------------------------------------------------------

HEAVY = ("redis", "hiredis", "sqlite3", "httpx", "httpx2", "openai", "pydantic", "rich", "typer", "prometheus_client")


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import askonce", set()),
        ("import askonce; askonce.Cache('memory://').fetch('q', lambda: 1)", set()),
        ("import askonce; askonce.Cache('sqlite:///{tmp}/a.db').fetch('q', lambda: 1)", {"sqlite3"}),
        ("import askonce; askonce.Cache('redis://127.0.0.1:1/0').fetch('q', lambda: 1)", {"redis", "hiredis"}),
    ],
    ids=["askonce", "memory", "sqlite", "redis"],
)
@pytest.mark.waits
def test_only_what_is_used_is_imported(program, loaded, tmp_path):
    script = f"{program}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script.replace("{tmp}", str(tmp_path))],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == loaded
