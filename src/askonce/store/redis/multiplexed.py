"""One connection of an event loop, which carries the commands of all its tasks, one after another.

redis-py connects it (TLS, ACL, HELLO 3), then this module's protocol takes over its transport. The commands of one turn
of the loop are sent in one write, and the parser's callback hands out the replies in order. That is seven times as fast
as a pool of connections. A caller that gives up costs nothing: its place in the queue stays.

A caller waits one timeout for its replies, and longer only by the time that the received bytes may take: a large reply
may precede its own. A connection is given up if nothing is received for a timeout, or if the first reply due does not
come for LATE timeouts; all that wait on it get the trouble. A connection that was idle for long is tested with a PING,
so that the next caller does not have to discover that it was dropped on the way.

An exception may end any of these callbacks, even before its first line: a signal's, a full memory's. In the middle of a
callback it ends the connection. Before it, only time is lost: the next caller sees that a timer is overdue. A signal
may even end the whole loop between the socket's bytes and this code. So replies that were due when a loop was left are
not believed when it runs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections import deque
from typing import Any

import hiredis

from askonce.runtime.exits import EXIT, ending
from askonce.runtime.readable import is_readable
from askonce.store import StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import find_on_loop, search
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import LEAST, NOTHING, PUSH, SLOWEST, TRUSTED, Cut, patience
from askonce.store.redis.scripts import pack
from askonce.store.redis.sentinel import SentinelAddress
from askonce.store.redis.trouble import Refusal, closed, connecting, over, silent
from askonce.store.redis.watch import watch

LATE = 5  # timeouts after which a connection is given up if bytes come, but not the reply that is due
PING = pack(b"PING")


class _Asked:
    """One batch on its way. `due` is set when it is written: a loop that was blocked before has not asked yet.

    `at`: how many bytes had come then. `until`: the caller's deadline if it has waited before (loop's s), or 0.
    """

    __slots__ = ("at", "count", "data", "due", "replies", "said", "until")

    def __init__(self, data: bytes, count: int, said: asyncio.Future[list[Any]], until: float) -> None:
        self.data = data
        self.count = count
        self.said = said
        self.replies: list[Any] = []
        self.due = 0.0
        self.at = 0
        self.until = until

    def fail(self, trouble: StoreTrouble) -> None:
        """End it without (all of) its replies; a cancelled caller ignores this."""
        if not self.said.done():
            self.said.set_exception(Cut(trouble, self.replies))


class MultiplexedConnection(asyncio.Protocol):
    """One connection of one loop, shared by all its tasks."""

    def __init__(self, connection: Any, timeout: float, epoch: int = 0, *, begun: float) -> None:
        self.begun = begun  # when connecting began (loop's s)
        self.over: StoreTrouble | None = None
        self.epoch = epoch
        self.stale = False  # the server said that it is no primary
        self.until = 0.0  # the deadline of callers that must ask anew, if it ended for that or for silence
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader(replyError=Refusal, notEnoughData=NOTHING)
        self._out: list[_Asked] = []
        self._waiting: deque[_Asked] = deque()
        self._received_at = self._loop.time()
        self._size = 0  # bytes received
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps = 0.0  # when that is due
        self._run = sys.get_asyncgen_hooks().firstiter  # another object each time the loop is run
        # Taken out of redis-py's connection, which would close it when collected; there is no public name for it.
        self._writer: asyncio.StreamWriter = connection._writer  # noqa: SLF001
        connection._reader = connection._writer = None  # noqa: SLF001
        self._transport: asyncio.WriteTransport = self._writer.transport
        self._transport.set_protocol(self)
        self._prover: asyncio.TimerHandle | None = self._loop.call_later(TRUSTED / 2, self._prove)

    def ask(self, data: bytes, count: int, until: float = 0.0) -> asyncio.Future[list[Any]]:
        """A future of the replies. It fails with Cut, or is cancelled."""
        asked = _Asked(data, count, self._loop.create_future(), until)
        if self._run is not sys.get_asyncgen_hooks().firstiter:
            self._ran_again()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(asked)
        if self._sweeps <= (now := self._loop.time()):
            self._sweep_at(now + self._timeout)
        return asked.said

    def _ran_again(self) -> None:
        """The loop was left, and runs again: an earlier reply may have been lost on its way to this code."""
        self._run = sys.get_asyncgen_hooks().firstiter
        if self._waiting:
            self.end(closed("when its loop was left"))
        if self._out:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        try:
            if self.over is not None:
                self._refuse(self.over)
            elif self._out:
                self._write()
        except BaseException:
            self.end(closed("in the middle of a command"))
            raise

    def _refuse(self, trouble: StoreTrouble) -> None:
        while self._out:
            self._out[0].fail(trouble)
            self._out.pop(0)

    def _write(self) -> None:
        # Not a command that its caller has given up: a claim after its own release would be a lease of no caller.
        out = [asked for asked in self._out if not asked.said.done()]
        data = b"".join([asked.data for asked in out])
        now = self._loop.time()
        due = now + patience(self._timeout, len(data))
        for asked in out:
            asked.due, asked.at = due, self._size
            if asked.until:
                asked.due = min(due, max(asked.until, now + LEAST))
        self._waiting.extend(out)
        self._out = []
        if out:
            self._transport.write(data)
        if out and self._waiting[0].due < self._sweeps:
            self._sweep_at(self._waiting[0].due)

    def data_received(self, data: bytes) -> None:
        """Hand out the replies, in the order of the commands."""
        try:
            if self._run is not sys.get_asyncgen_hooks().firstiter:
                self._ran_again()
                if not self._waiting:
                    return
            self._received_at = self._loop.time()
            self._size += len(data)
            self._reader.feed(data)
            self._hand_out()
        except (hiredis.ProtocolError, IndexError) as error:
            self.end(closed(error))  # as on a connection: unanswered commands are sent once more
        except BaseException:
            # A signal interrupted it: which reply belongs to which command is no longer known.
            self.end(closed("in the middle of a reply"))
            raise
        else:
            if self.over is not None and not self._waiting:
                self._transport.abort()

    def _hand_out(self) -> None:
        gets, waiting = self._reader.gets, self._waiting
        while (reply := gets()) is not NOTHING:
            if type(reply) is PUSH:
                continue
            asked = waiting[0]
            asked.replies.append(reply)
            if type(reply) is Refusal and reply.stale:
                self.over, self.stale, self.until = reply.trouble(), True, asked.due
            if len(asked.replies) == asked.count:
                if not asked.said.done():
                    asked.said.set_result(asked.replies)
                waiting.popleft()

    def _sweep(self) -> None:
        """Give up what is overdue; and the connection, if nothing was received or the first reply due is lost."""
        self._sweeper = None
        waiting, now = self._waiting, self._loop.time()
        if waiting and self._stood_still(now):
            self._sweep_at(now + self._timeout / 20)
            return
        if self._out:
            self._flush()  # its own callback should have sent it long ago
        if self._prover is not None and self._prover.when() < now:
            self._prove()
        if not waiting:
            self._sweeps = 0.0
            return
        quiet = max(waiting[0].due, self._received_at + self._timeout)
        if quiet <= now or self._until(waiting[0]) + (LATE - 1) * self._timeout <= now:
            self._give_up(now)
            return
        soonest = quiet
        for asked in waiting:
            if self._until(asked) <= now:
                # Its place in the queue stays, or the next command would get its reply.
                asked.fail(silent(self._timeout))
            else:
                soonest = min(soonest, self._until(asked))
                break
        self._sweep_at(max(soonest, now + self._timeout / 20))

    def _stood_still(self, now: float) -> bool:
        """Whether replies came while the process stood still: timers are due before them when it goes on."""
        if now < self._sweeps + self._timeout / 20 or self._transport.is_closing():
            return False
        return is_readable(self._transport.get_extra_info("socket").fileno())

    def _sweep_at(self, due: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeper = self._loop.call_at(due, self._sweep)
        self._sweeps = due

    def _give_up(self, now: float) -> None:
        """End the connection. Commands that are not overdue were only behind the others, and may be sent elsewhere."""
        rest = [asked for asked in self._waiting if asked.due > now]
        self.over = self.over or silent(self._timeout)
        self.until = rest[0].due if rest else 0.0
        for asked in rest:
            asked.fail(closed("without an answer"))
        self.end(self.over)

    def _until(self, asked: _Asked) -> float:
        """When a batch is late: the bytes received meanwhile, for it or for others, took time too."""
        return asked.due + (self._size - asked.at) / SLOWEST

    def _prove(self) -> None:
        """Test a connection on which nothing was sent for a while."""
        self._prover = None
        if self.over is not None:
            return
        if self._loop.time() - self._received_at >= TRUSTED / 2 and not self._waiting:
            self.ask(PING, 1).add_done_callback(_looked_at)
        self._prover = self._loop.call_later(TRUSTED / 2, self._prove)

    def retire(self) -> None:
        """Stop using it: commands that were sent get their replies, then it is closed."""
        self.over = self.over or closed("and another was made")
        if not self._waiting:
            self.end(self.over)

    @property
    def closed(self) -> bool:
        """Whether it carries no further command."""
        return self.over is not None

    def close(self) -> None:
        """Close it, for good."""
        self.end(over())

    def connection_lost(self, error: Exception | None) -> None:
        """The other end closed the connection, or this end did."""
        self.end(closed(error or ""))

    def end(self, trouble: StoreTrouble) -> None:
        """Close it; every command that waits for replies gets the trouble."""
        self.over = self.over or trouble
        while self._waiting:  # each is told before it is removed, and the sweeper lives until all were told
            self._waiting[0].fail(trouble)
            self._waiting.popleft()
        self._refuse(self.over)
        for timer in (self._sweeper, self._prover):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._prover = None
        self._transport.abort()

    def close_after_loop(self) -> None:
        """Close it after its loop was closed: nothing can use that loop any more."""
        self.over = self.over or closed("with its loop")
        self._sweeper = self._prover = None
        self._waiting.clear()
        with contextlib.suppress(RuntimeError):  # the loop is closed, and only the socket's end is left to do
            self._transport.abort()
        # There are no public names for the rest of it. A transport left to its destructor would print a warning.
        inner = getattr(getattr(self._transport, "_ssl_protocol", None), "_transport", None) or self._transport
        lost = getattr(inner, "_call_connection_lost", None)
        with contextlib.suppress(RuntimeError, AttributeError):  # AttributeError: the loop has done it already
            if lost is not None:
                lost(None)


def _looked_at(said: asyncio.Future[Any]) -> None:
    if not said.cancelled():
        said.exception()  # it has ended the connection, and the next caller finds that


_ENDED = re.compile(r"shutdown|loop is closed")  # of an executor, of a loop


def _named(host: str) -> bool:
    """Whether a host is given by name, not by number."""
    return bool(host) and ":" not in host and not host.replace(".", "").isdigit()


async def open_multiplexed(address: RedisAddress) -> MultiplexedConnection:
    """Connect to a server, or to the primary that the sentinels name, with all of redis-py's steps; or StoreTrouble."""
    if not isinstance(address, SentinelAddress):
        return await connect_on_loop(address, address.connect_timeout, address.epoch.number)
    until = time.monotonic() + address.connect_timeout
    while True:
        steps = search(address, address.epoch.number, until)
        connection, epoch = await find_on_loop(steps, connect_on_loop)
        connection.epoch = epoch
        if epoch == address.epoch.number:
            watch(address, connection, open_connection)
            return connection
        connection.close()  # as in open_connection


