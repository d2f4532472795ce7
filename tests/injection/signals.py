"""A process whose lookups are interrupted at random moments, by realistic interrupts.

`interrupt`: a real SIGINT. `limit`: a signal whose handler raises an Exception, like a worker's soft time limit.
`thread`: an exception set by another thread (PyThreadState_SetAsyncExc), as some pools end their jobs.

After each interrupt, this process asks once more, or leaves that to another process: BATCH of those are printed as a
line, and the other process answers with a line when it was served. The last line is a Report.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import json
import logging
import os
import random
import signal
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

from askonce.flight.background import BackgroundThread
from askonce.runtime.ownership import OwnedLock
from askonce.stream.tape import Cut
from tests.injection.inject import OURS
from tests.injection.stranger import answer, items
from tests.injection.world import World
from tests.took import Took

BATCH = 20
WARM = 20  # lookups that measure how long one takes
STUCK = float(os.environ.get("ASKONCE_STUCK", "100"))  # s for BATCH rounds, after which it says where its threads are
ASYNCIO = str(Path(asyncio.__file__).parent)
AGAIN = 20e-6  # s
BURST = 8  # hits in a round
LONGER, SHORTER = 1.01, 0.97
LATE = 1.3  # times the duration of a lookup: the latest moment


class Limit(Exception):
    """A worker's soft time limit."""


