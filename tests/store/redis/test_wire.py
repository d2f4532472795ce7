"""The sync wire: no reply reaches another caller, and no trouble costs more than its limit."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.store.redis import connecting, pool
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.asking import is_primary
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.connection import LEAST, RARELY, TRUSTED, Connection, Cut, Spin
from askonce.store.redis.scripts import pack
from askonce.store.redis.trouble import Refusal
from askonce.store.redis.wire import SyncWire
from askonce.testing.servers import Server
from tests.patience import PATIENT
from tests.store.puppet import AT_MOST, Puppet, address, clients, filled, get, reply, until
from tests.took import Took

pytestmark = [pytest.mark.servers, pytest.mark.concurrency]


def in_threads(number: int, work: Any) -> None:
    """Do `work(n)` in so many threads at once, to their end."""
    threads = [threading.Thread(target=work, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


class TestSync:
    @pytest.fixture
    def to(self, valkey: Server) -> RedisAddress:
        """A server that is never silent: only a test of what takes too long says how long that is."""
        filled(valkey)
        return address(valkey, PATIENT)

    @pytest.fixture
    def wire(self, to: RedisAddress) -> Iterator[SyncWire]:
        wire = SyncWire(to)
        yield wire
        drive(wire.close())

    def ask(self, wire: SyncWire, name: str) -> Any:
        (said,) = drive(wire.ask(get(name), 1))
        return said

    def test_replies_come_in_order_and_a_refusal_is_one_of_them(self, wire: SyncWire):
        batch = get("n1") + pack(b"HGET", b"n1", b"f") + get("n2")
        first, refused, last = drive(wire.ask(batch, 3))
        assert (first, last) == (b"value of n1", b"value of n2")
        assert isinstance(refused, Refusal)
        assert refused.trouble().kind == "store-foreign"

    def test_a_late_reply_is_never_read_by_the_next_one(self, own_valkey: Server):
        filled(own_valkey)
        wire = SyncWire(address(own_valkey))
        assert self.ask(wire, "n1") == b"value of n1"
        own_valkey.freeze()
        with pytest.raises(StoreTrouble, match=r"0\.2 s") as trouble:
            self.ask(wire, "n2")
        own_valkey.thaw()
        assert trouble.value.kind == "store-timeout"
        assert [self.ask(wire, f"n{number}") for number in (3, 4)] == [b"value of n3", b"value of n4"]
        drive(wire.close())

    def test_a_signal_in_the_middle_leaves_no_reply_behind(self, own_valkey: Server):
        filled(own_valkey)
        wire = SyncWire(address(own_valkey, 5.0))
        assert self.ask(wire, "n1") == b"value of n1"
        own_valkey.freeze()
        before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            with pytest.raises(KeyboardInterrupt):
                self.ask(wire, "n2")
        finally:
            signal.signal(signal.SIGALRM, before)
            own_valkey.thaw()
        assert self.ask(wire, "n3") == b"value of n3"
        drive(wire.close())

    def test_an_idle_connection_that_was_cut_is_replaced_without_a_word(self, valkey: Server, wire: SyncWire):
        for number in range(5):
            assert self.ask(wire, f"n{number}") == b"value of n%d" % number
            valkey.kill_connections()
        assert self.ask(wire, "n9") == b"value of n9"
        assert clients(valkey) == 1

    def test_a_connection_that_was_begun_for_another_and_cut_is_replaced_without_a_word(
        self, valkey: Server, to: RedisAddress, wire: SyncWire, monkeypatch
    ):
        shaken, cut, said = threading.Event(), threading.Event(), []

        def slowly(metadata: Any) -> bool:
            shaken.set()
            assert cut.wait(60)
            return is_primary(metadata)

        assert self.ask(wire, "n1") == b"value of n1"
        valkey.kill_connections()
        monkeypatch.setattr(connecting, "is_primary", slowly)
        to.timeout = 0.2
        with pytest.raises(StoreTrouble):  # it gives up, and its connection goes on being made
            self.ask(wire, "n1")
        to.timeout = PATIENT
        assert shaken.wait(60)
        valkey.kill_connections()
        thread = threading.Thread(target=lambda: said.append(self.ask(wire, "n2")))
        thread.start()
        until(lambda: wire._pools[os.getpid()]._waiting)
        cut.set()
        thread.join(60)
        assert said == [b"value of n2"]

    def test_a_connection_that_closes_each_time_is_replaced_only_once(self):
        with Puppet(lambda connection, _: connection.shutdown(socket.SHUT_RDWR)) as puppet:
            wire = SyncWire(address(puppet))
            with pytest.raises(StoreTrouble) as trouble:
                self.ask(wire, "n1")
            assert (trouble.value.kind, len(puppet.connections)) == ("store-closed", 1)

    def test_a_connection_that_ends_within_the_replies_is_not_asked_again(self):
        def half(connection: socket.socket, command: list[bytes]) -> None:
            connection.sendall(reply("one"))
            if command[1] == b"n2":
                connection.shutdown(socket.SHUT_RDWR)

        with Puppet(half) as puppet:
            wire = SyncWire(address(puppet))
            assert self.ask(wire, "n1") == b"one"
            with pytest.raises(Cut) as cut:
                drive(wire.ask(get("n2") + get("n3"), 2))
            assert (cut.value.replies, cut.value.kind, len(puppet.connections)) == ([b"one"], "store-closed", 1)
            drive(wire.close())

    def test_a_reply_too_many_ends_the_connection(self):
        with Puppet(lambda connection, command: connection.sendall(reply("one") + reply("two"))) as puppet:
            wire = SyncWire(address(puppet))
            with pytest.raises(StoreTrouble) as trouble:
                self.ask(wire, "n1")
            assert trouble.value.kind == "store-error"
            with suppress(StoreTrouble):
                self.ask(wire, "n1")
            assert len(puppet.connections) == 2

    def test_a_closed_port_is_refused_at_once(self, own_valkey: Server):
        own_valkey.stop()
        with Took() as took, pytest.raises(StoreTrouble) as trouble:
            self.ask(SyncWire(address(own_valkey)), "n1")
        assert trouble.value.kind == "store-refused"
        assert took.seconds < 0.1

    def test_a_frozen_server_costs_one_timeout_connected_or_not(self, own_valkey: Server):
        wires = [SyncWire(address(own_valkey)), SyncWire(address(own_valkey))]
        self.ask(wires[0], "n1")
        own_valkey.freeze()
        for wire in wires:
            with Took() as took, pytest.raises(StoreTrouble) as trouble:
                self.ask(wire, "n1")
            assert trouble.value.kind == "store-timeout"
            assert took.seconds < AT_MOST
        own_valkey.thaw()
        assert [self.ask(wire, "n1") for wire in wires] == [None, None]
        for wire in wires:
            drive(wire.close())

    def test_a_name_that_takes_long_is_looked_up_behind_the_caller(self, to: RedisAddress, wire: SyncWire, monkeypatch):
        found, asked, real = threading.Event(), [], socket.getaddrinfo

        def slowly(*args: Any, **named: Any) -> Any:
            asked.append(args)
            found.wait(60)
            return real(*args, **named)

        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        to.timeout = 0.2
        for _ in range(2):
            with Took() as took, pytest.raises(StoreTrouble) as trouble:
                self.ask(wire, "n1")
            assert trouble.value.kind == "store-timeout"
            assert took.seconds < AT_MOST
        to.timeout = PATIENT
        found.set()
        assert self.ask(wire, "n1") == b"value of n1"
        assert len(asked) == 1

    def test_no_reply_is_anothers_however_many_threads_ask_at_once(self, valkey: Server, wire: SyncWire):
        wrong: list[object] = []
        barrier = threading.Barrier(8)

        def reader(seed: int) -> None:
            barrier.wait(60)
            numbers = random.Random(seed).choices(range(100), k=200)
            wrong.extend(number for number in numbers if self.ask(wire, f"n{number}") != b"value of n%d" % number)

        in_threads(8, reader)
        assert not wrong
        assert clients(valkey) <= 8 + pool.CONNECTING

    def test_threads_that_come_one_after_another_use_one_connection(self, valkey: Server, wire: SyncWire):
        for number in range(30):
            in_threads(1, lambda _, number=number: self.ask(wire, f"n{number}"))
        assert clients(valkey) == 1

    def test_four_hundred_threads_that_start_at_once_share_a_few_connections_and_all_are_answered(
        self, valkey: Server, monkeypatch
    ):
        filled(valkey)
        connected: deque[Any] = deque()

        def counted(to: RedisAddress) -> Connection:
            connected.append(to)
            return open_connection(to)

        monkeypatch.setattr(pool, "open_connection", counted)
        wire, barrier, said = SyncWire(address(valkey, PATIENT)), threading.Barrier(400), []

        def ask(number: int) -> None:
            barrier.wait(60)
            said.extend([self.ask(wire, f"n{number % 100}") == b"value of n%d" % (number % 100) for _ in range(3)])

        in_threads(400, ask)
        assert said == [True] * 1200
        assert len(connected) <= pool.MOST + pool.CONNECTING
        assert clients(valkey) <= len(connected)
        drive(wire.close())
        until(lambda: clients(valkey) == 0)

    def test_who_waits_for_a_line_goes_on_waiting_while_others_are_answered(self, own_valkey: Server, monkeypatch):
        # One connection, and so many callers that the last waits for several timeouts: that is no trouble.
        monkeypatch.setattr(pool, "MOST", 1)

        def slowly(connection: socket.socket, command: list[bytes]) -> None:
            time.sleep(0.1)
            connection.sendall(reply(command[1].decode()))

        with Puppet(slowly) as puppet:
            wire = SyncWire(address(puppet))
            said: list[Any] = []
            in_threads(6, lambda number: said.append(self.ask(wire, f"n{number}")))
            assert sorted(said) == [b"n%d" % number for number in range(6)]
            assert len(puppet.connections) == 1
            drive(wire.close())

    def test_who_waits_behind_a_line_that_goes_silent_waits_no_longer_than_its_user(self, monkeypatch):
        monkeypatch.setattr(pool, "MOST", 1)
        with Puppet(lambda connection, command: command[1] == b"n1" and connection.sendall(reply("one"))) as puppet:
            wire = SyncWire(address(puppet))
            assert self.ask(wire, "n1") == b"one"
            troubles = []

            def ask(_: int) -> None:
                with Took() as took, pytest.raises(StoreTrouble):
                    self.ask(wire, "silence")
                troubles.append(took.seconds)

            in_threads(5, ask)
            assert max(troubles) < AT_MOST + LEAST
            drive(wire.close())

    def test_a_line_that_nobody_used_for_long_is_closed_when_more_come_back(self, valkey: Server, wire: SyncWire):
        barrier = threading.Barrier(12)
        held = wire._opened()

        def hold(_: int) -> None:
            connection = held.wait(time.monotonic())
            barrier.wait(60)
            held.give(connection)

        in_threads(12, hold)
        until(lambda: not held._connecting)
        assert clients(valkey) >= 12
        connection = held.wait(time.monotonic())  # a connection in steady use
        for idle in held.idle:
            idle.used -= TRUSTED + 1
        held.give(connection)
        until(lambda: clients(valkey) <= pool.SPARE)
        assert self.ask(wire, "n1") == b"value of n1"

    def test_closing_leaves_a_connection_to_its_user_who_closes_it(self, own_valkey: Server):
        filled(own_valkey)
        wire = SyncWire(address(own_valkey, 2.0))
        connection = wire._opened().wait(time.monotonic())
        number = connection.sock.fileno()
        drive(wire.close())
        assert connection.sock.fileno() == number, "a number given to another file would be written to"
        assert connection.exchange(get("n1"), 1) == [b"value of n1"]
        wire._pools[os.getpid()].give(connection)
        assert connection.closed
        until(lambda: clients(own_valkey) == 0)

    def test_nothing_is_written_into_a_file_that_took_the_number_of_a_closed_connection(
        self, valkey: Server, tmp_path, monkeypatch
    ):
        filled(valkey)
        for round_ in range(20):
            wire = SyncWire(address(valkey))
            over = threading.Event()

            def ask(number: int, wire: SyncWire = wire, over: threading.Event = over) -> None:
                with suppress(StoreTrouble):
                    while not over.is_set():
                        self.ask(wire, f"n{number}")

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            until(lambda wire=wire: wire.connected())
            drive(wire.close())
            files = [(tmp_path / f"{round_}-{number}").open("wb") for number in range(8)]
            for thread in threads:
                thread.join(60)
            over.set()
            for file in files:
                file.close()
        assert {file.read_bytes() for file in tmp_path.iterdir()} == {b""}

    def test_children_of_a_fork_connect_anew_and_the_parent_keeps_its_own(self, valkey: Server, wire: SyncWire):
        (mine,) = drive(wire.ask(pack(b"CLIENT", b"ID"), 1))
        children = []
        for seed in range(4):
            pid = os.fork()
            if pid == 0:
                os._exit(self.child(wire, seed, mine))
            children.append(pid)
        for number in range(300):
            assert self.ask(wire, f"n{number % 100}") == b"value of n%d" % (number % 100)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0, 0]
        assert drive(wire.ask(pack(b"CLIENT", b"ID"), 1)) == [mine]

    def child(self, wire: SyncWire, seed: int, parents: int) -> int:
        try:
            numbers = random.Random(seed).choices(range(100), k=1000)
            wrong = sum(self.ask(wire, f"n{number}") != b"value of n%d" % number for number in numbers)
            (mine,) = drive(wire.ask(pack(b"CLIENT", b"ID"), 1))
            drive(wire.close())
        except BaseException:
            return 3
        return 2 if wrong else int(mine == parents)

    def test_a_large_value_may_take_longer_than_a_timeout_to_be_sent(self):
        got = threading.Event()

        def slowly(connection: socket.socket, command: list[bytes]) -> None:
            got.wait(0.3)  # longer than a timeout: nothing is read or sent meanwhile
            connection.sendall(b"+OK\r\n")

        with Puppet(slowly) as puppet:
            wire = SyncWire(address(puppet))
            assert drive(wire.ask(pack(b"SET", b"n1", b"x" * 20_000_000), 1)) == [b"OK"]
            with pytest.raises(StoreTrouble):
                self.ask(wire, "n1")
            got.set()
            drive(wire.close())

    def test_a_closed_wire_stays_closed(self, valkey: Server):
        wire = SyncWire(address(valkey))
        self.ask(wire, "n1")
        drive(wire.close())
        until(lambda: clients(valkey) == 0)
        with pytest.raises(StoreTrouble, match="closed by its user"):
            self.ask(wire, "n1")


class TestGlance:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        near, far = socket.socketpair()
        near.settimeout(0.2)
        with near, far:
            yield near, far

    def test_what_is_there_is_read(self, ends):
        near, far = ends
        buffer = bytearray(10)
        far.sendall(b"reply")
        assert (Spin().read(near, buffer), bytes(buffer[:5])) == (5, b"reply")
        far.close()
        assert Spin().read(near, buffer) == 0, "the end of a connection is told from nothing yet"

    def test_each_look_in_vain_makes_the_next_one_rarer_and_a_good_one_puts_that_right(self, ends):
        near, far = ends
        spin, buffer = Spin(), bytearray(10)
        looked = []
        for number in range(4 * RARELY):
            before = spin.skipped
            assert spin.read(near, buffer) is None
            looked += [number] if spin.skipped <= before else []
        gaps = [later - earlier for earlier, later in itertools.pairwise(looked)]
        assert gaps[:4] == [2, 4, 8, 16]
        assert gaps[-1] == RARELY + 1
        far.sendall(b"a")
        assert any(spin.read(near, buffer) for _ in range(RARELY + 1))
        far.sendall(b"b")
        assert spin.read(near, buffer) == 1, "the very next reply is looked for again"

    def test_two_threads_never_look_at_the_same_time_and_a_closed_socket_is_an_error(self, ends, monkeypatch):
        near, far = ends
        far.sendall(b"reply")
        monkeypatch.setattr(Spin, "looking", True)
        assert Spin().read(near, bytearray(10)) is None
        monkeypatch.setattr(Spin, "looking", False)
        near.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            Spin().read(near, bytearray(10))
        assert not Spin.looking
