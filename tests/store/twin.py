"""Random states of one key, and both sides of the law that ties the scripts to core.lease.

A random state (`draw`) is loaded into a server under names of its own. A script decides with the time it is told, and
`Beside`, a Ledger of one key, lets core.lease decide over the same. The reply, the value under each name, its time to
live and the published messages must be equal.

The scripts have no hook for the time: the tests run them after another prelude, in which `clock` is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any, NamedTuple

from askonce.core.keys import Key
from askonce.core.lease import Generations, Lease, Slot
from askonce.core.model import (
    FIELDS,
    FORMS,
    Dates,
    Sealed,
    Snapshot,
    foreign,
    pack_dates,
    pack_fields,
    seal,
    unpack_fields,
)
from askonce.core.tape import FAILED, SHARED, STORED, Ending, Notice
from askonce.store import TAPE_LIFE, Held, ledger
from askonce.store.redis.connection import Connection
from askonce.store.redis.scripts import Script, Scripts, claim_args, pack, release_args
from askonce.store.redis.store import read_claim
from tests.store.draw import EPOCHS, Draw, State

CLOCK = "  local now = redis.call('TIME')\n  return now[1] * 1000000 + now[2]\n"
TEXTS = files("askonce.store.redis") / "lua"
CHUNK = 200


def scripts(*fault: str) -> Scripts:
    """The scripts with the time as their last argument; with `fault`, one piece of their text replaced by another."""
    prelude = (TEXTS / "prelude.lua").read_text("utf-8")
    assert CLOCK in prelude
    made = Scripts(prelude.replace(CLOCK, "  return tonumber(ARGV[#ARGV])\n"))
    if fault:
        name, old, new = fault
        script: Script = getattr(made, name)
        assert script.text.count(old) == 1, f"{old!r} is {script.text.count(old)} times in {name}"
        setattr(made, name, Script(script.text.replace(old, new)))
    return made


class Beside(ledger.Ledger):
    """The other side: a Ledger of one key, over a State."""

    def __init__(self, key: Key, state: State, now_us: int) -> None:
        self.now_us = now_us
        self.state = state
        self.notices: list[Notice] = []
        self.ends: int | None = None
        self.armed = False  # whether the lease got another end
        self._key = key

    @property
    def now(self) -> int:
        return self.now_us // 1000

    def adopt(self, key: Key) -> None:
        """There is one prefix."""

    def slot(self, key: Key) -> Slot:
        head, fields = ledger.header(self.state.entry, key)
        if head is not None and (foreign(head.flags) or head.flags & 3 != FORMS.index(key.form)):
            head, fields = None, ()
        lease = self.state.lease
        # A server removes by itself what is over, and nobody can tell whether it was there.
        return Slot(head, fields, lease if lease and self.now < lease.expire else None, self.state.generations)

    def put_lease(self, key: Key, lease: Lease | None) -> None:
        old = self.state.lease
        self.armed = lease is not None and (old is None or (lease.order, lease.expire) != (old.order, old.expire))
        self.state = self.state._replace(lease=lease)

    def put_generations(self, generations: Generations) -> None:
        self.state = self.state._replace(generations=generations)

    def put_entry(self, key: Key, sealed: Sealed, dates: Dates) -> bool:
        self.state = self.state._replace(entry=sealed.dated(dates))
        self.ends = max(dates[1:])
        return True

    def put_dates(self, key: Key, dates: Dates) -> None:
        assert self.state.entry is not None
        self.state = self.state._replace(entry=self.state.entry[:84] + pack_dates(dates) + self.state.entry[120:])
        self.ends = max(dates[1:])

    def put_tape(self, key: Key, flight: bytes, order: int, log: bytes) -> None:
        if self.state.tape is None:
            self.state = self.state._replace(tape=log)

    def say(self, key: Key, notice: Notice) -> None:
        self.notices.append(notice)


class Case(NamedTuple):
    """One state, the call of a script on it, and what core.lease makes of it. `extra` are a verb's own arguments."""

    number: int
    key: Key
    now_us: int
    state: State
    call: bytes
    expected: Any
    beside: Beside
    read: Callable[[Any], Any] = lambda reply: reply


Verb = Callable[[Draw, State, Scripts, "Names"], tuple[bytes, Any, Beside, Callable[[Any], Any]]]


class Names(NamedTuple):
    """The names of one case, and no other's."""

    entry: bytes
    lease: bytes
    generations: bytes
    tape: bytes
    flights: bytes
    channel: bytes

    @classmethod
    def of(cls, number: int) -> Names:
        return cls(*(b"{%d}:%b" % (number, kind) for kind in (b"e", b"l", b"g", b"s", b"f", b"c")))

    @property
    def member(self) -> bytes:
        """What the index of flights says of the lease: in a store it is the last part of its name."""
        return self.lease[-24:]


