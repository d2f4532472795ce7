"""The SQLite store's own: the file, its bounds, its troubles, forks, waiters. What every store must do is in the
laws.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import stat
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from askonce.core.keys import Key
from askonce.core.lease import Ask, Claim, Follow, Hit, Lead
from askonce.core.model import Lifetime, read_entry, read_head
from askonce.core.tape import ALIVE, ENDED, FAILED, SAID, SHARED, STORED, WANTED, Ending, Notice, read_ending
from askonce.errors import ConfigError
from askonce.runtime.drive import drive
from askonce.store import Held, Record, StoreTrouble, inventory
from askonce.store.sqlite import ledger
from askonce.store.sqlite.file import FORK_PATIENCE
from askonce.store.sqlite.schema import VERSION
from askonce.store.sqlite.store import SQLiteStore, path_of
from tests.store.keeping import LIFE, Clock, ask, key, lead, put, sealed, visit
from tests.support import opened_file
from tests.took import Took

T = TypeVar("T")

MIB = 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def opened() -> Iterator[Callable[..., SQLiteStore]]:
    stores = []

    def store(path: Path, **options: object) -> SQLiteStore:
        stores.append(SQLiteStore.from_url(f"sqlite:///{path}", **options))  # type: ignore[arg-type]
        return stores[-1]

    yield store
    for one in stores:
        drive(one.close())


Opened = Callable[..., SQLiteStore]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kind_of(work: Callable[[], object]) -> str:
    with pytest.raises(StoreTrouble) as caught:
        work()
    return caught.value.kind


def in_child(work: Callable[[], object]) -> int:
    """The child's pid; it exits with 0 when `work` returned without raising and was not False."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(work() is False)
        except BaseException as error:
            print("child:", repr(error), flush=True)
        finally:
            os._exit(code)
    return child


def well(*children: int) -> bool:
    return all([os.waitpid(child, 0)[1] == 0 for child in children])  # noqa: C419 - wait for each


# the file


def test_the_file_is_for_its_owner_alone_and_so_is_what_lies_beside_it(tmp_path: Path, opened: Opened):
    before = os.umask(0)
    try:
        path = tmp_path / "new" / "cache.db"
        put(opened(path), key(1), 1)
    finally:
        os.umask(before)
    assert [mode(one) for one in sorted(path.parent.iterdir())] == [0o600, 0o600, 0o600]
    assert mode(path.parent) == 0o700


def test_what_a_group_may_do_with_a_file_that_was_there_is_its_owners_business(path: Path, opened: Opened):
    path.touch(0o640)
    path.chmod(0o640)
    put(opened(path), key(1), 1)
    assert mode(path) == 0o640


def test_making_a_store_touches_no_file(path: Path, opened: Opened):
    opened(path)
    assert not path.exists()


