"""Crowds of callers, in threads or tasks, here or in other processes: the base of the engine's tests.

A test is sync code in every case. A Crowd starts callers and returns a future for each; it closes what it opened. A
Worker is another process with a Crowd of its own; lines on its stdin say what its callers do. So one place forces a
schedule across processes step by step, without a sleep. `gathered` waits until the given number of callers really wait;
that is what "meanwhile" means.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from askonce import AsyncCache, Cache
from askonce.flight.background import BackgroundThread
from askonce.testing import Receipts, ScriptedCall, Step
from tests.patience import with_files
from tests.siblings import Sibling, siblings
from tests.took import Took

PATIENCE = 60.0  # s after which a waiting test has failed, however busy the machine is
MODES = ("threads", "tasks")
STORES = ("sqlite", "valkey")  # which processes can share
ASKED = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "why?"}]}
HANG = Step(hang=True)
ROOT = Path(__file__).parents[1]


def _note(done: list[float], _: object) -> None:
    done.append(time.monotonic())


def by_turns(names: Any, quick: Collection[str]) -> list[Any]:
    """A mode and a name each, for `crowd` and another argument: quick ones in one mode each, by turns; the rest
    slow.
    """
    import pytest  # not in a worker, which would be slower to start by a third

    modes = {name: MODES[at % len(MODES)] for at, name in enumerate(quick)}
    return [
        pytest.param(mode, name, marks=() if modes.get(name) == mode else pytest.mark.slow)
        for name in names
        for mode in MODES
    ]


def eventually(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until something is the case, and return it."""
    took = Took()
    while not (found := true()):
        assert took.seconds < patience, f"not within {patience} s: {what}"
        time.sleep(0.002)
    return found


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="test-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._forever())

    async def _forever(self) -> None:
        self._over = asyncio.Event()
        await self._over.wait()

    def submit(self, work: Any) -> Future[Any]:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def do(self, work: Any) -> Any:
        """Run a coroutine there, to its end."""
        return self.submit(work).result(PATIENCE)

    def close(self) -> None:
        """End it as asyncio.run does, with all that is still under way."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self._over.set)
            self.thread.join(PATIENCE)


class Crowd:
    """Callers of one process, all threads or all tasks."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.caches: list[Any] = []
        self._loop: Loop | None = None
        self._threads: list[threading.Thread] = []

    @property
    def tasks(self) -> bool:
        """Whether its callers are tasks."""
        return self.mode == "tasks"

    @property
    def loop(self) -> Loop:
        """Where its tasks run, unless told otherwise."""
        if self._loop is None:
            self._loop = Loop()
        return self._loop

    def cache(self, url: str, **options: Any) -> Any:
        """A Cache or an AsyncCache, closed with the crowd."""
        made = (AsyncCache if self.tasks else Cache)(url, **options)
        self.caches.append(made)
        return made

    def ask(
        self, cache: Any, request: Any, call: ScriptedCall | Callable[[], Any], *, loop: Loop | None = None, **own: Any
    ) -> Future[Any]:
        """Start one caller of `fetch`; `call` is a ScriptedCall, or what fetch takes."""
        if isinstance(call, ScriptedCall):
            call = call.aio_on(request) if self.tasks else call.on(request)
        if self.tasks:
            return (loop or self.loop).submit(cache.fetch(request, call, **own))
        return self.start(lambda: cache.fetch(request, call, **own))

    def start(self, work: Callable[[], Any]) -> Future[Any]:
        """Run something in a thread of its own."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # so that a thread cannot be cancelled

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return future

    def asks(self, number: int, cache: Any, request: Any, call: Any, **own: Any) -> list[Future[Any]]:
        """Start many callers of one question."""
        return [self.ask(cache, request, call, **own) for _ in range(number)]

    @contextlib.contextmanager
    def one_turn(self) -> Iterator[None]:
        """Tasks that are started meanwhile begin in one turn of the loop, so that none is behind what another sends."""
        begin = threading.Event()
        if self.tasks:
            self.loop.loop.call_soon_threadsafe(begin.wait, PATIENCE)
        try:
            yield
        finally:
            begin.set()

    def answer(self, cache: Any, request: Any, call: Any, **own: Any) -> Any:
        """The outcome of one caller."""
        return self.ask(cache, request, call, **own).result(PATIENCE)

    def do(self, method: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call a method of a cache that blocks or is to be awaited."""
        if not self.tasks:
            return method(*arguments, **more)

        async def awaited() -> Any:
            made = method(*arguments, **more)
            return await made if inspect.isawaitable(made) else made

        return self.loop.do(awaited())

    def finish(self, cache: Any, limit: float = 5.0) -> list[str]:
        """Close one of its caches."""
        dropped: list[str] = self.do(cache.aclose if self.tasks else cache.close, limit)
        return dropped

    def close(self) -> None:
        """Close its caches, its loop, and wait for its threads."""
        for cache in self.caches:
            self.finish(cache, 0.0)
        if self._loop is not None:
            self._loop.close()
        for thread in self._threads:
            thread.join(PATIENCE)


