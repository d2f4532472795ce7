"""A Cluster of real servers on this machine: primaries, and replicas of each.

The failure detector's period is shortened, so that a failover takes one to two seconds. A server that was stopped comes
back by `start` with the identity that it had, as it would on its own machine, and without its data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

from askonce.testing.servers import Server, Startable, ValkeyServer, free_port, until

SLOTS = 16384
NODE_TIMEOUT = 1000  # ms without an answer, after which a server counts as failed


class Cluster(Startable):
    """`primaries` servers that share the slots evenly, and `replicas` of each; use it with ``with``.

    `servers`: the first primaries first, then the replicas of the first one, of the second one, and so on.
    """

    def __init__(
        self,
        kind: type[Server] = ValkeyServer,
        *,
        primaries: int = 3,
        replicas: int = 0,
        password: str | None = None,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        shared: dict[str, str | int] = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT,
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": 0,
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": 0,
            "repl-ping-replica-period": 1,
            **({"masterauth": password} if password else {}),
            **(options or {}),
        }
        count = primaries * (1 + replicas)
        self.servers = [kind(password=password, options=shared | {"cluster-port": free_port()}) for _ in range(count)]
        self.first = self.servers[:primaries]
        self._password = password

    @property
    def url(self) -> str:
        """``redis+cluster://...`` with the first primaries."""
        user = f":{self._password}@" if self._password else ""
        return f"redis+cluster://{user}{','.join(f'127.0.0.1:{server.port}' for server in self.first)}"

    def start(self) -> Self:
        """Start all servers; return when each says that the cluster is complete."""
        for server in self.servers:
            server.start()
        share = SLOTS // len(self.first)
        for at, server in enumerate(self.first):
            last = SLOTS - 1 if server is self.first[-1] else (at + 1) * share - 1
            server.command("CLUSTER", "ADDSLOTSRANGE", at * share, last)
        for at, server in enumerate(self.servers):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            if at:
                first = self.servers[0]
                server.command("CLUSTER", "MEET", "127.0.0.1", first.port, first.options["cluster-port"])
        until(lambda: all(len(nodes(server)) == len(self.servers) for server in self.servers))
        spare = (len(self.servers) - len(self.first)) // len(self.first)
        for at, server in enumerate(self.servers[len(self.first) :]):
            server.command("CLUSTER", "REPLICATE", node_id(self.first[at // spare]))
        self.settle()
        return self

    def close(self) -> None:
        """Stop all of it."""
        for server in self.servers:
            server.close()

    def settle(self) -> None:
        """Return when every running server says that all slots are served, and every replica has its primary's data."""
        until(lambda: all(_whole(server) for server in self.servers if server.running))

    def primaries(self) -> list[Server]:
        """The running servers that are primaries, by their own word."""
        return [server for server in self.servers if server.running and "master" in flags(server)]

    def flush(self) -> None:
        """Delete everything."""
        for server in self.primaries():
            server.command("FLUSHALL")

    def owner(self, slot: int) -> Server:
        """The server that has a slot, by its own word."""
        found: list[Server] = []

        def known() -> bool:
            found[:] = [server for server in self.servers if server.running and slot in slots(server)]
            return len(found) == 1

        until(known)
        return found[0]

    def replica_of(self, server: Server) -> Server:
        """A running replica of a primary."""
        mine = node_id(server)
        return next(one for one in self.servers if one.running and one is not server and _own(one)[3] == mine)

    def failover(self, server: Server) -> Server:
        """Have a replica of a primary take over in order, as an operator does; return it when it has."""
        replica = self.replica_of(server)
        replica.command("CLUSTER", "FAILOVER")
        until(lambda: "master" in flags(replica))
        return replica

    def move(self, slot: int, target: Server, *, pause: Callable[[], object] = lambda: None) -> None:
        """Move a slot with its keys, key by key, while it is in use; `pause` is called between the steps."""
        source = self.owner(slot)
        if source is target:
            return
        begin_move(slot, source, target)
        pause()
        move_keys(slot, source, target, password=self._password, pause=pause)
        end_move(slot, source, target, self.servers)


def begin_move(slot: int, source: Server, target: Server) -> None:
    """From here on, the source asks its clients to find keys that it does not have at the target."""
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))


def move_keys(
    slot: int,
    source: Server,
    target: Server,
    *,
    count: int = 10,
    password: str | None = None,
    pause: Callable[[], object] = lambda: None,
) -> None:
    """Move the keys of a slot, some at a time, until none is left."""
    auth = ("AUTH", password) if password else ()
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, count):
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", *auth, "KEYS", *keys)
        pause()


def end_move(slot: int, source: Server, target: Server, servers: list[Server]) -> None:
    """The target has the slot."""
    mine = node_id(target)
    rest = [one for one in servers if one not in (source, target) and one.running and "master" in flags(one)]
    for server in (target, source, *rest):
        server.command("CLUSTER", "SETSLOT", slot, "NODE", mine)


def nodes(server: Server) -> list[list[str]]:
    """The words of each line of CLUSTER NODES."""
    said = server.command("CLUSTER", "NODES").decode()
    return [line.split() for line in said.splitlines() if "handshake" not in line]


def _own(server: Server) -> list[str]:
    return next(words for words in nodes(server) if "myself" in words[2])


def node_id(server: Server) -> str:
    """How the cluster calls a server."""
    return _own(server)[0]


def flags(server: Server) -> set[str]:
    """What the server says it is: ``master`` or ``slave``."""
    return set(_own(server)[2].split(","))


def slots(server: Server) -> set[int]:
    """The slots that a server says it has."""
    found: set[int] = set()
    for word in _own(server)[8:]:
        if not word.startswith("["):
            first, _, last = word.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def _info(server: Server, section: str) -> dict[str, str]:
    said = (
        server.command("INFO", section).decode() if section != "cluster" else server.command("CLUSTER", "INFO").decode()
    )
    return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)


def _whole(server: Server) -> bool:
    known = _info(server, "cluster")
    whole = known["cluster_state"] == "ok" and known["cluster_slots_ok"] == str(SLOTS)
    synced = _info(server, "replication").get("master_link_status", "up") == "up"
    return whole and synced
