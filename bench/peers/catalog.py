"""Which peers there are, how each is used, and beside which askonce it stands."""

from __future__ import annotations

from typing import NamedTuple

from bench import machine

ORJSON = "orjson"
REDIS = "redis[hiredis]"


class Room(NamedTuple):
    """An environment: what is installed and measured, and what is installed afterwards, for the adapter alone."""

    name: str
    requires: tuple[str, ...]
    also: tuple[str, ...] = (ORJSON,)
    imports: str = ""  # the statement with which a program imports it
    shown: str = ""  # the distribution whose version stands on the page


class Peer(NamedTuple):
    """A library in one use. `ours`: the peer that is askonce in the same use, "" for one that is askonce itself."""

    name: str
    room: Room
    adapter: str
    ours: str
    settings: str
    cache: bool = True  # False: the upstream without a cache

    @property
    def store(self) -> str:
        """Where its answers are, as its name says."""
        return self.name.rpartition(", ")[2]


class Use(NamedTuple):
    """A way to use a cache; its peers stand in one table, askonce first."""

    title: str
    peers: tuple[Peer, ...]


ASKONCE = Room("askonce", (str(machine.ROOT),), (), "import askonce", "askonce")
CLIENT = Room("askonce-http", (f"{machine.ROOT}[http]",), (), "import askonce", "askonce")
SDK = Room("askonce-openai", (str(machine.ROOT), "openai"), (), "import askonce, openai", "askonce")
REDIS_PY = Room("redis-py", (REDIS,), (ORJSON,), "import redis", "redis")
CASHEWS = Room("cashews", ("cashews[redis]", REDIS), (ORJSON,), "import cashews", "cashews")
AIOCACHE = Room("aiocache", ("aiocache[redis]", REDIS), (ORJSON,), "import aiocache", "aiocache")
DOGPILE = Room("dogpile", ("dogpile.cache", REDIS), (ORJSON,), "import dogpile.cache", "dogpile.cache")
DISKCACHE = Room("diskcache", ("diskcache",), (ORJSON,), "import diskcache", "diskcache")
REQUESTS = Room("requests-cache", ("requests-cache[redis]", REDIS), (), "import requests_cache", "requests-cache")
HISHEL = Room("hishel", ("hishel[httpx,redis]", REDIS), (), "import hishel.httpx", "hishel")
LANGCHAIN = Room(
    "langchain", ("langchain-community", REDIS), (), "import langchain_community.cache", "langchain-community"
)
# A hit imports modules of LiteLLM's proxy, which need these; `litellm` does not install them.
LITELLM = Room("litellm", ("litellm", REDIS), (ORJSON, "fastapi", "soundfile"), "import litellm", "litellm")

THREADS, TASKS, FILE = "askonce, Valkey", "askonce in tasks, Valkey", "askonce, SQLite"
HTTP, HTTP_FILE = "askonce http_client, Valkey", "askonce http_client, SQLite"
OPENAI = "askonce under OpenAI's SDK, Valkey"
NO_LOCK = "It has no lock"

