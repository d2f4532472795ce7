"""Every order in which a tracked read, its reply, a notice, a write and a lookup can come: walks over a model server.

The conversation (Tracking) and the near cache are the real ones; they neither send nor wait. The server is a model that
executes one command at a time and writes replies and notices into one stream; the clock is moved by hand. After every
step it is known which answer had been replaced, forgotten or invalidated, and since when.

A rule that is taken away must break it: so each is, in turn.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis
import pytest

from askonce.core import near as table
from askonce.core.keys import Key
from askonce.core.model import FIELDS, Dates, Snapshot, pack_fields, seal
from askonce.store import PARTITIONS
from askonce.store.redis import near as near_cache
from askonce.store.redis import tracking as conversation
from askonce.store.redis.names import Names
from askonce.store.redis.near import LIMIT, RedisNear, clock, join
from askonce.store.redis.tracking import Tracking
from askonce.store.redis.trouble import Refusal

EPOCH = b"epoch001"
KEYS = [Key(bytes([number]) * 32, "v") for number in (1, 2, 1 + PARTITIONS)]  # two of them in one partition
TAGS = (7, 9)
STEPS, WALKS = 1_000, 40
FOR_EVER = Dates(1, 2**40, 2**40, 2**40)


class ModelServer:
    """Entries, generations and one tracking connection. `deaf`: it says that it tracks, and tells nobody."""

    def __init__(self) -> None:
        self.deaf = False
        self.entries: dict[bytes, bytes] = {}
        self.clocks: dict[bytes, int] = {}
        self.moved: dict[tuple[bytes, int], int] = {}
        self.tracked: set[bytes] = set()
        self.stream: deque[Any] = deque()  # notices, as lists, and replies, as one-tuples
        self.todo: deque[list[bytes]] = deque()
        self._caching = False

    def send(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        while (command := reader.gets()) is not False:
            self.todo.append(command)

    def step(self, now: float) -> None:
        words = self.todo.popleft()
        caching, self._caching = self._caching, words[:2] == [b"CLIENT", b"CACHING"]
        if words[0] in (b"GET", b"HMGET") and caching:
            self.tracked.add(words[1])
        if words[0] == b"HELLO":
            self.stream.append(({b"role": b"master"},))
        elif words[0] == b"GET":
            self.stream.append((self.entries.get(words[1]),))
        elif words[0] == b"HMGET":
            self.stream.append((self._generations(words[1], words[2:]),))
        elif words[0] == b"TIME":
            self.stream.append(([b"%d" % int(now), b"%06d" % int(now % 1 * 1e6)],))
        else:
            self.stream.append((b"OK",))
            if words[0] == b"SET":
                self.changed(words[1])

    def _generations(self, name: bytes, fields: list[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for field in fields:
            moved = self.moved.get((name, int(field[2:]))) if field.startswith(b"t:") else None
            known = {b"ep": EPOCH, b"clk": b"%d" % self.clocks.get(name, 0)}
            found.append(known.get(field) if moved is None else b"%d" % moved)
        return found

    def changed(self, name: bytes) -> None:
        if name in self.tracked:
            self.tracked.discard(name)
            if not self.deaf:
                self.stream.append([b"invalidate", [name]])

    def flush(self) -> None:
        self.entries.clear()
        self.tracked.clear()
        self.stream.append([b"invalidate", None])

    def cut(self) -> None:
        self.tracked.clear()
        self.stream.clear()
        self.todo.clear()
        self._caching = False


class Walk:
    """One walk. `dead`: since when an answer (by its order) must not be served, by clock; `own`: at once."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        monkeypatch.setattr(near_cache, "clock", lambda: self.now)
        self.server, self.names = ModelServer(), Names("p")
        self.near: RedisNear = join(f"model-{seed}-{id(self)}", 2**20)
        self.tracking = Tracking(f"model-{seed}-{id(self)}", self.names)
        self.due = 0  # replies that the link waits for
        self.order = 0
        self.dead: dict[int, float] = {}
        self.live: dict[Key, tuple[int, tuple[int, ...], int]] = {}  # order, tags, clock
        self.served = 0
        self.pending: list[Callable[[], object]] = []  # of writes of this process: what it does when it is answered
        for key in KEYS:
            self.write(key)

    # what happens at the server

    def write(self, key: Key, delay: float = 0.0) -> None:
        self.order += 1
        generations = self.names.generations(key.digest[0] % PARTITIONS)
        self._over(key, delay)
        tags = tuple(tag for tag in TAGS if self.random.random() < 0.5)
        at = self.server.clocks.get(generations, 0)
        extensions = {FIELDS: pack_fields(tags)} if tags else {}
        sealed = seal(
            "v", key.digest, b"f" * 16, self.order, Snapshot(EPOCH, at), 10**6, extensions, b"%d" % self.order
        )
        name = self.names.of(key)[0]
        self.server.entries[name] = sealed.dated(FOR_EVER)
        self.live[key] = (self.order, tags, at)
        self.server.changed(name)

    def forget(self, key: Key) -> None:
        self._over(key)
        name = self.names.of(key)[0]
        self.server.entries.pop(name, None)
        self.server.changed(name)

    def move(self, tag: int) -> None:
        for partition in {key.digest[0] % PARTITIONS for key in KEYS}:
            name = self.names.generations(partition)
            self.server.clocks[name] = self.server.moved[name, tag] = self.server.clocks.get(name, 0) + 1
            self.server.changed(name)
        for key, (_, tags, _) in list(self.live.items()):
            if tag in tags:
                self._over(key)

    def _over(self, key: Key, delay: float = 0.0) -> None:
        order = self.live.pop(key, (0, (), 0))[0]
        self.dead.setdefault(order, self.now + delay)

    # steps

    def step(self) -> None:
        key = self.random.choice(KEYS)
        kinds = {self._look: 6, self._seen: 5, self._ask: 4, self._execute: 8, self._deliver: 5, self._others: 0.7,
                 self._mine: 0.3, self._answered: 2, self._tick: 4, self._rare: 0.1}  # fmt: skip
        (chosen,) = self.random.choices([*kinds], [*kinds.values()])
        chosen(key)

    def _tick(self, _: Key) -> None:
        self.now += self.random.choice((0.001, 0.001, 0.01, 0.01, 0.1, 0.4))

    def _rare(self, _: Key) -> None:
        what = self.random.randrange(3)
        if what == 0:
            self.now += 10.0  # frozen
        elif what == 1:
            self.server.cut()
            self.tracking.lost()
            self.due = 0
        else:
            for key in list(self.live):
                self._over(key)
            self.server.flush()

    def _look(self, key: Key) -> None:
        found = self.near.look(key, self.random.choice(((), TAGS[:1], TAGS)))
        if found is None:
            return
        self.served += 1
        order = found[0].answer[1].order
        since = self.dead.get(order, self.now)
        assert since >= self.now - LIMIT, f"{order} was served {self.now - since:.3f} s after its end"

    def _seen(self, key: Key) -> None:
        if key in self.live:
            self.near.seen(key, self.random.choice(((), TAGS)), 200)

    def _ask(self, _: Key) -> None:
        if not self.due and (asked := self.tracking.asks(self.now)) is not None:
            self.server.send(asked[0])
            self.due = asked[1]

    def _execute(self, _: Key) -> None:
        for _step in range(self.random.randint(1, 8)):
            if self.server.todo:
                self.server.step(self.now)

    def _deliver(self, _: Key) -> None:
        stream = self.server.stream
        if self.due and sum(type(one) is tuple for one in stream) < self.due:
            return
        replies, self.due = self.due, 0
        least = max((at + 1 for at, one in enumerate(stream) if type(one) is tuple), default=0) if replies else 0
        came = [stream.popleft() for _ in range(self.random.randint(least, len(stream)))]
        for push in (one for one in came if type(one) is list):
            self.tracking.told(push)
        if replies:
            self.tracking.said([one[0] for one in came if type(one) is tuple])

    def _others(self, key: Key) -> None:
        what = self.random.randrange(3)
        if what == 0:
            self.write(key)
        elif what == 1:
            self.forget(key)
        else:
            self.move(self.random.choice(TAGS))

    def _mine(self, key: Key) -> None:
        """A write of this process, whose answer arrives later."""
        if self.random.random() < 0.5:
            order = self.live.get(key, (0, (), 0))[0]
            self.forget(key)
            self.pending.append(partial(self._acknowledged, partial(self.near.forget, key), [order]))
        else:
            tag = self.random.choice(TAGS)
            orders = [order for order, tags, _ in self.live.values() if tag in tags]
            self.move(tag)
            self.pending.append(partial(self._acknowledged, self.near.move, orders))

    def _acknowledged(self, drop: Callable[[], None], orders: list[int]) -> None:
        drop()
        self.dead.update(dict.fromkeys(orders, -1.0))

    def _answered(self, _: Key) -> None:
        while self.pending:
            self.pending.pop()()


