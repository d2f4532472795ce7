"""A file with troubles of its own: on a full disk, read-only, or overwritten by something else.

Calls go on and are shared. The trouble is reported, costs nothing, and the file is used again soon after it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from askonce.testing import ScriptedCall
from tests.crowd import ASKED, HANG, MODES, Crowd, by_turns, eventually, joined, results
from tests.engine.test_refusals import AFTER
from tests.engine.test_troubles import BACK, timed, warm
from tests.took import usual

pytestmark = pytest.mark.concurrency


class Files(NamedTuple):
    """A sort of trouble of a file: how it begins and ends, and what it is called.

    `reads`: whether what is stored is served by who has the file open, None where some of it may be, out of pages that
    were read before; `opens`: and by who opens it meanwhile.
    """

    begin: Callable[[Path], object]
    end: Callable[[Path], object]
    detail: str
    reads: bool | None
    opens: bool


def beside(path: Path) -> list[Path]:
    """The file, and those that SQLite has beside it."""
    return [one for ending in ("", "-wal", "-shm") if (one := Path(f"{path}{ending}")).exists()]


def fill_disk(path: Path) -> None:
    ballast = os.open(path.with_name("ballast"), os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(ballast, bytes(4096))
    os.close(ballast)


def free_disk(path: Path) -> None:
    path.with_name("ballast").unlink()


def spoil(path: Path) -> None:
    """All pages but the first, and all frames of the log."""
    for one, start in zip(beside(path), (4096, 32), strict=False):
        size = max(one.stat().st_size, 10 * 4096)
        with one.open("r+b") as file:
            file.seek(start)
            file.write(b"\xff" * (size - start))


def spoil_header(path: Path) -> None:
    spoil(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)


def delete(path: Path) -> None:
    for one in beside(path):
        one.unlink()


FILES = {
    # To open it takes two more files.
    "a full disk": Files(fill_disk, free_disk, "store-full", reads=True, opens=False),
    "pages that are no database's": Files(spoil, delete, "store-foreign store-corrupt", reads=None, opens=False),
    "a header that is no database's": Files(
        spoil_header, delete, "store-foreign store-corrupt", reads=None, opens=False
    ),
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], check=False)
    if not made or made.returncode:
        pytest.skip("to make a small disk takes the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the file is: on a small disk, if that is to be full."""
    found: Path = request.getfixturevalue("small_disk") if "disk" in request.node.name else tmp_path
    return found


@pytest.mark.parametrize("opened", ["before", "meanwhile"])
@pytest.mark.parametrize(("crowd", "name"), by_turns(FILES, FILES), indirect=["crowd"])
def test_a_file_in_trouble_is_told_what_is_missing_is_shared_and_it_is_used_again(crowd, name, folder, call, opened):
    in_trouble(crowd, FILES[name], folder / "answers.db", call, opened)


def in_trouble(crowd: Crowd, face: Files, path: Path, call: ScriptedCall, opened: str) -> None:
    """`opened`: whether the file is, before the trouble begins, or while it lasts."""
    cache = crowd.cache(f"sqlite:///{path}")
    warm(crowd, cache, call)
    for number in range(20):  # some pages
        crowd.answer(cache, f"other {number}", call)
    if opened == "meanwhile":
        crowd.do(cache.aclose if crowd.tasks else cache.close)
    face.begin(path)
    if opened == "meanwhile":
        cache = crowd.cache(f"sqlite:///{path}")
    call.script(ASKED, HANG)
    futures = crowd.asks(25, cache, ASKED, call)
    eventually(lambda: joined(cache) == 25, f"all are at one flight: {cache.stats()}")
    # A second call, where one is granted a lease below, may begin after the first was released.
    eventually(lambda: call.release() >= 0 and all(future.done() for future in futures), "all are answered")
    # A process with the file open may still be granted a lease, from pages that were read before; then there are two
    # calls.
    granted = opened == "before" and face.reads is None
    assert {outcome.status.detail for outcome in results(futures)} <= {*face.detail.split(), *([""] if granted else [])}
    assert call.paid(ASKED) <= 1 + granted
    found = [timed(crowd, cache, f"later {number}", call)[0] for number in range(50)]
    assert {outcome.status.detail for outcome, _ in found} <= {*face.detail.split(), *([""] if granted else [])}
    assert usual(took for _, took in found) <= AFTER
    ((outcome, _),) = timed(crowd, cache, "warm", call)
    served = face.opens if opened == "meanwhile" else face.reads
    assert served is None or outcome.status.hit is served
    face.end(path)
    eventually(lambda: cache.stats()["breaker"] == "closed", "it is used again", patience=BACK)
    assert crowd.answer(cache, "another", call).status.stored


def forbid(path: Path) -> None:
    for one in beside(path):
        one.chmod(0o400)
    path.parent.chmod(0o500)


def allow(path: Path) -> None:
    path.parent.chmod(0o700)
    for one in beside(path):
        one.chmod(0o600)


NOBODY = 65534  # root may do everything
READ_ONLY = Files(forbid, allow, "store-readonly", reads=True, opens=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a user who may do less is a process of its own")
@pytest.mark.parametrize("mode", MODES)
def test_a_file_and_its_folder_that_may_only_be_read_are_read_and_written_again_when_they_may(mode):
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)

        def child() -> None:
            crowd, call = Crowd(mode), ScriptedCall()
            in_trouble(crowd, READ_ONLY, folder / "answers.db", call, "meanwhile")
            crowd.close()

        assert as_nobody(child) == 0


def as_nobody(work: Callable[[], object]) -> int:
    """How a process of its own ends, of a user who may not do everything, that does `work`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
