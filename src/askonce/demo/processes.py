"""The processes of one side of the demo, as the scenes see them.

Each is a separate program with a pipe, and not a fork: it shares only the code with its parent, as real workers do. It
has its own session, so that Ctrl-C reaches only the demo, which then ends its processes in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import IO, Any, Self

from askonce.demo.worker import Counts, Job, WorkerSettings
from askonce.errors import AskonceError

MODES = ("threads", "tasks")  # by turns
HEAD_START = 0.15  # s between a job and its beginning: threads take a moment to start
LINE = 2**24  # bytes of one reply at most
PATIENCE = 60.0  # s


class DemoFailed(AskonceError):
    """A process of the demo ended, or hung; the message has its last words."""


class Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    async def start(cls, settings: WorkerSettings, stack: AsyncExitStack) -> Self:
        """Start it, and tell it where it works; it ends with the stack, at the latest."""
        pipe = asyncio.subprocess.PIPE
        program = (sys.executable, "-m", "askonce.demo.worker")
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - an unread pipe would fill up
        process = await asyncio.create_subprocess_exec(
            *program, stdin=pipe, stdout=pipe, stderr=errors, limit=LINE, start_new_session=True
        )
        worker = cls(process, errors)
        stack.push_async_callback(worker.end)
        # Not among its arguments, which anybody on the machine may read: a URL may have a password.
        await worker._exchange(asdict(settings))
        return worker

    async def run(self, job: Job) -> dict[str, Any]:
        """What it says when the job is done; DemoFailed when it died."""
        return await self._exchange(asdict(job))

    async def _exchange(self, told: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ConnectionError):  # its last words say more
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            await self._process.stdin.drain()
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        except TimeoutError:
            raise DemoFailed(f"a process of the demo did not answer for {PATIENCE:g} s") from None
        if not line:
            raise DemoFailed(f"a process of the demo died: {await self._last_words()}")
        return dict(json.loads(line))

    async def _last_words(self) -> str:
        code = await self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def kill(self) -> None:
        """SIGKILL: what it leaves behind in the store is what any dead process leaves."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Kill it, and wait until it is gone. A second time does nothing."""
        self.kill()
        await self._process.wait()
        self._errors.close()


class Processes:
    """Several processes with the same settings, the odd ones in another mode than the even ones."""

    def __init__(self, workers: list[Worker]) -> None:
        self.workers = workers

    @classmethod
    async def start(cls, count: int, settings: WorkerSettings, stack: AsyncExitStack) -> Self:
        """Start them all; returns when each is ready. They end with the stack, at the latest."""
        settings_of_each = [replace(settings, mode=MODES[number % 2]) for number in range(count)]
        return cls(list(await asyncio.gather(*(Worker.start(one, stack) for one in settings_of_each))))

    async def ask(self, lists: Sequence[Sequence[str]], receipts: str, since: float = 0.0) -> tuple[Counts, float]:
        """Let every caller ask its list, beginning at one moment; what all got, and how long it took, s."""
        begin = time.monotonic() + HEAD_START
        share = len(lists) // len(self.workers)
        parts = [lists[number * share : (number + 1) * share] for number in range(len(self.workers))]
        jobs = [Job("ask", part, begin=begin, since=since, receipts=receipts) for part in parts]
        told = await asyncio.gather(*(worker.run(one) for worker, one in zip(self.workers, jobs, strict=True)))
        counts = total([Counts(**one) for one in told])
        return counts, counts.last - begin

    async def all(self, job: Job) -> None:
        """The same job for each."""
        await asyncio.gather(*(worker.run(job) for worker in self.workers))

    async def end(self) -> None:
        """End them all."""
        await asyncio.gather(*(worker.end() for worker in self.workers))


def total(several: Sequence[Counts]) -> Counts:
    """Several tallies as one."""
    trouble: Counter[str] = Counter()
    for counts in several:
        trouble.update(counts.trouble)
    return Counts(
        asked=sum(counts.asked for counts in several),
        hits=sum(counts.hits for counts in several),
        collapsed=sum(counts.collapsed for counts in several),
        wrong=sum(counts.wrong for counts in several),
        old=sum(counts.old for counts in several),
        last=max(counts.last for counts in several),
        trouble=dict(trouble),
    )
