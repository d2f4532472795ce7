"""Bad input to the API and the environment: each kind is one error that says what to write, and leaves nothing behind.

A table of what people write, and a part that is generated from signatures, so that a new keyword is tried by itself.
"""

# mypy: disable-error-code="arg-type,call-arg"

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import os
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import httpx
import httpx2
import pydantic
import pytest
import redis

import askonce
from askonce import AsyncCache, Cache, Keys, Policy
from askonce.cache import config
from askonce.cache.opened import CACHE_OPTIONS
from askonce.cache.options import OPTIONS
from askonce.cache.typing import StoreOptions
from askonce.core.rules import RULE_WORDS
from askonce.core.wording import shown
from askonce.errors import AskonceError
from askonce.testing import Lognormal, Provider, ScriptedCall, Step
from tests.bad_input import SECRET, files, well_told

MEMORY = "memory://"
REDIS = "redis://localhost:1/0"
REQUEST = {"model": "m", "messages": []}
KEY = b"k" * 32


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith(("ASKONCE_", "REDIS_", "XDG_")):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(config, "_configured", {})
    monkeypatch.setattr(askonce, "_default", {})


def told(tmp_path: Path, give) -> str:
    """The error of bad input; nothing was created."""
    before = files(tmp_path)
    with pytest.raises(AskonceError) as error:
        finish(give())
    assert files(tmp_path) == before
    line = str(error.value)
    well_told(line)
    return line


def finish(made) -> None:
    if inspect.isawaitable(made):
        asyncio.run(awaited(made))


async def awaited(made):
    return await made


URLS = {
    "": "sqlite:///file.db",
    " ": "scheme",
    "nonsense": "sqlite:///file.db",
    "x.db": "sqlite:///x.db",
    "/var/cache/answers.db": "sqlite:////var/cache/answers.db",
    "localhost:6379": "redis://localhost:6379",
    "localhost:6379/3": "redis://localhost:6379/3",
    "redis": "redis://host:6379/0",
    "redis:/localhost": "redis://host:6379/0",
    "sqlite:x.db": "sqlite:///file.db",
    "memory": "memory://",
    "reddis://localhost": "redis://",
    "sqllite:///x.db": "sqlite://",
    "redis+clustr://h:6379": "redis+cluster://",
    "http://localhost:8181": "gateway",
    "postgres://localhost/db": "sqlite:///file.db",
    f"{SECRET}@localhost:6379": "redis://host:6379/0",
    f"redis:/:{SECRET}@localhost": "redis://host:6379/0",
    f"redis://:{SECRET}@localhost:port/0": "redis://host:6379/0",
    f"redis://:{SECRET}#@localhost/0": "quote",
    f"redis://:{SECRET}@localhost/zero": "database number",
    "redis://localhost:99999/0": "redis://host:6379/0",
    "redis://a..b/0": "redis://host:6379/0",
    f"rediss://{'x' * 64}.com/0": "redis://host:6379/0",
    "redis://localhost/0?socket_timeout=soon": "socket_timeout=0.2",
    "redis://localhost/0?socket_timeout=-1": "socket_timeout=0.2",
    "redis://localhost/0?socket_timout=1": "socket_timeout",
    f"redis://localhost/0?{SECRET}=1": "redis.Redis.from_url",
    "rediss://localhost/0?ssl_cert_reqs=maybe": "'optional'",
    f"redis+cluster://:{SECRET}@h:x": "redis+cluster://host:6379,host:6379",
    "redis+cluster://h:6379/3": "database 0",
    "redis+sentinel://h": "mymaster",
    "unix://": "unix:///run/redis.sock",
    "unix:///x?db=z": "db=0",
    "sqlite://": "sqlite:///file.db",
    "sqlite://host/x.db": "sqlite:///file.db",
    "sqlite:///x.db?timeout=5": "max_bytes",
    "sqlite:///folder/": "sqlite:///file.db",
    "sqlite:///x\0.db": "sqlite:///file.db",
    "memory://a?max_bytes=5": "memory://name",
    # what redis-py drops, halves or reads as something else
    "redis://localhost/0?socket_timeout=": "leave it out",
    "redis://localhost/0?socket_timeout": "leave it out",
    "redis://localhost/0?socket_timeout=1&socket_timeout=2": "write it once",
    "redis://localhost/5?db=3": "db is given twice",
    "redis://a:b@localhost/0?username=c": "username is given twice",
    "redis://localhost/0?socket_keepalive=off": "socket_keepalive=true",
    "rediss://localhost/0?ssl_validate_ocsp=maybe": "ssl_validate_ocsp=true",
    "rediss://localhost/0?ssl_check_hostname=on": "ssl_check_hostname=true",
    "redis://localhost/0?timeout=5": "socket_timeout=0.2",
    "redis://localhost/0?connection_class=x": "leave it out",
    "redis://localhost/0?ssl=true": "rediss://",
    "redis://localhost/0?ssl_ca_certs=/etc/ca.pem": "rediss://",
    "redis://localhost/0#frag": "%23",
    "redis://localhost:0/0": "redis://host:6379/0",
    "redis://one,other/0": "redis+cluster://host:6379,host:6379",
    "redis://local host/0": "redis://host:6379/0",
    "redis://localhost/0?socket_type=abc": "socket_type=0",
    "redis://localhost/0?socket_keepalive_options=5": "TCP_KEEPIDLE",
    "redis://localhost/0?max_connections=0": "max_connections=10",
    "redis://localhost/0?client_name=a%20b": "client_name='askonce'",
    "rediss://localhost/0?ssl_min_version=77": "ssl_min_version=771",
    "rediss://localhost/0?ssl_ciphers=NOPE": "ECDHE",
    "redis+cluster://h:1?socket_timeout=": "leave it out",
    "redis+sentinel://h/mymaster?sentinel_password=": "sentinel_password is empty",
    "redis+sentinel://h/mymaster?sentinel_socket_timeout=x": "sentinel_socket_timeout is not a number",
    "redis+sentinel://h/mymaster?min_other_sentinels=x": "min_other_sentinels=1",
    # where no file can be
    "sqlite:///.": "name a file in it",
    "sqlite:////dev/null": "sqlite:///file.db",
    "sqlite://[x/y": "sqlite:///file.db",
    "memory://[::1": "memory://name",
    "sqlite:///a\nb.db": "remove them",
    "redis://localhost/0\t": "remove them",
    "sqlite:///x.db ": "remove them",
    f'"redis://:{SECRET}@localhost/0"': "remove the quotes",
    "'sqlite:///x.db'": "remove the quotes",
}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_ca_path")
FILES = (*_FILES, *(f"sentinel_{one}" for one in _FILES))


