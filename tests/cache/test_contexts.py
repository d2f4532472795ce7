"""Settings by handle and by context, for code in between that knows nothing of askonce.

A handle has settings of its own. While it is entered, every lookup of its cache gets them: through frameworks, in tasks
made inside, and in threads with a copy of the context. The nearest setting counts: a call's own, its handle's, the
inner context's, the outer's, the cache's. Tags add up.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from askonce import AsyncCache, Cache, Policy, UsageError
from tests.bad_input import well_told
from tests.crowd import ASKED


@pytest.fixture
def cache():
    with Cache("memory://") as cache:
        yield cache


def key(asker, **own):
    """The key under which a question is asked just now."""
    return asker.fetch(ASKED, lambda: 1, **own).key


@pytest.fixture
def keys(cache):
    """The keys of ASKED in each scope."""
    return {scope: key(cache, scope=scope) for scope in ("", "a", "b", "a/b")}


def test_a_handle_has_settings_of_its_own(cache, keys):
    handle = cache.scoped(scope="a")
    assert key(handle) == keys["a"]
    assert key(handle, scope="b") == keys["b"]
    assert key(cache) == keys[""]
    assert handle.get_or_set(ASKED["messages"], ASKED["model"], lambda: 2) == 1


def test_a_handle_of_a_handle_adds_to_it(cache, keys):
    handle = cache.scoped(scope="a", tags=["one"]).scoped(tags=["two"])
    assert key(handle) == keys["a"]
    cache.invalidate(tag="one")
    assert not handle.fetch(ASKED, lambda: 1).status.hit


def test_a_context_reaches_the_calls_inside_and_no_others(cache, keys):
    with cache.scoped(scope="a") as handle:
        assert key(cache) == keys["a"]
        assert key(handle) == keys["a"]
        assert key(cache, scope="b") == keys["b"]
    assert key(cache) == keys[""]


def test_a_context_is_left_by_an_exception_too(cache, keys):
    with pytest.raises(ZeroDivisionError), cache.scoped(scope="a"):
        raise ZeroDivisionError
    assert key(cache) == keys[""]


def test_contexts_nest_and_the_inner_counts(cache, keys):
    with cache.scoped(scope="a", tenant="t"), cache.scoped(scope="b"):
        assert key(cache) == key(cache, scope="b", tenant="t")
        with cache.scoped(scope="a"):
            assert key(cache) == key(cache, scope="a", tenant="t")
        assert key(cache) == key(cache, scope="b", tenant="t")


def test_a_handle_made_outside_and_entered_inside_another_adds_to_it(cache, keys):
    inner = cache.scoped(tags=["x"], policy=Policy(ttl=60))
    with cache.scoped(scope="a"), inner:
        assert key(cache) == keys["a"]


def test_a_tenant_set_around_is_heard_by_a_handle_made_before(cache):
    handle = cache.scoped(scope="a")
    with cache.scoped(tenant="one"):
        mine = key(handle)
    with cache.scoped(tenant="two"):
        theirs = key(handle)
    assert len({mine, theirs, key(handle)}) == 3
    assert mine == key(cache, scope="a", tenant="one")


def test_what_a_context_asked_can_be_invalidated_in_it(cache):
    handle = cache.scoped(scope="a")
    with cache.scoped(tenant="one"):
        key(handle)
        handle.invalidate(request=ASKED)
        assert not handle.fetch(ASKED, lambda: 1).status.hit


def test_the_contexts_of_two_caches_do_not_mix(cache, keys):
    with Cache("memory://") as other, other.scoped(scope="a"), cache.scoped(tenant="t"):
        assert key(other) == keys["a"]
        assert key(cache) == key(cache, tenant="t")


def test_policies_of_nested_contexts_are_laid_over_each_other(cache):
    with cache.scoped(policy=Policy(ttl=50, jitter=0)), cache.scoped(policy=Policy(tool_calls="store")):
        cache.fetch(ASKED, lambda: 1)
        assert 49 <= cache.fetch(ASKED, lambda: 1).status.ttl <= 50


def test_a_thread_hears_of_a_context_by_a_copy_of_it(cache, keys):
    found = []

    def ask():
        found.append(key(cache))

    with cache.scoped(scope="a"):
        for target in (ask, lambda: contextvars.copy_context().run(ask)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        copied = contextvars.copy_context()
    thread = threading.Thread(target=copied.run, args=(ask,))
    thread.start()
    thread.join()
    assert found[0] == keys[""]
    assert found[-1] == keys["a"]


async def test_tasks_made_inside_hear_of_it_and_keep_it(keys):
    async with AsyncCache("memory://") as cache:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def ask():
            return (await cache.fetch(ASKED, lambda: 1)).key

        async def late():
            entered.set()
            await leave.wait()
            return await ask()

        with cache.scoped(scope="a"):
            inside = asyncio.create_task(late())
            now = await asyncio.gather(ask(), ask())
            await entered.wait()
        leave.set()
        assert [*now, await inside] == [keys["a"]] * 3
        assert await ask() == keys[""]


async def test_one_handle_can_be_entered_by_many_tasks_at_once(keys):
    async with AsyncCache("memory://") as cache:
        handle = cache.scoped(scope="a")
        both = asyncio.Barrier(5)

        async def ask():
            with handle:
                await both.wait()
                found = (await cache.fetch(ASKED, lambda: 1)).key
                await both.wait()
            return found, (await cache.fetch(ASKED, lambda: 1)).key

        found = await asyncio.gather(*(ask() for _ in range(5)))
        assert found == [(keys["a"], keys[""])] * 5


async def test_a_call_runs_with_its_callers_context():
    said = contextvars.ContextVar("said", default="nothing")

    async with AsyncCache("memory://") as cache:
        said.set("something")

        async def call():
            return said.get()

        assert (await cache.fetch(ASKED, call)).value == "something"


def test_a_context_around_a_call_is_there_inside_the_call(cache):
    """A tool that asks again, from inside the call, asks under the same settings."""
    found = []

    def call():
        found.append(cache.fetch("inner", lambda: 1).key)
        return 1

    with cache.scoped(scope="a"):
        cache.fetch(ASKED, call)
    assert found == [cache.fetch("inner", lambda: 1, scope="a").key]


def in_contexts_of_their_own(block, _):
    """As a pool of threads runs a dependency, and the parts of a body that is streamed."""
    for step in (block.__enter__, lambda: block.__exit__(None, None, None)):
        contextvars.copy_context().run(step)


def parts(block):
    with block:
        yield


def in_the_order_of_their_beginnings(block, other):
    """Two generators that are read in turns."""
    first, second = parts(block), parts(other)
    assert (next(first), next(second)) == (None, None)
    first.close()
    second.close()


def by_another_task(block, _):
    """As an event loop ends an async generator that its reader left."""

    async def read():
        with block:
            yield

    async def leave():
        reading = read()
        await asyncio.create_task(anext(reading))
        await asyncio.create_task(reading.aclose())

    asyncio.run(leave())


@pytest.mark.parametrize("leave", [in_contexts_of_their_own, in_the_order_of_their_beginnings, by_another_task])
@pytest.mark.parametrize("kind", ["scoped", "watch"])
def test_a_block_that_is_left_elsewhere_is_told_once_and_takes_no_other_along(cache, keys, leave, kind, caplog):
    def block(scope):
        return cache.scoped(scope=scope) if kind == "scoped" else cache.watch()

    with cache.scoped(scope="a"), cache.watch() as seen:
        for _ in range(2):
            leave(block("b"), block("b"))
            assert key(cache) == keys["a"]
    assert len(seen) == 2
    assert key(cache) == keys[""]
    (told,) = [record.getMessage() for record in caplog.records]
    assert f"cache.{kind}()" in told
    well_told(told)


async def test_what_is_entered_by_the_other_kind_of_with_names_the_right_one(cache):
    later = AsyncCache("memory://")
    stream = cache.fetch_stream(ASKED, lambda: iter([1]))
    for one in (cache, cache.scoped(), later.scoped(), cache.watch(), later.watch(), stream):
        with pytest.raises(UsageError, match="write `with`"):
            async with one:
                pass

    async def words():
        yield 1

    for one in (later, await later.fetch_stream(ASKED, words)):
        with pytest.raises(UsageError, match="write `async with`"), one:
            pass
    await later.aclose()