class Signals:
    """Interrupts the main thread, by a timer of the system's; that of an event loop where it runs code of ours."""

    def __init__(self, error: type[BaseException], *, loops: bool) -> None:
        self.loops = loops
        self._error = error
        self._armed = False
        signal.signal(signal.SIGALRM, self._rung)

    def _rung(self, _: int, frame: FrameType | None) -> None:
        if self._armed and self.loops and not _within(frame):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)  # asyncio itself loses its current step, and hangs
        elif self._armed:
            self._armed = False
            raise self._error

    def around(self, seconds: float, work: Callable[[], Any]) -> Any:
        """Do it, and interrupt it then."""
        try:
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return work()
        finally:
            self._armed = False

    def over(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Interrupts(Signals):
    """The same by SIGINT, as Ctrl-C does it: with the handler that Python has for that."""

    def __init__(self, error: type[BaseException], *, loops: bool) -> None:
        super().__init__(error, loops=loops)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _rung(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            signal.raise_signal(signal.SIGINT)


class Injected:
    """Interrupts this thread from another one."""

    def __init__(self, error: type[BaseException], *, loops: bool) -> None:
        assert not loops  # it could not be told where it comes
        sys.setswitchinterval(1e-5)
        self._error = error
        self._target = ctypes.c_ulong(threading.get_ident())
        self._turn = threading.Lock()
        self._armed = False
        # Not a Semaphore, which is Python code: the exception may come between two of its lines, and leave it locked.
        self._delays: SimpleQueue[float] = SimpleQueue()
        threading.Thread(target=self._run, name="injecting", daemon=True).start()

    def _run(self) -> None:
        while True:
            until = self._delays.get() + time.perf_counter()
            while time.perf_counter() < until:
                pass  # a sleep may be too long by the time of a whole lookup
            with self._turn:
                if self._armed:
                    self._armed = False
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(self._target, ctypes.py_object(self._error))

    def around(self, seconds: float, work: Callable[[], Any]) -> Any:
        self._armed = True
        self._delays.put(seconds)
        try:
            return work()
        finally:
            with self._turn:
                self._armed = False
            for _ in range(200):
                time.perf_counter()  # the signal set just now is raised here

    def over(self) -> None:
        """Nothing is left."""


HOW: dict[str, tuple[Any, type[BaseException]]] = {
    "interrupt": (Interrupts, KeyboardInterrupt),
    "limit": (Signals, Limit),
    "thread": (Injected, Limit),
}


def _within(frame: FrameType | None) -> bool:
    """Whether it is code of ours that runs, or what it called, and not asyncio's own."""
    while frame is not None and not frame.f_code.co_filename.startswith(ASYNCIO):
        if frame.f_code.co_filename.startswith(OURS):
            return True
        frame = frame.f_back
    return False


class Rounds:
    """So many lookups of one way, interrupted."""

    def __init__(self, world: World, way: str, how: str, seed: int) -> None:
        self.world = world
        self.way = way
        self.draw = random.Random(seed)
        kind, self.error = HOW[how]
        self.alarm = kind(self.error, loops=world.tasks)
        self.interrupted = 0
        self.lost_loops = 0
        self.wrong: list[str] = []
        self.slowest = 0.0
        self.left: list[Any] = []  # for the other process

    def lookup(self, request: Any) -> Any:
        world = self.world
        work = world.stream(request) if self.way == "stream" else world.fetch(request)
        return world._run(work)  # the timer of `run` would conflict with this one

    def look(self, request: Any, brought: Any) -> None:
        """Whether that is the answer."""
        if brought != (items(request) if self.way == "stream" else answer(request)):
            self.wrong.append(f"{request}: {brought}")

    def prepared(self) -> Any:
        request = self.world.fresh()
        if self.way == "hit":
            self.look(request, self.lookup(request))
        return request

    def usual(self) -> float:
        """How long a lookup takes that nothing interrupts."""
        took = []
        for _ in range(WARM):
            request, began = self.prepared(), time.perf_counter()
            self.lookup(request)
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    def round(self, usual: float, number: int) -> None:
        request = self.prepared()
        burst = BURST if self.way == "hit" else 1
        delay = max(1e-6, self.draw.random() * LATE * usual * burst)
        try:
            for brought in self.alarm.around(delay, lambda: [self.lookup(request) for _ in range(burst)]):
                self.look(request, brought)
        except (self.error, Cut):
            self.interrupted += 1
            if number % 2:
                self.left.append(request)
                request = None
        self.alarm.over()
        self.tidy()
        if request is not None:
            took = Took()
            self.look(request, self.lookup(request))
            self.slowest = max(self.slowest, took.seconds)

    def tidy(self) -> None:
        """What asyncio.run does when it ends; a loop that lost a callback of its own is closed as it is."""
        loop = self.world.loop
        if loop is None:
            return
        if loop.is_running():  # Python 3.13 and later: what interrupts the very begin of a run leaves it begun
            vars(loop)["_thread_id"] = None
            asyncio._set_running_loop(None)
        for _ in range(3):
            loop.call_soon(loop.stop)
            self.once(loop.run_forever)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in left:
            task.cancel()
        if left and self.once(lambda: loop.run_until_complete(asyncio.wait(left, timeout=2.0)))[1]:
            self.lost_loops += 1
            loop.close()
            self.world.loop = asyncio.new_event_loop()
            self.world.loop.set_exception_handler(lambda *_: None)

    def once(self, work: Callable[[], Any]) -> Any:
        """What interrupted a task that another task awaits comes out of a loop twice, and leaves it to be stopped."""
        try:
            return work()
        except (self.error, RuntimeError):
            return None, ("lost",)

    def served(self) -> None:
        """Have the other process served."""
        if self.left:
            print(json.dumps({"left": self.left, "form": "s" if self.way == "stream" else "v"}), flush=True)
            self.left = []
            sys.stdin.readline()


def held() -> list[str]:
    """Locks of ours that somebody holds who is not the background's."""
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    locks = [one for one in gc.get_objects() if isinstance(one, OwnedLock) and hasattr(one, "_waiting")]
    owners = [threads.get(one._end().thread, "?") for one in locks if one.held]
    return [name for name in owners if name not in {"askonce-background", "askonce-sqlite"}]


def report(rounds: Rounds) -> dict[str, Any]:
    """What is left of it all."""
    wrong = rounds.wrong
    for look in (lambda: rounds.world.at_rest("all that"), lambda: rounds.world._run(_nothing())):
        try:
            look()
        except AssertionError as error:
            wrong.append(str(error))
    return {
        "interrupted": rounds.interrupted,
        "lost_loops": rounds.lost_loops,
        "wrong": wrong[:5],
        "slowest": rounds.slowest,
        "held": held(),
        "threads": rounds.world.strays(),
    }


async def _nothing() -> None:
    return


def main(url: str, mode: str, way: str, how: str, count: int, seed: int, beat: float) -> None:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    sys.unraisablehook = lambda _: None  # CPython reports an exception in a finaliser there
    threading.excepthook = lambda _: None
    BackgroundThread.heartbeat, BackgroundThread.rhythm = beat, beat * 0.3
    world = World(url.partition(":")[0], url, mode, None)
    if world.loop is not None:
        world.loop.set_exception_handler(lambda *_: None)
    rounds = Rounds(world, way, how, seed)
    usual = rounds.usual()
    world.threads = set(threading.enumerate())
    for number in range(count):
        if not number % BATCH:
            faulthandler.dump_traceback_later(STUCK, exit=True)
        before = rounds.interrupted
        rounds.round(usual, number)
        usual *= LONGER if rounds.interrupted > before else SHORTER  # other programs may have slowed it too
        if len(rounds.left) >= BATCH:
            rounds.served()
    rounds.served()
    print(json.dumps(report(rounds)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