USES = (
    Use(
        "A function in threads, on Valkey",
        (
            Peer(THREADS, ASKONCE, "askonce:Threads", "", "`Cache.fetch`"),
            Peer(
                "the tutorial's wrapper, Valkey", REDIS_PY, "tutorial:Tutorial", THREADS, "as printed: a lock of 10 s"
            ),
            Peer(
                "redis-py, Valkey",
                REDIS_PY,
                "redis_py:BareGet",
                THREADS,
                "`GET` of a key that is known beforehand; the bytes of a hit are not parsed. It has no lock",
            ),
            Peer(
                "dogpile.cache, Valkey",
                DOGPILE,
                "dogpile:Dogpile",
                THREADS,
                "`get_or_create`, `distributed_lock`, `lock_timeout=30`, `lock_sleep=0.01`, orjson",
            ),
            Peer(
                "LangChain RedisCache, Valkey",
                LANGCHAIN,
                "langchain:OnRedis",
                THREADS,
                f"`invoke` of a chat model that does nothing but the call. {NO_LOCK}",
            ),
            Peer("no cache, in threads", ASKONCE, "nothing:Threads", THREADS, "the upstream alone", cache=False),
        ),
    ),
    Use(
        "A function in tasks, on Valkey",
        (
            Peer(TASKS, ASKONCE, "askonce:Tasks", "", "`AsyncCache.fetch`"),
            Peer(
                "cashews, Valkey",
                CASHEWS,
                "cashews:Cashews",
                TASKS,
                "`@cache` around `@cache.locked(ttl=30, check_interval=0.01)` around `@cache`",
            ),
            Peer(
                "aiocache, Valkey",
                AIOCACHE,
                "aiocache:Aiocache",
                TASKS,
                "`@cached_stampede(lease=30)` (RedLock), orjson",
            ),
            Peer("no cache, in tasks", ASKONCE, "nothing:Tasks", TASKS, "the upstream alone", cache=False),
        ),
    ),
    Use(
        "A function in threads, on SQLite",
        (
            Peer(FILE, ASKONCE, "askonce:Threads", "", "`Cache.fetch`"),
            Peer(
                "diskcache, SQLite",
                DISKCACHE,
                "diskcache:Diskcache",
                FILE,
                "`get`, then `Lock(expire=30)` and a second `get`; orjson",
            ),
            Peer(
                "LangChain SQLiteCache, SQLite",
                LANGCHAIN,
                "langchain:OnSqlite",
                FILE,
                f"`invoke`, as above. {NO_LOCK}",
            ),
        ),
    ),
    Use(
        "An HTTP client, on Valkey",
        (
            Peer(HTTP, CLIENT, "askonce:Client", "", "`Cache.http_client()`, a client of httpx2"),
            Peer(
                "requests-cache, Valkey",
                REQUESTS,
                "requests_cache:OnRedis",
                HTTP,
                f"`CachedSession` on requests, `allowable_methods` with POST. {NO_LOCK}",
            ),
            Peer(
                "hishel, Valkey",
                HISHEL,
                "hishel:OnRedis",
                HTTP,
                "`CacheClient` on httpx. It serves no POST from its cache: measured with GET and the question's name "
                f"in the URL. {NO_LOCK}",
            ),
        ),
    ),
    Use(
        "An HTTP client, on SQLite",
        (
            Peer(HTTP_FILE, CLIENT, "askonce:Client", "", "`Cache.http_client()`"),
            Peer(
                "requests-cache, SQLite",
                REQUESTS,
                "requests_cache:OnSqlite",
                HTTP_FILE,
                f"as above, `wal=True`. {NO_LOCK}",
            ),
            Peer("hishel, SQLite", HISHEL, "hishel:OnSqlite", HTTP_FILE, f"as above, with GET. {NO_LOCK}"),
        ),
    ),
    Use(
        "An SDK, on Valkey",
        (
            Peer(OPENAI, SDK, "askonce:SDK", "", "`OpenAI(http_client=cache.http_client())`"),
            Peer(
                "LiteLLM, Valkey",
                LITELLM,
                "litellm:LiteLLM",
                OPENAI,
                "`completion(caching=True)`. A hit needs FastAPI and soundfile, which its SDK does not install; their "
                f"size is not counted. {NO_LOCK}",
            ),
        ),
    ),
)


def chosen(names: list[str]) -> tuple[Use, ...]:
    """The uses with only the peers of these environments, and askonce beside each; ValueError for an unknown name."""
    rooms = {peer.room.name for use in USES for peer in use.peers}
    if unknown := sorted(set(names) - rooms):
        raise ValueError(f"no peer is called {', '.join(unknown)}; there are {', '.join(sorted(rooms))}")
    if not names:
        return USES
    kept = [Use(use.title, tuple(one for one in use.peers if not one.ours or one.room.name in names)) for use in USES]
    return tuple(use for use in kept if any(one.room.name in names for one in use.peers))
