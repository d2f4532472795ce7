"""The fleet thread's connection to a Redis: subscriptions, heartbeats and probes on one RESP3 connection.

Words and confirmations arrive as pushes, in between the replies to commands, so one connection does for both. The
thread sleeps on it and on a socket pair by which others wake it. After a loss the next call connects anew
and subscribes to everything again; each confirmation is reported, so whoever waits looks for what he may have missed.

SUBSCRIBE is confirmed by pushes, one a channel, but refused by a plain error reply. So it is kept in mind what is still
to be confirmed, and no other command is sent before: its reply could not be told from a refusal.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any

from askonce.core.keys import Key
from askonce.core.tape import FAILED, Ending, Word, read_word
from askonce.store import Held, StoreTrouble
from askonce.store.redis_address import RedisAddress
from askonce.store.redis_names import Names
from askonce.store.redis_scripts import Scripts, pack, release_args
from askonce.store.redis_trouble import Refusal, closed, unrefused
from askonce.store.wire import NOTHING, PUSH, Cut, Line, open_line

CHUNK = 512  # channels in one SUBSCRIBE
# Not select(), which refuses descriptors from 1024 on, nor epoll, whose state a forked child would share.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class RedisLink:
    """One process's ear and heart at one Redis. Implements Link."""

    def __init__(self, address: RedisAddress, names: Names, scripts: Scripts) -> None:
        self._address = address
        self._names = names
        self._scripts = scripts
        self._line: Line | None = None
        self._keys: dict[bytes, Key] = {}
        self._words: list[tuple[Key, Word]] = []
        self._ready: list[Key] = []
        self._due: deque[int] = deque()  # confirmations still to come, for each command that asked for some
        self._refused: StoreTrouble | None = None
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)

    def subscribe(self, key: Key) -> None:
        """Ask for the words about a key; `poll` reports when it is in force."""
        channel = self._names.channel(key)
        # Put down before anything is sent: if this fails, the next connection asks for it.
        self._keys[channel] = key
        if self._line is None:
            self._connected()
        else:
            self._send(self._line, b"SUBSCRIBE", channel)

    def unsubscribe(self, key: Key) -> None:
        """No more words about a key."""
        channel = self._names.channel(key)
        if self._keys.pop(channel, None) is not None and self._line is not None:
            self._send(self._line, b"UNSUBSCRIBE", channel)

    def poll(self, timeout: float) -> tuple[list[tuple[Key, Word]], list[Key]]:
        """Wait at most `timeout` s, or until `wake`; (words that came, keys whose subscription came into force)."""
        line = self._connected()
        self._sort(line)
        if not (self._words or self._ready or self._refused):
            self._wait(line, timeout)
        if self._refused is not None:
            refused, self._refused = self._refused, None
            raise refused
        words, self._words = self._words, []
        ready, self._ready = self._ready, []
        return words, ready

    def _wait(self, line: Line, timeout: float) -> None:
        with _Selector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            selector.register(line.sock, selectors.EVENT_READ)
            readable = {chosen.fileobj for chosen, _ in selector.select(timeout)}
        if self._ear in readable:
            with contextlib.suppress(BlockingIOError):
                while self._ear.recv(4096):
                    pass
        if line.sock in readable:
            self._hear(line)

    def _hear(self, line: Line) -> None:
        try:
            line.hear()
            # Of a TLS connection more may have been read than was given out, and no selector would say so.
            while isinstance(line.sock, ssl.SSLSocket) and line.sock.pending():
                line.hear()
        except TimeoutError:
            pass  # half a TLS record: the rest makes the socket readable again
        except OSError as error:
            self._drop(line)
            raise closed(error) from None
        self._sort(line)

    def wake(self) -> None:
        """Make a `poll` under way return at once. Any thread may call it."""
        # Full: the poll is being woken already. Closed: there is none.
        with contextlib.suppress(OSError):
            self._bell.send(b"\0")

    def renew(self, held: Sequence[Held], heartbeat: int) -> list[str]:
        """``ok``, ``want`` or ``lost`` for each; one round trip."""
        said = self._called(held, heartbeat, whole=False)
        if any(type(reply) is Refusal and reply.noscript for reply in said):
            said = self._called(held, heartbeat, whole=True)
        return [unrefused(reply).decode() for reply in said]

    def _called(self, held: Sequence[Held], heartbeat: int, *, whole: bool) -> list[Any]:
        calls: list[bytes] = []
        for key, flight, order in held:
            _, lease, generations = self._names.of(key)
            args = (flight, order, heartbeat)
            calls.append(self._scripts.renew.call((lease, generations), args, whole=whole and not calls))
        return self._ask(b"".join(calls), len(calls))

    def release(self, key: Key, flight: bytes) -> None:
        """Store.release of a FAILED ending for whatever lease `flight` has: a claim whose reply was lost."""
        script = self._scripts.release
        keys = (*self._names.of(key), self._names.tape(key, flight, 0))
        args = release_args(key, flight, 0, Ending(FAILED), False, 0, self._names.channel(key))
        (reply,) = self._ask(script.call(keys, args), 1)
        if type(reply) is Refusal and reply.noscript:
            (reply,) = self._ask(script.call(keys, args, whole=True), 1)
        unrefused(reply)

    def say(self, key: Key, word: Word) -> None:
        """Send a word to those who wait for a key."""
        unrefused(*self._ask(pack(b"PUBLISH", self._names.channel(key), word.packed()), 1))

    def probe(self) -> None:
        """One cheap write-free round trip; StoreTrouble when the store is still in trouble."""
        unrefused(*self._ask(pack(b"PING"), 1))

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._ear.close()
        self._bell.close()

    def __del__(self) -> None:
        # A link that a fork left behind is collected and not closed; its line says nothing then.
        self._ear.close()
        self._bell.close()

    # the connection

    def _connected(self) -> Line:
        if self._line is None:
            line = open_line(self._address)
            self._line = line
            self._due.clear()
            channels = list(self._keys)
            for at in range(0, len(channels), CHUNK):
                self._send(line, b"SUBSCRIBE", *channels[at : at + CHUNK])
        return self._line

    def _send(self, line: Line, verb: bytes, *channels: bytes) -> None:
        try:
            line.sock.sendall(pack(verb, *channels))
        except OSError as error:
            self._drop(line)
            raise closed(error) from None
        self._due.append(len(channels))

    def _ask(self, data: bytes, count: int) -> list[Any]:
        used = self._line is not None
        line = self._connected()
        try:
            self._sort(line)  # among the pushes of the last exchange may be confirmations
            while self._due:
                line.listen()
                self._sort(line)
            return line.exchange(data, count)
        except Cut as cut:
            self._drop(line)
            if not (used and cut.at_once):
                raise
            return self._ask(data, count)

    def _drop(self, line: Line) -> None:
        line.close()
        if self._line is line:
            self._line = None

    # what arrives unasked

    def _sort(self, line: Line) -> None:
        pushes, line.pushes = line.pushes, []
        for push in pushes:
            self._push(push)
        while (said := line.gets()) is not NOTHING:
            if type(said) is PUSH:
                self._push(said)
            elif type(said) is Refusal and self._due:
                # Heartbeats must go on without: those who wait look again at their deadline, unwoken.
                self._due.popleft()
                self._refused = said.trouble()

    def _push(self, said: list[Any]) -> None:
        kind = said[0]
        if kind in (b"subscribe", b"unsubscribe") and self._due:
            self._due[0] -= 1
            if not self._due[0]:
                self._due.popleft()
        key = self._keys.get(said[1])
        if key is None:
            return
        if kind == b"subscribe":
            self._ready.append(key)
        elif kind == b"message" and (word := read_word(said[2])) is not None:
            self._words.append((key, word))
