"""`python -m tools.wheel`: build the package, look at what is in it, and use it as somebody who installed it does.

The source distribution is built in an environment of its own, and the wheel from it. Neither may have a file that is
not part of the project, or lack one. The wheel is then installed, alone, into a new environment of each supported
Python of this machine. There, the blocks of README run as printed, and the command line starts.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from email.parser import Parser
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

from tools import blocks
from tools.blocks import ROOT

MOST = 1_060_000  # bytes of the wheel; docs/design.md says what was tried to have fewer
MINORS = (11, 12, 13, 14)
EXTRAS, GATEWAY = "[http,cli]", "[gateway,cli]"  # those that README installs
LIMIT = 600  # s for a command

# A `*` stands for folders, too.
SHIPPED = (
    "askonce/*.py",
    "askonce/py.typed",
    "askonce/core/dictionaries/*.zdict",
    "askonce/store/redis/lua/*.lua",
    "askonce/gateway/page/templates/*.html",
    "askonce/gateway/page/static/*.css",
    "askonce/gateway/page/static/*.js",
    "askonce/gateway/page/static/icon.svg",
    "askonce/gateway/page/static/vendor/LICENSE.*",
    "askonce/gateway/page/static/vendor/manifest.json",
)
ABOUT = (
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "licenses/src/askonce/gateway/page/static/vendor/LICENSE.*",
)
BESIDE = (
    *(
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "PKG-INFO",
        ".gitignore",
    ),
    *("tests/*.py", "tests/*.json", "tests/cli/screens/*", "bench/*.py", "bench/*.json", "tools/*.py", "tools/*.toml"),
    *("docs/*.md", "docs/conf.py", "docs/*.svg", "docs/dashboard/*.png", "docs/grafana/*.json"),
    *("examples/*.py", "examples/*.toml", "examples/*.txt"),
)
NOWHERE = {".ci/run"}


class Built(NamedTuple):
    """A source distribution, and the wheel that was built from it."""

    sdist: Path
    wheel: Path


class Trouble(Exception):
    """Something of the package is not as it should be."""


def build(folder: Path) -> Built:
    """Build both, the wheel from the source distribution alone."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise Trouble(f"the build failed:\n{done.stdout}{done.stderr}")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist, wheel)


def in_wheel(wheel: Path) -> list[str]:
    """The names in a wheel; those about it without their folder."""
    return [re.sub(r"^[^/]*\.dist-info/", "", name) for name in zipfile.ZipFile(wheel).namelist()]


def in_sdist(sdist: Path) -> list[str]:
    """The names of the files in a source distribution, without its folder."""
    with tarfile.open(sdist) as archive:
        return [one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()]


def stray(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that no pattern allows."""
    return sorted(name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns))


def tracked() -> set[str] | None:
    """The files that git tracks; None if git cannot say it."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return None
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in said.split("\0") if name and (ROOT / name).exists()}


def differences(built: Built, project: set[str] | None) -> list[str]:
    """What is wrong with the files of both, a line for each; without a `project`, by the kinds of files alone."""
    wheel, sdist = in_wheel(built.wheel), in_sdist(built.sdist)
    wrong = [f"{name}: stray in the wheel" for name in stray(wheel, [*SHIPPED, *ABOUT])]
    if project is None:
        kinds = [*(f"src/{pattern}" for pattern in SHIPPED), *BESIDE]
        return wrong + [f"{name}: stray in the source distribution" for name in stray(sdist, kinds)]
    package = {name.removeprefix("src/") for name in project if name.startswith("src/askonce/")}
    return [
        *wrong,
        *(f"{name}: not in the wheel" for name in sorted(package - set(wheel))),
        *(f"{name}: in the wheel, and not of the project" for name in sorted(set(_code(wheel)) - package)),
        *(f"{name}: stray in the source distribution" for name in sorted(set(sdist) - project - {"PKG-INFO"})),
        *(f"{name}: not in the source distribution" for name in sorted(project - set(sdist) - NOWHERE)),
    ]


def _code(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith("askonce/")]


