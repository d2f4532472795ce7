"""A Watcher: asks new questions all the time, and notes how each lookup went while something befalls the store."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import NamedTuple, Self

from askonce import Cache
from bench.questions import answer, question

EVERY = 0.01  # s between two lookups


class Told(NamedTuple):
    """One lookup: when it began, its s, whether its answer was stored, its key."""

    began: float
    took: float
    stored: bool
    key: str


class Watcher:
    """A thread that asks; `told` and `errors` have what came of it."""

    def __init__(self, cache: Cache) -> None:
        self.told: list[Told] = []
        self.errors: list[str] = []
        self._cache = cache
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        numbers = count()
        while not self._over.wait(EVERY):
            began = time.monotonic()
            try:
                outcome = self._cache.fetch(question(f"watched {next(numbers)}"), lambda: answer("x"))
            except Exception as error:  # noqa: BLE001 - counted
                self.errors.append(repr(error))
            else:
                self.told.append(Told(began, time.monotonic() - began, outcome.status.stored, outcome.key))
