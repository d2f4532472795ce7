"""Another process over the same place: it asks, and it leads calls that others follow. Orders and replies are JSON.

{"do": "ask", "request": ..., "form": "v" | "s"}           its answer, and how long it took
{"do": "lead", "request": ..., "form": ..., "seconds": s}  begins a call of so long; replies when it is being made
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from askonce import Cache
from askonce.flight.background import BackgroundThread
from askonce.testing.servers import watch
from tests.took import Took

PATIENCE = 10.0  # s
ROOT = Path(__file__).parents[2]


def answer(request: Any) -> dict[str, Any]:
    """The one right answer to a request."""
    return {"to": request["messages"][0]["content"]}


def items(request: Any) -> list[dict[str, Any]]:
    """The one right stream for a request."""
    return [{**answer(request), "at": at} for at in range(4)]


class Stranger:
    """The process, from outside."""

    def __init__(self, url: str, heartbeat: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.injection.stranger", url, str(heartbeat)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self._watcher = watch(self._process.pid)

    def tell(self, do: str, request: Any, form: str = "v", seconds: float = 0.0) -> Any:
        """Its reply to an order."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"do": do, "request": request, "form": form, "seconds": seconds}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        assert readable, "another process waits, and nobody tells it"
        line = self._process.stdout.readline()
        assert line, "the other process died"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._watcher, self._process):
            process.kill()
            process.communicate()


def _asked(cache: Cache, request: Any, form: str) -> Any:
    if form == "s":
        with cache.fetch_stream(request, lambda: iter(items(request))) as stream:
            return list(stream)
    return cache.fetch(request, lambda: answer(request)).value


def _lead(cache: Cache, request: Any, form: str, seconds: float) -> None:
    begun = threading.Event()

    def call() -> Any:
        begun.set()
        time.sleep(seconds)
        return answer(request)

    def stream() -> Any:
        begun.set()
        for item in items(request):
            time.sleep(seconds / 4)
            yield item

    def lead() -> None:
        if form == "s":
            with cache.fetch_stream(request, stream) as read:
                list(read)
        else:
            cache.fetch(request, call)

    threading.Thread(target=lead, daemon=True).start()
    begun.wait(60)


def _main(url: str, heartbeat: str) -> None:
    BackgroundThread.heartbeat, BackgroundThread.rhythm = float(heartbeat), float(heartbeat) * 0.3
    cache = Cache(url)
    for line in sys.stdin:
        order = json.loads(line)
        began = Took()
        if order["do"] == "lead":
            _lead(cache, order["request"], order["form"], order["seconds"])
            said: Any = True
        else:
            try:
                said = _asked(cache, order["request"], order["form"])
            except Exception as error:
                said = repr(error)
        print(json.dumps({"said": said, "seconds": began.seconds}), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
