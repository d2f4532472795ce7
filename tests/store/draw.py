"""Random states of one key, concentrated where the decisions are.

Dates are near now, counters near the floor, and few ids, epochs and fields are drawn, so that they are often equal.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from askonce.core.keys import Key
from askonce.core.lease import NEVER, Ask, Generations, Lease, Limits
from askonce.core.model import FIELDS, FORMS, TTL_CAP, Dates, Lifetime, Snapshot, pack_fields, seal
from askonce.store import ledger

A, B, C = b"A" * 16, b"B\0\r\n" * 4, bytes(range(240, 256))
EPOCHS = (b"epoch-01", b"\0\xff\r\n$*:_")
SMALL = (1, 2, 3, 300, 16383)
LATER = (1, 2, 1_000, 4_999, 5_000, 5_001, 30_000, 299_999, 300_000)
NEAR = (-900_000, -30_001, -5_001, -5_000, -1_000, -2, -1, 0, *LATER)
NEAR_LATE = (300_001, 899_999, 900_000, 3_600_000)


class State(NamedTuple):
    """What stands under the names of one key."""

    entry: bytes | None
    lease: Lease | None
    generations: Generations
    tape: bytes | None = None


class Draw:
    """Draws states and the arguments of verbs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = 0
        self.key = Key(b"", "v")

    @property
    def now(self) -> int:
        return self.now_us // 1000

    def one(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def turn(self) -> None:
        """Another key and another time; sometimes one whose lower half is about to overflow."""
        self.key = Key(self.random.randbytes(32), self.one(*FORMS))
        self.now_us = 1_800_000_000_000_000 + self.random.randrange(10**12)
        if self.chance(0.1):
            self.now_us = (self.now_us >> 32 << 32) + self.one(0, 1, 999, 2**32 - 1)

    def near(self) -> int:
        return int(self.now + self.one(*NEAR, *(NEAR_LATE if self.chance(0.3) else ())))

    def fields(self) -> tuple[int, ...]:
        return tuple(sorted(self.random.sample(SMALL, self.one(0, 0, 1, 1, 2))))

    def snapshot(self, generations: Generations) -> Snapshot:
        epoch = generations.epoch if generations.epoch and self.chance(0.9) else self.one(*EPOCHS)
        return Snapshot(epoch, max(0, generations.clock + self.one(-3, -2, -1, -1, *[0] * 8, 1)))

    def order(self) -> int:
        return int(self.now_us + self.one(-7_000_000, -1, 0, 0, 1, 5_000))

    def generations(self) -> Generations:
        if self.chance(0.07):
            rows = (Generations(), Generations(clock=2, floor=1), Generations(clock=1, moved={2: 1}))
            return self.random.choice(rows)
        clock = self.one(0, 1, 3, 3, 4, 70_000)
        low = max(0, clock - 4)
        moved = {one: self.random.randint(low, clock) for one in self.random.sample(SMALL, self.one(0, 1, 3, 5))}
        return Generations(self.one(*EPOCHS), clock, self.one(0, 0, 0, low, clock, max(0, clock - 1)), moved)

    def entry(self, generations: Generations) -> bytes | None:
        if self.chance(0.15):
            return None
        fields = tuple(range(3, 3 + self.one(190, 195, 300))) if self.chance(0.03) else self.fields()
        extensions = {FIELDS: pack_fields(fields)} if fields or self.chance(0.1) else {}
        if self.chance(0.2):
            extensions |= {2: b"tag", 8: b"x" * self.one(0, 5, 600)}
        if self.chance(0.3):
            extensions |= self.one({3: b"\1\0\0\0\0"}, {5: b"key"}, {3: b"", 5: b"", 16: b"x" * 90})
        sealed = seal(
            self.key.form, self.key.digest, self.one(A, B, C), self.order(), self.snapshot(generations),
            self.one(0, 1_000, 60_000, 60_000, TTL_CAP), extensions, b"body",
        )  # fmt: skip
        data = sealed.dated(Dates(self.now - self.one(0, 0, 1, 1_000, 59_999, 60_000), *self.dates()))
        return self.broken(data) if self.chance(0.06) else data

    def dates(self) -> tuple[int, int, int]:
        if self.chance(0.3):
            return self.near(), self.near(), self.near()
        fresh = self.near()
        return fresh, fresh + self.one(0, 1_000, 30_000, 10**6), fresh + self.one(0, 5_000, 10**6, 10**6)

    def broken(self, data: bytes) -> bytes:
        """What is no entry of this question that this version could serve."""
        other = bytes([data[0] ^ 1])
        spoilt = (
            b"", b"ao", data[:119], other + data[1:], data[:2] + b"\2" + data[3:], data[:3] + b"\x10" + data[4:],
            data[:3] + bytes([data[3] ^ 3]) + data[4:], data[:8] + other + data[9:], data[:118] + b"\0\0" + data[120:],
            data[:84] + b"\0\0\0\7" + data[88:],  # a date in another age, its check unchanged: all readers see the same
            data[:120] + b"\1\xff\xff" + data[123:], data[:120] + b"\1\0\1", b"foreign" * 40,
            data[:7] + bytes([data[7] ^ 1]) + data[8:], data[:6] + b"\xff" + data[7:],
        )  # fmt: skip
        return self.random.choice(spoilt)

    def lease(self, generations: Generations, *, idle: float = 0.2) -> Lease | None:
        if self.chance(0.2):
            return None
        resting = self.chance(idle)
        expire = self.near() if self.chance(0.2) else self.now + 600_000
        return Lease(
            self.one(A, B, C), self.order(), self.near(), self.snapshot(generations), self.fields(), expire,
            self.chance(0.4) and not resting, resting, self.one(1, 2, 5, 6, 9) if resting else self.one(0, 0, 3),
        )  # fmt: skip

    def limits(self) -> Limits:
        return Limits(
            self.one(0, 1, 1_000, 59_999, *[60_000] * 3, 60_001, TTL_CAP, TTL_CAP + 5), self.one(0, 0, 1_000, 30_000, 10**7),
            self.one(0, 5_000, 10**7, 10**7), self.one(*[NEVER] * 8, 0, 1, 1_000, 60_000),
            self.one(*[0] * 8, 1, 1_000), self.one(*[0] * 8, 1, 30_000),
        )  # fmt: skip

    def ask(self) -> Ask:
        after = self.order() if self.chance(0.2) else 0
        early = self.one(NEVER, NEVER, 0, 1, 5_000, 10**9)
        return Ask(
            self.one(A, B, C),
            self.random.randbytes(8),
            self.fields(),
            self.limits(),
            after,
            early,
            self.one(1_000, 5_000),
        )

    def whom(self, state: State, part: float = 0.7) -> tuple[bytes, int]:
        """Whose flight a verb speaks of: mostly of the one that the state knows."""
        if state.lease is not None and self.chance(part):
            return state.lease.id, state.lease.order + (self.one(-1, 1) if self.chance(0.1) else 0)
        head, _ = ledger.header(state.entry, self.key)
        if head is not None and self.chance(part):
            return head.fill, head.order
        return self.one(A, B, C), self.order()

    def life(self) -> Lifetime:
        grace, error, cap = self.one(0, 0, 70_000), self.one(0, 0, 90_000), self.one(0, 65_000, 10**8)
        return Lifetime(self.one(0, 60_000), grace, error, cap, self.one(0, 0, 20_000, 61_000))
