"""What a full store keeps: the hit ratio of real stores beside S3-FIFO's, and the money they save beside GDSF's too.

The stores are driven by their own verbs (look, claim, fill), with a clock moved by hand, a thousand requests a second.
Visits are noted as a reader notes them, and told once a second as the background thread tells them. S3-FIFO and GDSF
are libCacheSim's. GDSF with prices is written here, because libCacheSim's knows sizes only.

Each policy gets the same room: the bytes of the entries that the store held on average once it was full. What the store
pays for places, visits, ghosts and half-empty pages comes out of its max_bytes and not out of this.
"""

from __future__ import annotations

import gzip
import hashlib
import heapq
import itertools
import json
import random
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from askonce import Cache, Policy
from askonce.core.hot_keys import HotKeys
from askonce.core.keys import Key
from askonce.core.lease import Ask, Lead, Limits
from askonce.core.model import DURATION, PRICE, Lifetime, read_head, seal, whole
from askonce.core.policy import resolve
from askonce.runtime.drive import drive
from askonce.store import Store
from askonce.store.memory.store import MemoryStore
from askonce.store.sqlite.store import LEAST, SQLiteStore
from bench.compare import Pair, Ratio, pair
from bench.places import Place, Skipped, nowhere, sqlite
from bench.questions import answer, question
from bench.row import Case, Seen, row
from bench.stored import CORPUS

QUESTIONS = 10_000  # that are asked more than once
REQUESTS = 100_000
ONCE = 0.4  # share of the requests whose question is asked once
SIZE = 2_000  # of an answer, where all have one size
LARGEST = 100_000  # bytes of an answer of the corpus
TOLD = 1_024  # keys, as the background thread tells
DAY = 86_400_000
LIMITS, LIFE, TERMS = Limits(ttl=DAY, grace=0, error=0), Lifetime(DAY, 0, 0, DAY), resolve(Policy())
ROOMS = {
    f"Zipf {steep}, room for {share:.0%}": (steep, share) for steep, share in itertools.product((0.8, 1.0), (0.02, 0.1))
}


class Trace(NamedTuple):
    """Questions by number, in the order in which they are asked; the size and price (nano-dollars) of each answer."""

    asked: list[int]
    sizes: list[int]
    prices: list[int]


class Kept(NamedTuple):
    """What a policy saved: hits, nano-dollars; `room`: the bytes of what it held on average, once it was full."""

    hits: int
    saved: int
    room: float = 0.0


@contextmanager
def memory() -> Iterator[Place]:
    """A memory of its own."""
    with nowhere() as place:
        yield place._replace(name="memory", url="memory://")


def trace(steep: float, *, quick: bool, answers: Sequence[tuple[int, int]] = ((SIZE, 1),)) -> Trace:
    """Requests of open chat. Each question's answer is drawn from `answers` (size, price)."""
    draw, questions = random.Random(11), QUESTIONS // (10 if quick else 1)
    popular = draw.choices(
        range(questions), [rank**-steep for rank in range(1, questions + 1)], k=REQUESTS // (10 if quick else 1)
    )
    fresh = itertools.count(questions)
    asked = [next(fresh) if draw.random() < ONCE else one for one in popular]
    drawn = [draw.choice(answers) for _ in range(next(fresh))]
    return Trace(asked, [size for size, _ in drawn], [price for _, price in drawn])


# --- the policies -----------------------------------------------------------------------------------------------------


class Clock:
    """A clock moved by hand, us."""

    def __init__(self) -> None:
        self.us = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.us


