"""The end of the interpreter: whether it has begun, what may still be started, and what must be done before it.

Python first waits for threads that are not daemons. Then it calls the functions of `atexit`. Then it stops all other
threads and tears its modules down. From the first step on, some imports fail. In the second, Python 3.12 and later
start no thread. In the third, nothing may wait for another thread: none runs.
"""

from __future__ import annotations

import _thread
import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from askonce.runtime.wakeup import Wakeup

EXIT = "exit"  # the detail of a lookup that came too late for the store
START = 2.0  # s that a thread may take to start
LAST = 2.0  # s at the end of an interpreter or an event loop for work without a caller

_works: list[Callable[[], object]] = []
_owners: set[weakref.ref[Any]] = set()
_hooked = 0  # the process that is known to call `_end`
_ended = 0  # the process that has run its last hooks


def ending() -> bool:
    """Whether the interpreter ends: only late threads, functions of atexit and destructors still run."""
    return sys.is_finalizing() or over() or not threading.main_thread().is_alive()


def over() -> bool:
    """Whether this process has run its last hooks: nothing waits for work that begins now."""
    return _ended == os.getpid()


def interrupted() -> bool:
    """Whether a KeyboardInterrupt ends this code or the interpreter: nothing may delay it."""
    last = getattr(sys, "last_type", None) if ending() else None
    return isinstance(sys.exception(), KeyboardInterrupt) or last is KeyboardInterrupt


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread. Return None if none can be started, or if the interpreter ends.

    Another thread calls `Thread.start`, which is Python code with a lock and a list of starting threads: an exception
    from a signal in the middle of it would leave the lock held, or end the new thread with a KeyError.
    """
    if sys.is_finalizing():
        return None  # Python 3.11 would start it, stop it, and wait forever for it to begin
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    refused: list[Exception] = []
    said = Wakeup()
    try:
        _thread.start_new_thread(_start, (thread, refused, said))  # atomic: either it runs, or it does not
    except Exception:  # noqa: BLE001 - RuntimeError or MemoryError: either way it does not run
        return None
    said.wait(START)
    return None if refused else thread


def _start(thread: threading.Thread, refused: list[Exception], said: Wakeup) -> None:
    try:
        thread.start()
    except Exception as error:  # noqa: BLE001 - as above
        refused.append(error)
    finally:
        said.set()


def when_dropped(owner: object, work: Callable[..., object], *arguments: Any) -> None:
    """Call `work` when `owner` is dropped, also by a thread that ends while Python does.

    Not weakref.finalize: as soon as the functions of `atexit` have run, it calls nothing.
    """

    def dropped(gone: weakref.ref[Any], owners: set[weakref.ref[Any]] = _owners) -> None:
        owners.discard(gone)
        work(*arguments)

    _owners.add(weakref.ref(owner, dropped))


def before_exit(work: Callable[[], object]) -> None:
    """Call `work` before the interpreter ends, while threads still run. It may not raise."""
    _works.append(work)


def hook_process_end() -> None:
    """Hook the end of a process that multiprocessing made: such a child does not call the functions of atexit."""
    global _hooked  # noqa: PLW0603
    if _hooked == os.getpid():
        return
    _hooked = os.getpid()
    for library in ("multiprocessing", "multiprocess", "billiard"):  # and its two descendants
        process, util = (sys.modules.get(f"{library}.{name}") for name in ("process", "util"))
        if process is not None and util is not None and process.current_process().name != "MainProcess":
            util.Finalize(None, _end, exitpriority=0)


@atexit.register
def _end() -> None:
    global _ended  # noqa: PLW0603
    if not over():
        _ended = os.getpid()
        for work in _works:
            work()
