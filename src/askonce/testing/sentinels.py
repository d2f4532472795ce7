"""A primary, its replicas and its sentinels, as real servers on this machine.

Sentinel's periods are shortened, so that the group is ready in under a second, and a failover takes one to two seconds.
A server that was stopped comes back by `start`, as it would on its own machine: as a primary, until the sentinels make
it a replica.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from askonce.testing.servers import Server, Startable, ValkeyServer, until

SERVICE = "mymaster"
HASTY = 0.5  # s that a server may be silent before the sentinels replace it, if one is to be replaced soon
PATIENT = 60.0  # s, if none is to be replaced: on a busy machine a server that is well is silent for long
EAGER = 200  # ms between two words of a sentinel to the others, so that they soon know each other
# ms. A replica that calls itself a primary for four of these is made a replica again: by one that has not heard of its
# promotion too. Then the new primary follows the old one, and there is none.
CALM = 2500
# ms; by default these are seconds. A replica that said nothing for five pings is not promoted, and in a failover each
# says something once a second. tilt: after a pause of the machine, a sentinel does nothing for so long.
PERIODS = {
    "info-period": 200,
    "ping-period": 400,
    "ask-period": 100,
    "publish-period": EAGER,
    "min-link-reconnect-period": 500,
    "tilt-period": 1000,
}


class SentinelServer(Server):
    """One sentinel of a primary that listens at a port; `config`: its lines about the service."""

    def __init__(self, port_of_primary: int, config: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._config = [f"sentinel monitor {SERVICE} 127.0.0.1 {port_of_primary} 2"]
        self._config += [f"sentinel {name} {SERVICE} {value}" for name, value in config.items()]

    def start(self) -> Self:
        """Start it with the shortened periods."""
        if not self.running:
            super().start()
            self.command("SENTINEL", "DEBUG", *(word for item in PERIODS.items() for word in item))
        return self

    def _launch(self, program: Path) -> None:
        directory = self.socket_path.parent
        settings = {"port": self.port, "bind": "127.0.0.1", "dir": directory, **self.options}
        if self.password:
            settings |= {"requirepass": self.password}
        config = directory / "sentinel.conf"
        if not config.exists():  # it writes there what it learns, and knows it when it comes back
            lines = [*(f"{name} {value}" for name, value in settings.items()), *self._config]
            config.write_text("\n".join(lines) + "\n")
        self._run([str(program), str(config), "--sentinel"])


def sentinel_of(kind: type[Server]) -> type[SentinelServer]:
    """The class of sentinels that run the program of a kind of server."""
    return type(f"{kind.__name__}Sentinel", (SentinelServer, kind), {})


class SentinelGroup(Startable):
    """A service of one primary, `replicas` replicas and `sentinels` sentinels; use it with ``with``.

    `tolerance`: how long a server may be silent before the sentinels take it for down, in s. See `tolerate`.
    """

    def __init__(
        self,
        kind: type[Server] = ValkeyServer,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        password: str | None = None,
        sentinel_password: str | None = None,
        options: Mapping[str, str | int] | None = None,
        tolerance: float = HASTY,
    ) -> None:
        more: dict[str, str | int] = {"repl-diskless-sync-delay": 0, "repl-ping-replica-period": 1, **(options or {})}
        if password:
            more["masterauth"] = password
        self.servers = [kind(password=password, options=more) for _ in range(1 + replicas)]
        self.sentinels: list[SentinelServer] = []
        self._kind = kind
        self._sentinels = sentinels
        self._password = password
        self._sentinel_password = sentinel_password
        self._tolerance = tolerance

    def start(self) -> Self:
        """Start all of it; return when every sentinel knows every server and every other sentinel."""
        first, *others = self.servers
        first.start()
        for server in others:
            server.options["replicaof"] = f"127.0.0.1 {first.port}"
            server.start()
            del server.options["replicaof"]  # when it comes back after a failover, it knows nothing of that
        until(lambda: all(replicates(server) for server in others))
        config = {
            "down-after-milliseconds": str(int(self._tolerance * 1000)),
            "failover-timeout": "1000",
            "parallel-syncs": "2",
        }
        if self._password:
            config["auth-pass"] = self._password
        for _ in range(self._sentinels):
            sentinel = sentinel_of(self._kind)(first.port, config, password=self._sentinel_password)
            self.sentinels.append(sentinel)
            sentinel.start()
        self.settle()
        return self

    def close(self) -> None:
        """Stop all of it."""
        for server in (*self.sentinels, *self.servers):
            server.close()

    @property
    def url(self) -> str:
        """``redis+sentinel://...``, with passwords."""
        user = f":{self._password}@" if self._password else ""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        own = f"?sentinel_password={self._sentinel_password}" if self._sentinel_password else ""
        return f"redis+sentinel://{user}{hosts}/{SERVICE}{own}"

    def primary(self, by: Sequence[SentinelServer] = ()) -> Server:
        """The server that the sentinels (or these of them) call the primary, once they agree."""
        asked = by or [sentinel for sentinel in self.sentinels if sentinel.running]
        found: set[int] = set()

        def agreed() -> bool:
            found.clear()
            found.update(int(_ask(one, "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for one in asked)
            return len(found) == 1

        until(agreed)
        return next(server for server in self.servers if server.port in found)

    def failover(self) -> Server:
        """Have the sentinels make another server the primary, as an operator does; return the new one."""
        before = self.primary()
        until(lambda: self._moves_from(before))
        return self.moved_from(before)

    def _moves_from(self, before: Server) -> bool:
        """Whether a sentinel has replaced it; it is told to, again if it has given up: no replica answered in time."""
        facts = _facts(_ask(self.sentinels[0], "MASTER", SERVICE))
        if int(facts[b"port"]) == before.port and b"failover_in_progress" not in facts[b"flags"].split(b","):
            with contextlib.suppress(RuntimeError):  # no replica is fit for it now
                _ask(self.sentinels[0], "FAILOVER", SERVICE)
        return int(facts[b"port"]) != before.port

    def tolerate(self, seconds: float) -> None:
        """From now on, the sentinels take a server for down after so many seconds of silence."""
        for sentinel in self.sentinels:
            if sentinel.running:
                _ask(sentinel, "SET", SERVICE, "down-after-milliseconds", str(int(seconds * 1000)))

    def moved_from(self, before: Server) -> Server:
        """The new primary, once the sentinels have one in place of `before`."""
        until(lambda: self.primary() is not before)
        return self.primary()

    def settle(self) -> None:
        """Wait until every server runs, replicates or is the primary, and every sentinel sees that."""
        for server in (*self.servers, *self.sentinels):
            server.start()
        self._speak_every(EAGER)
        try:
            until(self._settled)
        except RuntimeError as late:
            words = [f"{one!r}: {one._last_words()}" for one in (*self.sentinels, *self.servers)]  # noqa: SLF001
            raise RuntimeError("\n".join([str(late), *words])) from None
        self._speak_every(CALM)

    def _speak_every(self, period: int) -> None:
        for sentinel in self.sentinels:
            _ask(sentinel, "DEBUG", "publish-period", str(period))

    def _settled(self) -> bool:
        primary = self.primary()
        others = [server for server in self.servers if server is not primary]
        facts = [_facts(_ask(sentinel, "MASTER", SERVICE)) for sentinel in self.sentinels]
        return all(replicates(server, primary.port) for server in others) and all(
            fact[b"flags"] == b"master"
            and int(fact[b"num-slaves"]) >= len(others)
            and int(fact[b"num-other-sentinels"]) == self._sentinels - 1
            for fact in facts
        )


def _ask(sentinel: Server, *words: str) -> Any:
    return sentinel.command("SENTINEL", *words)


def _facts(said: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(said[::2], said[1::2], strict=True))


def replicates(server: Server, port: int = 0) -> bool:
    """Whether it is a replica whose link to its primary (at that port) is up."""
    try:
        text = server.command("INFO", "replication").decode()
    except ConnectionError:  # the sentinels hang up on everybody at a server that they make a replica
        return False
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    up = facts.get("master_link_status") == "up"
    return up and (not port or facts["master_port"] == str(port))