class Driven:
    """A real store, and what it saved."""

    def __init__(self, place: Place, max_bytes: int) -> None:
        self._clock = Clock()
        kind: Any = MemoryStore if place.name == "memory" else SQLiteStore
        self.store: Store = kind.from_url(place.url, max_bytes=max_bytes, clock=self._clock)
        self._hot_keys = HotKeys(self.store.visits)
        self._order = itertools.count(1)
        self._held: list[int] = []

    def run(self, load: Trace) -> Kept:
        """Ask all questions of a trace."""
        hits = saved = 0
        for number, one in enumerate(load.asked):
            self._clock.us += 1_000
            if number % 1_000 == 999:
                drive(self.store.tell(TOLD))
            if self._asked(one, load.sizes[one], load.prices[one]):
                hits, saved = hits + 1, saved + load.prices[one]
            if number % 5_000 == 4_999:
                self._held.append(self.bytes())
        drive(self.store.close())
        return Kept(hits, saved, statistics.mean(self._held[len(self._held) // 4 :] or [self.bytes()]))

    def _asked(self, number: int, size: int, price: int) -> bool:
        key = Key(hashlib.sha256(b"%d" % number).digest(), "v")
        look = drive(self.store.look(key, ()))
        if look.entry is not None:
            self._hot_keys.hit(key, look.head or read_head(look.entry), TERMS, look.now_us // 1000)
            return True
        said = drive(self.store.claim(key, Ask(next(self._order).to_bytes(16, "big"), b"", (), LIMITS)))
        assert isinstance(said, Lead)
        known = {PRICE: whole(price)} if price > 1 else {DURATION: whole(3_000)}
        grant = said.grant
        sealed = seal("v", key.digest, grant.id, grant.order, grant.snapshot, DAY, known, bytes(size))
        drive(self.store.fill(key, grant.id, grant.order, sealed, LIFE))
        return False

    def bytes(self) -> int:
        """Bytes of the entries it holds."""
        if isinstance(self.store, MemoryStore):
            return sum(len(kept.data) for kept in self.store._memory.entries.values())  # noqa: SLF001
        file: Any = self.store._file  # type: ignore[attr-defined]  # noqa: SLF001
        total: int = file.read(lambda one: one.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone())[0]
        return total


def simulated(name: str, load: Trace, room: float) -> Kept:
    """What libCacheSim's policy of this name saves in so many bytes."""
    try:
        import libcachesim
    except ImportError as missing:
        raise Skipped(f"libcachesim is not installed: {missing}") from missing
    cache, hits, saved = getattr(libcachesim, name)(int(room)), 0, 0
    for number, one in enumerate(load.asked):
        asked = libcachesim.Request()
        asked.obj_id, asked.obj_size, asked.clock_time = one + 1, load.sizes[one] + HEAD, number
        if cache.get(asked):
            hits, saved = hits + 1, saved + load.prices[one]
    return Kept(hits, saved)


HEAD = 126  # bytes of an entry beside its answer here


def greedy(load: Trace, room: float) -> Kept:
    """What GDSF saves that knows prices: the lowest level + visits * price / size goes first."""
    held: dict[int, tuple[float, int]] = {}
    order: list[tuple[float, int]] = []
    hits, saved, level, used = 0, 0, 0.0, 0
    for one in load.asked:
        size = load.sizes[one] + HEAD
        rank, visits = held.get(one, (0.0, 0))
        if visits:
            hits, saved = hits + 1, saved + load.prices[one]
        elif size > room:
            continue
        else:
            used += size
        while used > room:
            rank, victim = heapq.heappop(order)
            if victim in held and held[victim][0] == rank:
                level, used = rank, used - load.sizes[held_out(held, victim)] - HEAD
        held[one] = (level + (visits + 1) * load.prices[one] / size, visits + 1)
        heapq.heappush(order, (held[one][0], one))
    return Kept(hits, saved)


def held_out(held: dict[int, tuple[float, int]], victim: int) -> int:
    """Take a victim out."""
    del held[victim]
    return victim


def bound(place: Place, share: float, load: Trace, *, quick: bool) -> int:
    """The max_bytes in which the store holds this share of the questions that are asked more than once."""
    questions = QUESTIONS // (10 if quick else 1)
    wanted = share * (sum(load.sizes[:questions]) + HEAD * questions)
    if place.name == "memory":
        return int(wanted + share * questions * 428)  # what a place, visits and a ghost are charged
    with sqlite() as trial:  # pages are not full, by a part that depends on the sizes
        room = max(LEAST, int(wanted))
        driven = Driven(trial, room)
        count = 3 * room * len(load.sizes) // sum(load.sizes)
        held = driven.run(Trace([one % len(load.sizes) for one in range(count)], load.sizes, load.prices)).room
    return max(LEAST, int(wanted * room / held))


# --- the rows ---------------------------------------------------------------------------------------------------------

THREADS = ("threads",)


@row(heavy=True, stores=(sqlite, memory), modes=THREADS, variants=ROOMS)
def eviction(case: Case) -> Seen:
    """hit ratio of a full store / S3-FIFO's, 40 % of the questions asked once.

    Bar: >= 0.97.

    Answers of one size and one price.
    """
    steep, share = case.variant
    load = trace(steep, quick=case.quick)
    ours = Driven(case.place, bound(case.place, share, load, quick=case.quick)).run(load)
    theirs = simulated("S3FIFO", load, ours.room)
    ratio, requests = ours.hits / theirs.hits, len(load.asked)
    return Seen(
        f"{ratio:.3f}; {ours.hits / requests:.1%} hits, S3-FIFO {theirs.hits / requests:.1%}",
        case.quick or ratio >= 0.97,
        {"ratio": ratio, "hits": ours.hits / requests},
        f"{requests} requests, {ours.room / (SIZE + HEAD):.0f} entries held",
    )


@row(heavy=True, stores=(sqlite, memory), modes=THREADS, variants=ROOMS)
def money(case: Case) -> Seen:
    """money saved by a full store / by the best of S3-FIFO, GDSF, and GDSF that knows prices.

    Bar: >= 1.0.

    Sizes and prices are those of the corpus. Its three answers of more than 100 KB are left out: a file keeps none that
    is larger than an eighth of it, and half of the money would be theirs.
    """
    steep, share = case.variant
    load = trace(steep, quick=case.quick, answers=priced())
    ours = Driven(case.place, bound(case.place, share, load, quick=case.quick)).run(load)
    others = {name: simulated(name, load, ours.room).saved for name in ("S3FIFO", "GDSF")}
    others["GDSF with prices"] = greedy(load, ours.room).saved
    asked = sum(load.prices[one] for one in load.asked)
    ratio = ours.saved / max(others.values())
    return Seen(
        f"{ratio:.3f}; {ours.saved / asked:.1%} of the money saved, "
        + ", ".join(f"{name} {saved / asked:.1%}" for name, saved in others.items()),
        case.quick or ratio >= 1.0,  # in a small store, one dear answer decides
        {"ratio": ratio, "saved": ours.saved / asked},
        f"{len(load.asked)} requests, {ours.room / 1e6:.2f} MB held",
    )


def priced() -> list[tuple[int, int]]:
    """Size and price (nano-dollars) of the recorded answers whose price is known."""
    if not CORPUS.exists():
        raise Skipped("the recorded traffic is not here: set ASKONCE_CORPUS to the folder that has dev.jsonl.gz")
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    found = [(len(one["response_body"] or ""), _price(one)) for one in records if one["status"] == 200]
    return [(size, price) for size, price in found if price and size <= LARGEST]


FLAVORS = {"openai.chat": "chat", "openai.responses": "responses", "openai.embeddings": "embeddings"}


def _price(record: dict[str, Any]) -> int:
    """What a recorded answer cost, nano-dollars; 0 if that is unknown."""
    try:
        import genai_prices
    except ImportError as missing:
        raise Skipped(f"genai-prices is not installed: {missing}") from missing
    flavor = {"api_flavor": FLAVORS[record["api"]]} if record["api"] in FLAVORS else {}
    try:
        body = json.loads(record["response_body"])
        url = f"https://{record['host']}{record['url_path']}"
        used = genai_prices.extract_usage(body, provider_api_url=url, **flavor)
        return int(used.calc_price().total_price * 1_000_000_000)
    except Exception:  # noqa: BLE001 - whatever it cannot price
        return 0


@row(stores=(sqlite, memory), modes=THREADS, ratio=Ratio("visits noted", "not noted", 1.02))
def visit(case: Case) -> Pair:
    """a hit whose visit is noted / a hit of a store that does not evict.

    Bar: <= 1.02.

    Two caches with one store, in turn; one of them has no place for visits. The background thread tells them.
    """
    request, body = question("visited"), answer("visited")
    with Cache(case.place.url) as ours, Cache(case.place.url) as bare:
        for cache in (ours, bare):
            cache.fetch(request, lambda: body)
        bare._base._engine._reader._hot_keys = HotKeys()  # noqa: SLF001 - as with Redis
        bare.fetch(request, lambda: body)
        return pair(
            lambda: ours.fetch(request, _unpaid), lambda: bare.fetch(request, _unpaid), 500 if case.quick else 20_000
        )


def _unpaid() -> Any:
    raise AssertionError("a hit")
