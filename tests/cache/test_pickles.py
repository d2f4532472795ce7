"""Pickles: a cache arrives in a worker as its settings, and an error comes back from it unchanged."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil

import pytest
import redis

import askonce
from askonce import AsyncCache, Cache, Policy
from askonce.errors import Portable
from askonce.store import StoreTrouble
from askonce.store.redis import connection
from askonce.stream.tape import Cut
from askonce.testing.call import UpstreamError

REQUEST = {"model": "m", "messages": []}


def _kinds(kind: type[Exception]) -> set[type[Exception]]:
    below: list[type[Exception]] = kind.__subclasses__()
    return {kind}.union(*map(_kinds, below))


def _made(kind: type[Exception]) -> Exception:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    plain = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    some: dict[str, object] = {"int": 7, "StoreTrouble": StoreTrouble("store-closed", "closed"), "list[Any]": ["+OK"]}
    return kind(*(some.get(str(one.annotation), f"a {one.name}") for one in plain))


def test_every_exception_that_users_meet_is_portable():
    public = {getattr(askonce, name) for name in askonce.__all__}
    errors = {one for one in public if isinstance(one, type) and issubclass(one, Exception)}
    assert errors | {StoreTrouble, Cut, connection.Cut, UpstreamError} <= _kinds(Portable)


def test_every_exception_is_the_same_after_it_was_pickled_or_copied():
    for module in pkgutil.walk_packages(askonce.__path__, "askonce."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert len(_kinds(Portable)) > 10
    for kind in _kinds(Portable) - {Portable}:
        error = _made(kind)
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
            assert type(again) is kind
            assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def _ask(cache):
    outcome = cache.fetch(REQUEST, lambda: {"said": "paid again"})
    return outcome.value, outcome.status.hit


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.waits
def test_a_cache_that_is_handed_to_another_process_asks_the_same_store(tmp_path, handled):
    with Cache(f"sqlite:///{tmp_path}/a.db", prefix="p", policy=Policy(ttl=60), tenant="t", fold=["case"]) as cache:
        asked = cache.scoped(scope="s") if handled else cache
        asked.fetch(REQUEST, lambda: {"said": "first"})
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_ask, (asked,)) == ({"said": "first"}, True)


def test_an_outcome_can_be_handed_over_with_its_cache(tmp_path):
    with Cache(f"sqlite:///{tmp_path}/a.db") as cache:
        outcome = pickle.loads(pickle.dumps(cache.fetch(REQUEST, lambda: {"said": 1})))
        assert outcome.why().reason == "never-seen"
        hit = cache.fetch(REQUEST, lambda: {"said": 1})
        again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(hit))))
        assert (again.value, again.status, again.key, again.saved) == (hit.value, hit.status, hit.key, hit.saved)
        assert again.saved.calls == 1
        outcome.forget()
        assert not cache.fetch(REQUEST, lambda: {"said": 2}).status.hit
        assert again.why().reason != "unknown"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [Cache, AsyncCache])
def test_a_copy_is_a_cache_of_its_own_with_the_same_settings(tmp_path, kind, copied):
    cache = kind(f"sqlite:///{tmp_path}/a.db", prefix="p", mode="only-if-cached", strict=True, max_bytes=2**21)
    again = copied(cache)
    assert type(again) is kind
    assert again is not cache
    assert repr(again) == repr(cache)
    assert again._base is not cache._base
    assert (again._base.mode, again._base.prefix, again._base._strict) == ("only-if-cached", "p", True)
    assert again._base._engine.store._file.max_bytes == 2**21


def test_a_cache_of_a_client_of_ones_own_says_why_it_cannot_be_pickled():
    with Cache(redis_client=redis.Redis(port=1)) as cache, pytest.raises(TypeError, match="make it with a URL"):
        pickle.dumps(cache)
