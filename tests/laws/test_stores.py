"""Every store of askonce, in both modes, under the laws of the shipped contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from askonce.cache.stores import open_store
from askonce.store import Store
from askonce.testing.clusters import Cluster
from askonce.testing.contract import StoreLaws, TimeLaws
from askonce.testing.sentinels import SentinelGroup
from askonce.testing.servers import Server
from askonce.testing.trial import Trial


class Memories(Trial):
    clocked = True

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        url = f"memory://{self.prefix}"
        return open_store(url, prefix=prefix, asynchronous=self.asynchronous, clock=clock)


class Files(Trial):
    clocked = True

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.file = tmp_path / "answers.db"

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        url = f"sqlite:///{self.file}"
        return open_store(url, prefix=prefix, asynchronous=self.asynchronous, clock=clock)


class Servers(Trial):
    server: Server | SentinelGroup

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        # Patient: on a busy machine a fifth of a second passes quickly, and no law is about that.
        return open_store(self.server.url, prefix=prefix, asynchronous=self.asynchronous, socket_timeout=10.0)


class Valkeys(Servers):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: Server) -> None:
        self.server = valkey


class Redises(Servers):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Server) -> None:
        self.server = redis_server


class Services(Servers):
    @pytest.fixture(autouse=True)
    def _server(self, sentinels: SentinelGroup) -> None:
        self.server = sentinels


class Clusters(Trial):
    cluster: Cluster

    def store_factory(self, *, prefix: str, clock: Callable[[], int]) -> Store:
        return open_store(self.cluster.url, prefix=prefix, asynchronous=self.asynchronous, socket_timeout=10.0)


class ValkeyClusters(Clusters):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster


class RedisClusters(Clusters):
    @pytest.fixture(autouse=True)
    def _cluster(self, redis_cluster: Cluster) -> None:
        self.cluster = redis_cluster


class TestMemory(Memories, StoreLaws, TimeLaws):
    pass


class TestAsyncMemory(TestMemory):
    asynchronous = True


class TestSQLite(Files, StoreLaws, TimeLaws):
    pass


class TestAsyncSQLite(TestSQLite):
    asynchronous = True


@pytest.mark.servers
class TestValkey(Valkeys, StoreLaws):
    pass


@pytest.mark.servers
class TestAsyncValkey(TestValkey):
    asynchronous = True


@pytest.mark.servers
class TestRedis(Redises, StoreLaws):
    pass


@pytest.mark.servers
class TestAsyncRedis(TestRedis):
    asynchronous = True


@pytest.mark.servers
class TestSentinel(Services, StoreLaws):
    pass


@pytest.mark.slow
@pytest.mark.servers
class TestAsyncSentinel(TestSentinel):
    asynchronous = True


@pytest.mark.servers
class TestValkeyCluster(ValkeyClusters, StoreLaws):
    pass


@pytest.mark.slow
@pytest.mark.servers
class TestAsyncValkeyCluster(TestValkeyCluster):
    asynchronous = True


@pytest.mark.slow
@pytest.mark.servers
class TestRedisCluster(RedisClusters, StoreLaws):
    pass


@pytest.mark.slow
@pytest.mark.servers
class TestAsyncRedisCluster(TestRedisCluster):
    asynchronous = True
