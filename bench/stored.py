"""What is stored: one SQLite file with many openers, its bound, the cost of an entry, invalidating a million."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import redis

from askonce import Cache, NotCached, Policy
from askonce.core import keys
from askonce.core.model import FIELDS, HEAD_SIZE, SCOPE, Lifetime, Snapshot, pack_fields, read_head, seal
from askonce.engine.planner import Planner
from askonce.engine.question import Question, Settings
from askonce.store import PARTITIONS
from askonce.store.redis.names import Names
from askonce.testing.servers import Server
from bench.compare import Pair, Ratio, pair
from bench.places import Place, Skipped, nowhere, sqlite, valkey
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.workers import Failed, Parent

THREADS = ("threads",)
PROCESSES = 8
WRITERS = 4
SIZES = (1_000, 4_000, 20_000, 100_000)  # of answers, in turn


class Opens(NamedTuple):
    """What the opens of one process met."""

    failures: list[str]
    longest: float


@row(stores=(sqlite,), modes=THREADS, variants={f"file {number}": number for number in range(1, 6)})
def opens(case: Case) -> Seen:
    """1,000 simultaneous opens of one new SQLite file by 8 processes.

    Bar: 0 failures.

    Caches on one file that is not there yet, each with a thread of its own; each looks.
    """
    total = 80 if case.quick else 1000
    for _ in range(PROCESSES):
        case.workers.start(open_all, case.place.bare, total // PROCESSES)
    case.workers.begin()
    met: list[Opens] = case.workers.results()
    failures, longest = [said for one in met for said in one.failures], max(one.longest for one in met)
    return Seen(
        f"{len(failures)} failures{': ' + failures[0] if failures else ''}; the longest open and read {longest:.2f} s",
        not failures,
        {"failures": len(failures), "longest_s": longest},
        f"{total} opens",
    )


def open_all(parent: Parent, place: Place, count: int) -> Opens:
    """Open all caches at one time."""
    at, failures, times = parent.ready(), list[str](), [0.0]

    def open_one() -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        began = time.monotonic()
        try:
            with Cache(place.url) as cache:
                _served(cache, question("nobody asked this"))
                times.append(time.monotonic() - began)
                failures.extend(name for name in cache.stats() if name.startswith("trouble."))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            failures.append(f"{type(error).__name__}: {error}")

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(open_one)
    return Opens(failures, max(times))


def _served(cache: Cache, request: Any, **own: Any) -> bool:
    try:
        return cache.fetch(request, lambda: None, control="only-if-cached", **own).status.hit
    except NotCached:
        return False


@row(
    stores=(sqlite,),
    modes=THREADS,
    variants={"max_bytes 8 MiB, 4 processes": 8 << 20, "max_bytes 64 MiB, 4 processes": 64 << 20},
)
def bound(case: Case) -> Seen:
    """3 x max_bytes written to SQLite.

    Bar: file with its log <= 1.2 x max_bytes.
    """
    most, room = 0, 8 << 20 if case.quick else case.variant
    for number in range(WRITERS):
        case.workers.start(write, case.place.bare, room, 3 * room // WRITERS, number)
    case.workers.begin()
    while not all(worker.said() for worker in case.workers.all):
        most = max(most, _size(case.place.folder))
        time.sleep(0.01)
    case.workers.results()
    after = _size(case.place.folder)
    measured = f"{after / room:.2f} of max_bytes at the end, {most / room:.2f} at most"
    return Seen(measured, most <= 1.2 * room, {"end": after / room, "most": most / room})


def _size(folder: Path) -> int:
    """The bytes of the file, its log and its index."""
    total = 0
    for one in folder.glob("cache.db*"):
        with suppress(FileNotFoundError):  # closing removes the log
            total += one.stat().st_size
    return total


def write(parent: Parent, place: Place, room: int, total: int, number: int) -> int:
    """Write answers of about `total` bytes."""
    with Cache(place.url, max_bytes=room) as cache:
        parent.ready()
        written = count = 0
        while written < total:
            value = answer(f"{number} {count}", SIZES[count % len(SIZES)])
            cache.fetch(question(f"{number} {count}", 300), lambda value=value: value)  # type: ignore[misc]
            written += SIZES[count % len(SIZES)]
            count += 1
    return count


# --- what an entry costs beside its answer ----------------------------------------------------------------------------

CORPUS = Path(os.environ.get("ASKONCE_CORPUS", Path(__file__).parents[2] / "shared" / "corpus")) / "dev.jsonl.gz"
WHERE, TAGS = "support/triage/v3/en", ("doc:42", "lang:en")  # 20 bytes, as the bar says
TTL = 86_400
BATCH = 2_000


@row(stores=(valkey,), modes=THREADS)
def header(case: Case) -> Seen:
    """header and extensions of an entry with 2 tags and a 20-byte scope.

    Bar: <= 200 bytes.

    Besides what its answer cost: tokens and price stand in extensions of their own, and add what the reading says.
    """
    priced = answer("headed")
    plain = {name: held for name, held in priced.items() if name != "usage"}
    with Cache(case.place.url, prices={"*": {"input": 2, "output": 10}}) as cache:
        without = cache.fetch(question("headed"), lambda: plain, scope=WHERE, tags=TAGS)
        with_cost = cache.fetch(question("priced"), lambda: priced, scope=WHERE, tags=TAGS)
    length, whole = _header(case, without.key), _header(case, with_cost.key)
    which = f"scope of {len(WHERE)} bytes, tags {', '.join(TAGS)}, model {question('')['model']}"
    said = f"{length} bytes, {HEAD_SIZE} of them fixed; tokens and price add {whole - length}"
    return Seen(said, length <= 200, {"bytes": length}, which)


def _header(case: Case, key: str) -> int:
    """The length of the header of an entry, by its key."""
    for name in case.place.running.command("KEYS", "*:e1:*"):
        head = read_head(case.place.running.command("GET", name))
        if head.digest.hex() == key:
            return head.length
    raise Failed("the entry is not there")


@row(heavy=True, stores=(valkey,), modes=THREADS)
def memory(case: Case) -> Seen:
    """used_memory over 100,000 entries of corpus bodies against plain SET of 64-hex names and bodies with a TTL.

    Bar: <= 1.25.

    Of one server with our entries, and of one with plain names and the same bodies.
    """
    return beside_set(case, 1.25)


def beside_set(case: Case, bar: float, **options: Any) -> Seen:
    """The memory that entries of a cache with these options take, over that of plain SET."""
    found, count = bodies(), 2_000 if case.quick else 100_000
    with valkey() as plain:
        ours = grown(case.place.running, lambda: filled(case.place, found, count, **options))
        theirs = grown(plain.running, lambda: set_plainly(plain, found, count))
    size = sum(len(orjson.dumps(found[number % len(found)])) for number in range(count)) / count
    return Seen(
        f"{ours / theirs:.3f}; {ours / count:.0f} bytes an entry, {theirs / count:.0f} plain",
        ours / theirs <= bar,
        {"ratio": ours / theirs, "ours": ours / count, "plain": theirs / count},
        f"{count} entries, {len(found)} bodies of the corpus, {size:.0f} bytes on average",
    )


def grown(server: Server, fill: Callable[[], None]) -> int:
    """The bytes of memory that a server takes more."""
    before = _used(server)
    fill()
    return _used(server) - before


def _used(server: Server) -> int:
    lines = server.command("INFO", "memory").decode().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("used_memory:"))


def filled(place: Place, found: list[Any], count: int, **options: Any) -> None:
    """Have a cache store these bodies, in turn."""
    with Cache(place.url, **options) as cache, ThreadPoolExecutor(4) as pool:

        def fill(number: int) -> bool:
            body = found[number % len(found)]
            return cache.fetch(question(f"memory {number}", 100), lambda: body, ttl=TTL).status.stored

        if not all(pool.map(fill, range(count))):
            raise Failed("not every answer was stored")


def set_plainly(plain: Place, found: list[Any], count: int) -> None:
    """Set them by hand, under names of 64 digits."""
    texts = [orjson.dumps(body) for body in found]
    _set_all(plain, count, lambda number: (sha256(b"%d" % number).hexdigest(), texts[number % len(texts)]))


def _set_all(place: Place, count: int, entry: Callable[[int], tuple[Any, bytes]]) -> None:
    """Write names and values by hand, with a TTL."""
    with redis.Redis.from_url(place.url) as client:
        for at in range(0, count, BATCH):
            pipe = client.pipeline(transaction=False)
            for number in range(at, min(at + BATCH, count)):
                pipe.set(*entry(number), ex=TTL)
            pipe.execute()


def bodies() -> list[Any]:
    """The recorded answers that a cache keeps."""
    if not CORPUS.exists():
        raise Skipped("the recorded traffic is not here: set ASKONCE_CORPUS to the folder that has dev.jsonl.gz")
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines, Cache("memory://") as cache:
        records = [json.loads(line) for line in lines]
        found = [_json(one["response_body"]) for one in records if one["status"] == 200 and not one["stream"]]
        return [body for body in found if body and cache.fetch(body, lambda body=body: body).status.stored]  # type: ignore[misc]


def _json(text: str | None) -> Any:
    try:
        return orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None


# --- what it costs to invalidate a scope ------------------------------------------------------------------------------

NAME = "big/scope"


@row(heavy=True, stores=(nowhere,), modes=THREADS, ratio=Ratio("many", "few", 1.5))
def scope(case: Case) -> Pair:
    """invalidate a scope holding 1,000 and 1,000,000 entries, Valkey.

    Bar: the same time within 1.5x; under 5 ms with 64 partitions on one primary.

    One here, one there, in turn. Some of the entries are looked up before and after: that they lived, and died.

    What grows with the entries is the server's own work for a script. The Valkey of the wheel allocates with the C
    library, which takes longer in a fragmented heap; a Redis with jemalloc takes a sixth more than with 1,000 entries.

    The entries are real, and written by hand, since a million upstream calls would take an hour: sealed as a fill seals
    them, under the generation of their partition.
    """
    sizes = (10_000, 100) if case.quick else (1_000_000, 1_000)
    with valkey() as one, valkey() as other, Cache(one.url) as many, Cache(other.url) as few:
        both = ((one, many, sizes[0]), (other, few, sizes[1]))
        for place, cache, size in both:
            _fill_scope(place, cache, size)
            _check(cache, size, alive=True)
        ended = [_invalidated(cache) for _, cache, _ in both]
        for _, cache, size in both:
            _check(cache, size, alive=False)
        found = pair(lambda: many.invalidate(scope="big"), lambda: few.invalidate(scope="big"), 40)
    return found._replace(
        note=f"; the ones that ended {sizes[0]} and {sizes[1]} lives, of {PARTITIONS} partitions:"
        f" {ended[0] * 1000:.2f} and {ended[1] * 1000:.2f} ms",
        right=found.ratio >= 1 / 1.5 and found.first <= 5_000,
    )


@row(heavy=True, stores=(nowhere,), modes=THREADS, ratio=Ratio("many", "few", 1.1))
def hit_many(case: Case) -> Pair:
    """a hit on Valkey with 1,000,000 entries, against one with 1,000.

    Bar: <= 1.1.

    1,000 different questions in turn, spread over all entries; one here, one there, each on a server of its own.
    """
    sizes = (10_000, 100) if case.quick else (1_000_000, 1_000)
    with valkey() as one, valkey() as other, Cache(one.url) as many, Cache(other.url) as few:
        both = [_spread(*each) for each in ((one, many, sizes[0]), (other, few, sizes[1]))]
        return pair(both[0], both[1], 500 if case.quick else 15_000)


def _spread(place: Place, cache: Cache, size: int) -> Callable[[], Any]:
    """A call that hits one of so many entries, another one each time."""
    _fill_scope(place, cache, size)
    _check(cache, size, alive=True)
    asked = cycle([{"number": number} for number in range(0, size, max(1, size // 1_000))])
    return lambda: cache.fetch(next(asked), dict, scope=NAME)


def _invalidated(cache: Cache) -> float:
    began = time.perf_counter()
    cache.invalidate(scope="big")
    return time.perf_counter() - began


def _check(cache: Cache, size: int, *, alive: bool) -> None:
    """Check that some of the entries are served, or none of them."""
    for number in range(0, size, max(1, size // 50)):
        if _served(cache, {"number": number}, scope=NAME) is not alive:
            raise Failed(f"entry {number} of {size} is {'not ' * alive}served")


def _fill_scope(place: Place, cache: Cache, size: int) -> None:
    names, plan = Names(""), Planner("", "", Policy(), {}, "on").plan(Settings(scope=NAME))
    snapshots, now = _snapshots(place, names, cache), int(time.time() * 1000)

    def entry(number: int) -> tuple[Any, bytes]:
        asked = plan.question(keys.canonical({"number": number}), "")
        return names.of(asked.key)[0], _entry(asked, snapshots[asked.key.digest[0] % PARTITIONS], now)

    _set_all(place, size, entry)


def _entry(asked: Question, snapshot: Snapshot, now: int) -> bytes:
    extensions, life = {FIELDS: pack_fields(asked.fields), SCOPE: NAME.encode()}, TTL * 1000
    key, flight, body = asked.key, os.urandom(16), b'{"answer":"yes"}'
    sealed = seal(key.form, key.digest, flight, now * 1000, snapshot, life, extensions, body)
    return sealed.dated(Lifetime(life, 0, 0, life).dates(now))


def _snapshots(place: Place, names: Names, cache: Cache) -> list[Snapshot]:
    """The generations of all partitions, after each has been used."""
    with redis.Redis.from_url(place.url) as client:
        for number in range(100 * PARTITIONS):
            if all(client.hexists(names.generations(one), "ep") for one in range(PARTITIONS)):
                break
            for again in range(PARTITIONS):
                cache.fetch({"partition": number, "again": again}, lambda: answer("any"))
        read: list[Any] = [client.hmget(names.generations(one), ["ep", "clk"]) for one in range(PARTITIONS)]
    return [Snapshot(epoch, int(clock or 0)) for epoch, clock in read]
