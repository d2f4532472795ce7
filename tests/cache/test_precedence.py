"""Who is heard of a setting: the argument, then `configure`, then the environment; only None says nothing.

Every setting is said in every combination of values at the three places. Values that are false count as said, too.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest

import askonce
from askonce import AsyncCache, Cache, ConfigError, Policy
from askonce.cache import config
from askonce.cache.typing import StoreOptions
from askonce.core.policy import Terms
from askonce.core.rules import RULE_WORDS
from askonce.engine.question import Plan, Settings
from askonce.errors import AskonceError, UsageError
from askonce.flight.pricing import UNPRICED

KEYS = {name: f"{name}={byte * 32}" for name, byte in (("one", "1a"), ("two", "2b"), ("three", "3c"))}
REDIS = "redis://127.0.0.1:1/0"
MEMORY = "memory://default"  # where caches are of which nothing is said


class Scopes(dict[str, Policy]):
    """Policies of scopes, as the key of a table."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))


class Setting(NamedTuple):
    """What can be said of a setting and comes of it, in code and in the environment; and how a cache shows it."""

    code: dict[Any, Any]
    environment: dict[str, Any]
    of: Callable[[Any], Any]
    unsaid: Any
    url: str | None = "memory://"


SETTINGS = {
    "url": Setting(
        {f"memory://{name}": f"memory://{name}" for name in "ab"},
        {"memory://c": "memory://c", "": MEMORY},
        lambda cache: cache._base._origin.made_of["url"],
        MEMORY,
        None,
    ),
    "prefix": Setting({"": "", "a": "a", "b": "b"}, {"c": "c", "": ""}, lambda cache: cache._base.prefix, ""),
    "mode": Setting(
        {"on": "on", "refresh": "refresh"}, {"off": "off", "on": "on", "": "on"}, lambda cache: cache._base.mode, "on"
    ),
    "near": Setting(
        {0: 0, "0": 0, "2MB": 2_000_000, 2**20: 2**20},
        {"4MB": 4_000_000, "0": 0, "": 0},
        lambda cache: cache._base._origin.made_of["near"],
        0,
        REDIS,
    ),
    "compress": Setting(
        {False: False, "off": False, "": False, "zstd": True},
        {"zstd": True, "off": False, "": False},
        lambda cache: cache._base.codec.writes,
        False,
    ),
    "encryption": Setting(
        {False: (), KEYS["one"]: ("one",), KEYS["two"]: ("two",)},
        {KEYS["three"]: ("three",)},
        lambda cache: cache._base.codec.ids,
        (),
    ),
    "prices": Setting(
        {"off": False, False: False, True: True},
        {"off": False, "": True},
        lambda cache: cache._base._pricer is not UNPRICED,
        True,
    ),
    "consistency": Setting(
        {"strong": "strong", "bounded": "bounded"}, {}, lambda cache: terms(cache).consistency, "bounded"
    ),
    "policy": Setting({Policy(ttl=60): 60, Policy(): 86400}, {}, lambda cache: terms(cache).ttl, 86400),
    "scopes": Setting({Scopes(): 86400, Scopes(a=Policy(ttl=5)): 5}, {}, lambda cache: terms(cache, "a").ttl, 86400),
}
OF_ONE_CACHE = {"redis_client"}  # it is at one place; a default for all of them is a URL