def joined(cache: Any) -> int:
    """How many callers are at the flights of this cache, its leaders included."""
    return int(sum(flight.callers for flight in cache._base._engine.board.flights()))


def gathered(cache: Any, number: int, call: ScriptedCall | None = None) -> None:
    """Wait until so many callers wait: at flights of this cache, if it has any, or else outside; and `call` is made."""

    def there() -> bool:
        outside = cache._base._engine.background.waiting() if not cache._base._engine.board.flights() else 0
        return max(joined(cache), outside) >= number and (call is None or call.in_flight > 0)

    eventually(there, f"{number} callers wait; {cache!r}, {cache.stats()}")


def idle(cache: Any) -> None:
    """Wait until nothing is going on."""
    eventually(lambda: cache.stats()["flights"] == 0 and cache.stats()["waiting"] == 0, f"{cache!r} is idle")


def results(futures: list[Future[Any]], patience: float = PATIENCE) -> list[Any]:
    """What each brought: an outcome, or what it raised."""
    until = time.monotonic() + patience
    return [future.exception(max(0.0, until - time.monotonic())) or future.result() for future in futures]


def values(futures: list[Future[Any]]) -> list[Any]:
    """The values of all, none of which raised."""
    return [future.result(PATIENCE).value for future in futures]


@contextlib.contextmanager
def heartbeat(seconds: float) -> Iterator[None]:
    """Leases that die sooner. The product has no such knob: all processes of a fleet must agree."""
    kept = BackgroundThread.heartbeat, BackgroundThread.rhythm
    BackgroundThread.heartbeat, BackgroundThread.rhythm = seconds, seconds * kept[1] / kept[0]
    try:
        yield
    finally:
        BackgroundThread.heartbeat, BackgroundThread.rhythm = kept


def after(cache: Any, verb: str, act: Callable[[Any], Any], *, times: int = 1) -> None:
    """Between a verb of this cache's store and its reply to the caller, do something: the next so many times.

    `act` is given the reply, in the caller's thread; what it returns is awaited if that can be done.
    """
    store = cache._base._engine.store
    plain = getattr(store, verb)
    left = [times]

    async def hooked(*arguments: Any, **more: Any) -> Any:
        reply = await plain(*arguments, **more)
        if left[0] > 0:
            left[0] -= 1
            made = act(reply)
            if inspect.isawaitable(made):
                await made
        return reply

    setattr(store, verb, hooked)


def counted(cache: Any, verb: str) -> Callable[[], int]:
    """How often a verb of this cache's store was carried out, from now on. Who follows has claimed twice."""
    done: list[object] = []
    after(cache, verb, lambda _: done.append(None), times=1_000_000)
    return lambda: len(done)


# --- other processes ---------------------------------------------------------------------------------------------


class Worker:
    """A process with one cache and one scripted call, whose paid calls are counted in a file.

    `tell` sends an order and returns its reply: a method of `_Hands`, by name.
    """

    def __init__(self, process: Sibling) -> None:
        self.process = process

    def send(self, order: str, *arguments: Any, **more: Any) -> None:
        """Give an order, without waiting for its reply."""
        self.process.stdin.write(json.dumps([order, arguments, more]) + "\n")
        self.process.stdin.flush()

    def reply(self) -> Any:
        """The reply to the order before."""
        line = self.process.stdout.readline()
        assert line, f"worker {self.process.pid} died"
        said = json.loads(line)
        assert "error" not in said, said["error"]
        return said["reply"]

    def tell(self, order: str, *arguments: Any, **more: Any) -> Any:
        """Give an order and wait for its reply."""
        self.send(order, *arguments, **more)
        return self.reply()


