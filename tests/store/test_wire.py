"""The sync wire: no reply is ever another's, and no trouble costs more than it may."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from askonce.drive import drive
from askonce.store import StoreTrouble
from askonce.store.line import RARELY, Cut, Glance
from askonce.store.redis_scripts import pack
from askonce.store.redis_trouble import Refusal
from askonce.store.wire import SyncWire
from askonce.testing.servers import Server
from tests.store.puppet import AT_MOST, Puppet, Took, address, clients, filled, get, reply, until

pytestmark = [pytest.mark.servers, pytest.mark.concurrency]


class TestSync:
    @pytest.fixture
    def wire(self, valkey: Server) -> Iterator[SyncWire]:
        filled(valkey)
        wire = SyncWire(address(valkey))
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

    def test_a_name_that_takes_long_is_looked_up_behind_the_caller(self, wire: SyncWire, monkeypatch):
        found, asked, real = threading.Event(), [], socket.getaddrinfo

        def slowly(*args: Any, **named: Any) -> Any:
            asked.append(args)
            found.wait(5)
            return real(*args, **named)

        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        for _ in range(2):
            with Took() as took, pytest.raises(StoreTrouble) as trouble:
                self.ask(wire, "n1")
            assert trouble.value.kind == "store-timeout"
            assert took.seconds < AT_MOST
        found.set()
        assert self.ask(wire, "n1") == b"value of n1"
        assert len(asked) == 1

    def test_each_thread_has_a_connection_and_leaves_none_behind(self, valkey: Server, wire: SyncWire):
        wrong: list[object] = []
        barrier = threading.Barrier(8)

        def reader(seed: int) -> None:
            barrier.wait(5)
            numbers = random.Random(seed).choices(range(100), k=200)
            wrong.extend(number for number in numbers if self.ask(wire, f"n{number}") != b"value of n%d" % number)
            barrier.wait(5)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        del thread, threads
        gc.collect()
        assert not wrong
        until(lambda: clients(valkey) == 0)

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
            got.wait(0.3)  # longer than a timeout: nothing is read meanwhile, nothing said
            connection.sendall(b"+OK\r\n")

        with Puppet(slowly) as puppet:
            wire = SyncWire(address(puppet))
            assert drive(wire.ask(pack(b"SET", b"n1", b"x" * 3_000_000), 1)) == [b"OK"]
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
        assert (Glance().read(near, buffer), bytes(buffer[:5])) == (5, b"reply")
        far.close()
        assert Glance().read(near, buffer) == 0, "the end of a connection is told from nothing yet"

    def test_each_look_in_vain_makes_the_next_one_rarer_and_a_good_one_puts_that_right(self, ends):
        near, far = ends
        glance, buffer = Glance(), bytearray(10)
        looked = []
        for number in range(4 * RARELY):
            before = glance.skipped
            assert glance.read(near, buffer) is None
            looked += [number] if glance.skipped <= before else []
        gaps = [later - earlier for earlier, later in itertools.pairwise(looked)]
        assert gaps[:4] == [2, 4, 8, 16]
        assert gaps[-1] == RARELY + 1
        far.sendall(b"a")
        assert any(glance.read(near, buffer) for _ in range(RARELY + 1))
        far.sendall(b"b")
        assert glance.read(near, buffer) == 1, "the very next reply is looked for again"

    def test_two_threads_never_look_at_the_same_time_and_a_closed_socket_is_an_error(self, ends, monkeypatch):
        near, far = ends
        far.sendall(b"reply")
        monkeypatch.setattr(Glance, "looking", True)
        assert Glance().read(near, bytearray(10)) is None
        monkeypatch.setattr(Glance, "looking", False)
        near.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            Glance().read(near, bytearray(10))
        assert not Glance.looking
