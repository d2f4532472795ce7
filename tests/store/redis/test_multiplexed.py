"""The async wire: the properties of the sync one, and cancelled callers and ended loops leave nothing behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import random
import socket
import threading
import time
import warnings
import weakref
from contextlib import suppress
from typing import Any

import pytest

from askonce import AsyncCache
from askonce.runtime.readable import is_readable
from askonce.store import StoreTrouble
from askonce.store.redis import async_wire
from askonce.store.redis.address import RedisAddress, from_url
from askonce.store.redis.async_wire import AsyncWire
from askonce.store.redis.connecting import was_first
from askonce.store.redis.connection import Cut
from askonce.store.redis.multiplexed import LATE, MultiplexedConnection, open_multiplexed
from askonce.store.redis.scripts import pack
from askonce.store.redis.trouble import over
from askonce.testing.servers import Server
from tests.crowd import eventually
from tests.patience import PATIENT
from tests.store.puppet import AT_MOST, Puppet, address, clients, filled, get, reply, until
from tests.took import Took

pytestmark = [pytest.mark.servers, pytest.mark.concurrency]

LONG = 10.0  # s


async def fetched(wire: AsyncWire, name: str) -> Any:
    (said,) = await wire.ask(get(name), 1)
    return said


class TestAsync:
    @pytest.fixture
    def wire(self, valkey: Server) -> AsyncWire:
        filled(valkey)
        return AsyncWire(address(valkey, PATIENT))  # closed by the end of the loop, which is tested elsewhere

    async def test_concurrent_first_callers_share_one_connection(self, valkey: Server, wire: AsyncWire):
        said = await asyncio.gather(*(fetched(wire, f"n{number}") for number in range(100)))
        assert said == [b"value of n%d" % number for number in range(100)]
        assert clients(valkey) == 1
        await wire.close()

    async def test_cancelled_callers_never_shift_a_reply_to_another(self, wire: AsyncWire):
        choose = random.Random(7)
        got = cancelled = 0

        async def caller(number: int) -> None:
            nonlocal got
            assert await fetched(wire, f"n{number}") == b"value of n%d" % number
            got += 1

        while got < 1_000 or cancelled < 300:
            tasks = [asyncio.create_task(caller(choose.randrange(100))) for _ in range(30)]
            for task in tasks:
                if choose.random() < 0.4:
                    asyncio.get_running_loop().call_later(choose.random() * 0.0008, task.cancel)
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
                cancelled += outcome is not None
        await wire.close()

    async def test_callers_cancelled_while_connecting_leave_the_connection_to_others(self, wire: AsyncWire):
        first = asyncio.create_task(fetched(wire, "n1"))
        await asyncio.sleep(0)
        second = asyncio.create_task(fetched(wire, "n2"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"value of n2"
        await wire.close()

    async def test_a_frozen_server_costs_one_timeout_connected_or_not(self, own_valkey: Server):
        filled(own_valkey)
        wires = [AsyncWire(address(own_valkey)), AsyncWire(address(own_valkey))]
        await fetched(wires[0], "n1")
        own_valkey.freeze()
        for wire in wires:
            with Took() as took:
                said = await asyncio.gather(*(fetched(wire, "n1") for _ in range(20)), return_exceptions=True)
            assert {getattr(one, "kind", one) for one in said} == {"store-timeout"}
            assert took.seconds < AT_MOST
        own_valkey.thaw()
        for wire in wires:
            assert await fetched(wire, "n2") == b"value of n2"
            await wire.close()

    async def test_a_late_reply_is_dropped_and_the_next_one_gets_its_own(self):
        held: list[socket.socket] = []

        def act(connection: socket.socket, command: list[bytes]) -> None:
            if command[1] == b"slow":
                held.append(connection)
            else:
                connection.sendall(reply(command[1].decode()))

        with Puppet(act) as puppet:
            wire = AsyncWire(address(puppet, 0.5))  # the noise comes more often, on a busy machine too
            assert await fetched(wire, "n1") == b"n1"
            slow = asyncio.create_task(fetched(wire, "slow"))
            with Took() as took:
                while not slow.done():  # something arrives all the time, so the connection is not given up
                    await asyncio.sleep(0.01)
                    for connection in held:
                        connection.sendall(b">1\r\n+noise\r\n")
            assert isinstance(slow.exception(), Cut)
            assert took.seconds < LATE * 0.5
            held[0].sendall(reply("slow"))
            assert await fetched(wire, "n2") == b"n2"
            assert len(puppet.connections) == 1
            await wire.close()

    async def test_what_was_not_asked_for_ends_the_connection(self):
        with Puppet(lambda connection, command: connection.sendall(reply("one") + reply("two"))) as puppet:
            wire = AsyncWire(address(puppet))
            await fetched(wire, "n1")
            await asyncio.sleep(0.05)
            await fetched(wire, "n1")
            assert len(puppet.connections) == 2
            await wire.close()

    async def test_an_idle_connection_that_was_cut_is_replaced_without_a_word(self, valkey: Server, wire: AsyncWire):
        for number in range(5):
            said = await asyncio.gather(*(fetched(wire, f"n{number}") for _ in range(10)))
            assert said == [b"value of n%d" % number] * 10
            valkey.kill_connections()
            if number % 2:
                await asyncio.sleep(0.01)  # the cut is seen before the next command, and else by it
        assert await fetched(wire, "n9") == b"value of n9"
        assert clients(valkey) == 1
        await wire.close()

    async def test_a_connection_that_was_begun_for_another_and_cut_is_replaced_without_a_word(
        self, valkey: Server, wire: AsyncWire, monkeypatch
    ):
        shaken, cut = asyncio.Event(), asyncio.Event()

        async def slowly(to: RedisAddress) -> MultiplexedConnection:
            connection = await open_multiplexed(to)
            shaken.set()
            await cut.wait()
            valkey.kill_connections()  # no turn of the loop sees it before the next command
            return connection

        assert await fetched(wire, "n1") == b"value of n1"
        valkey.kill_connections()
        monkeypatch.setattr(async_wire, "open_multiplexed", slowly)
        first = asyncio.create_task(fetched(wire, "n1"))
        await asyncio.wait_for(shaken.wait(), 10)
        first.cancel()  # it gives up, and its connection goes on being made
        monkeypatch.setattr(async_wire, "open_multiplexed", open_multiplexed)
        later = [asyncio.create_task(fetched(wire, f"n{number}")) for number in range(5)]
        await asyncio.sleep(0)
        cut.set()
        assert await asyncio.gather(*later) == [b"value of n%d" % number for number in range(5)]
        await wire.close()

    async def test_who_waits_for_a_connection_that_leads_nowhere_waits_for_the_next_one(
        self, valkey: Server, monkeypatch
    ):
        """An epoch ends for all connections of this process to a server; which cache noticed it does not matter."""
        filled(valkey)
        to, begun = address(valkey, 20.0), asyncio.Event()

        async def never(_: RedisAddress) -> MultiplexedConnection:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        wire = AsyncWire(to)
        monkeypatch.setattr(async_wire, "open_multiplexed", never)
        first = [asyncio.create_task(fetched(wire, f"n{number}")) for number in range(3)]
        await asyncio.wait_for(begun.wait(), 20)
        to.epoch.end()
        monkeypatch.setattr(async_wire, "open_multiplexed", open_multiplexed)
        assert await fetched(wire, "n9") == b"value of n9"
        assert await asyncio.gather(*first) == [b"value of n%d" % number for number in range(3)]
        await wire.close()

    async def test_a_closed_port_is_refused_at_once(self, own_valkey: Server):
        own_valkey.stop()
        with Took() as took, pytest.raises(StoreTrouble) as trouble:
            await fetched(AsyncWire(address(own_valkey)), "n1")
        assert trouble.value.kind == "store-refused"
        assert took.seconds < 0.1

    @pytest.mark.usefixtures("defaults")
    async def test_connecting_goes_on_behind_the_callers_who_gave_up(self):
        go_on = threading.Event()

        def act(connection: socket.socket, command: list[bytes]) -> None:
            if command[0] == b"CLIENT":  # SETNAME: a step of connecting, which has a longer timeout
                go_on.wait(60)
                connection.sendall(b"+OK\r\n")
            else:
                connection.sendall(reply("one"))

        with Puppet(act) as puppet:
            there = from_url(puppet.url, {"client_name": "me"})
            was_first(there)  # a first connection may take longer
            wire = AsyncWire(there)
            with Took() as took, pytest.raises(StoreTrouble) as trouble:
                await fetched(wire, "n1")
            assert (trouble.value.kind, took.seconds < AT_MOST) == ("store-timeout", True)
            go_on.set()
            assert await fetched(wire, "n1") == b"one"
            assert len(puppet.connections) == 1
            await wire.close()

    async def test_a_loop_that_was_blocked_blames_nobody(self, wire: AsyncWire):
        await fetched(wire, "n1")
        late = asyncio.create_task(fetched(wire, "n2"))
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - the caller's own fault, longer than the store's timeout
        assert await late == b"value of n2"
        await wire.close()

    async def test_what_came_while_the_process_stood_still_is_read_before_anybody_is_given_up(self, valkey: Server):
        """Timers are due first when it goes on, as after SIGCONT: the loop was told nothing of its sockets."""
        connection = await open_multiplexed(address(valkey, LONG))
        asked = [connection.ask(pack(b"ECHO", number), 1) for number in range(50)]
        connection._flush()
        eventually(lambda: is_readable(connection._transport.get_extra_info("socket").fileno()), "the replies come")
        for one in connection._waiting:
            one.due -= 3 * LONG
        connection._sweeps -= 3 * LONG
        connection._received_at -= 3 * LONG
        connection._sweep()
        assert await asyncio.gather(*asked) == [[b"%d" % number] for number in range(50)]
        assert connection.over is None
        connection.end(over())

    async def test_callers_under_way_when_it_is_closed_are_told_and_nothing_is_opened_again(self, own_valkey: Server):
        wire = AsyncWire(address(own_valkey, 5.0))
        await fetched(wire, "n1")
        own_valkey.freeze()
        callers = [asyncio.create_task(fetched(wire, "n1")) for _ in range(5)]
        await asyncio.sleep(0.01)
        await wire.close()
        said = await asyncio.gather(*callers, return_exceptions=True)
        own_valkey.thaw()
        assert {str(one) for one in said} == {"the store was closed by its user"}
        until(lambda: clients(own_valkey) == 0)

    async def test_close_leaves_no_task_and_no_connection(self, valkey: Server, wire: AsyncWire):
        await asyncio.gather(*(fetched(wire, "n1") for _ in range(10)))
        await wire.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        until(lambda: clients(valkey) == 0)
        with pytest.raises(StoreTrouble, match="closed by its user"):
            await fetched(wire, "n1")

    async def test_a_close_whose_cancellation_is_lost_leaves_no_connection(self, valkey: Server, monkeypatch):
        opened = asyncio.Event()

        async def deaf(where: Any) -> Any:
            """As asyncio's and the client's steps are now and then, in the turn in which their last reply comes."""
            connection = await open_multiplexed(where)
            opened.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG)
            return connection

        monkeypatch.setattr(async_wire, "open_multiplexed", deaf)
        wire = AsyncWire(address(valkey))
        caller = asyncio.create_task(fetched(wire, "n1"))
        await opened.wait()
        await asyncio.to_thread(asyncio.run, wire.close())  # from another loop, which has no connection
        with pytest.raises(StoreTrouble):
            await caller
        until(lambda: clients(valkey) == 0)


def test_the_end_of_a_loop_closes_its_connection_and_another_loop_gets_another(valkey: Server):
    filled(valkey)
    wire = AsyncWire(address(valkey, 5.0))
    for _ in range(3):
        assert asyncio.run(fetched(wire, "n1")) == b"value of n1"
        gc.collect()  # pytest makes a warning of anything left open an error
        until(lambda: clients(valkey) == 0)


def run_without_ceremony(work: Any) -> Any:
    """As a program does that knows nothing of asyncio.run: nothing is cancelled, no generator is closed."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.mark.parametrize("run", [asyncio.run, run_without_ceremony])