@contextlib.contextmanager
def workers(number: int, mode: str, url: str, receipts: Path | str, **options: Any) -> Iterator[list[Worker]]:
    """So many processes, all ready."""
    settings = json.dumps({"mode": mode, "url": url, "receipts": str(receipts), **options})
    with siblings("tests.crowd", [[settings]] * number) as started:
        made = [Worker(process) for process in started]
        for worker in made:
            assert worker.tell("ready")
        yield made


def all_tell(told: list[Worker], order: str, *arguments: Any, **more: Any) -> list[Any]:
    """The replies of all, to the same order at the same time."""
    for worker in told:
        worker.send(order, *arguments, **more)
    return [worker.reply() for worker in told]


class _Hands:
    """What a worker can be told to do; arguments and replies are JSON."""

    def __init__(
        self, mode: str, url: str, receipts: str, beat: float | None = None, seconds: float = 0.0, **options: Any
    ) -> None:
        self.beat = heartbeat(beat) if beat is not None else contextlib.nullcontext()
        self.beat.__enter__()  # for good
        self.crowd = Crowd(mode)
        self.cache = self.crowd.cache(url, **options)
        self.call = ScriptedCall(delay=seconds, receipts=Receipts(receipts))
        self.futures: list[tuple[Future[Any], list[float]]] = []

    def ready(self) -> bool:
        return True

    def script(self, question: Any, *cues: Any) -> None:
        """ScriptedCall.script; a dict is a Step, and its "raises" the text of an error."""
        self.call.script(question, *(self._cue(cue) for cue in cues))

    @staticmethod
    def _cue(cue: Any) -> Any:
        if not isinstance(cue, dict):
            return cue
        raises: dict[str, Any] = {"error": ZeroDivisionError(cue.pop("raises"))} if "raises" in cue else {}
        return Step(**cue, **raises)

    def ask(self, number: int, request: Any, **own: Any) -> None:
        """Start callers."""
        for future in self.crowd.asks(number, self.cache, request, self.call, **own):
            done: list[float] = []
            future.add_done_callback(partial(_note, done))
            self.futures.append((future, done))

    def gathered(self, number: int) -> None:
        gathered(self.cache, number)

    def paid(self, request: Any, times: int = 1) -> None:
        """Wait until a call of ours has begun."""
        self.call.wait_until_paid(request, times, PATIENCE)

    def release(self) -> int:
        return self.call.release()

    def results(self) -> list[dict[str, Any]]:
        """What became of all callers started so far: value or raised, status, and when."""
        told = []
        for future, done in self.futures:
            error = future.exception(PATIENCE)
            eventually(partial(bool, done), "the callback ran")
            if error is not None:
                told.append({"raised": type(error).__name__, "said": str(error), "at": done[0]})
            else:
                outcome = future.result()
                told.append({"value": outcome.value, "status": str(outcome.status), "at": done[0]})
        self.futures.clear()
        return told

    def hits(self, number: int, requests: list[Any]) -> list[Any]:
        """So many lookups, one after another: what was wrong with them."""
        wrong = []
        for at in range(number):
            request = requests[at % len(requests)]
            value = self.crowd.answer(self.cache, request, self.call).value
            if value.get("question") != json.dumps(request, separators=(",", ":")):
                wrong.append([request, value])
        return wrong

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cache.stats()
        return found

    def invalidate(self, **what: Any) -> float:
        """When it was acknowledged."""
        self.crowd.do(self.cache.invalidate, **what)
        return time.monotonic()

    def block(self, seconds: float) -> None:
        """Block the event loop."""

        async def block() -> None:
            time.sleep(seconds)  # noqa: ASYNC251 - which is the point

        self.crowd.loop.submit(block())

    def close(self, limit: float = 5.0) -> list[str]:
        return self.crowd.finish(self.cache, limit)


def main() -> None:
    with_files()
    hands = _Hands(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        order, arguments, more = json.loads(line)
        try:
            said = {"reply": getattr(hands, order)(*arguments, **more)}
        except BaseException as error:
            said = {"error": repr(error)}
        print(json.dumps(said), flush=True)
