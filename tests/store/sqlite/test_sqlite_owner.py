"""Whose a file is, which file it is, and how a read-only file may be used."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from askonce import Cache
from askonce.errors import NotCached
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.store.sqlite.file import CHECK_PATH
from askonce.store.sqlite.owner import BESIDE, check_owner
from askonce.store.sqlite.store import SQLiteStore
from tests.took import Took

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners of this kind here"),
    pytest.mark.waits,
]

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
NOBODY = 65534
root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to others"
)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that anybody may write to, as /tmp is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def answered(url: str, text: str, **options: object) -> tuple[str, str]:
    """What one lookup gives, and its detail."""
    with Cache(url, **options) as cache:  # type: ignore[arg-type]
        outcome = cache.fetch(REQUEST, lambda: {"said": text})
        return outcome.value["said"], outcome.status.detail


def kept(path: Path) -> bool:
    """Whether the file holds an answer."""
    return b'"said"' in path.read_bytes()


def as_nobody(work: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = int(work() is False)
        except BaseException as error:
            print("child:", repr(error), flush=True)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


@root_only
@pytest.mark.parametrize("ending", BESIDE)
def test_a_file_that_another_user_made_first_gets_no_answer_of_ours(shared, ending):
    made = shared / f"cache.db{ending}"
    made.touch(0o666)
    os.chown(made, NOBODY, NOBODY)
    said, detail = answered(f"sqlite:///{shared}/cache.db", "secret")
    assert (said, detail) == ("secret", "store-foreign")
    assert not any(b"secret" in one.read_bytes() for one in shared.iterdir())


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o604, 0o602, 0o601])
@pytest.mark.parametrize("ending", ["", "-wal"])
def test_a_file_that_every_user_may_open_is_refused_and_the_remedy_is_named(tmp_path, mode, ending):
    made = tmp_path / f"cache.db{ending}"
    made.touch()
    made.chmod(mode)
    store = SQLiteStore.from_url(f"sqlite:///{tmp_path}/cache.db")
    with pytest.raises(StoreTrouble, match="chmod 600") as caught:
        drive(store.entry(_key()))
    assert caught.value.kind == "store-foreign"
    made.chmod(0o600)
    assert drive(store.entry(_key())) is None
    drive(store.close())


def test_a_link_that_came_into_the_place_of_the_file_is_not_followed(tmp_path):
    store = SQLiteStore.from_url(f"sqlite:///{tmp_path}/cache.db")
    (tmp_path / "elsewhere.db").touch(0o600)
    (tmp_path / "cache.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StoreTrouble) as caught:
        drive(store.entry(_key()))
    assert caught.value.kind == "store-foreign"
    assert (tmp_path / "elsewhere.db").stat().st_size == 0
    drive(store.close())


def test_what_is_no_secret_may_be_open_to_all(tmp_path):
    (tmp_path / "cache.db").touch()
    (tmp_path / "cache.db").chmod(0o644)
    assert answered(f"sqlite:///{tmp_path}/cache.db", "public", private=False) == ("public", "")
    assert answered(f"sqlite:///{tmp_path}/cache.db", "other", private=False) == ("public", "")


def test_of_two_caches_of_one_file_the_careful_one_counts(tmp_path):
    (tmp_path / "cache.db").touch()
    (tmp_path / "cache.db").chmod(0o644)
    url = f"sqlite:///{tmp_path}/cache.db"
    with Cache(url), Cache(url, private=False) as careless:
        assert careless.fetch(REQUEST, lambda: {"said": "x"}).status.detail == "store-foreign"


@root_only
def test_a_file_that_is_roots_and_can_only_be_read_serves_its_answers_and_says_so(shared):
    path = shared / "cache.db"
    answered(f"sqlite:///{path}", "baked")
    path.chmod(0o444)
    shared.chmod(0o555)

    def child() -> bool:
        with Cache(f"sqlite:///{path}") as cache:
            hit = cache.fetch(REQUEST, lambda: {"said": "paid"})
            assert (hit.value["said"], hit.status.hit) == ("baked", True)
            miss = cache.fetch({**REQUEST, "seed": 1}, lambda: {"said": "paid"})
            assert (miss.value["said"], miss.status.detail) == ("paid", "store-readonly")
        return True

    assert as_nobody(child)
    assert sorted(one.name for one in shared.iterdir()) == ["cache.db"]


@root_only
def test_a_file_that_can_only_be_read_is_refused_where_others_may_change_it(shared):
    path = shared / "cache.db"
    answered(f"sqlite:///{path}", "baked")
    path.chmod(0o446)
    shared.chmod(0o555)
    os.chown(path, 0, 0)
    check_owner(str(path.with_name("nothing.db")), writing=False)
    with pytest.raises(StoreTrouble):
        check_owner(str(path), writing=False)
    path.chmod(0o444)
    os.chown(path, 1, 1)
    with pytest.raises(StoreTrouble):
        check_owner(str(path), writing=False)


@root_only
@pytest.mark.parametrize("does", ["fill", "invalidate"])
def test_a_file_that_can_only_be_read_here_is_read_anew_when_its_owner_changes_it(shared, does):
    """It was opened as one that cannot change, of which SQLite believes what it has read."""
    path = shared / "cache.db"
    answered(f"sqlite:///{path}", "baked")
    path.chmod(0o644)
    shared.chmod(0o755)
    asked, told = os.pipe(), os.pipe()

    def child() -> bool:
        with Cache(f"sqlite:///{path}", mode="only-if-cached") as cache:
            assert cache.fetch(REQUEST, lambda: {"said": "paid"}).value == {"said": "baked"}
            os.write(asked[1], b"x")
            os.read(told[0], 1)
            time.sleep(2 * CHECK_PATH / 1e6)
            with pytest.raises(NotCached):
                cache.fetch(REQUEST, lambda: 0)
        return True

    def owner() -> None:
        os.read(asked[0], 1)
        open_to_all = OTHER.replace("Cache(sys.argv[1])", "Cache(sys.argv[1], private=False)")
        try:
            subprocess.run([sys.executable, "-c", open_to_all, f"sqlite:///{path}", does], check=True, timeout=30)
        finally:
            os.write(told[1], b"x")

    threading.Thread(target=owner, daemon=True).start()
    assert as_nobody(child)


# --- which file it is --------------------------------------------------------------------------------------------

OTHER = """
import sys
from askonce import Cache
request = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
with Cache(sys.argv[1]) as cache:
    if sys.argv[2] == "fill":
        cache.fetch(request, lambda: {"said": "new"})
    cache.invalidate(everything=True)