def walked(monkeypatch: pytest.MonkeyPatch, walks: int = WALKS) -> int:
    served = 0
    for seed in range(walks):
        walk = Walk(seed, monkeypatch)
        for _ in range(STEPS):
            walk.step()
        served += walk.served
    return served


def test_no_order_of_steps_serves_what_was_over_for_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walked(monkeypatch) > 10 * WALKS  # it does serve


@pytest.mark.slow
def test_no_order_of_many_more_steps_does_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert walked(monkeypatch, 60 * WALKS)


def _late_voids(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply puts its slot back: what was voided during the read is found again."""
    fill = table.Table.fill

    def filled(self: table.Table, slot: table.Slot, kept: table.Kept) -> None:
        self.slots[slot.key] = slot
        fill(self, slot, kept)

    monkeypatch.setattr(table.Table, "fill", filled)


def _unproved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_cache, "LIMIT", 1e9)


def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untested: a server that tells nobody is believed."""
    monkeypatch.setattr(ModelServer, "changed", lambda *_: None)
    begun = Tracking._begun

    def believed(self: Tracking, replies: Any) -> None:
        self._tested = b""
        begun(self, replies)

    monkeypatch.setattr(Tracking, "_begun", believed)


def _proved_when_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof holds from when its reply came, and not from when it was sent."""
    said = Tracking.said

    def later(self: Tracking, replies: Any) -> None:
        self._sent = near_cache.clock()
        said(self, replies)

    monkeypatch.setattr(Tracking, "said", later)


def _untracked_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Tracking._answer

    def plain(self: Tracking, *of: Any) -> bytes:
        return answer(self, *of).replace(conversation.CACHING, b"*1\r\n$4\r\nPING\r\n")

    monkeypatch.setattr(Tracking, "_answer", plain)


def _kept_after_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another connection goes on with what an earlier one was told about."""
    monkeypatch.setattr(RedisNear, "end", lambda *_: None)
    lost = Tracking.lost

    def part_stays(self: Tracking) -> None:
        part = self._part
        lost(self)
        self._part = part

    monkeypatch.setattr(Tracking, "lost", part_stays)


def _deaf_to_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisNear, "move", lambda *_: None)
    monkeypatch.setattr(RedisNear, "forget", lambda *_: None)


