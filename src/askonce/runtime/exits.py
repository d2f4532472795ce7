"""The end of the interpreter: whether it has begun, what may still be started, and what is done before it.

Python first waits for threads that are no daemons, then calls what `atexit` has, then stops all other threads and takes
its modules apart. From the first step on some imports fail, and since 3.12 no thread can be started in the second. In
the third nothing may wait for another thread: none runs.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

EXIT = "exit"  # the detail of a lookup that came too late for the store
LAST = 2.0  # s that what nobody waits for has at the end of an interpreter, or of an event loop

_works: list[Callable[[], object]] = []
_expected = 0  # the process that tells us of its end
_ended = 0  # the process whose last works were done


def ending() -> bool:
    """Whether the interpreter ends: what runs now are late threads, functions of atexit, or destructors."""
    return sys.is_finalizing() or over() or not threading.main_thread().is_alive()


def over() -> bool:
    """Whether the last works of this process were done: what is begun now is not waited for."""
    return _ended == os.getpid()


def interrupted() -> bool:
    """Whether what runs now is the way out of a Ctrl-C, for which nobody wants to wait."""
    last = getattr(sys, "last_type", None) if ending() else None
    return isinstance(sys.exception(), KeyboardInterrupt) or last is KeyboardInterrupt


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread; None where there is none left, or the interpreter ends."""
    if sys.is_finalizing():
        return None  # Python 3.11 would begin it, stop it, and wait for its first word for ever
    thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
    try:
        thread.start()
    except Exception:  # noqa: BLE001 - RuntimeError, or MemoryError: either way it does not run
        return None
    return thread


def at_the_end(work: Callable[[], object]) -> None:
    """Have this done before the interpreter ends, while threads still run. It may not raise."""
    _works.append(work)


def expect_the_end() -> None:
    """Be told of the end of this process, if it is a child of multiprocessing: these do not call what atexit has."""
    global _expected  # noqa: PLW0603
    if _expected == os.getpid():
        return
    _expected = os.getpid()
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
