"""A cache closed while others look up: none of their commands reaches a new file with the same descriptor number."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import threading
import time

import pytest

from askonce import AsyncCache, Cache, CacheClosed
from tests.crowd import Loop
from tests.fixtures import place_of

TEXT = b"what somebody else wrote\n"
FILES = 60  # more than there can be descriptors to take over
ROUNDS = 12

pytestmark = pytest.mark.concurrency


@pytest.fixture(params=["sqlite", pytest.param("valkey", marks=pytest.mark.servers)])
def place(request, tmp_path):
    return place_of(request.param, request, tmp_path)


class Others:
    """Files and sockets of other code's, opened right after a close: they get the numbers that it made free."""

    def __init__(self, folder):
        self.files, self.pairs = [], []
        for number in range(FILES):
            path = folder / str(number)
            path.write_bytes(TEXT)
            self.files.append((path, os.open(path, os.O_RDWR)))
        for _ in range(8):
            pair = socket.socketpair()
            pair[0].sendall(TEXT)
            self.pairs.append(pair)

    def untouched(self):
        """Whether nobody wrote to them or read from them."""
        for path, descriptor in self.files:
            assert path.read_bytes() == TEXT
            assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
        for _, there in self.pairs:
            there.setblocking(False)
            assert there.recv(1024) == TEXT

    def close(self):
        for _, descriptor in self.files:
            os.close(descriptor)
        for pair in self.pairs:
            for end in pair:
                end.close()


def in_threads(place, draw, folder):
    """Threads that look up, miss and stream, and a close among them."""
    cache = Cache(place)
    begun = threading.Barrier(5)

    def use(name):
        begun.wait(60)
        with contextlib.suppress(CacheClosed):
            for number in range(10_000):
                assert cache.fetch([name, number % 5, number % 3 and number], lambda: 1).value == 1

    threads = [threading.Thread(target=use, args=(name,), daemon=True) for name in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    time.sleep(draw.random() * 5e-3)
    cache.close(0.0)
    others = Others(folder)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return others


def in_tasks(place, draw, folder):
    """The same in tasks of two loops, one of which closes."""
    cache, loops = AsyncCache(place), [Loop(), Loop()]

    async def call():
        return 1

    async def use(name):
        with contextlib.suppress(CacheClosed):
            for number in range(10_000):
                assert (await cache.fetch([name, number % 5, number % 3 and number], call)).value == 1

    used = [loop.submit(use(name)) for name in range(3) for loop in loops]
    time.sleep(draw.random() * 5e-3)
    loops[0].do(cache.aclose(0.0))
    others = Others(folder)
    for one in used:
        with contextlib.suppress(asyncio.CancelledError):
            one.result(60)
    for loop in loops:
        loop.close()
    return others


@pytest.mark.parametrize("look_up", [in_threads, in_tasks])
def test_no_command_lands_in_a_file_that_was_opened_after_a_close(place, look_up, tmp_path):
    draw = random.Random(11)
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        others = look_up(place, draw, folder)
        others.untouched()
        others.close()


def test_the_files_would_show_it(tmp_path):
    """A connection that one who does not own it closes is what this looks for."""
    line, other = socket.socketpair()
    number = line.fileno()
    line.close()
    others = Others(tmp_path)
    assert number in {descriptor for _, descriptor in others.files}
    os.write(number, b"*3\r\n")
    with pytest.raises(AssertionError):
        others.untouched()
    others.close()
    other.close()
