"""Who begins to read an abandoned stream on another loop at any line of its giving up, and the other way round.

Whichever comes first, the reader gets all of a stream: of this call, or of one of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from askonce import AsyncCache
from askonce.engine import stream_readers
from askonce.engine.stream_readers import StreamReaders
from askonce.engine.stream_readers import _left_off as left_off
from askonce.stream.writer import LogWriter
from tests.crowd import PATIENCE, Loop
from tests.injection.inject import OURS, tracing

pytestmark = pytest.mark.concurrency

HERE = str(stream_readers.__file__)
CLOSES = 0.01  # s that upstream takes to close: who comes meanwhile finds a stream that is ending
MOST = 200  # moments of either side; both have fewer


class Story:
    """A stream of two items, the second of which comes when `on` says so."""

    def __init__(self) -> None:
        self.opened = 0
        self.on = False

    async def open(self) -> Any:
        self.opened += 1
        try:
            yield {"n": 0}
            while not self.on:  # noqa: ASYNC110 - another thread says so
                await asyncio.sleep(0.001)
            yield {"n": 1}
        finally:
            await asyncio.sleep(CLOSES)


class Scene:
    """An abandoned stream on one loop, and a reader that comes on another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache, self.here, self.there = AsyncCache("memory://"), Loop(), Loop()
        self.request = 0
        self.waits = threading.Event()
        plain = StreamReaders._until_closed

        async def until_closed(readers: Any, flight: Any, pump: Any) -> None:
            if flight.left_off:
                self.waits.set()
            await plain(readers, flight, pump)

        monkeypatch.setattr(StreamReaders, "_until_closed", until_closed)

    def abandoned(self) -> None:
        """Begin anew: a stream whose only reader has left."""
        self.request += 1
        self.story, self.waits = Story(), threading.Event()
        self.here.do(self._left())
        engine = self.cache._base._engine
        (self.flight,) = [one for one in engine.board.flights() if one.unwaited]
        self.readers = engine._stream_readers

    async def _left(self) -> None:
        async with await self.cache.fetch_stream(self.request, self.story.open) as stream:
            await anext(stream)

    async def come(self) -> Any:
        stream = await self.cache.fetch_stream(self.request, self.story.open)
        self.waits.set()
        return stream

    async def read(self) -> list[Any]:
        return await whole(await self.come())

    async def give_up(self) -> None:
        self.readers.give_up(self.flight)

    async def at(
        self, moment: int, work: Callable[[], Any], act: Callable[[], object], within: str
    ) -> tuple[bool, Any]:
        """Do `work`, and `act` at one moment of it; whether it came so far, and what the work brought."""
        left = [moment]

        def met(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                act()

        with tracing(met, within):
            brought = await work()
        return left[0] <= 0, brought

    def close(self) -> None:
        for loop in (self.here, self.there):
            loop.close()


@pytest.fixture(params=["told", "not told yet"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """What writes the stream's log is told by the store that another caller waits; or that takes too long."""
    if request.param == "not told yet":
        monkeypatch.setattr(LogWriter, "_want", lambda _: None)
    made = Scene(monkeypatch)
    yield made
    made.here.do(made.cache.aclose(0.0))
    made.close()


async def whole(stream: Any) -> list[Any]:
    return [item async for item in stream]


WHOLE = [{"n": 0}, {"n": 1}]


def test_who_comes_at_any_line_of_giving_up_gets_all_of_a_stream(scene):
    for moment in range(1, MOST):
        scene.abandoned()
        reading: list[Any] = []

        def come(reading: list[Any] = reading) -> None:
            reading.append(scene.there.submit(scene.read()))
            assert scene.waits.wait(PATIENCE)

        there, _ = scene.here.do(scene.at(moment, scene.give_up, come, OURS))
        scene.story.on = True
        if not there:
            break
        assert reading[0].result(PATIENCE) == WHOLE, moment
    assert moment > 20


def test_whose_stream_is_given_up_at_any_line_of_coming_gets_all_of_one(scene):
    for moment in range(1, MOST):
        scene.abandoned()

        def give_up() -> None:
            scene.here.do(scene.give_up())

        there, stream = scene.there.do(scene.at(moment, scene.come, give_up, HERE))
        scene.story.on = True
        assert scene.there.do(whole(stream)) == WHOLE, moment
        if not there:
            break
    assert moment > 10


def test_who_finds_a_flight_wanted_does_not_take_back_what_another_decides(scene):
    scene.abandoned()
    flight = scene.flight

    def others_find_it_wanted() -> bool:
        assert not left_off(flight, unless=lambda: True)
        return False

    assert left_off(flight, unless=others_find_it_wanted)
    assert flight.left_off
    assert not left_off(flight, unless=lambda: True)
    assert flight.left_off, "it was decided before"


def test_a_flight_takes_callers_again_if_looking_for_them_is_interrupted(scene):
    scene.abandoned()

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        left_off(scene.flight, unless=interrupted)
    assert not scene.flight.left_off