"""


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced", "deleted alone", "renamed alone"])
@pytest.mark.parametrize("does", ["fill", "invalidate"])
def test_a_file_that_lost_its_name_answers_nothing_after_another_process_invalidated(tmp_path, how, does):
    path = tmp_path / "cache.db"
    with Cache(f"sqlite:///{path}") as cache:
        for text in ("old", "never", "never"):  # the third time it is kept near
            assert cache.fetch(REQUEST, lambda text=text: {"said": text}).value == {"said": "old"}
        _unname(path, how)
        subprocess.run([sys.executable, "-c", OTHER, f"sqlite:///{path}", does], check=True)
        assert cache.fetch(REQUEST, lambda: {"said": "right"}).value == {"said": "right"}
        assert cache.fetch(REQUEST, lambda: {"said": "wrong"}).value == {"said": "right"}


def _unname(path: Path, how: str) -> None:
    if how == "deleted alone":  # as by rm: its log and index stay, in use by this process
        path.unlink()
    elif how == "renamed alone":
        path.rename(path.with_name("old"))
    elif how == "deleted":
        for one in path.parent.iterdir():
            one.unlink()
    elif how == "renamed":
        for one in list(path.parent.iterdir()):
            one.rename(one.with_name(f"old-{one.name}"))
    else:
        for one in list(path.parent.iterdir()):
            if one != path:
                one.unlink()
        other = path.with_name("fresh.db")
        other.touch(0o600)
        other.replace(path)


def test_an_invalidation_of_a_file_that_is_new_here_returns_when_no_reader_can_believe_in_the_old_one(tmp_path):
    store = SQLiteStore.from_url(f"sqlite:///{tmp_path}/cache.db")
    took = Took()
    drive(store.invalidate((), everything=True))
    assert took.wall >= 2 * CHECK_PATH / 1e6
    drive(store.close())


def test_the_file_of_a_cache_is_ours_alone_whatever_the_umask_says(tmp_path):
    before = os.umask(0)
    try:
        answered(f"sqlite:///{tmp_path}/deep/cache.db", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "cache.db").stat().st_mode) == 0o600


def _key():
    from tests.store.keeping import key

    return key(1)