def cases(draw: Draw, verb: Verb, count: int, known: Scripts, start: int = 0) -> Iterator[Case]:
    """So many random cases of one verb."""
    for number in range(start, start + count):
        draw.turn()
        generations = draw.generations()
        log = b"a log" if draw.chance(0.1) else None
        state = State(draw.entry(generations), draw.lease(generations), generations, log)
        call, expected, beside, read = verb(draw, state, known, Names.of(number))
        yield Case(number, draw.key, draw.now_us, state, call, expected, beside, read)


# the verbs: what is sent, and what the other side says


def claim(draw: Draw, state: State, known: Scripts, names: Names) -> Any:
    ask = draw.ask()
    beside = Beside(draw.key, state, draw.now_us)
    call = known.claim.call((*names[:3], names.flights), (*claim_args(draw.key, ask, names.channel), draw.now_us))
    return call, ledger.claim(beside, draw.key, ask), beside, lambda reply: read_claim(reply, ask.id)


def renew(draw: Draw, state: State, known: Scripts, names: Names) -> Any:
    flight, order = draw.whom(state, 0.9)
    beside = Beside(draw.key, state, draw.now_us)
    heartbeat = draw.one(1_000, 5_000)
    call = known.renew.call(names[1:3], (flight, order, heartbeat, draw.now_us))
    return call, ledger.renew(beside, [Held(draw.key, flight, order)], heartbeat)[0], beside, bytes.decode


def fill(draw: Draw, state: State, known: Scripts, names: Names) -> Any:
    flight, order = draw.whom(state)
    beside = Beside(draw.key, state, draw.now_us)
    snapshot = state.lease.snapshot if state.lease else Snapshot(EPOCHS[0], 1)
    body = draw.random.randbytes(draw.one(0, 1, 300))
    extensions = {FIELDS: pack_fields((1, 2))} if draw.chance(0.5) else {}
    sealed = seal(draw.key.form, draw.key.digest, flight, order, snapshot, 60_000, extensions, body)
    life = draw.life()
    call = known.fill.call(names[:5], (flight, order, *life, *sealed, draw.key.form, names.channel, draw.now_us))
    return call, ledger.fill(beside, draw.key, flight, order, sealed, life), beside, bytes.decode


def release(draw: Draw, state: State, known: Scripts, names: Names) -> Any:
    flight, order = draw.whom(state)
    if draw.chance(0.2):
        order = 0
    beside = Beside(draw.key, state, draw.now_us)
    ending = draw.one(Ending(FAILED), Ending(SHARED, "refused", b"body"), Ending(STORED))
    failed, hint = draw.chance(0.5), draw.one(0, 1_500, 31_000, 10**9)
    # The base of the tape's name, so that the script makes the same name for every order if none is given.
    keys = names[:5] if order else (*names[:3], names.tape + b".", names.flights)
    args = release_args(draw.key, flight, order, ending, failed, hint, names.channel)
    call = known.release.call(keys, (*args, draw.now_us))
    ledger.release(beside, draw.key, flight, order, ending, failed=failed, hint=hint)
    return call, b"OK", beside, lambda reply: reply


def extend(draw: Draw, state: State, known: Scripts, names: Names) -> Any:
    flight, order = draw.whom(state._replace(lease=None), 0.9)
    beside = Beside(draw.key, state, draw.now_us)
    hot_ttl, cap = draw.one(0, 60_000, 3_600_001), draw.one(0, 60_000, 3_600_000, 3_600_001, 10**9)
    args = (draw.key.digest, draw.key.form, flight, order, hot_ttl, cap, draw.now_us)
    call = known.extend.call((names.entry, names.generations), args)
    return call, int(ledger.extend(beside, draw.key, flight, order, hot_ttl, cap)), beside, lambda reply: reply


# the server's side


def _load(case: Case) -> list[bytes]:
    names, state = Names.of(case.number), case.state
    commands = []
    if state.entry is not None:
        commands.append(pack(b"SET", names.entry, state.entry))
    if state.tape is not None:
        commands.append(pack(b"SET", names.tape, state.tape))
    if state.lease is not None:
        lease = state.lease
        commands.append(
            pack(
                b"HSET", names.lease, b"id", lease.id, b"order", lease.order, b"dl", lease.deadline,
                b"ep", lease.snapshot.epoch, b"s", lease.snapshot.clock, b"t", pack_fields(lease.fields),
                b"x", lease.expire, b"want", int(lease.want), b"idle", int(lease.idle), b"fails", lease.fails,
            )
        )  # fmt: skip
        if not lease.idle and case.beside.now < lease.expire:
            commands.append(pack(b"ZADD", names.flights, lease.expire, names.member))
    return commands + load_generations(names.generations, state.generations)


def load_generations(name: bytes, generations: Generations) -> list[bytes]:
    """The commands that write them."""
    notices: list[bytes | int] = [part for one, when in generations.moved.items() for part in (b"t:%d" % one, when)]
    notices += [b"ep", generations.epoch] if generations.epoch else []
    notices += [b"clk", generations.clock] if generations.clock else []
    notices += [b"floor", generations.floor] if generations.floor else []
    return [pack(b"HSET", name, *notices)] if notices else []


