"""The environments of the peers: one for each, made once, and made again when what it needs has changed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.peers.catalog import Room
from bench.workers import Failed

LONGEST = 900.0  # s of one installation
OURS = re.compile(r"(pip|setuptools|wheel|_distutils_hack|distutils)\b")
FREEZE = """
import json
from importlib.metadata import distributions
print(json.dumps({one.metadata["Name"]: one.version for one in distributions()}))
"""


class Environment(NamedTuple):
    """An environment that is ready: its Python, the bytes that its library takes, and the versions of what is in it."""

    python: str
    size: int
    versions: dict[str, str]


def ready(room: Room, folder: Path) -> Environment:
    """The environment of a room, made if there is none yet; Failed with the reason if that cannot be."""
    place = folder / room.name
    stamp, wanted = place / "peer.json", _wanted(room)
    try:
        noted = json.loads(stamp.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        noted = {}
    if noted.get("wanted") != wanted:
        noted = {"wanted": wanted, **_made(room, place)}
        stamp.write_text(json.dumps(noted), "utf-8")
    return Environment(str(place / "bin" / "python"), noted["size"], noted["versions"])


def _wanted(room: Room) -> list[str]:
    """What an environment must have been made for. askonce is installed from this tree, so its source is part of it."""
    own = [_source()] if str(machine.ROOT) in " ".join(room.requires) else []
    return [sys.version, *room.requires, *room.also, *own]


def _source() -> str:
    files = [machine.ROOT / "pyproject.toml", *sorted((machine.ROOT / "src").rglob("*.*"))]
    digest = sha256()
    for path in files:
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _made(room: Room, place: Path) -> dict[str, object]:
    shutil.rmtree(place, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(place))
    python = str(place / "bin" / "python")
    _install(python, *room.requires)
    size = _size(place)
    if room.also:
        _install(python, *room.also)
    return {"size": size, "versions": json.loads(_run(python, "-c", FREEZE))}


def _install(python: str, *requires: str) -> None:
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requires)


def _run(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise Failed(f"not installed within {LONGEST:g} s") from None
    if done.returncode:
        raise Failed(f"not installed: {plain(done.stderr)}")
    return done.stdout


def plain(text: str) -> str:
    """The last line that says something, without addresses and folders of the machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "without a word")
    return re.sub(r"\w+://\S+|(?<!\S)['\"]?(/[\w.-]+){2,}['\"]?", "...", said)[:200]


def _size(place: Path) -> int:
    """The bytes of what was installed, with the bytecode that pip compiles, and without pip itself."""
    (packages,) = place.glob("lib/python*/site-packages")
    files = (path for part in packages.iterdir() if not OURS.match(part.name) for path in [part, *part.rglob("*")])
    return sum(path.stat().st_size for path in files if path.is_file())
