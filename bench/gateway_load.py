"""Callers of a server: wrk where it is installed, else tasks on raw connections; both send the headers of OpenAI's SDK.

wrk takes a fraction of the processor time, so that less of a machine with few cores goes to it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, Self

from bench.compare import median
from bench.upstream import PATH
from bench.workers import Failed, Parent

FRESH = "FRESH"  # in a body: replaced by another number in each request
HEADERS = {
    "authorization": "Bearer sk-of-a-bench",
    "content-type": "application/json",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate, br",
    "user-agent": "OpenAI/Python 3.57.0",
    **{f"x-stainless-{name}": "1" for name in ("lang", "package-version", "os", "arch", "runtime", "runtime-version")},
    **{f"x-stainless-{name}": "0" for name in ("async", "retry-count", "read-timeout")},
}
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Loaded(NamedTuple):
    """Answers a second, and the server's processor time for each in us."""

    rate: float
    cpu: float


def loaded(port: int, pid: int, body: str, seconds: float, folder: Path, *, connections: int = 32) -> Loaded:
    """Load a server for a while."""
    before = cpu_of(pid)
    tool = _by_wrk if shutil.which("wrk") else _by_tasks
    answered, took = tool(port, body, seconds, folder, connections)
    return Loaded(answered / took, (cpu_of(pid) - before) / answered * 1e6)


def cpu_of(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_of(pid: int) -> float:
    """The most memory that a process had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
    return int(found[1]) / 1024 if found else 0.0


def _by_wrk(port: int, body: str, seconds: float, folder: Path, connections: int) -> tuple[int, float]:
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in HEADERS.items()]
    lines += ['wrk.method = "POST"', f"wrk.body = [==[{body}]==]"]
    if FRESH in body:
        lines += [f"local number = {time.time_ns() % 10**12}", "request = function()", "  number = number + 1"]
        lines += [f'  local body = wrk.body:gsub("{FRESH}", string.format("%d", number))']
        lines += ["  return wrk.format(nil, nil, nil, body)", "end"]
    script = folder / f"wrk-{port}.lua"
    script.write_text("\n".join(lines), "utf-8")
    url = f"http://127.0.0.1:{port}{PATH}"
    program = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    said = subprocess.run(program, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said:
        raise Failed(f"wrk: {' '.join(said.split())}")
    return int(found[1]), float(found[2])


def _by_tasks(port: int, body: str, seconds: float, _folder: Path, connections: int) -> tuple[int, float]:
    async def all_of_them() -> int:
        until = time.monotonic() + seconds
        return sum(await asyncio.gather(*[_asking(port, body, number, until) for number in range(connections)]))

    began = time.monotonic()
    return asyncio.run(all_of_them()), time.monotonic() - began


async def _asking(port: int, body: str, number: int, until: float) -> int:
    answered = 0
    async with Connection(port, body, number * 10**6) as connection:
        while time.monotonic() < until:
            await connection.ask()
            answered += 1
    return answered


class Connection:
    """A connection that asks one question after another."""

    def __init__(self, port: int, body: str, number: int) -> None:
        self._port = port
        self._body = body
        self._number = number + time.time_ns() % 10**12

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self) -> None:
        """Ask, and read the answer to its end; Failed if it is no 200 of known length."""
        self._number += 1
        self._writer.write(sent(self._body.replace(FRESH, str(self._number))))
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        if not head.startswith(b"http/1.1 200") or length is None:
            raise Failed(f"answered {head[:200]!r}")
        await self._reader.readexactly(int(length[1]))


def sent(body: str) -> bytes:
    """A request as bytes."""
    raw = body.encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    return f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {len(raw)}\r\n\r\n".encode() + raw


def latency(ports: Sequence[int], body: str, turns: int) -> list[float]:
    """The median time of an answer of each server, in ms; they are asked in turn, over one connection each."""

    async def measure() -> list[float]:
        took: list[list[float]] = [[] for _ in ports]
        async with AsyncExitStack() as stack:
            made = [await stack.enter_async_context(Connection(port, body, 0)) for port in ports]
            for _ in range(turns):
                for one, times in zip(made, took, strict=True):
                    began = time.perf_counter()
                    await one.ask()
                    times.append(time.perf_counter() - began)
        return [median(times) * 1000 for times in took]

    return asyncio.run(measure())


async def _streams(port: int, bodies: Sequence[str]) -> list[bytes]:
    async def one(body: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent(body).replace(b"host:", b"connection: close\r\nhost:", 1))
        found = await reader.read()
        writer.close()
        return dechunked(found.partition(b"\r\n\r\n")[2])

    return await asyncio.gather(*map(one, bodies))


def read_streams(parent: Parent, port: int, bodies: Sequence[str]) -> None:
    """Read all streams at once, in a process of its own; say how many differ, in all and of one question."""
    came = asyncio.run(_streams(port, bodies))
    by_question: dict[str, set[bytes]] = {}
    for body, found in zip(bodies, came, strict=True):
        by_question.setdefault(body, set()).add(found)
    parent.tell({"torn": sum(len(found) != 1 for found in by_question.values()), "least": min(map(len, came))})


def dechunked(body: bytes) -> bytes:
    """A chunked body without its chunks."""
    found, at = [], 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        found.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(found)


def rounds(times: int, *measures: Callable[[], Loaded]) -> list[list[Loaded]]:
    """Each measure so many times, in turn."""
    return [list(one) for one in zip(*[[measure() for measure in measures] for _ in range(times)], strict=True)]