def test_a_loop_that_is_closed_is_kept_alive_by_nothing_and_neither_is_its_connection(valkey: Server, run):
    filled(valkey)
    wire = AsyncWire(address(valkey, 5.0))
    loops = []

    async def ask() -> Any:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        return await fetched(wire, "n1")

    for _ in range(5):
        assert run(ask()) == b"value of n1"
        until(lambda: clients(valkey) == 0)
    gc.collect()
    assert [loop() for loop in loops] == [None] * 5
    assert not wire._per_loop


def test_a_wire_that_is_dropped_leaves_no_connection_on_a_loop_that_goes_on(valkey: Server):
    filled(valkey)

    async def drop() -> None:
        for _ in range(5):
            await fetched(AsyncWire(address(valkey, 5.0)), "n1")
        gc.collect()
        await asyncio.sleep(0.05)
        assert clients(valkey) == 0

    asyncio.run(drop())


def test_a_context_is_not_kept_by_the_loop_that_a_cache_was_first_used_on(valkey: Server):
    class Held:
        pass

    kept: contextvars.ContextVar[Held] = contextvars.ContextVar("kept")
    wire = AsyncWire(address(valkey))

    async def ask() -> Any:
        kept.set(Held())
        await wire.ask(get("n1"), 1)
        return weakref.ref(kept.get())

    async def main() -> None:
        held = await asyncio.create_task(ask())
        for _ in range(60):  # a cancelled timer keeps its context until its time comes
            gc.collect()
            if held() is None:
                break
            await asyncio.sleep(0.05)
        assert held() is None
        await wire.close()

    asyncio.run(main())


