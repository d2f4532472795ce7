"""The settings of a context reach the threads of a pool when a function is carried, and end with its call."""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import askonce
from askonce import AsyncCache, Cache, UsageError


@pytest.fixture
def cache():
    with Cache("memory://") as cache:
        yield cache


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        pool.submit(lambda: None).result()  # a thread from before any context
        yield pool


def scope_of(outcome, cache):
    return {entry.key: entry.scope for entry in cache.entries()}[outcome.key]


def test_the_threads_of_a_pool_ask_in_the_scope_and_are_watched_if_the_function_is_carried(cache, pool):
    def ask(number):
        return cache.fetch({"q": number}, lambda: number)

    with cache.scoped(scope="support"), cache.watch() as seen:
        carried = list(pool.map(askonce.carry(ask), range(20)))
        plain = list(pool.map(ask, range(20, 24)))
    assert {scope_of(outcome, cache) for outcome in carried} == {"support"}
    assert {scope_of(outcome, cache) for outcome in plain} == {""}
    assert len(seen) == 20
    after = pool.submit(ask, 99).result()
    assert scope_of(after, cache) == ""
    assert len(seen) == 20, "what was carried ends with its call"


def test_what_is_carried_is_what_was_there_when_it_was_carried(cache, pool):
    with cache.scoped(scope="outer"):
        carried = askonce.carry(lambda: cache.fetch({"q": 1}, lambda: 1))
    with cache.scoped(scope="other"):
        assert scope_of(carried(), cache) == "outer"
        assert scope_of(cache.fetch({"q": 2}, lambda: 1), cache) == "other"


def test_an_exception_of_a_carried_function_leaves_no_scope_behind(cache, pool):
    with cache.scoped(scope="support"):
        carried = askonce.carry(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        carried()
    assert scope_of(cache.fetch({"q": 1}, lambda: 1), cache) == ""


async def test_a_coroutine_function_is_carried_into_another_event_loop():
    async with AsyncCache("memory://carried") as cache:
        with cache.watch() as seen, cache.scoped(scope="support"):

            async def ask(number):
                async with AsyncCache("memory://carried") as other:
                    return await other.fetch({"q": number}, functools.partial(asyncio.sleep, 0, number))

            carried = askonce.carry(ask)
            assert askonce.carry(functools.partial(ask, 5)) is not None
            await asyncio.to_thread(lambda: asyncio.run(carried(1)))
        assert not seen, "another cache's lookups are not of this one"


def test_a_thread_with_a_copied_context_needs_no_carrying(cache):
    import contextvars

    with cache.scoped(scope="support"):
        context = contextvars.copy_context()
    found = []
    thread = threading.Thread(target=context.run, args=(lambda: found.append(cache.fetch({"q": 1}, lambda: 1)),))
    thread.start()
    thread.join()
    assert scope_of(found[0], cache) == "support"


def test_a_carried_function_has_its_name_and_its_arguments(cache):
    def ask(one, *, two):
        """Ask."""
        return one, two

    carried = askonce.carry(ask)
    assert (carried.__name__, carried.__doc__, carried(1, two=2)) == ("ask", "Ask.", (1, 2))


def generated():
    yield 1


async def generated_later():
    yield 1


@pytest.mark.parametrize("wrong", [None, 5, "ask", generated, generated_later])
def test_what_cannot_be_carried_is_an_error_that_says_what_to_do(wrong):
    with pytest.raises(UsageError, match="carry"):
        askonce.carry(wrong)
