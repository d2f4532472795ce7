"""A cache whose store's clock moves only by hand: lifetimes of days are tested in milliseconds."""

import itertools
import threading

import pytest

import askonce
from askonce.flight import hit_counts

_names = itertools.count()


class Clock:
    """The store's clock, in us; moved by hand."""

    def __init__(self):
        self.now = 1_750_000_000_000_000

    def __call__(self):
        self.now += 1
        return self.now

    def move(self, seconds):
        self.now += int(seconds * 1_000_000)


class Seen:
    """The events of a cache, by name, to be waited for."""

    def __init__(self, cache):
        self.events = []
        self._news = threading.Condition()
        cache.on_event(self._heard)

    def _heard(self, event):
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def count(self, name, detail=None):
        return sum(1 for event in list(self.events) if event.name == name and detail in {None, event.detail})

    def wait(self, name, times=1, timeout=5.0):
        with self._news:
            assert self._news.wait_for(lambda: self.count(name) >= times, timeout), f"no {name}: {self.events}"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def no_push(monkeypatch):
    """The background thread tells the store of no hits: the test does, when it wants."""
    monkeypatch.setattr(hit_counts, "PUSH", 3600.0)


@pytest.fixture
def make(clock, tmp_path):
    """Makes caches over one store with the clock: ``make(policy=...)``, ``make("sqlite")``."""
    made = []
    name = f"lifetimes-{next(_names)}"

    def make(kind="memory", **options):
        url = f"memory://{name}" if kind == "memory" else f"sqlite:///{tmp_path}/lifetimes.db"
        cache = askonce.Cache(url, clock=clock, **options)
        made.append(cache)
        return cache

    yield make
    for cache in made:
        cache.close()