def test_loops_in_several_threads_have_connections_of_their_own(valkey: Server):
    filled(valkey)
    wire = AsyncWire(address(valkey, 5.0))
    said: list[list[bytes]] = []

    async def many() -> Any:
        return await asyncio.gather(*(fetched(wire, f"n{number % 100}") for number in range(500)))

    threads = [threading.Thread(target=lambda: said.append(asyncio.run(many()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [[b"value of n%d" % (number % 100) for number in range(500)]] * 4


def test_a_forked_child_with_a_loop_of_its_own_disturbs_nobody(valkey: Server):
    filled(valkey)
    wire = AsyncWire(address(valkey))

    async def child() -> bool:
        return bool(await fetched(wire, "n2") == b"value of n2")

    async def parent() -> int:
        (mine,) = await wire.ask(pack(b"CLIENT", b"ID"), 1)
        pid = os.fork()
        if pid == 0:
            code = 3
            with suppress(BaseException):
                asyncio._set_running_loop(None)
                code = 0 if asyncio.run(child()) else 2
            os._exit(code)
        for number in range(200):
            assert await fetched(wire, f"n{number % 100}") == b"value of n%d" % (number % 100)
        _, code = await asyncio.to_thread(os.waitpid, pid, 0)
        assert await wire.ask(pack(b"CLIENT", b"ID"), 1) == [mine]
        await wire.close()
        return code

    assert asyncio.run(parent()) == 0


def test_a_lookup_on_a_loop_that_is_ending_meets_no_trouble_of_the_stores(valkey: Server, caplog: Any):
    """A generator's end may look up when the loop's threads have ended: a host's name is resolved no more."""

    async def late() -> Any:
        await asyncio.get_running_loop().shutdown_default_executor()
        cache = AsyncCache(valkey.url.replace("127.0.0.1", "localhost"))

        async def call() -> int:
            return 1

        found, breaker = await cache.fetch("q", call), cache.stats()["breaker"]
        await cache.aclose()
        return found, breaker

    found, breaker = asyncio.run(late())
    assert (found.value, found.status.detail, breaker) == (1, "exit", "closed")
    assert not caplog.records


def test_a_connection_that_its_loop_has_closed_is_closed_again_without_a_word(valkey: Server):
    async def left() -> Any:
        connection = await open_multiplexed(address(valkey))
        connection.end(StoreTrouble("store-closed"))
        await asyncio.sleep(0.05)
        return connection

    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(left())
    loop.close()
    connection.close_after_loop()
    until(lambda: clients(valkey) == 0)


def test_a_loop_that_ends_before_connecting_begins_ends_without_a_word(valkey: Server):
    loop, said = asyncio.new_event_loop(), list[str]()
    loop.set_exception_handler(lambda _, about: said.append(repr(about.get("task"))))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        caller = loop.create_task(fetched(AsyncWire(address(valkey)), "n1"))
        loop.call_soon(loop.stop)
        loop.run_forever()
        names = {task.get_name() for task in asyncio.all_tasks(loop)}
        assert "askonce-connect" in names, "it was sent for, and has not begun"
        caller.cancel()
        loop.close()
        del caller, loop
        gc.collect()
    assert not [one for one in said if "askonce" in one.partition("coro")[0]]
    assert not [str(one.message) for one in warned if "never awaited" in str(one.message)]
