"""The write-ahead log beside a SQLite file: short if possible, and otherwise at nobody's cost."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from askonce.cli.checks_sqlite import file_checks
from askonce.cli.place import Place
from askonce.runtime.drive import drive
from askonce.store import StoreTrouble
from askonce.store.sqlite.store import LEAST, SQLiteStore
from askonce.store.sqlite.trouble import patiently
from askonce.store.sqlite.wal import LAST_REST, MOMENT, PAGE, Log
from tests.store.keeping import LIFE, lead, sealed
from tests.store.puppet import key
from tests.took import Took

pytestmark = pytest.mark.concurrency
BODY = b"x" * 20_000
SHARE = 16 * PAGE  # of a file of LEAST bytes


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/answers.db"


@pytest.fixture
def store(path: str) -> Iterator[SQLiteStore]:
    made = SQLiteStore.from_url(f"sqlite:///{path}", max_bytes=LEAST)
    yield made
    drive(made.close())


def put(store: SQLiteStore, number: int) -> tuple[str, float]:
    """What became of one answer, and the seconds that took."""
    took = Took()
    grant = lead(store, key(number), number + 1)
    verdict = drive(store.fill(key(number), grant.id, grant.order, sealed(key(number), grant, body=BODY), LIFE))
    return verdict, took.seconds


class Standing:
    """Another program that reads, and stays."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN")
        self.connection.execute("SELECT count(*) FROM entries").fetchall()

    def __exit__(self, *_: object) -> None:
        self.connection.execute("COMMIT")
        self.connection.close()


def size(path: str) -> int:
    return Path(f"{path}-wal").stat().st_size


def test_an_open_transaction_of_another_program_costs_no_miss_anything_and_all_is_stored(store, path, caplog):
    put(store, 0)
    with Standing(path):
        done = [put(store, number) for number in range(1, 60)]
        assert {verdict for verdict, _ in done} == {"stored"}
        took = sorted(seconds for _, seconds in done)
        assert size(path) > 10 * SHARE, "the log could not be copied"
        assert took[len(took) // 2] < 0.02
        assert sum(took) < 5  # it was 0.41 s for each
    rest = Took()
    number = 60
    while size(path) > 2 * SHARE:
        assert rest.seconds < LAST_REST + 5, "the log is not cut when the reader has left"
        assert put(store, number := number + 1)[0] == "stored"
        time.sleep(0.02)


def test_a_reader_that_stays_for_good_leaves_the_log_within_a_bound_and_what_is_refused_is_visible(
    store, path, monkeypatch
):
    monkeypatch.setattr("askonce.store.sqlite.file.LOG_LEAST", 0)
    put(store, 0)
    seen = []
    with Standing(path):
        for number in range(1, 120):
            try:
                seen.append(put(store, number)[0])
            except StoreTrouble as trouble:
                seen.append(trouble.kind)
        assert set(seen) == {"stored", "store-full"}
        assert size(path) + Path(path).stat().st_size < 3 * LEAST
        before = size(path)
        drive(store.invalidate((1,)))  # never refused, because it keeps answers right
        assert size(path) > before
    until = time.monotonic() + 60
    while True:
        try:
            assert put(store, 500)[0] == "stored"
        except StoreTrouble:
            assert time.monotonic() < until, "the log is not emptied when the reader has left"
        else:
            break
    assert size(path) < LEAST


def test_counters_of_hits_have_their_place_within_the_bound(store, path):
    for number in range(40):
        put(store, number)

    def many(rows):  # in one transaction: a hundred times as fast
        for number in range(20_000):
            rows.count(key(number), 1, 3_600_000)

    store.write(many)
    put(store, 30_000)
    pages = store._file.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    assert pages * PAGE <= 1.05 * LEAST
    assert put(store, 30_001)[0] == "stored"


def test_a_writer_elsewhere_is_never_kept_waiting_for_a_reader_that_stays(store, path):
    put(store, 0)
    took: list[float] = []
    over = threading.Event()
    elsewhere = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)

    def write() -> None:
        while not over.wait(0.005):
            waited = Took()
            patiently(lambda: elsewhere.execute("BEGIN IMMEDIATE"), time.monotonic() + 5)
            took.append(waited.seconds)
            elsewhere.execute("COMMIT")

    with Standing(path):
        writer = threading.Thread(target=write)
        writer.start()
        for number in range(1, 60):
            put(store, number)
        over.set()
        writer.join()
    elsewhere.close()
    assert max(took) < 0.15, "less than the 0.2 s after which a writer of ours gives up"


def test_a_log_that_stays_long_is_told_of_once_and_again_when_it_was_short_meanwhile(store, path, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "askonce")
    monkeypatch.setattr("askonce.store.sqlite.wal.STAYS", 0.05)

    def until_told(times: int, first: int) -> None:
        with Standing(path):
            for number in range(first, first + 400):
                put(store, number)
                if len(caplog.records) >= times:
                    break
                time.sleep(0.005)
            for number in range(first + 400, first + 420):
                put(store, number)
        assert len(caplog.records) == times
        assert "transaction open" in caplog.text
        assert path in caplog.text

    put(store, 0)
    until_told(1, 1)
    number = 1000
    while size(path) > SHARE:
        put(store, number := number + 1)
        time.sleep(0.02)
    assert number < 1400
    put(store, number + 1)
    until_told(2, 2000)


def test_a_doctor_says_that_a_program_is_in_the_logs_way(store, path, monkeypatch):
    place = Place(f"sqlite:///{path}", "", "test", "test")
    monkeypatch.setattr("askonce.cli.checks_sqlite.LONG", 20 * PAGE)
    put(store, 0)
    assert "log" not in {check.name for check in file_checks(place)}
    with Standing(path):
        for number in range(1, 20):
            put(store, number)
        (found,) = [check for check in file_checks(place) if check.name == "log"]
        assert (found.state, "transaction open" in found.remedy) == ("hint", True)


def test_what_was_vain_for_a_moment_is_tried_again_later_and_later(path):
    log, now = Log(path), 100.0
    Path(f"{path}-wal").write_bytes(b"")
    log._on_failure(now)
    assert log._rest == 0.0, "a reader who comes and goes is waited for"
    now += 2 * MOMENT
    rests = []
    for _ in range(12):
        log._on_failure(now)
        rests.append(round(log._rest - now, 3))
        now = log._rest
    assert rests[:4] == [0.02, 0.04, 0.08, 0.16]
    assert rests[-1] == LAST_REST
    log._well()
    log._on_failure(now)
    assert log._rest == 0.0
