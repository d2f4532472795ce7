"""Verbs of tasks that wait together share a transaction, and nobody can tell that from what they bring."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from askonce.core.lease import Grant, Lead
from askonce.core.tape import FAILED, Ending
from askonce.store import TIMEOUT, StoreTrouble, ledger
from askonce.store.sqlite import file as file_module
from askonce.store.sqlite.ledger import Rows
from askonce.store.sqlite.store import LEAST, SQLiteStore
from askonce.store.sqlite.worker import GROUP
from tests.store.keeping import LIFE, Clock, ask, key, sealed
from tests.took import Took

Verb = Callable[[SQLiteStore], Awaitable[Any]]


@asynccontextmanager
async def opened(path: Path, clock: Clock | None = None) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore.from_url(f"sqlite:///{path}", asynchronous=True, max_bytes=LEAST, clock=clock or Clock())
    await store.count(key(10**6), 1, 1000)  # the file is there
    yield store
    await store.close()


@asynccontextmanager
async def held_up(store: SQLiteStore) -> AsyncIterator[None]:
    """While it lasts, the file's thread is busy; what is asked meanwhile waits together."""
    over, began = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        over.wait(60)

    busy = asyncio.create_task(store._in_thread(work))
    while not began.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0.001)
    yield
    over.set()
    await busy


async def together(store: SQLiteStore, verbs: list[Verb]) -> list[Any]:
    async with held_up(store):
        tasks = [asyncio.ensure_future(verb(store)) for verb in verbs]
        await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def one_by_one(store: SQLiteStore, verbs: list[Verb]) -> list[Any]:
    return [(await asyncio.gather(verb(store), return_exceptions=True))[0] for verb in verbs]


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One element a transaction that was begun."""
    begun: list[int] = []
    real = file_module._transact

    def counted(*args: Any) -> Any:
        begun.append(1)
        return real(*args)

    monkeypatch.setattr(file_module, "_transact", counted)
    return begun


def contents(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    said = [line for line in connection.iterdump() if "sqlite_sequence" not in line]
    connection.close()
    return said


def fills(number: int, grant: Grant, body: bytes = b"answer") -> Verb:
    of = key(number)
    return lambda store: store.fill(of, grant.id, grant.order, sealed(of, grant, body), LIFE)


def claims(number: int, flight: int) -> Verb:
    return lambda store: store.claim(key(number), ask(flight))


async def test_verbs_that_wait_together_share_one_transaction(tmp_path: Path, transactions: list[int]):
    async with opened(tmp_path / "a.db") as store:
        transactions.clear()
        said = await together(store, [claims(number, number + 1) for number in range(GROUP)])
        assert all(isinstance(one, Lead) for one in said)
        assert len(transactions) == 1
        assert await together(store, [fills(n, one.grant) for n, one in enumerate(said)]) == ["stored"] * GROUP
        assert len(transactions) == 2
        assert all([await store.entry(key(number)) for number in range(GROUP)])


async def test_no_transaction_grows_without_bound_because_many_wait(tmp_path: Path, transactions: list[int]):
    async with opened(tmp_path / "a.db") as store:
        transactions.clear()
        await together(store, [claims(number, number + 1) for number in range(5 * GROUP)])
        assert 5 <= len(transactions) <= 6


async def test_of_many_claims_of_one_question_in_one_transaction_one_leads(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        said = await together(store, [claims(1, flight + 1) for flight in range(20)])
        assert sum(isinstance(one, Lead) for one in said) == 1


async def test_a_verb_that_fails_takes_no_other_with_it_and_its_error_reaches_nobody_else(tmp_path: Path):
    def fails(_: object) -> None:
        raise StoreTrouble("store-full", "no room for this one")

    async with opened(tmp_path / "a.db") as store:
        verbs: list[Verb] = [claims(number, number + 1) for number in range(6)]
        verbs.insert(3, lambda store: store._write(fails))
        verbs.insert(5, lambda store: store._write(lambda _: 1 // 0))
        said = await together(store, verbs)
        kinds = [type(one).__name__ for one in said]
        assert kinds == ["Lead"] * 3 + ["StoreTrouble", "Lead", "ZeroDivisionError", "Lead", "Lead"]
        assert len(await store.flights(20)) == 6


async def test_an_answer_without_room_is_not_stored_and_those_beside_it_are(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        leads = await one_by_one(store, [claims(number, number + 1) for number in range(3)])
        bodies = (b"small", b"x" * LEAST, b"small")
        said = await together(store, [fills(n, one.grant, bodies[n]) for n, one in enumerate(leads)])
        assert [said[0], said[2]] == ["stored", "stored"]
        assert said[1] != "stored"


async def test_a_verb_whose_task_has_left_is_not_done_with_the_others(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        async with held_up(store):
            tasks = [asyncio.ensure_future(claims(number, number + 1)(store)) for number in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(said[1], asyncio.CancelledError)
        assert [number for number in range(4) if await claimed(store, number)] == [0, 2, 3]


@pytest.mark.waits
async def test_verbs_that_wait_together_wait_once_for_another_program(tmp_path: Path):
    async with opened(tmp_path / "a.db") as store:
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        took = Took()
        said = await together(store, [claims(number, number + 1) for number in range(GROUP)])
        assert took.seconds < 3 * TIMEOUT + 1.0  # alone, each would wait: GROUP * TIMEOUT
        assert {one.kind for one in said} == {"store-timeout"}
        other.execute("COMMIT")
        other.close()
        assert isinstance(await store.claim(key(0), ask(99)), Lead)


def writes(verb: Callable[[Rows], Any]) -> Verb:
    return lambda store: store._write(verb)


async def claimed(store: SQLiteStore, number: int) -> bool:
    return not isinstance(await store.claim(key(number), ask(99)), Lead)


class Drawn:
    """Verbs about few questions, mostly of flights that lead, or led; each is drawn when it is done."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self._grants: dict[int, Grant] = {}

    def one(self, rows: Rows) -> Any:
        draw = self._draw
        number, flight, body = draw.randrange(3), draw.randrange(1, 6), draw.randbytes(draw.choice((3, 3000)))
        grant = self._grants.get(number)
        kind = draw.choice(("claim", "claim", "fill", "fill", "release", "append", "count", "forget"))
        if kind == "claim":
            said = ledger.claim(rows, key(number), ask(flight))
            if isinstance(said, Lead):
                self._grants[number] = said.grant
            return said
        if kind == "count":
            return rows.count(key(number), flight, 1000)
        if kind == "forget":
            return rows.forget(key(number))
        if grant is None:
            return None
        of, who, order = key(number), grant.id, grant.order
        if kind == "fill":
            return ledger.fill(rows, of, who, order, sealed(of, grant, body), LIFE)
        if kind == "append":
            return rows.append(of, who, order, 0, body)
        return ledger.release(rows, of, who, order, Ending(FAILED, "why"), failed=flight > 3)


@pytest.mark.parametrize("seed", range(20))
async def test_a_group_brings_and_leaves_what_the_same_verbs_bring_one_after_another(tmp_path: Path, seed: int):
    clock, told = Clock(), []
    for how, name in ((one_by_one, "alone.db"), (together, "group.db")):
        random.seed(seed)  # the decisions draw backoffs
        drawn = Drawn(seed)
        async with opened(tmp_path / name, clock) as store:
            said = await how(store, [writes(drawn.one)] * 30)
            told.append([str(one) for one in said])
    assert told[0] == told[1]
    assert contents(tmp_path / "alone.db") == contents(tmp_path / "group.db")