def metadata(wheel: Path) -> Message:
    """What a package index shows of a wheel; the description is its payload."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def pythons() -> Iterator[tuple[str, str | None]]:
    """Each supported Python, and its program; None if this machine has none."""
    for minor in MINORS:
        found = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python3"))
        candidates = [sys.executable, shutil.which(f"python3.{minor}"), *map(str, found)]
        yield f"3.{minor}", next(filter(None, (one for one in candidates if one and _is(one, minor))), None)


def _is(program: str, minor: int) -> bool:
    command = [program, "-c", f"import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, {minor}))"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Room(NamedTuple):
    """A new environment of a Python, and the environment variables of a reader."""

    folder: Path
    around: dict[str, str]

    @property
    def python(self) -> str:
        """The program of the environment."""
        return str(self.folder / "bin" / "python")

    def run(self, *command: str) -> str:
        """Run a command; what it printed, Trouble if it failed."""
        done = self.ended(*command)
        if done.returncode:
            raise Trouble(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ended(self, *command: str) -> subprocess.CompletedProcess[str]:
        """How a command ended, outside of the checkout, and with no variable that leads into it."""
        return subprocess.run(
            command, cwd=self.folder, env=self.around, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def install(self, *what: str) -> None:
        """Install from the package index, or a file."""
        self.run(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what)


def used(program: str, wheel: Path, around: dict[str, str]) -> str:
    """Install the wheel for a Python and use it; what was done, in a line. Trouble if something failed."""
    with tempfile.TemporaryDirectory() as place:
        room = Room(Path(place) / "room", _outside(around, place))
        subprocess.run([program, "-m", "venv", str(room.folder)], check=True, capture_output=True, timeout=LIMIT)
        room.install(str(wheel))
        _alone(room)
        room.install(f"{wheel}{EXTRAS}", "openai")
        _commands(room)
        count = _blocks(room, around)
        room.install(f"{wheel}{GATEWAY}")
        _gateway(room, around["OPENAI_BASE_URL"].removesuffix("/v1"))
        return f"{count} blocks of README run, `askonce doctor` is content, the gateway answers from its store"


def _outside(around: dict[str, str], home: str) -> dict[str, str]:
    gone = ("ASKONCE_", "REDIS_", "PYTHON", "VIRTUAL_ENV")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    return mine | around | {"HOME": home, "XDG_CACHE_HOME": home}


ALONE = """
import askonce
print(askonce.__file__)
calls = []
for _ in range(2):
    askonce.get_or_set([{"role": "user", "content": "Hello"}], "any", lambda: calls.append(1) or {"answer": "Hello"})
assert calls == [1]
"""


def _alone(room: Room) -> None:
    """Without any extra: the cache works, and the command line says which extra it needs."""
    if str(room.folder) not in (where := room.run(room.python, "-c", ALONE)):
        raise Trouble(f"askonce was imported from {where}")
    said = room.ended(str(room.folder / "bin" / "askonce"), "--help")
    if said.returncode == 0 or "askonce[cli]" not in said.stderr:
        raise Trouble(f"the command line without its extra said:\n{said.stdout}{said.stderr}")


def _commands(room: Room) -> None:
    askonce = str(room.folder / "bin" / "askonce")
    for words in (["--help"], ["--version"], ["doctor"], ["ls"]):
        room.run(askonce, *words)


def _blocks(room: Room, around: dict[str, str]) -> int:
    """Run the blocks of README; how many there are."""
    readme = [block for block in blocks.blocks() if block.page == "README.md" and block.how != "not run"]
    for block in readme:
        if trouble := blocks.run(block, around, room.python):
            raise Trouble(f"{block}:\n{trouble}")
    return len(readme)


def _gateway(room: Room, upstream: str) -> None:
    """Serve, ask the same twice, look at the page, and end it."""
    command = [str(room.folder / "bin" / "askonce"), "serve", "--upstream", upstream, "--port", "0"]
    around = {**room.around, "ASKONCE_ADMIN_TOKEN": "a-token-that-is-long-enough-to-be-one"}
    with subprocess.Popen(command, cwd=room.folder, env=around, stderr=subprocess.PIPE, text=True) as serving:
        try:
            said = serving.stderr.readline() if serving.stderr else ""
            if not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
                raise Trouble(f"the gateway said {said}")
            _ask(found[0])
        finally:
            serving.terminate()
    if serving.returncode:
        raise Trouble(f"the gateway ended with {serving.returncode}")


def _ask(base: str) -> None:
    body = b'{"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Is this served?"}]}'
    headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
    statuses = []
    for _ in range(2):
        with urlopen(Request(f"{base}/v1/chat/completions", body, headers), timeout=LIMIT) as answer:
            statuses.append(answer.headers["Cache-Status"])
    with urlopen(f"{base}/_askonce/", timeout=LIMIT) as page:
        html = page.read().decode()
    if "; hit" not in statuses[1] or "<form" not in html:
        raise Trouble(f"the gateway said {statuses}, and its page is\n{html}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do it all; 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.wheel", description=(__doc__ or "").partition("\n")[0])
    parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = build(Path(folder))
            _look(built)
            said = _everywhere(built.wheel)
        except Trouble as trouble:
            print(trouble, file=sys.stderr)
            return 1
        size = built.wheel.stat().st_size
        print(f"{built.wheel.name}: {size / 1000:.0f} KB, {len(in_wheel(built.wheel))} files; used by Python {said}")
        return 0


def _look(built: Built) -> None:
    if wrong := differences(built, tracked()):
        raise Trouble("\n".join(wrong))
    if (size := built.wheel.stat().st_size) > MOST:
        raise Trouble(f"the wheel has {size:,} bytes, and may have {MOST:,}")


def _everywhere(wheel: Path) -> str:
    there = dict(pythons())
    with blocks.world() as around, ThreadPoolExecutor(2) as pool:
        runs = {name: pool.submit(used, program, wheel, around) for name, program in there.items() if program}
        for name in there:
            print(f"Python {name}: {runs[name].result() if name in runs else 'not on this machine, skipped'}")
    return ", ".join(runs)


if __name__ == "__main__":
    sys.exit(main())
