"""A scripted stream that is written word by word when the test says so; and places to share it in."""

import itertools
import threading

import pytest

import askonce

KINDS = ("memory", pytest.param("sqlite"), pytest.param("valkey", marks=pytest.mark.servers))
_names = itertools.count()


class Upstream:
    """A stream of items that waits for `say` before each; `ends` or `breaks` end it. Counts what was opened and
    read.
    """

    def __init__(self, items=()):
        self.opened = 0
        self.closed = 0
        self.read = 0
        self._items = list(items)
        self._ended = False
        self._error = None
        self._changed = threading.Condition()

    def say(self, *items):
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    def ends(self, error=None):
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def open(self):
        self.opened += 1
        return self._stream()

    def _stream(self):
        at = 0
        try:
            while True:
                with self._changed:
                    assert self._changed.wait_for(lambda: at < len(self._items) or self._ended, 10)  # noqa: B023
                    if at >= len(self._items):
                        break
                    item = self._items[at]
                at += 1
                self.read = max(self.read, at)
                yield item
            if self._error is not None:
                raise self._error
        finally:
            with self._changed:
                self.closed += 1
                self._changed.notify_all()

    def wait_until_closed(self, times=1):
        with self._changed:
            assert self._changed.wait_for(lambda: self.closed >= times, 5)


@pytest.fixture
def upstream():
    return Upstream()


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    if request.param == "memory":
        return f"memory://streams-{next(_names)}"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/streams.db"
    return request.getfixturevalue("valkey").url


@pytest.fixture
def make(place):
    """Caches over one place. Each has flights of its own: to another cache they are another process's."""
    made = []

    def make(**options):
        made.append(askonce.Cache(place, **options))
        return made[-1]

    yield make
    for cache in made:
        cache.close(limit=1)