async def connect_on_loop(address: RedisAddress, limit: float, epoch: int = 0) -> MultiplexedConnection:
    """Connect to one server within so many seconds, or StoreTrouble."""
    begun = asyncio.get_running_loop().time()
    connection = address.async_connection(limit)
    writer: Any = None
    if ending() and _named(getattr(connection, "host", "")):
        raise StoreTrouble(
            EXIT, "the interpreter is ending: a host name needs a new thread, and none can be started", "connecting"
        )
    try:
        async with asyncio.timeout(limit):
            await connection.connect()
        writer = connection._writer  # noqa: SLF001 - as above
        return MultiplexedConnection(connection, address.timeout, epoch, begun=begun)
    except BaseException as error:
        if writer is not None:
            writer.transport.abort()
        await connection.disconnect(nowait=True)
        if isinstance(error, Exception):
            raise (_loop_ends(error) or connecting(error)) from error
        raise


def _loop_ends(error: Exception) -> StoreTrouble | None:
    """The trouble of a loop that is ending, if that is what this error says: the store has none."""
    said = [text for one in (error, error.__cause__) if isinstance(one, RuntimeError) for text in [str(one)]]
    if any(_ENDED.search(text) for text in said):
        return StoreTrouble(EXIT, f"the event loop is ending: {said[0]}", "connecting")
    return None