def _any_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table.Kept, "stands", lambda *_: True)


def _unknown_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that were not read count as unmoved."""
    stands = table.Kept.stands

    def lenient(self: table.Kept, standing: table.Standing, asked: tuple[int, ...]) -> bool:
        return stands(self, table.Standing(standing.generations, frozenset(range(100))), asked)

    monkeypatch.setattr(table.Kept, "stands", lenient)


FAULTS = (
    _late_voids,
    _unproved,
    _deaf,
    _proved_when_answered,
    _untracked_reads,
    _kept_after_loss,
    _deaf_to_own,
    _any_generation,
    _unknown_fields,
)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__.strip("_") for fault in FAULTS])
def test_each_rule_that_is_taken_away_is_missed(fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="was served"):
        walked(monkeypatch, 10 * WALKS)


def test_a_server_that_tracks_and_tells_nobody_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelServer, "changed", lambda *_: None)
    walk = Walk(0, monkeypatch)
    for _ in range(STEPS):
        walk.step()
    assert walk.near.state == "no-notices"
    assert not walk.served


def test_a_server_that_stops_telling_is_found_out_by_its_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(0, monkeypatch)
    for _ in range(STEPS):
        walk.step()
    walk.server.deaf = True
    states = set()
    for _ in range(20 * STEPS):
        walk._rare = walk._tick  # type: ignore[method-assign]
        try:
            walk.step()
        except AssertionError:  # what is forgotten and not told is found by nobody else
            continue
        states.add(walk.near.state)
    assert "idle" in states or "no-notices" in states


def test_a_refusal_of_tracking_ends_it_for_this_connection_and_another_one_tries_again() -> None:
    near = join("model-refused", 2**20)
    tracking = Tracking("model-refused", Names("p"))
    near.seen(KEYS[0], (), 10)
    for _ in range(2):
        assert (asked := tracking.asks(clock())) is not None
        assert asked[1] == 5
        tracking.said([Refusal("ERR unknown subcommand"), b"OK", None, b"OK", [b"1", b"1"]])
        assert near.state == "tracking-refused"
        near.used = clock()
        assert tracking.asks(clock()) is None
        tracking.lost()