def named(value: object) -> str:
    """A value as part of a test's name: without addresses, for all workers have to give a test one name."""
    return re.sub(r" at 0x[0-9a-f]+", "", shown(value))


@pytest.mark.parametrize(("url", "right"), URLS.items(), ids=map(repr, URLS))
def test_a_url_that_names_no_store_says_how_one_looks(tmp_path, monkeypatch, url, right):
    assert right in told(tmp_path, lambda: Cache(url))
    if url.strip() == url != "" and "\0" not in url:
        monkeypatch.setenv("ASKONCE_URL", f" {url}\n")
        line = told(tmp_path, Cache)
        assert line.startswith("$ASKONCE_URL: ")
        assert right in line
        assert told(tmp_path, lambda: askonce.get_or_set([], "m", dict)) == line


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_certificates_that_cannot_be_read_is_found_when_the_cache_is_made(tmp_path, name):
    paths = {what: tmp_path / what for what in ("nowhere", "folder", "text", "empty", "pipe", "denied")}
    paths["folder"].mkdir()
    paths["text"].write_text("no certificate")
    paths["empty"].touch()
    paths["denied"].touch(0)
    os.mkfifo(paths["pipe"])
    bare = name.removeprefix("sentinel_")
    paths.pop("folder" if bare == "ssl_ca_path" else "" if os.getuid() else "denied", None)
    url = "rediss://h/0" if name == bare else "rediss+sentinel://h/mymaster"
    for path in paths.values():
        client = redis.Redis(ssl=True, **{bare: str(path)})
        for give in (
            lambda path=path: Cache(f"{url}?{name}={path}"),
            lambda path=path: Cache(url, **{name: path}),
            lambda client=client: Cache(redis_client=client),
        ):
            assert re.search(r"in PEM|ssl_certfile=, the file", told(tmp_path, give))