def _reads(case: Case) -> list[bytes]:
    names = Names.of(case.number)
    order = case.beside.notices[0].order if case.beside.notices else 0
    late = names.tape + b".%d" % order
    return [
        pack(b"GET", names.entry), pack(b"PTTL", names.entry), pack(b"HGETALL", names.lease),
        pack(b"PTTL", names.lease), pack(b"HGETALL", names.generations),
        pack(b"GET", names.tape), pack(b"GET", late), pack(b"PTTL", names.tape), pack(b"ZRANGE", names.flights, 0, -1),
    ]  # fmt: skip


def read_lease(said: dict[bytes, bytes], now: int) -> Lease | None:
    """The lease in a hash; what is over counts as none."""
    if not said or now >= int(said[b"x"]):
        return None
    return Lease(
        said[b"id"], int(said[b"order"]), int(said[b"dl"]), Snapshot(said[b"ep"], int(said[b"s"])),
        unpack_fields(said[b"t"]), int(said[b"x"]), said[b"want"] == b"1", said[b"idle"] == b"1", int(said[b"fails"]),
    )  # fmt: skip


def read_generations(said: dict[bytes, bytes]) -> Generations:
    """The generations in a hash."""
    moved = {int(name[2:]): int(when) for name, when in said.items() if name.startswith(b"t:")}
    return Generations(said.get(b"ep", b""), int(said.get(b"clk", 0)), int(said.get(b"floor", 0)), moved)


def differences(case: Case, reply: Any, after: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    """What the script did otherwise than core.lease: (what, expected, found)."""
    try:
        yield from _differences(case, reply, after)
    except (KeyError, ValueError) as error:
        yield "something unreadable", error, after


def _differences(case: Case, reply: Any, after: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    now, beside = case.beside.now, case.beside
    entry, entry_ttl, lease, lease_ttl, generations, tape, late, tape_ttl, flights = after
    try:
        said = case.read(reply)
    except (TypeError, ValueError, AttributeError):
        said = reply
    if said != case.expected:
        yield "reply", case.expected, said
    expected = beside.state
    fading = beside.ends is not None and beside.ends - now < 30_000  # may be over by the server's own clock
    if entry != expected.entry and not fading:
        yield "entry", expected.entry, entry
    if beside.ends is not None and not fading and not 0 <= beside.ends - now - entry_ttl < 20_000:
        yield "entry's life", beside.ends - now, entry_ttl
    left = expected.lease if expected.lease and now < expected.lease.expire else None
    if read_lease(lease, now) != left:
        yield "lease", left, read_lease(lease, now)
    indexed = [Names.of(case.number).member] if left is not None and not left.idle else []
    if flights != indexed:
        yield "flights", indexed, flights
    ends = left.expire - now if left is not None and beside.armed else -1
    if left is not None and not 0 <= ends - lease_ttl < 20_000:
        yield "lease's life", ends, lease_ttl
    if read_generations(generations) != expected.generations:
        yield "generations", expected.generations, read_generations(generations)
    if (tape or late) != expected.tape:
        yield "tape", expected.tape, tape or late
    if tape and case.state.tape is None and not 0 <= TAPE_LIFE - tape_ttl < 20_000:
        yield "tape's life", TAPE_LIFE, tape_ttl


def run(connection: Connection, drawn: Iterator[Case]) -> Iterator[tuple[Case, str, Any, Any]]:
    """Every difference between the script and core.lease over these cases; the notices, too, are compared."""
    connection.exchange(pack(b"FLUSHALL"), 1)
    heard: dict[bytes, list[bytes]] = {}
    connection.exchange(pack(b"PSUBSCRIBE", b"*") + pack(b"PING"), 1)
    chunk: list[Case] = []
    for case in drawn:
        chunk.append(case)
        if len(chunk) == CHUNK:
            yield from _chunk(connection, chunk, heard)
            chunk = []
    yield from _chunk(connection, chunk, heard)


def _chunk(
    connection: Connection, chunk: list[Case], heard: dict[bytes, list[bytes]]
) -> Iterator[tuple[Case, str, Any, Any]]:
    batches = [(load := _load(case), [case.call, *_reads(case)], len(load)) for case in chunk]
    sent = [command for load, asks, _ in batches for command in (*load, *asks)]
    replies = connection.exchange(b"".join(sent), len(sent))
    at = 0
    for push in connection.pushes:
        if push[0] == b"pmessage":
            heard.setdefault(push[2], []).append(push[3])
    connection.pushes.clear()
    for case, (_, asks, loads) in zip(chunk, batches, strict=True):
        at += loads
        for what, expected, found in differences(case, replies[at], replies[at + 1 : at + len(asks)]):
            yield case, what, expected, found
        at += len(asks)
        notices = heard.pop(Names.of(case.number).channel, [])
        if notices != [notice.packed() for notice in case.beside.notices]:
            yield case, "words", case.beside.notices, notices
