"""A scripted stream that is written word by word when the test says so, and caches that share it."""

import threading

import pytest

import askonce


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
                    assert self._changed.wait_for(lambda: at < len(self._items) or self._ended, 60)  # noqa: B023
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
            assert self._changed.wait_for(lambda: self.closed >= times, 60)


@pytest.fixture
def upstream():
    return Upstream()


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