PLACES = {
    "a folder": lambda path: Cache(f"sqlite:///{path}"),
    "a path": lambda path: Cache(str(path)),
    "a host": lambda path: Cache(f"sqlite://host{path}"),
    "an option": lambda path: Cache(f"sqlite:///{path}?mode=ro"),
    "a memory": lambda path: Cache(f"memory://name{path}"),
    "a Redis": lambda path: Cache(f"redis://localhost{path}"),
    "certificates": lambda path: Cache("rediss://h/0", ssl_ca_certs=str(path / "nowhere")),
    "keys": lambda path: Cache("memory://", encryption=f"file:{path}"),
    "prices": lambda path: Cache("memory://", prices=str(path / "nowhere")),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_path_or_a_url_is_told_to_its_end(tmp_path, what):
    path = tmp_path.joinpath(*["a folder whose name is long".replace(" ", "-")] * 6)
    path.mkdir(parents=True)
    assert str(path) in told(tmp_path, lambda: PLACES[what](path))


async def later(*_):
    return False


def one_by_one(*_):
    yield False


async def all_at_last(*_):
    yield False


class Later:
    """A function that is a coroutine function under its class."""

    async def __call__(self, *_):
        return False


CACHE = [
    ({"prefix": 5}, "prefix='5'"),
    ({"prefix": b"llm"}, "prefix='llm'"),
    ({"prefix": "\ud800"}, "UTF-8"),
    ({"tenant": None}, "tenant='acme'"),
    ({"policy": {"ttl": 60}}, "Policy(ttl=60)"),
    ({"policy": Policy}, "Policy(ttl=60)"),
    ({"scopes": {"a": 5}}, "Policy(ttl=60)"),
    ({"scopes": {"": Policy()}}, "policy=Policy"),
    ({"scopes": [("a", Policy())] * 9}, "write {"),
    ({"mode": "readonly"}, "only-if-cached"),
    ({"mode": ["on"]}, "only-if-cached"),
    ({"strict": "no"}, "strict=False"),
    ({"near": "64 lots"}, "near='64MB'"),
    ({"near": "1kb"}, "near='1MiB'"),
    ({"near": "64MB"}, "leave near= out"),
    ({"consistency": "Strong"}, "'strong'"),
    ({"replay": ["paced"]}, "replay='paced'"),
    ({"replay_speed": "2"}, "replay_speed=1.0"),
    ({"replay_speed": float("nan")}, "replay_speed=1.0"),
    ({"compress": "ZSTD"}, "'zstd'"),
    ({"compress": "on"}, "'zstd'"),
    ({"compress": "no"}, "'off'"),
    ({"encryption": ""}, "askonce keys"),
    ({"encryption": SECRET}, "file:PATH"),
    ({"encryption": f"a={SECRET}"}, "askonce keys"),
    ({"encryption": "file:"}, "file:/etc/askonce.keys"),
    ({"encryption": "file:/no/such"}, "askonce keys --file"),
    ({"encryption": Path("/")}, "folder"),
    ({"encryption": {"names": KEY}}, "2026-11"),
    ({"encryption": {"a": b"short"}}, "AES-256 needs 32"),
    ({"encryption": 5}, "dict of ids"),
    ({"encryption": lambda: None}, "must return"),
    ({"prices": 5}, "dict of models"),
    ({"prices": ""}, "False for none"),
    ({"prices": "/no/such"}, "TOML or JSON"),
    ({"prices": {"m": {"inptu": 1}}}, "write input"),
    ({"prices": {"m": {"input": "free", "output": 1}}}, "2.5"),
    ({"ignore_headers": "x-turn"}, "['x-turn']"),
    ({"ignore_headers": ["authorization"]}, "tenant="),
    ({"same_as": {"https://a": "b"}}, "api.openai.com"),
    ({"same_as": {"a": "b", "b": "a"}}, "one host"),
    ({"normalize": asyncio.sleep}, "plain function"),
    ({"fold": ["cases"]}, "case, space, punctuation"),
    ({"inert": [5]}, "write text"),
    ({"max_bytes": "1GB"}, "256 * 2**20"),
    ({"max_byte": 5}, "write max_bytes"),
    ({"ttl": "1h"}, "ttl=3600"),
    ({"ttl": "5 min"}, "ttl=300"),
    ({"ttl": timedelta(hours=1)}, "delta.total_seconds()"),
    ({"ttl": -1}, "seconds from 0"),
    ({"ttl": 100, "max_age": 5}, "ttl=5"),
    ({"jitter": "5%"}, "jitter=0.05"),
    ({"hot_threshold": 0}, "at least 1"),
    ({"max_answer_bytes": "8MB"}, "8 * 2**20"),
    ({"max_flight": 901}, "900"),
    ({"ttl": 10**400}, "a hundred years"),
    ({"max_flight": 10**400}, "900"),
    ({"hot_threshold": 10**400}, "2**53"),
    ({"max_answer_bytes": 2**64}, "2**53"),
    ({"policy": Policy(), "ttl": float("-inf")}, "seconds from 0"),
    ({"tool_calls": ["pass"]}, "'structured'"),
    ({"scope": "a"}, "cache.scoped(scope=...)"),
    ({"tags": ["a"]}, "cache.scoped(tags=...)"),
    ({"polcy": Policy()}, "policy="),
    ({"password": SECRET}, "max_bytes"),
    # empty is not unsaid, and a number of another library is none of Python's
    ({"policy": {}}, "Policy(ttl=60)"),
    ({"policy": 0}, "Policy(ttl=60)"),
    ({"scopes": []}, "write {"),
    ({"same_as": ""}, "dict of hosts"),
    ({"same_as": False}, "dict of hosts"),
    ({"fold": b""}, "['case']"),
    ({"inert": {"tracing": 1}}, "['tracing']"),
    ({"ttl": Decimal("1.5")}, "write seconds, ttl=1.5"),
    ({"max_flight": 5e-324}, "from 0.001"),
    ({"hot_window": 5e-324}, "hot_window=3600"),
    ({"replay_speed": 10**400}, "replay_speed=1.0"),
    ({"replay_speed": 5e-324}, "replay_speed=1.0"),
    ({"tenant": "\ud800"}, "tenant='acme'"),
    ({"prices": "/dev/zero"}, "or no end"),
    ({"prices": "a\nb\x1b[31m"}, "TOML or JSON"),
    ({"prices": "x" * 9999}, "TOML or JSON"),
    ({"url": "x" * 9999}, "sqlite:///"),
    # what one policy says of itself
    ({"max_age": 60, "stale_if_error": 86400}, "stale_if_error=60, or max_age=86400"),
    ({"policy": Policy(max_age=60), "grace": 61}, "grace=60, or max_age=61"),
    ({"ttl": 60, "max_age": 60, "hot_ttl": 90}, "hot_ttl=60, or max_age=150"),
    # functions whose result comes later
    ({"normalize": later}, "plain function"),
    ({"normalize": functools.partial(later, 1)}, "plain function"),
    ({"normalize": Later()}, "plain function"),
    ({"normalize": one_by_one}, "plain function"),
    ({"normalize": all_at_last}, "plain function"),
]


@pytest.mark.parametrize(("options", "right"), CACHE, ids=[named(one)[:60] for one, _ in CACHE])
def test_a_wrong_option_of_a_cache_says_what_to_write(tmp_path, options, right):
    for kind in (Cache, AsyncCache):
        assert right in told(tmp_path, lambda kind=kind: kind(**{"url": MEMORY, **options}))


CALLS = [
    ("scope", "a//b", "'a/b'"),
    ("scope", 5, "'5'"),
    ("scope", "x" * 300, "200"),
    ("tags", "doc:42", "['doc:42']"),
    ("tags", b"doc:42", "['doc:42']"),
    ("tags", [""], "doc:42"),
    ("tags", [str(one) for one in range(99)], "64"),
    ("variant", 1.5, "small number"),
    ("tenant", ["a"], "tenant='acme'"),
    ("policy", "ttl=5", "Policy(ttl=60)"),
    ("control", "no-cash", "no-cache"),
    ("control", "no-cache max-age=5", "commas"),
    ("control", "max-age=1h", "max-age=60"),
    ("control", 5, "max-age=60"),
    ("store_if", "yes", "function"),
    ("consistency", "weak", "'bounded'"),
    ("ttl", "1d", "ttl=86400"),
    ("tll", 5, "ttl="),
    ("scopes", "a", "scope="),
    ("mode", "off", "Cache(mode=...)"),
    ("prefix", "a", "Cache(prefix=...)"),
    ("encryption", SECRET, "Cache(encryption=...)"),
    ("policy", {}, "Policy(ttl=60)"),
    ("tags", {"doc": 42}, "['doc:42']"),
    ("tags", "", "list of tags"),
    ("tags", 0, "['doc:42']"),
    ("variant", False, "small number"),
    ("variant", 0.0, "small number"),
    ("variant", 10**5000, "small number"),
    ("variant", "\ud800", "small number"),
    ("tenant", "\ud800", "tenant='acme'"),
    ("tenant", 10**5000, "tenant='acme'"),
    ("control", {}, "max-age=60"),
    ("store_if", Later(), "plain function"),
    ("store_if", one_by_one, "plain function"),
]


@pytest.mark.parametrize(("name", "value", "right"), CALLS, ids=[f"{one[0]}={named(one[1])[:30]!r}" for one in CALLS])
def test_a_wrong_option_of_a_call_is_found_where_it_is_given(tmp_path, name, value, right):
    with Cache(MEMORY) as cache:
        gives = (cache.scoped, cache.http_client, cache.transport, lambda **own: cache.fetch(REQUEST, dict, **own))
        for give in gives:
            assert right in told(tmp_path, lambda give=give: give(**{name: value}))


class Hostile:
    """It is in nobody's hand what an operator, or a text of a value, does: a DataFrame's raises, or has many lines."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __repr__(self):
        raise RuntimeError("no text")


class Answer(pydantic.BaseModel):
    """What an SDK returns where no stream was asked for: it can be iterated over, by its fields."""

    choices: list[int] = []


CARRIER = httpx2.HTTPTransport()
OTHERS = [
    (lambda cache: cache.fetch(REQUEST, {"answer": 1}), "lambda"),
    (lambda cache: cache.fetch(REQUEST, None), "lambda"),
    (lambda cache: cache.fetch({1, 2}, dict), "sorted"),
    (lambda cache: cache.fetch_stream(REQUEST, {}.copy), "iterator"),
    (lambda cache: cache.fetch_stream(REQUEST, list, item="x"), "ChatCompletionChunk"),
    (lambda cache: cache.get_or_set([], "m", dict, tag="a"), "tags="),
    (lambda cache: cache.get_or_set([], "m", dict, request=5), "request={"),
    (lambda cache: cache.get_or_set([], "m", dict, "1h"), "ttl=3600"),
    (lambda cache: cache.http_client(module="requests"), "module=httpx"),
    (lambda cache: cache.http_client(module=os), "module=httpx"),
    (lambda cache: cache.http_client(inner=5), "HTTPTransport"),
    (lambda cache: cache.http_client(inner=httpx.AsyncHTTPTransport()), "httpx2.HTTPTransport"),
    (lambda cache: cache.http_client(inner=httpx2.HTTPTransport), "inner=httpx2.HTTPTransport(...)"),
    (lambda cache: cache.http_client(inner=httpx.HTTPTransport()), "module=httpx, or inner=httpx2.HTTPTransport(...)"),
    (lambda cache: cache.http_client(inner=httpx2.HTTPTransport(), module=httpx), "module=httpx2"),
    (lambda cache: cache.transport(inner=httpx.MockTransport(None)), "module=httpx"),
    (lambda cache: cache.http_client(transport=httpx.HTTPTransport()), "module=httpx, or transport="),
    (lambda cache: cache.http_client(transport=httpx2.AsyncHTTPTransport()), "transport=httpx2.HTTPTransport(...)"),
    (lambda cache: cache.http_client(mounts={"all://": 5}), "mounts['all://']"),
    (lambda cache: cache.http_client(mounts={"all://": None, "x://": httpx.HTTPTransport()}), "module=httpx"),
    (lambda cache: cache.http_client(mounts=[]), "dict"),
    (lambda cache: cache.http_client(mounts=[("all://", None)]), "dict"),
    (lambda cache: cache.http_client(inner=CARRIER, transport=CARRIER), "one of them"),
    (lambda cache: httpx.Client(transport=cache.transport()).get("http://localhost:1"), "transport(module=httpx)"),
    (lambda cache: cache.http_client(timout=5), "timeout="),
    (lambda cache: cache.http_client(share_forms="no"), "share_forms=False"),
    (lambda cache: cache.invalidate(), "tag='doc:42'"),
    (lambda cache: cache.invalidate(tags="a"), "tag="),
    (lambda cache: cache.invalidate(evrything=True), "everything="),
    (lambda cache: cache.invalidate(everything="no"), "everything=False"),
    (lambda cache: cache.invalidate(key=5), "key='5'"),
    (lambda cache: cache.invalidate(key="abc"), "64 hex digits"),
    (lambda cache: cache.invalidate(tag=[]), "tag='doc:42'"),
    (lambda cache: cache.invalidate(model=[5]), "model's name"),
    (lambda cache: cache.invalidate(scope=""), "everything=True"),
    (lambda cache: cache.invalidate(scope=["a", "b/*"]), "write scope='b'"),
    (lambda cache: cache.invalidate(model="gpt-4*"), "no glob"),
    *(
        (lambda cache, name=name: cache.invalidate(**{name: [Hostile()]}), "write")
        for name in ("scope", "tag", "model")
    ),
    (lambda cache: askonce.configure(scopes=[]), "write {"),
    (lambda cache: askonce.configure(scopes=Hostile()), "write {"),
    (lambda cache: cache.fetch({"n": 10**5000}, dict), "write it as text"),
    (lambda cache: cache.fetch({10**5000: 1}, dict), "str(key)"),
    (lambda cache: cache.invalidate(tag="a", tenant="t"), "request="),
    (lambda cache: cache.invalidate(tag="a", dry_run="no"), "dry_run=False"),
    (lambda cache: cache.invalidate(tag="a", key="b"), "one way"),
    (lambda cache: cache.why(), "one way"),
    (lambda cache: cache.why(REQUEST, stream="no"), "stream=False"),
    (lambda cache: cache.why(httpx.Response(200)), "a client of the cache"),
    (lambda cache: cache.misses("20"), "at least 1"),
    (lambda cache: cache.savings(by="modle"), "model"),
    (lambda cache: cache.savings(by=5), "by="),
    (lambda cache: cache.savings(since="today"), "number of days"),
    (lambda cache: cache.savings(sinc=5), "since="),
    (lambda cache: cache.savings(since=timedelta(days=-1)), "days=7"),
    (lambda cache: cache.savings(since=timedelta.min), "days=7"),
    (lambda cache: cache.savings(since=date(9999, 12, 31)), "give a day up to"),
    (lambda cache: cache.savings(since=datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))), "give a day up to"),
    (lambda cache: Policy(max_bytes=5, max_answer_bytes=6), "write one of them"),
    (lambda cache: Policy(ttl=10**5000), "a hundred years"),
    (lambda cache: cache.activity(days="1"), "at least 1"),
    (lambda cache: cache.close("soon"), "limit=5"),
    (lambda cache: cache.on_event(None), "function"),
    (lambda cache: askonce.carry(5), "carry(ask)"),
    (lambda cache: askonce.request_log(5), "AsyncCache"),
    (lambda cache: askonce.request_log(cache, 5), "sys.stdout"),
    (lambda cache: askonce.configure(ulr=MEMORY), "url="),
    (lambda cache: askonce.configure(url="reddis://h"), "redis://"),
    (lambda cache: askonce.configure(prefix=5), "prefix='5'"),
    (lambda cache: askonce.configure(mode="of"), "only-if-cached"),
    (lambda cache: askonce.configure(compress="gzip"), "'zstd'"),
    (lambda cache: askonce.configure(encryption=SECRET), "askonce keys"),
    (lambda cache: askonce.configure(prices="/no/such"), "TOML or JSON"),
    (lambda cache: askonce.configure(policy={"ttl": 5}), "Policy(ttl=60)"),
    (lambda cache: askonce.configure(scopes={"a": 5}), "Policy(ttl=60)"),  # type: ignore[dict-item]
    (lambda cache: askonce.configure(consistency="weak"), "'bounded'"),
    (lambda cache: askonce.configure(ttl="1h"), "ttl=3600"),
    (lambda cache: askonce.configure(tenant="a"), "Cache(tenant=...)"),
    (lambda cache: Policy(tll=5), "ttl="),
    (lambda cache: Keys({}), "askonce keys"),
    (lambda cache: Keys({"a": KEY}, nmaes=KEY), "names="),
    (lambda cache: Keys.parse(5), "askonce keys"),
    (lambda cache: Cache(REDIS, socket_timeout="soon"), "socket_timeout=0.2"),
    (lambda cache: Cache(REDIS, port="x"), "port=6379"),
    (lambda cache: Cache(REDIS, max_bytes=5), "maxmemory"),
    (lambda cache: Cache(redis_client=5), "redis.Redis"),
    (lambda cache: Cache(MEMORY, redis_client=5), "not both"),
    (lambda cache: Cache(Path("x.db")), "sqlite:///x.db"),
    (lambda cache: cache.fetch(REQUEST, one_by_one), "fetch_stream"),
    (lambda cache: cache.fetch(REQUEST, lambda: iter(one_by_one())), "fetch_stream"),
    (lambda cache: cache.fetch(REQUEST, lambda: later), "call it in the call"),
    (lambda cache: cache.fetch(REQUEST, lambda: [].append), "call it in the call"),
    (lambda cache: cache.fetch_stream(REQUEST, httpx.Headers), "create(..., stream=True)"),
    (lambda cache: cache.fetch_stream(REQUEST, Answer), "create(..., stream=True)"),
    (lambda cache: cache.fetch_stream(REQUEST, lambda: bytearray(b"a")), "iterator"),
    (lambda cache: cache.get_or_set([], None, dict), "model='gpt-4.1-mini'"),
    (lambda cache: cache.get_or_set([], "m", dict, request=[]), "request={"),
    (lambda cache: cache.get_or_set([], "m", dict, request=False), "request={"),
    (lambda cache: cache.get_or_set([], "m", dict, seed=1, request={"seed": 2}), "seed= is given twice"),
    (lambda cache: cache.get_or_set([], "m", dict, request={"model": "n"}), "model= is given twice"),
    (lambda cache: cache.invalidate(tag={"doc": 42}), "list of texts"),
    (lambda cache: cache.invalidate(key="a" * 9999), "64 hex digits"),
    (lambda cache: cache.why(key=10**5000), "64 hex digits"),
    (lambda cache: cache.on_event(later), "plain function"),
    (lambda cache: Cache(MEMORY, encryption=later), "plain function"),
    # the scripted provider, which said so to a client, or hung
    (lambda cache: Provider(port=99999), "from 0 to 65535"),
    (lambda cache: Provider(port="8080"), "from 0 to 65535"),
    (lambda cache: Provider(delay="1s"), "delay=0.5"),
    (lambda cache: Provider(pace=-1), "pace=0.5"),
    (lambda cache: Provider(receipts=5), "Receipts(path)"),
    (lambda cache: ScriptedCall(protocol="openai"), "'openai.chat'"),
    (lambda cache: ScriptedCall().script("q", "refuse"), "'refused'"),
    (lambda cache: ScriptedCall().script("q", True), "'refused'"),
    (lambda cache: ScriptedCall().script("q", 42), "from 100 to 599"),
    (lambda cache: ScriptedCall().script("q", Step), "'refused'"),
    (lambda cache: Step(status="500"), "from 100 to 599"),
    (lambda cache: Step(error="boom"), "ConnectionError()"),
    (lambda cache: Step(hang="no"), "hang=False"),
    (lambda cache: Step(delay=float("nan")), "delay=0.5"),
    (lambda cache: Step(after=-1), "whole number"),
    (lambda cache: Step(headers=["a"]), "dict"),
    (lambda cache: Lognormal(0), "Lognormal(0.5)"),
]


@pytest.mark.parametrize(("give", "right"), OTHERS, ids=range(len(OTHERS)))
def test_other_wrong_arguments_say_what_to_pass(tmp_path, give, right):
    with Cache(MEMORY) as cache:
        if right == "not both":
            with pytest.raises(AskonceError, match=right):
                give(cache)
        else:
            assert right in told(tmp_path, lambda: give(cache))


def test_a_coroutine_in_place_of_its_function_is_told_and_not_left_unawaited(tmp_path):
    async def ask():
        return 1

    async def asked():
        async with AsyncCache(MEMORY) as cache:
            await cache.fetch(REQUEST, ask())

    assert "lambda" in told(tmp_path, asked)


@pytest.mark.parametrize(("give", "right"), [(later, "await it in the call"), (all_at_last, "fetch_stream")])
def test_what_a_coroutine_returns_and_has_asked_nothing_yet_is_told_and_not_left_unawaited(tmp_path, give, right):
    async def returned():
        return give()

    async def asked():
        async with AsyncCache(MEMORY) as cache:
            await cache.fetch(REQUEST, returned)

    assert right in told(tmp_path, asked)


ENVIRONMENT = [
    ("ASKONCE_MODE", "of", "only-if-cached"),
    ("ASKONCE_MODE", "true", "only-if-cached"),
    ("ASKONCE_NEAR", "lots", "ASKONCE_NEAR=64MB"),
    ("ASKONCE_NEAR", "-1", "ASKONCE_NEAR=64MB"),
    ("ASKONCE_NEAR", "1kb", "ASKONCE_NEAR=1MiB"),
    ("ASKONCE_NEAR", "True", "ASKONCE_NEAR=64MB"),
    ("ASKONCE_NEAR", "1e400", "ASKONCE_NEAR=64MB"),
    ("ASKONCE_COMPRESS", "gzip", "'zstd'"),
    ("ASKONCE_COMPRESS", "false", "'off'"),
    ("ASKONCE_KEYS", "", "askonce keys"),
    ("ASKONCE_KEYS", " ", "askonce keys"),
    ("ASKONCE_KEYS", SECRET, "file:PATH"),
    ("ASKONCE_KEYS", "file:", "file:/etc/askonce.keys"),
    ("ASKONCE_KEYS", "file:/no/such", "askonce keys --file"),
    ("ASKONCE_PRICES", "/no/such", "off for none"),
    ("ASKONCE_PRICES", "no", "off for none"),
    ("ASKONCE_PREFIX", "\udcff", "llm:v3"),
    ("REDIS_URL", "nonsense", "sqlite:///file.db"),
    ("REDIS_URL", '"redis://h/0"', "remove the quotes"),
    ("REDIS_URL", f"redis://:{SECRET}@h:x", "redis://host:6379/0"),
]


@pytest.mark.parametrize(
    ("name", "value", "right"), ENVIRONMENT, ids=[f"{one[0]}={named(one[1])!r}" for one in ENVIRONMENT]
)
def test_a_wrong_variable_is_named_with_what_to_write(tmp_path, monkeypatch, name, value, right):
    monkeypatch.setenv(name, value)
    makes = (Cache,) if name == "REDIS_URL" else (lambda: Cache(REDIS), lambda: Cache(MEMORY), Cache)
    for make in makes:  # whichever store the next deployment has
        line = told(tmp_path, make)
        assert right in line
        if name != "ASKONCE_PREFIX":
            assert name in line


@pytest.mark.parametrize("name", [*config.VARIABLES.values(), "REDIS_URL"])
def test_a_blank_variable_says_nothing_unless_a_secret_was_lost(tmp_path, monkeypatch, name):
    for blank in ("", " ", "\n"):
        monkeypatch.setenv(name, blank)
        if name == "ASKONCE_KEYS":
            assert "$ASKONCE_KEYS" in told(tmp_path, Cache)
        else:
            assert Cache()._base.mode == "on"


MISSPELT = {
    "ASKONCE_NEER": "$ASKONCE_NEAR",
    "ASKONCE_URLL": "$ASKONCE_URL",
    "ASKONCE_KEY": "$ASKONCE_KEYS",
    "ASKONCE_UPSTREAMS": "$ASKONCE_UPSTREAM",
    "ASKONCE_TTL": "Cache(ttl=...)",
    "ASKONCE_STRICT": "Cache(strict=...)",
}


def test_a_variable_that_nothing_reads_and_somebody_meant_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(config, "_warned", set())
    for name in (*MISSPELT, "ASKONCE_DEPLOYED_BY", "ASKONCE_X", *(f"ASKONCE_{one}" for one in config.KNOWN - {"URL"})):
        monkeypatch.setenv(name, "1" if name in MISSPELT else "")
    monkeypatch.delenv("ASKONCE_KEYS")
    for _ in range(2):
        Cache(MEMORY)
    lines = [one.getMessage() for one in caplog.records]
    assert sorted(lines) == sorted(
        f"askonce does not read ${name}, which is set: write {right}" for name, right in MISSPELT.items()
    )


def test_every_variable_that_is_read_is_known():
    source = Path(askonce.__file__).parent
    read = {
        name for path in source.rglob("*.py") for name in re.findall(r"ASKONCE_([A-Z_]+[A-Z])", path.read_text("utf-8"))
    }
    assert read == config.KNOWN


def test_a_closed_cache_says_so_whatever_it_is_asked(tmp_path):
    cache = Cache(MEMORY)
    outcome = cache.fetch(REQUEST, dict)
    cache.close()
    asked = [
        *(getattr(cache, name) for name in ("savings", "misses", "activity", "sweep", "__enter__")),
        *(lambda one=one: one(REQUEST) for one in (cache.why, lambda one: cache.fetch(one, dict))),
        *(lambda one=one: cache.invalidate(**one) for one in ({"tag": "a"}, {"tag": "a", "dry_run": True})),
        *(lambda: list(cache.entries()), outcome.why, outcome.forget, lambda: cache.fetch_stream(REQUEST, list)),
    ]
    assert {told(tmp_path, one) for one in asked} == {"this cache was closed: make a new one"}
    assert cache.close() == []
    assert cache.stats()["stored"] == 1

    async def later(ask):
        async with AsyncCache(MEMORY) as closed:
            outcome = await closed.fetch(REQUEST, dict)
        return await ask(closed, outcome)

    for ask in (
        lambda one, _: one.savings(),
        lambda one, _: one.why(REQUEST),
        lambda one, _: one.sweep(),
        lambda one, _: one.invalidate(tag="a"),
        lambda one, _: one.entries().__anext__(),
        lambda one, _: one.__aenter__(),
        lambda _, outcome: outcome.why(),
        lambda _, outcome: outcome.forget(),
    ):
        assert told(tmp_path, lambda ask=ask: later(ask)) == "this cache was closed: make a new one"


def test_a_span_beyond_all_calendars_is_all_that_is_kept():
    with Cache(MEMORY) as cache:
        assert cache.savings(since=timedelta.max).since == cache.savings().since == cache.savings(since=date.min).since


def test_a_limit_beyond_all_clocks_is_as_long_as_a_lock_waits():
    for limit in (10**400, float("inf"), 1e308):
        assert Cache(MEMORY).close(limit) == []


# --- generated from signatures and tables of words ---------------------------------------------------------------

HELD = sorted((CACHE_OPTIONS | OPTIONS | RULE_WORDS) - {"clock"})


class Lines:
    """A value whose text has lines, and what does not print."""

    def __repr__(self):
        return "a b\n 0 1\x1b[31m"


STRANGE = [object(), 1j, {"a": {1}}, [object()], b"\xff", Hostile(), Lines(), 10**5000]
ANY = {"ssl_ocsp_context"}
TEXTS = {"password", "ssl_password", "ssl_ca_data"}  # bytes, too


@pytest.mark.parametrize("name", sorted(StoreOptions.__annotations__.keys() - ANY))
def test_no_option_of_a_store_takes_a_strange_value(tmp_path, name):
    url = MEMORY if name == "max_bytes" else "sqlite:///x.db" if name in {"private", "clock"} else "rediss://h/0"
    for value in (*STRANGE, float("nan"), float("inf"), -3, *([[SECRET]] if name in TEXTS else [])):
        if not (name in TEXTS and isinstance(value, bytes)):
            told(tmp_path, lambda value=value: Cache(url, **{name: value}))


@pytest.mark.parametrize("name", HELD)
def test_no_keyword_of_a_cache_or_a_call_takes_a_strange_value(tmp_path, name):
    for value in STRANGE:
        if name in OPTIONS and name not in CACHE_OPTIONS:
            told(tmp_path, lambda value=value: Cache(MEMORY).scoped(**{name: value}))
        else:
            url = {} if name in {"url", "redis_client"} else {"url": MEMORY}
            told(tmp_path, lambda value=value, url=url: Cache(**url, **{name: value}))


def methods():
    for kind in (Cache, AsyncCache):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                yield kind, name, method


def closed(method) -> list[str]:
    """The keywords of a function that takes no others."""
    given = inspect.signature(method).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in given):
        return []
    return [
        one.name for one in given if one.kind in {one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD} and one.name != "self"
    ]


QUIET = {"listener"}  # a single argument, given by its place
NAMED = [(kind, name, word) for kind, name, method in methods() for word in closed(method) if word not in QUIET]


@pytest.mark.parametrize(("kind", "name", "word"), NAMED, ids=[f"{k.__name__}.{n}({w})" for k, n, w in NAMED])
def test_every_misspelt_keyword_of_a_method_names_the_right_one(tmp_path, kind, name, word):
    cache = kind(MEMORY)
    assert f"{word}=" in told(tmp_path, lambda: getattr(cache, name)(**{f"{word}x": 1}))


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Policy)])
def test_every_misspelt_field_of_a_policy_names_the_right_one(tmp_path, name):
    assert f"{name}=" in told(tmp_path, lambda: Policy(**{f"{name}x": 1}))


def test_the_table_has_at_least_eighty_kinds():
    assert len(URLS) + len(CACHE) + len(CALLS) + len(OTHERS) + len(ENVIRONMENT) >= 80