@pytest.mark.concurrency
def test_many_may_open_a_new_file_at_the_same_moment(path: Path):
    read, write = os.pipe()

    def crowd() -> bool:
        os.close(write)
        store = SQLiteStore.from_url(f"sqlite:///{path}")
        connections: list[object] = []
        errors: list[BaseException] = []

        until = time.monotonic() + 60

        def one() -> None:
            # 200 that wait in turn may take longer than the fifth of a second that each is given.
            while len(connections) < 25 and time.monotonic() < until:
                try:
                    connections.append(store._file.open())
                except BaseException as error:
                    if "locked" in str(error):
                        continue
                    errors.append(error)
                return

        threads = [threading.Thread(target=one) for _ in range(25)]
        os.read(read, 1)  # returns for all at once, when the parent closes its end
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        number = os.getpid()
        while time.monotonic() < until:
            with contextlib.suppress(StoreTrouble):
                put(store, key(number), number)
                break
        print(*errors, sep="\n", end="", flush=True)
        return len(connections) == 25

    children = [in_child(crowd) for _ in range(8)]
    os.close(write)
    assert well(*children)
    os.close(read)
    with opened_file(path) as file:
        assert file.execute("SELECT count(*) FROM entries").fetchone() == (8,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


def test_a_file_that_was_deleted_is_an_empty_cache(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    for file in list(path.parent.iterdir()):
        file.unlink()
    put(store, key(1), 2)
    assert path.exists()
    assert mode(path) == 0o600


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///folder/file.db", str(Path.cwd() / "folder/file.db")),
        ("sqlite:////folder/file.db", "/folder/file.db"),
        ("sqlite://~/file.db", str(Path("~/file.db").expanduser())),
        ("sqlite:///~/file.db", str(Path("~/file.db").expanduser())),
        ("sqlite:////a%20b/%3F%23.db", "/a b/?#.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str):
    assert path_of(url) == path


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite://host/file.db", "sqlite:///folder/", "sqlite:///file.db?max_bytes=1"]
)
def test_a_url_that_cannot_be_meant_names_what_to_write(url: str):
    with pytest.raises(ConfigError, match=r"write|options"):
        SQLiteStore.from_url(url)


def test_a_database_in_memory_is_not_this_store():
    with pytest.raises(ConfigError, match="memory://"):
        SQLiteStore.from_url("sqlite:///:memory:")


@pytest.mark.parametrize("option", [{"max_bytes": 10}, {"max_bytes": "1GiB"}, {"speed": 3}])
def test_options_that_cannot_be_meant_are_refused(option: dict[str, object]):
    with pytest.raises(ConfigError, match=next(iter(option))):
        SQLiteStore.from_url("sqlite:///file.db", **option)  # type: ignore[arg-type]


def test_a_path_with_signs_that_mean_something_in_a_uri_is_a_path(tmp_path: Path):
    path = tmp_path / "100%41 ?mode=ro#.db"
    store = SQLiteStore("" + str(path), "", asynchronous=False, max_bytes=MIB, clock=Clock())
    put(store, key(1), 1)
    assert path.exists()
    drive(store.close())


# lookups


def test_a_lookup_brings_the_entry_and_its_generation_and_writes_nothing(path: Path, opened: Opened):
    store = opened(path)
    grant = put(store, key(1), 1)
    with opened_file(path) as watcher:
        before = watcher.execute("PRAGMA data_version").fetchone()
        look = drive(store.look(key(1), (3,)))
        assert watcher.execute("PRAGMA data_version").fetchone() == before
    watcher.close()
    assert look.entry is not None
    assert read_entry(look.entry, key(1).digest, "v").order == grant.order
    assert look.generations[:3] == (grant.snapshot.epoch, grant.snapshot.clock, 0)


def test_fields_are_read_when_the_generation_moved_since_the_entry(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    drive(store.invalidate([3, 5]))
    assert drive(store.look(key(1), (3, 4))).generations.moved == {3: 1}
    put(store, key(2), 2)
    assert drive(store.look(key(2), (3, 4))).generations.moved == {}


def test_a_lookup_holds_nothing_that_keeps_the_log_from_starting_over(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    drive(store.look(key(1), ()))
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    file.close()


def test_two_questions_whose_rows_have_one_number_are_two_questions(path: Path, opened: Opened):
    store = opened(path)
    one, other = Key(b"question" + b"8 zeroes" + bytes(16)), Key(b"8 zeroes" + b"question" + bytes(16))
    put(store, one, 1)
    grant = lead(store, other, 2)
    assert drive(store.claim(one, ask(3))).__class__ is Hit
    assert drive(store.fill(other, grant.id, grant.order, sealed(other, grant), LIFE)) == "stored"
    assert isinstance(drive(store.claim(one, ask(4))), Lead)


def test_prefixes_share_a_file_and_not_its_generations(path: Path, opened: Opened):
    one, two = opened(path, prefix="one"), opened(path, prefix="two")
    put(one, key(1), 1)
    put(two, key(2), 2)
    drive(one.invalidate((), everything=True))
    assert isinstance(drive(one.claim(key(1), ask(3))), Lead)
    assert isinstance(drive(two.claim(key(2), ask(4))), Hit)


def test_a_link_renews_the_leases_of_every_prefix_by_their_own_generations(path: Path, opened: Opened):
    one, two = opened(path, prefix="one"), opened(path, prefix="two")
    first, second = lead(one, key(1), 1), lead(two, key(2), 2)
    drive(two.invalidate((), everything=True))
    held = [Held(key(1), first.id, first.order), Held(key(2), second.id, second.order)]
    assert one.link().renew(held, 5000) == ["ok", "lost"]


@pytest.mark.concurrency
def test_of_many_processes_that_claim_one_key_one_leads(path: Path, opened: Opened):
    store = opened(path)
    read, write = os.pipe()
    told, tell = os.pipe()

    def once(of: Key, asked: Ask) -> Claim:
        return drive(store.claim(of, asked))

    def claim(number: int) -> None:
        os.close(write)
        os.read(read, 1)
        for round_ in range(20):
            said = unhurried(partial(once, key(round_), ask(100 * number + round_ + 1)))
            os.write(tell, b"L" if isinstance(said, Lead) else b"F")

    children = [in_child(lambda number=number: claim(number)) for number in range(4)]  # type: ignore[misc]
    os.close(write)
    assert well(*children)
    os.close(tell)
    said = os.read(told, 1000)
    assert (said.count(b"L"), said.count(b"F")) == (20, 60)
    os.close(read)
    os.close(told)


# bounds


def written(store: SQLiteStore, path: Path, total: int, size: int) -> int:
    """The largest that the file and its log were together while `total` bytes were written in answers of `size`."""
    largest = 0
    for number in range(1, total // size + 1):
        put(store, key(number), number, number.to_bytes(8, "big") * (size // 8))
        if number % 8 == 0:
            largest = max(largest, sum(Path(f"{path}{tail}").stat().st_size for tail in ("", "-wal")))
    return largest


@pytest.mark.parametrize(("room", "size"), [(MIB, 3_000), (2 * MIB, 30_000), (4 * MIB, 200_000)])
@pytest.mark.waits
def test_three_times_the_bytes_leave_a_file_within_its_bounds(path: Path, opened: Opened, room: int, size: int):
    store = opened(path, max_bytes=room)
    largest = written(store, path, 3 * room, size)
    assert largest <= 1.2 * room
    assert largest >= 0.6 * room
    last = 3 * room // size
    assert drive(store.entry(key(last))) is not None
    assert drive(store.entry(key(1))) is None


@pytest.mark.waits
def test_the_log_stays_within_its_bounds_though_somebody_always_reads(path: Path, opened: Opened):
    room = 2 * MIB
    store = opened(path, max_bytes=room)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            drive(store.look(key(1), ()))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        assert written(store, path, room, 8_000) <= 1.2 * room
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_what_is_expired_goes_before_what_is_old_and_what_was_used_goes_last(path: Path, opened: Opened):
    clock = Clock()
    store = opened(path, max_bytes=MIB, clock=clock)
    put(store, key(1), 1, b"x" * 50_000)
    clock.forward(1)
    put(store, key(2), 2, b"x" * 50_000)
    clock.forward(1)
    brief = lead(store, key(3), 3)
    life = Lifetime(10, 0, 0, 10)
    drive(store.fill(key(3), brief.id, brief.order, sealed(key(3), brief, b"x" * 50_000), life))
    clock.forward(1000)
    visit(store, key(1))
    number = 4
    while drive(store.entry(key(3))) is not None:
        put(store, key(number), number, b"x" * 50_000)
        number += 1
        clock.forward(1)
    assert drive(store.entry(key(2))) is not None
    while drive(store.entry(key(2))) is not None:
        put(store, key(number), number, b"x" * 50_000)
        number += 1
        clock.forward(1)
    assert drive(store.entry(key(1))) is not None


def test_an_answer_too_large_for_the_file_is_not_kept_and_evicts_nobody(path: Path, opened: Opened):
    store = opened(path, max_bytes=MIB)
    put(store, key(1), 1)
    grant = lead(store, key(2), 2)
    large = sealed(key(2), grant, b"x" * MIB)
    assert drive(store.fill(key(2), grant.id, grant.order, large, LIFE)) == "unkept"
    assert drive(store.entry(key(1))) is not None
    assert isinstance(drive(store.claim(key(2), ask(3))), Lead)


@pytest.mark.waits
def test_a_file_made_under_larger_bounds_shrinks_into_smaller_ones(path: Path, opened: Opened):
    clock = Clock()
    wide = opened(path, max_bytes=4 * MIB, clock=clock)
    written(wide, path, 4 * MIB, 8_000)
    drive(wide.close())
    del wide
    narrow = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=MIB, clock=clock)
    narrow._file.max_bytes = MIB
    for number in range(2000, 2030):
        clock.forward(6_000)
        put(narrow, key(number), number, b"x" * 8_000)
    drive(narrow.close())
    assert path.stat().st_size <= 1.2 * MIB


def test_what_is_over_is_swept_by_whoever_writes_next(path: Path, opened: Opened):
    clock = Clock()
    store = opened(path, clock=clock)
    grant = lead(store, key(1), 1)
    drive(store.claim(key(1), ask(2)))
    drive(store.release(key(1), grant.id, grant.order, Ending(SHARED, "tool-calls", b"body")))
    drive(store.count(key(1), 5, 60_000))
    lead(store, key(2), 3)
    grant = lead(store, key(3), 4)
    drive(store.fill(key(3), grant.id, grant.order, sealed(key(3), grant), Lifetime(10, 0, 0, 10)))
    clock.forward(16 * 60_000)
    lead(store, key(4), 5)
    with opened_file(path) as file:
        left = {
            table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("entries", "leases", "hits", "tapes", "news")
        }
    file.close()
    assert left == {"entries": 0, "leases": 1, "hits": 0, "tapes": 0, "news": 0}


# troubles


def test_another_programs_database_is_left_as_it_was(path: Path, opened: Opened):
    with opened_file(path) as file:
        file.execute("CREATE TABLE theirs (a)")
    file.close()
    before = path.read_bytes()
    store = opened(path)
    assert kind_of(lambda: drive(store.look(key(1), ()))) == "store-foreign"
    assert kind_of(lambda: drive(store.claim(key(1), ask(1)))) == "store-foreign"
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_no_database_is_left_as_it_was(path: Path, opened: Opened):
    path.write_bytes(b"Dear diary, " * 1000)
    assert kind_of(lambda: drive(opened(path).look(key(1), ()))) == "store-foreign"
    assert path.read_bytes() == b"Dear diary, " * 1000


def test_a_newer_schema_is_left_to_those_who_know_it(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    drive(store.close())
    with opened_file(path) as file:
        file.execute(f"PRAGMA user_version = {VERSION + 1}")
    file.close()
    with pytest.raises(StoreTrouble, match=f"its schema is {VERSION + 1}") as caught:
        drive(opened(path).look(key(1), ()))
    assert caught.value.kind == "store-foreign"


def test_a_corrupt_file_is_a_trouble_and_is_not_deleted(path: Path, opened: Opened):
    store = opened(path)
    for number in range(1, 50):
        put(store, key(number), number, b"x" * 3000)
    drive(store.close())
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))
    store = opened(path)
    assert kind_of(lambda: [drive(store.look(key(number), ())) for number in range(1, 50)]) == "store-corrupt"
    assert kind_of(lambda: [put(store, key(number), number) for number in range(51, 99)]) == "store-corrupt"
    assert path.exists()


def test_a_truncated_file_is_a_trouble_and_no_crash(path: Path, opened: Opened):
    store = opened(path)
    for number in range(1, 50):
        put(store, key(number), number, b"x" * 3000)
    drive(store.close())
    store = opened(path)
    drive(store.look(key(1), ()))
    os.truncate(path, 8192)
    kinds = set()
    for number in range(1, 50):
        try:
            drive(store.look(key(number), ()))
        except StoreTrouble as trouble:
            kinds.add(trouble.kind)
    assert kinds == {"store-corrupt"}


def test_a_full_disk_is_a_trouble_that_passes(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    waiting = store.link()
    grant = lead(store, key(2), 2)
    drive(store.claim(key(2), ask(3)))
    waiting.subscribe(key(2))
    waiting.poll(0)
    (pooled,) = store._file.idle
    pages = pooled.connection.execute("PRAGMA page_count").fetchone()[0]
    pooled.connection.execute(f"PRAGMA max_page_count = {pages}")
    large = sealed(key(2), grant, b"x" * 50_000)
    assert kind_of(lambda: drive(store.fill(key(2), grant.id, grant.order, large, LIFE))) == "store-full"
    assert waiting.poll(0)[0] == [(key(2), Notice(ENDED, grant.id, grant.order, FAILED))]
    assert drive(store.entry(key(1))) is not None
    pooled.connection.execute("PRAGMA max_page_count = 1000000")
    put(store, key(2), 4, b"x" * 50_000)


def as_somebody_else(folder: Path, work: Callable[[], object]) -> bool:
    """Whether `work` went well for a user who may only read."""
    if os.geteuid() == 0:

        def unprivileged() -> object:
            os.setgid(65534)
            os.setuid(65534)
            return work()

        return well(in_child(unprivileged))
    return well(in_child(work))


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that anybody may enter, with a cache file of ours in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = SQLiteStore.from_url(f"sqlite:///{folder}/cache.db")
        put(store, key(1), 1)
        drive(store.close())
        yield folder
        folder.chmod(0o755)


def test_a_file_that_may_only_be_read_is_named_as_such(public: Path):
    (public / "cache.db").chmod(0o444)
    public.chmod(0o777)
    store = SQLiteStore.from_url(f"sqlite:///{public}/cache.db")
    assert as_somebody_else(public, lambda: kind_of(lambda: put(store, key(2), 2)) == "store-readonly")
    assert as_somebody_else(public, lambda: drive(store.look(key(1), ())).entry is not None)


def test_a_folder_that_may_only_be_read_is_named_as_such(public: Path):
    (public / "cache.db").chmod(0o644)
    public.chmod(0o555)
    store = SQLiteStore.from_url(f"sqlite:///{public}/cache.db")
    assert as_somebody_else(public, lambda: kind_of(lambda: put(store, key(2), 2)) == "store-readonly")
    store = SQLiteStore.from_url(f"sqlite:///{public}/other.db")
    assert as_somebody_else(public, lambda: kind_of(lambda: put(store, key(2), 2)) == "store-denied")


def test_a_file_that_may_not_be_read_is_named_as_such(public: Path):
    (public / "cache.db").chmod(0o200)
    store = SQLiteStore.from_url(f"sqlite:///{public}/cache.db")
    assert as_somebody_else(public, lambda: kind_of(lambda: drive(store.look(key(1), ()))) == "store-denied")


def test_a_folder_in_the_place_of_the_file_or_a_file_in_the_place_of_a_folder_is_a_trouble(
    tmp_path: Path, opened: Opened
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert kind_of(lambda: drive(opened(tmp_path / "folder").look(key(1), ()))) == "store-error"
    assert kind_of(lambda: drive(opened(tmp_path / "file" / "cache.db").look(key(1), ()))) == "store-error"


# locks


@pytest.fixture
def locked(path: Path, opened: Opened) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection, in the middle of a write."""
    put(opened(path), key(1), 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


@pytest.mark.waits
def test_a_locked_file_costs_a_fifth_of_a_second_and_lookups_nothing(
    path: Path, opened: Opened, locked: sqlite3.Connection
):
    store = opened(path)
    began = Took()
    assert drive(store.look(key(1), ())).entry is not None
    assert began.seconds < 0.1
    began = Took()
    assert kind_of(lambda: drive(store.claim(key(2), ask(2)))) == "store-timeout"
    assert began.wall > 0.15
    assert began.seconds < 0.25
    assert kind_of(lambda: store.link().probe()) == "store-timeout"
    locked.execute("ROLLBACK")
    store.link().probe()
    assert isinstance(drive(store.claim(key(2), ask(2))), Lead)


@pytest.mark.waits
def test_a_file_locked_against_readers_costs_as_much(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    drive(store.close())
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM news")
    other.execute("COMMIT")
    began = Took()
    assert kind_of(lambda: drive(store.look(key(1), ()))) == "store-timeout"
    assert began.seconds < 0.25
    other.close()
    assert drive(store.look(key(1), ())).entry is not None


@pytest.mark.concurrency
def test_a_crowd_before_a_locked_file_waits_once_and_not_one_after_another(
    path: Path, opened: Opened, locked: sqlite3.Connection
):
    store = opened(path)
    took = []

    def one(number: int) -> None:
        began = Took()
        assert kind_of(lambda: drive(store.claim(key(number), ask(number)))) == "store-timeout"
        took.append(began.seconds)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 10
    assert max(took) < 0.35


@pytest.mark.concurrency
def test_threads_of_a_process_queue_and_none_is_turned_away(path: Path, opened: Opened):
    store = opened(path)
    errors = []

    def one(thread: int) -> None:
        try:
            for number in range(10):
                put(store, key(1 + 100 * thread + number), 1 + 100 * thread + number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(thread,)) for thread in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.waits
async def test_a_locked_file_does_not_block_an_event_loop(path: Path, opened: Opened, locked: sqlite3.Connection):
    store = opened(path, asynchronous=True)
    claim = asyncio.ensure_future(store.claim(key(2), ask(2)))
    longest = 0.0
    while not claim.done():
        turn = Took()
        await asyncio.sleep(0.001)
        longest = max(longest, turn.seconds)
    with pytest.raises(StoreTrouble, match="locked"):
        await claim
    assert longest < 0.1
    locked.execute("ROLLBACK")
    assert isinstance(await store.claim(key(2), ask(2)), Lead)
    assert (await store.look(key(1), ())).entry is not None


@pytest.mark.waits
async def test_a_crowd_of_tasks_before_a_locked_file_waits_once(path: Path, opened: Opened, locked: sqlite3.Connection):
    store = opened(path, asynchronous=True)
    began = Took()
    said = await asyncio.gather(*(store.claim(key(n), ask(n)) for n in range(2, 52)), return_exceptions=True)
    assert {type(one) for one in said} == {StoreTrouble}
    assert began.seconds < 0.35
    locked.execute("ROLLBACK")
    said = await asyncio.gather(*(store.claim(key(n), ask(n)) for n in range(2, 52)), return_exceptions=True)
    assert {type(one) for one in said} == {Lead}


def test_a_claim_that_changes_nothing_waits_for_no_writer(path: Path, opened: Opened, locked: sqlite3.Connection):
    store = opened(path)
    began = Took()
    assert isinstance(drive(store.claim(key(1), ask(2))), Hit)
    assert began.seconds < 0.1


async def test_closing_ends_the_thread_that_waits_in_place_of_the_loop(path: Path, opened: Opened):
    store = opened(path, asynchronous=True)
    await store.claim(key(1), ask(1))
    assert [thread for thread in threading.enumerate() if thread.name.startswith("askonce-sqlite")]
    await store.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("askonce-sqlite")]


def test_closing_leaves_no_handle_behind(path: Path, opened: Opened):
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("no /proc here")
    before = len(list(handles.iterdir()))
    one, two = opened(path), opened(path)
    put(one, key(1), 1)
    drive(one.close())
    assert drive(two.entry(key(1))) is not None
    drive(two.close())
    assert len(list(handles.iterdir())) == before


@pytest.mark.concurrency
def test_writers_killed_in_the_middle_leave_a_whole_file_and_hold_up_nobody(path: Path, opened: Opened):
    store = opened(path)

    def write(number: int) -> None:
        for nth in range(10**6):
            with contextlib.suppress(StoreTrouble):  # the other one's turn may be long, on a busy machine
                put(store, key(10**7 * number + nth), nth + 1, b"x" * 20_000)

    children = [in_child(lambda number=number: write(number)) for number in (1, 2)]  # type: ignore[misc]
    while len(drive(store.scan(b"", 20))[1]) < 20:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        put_unhurried(store, child)
    with opened_file(path) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    file.close()


# forks


def unhurried(work: Callable[[], T]) -> T:
    """Do it, though a busy machine may stop another process in the midst of its transaction."""
    until = time.monotonic() + 60
    while True:
        try:
            return work()
        except StoreTrouble as trouble:
            if trouble.kind != "store-timeout" or time.monotonic() > until:
                raise


def put_unhurried(store: SQLiteStore, number: int) -> None:
    of = key(number)
    grant = unhurried(lambda: lead(store, of, number))
    assert unhurried(lambda: drive(store.fill(of, grant.id, grant.order, sealed(of, grant), LIFE))) == "stored"


@pytest.mark.concurrency
def test_children_and_parent_go_on_with_one_file_after_a_fork(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    link = store.link()
    link.subscribe(key(1))
    link.poll(0)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            assert drive(store.look(key(1), ())).entry is not None

    def child(number: int) -> bool:
        store.after_fork()
        put_unhurried(store, number)
        return all(drive(store.look(key(1), ())).entry is not None for _ in range(200))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        began = Took()
        children = [in_child(lambda number=number: child(number)) for number in range(2, 6)]  # type: ignore[misc]
        assert began.seconds < 3 * FORK_PATIENCE, "each fork waited for a reader that does not pause"
        put_unhurried(store, 6)
        assert well(*children)
    finally:
        stop.set()
        thread.join()
    link.say(key(1), Notice(ALIVE, b"f" * 16, 7))
    assert link.poll(1)[0] == [(key(1), Notice(ALIVE, b"f" * 16, 7))]
    assert all(drive(store.entry(key(number))) is not None for number in range(1, 7))


def test_what_a_child_writes_after_its_parent_closed_is_not_lost(path: Path, opened: Opened):
    store = opened(path)
    put(store, key(1), 1)
    closed, tell = os.pipe()
    ready, told = os.pipe()

    def child() -> None:
        put(store, key(2), 2)
        os.write(told, b"x")
        os.close(tell)
        os.read(closed, 1)
        put(store, key(3), 3)

    pid = in_child(child)
    os.read(ready, 1)
    drive(store.close())
    os.close(tell)
    assert well(pid)
    assert drive(store.entry(key(3))) is not None
    for handle in (closed, ready, told):
        os.close(handle)


# waiters


def test_those_who_wait_are_told_how_a_flight_ended(path: Path, opened: Opened):
    store, link = opened(path), opened(path).link()
    grant = lead(store, key(1), 1)
    link.subscribe(key(1))
    assert link.poll(0) == ([], [key(1)])
    assert isinstance(drive(store.claim(key(1), ask(2))), Follow)
    ending = Ending(SHARED, "tool-calls", b"body")
    drive(store.release(key(1), grant.id, grant.order, ending))
    notices = [Notice(WANTED, grant.id, grant.order), Notice(ENDED, grant.id, grant.order, SHARED)]
    assert link.poll(0) == ([(key(1), notice) for notice in notices], [])
    assert read_ending(drive(store.tape(key(1), grant.id, grant.order)) or b"") == ending


def test_nothing_is_written_for_waiters_where_nobody_waits(path: Path, opened: Opened):
    store = opened(path)
    link = store.link()
    link.subscribe(key(1))
    link.poll(0)
    put(store, key(1), 1)
    assert link.poll(0) == ([], [])


def test_a_stored_answer_is_told_to_those_who_wait(path: Path, opened: Opened):
    store = opened(path)
    link = store.link()
    grant = lead(store, key(1), 1)
    drive(store.claim(key(1), ask(2)))
    link.subscribe(key(1))
    link.poll(0)
    drive(store.fill(key(1), grant.id, grant.order, sealed(key(1), grant), LIFE))
    assert link.poll(0)[0] == [(key(1), Notice(ENDED, grant.id, grant.order, STORED))]


def test_whoever_slept_while_news_were_swept_looks_again(path: Path, opened: Opened):
    clock = Clock()
    store = opened(path, clock=clock)
    link = store.link()
    for number in (1, 2):
        link.subscribe(key(number))
    assert link.poll(0)[1] == [key(1), key(2)]
    clock.forward(40_000)
    assert link.poll(0)[1] == [key(1), key(2)]
    link.unsubscribe(key(2))
    assert link.poll(0) == ([], [])


def test_a_poll_returns_when_it_is_woken_and_reads_nothing_for_nobody(path: Path, opened: Opened):
    link = opened(path).link()
    threading.Timer(0.02, link.wake).start()
    assert link.poll(30) == ([], [])
    assert not path.exists()


@pytest.mark.concurrency
def test_two_hundred_waiters_hear_within_milliseconds_and_cost_next_to_nothing(path: Path, opened: Opened):
    store = opened(path)
    link = store.link()
    for number in range(200):
        link.subscribe(key(number))
    link.poll(0)
    heard: dict[int, float] = {}
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            for _, notice in link.poll(1)[0]:
                heard[notice.order] = time.perf_counter()

    thread = threading.Thread(target=listen)
    thread.start()
    said = {}
    for order in range(1, 41):
        time.sleep(0.011)
        said[order] = time.perf_counter()
        opened(path).link().say(key(order), Notice(ENDED, b"f" * 16, order, STORED))
    time.sleep(0.1)
    cpu = time.process_time()
    time.sleep(0.5)
    cpu = (time.process_time() - cpu) / 0.5
    stop.set()
    link.wake()
    thread.join()
    assert statistics.median(heard[order] - said[order] for order in said) < 0.05
    assert cpu < 0.05


# logs


def test_a_log_is_written_once_and_read_from_anywhere(path: Path, opened: Opened):
    clock = Clock()
    store = opened(path, clock=clock)
    link = store.link()
    link.subscribe(key(1))
    link.poll(0)
    flight = b"f" * 16

    def append(offset: int, data: bytes) -> int:
        return drive(store.append(key(1), flight, 7, offset, data))

    assert drive(store.tape(key(1), flight, 7)) is None
    assert append(5, b"too far") == 0
    assert append(0, b"Hello, ") == 7
    assert append(0, b"Hello, world") == 12
    assert append(7, b"world") == 12
    assert append(12, b"!") == 13
    assert append(14, b"gap") == 13
    parts = [(0, b"Hello, "), (7, b"world"), (12, b"!")]
    notices = [Notice(SAID, flight, 7, at.to_bytes(8, "big") + data) for at, data in parts]
    assert link.poll(0)[0] == [(key(1), notice) for notice in notices]
    clock.forward(14 * 60_000)
    assert append(13, b"") == 13
    assert [drive(store.tape(key(1), flight, 7, start)) for start in (0, 5, 7, 12, 13, 99)] == [
        b"Hello, world!", b", world!", b"world!", b"!", b"", b"",
    ]  # fmt: skip
    clock.forward(60_000)
    assert drive(store.tape(key(1), flight, 7)) is None


def test_a_log_that_is_there_stays_when_its_flight_is_refused(path: Path, opened: Opened):
    store = opened(path)
    grant = lead(store, key(1), 1)
    drive(store.append(key(1), grant.id, grant.order, 0, b"said already"))
    drive(store.forget(key(1)))
    assert drive(store.fill(key(1), grant.id, grant.order, sealed(key(1), grant), LIFE)) == "lost"
    assert drive(store.tape(key(1), grant.id, grant.order)) == b"said already"


# walking through it


def test_a_walk_meets_every_entry_of_a_prefix_and_no_other(path: Path, opened: Opened):
    one, two = opened(path, prefix="one"), opened(path, prefix="two")
    for number in range(1, 31):
        put(one if number % 3 else two, key(number), number, b"x" * (number * 3_000 if number % 2 else number))
    cursor, met = b"", []
    while True:
        cursor, seen = drive(one.scan(cursor, 7))
        met += seen
        if not cursor:
            break
    assert sorted(read_head(one.header).digest for one in met) == [key(n).digest for n in range(1, 31) if n % 3]
    assert all(read_head(one.header).length == len(one.header) < one.size for one in met)


def test_a_sweep_and_a_raze_delete_a_few_bytes_at_once(path: Path, opened: Opened, monkeypatch):
    monkeypatch.setattr(inventory, "STEP_BYTES", 50_000)
    monkeypatch.setattr(ledger, "STEP_BYTES", 50_000)
    store = opened(path)
    sizes = [1, 60_000, 20_000, 20_000, 20_000, 1, 1, 70_000, 10_000, 1]
    for number, size in enumerate(sizes):
        put(store, key(number), number, b"x" * size)
    drive(store.invalidate((), everything=True))
    steps: list[int] = []
    discard = store.discard

    async def counted(seen: Sequence[Record]) -> int:
        steps.append(sum(one.size for one in seen))
        return await discard(seen)

    monkeypatch.setattr(store, "discard", counted)
    assert drive(anext(inventory.sweep(store))) == (10, 10)  # type: ignore[arg-type]  # it has the send of a coroutine
    assert len(steps) >= 3
    assert max(steps) < 50_000 + 75_000
    for number, size in enumerate(sizes):
        put(store, key(number), number, b"x" * size)
    gone = []
    while step := drive(store.raze(500)):
        gone.append(step)
    assert sum(gone[:-1]) >= 10
    assert max(gone[:3]) < 10


def test_a_writer_deletes_a_few_bytes_of_what_has_expired(path: Path, opened: Opened, monkeypatch):
    monkeypatch.setattr(ledger, "STEP_BYTES", 50_000)
    clock = Clock()
    store = opened(path, clock=clock)
    for number in range(12):
        put(store, key(number), number, b"x" * 30_000)
        grant = lead(store, key(100 + number), number)
        drive(store.append(key(100 + number), grant.id, grant.order, 0, b"x" * 30_000))
    clock.forward(10**9)
    left = []
    with opened_file(path) as rows:
        for number in range(10):
            clock.forward(6_000)
            drive(store.count(key(number), 1, 60_000))
            left.append([rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("entries", "tapes")])
    assert left[0] == [10, 10]
    assert left[5:] == [[0, 0]] * 5


@pytest.mark.parametrize("size", [1, 16_200, 16_384, 300_000])
def test_what_was_seen_is_discarded_unless_it_was_replaced(path: Path, opened: Opened, size):
    clock = Clock()
    store = opened(path, clock=clock)
    put(store, key(1), 1, b"x" * size)
    put(store, key(2), 2, b"x" * size)
    _, seen = drive(store.scan(b"", 10))
    drive(store.invalidate((), everything=True))
    clock.forward(1)
    put(store, key(2), 3, b"x" * size)
    assert drive(store.discard(seen)) == 1
    assert drive(store.entry(key(1))) is None
    assert drive(store.entry(key(2))) is not None


def test_a_prefix_no_longer_used_is_razed_and_its_neighbour_stays(path: Path, opened: Opened):
    one, two = opened(path, prefix="one"), opened(path, prefix="two")
    for number in range(1, 11):
        put(one, key(number), number)
        drive(one.count(key(number), 1, 60_000))
    drive(one.invalidate([3]))
    lead(one, key(11), 11)
    drive(one.append(key(11), b"f" * 16, 7, 0, b"log"))
    put(two, key(12), 12)
    gone = 0
    while step := drive(one.raze(4)):
        gone += step
    assert gone == 10 + 1 + 10 + 1 + 1 + 1  # entries, a lease, counters, a log, a field, the generation
    assert drive(one.standing())[0].epoch == b""
    assert isinstance(drive(two.claim(key(12), ask(13))), Hit)
