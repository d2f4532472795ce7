"""Fixtures for all tests. If a server is not installed, its tests are skipped.

Servers are started once a session, and those that work in a group once a file: they talk to each other all the time.
`valkey` and `redis_server` are shared, and empty at the beginning of each test that uses them, so a test may write
anything. A test that stops, freezes or configures its server takes `own_valkey` or `own_redis` instead.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The table of prices takes some tenths of a second to load in each process; tests of prices ask for it.
os.environ.setdefault("ASKONCE_PRICES", "off")

# Each client of an SDK reads the authorities that it trusts: a hundred of the system's take 20 ms. The key of this one is
# gone, and it signed nothing; a test that asks a public address takes the fixture `registries`.
AUTHORITY = str(Path(__file__).with_name("authority.pem"))
os.environ.setdefault("SSL_CERT_FILE", AUTHORITY)

# What is imported and collected for good is no garbage: until all of it is there, the collector would look at it often.
gc.disable()

# First of all: what is shipped for tests asserts too, and pytest rewrites only what is not imported yet.
pytest.register_assert_rewrite("askonce.testing")

from askonce.testing import Provider, RedisServer, ValkeyServer  # noqa: E402
from askonce.testing.clusters import Cluster  # noqa: E402
from askonce.testing.sentinels import PATIENT, SentinelGroup  # noqa: E402
from askonce.testing.servers import Redis8Server, Server  # noqa: E402
from tests import profiles, reports  # noqa: E402, F401 - the number of examples
from tests.corpus import interactions  # noqa: E402
from tests.fixtures import call, contained, crowd, others, place, shared, started, tasks, threads  # noqa: E402
from tests.support import ReplayUpstream  # noqa: E402

__all__ = ["call", "contained", "crowd", "others", "place", "shared", "tasks", "threads"]

TESTS = Path(__file__).parent
CORPUS = Path(os.environ.get("ASKONCE_CORPUS", TESTS.parents[1] / "shared" / "corpus"))


RECORDED = {"corpus_dir", "records", "replay_upstream", "steady_replay"}


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C ends what tests start, also where this process was told to ignore it: `make test &` in a script, nohup."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(reports)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads recorded traffic: `make quick` leaves it out by this mark."""
    for item in items:
        if isinstance(item, pytest.Function) and not RECORDED.isdisjoint(item.fixturenames):
            item.add_marker("corpus")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have each worker of xdist begin with other files: pytest compiles them anew, and who comes later reads that."""
    if worker := getattr(session.config, "workerinput", None):
        files = sorted(TESTS.rglob("test_*.py")) if session.config.args == [TESTS.name] else []
        begin = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        for file in (*files[begin:], *files[:begin]):
            with contextlib.suppress(Exception, pytest.skip.Exception):  # it is raised again when it is collected
                importlib.import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))


@pytest.fixture(autouse=True)
def _logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """A command of this process may set up logs: later tests are to find what this one found, and no closed stream.

    What an earlier test left (a task of a loop that ended) says so when it is collected: not in a test of what is told.
    """
    if "caplog" in request.fixturenames:
        gc.collect()
    loggers = [logging.getLogger(name) for name in ("askonce", "uvicorn.error")]
    before = [(one.handlers[:], one.filters[:], one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, filters, propagate, level) in zip(loggers, before, strict=True):
        one.handlers, one.filters, one.propagate = handlers, filters, propagate
        if one.level != level:
            one.setLevel(level)  # empties what every logger remembers


def pytest_collection_finish() -> None:
    """From here on there is garbage: the collector, which tests call often, passes by what was there before."""
    _freeze()
    gc.enable()


_frozen = 0  # modules


def _freeze() -> None:
    global _frozen  # noqa: PLW0603 - the collector is one too
    gc.collect()
    gc.freeze()
    _frozen = len(sys.modules)


def pytest_runtest_logfinish() -> None:
    """So is what a test imported: some SDKs have a hundred thousand objects, and each later collection would see all."""
    if len(sys.modules) > _frozen + 100:
        _freeze()


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's authorities, for a program that downloads from a registry of packages."""
    if os.environ.get("SSL_CERT_FILE") == AUTHORITY:
        monkeypatch.delenv("SSL_CERT_FILE")


@pytest.fixture(scope="session")
def _session_valkey() -> Iterator[Server]:
    yield from started(ValkeyServer())


@pytest.fixture(scope="session")
def _session_redis() -> Iterator[Server]:
    yield from started(RedisServer())


@pytest.fixture
def valkey(_session_valkey: Server) -> Server:
    """A real Valkey, shared by the session, empty."""
    _session_valkey.command("FLUSHALL")
    return _session_valkey


@pytest.fixture
def redis_server(_session_redis: Server) -> Server:
    """A real Redis, shared by the session, empty."""
    _session_redis.command("FLUSHALL")
    return _session_redis


@pytest.fixture(scope="module")
def _file_cluster() -> Iterator[Cluster]:
    yield from started(Cluster())


@pytest.fixture(scope="module")
def _file_redis_cluster() -> Iterator[Cluster]:
    yield from started(Cluster(Redis8Server))


@pytest.fixture
def cluster(_file_cluster: Cluster) -> Cluster:
    """Three primaries of Valkey without replicas, shared by the tests of a file, empty."""
    _file_cluster.flush()
    return _file_cluster


@pytest.fixture
def redis_cluster(_file_redis_cluster: Cluster) -> Cluster:
    """Three primaries of Redis 8.2 without replicas, shared by the tests of a file, empty."""
    _file_redis_cluster.flush()
    return _file_redis_cluster


@pytest.fixture
def own_valkey() -> Iterator[Server]:
    """A Valkey of this test's own: stop it, freeze it, kill it."""
    yield from started(ValkeyServer())


@pytest.fixture
def own_redis() -> Iterator[Server]:
    """A Redis of this test's own: stop it, freeze it, kill it."""
    yield from started(RedisServer())


@pytest.fixture(scope="module")
def _file_sentinels() -> Iterator[SentinelGroup]:
    yield from started(SentinelGroup(tolerance=PATIENT))  # no test of it replaces the primary


@pytest.fixture
def sentinels(_file_sentinels: SentinelGroup) -> SentinelGroup:
    """A primary, its replicas and its sentinels, shared by the tests of a file, and left alone: one prefix each."""
    return _file_sentinels


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The scripted provider over HTTP, without a delay."""
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The recorded traffic, which is kept outside the repository."""
    if not (CORPUS / "dev.jsonl.gz").exists():
        pytest.skip("the recorded traffic is not here: set ASKONCE_CORPUS to the folder that has dev.jsonl.gz")
    return CORPUS


@pytest.fixture(scope="session")
def records(corpus_dir: Path) -> list[dict[str, Any]]:
    """All recorded interactions."""
    return list(interactions(corpus_dir))


@pytest.fixture(scope="session")
def steady_replay(corpus_dir: Path) -> Iterator[ReplayUpstream]:
    """The recorded traffic as an upstream that answers the same request the same way every time."""
    with ReplayUpstream(corpus_dir, "--dup", "first") as running:
        yield running


@pytest.fixture(scope="session")
def _session_replay(corpus_dir: Path) -> Iterator[ReplayUpstream]:
    with ReplayUpstream(corpus_dir) as running:
        yield running


@pytest.fixture
def replay_upstream(_session_replay: ReplayUpstream) -> ReplayUpstream:
    """The recorded traffic as an upstream, shared by the session, its counters at zero and without faults."""
    _session_replay.faults()
    _session_replay.reset()
    return _session_replay
