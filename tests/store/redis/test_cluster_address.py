"""What a URL or a client of a Cluster says, before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis.asyncio.cluster as tasks
from redis.cluster import ClusterNode, RedisCluster

from askonce import Cache
from askonce.errors import ConfigError
from askonce.store.redis import cluster_address
from askonce.store.redis.cluster import commands
from askonce.store.redis.scripts import pack
from askonce.store.redis.topology import _ranges

TEXT = "redis+cluster://me@a:7001,b:6379,[::1]:7003"


@pytest.mark.parametrize(
    ("url", "text", "kind"),
    [
        ("redis+cluster://me:secret@a:7001,b,[::1]:7003", TEXT, "Connection"),
        ("redis+cluster://me:secret@a:7001, b ,[::1]:7003/", TEXT, "Connection"),
        ("REDIS+cluster://me:secret@a:7001,b,[::1]:7003/0?socket_timeout=1", TEXT, "Connection"),
        ("valkey+cluster://a", "redis+cluster://a:6379", "Connection"),
        ("rediss+cluster://a:1,b:2", "rediss+cluster://a:1,b:2", "SSLConnection"),
        ("valkeys+cluster://a:1", "rediss+cluster://a:1", "SSLConnection"),
    ],
)
def test_a_url_names_any_number_of_nodes(url: str, text: str, kind: str):
    address = cluster_address.from_url(url, {})
    assert address.text == text
    made = address.node("elsewhere", 9).connection(1.0)
    assert type(made).__name__ == kind
    assert (made.host, made.port) == ("elsewhere", 9)
    assert getattr(made, "password", None) == ("secret" if "secret" in url else None)
    assert address.node("elsewhere", 9) is address.node("elsewhere", 9)
    assert address.node(address.seeds[0].host, address.seeds[0].port) is address.seeds[0]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+cluster://", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster://a,,b", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster:a", "redis+cluster://host:6379,host:6379"),
        ("redis+cluster://a/1", "only database 0"),
        ("redis+cluster://a/llm", "only database 0"),
        ("redis+cluster://a?db=2", "only database 0"),
        ("redis+cluster://me:secret@a:port", "is not a Redis URL"),
        ("redis+cluster://me:sec/ret@a", "quote"),
        ("redis+cluster://a?sokcet_timeout=1", "socket_timeout"),
        ("unix+cluster:///run/redis.sock", "no store has the scheme"),
        ("sqlite+cluster:///a.db", "no store has the scheme"),
    ],
)
def test_a_url_that_names_no_cluster_is_refused_with_what_to_write(url: str, says: str):
    with pytest.raises(ConfigError, match="(?s)" + says.replace("+", r"\+")) as refused:
        Cache(url)
    assert "secret" not in str(refused.value)
    assert "sec/ret" not in str(refused.value)


def configured(*, ssl: bool) -> list[Any]:
    """Clients of both kinds, which have not connected."""
    more: dict[str, Any] = {
        "username": "me",
        "password": "secret",
        "ssl": ssl,
        **({"ssl_cert_reqs": "none"} if ssl else {}),
    }
    sync: Any = object.__new__(RedisCluster)  # its constructor connects

    sync.nodes_manager = SimpleNamespace(
        startup_nodes={"a:1": ClusterNode("a", 1), "b:2": ClusterNode("b", 2)},
        connection_kwargs={**more, "redis_connect_func": sync.on_connect, "decode_responses": True},
        address_remap=None,
    )
    nodes = [tasks.ClusterNode("a", 1), tasks.ClusterNode("b", 2)]
    return [sync, tasks.RedisCluster(startup_nodes=nodes, **more)]


@pytest.mark.parametrize("ssl", [False, True])
def test_a_configured_client_gives_its_nodes_and_options_and_none_of_its_connections(ssl: bool):
    for client in configured(ssl=ssl):
        address = cluster_address.from_client(client)
        assert address.text == f"redis{'s' * ssl}+cluster://me@a:1,b:2"
        made = address.seeds[1].connection(1.0)
        assert (made.host, made.port, made.password) == ("b", 2, "secret")
        assert made.redis_connect_func is None
        assert address.seeds[1].async_connection(1.0).port == 2


def test_a_remapped_address_is_what_is_connected_to():
    seeds = cluster_address.from_url("redis+cluster://a:1", {}).seeds
    address = cluster_address.ClusterAddress(seeds, lambda place: ("tunnel", place[1] + 1000))
    assert (address.node("10.0.0.1", 1).host, address.node("10.0.0.1", 1).port) == ("tunnel", 1001)


def test_a_node_without_a_name_of_its_own_is_where_it_was_asked():
    node = cluster_address.from_url("redis+cluster://asked:7", {}).seeds[0]
    said = [
        [0, 5, [b"", 1, b"id"]],
        [6, 6, [None, 2, b"id"], [b"replica", 3, b"id"]],
        [7, 9, [b"?", 3]],
        [10, 11, [b"x", 4]],
    ]
    assert list(_ranges(said, node)) == [(0, 5, "asked", 1), (6, 6, "asked", 2), (7, 9, "asked", 3), (10, 11, "x", 4)]


def test_packed_commands_are_told_apart_whatever_they_carry():
    some = [
        pack(b"GET", b"a"),
        pack(b"SET", b"*1\r\n$4\r\nTIME\r\n", b"", b"\r\n"),
        pack(b"TIME"),
        pack(b"X", 12, b"$-1\r\n" * 99),
    ]
    assert commands(b"".join(some)) == some
    assert commands(b"") == []
