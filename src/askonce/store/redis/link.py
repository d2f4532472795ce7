"""The background thread's connection to a Redis: subscriptions, heartbeats and probes on one RESP3 connection.

Notices and confirmations arrive as pushes between the replies to commands, so one connection does for both. The thread
sleeps on it and on a socket pair, by which other threads wake it. After a loss, the next call connects anew and
subscribes to everything again. Each confirmation is reported, so every waiter claims again for what it may have missed.

Pushes confirm a SUBSCRIBE, one for each channel, but a plain error reply refuses it. So this link keeps track of the
confirmations that are due, and sends no other command before them: its reply could not be told from a refusal.

The connection has to prove itself. It is given up, and the next call connects anew, if a reply is late, if a
subscription is not confirmed, if an unrequested reply comes, and if its server says that it is no primary: by then a
new connection may lead to the new primary.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis

from askonce.core.keys import Key
from askonce.core.tape import Notice, read_notice
from askonce.events import log
from askonce.store import CONNECT_TIMEOUT, At, Held, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import HELLO, is_primary
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import NOTHING, PUSH, Connection, Cut
from askonce.store.redis.names import Names
from askonce.store.redis.near import clock
from askonce.store.redis.scripts import Script, Scripts, pack
from askonce.store.redis.tracking import Tracking
from askonce.store.redis.trouble import Refusal, closed, garbled, unrefused
from askonce.store.redis.waker import Waker

CHUNK = 512  # channels in one SUBSCRIBE, commands in one round trip
CONFIRM = CONNECT_TIMEOUT  # s that the confirmation of a subscription may take
BROADCAST = b"SUBSCRIBE", b"UNSUBSCRIBE"
LOOK = 0.1  # s between two claims of waiters that cannot get notices
PROOF = 1.5  # s without a command, after which a connection that waits for notices is tested
REST = 15.0  # s, if no notices are awaited
_RENEWED = {b"ok": "ok", b"want": "want", b"lost": "lost"}
Call = tuple[tuple[bytes, ...], tuple[bytes | str | int, ...]]  # keys and arguments of a script


class RedisLink:
    """One process's subscriptions and renewals at one Redis. Implements Link."""

    trouble: StoreTrouble | None = None  # all of it is at one server, so trouble is raised
    _subscribe, _unsubscribe = BROADCAST

    def __init__(
        self, address: RedisAddress, names: Names, scripts: Scripts, tracking: Tracking, waker: Waker | None = None
    ) -> None:
        self._address = address
        self._tracking = tracking
        self._names = names
        self._scripts = scripts
        self._connection: Connection | None = None
        self._keys: dict[bytes, Key] = {}
        self._notices: list[tuple[Key, Notice]] = []
        self._ready: list[Key] = []
        self._due: deque[Due] = deque()  # one for each command whose confirmations are due
        self._refused: StoreTrouble | None = None
        self.may_not_listen = self._warned = False  # this user may not subscribe
        self._next_look = 0.0  # if no notices can be received (monotonic s)
        address.epoch.listen(self._moved)
        self._waker = waker or Waker()

    def subscribe(self, key: Key) -> None:
        """Ask for the notices about a key; `poll` reports when the subscription is in force."""
        channel = self._names.channel(key)
        # Noted before anything is sent: if this fails, the next connection asks for it.
        self._keys[channel] = key
        if self._connection is None:
            self._connected()
        elif not self.may_not_listen:
            self._send(self._connection, self._subscribe, channel)

    def unsubscribe(self, key: Key) -> None:
        """Ask for no more notices about a key."""
        channel = self._names.channel(key)
        if self._keys.pop(channel, None) is not None and self._connection is not None and not self.may_not_listen:
            self._send(self._connection, self._unsubscribe, channel)

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        """Wait at most `timeout` s, or until `wake`. Return (new notices, keys whose subscription came into force)."""
        left = min(timeout, self.begin_poll())
        connection = self._connected()
        if self._waker.wait((connection.sock,), left):
            self._receive(connection)
        return self.end_poll()

    def begin_poll(self) -> float:
        """Test the connection, or make it; return how long a poll may wait, in s."""
        if self._connection is not None and self._proof_due() <= 0:
            self.probe()
        connection = self._connected()
        self._track(connection)
        self._read_pushes(connection)
        if self._notices or self._ready or self._refused:
            return 0.0
        return min(self._confirming(), self._proof_due(), self._looking(), self._tracking.due(clock()))

    def end_poll(self) -> tuple[list[tuple[Key, Notice]], list[Key]]:
        """What came, as from `poll`."""
        if self._looking() <= 0:
            self._next_look = time.monotonic() + LOOK
            self._ready = list(self._keys.values())
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused
        if self._confirming() <= 0:
            if self._connection is not None:
                self._drop(self._connection)
            raise StoreTrouble("store-timeout", f"the store did not confirm a subscription within {CONFIRM} s")
        notices, self._notices = self._notices, []
        ready, self._ready = self._ready, []
        return notices, ready

    def _track(self, connection: Connection) -> None:
        """Do what the near cache is waiting for. All pushes before the replies are applied before them."""
        if (asked := self._tracking.asks(clock())) is None:
            return
        try:
            replies = self._exchanged(connection, *asked)
            self._read_pushes(connection)
            self._tracking.said(replies)
        except BaseException:  # its reads are neither done nor to be done: nothing of it may stay
            self._drop(connection)
            raise

    def _looking(self) -> float:
        """Seconds until every waiter must claim again, because no notice can wake it."""
        return self._next_look - time.monotonic() if self.may_not_listen and self._keys else REST

    def _proof_due(self) -> float:
        """Seconds until the connection must be tested, because no command was sent on it."""
        assert self._connection is not None
        return self._connection.used + (PROOF if self._keys else REST) - time.monotonic()

    def _confirming(self) -> float:
        """Seconds that the next confirmation may still take."""
        return self._due[0].until - time.monotonic() if self._due else CONFIRM

    def _receive(self, connection: Connection) -> None:
        try:
            connection.receive()
            # A TLS connection may have read more than it returned, and no selector shows that.
            while isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():
                connection.receive()
        except TimeoutError:
            pass  # half a TLS record: the rest makes the socket readable again
        except OSError as error:
            self._drop(connection)
            raise closed(error) from None
        self._read_pushes(connection)

    def wake(self) -> None:
        """Make a `poll` under way return at once. Any thread may call it."""
        self._waker.wake()

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        """``ok``, ``want`` or ``lost`` for each lease; one round trip for some hundreds."""
        calls = []
        for key, flight, order in held:
            _, lease, generations = self._names.of(key)
            calls.append(((lease, generations), (flight, order, heartbeat)))
        return [self._renewed(reply) for reply in self._run(self._scripts.renew, calls)]

    def say(self, key: Key, notice: Notice) -> None:
        """Send a notice to the waiters of a key."""
        self.say_all([(key, notice)])

    def say_all(self, said: Sequence[tuple[Key, Notice]]) -> None:
        """Send many notices."""
        for at in range(0, len(said), CHUNK):
            some = said[at : at + CHUNK]
            packed = [pack(b"PUBLISH", self._names.channel(key), notice.packed()) for key, notice in some]
            for reply in self._ask(b"".join(packed), len(packed)):
                if not (type(reply) is Refusal and (reply.denied or reply.unsupported)):  # waiters claim again
                    unrefused(reply)

    def probe(self) -> None:
        """Make one cheap round trip that writes nothing; it tells whether the server answers and is a primary."""
        (reply,) = self._ask(HELLO, 1)
        if not isinstance(unrefused(reply), dict):
            raise self._out_of_step(reply)
        if not is_primary(reply):
            raise self._no_primary()

    def close(self) -> None:
        """Close the connection. The wake-up socket stays: a thread may still use its number."""
        if self._connection is not None:
            self._drop(self._connection)

    # commands

    def _run(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = []
        for at in range(0, len(calls), CHUNK):
            replies += self._called(script, calls[at : at + CHUNK])
        return replies

    def _called(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        replies: list[Any] = []
        for whole in (False, True):
            # The first call with its text teaches the server the rest of the batch.
            packed = [script.call(keys, args, whole=whole and not at) for at, (keys, args) in enumerate(calls)]
            replies = self._ask(b"".join(packed), len(packed))
            if not any(type(reply) is Refusal and reply.noscript for reply in replies):
                break
        return replies

    def _renewed(self, reply: Any) -> str:
        if type(reply) is Refusal:
            trouble = reply.trouble()
            if trouble.at != "key":
                raise trouble
            return "lost"  # something else is stored in place of the lease; the others are renewed all the same
        if type(reply) is bytes and (said := _RENEWED.get(reply)):
            return said
        raise self._out_of_step(reply)

    def _ask(self, data: bytes, count: int) -> list[Any]:
        """The replies. A connection that was closed, or is no primary's, is replaced once."""
        used = self._connection is not None
        connection = self._connected()
        try:
            replies = self._exchanged(connection, data, count)
        except Cut as cut:
            self._drop(connection)
            if cut.kind == "store-timeout":
                # What was lost on this network path may be lost on all connections: wait for that only once.
                self._address.epoch.end(connection.epoch)
            if not (used and cut.at_once):
                raise
            return self._ask(data, count)
        if not any(type(reply) is Refusal and reply.stale for reply in replies):
            return replies
        self._drop(connection)
        if not used:
            return replies
        self._address.epoch.end(connection.epoch)
        return self._ask(data, count)

    def _exchanged(self, connection: Connection, data: bytes, count: int) -> list[Any]:
        self._read_pushes(connection)  # the pushes of the last exchange may contain confirmations
        while self._due:
            connection.listen(self._due[0].until)
            self._read_pushes(connection)
        replies = connection.exchange(data, count)
        if len(replies) != count:
            raise self._out_of_step(replies)
        return replies

    # the connection

    def _connected(self) -> Connection:
        while (connection := self._connection) is None or connection.epoch != self._address.epoch.number:
            if connection is not None:
                self._drop(connection)  # another server is the primary
            self._connect()  # and look again: nobody wakes this link while it has no connection
        return connection

    def _connect(self) -> None:
        connection = self._opened()
        if not connection.primary:
            connection.close()
            raise _not_primary("connecting")
        self._connection = connection
        self.may_not_listen = False
        self._due.clear()
        for channels in self._together(list(self._keys)):
            self._send(connection, self._subscribe, *channels)

    def _opened(self) -> Connection:
        return open_connection(self._address)

    def _together(self, channels: list[bytes]) -> Iterator[list[bytes]]:
        """Channels that one command may name."""
        for at in range(0, len(channels), CHUNK):
            yield channels[at : at + CHUNK]

    def _send(self, connection: Connection, verb: bytes, *channels: bytes) -> None:
        try:
            connection.sock.sendall(pack(verb, *channels))
        except OSError as error:
            self._drop(connection)
            raise closed(error) from None
        self._due.append(Due(channels, time.monotonic() + CONFIRM))

    def _drop(self, connection: Connection) -> None:
        connection.close()
        if self._connection is connection:
            self._connection = None
            self._tracking.lost()

    def _out_of_step(self, what: object) -> StoreTrouble:
        if self._connection is not None:
            self._drop(self._connection)
        return garbled(repr(what)[:80])

    def _no_primary(self) -> StoreTrouble:
        if self._connection is not None:
            # The connections of other threads are no better.
            ended = self._connection
            self._drop(ended)  # first: the end of the epoch would wake this very link to connect again at once
            self._address.epoch.end(ended.epoch)
        return _not_primary("command")

    def _moved(self) -> None:
        """The process's connections may lead to another server now: the next call, which is due at once, connects anew.

        Without a connection, the background thread decides when it connects.
        """
        if self._connection is not None:
            self.wake()

    # pushes

    def _read_pushes(self, connection: Connection) -> None:
        pushes, connection.pushes = connection.pushes, []
        try:
            for push in pushes:
                self._push(push)
            while (said := connection.gets()) is not NOTHING:
                self._said(said)
        except (hiredis.ProtocolError, IndexError, TypeError) as error:
            raise self._out_of_step(error) from None

    def _said(self, said: Any) -> None:
        if type(said) is PUSH:
            self._push(said)
        elif type(said) is Refusal and self._due:
            self._refused_to(said, self._due.popleft())
        else:
            raise self._out_of_step(said)

    def _refused_to(self, said: Refusal, due: Due) -> None:
        """A subscription was refused. Heartbeats must go on without it: waiters claim again at their deadline."""
        del due
        if said.denied or said.unsupported:
            self._stop_listening(said)
        else:
            self._refused = said.trouble()

    def _stop_listening(self, said: Refusal) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: this user may not subscribe (%s), so callers that wait for another process ask every %s s; give"
                " the user the right to channels: &{PREFIX:*",
                self._address.text,
                said,
                LOOK,
            )
        self.may_not_listen = True

    def _push(self, said: list[Any]) -> None:
        kind = said[0]
        if self._tracking.told(said):
            return
        if kind in (b"subscribe", b"unsubscribe") and self._due:
            self._due[0].left -= 1
            if not self._due[0].left:
                self._due.popleft()
        key = self._keys.get(said[1])
        if key is None:
            return
        if kind == b"subscribe":
            self._ready.append(key)
        elif kind == b"message" and (notice := read_notice(said[2])) is not None:
            self._notices.append((key, notice))


class Due:
    """The confirmations that one command still waits for, and until when (monotonic s)."""

    __slots__ = ("channels", "left", "until")

    def __init__(self, channels: tuple[bytes, ...], until: float) -> None:
        self.channels = channels
        self.left = len(channels)
        self.until = until


def _not_primary(at: At) -> StoreTrouble:
    return StoreTrouble("store-readonly", "the server is a replica: leases and invalidations need the primary", at)