def terms(cache: Any, scope: str | None = None) -> Terms:
    plan: Plan = cache._base._planner.plan(Settings(scope=scope))
    return plan.terms


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in (*config.VARIABLES.values(), "REDIS_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(config, "_configured", {})
    monkeypatch.setattr(config, "cache_folder", lambda: None)
    monkeypatch.setattr(config, "MEMORY", MEMORY)
    monkeypatch.setattr(config, "_warned", {MEMORY})
    yield
    askonce._default.clear()


def said(name: str) -> Iterator[tuple[Any, Any, Any, Any]]:
    """All combinations of what is said at the three places (None: nothing), and what should come of each."""
    setting = SETTINGS[name]
    for given, configured, variable in product(
        [None, *setting.code], [None, *setting.code], [None, *setting.environment]
    ):
        means = setting.unsaid if variable is None else setting.environment[variable]
        for value in (configured, given):
            means = means if value is None else setting.code[value]
        yield given, configured, variable, means


def told(name: str, configured: Any, variable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config._configured.clear()
    askonce.configure(**{name: configured})
    if variable is None:
        monkeypatch.delenv(config.VARIABLES.get(name, "ASKONCE_NOTHING"), raising=False)
    else:
        monkeypatch.setenv(config.VARIABLES[name], variable)


def made(kind: Callable[..., Any], name: str, given: Any) -> Any:
    """A cache for which only this is said, and a URL where another setting needs one."""
    return kind(**{"url": SETTINGS[name].url, name: given})


def test_every_default_of_configure_is_in_the_table():
    named = {
        one.name for one in inspect.signature(askonce.configure).parameters.values() if one.kind is one.KEYWORD_ONLY
    }
    assert SETTINGS.keys() == named > config.VARIABLES.keys()


def test_what_a_cache_may_leave_unsaid_can_be_said_for_all_caches():
    given = inspect.signature(Cache).parameters.values()
    unsaid = {one.name for one in given if one.default is None}
    assert unsaid - OF_ONE_CACHE == SETTINGS.keys()
    for name in (
        *OF_ONE_CACHE,
        *(one.name for one in given if one.kind is one.KEYWORD_ONLY and one.default is not None),
    ):
        with pytest.raises(UsageError, match=rf"Cache\({name}="):
            askonce.configure(**{name: "a"})
    for name in StoreOptions.__annotations__.keys() | RULE_WORDS:
        with pytest.raises(UsageError, match=rf"{name}=: "):
            askonce.configure(**{name: "a"})


def test_fields_of_a_policy_are_configured_by_their_names_and_add_up():
    askonce.configure(policy=Policy(ttl=60, grace=5))
    askonce.configure(grace=7, ttl=None)
    for make in (askonce.default_cache, lambda: Cache("memory://"), lambda: Cache("memory://", jitter=0)):
        assert (terms(make()).ttl, terms(make()).grace) == (60, 7)
    assert terms(Cache("memory://", ttl=50)).ttl == 50
    assert terms(Cache("memory://", policy=Policy())).ttl == 86400
    for wrong, right in (({"ttl": "1h"}, "ttl=3600"), ({"tll": 5}, "ttl="), ({"scopes": {"a//b": Policy()}}, "a/b")):
        with pytest.raises(AskonceError, match=right):
            askonce.configure(**wrong)
    assert terms(askonce.default_cache()).ttl == 60


@pytest.mark.parametrize("kind", [Cache, AsyncCache])
@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_code_says_goes_before_the_environment_also_if_it_is_false(name, kind, monkeypatch):
    for given, configured, variable, means in said(name):
        told(name, configured, variable, monkeypatch)
        assert SETTINGS[name].of(made(kind, name, given)) == means, (given, configured, variable)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_cache_has_what_configure_said_last(name, monkeypatch):
    monkeypatch.setenv("ASKONCE_URL", SETTINGS[name].url or "")
    for given, configured, variable, means in said(name):
        if given is None:
            told(name, configured, variable, monkeypatch)
            askonce.configure(url=SETTINGS[name].url)
            assert SETTINGS[name].of(askonce.default_cache()) == means, (configured, variable)
            for later, effect in SETTINGS[name].code.items():
                askonce.configure(**{name: later})
                assert SETTINGS[name].of(askonce.default_cache()) == effect, (configured, variable, later)
            askonce._default.clear()


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "encryption"])
def test_a_pickled_cache_is_the_same_where_something_else_is_said(name, monkeypatch):
    for given, configured, variable, means in said(name):
        told(name, configured, variable, monkeypatch)
        carried = pickle.dumps(made(Cache, name, given))
        for other in (None, *SETTINGS[name].environment):
            told(name, None, other, monkeypatch)
            assert SETTINGS[name].of(pickle.loads(carried)) == means, (given, configured, variable, other)


def test_a_pickled_cache_loses_no_encryption_that_was_configured(monkeypatch):
    askonce.configure(encryption=KEYS["one"])
    with pytest.raises(TypeError, match="keys are not pickled"):
        pickle.dumps(Cache("memory://"))
    askonce.configure(encryption=False)
    carried = pickle.dumps(Cache("memory://"))
    monkeypatch.setenv("ASKONCE_KEYS", KEYS["two"])
    assert pickle.loads(carried)._base.codec.ids == ()


@pytest.mark.parametrize(("name", "value"), [("url", ""), ("url", 7), ("mode", ""), ("near", "")])
def test_an_empty_value_that_can_mean_nothing_is_refused_where_it_is_said(name, value, monkeypatch):
    monkeypatch.setenv(config.VARIABLES[name], next(iter(SETTINGS[name].environment)))
    with pytest.raises(ConfigError):
        askonce.configure(**{name: value})
    with pytest.raises(ConfigError):
        made(Cache, name, value)
