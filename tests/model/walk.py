"""A random walk: two questions, a few flights, and everything that can happen to a store and its users.

Every command ever sent may arrive once more, late: after its flight is over, after an invalidation, after its key was
evicted. Nobody gets its reply then. A flight may crash (it is never heard of again), pause past its deadline, or never
learn that it was granted a lease.

All ticks are multiples of 16 s, and every duration is 4 s away from one, modulo 16 s. So no border is ever nearer to
the time than that, and the time that a server's real clock takes on a busy machine decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from askonce.core.lease import NEVER, Ask, Follow, Grant, Limits, fresh_for, valid
from askonce.core.model import FIELDS, Lifetime, Snapshot, entry_body, entry_fields, pack_fields, read_entry, seal
from askonce.core.tape import FAILED, SHARED, Ending, read_ending
from askonce.store import Held
from tests.model.places import Place
from tests.model.promises import EVERYTHING, SLACK, Promises, must

KEYS = 2
BEAT = 20_000
TTL = 84_000
TICKS = st.sampled_from([16_000, 16_000, 32_000, 32_000, 96_000, 96_000, 160_000, 3_840_000, -16_000])
LONG = Lifetime(TTL, 32_000, 160_000, 244_000)
LIVES = st.sampled_from([LONG] * 3 + [Lifetime(TTL, 0, 0, 244_000), Lifetime(0, 0, 0, 0)])
USUAL = Limits(TTL, 32_000, 160_000)
LIMITS = st.sampled_from(
    [USUAL] * 6
    + [
        USUAL._replace(max_age=0),
        USUAL._replace(max_age=20_000),
        USUAL._replace(min_fresh=16_000),
        USUAL._replace(max_stale=32_000),
        Limits(36_000, 0, 48_000),
        Limits(10**9, 10**9, 10**9),
    ]
)
DISTURBANCES = ["invalidate"] * 4 + [
    "invalidate_everything",
    "forget",
    "evict_generations",
    "evict_entry",
    "evict_lease",
]
FIELD_SETS = st.sampled_from([(), (), (1,), (2,), (1, 2)])
NUMBERS = st.integers(0, 30)
QUESTIONS = st.sampled_from([0, 0, 1])


@dataclass
class Flight:
    """Who was granted a lease and knows it."""

    key: Any
    fields: tuple[int, ...]
    grant: Grant
    life: Lifetime
    again: Callable[[], None]

    @property
    def body(self) -> bytes:
        return b"answer of %b.%d" % (self.grant.id, self.grant.order)


class Walk(RuleBasedStateMachine):
    """One walk; a test gives the place by a subclass."""

    place: ClassVar[Place]

    def __init__(self) -> None:
        super().__init__()
        self.place.begin(KEYS)
        self.keys = self.place.keys
        self.promises = Promises(self.keys)
        self.flights: list[Flight] = []
        self.ghosts: list[tuple[Any, bytes]] = []  # claims whose reply was lost
        self.sent: list[Callable[[], None]] = []
        self.ids = 0

    def teardown(self) -> None:
        self.place.end()

    def send(self, command: Callable[[], None], *, again: Callable[[], None] | None = None) -> None:
        """Execute a command, and keep it: it may arrive once more."""
        self.promises.step += 1
        command()
        self.sent.append(again or command)
        for key in self.keys:
            self.check_entry(key)

    # lookups

    @rule(nth=QUESTIONS, fields=FIELD_SETS, limits=LIMITS, life=LIVES, early=st.booleans())
    def claim(self, nth, fields, limits, life, early):
        self.ids += 1
        ask = Ask(b"%016d" % self.ids, b"%08d" % self.ids, fields, limits, 0, 32_000 if early else NEVER, BEAT)
        self.ask(self.keys[nth], ask, life)

    @precondition(lambda self: any(question.followed for question in self.promises.questions.values()))
    @rule(nth=NUMBERS, limits=LIMITS, life=LIVES)
    def claim_after(self, nth, limits, life):
        """A follower was woken and looks again: what it waited for is fresh to it."""
        # By id: the same walk must choose the same, but keys and orders differ each time.
        questions = self.promises.questions
        followed = sorted((name, at) for at, key in enumerate(self.keys) for name in questions[key].followed)
        (_, order), at = followed[nth % len(followed)]
        key = self.keys[at]
        self.ids += 1
        self.ask(key, Ask(b"%016d" % self.ids, b"%08d" % self.ids, (), limits, order, NEVER, BEAT), life)

    def ask(self, key: Any, ask: Ask, life: Lifetime) -> None:
        def command(*, delivered: bool = True) -> None:
            now = self.place.now()
            said = self.place.do(self.place.store.claim(key, ask))
            new = not isinstance(said, Follow) and said.grant is not None
            name = (said.grant.id, said.grant.order) if new else None
            # A claim repeated before its call begins is the same flight; a late one begins nothing.
            self.promises.claimed(key, ask, said, now, delivered=delivered and name not in self.promises.began)
            if new and delivered:
                self.check_snapshot(key, said.grant)
                self.flights.append(Flight(key, ask.fields, said.grant, life, late))

        def late() -> None:
            command(delivered=False)

        self.send(command, again=late)

    @precondition(lambda self: self.flights)
    @rule(nth=NUMBERS)
    def claim_again(self, nth):
        """The claim of a flight under way arrives once more."""
        self.send(self.flights[nth % len(self.flights)].again)

    @rule(nth=QUESTIONS, fields=FIELD_SETS)
    def claim_lost(self, nth, fields):
        """The claim is executed, its reply is lost, and the caller goes upstream without a lease."""
        key = self.keys[nth]
        self.ids += 1
        ask = Ask(b"%016d" % self.ids, b"%08d" % self.ids, fields, USUAL, 0, NEVER, BEAT)

        def command() -> None:
            now = self.place.now()
            said = self.place.do(self.place.store.claim(key, ask))
            self.promises.claimed(key, ask, said, now, delivered=False)

        self.send(command)
        self.ghosts.append((key, ask.id))

    @rule(nth=QUESTIONS, fields=FIELD_SETS, limits=LIMITS)
    def look(self, nth, fields, limits):
        """The hit path: plain reads, judged by the client; and the same once more, on error."""
        key, now = self.keys[nth], self.place.now()
        look = self.place.do(self.place.store.look(key, (1, 2)))
        must(abs(look.now_us // 1000 + self.place.passed - now) < SLACK, "a clock of its own", look.now_us, now)
        wanted = self.promises.servable(key, fields, now)
        if look.entry is None:
            must(wanted is None, "an entry that plain reads do not find", wanted)
            return
        head = read_entry(look.entry, key.digest, key.form)
        own = entry_fields(look.entry, head)
        theirs = now - self.place.passed
        served = valid(Snapshot(head.epoch, head.clock), {*own, *fields}, look.generations) and theirs < head.hard
        must(served == (wanted is not None), "plain reads that see otherwise than a claim", look.generations, wanted)
        if wanted is not None:
            self.promises.third_promise(key, (head.fill, head.order), {*own, *fields})
            fresh = wanted.until(limits)[0]
            hit = fresh_for(head, limits, theirs)
            must(not hit or now + limits.min_fresh < fresh + limits.max_stale, "a hit past its windows", head, limits)

    # flights

    @rule(nth=QUESTIONS, fields=FIELD_SETS, limits=LIMITS, ends=st.sampled_from("aaff"))
    def lookup(self, nth, fields, limits, ends):
        """A whole lookup, whose call is answered, or fails, at once."""
        before = len(self.flights)
        self.claim(nth, fields, limits, LONG, early=True)
        if len(self.flights) > before:
            flight = self.flights.pop()
            if ends == "a":
                self.land(flight)
            else:
                self.give_back(flight, failed=True, hint=4_000)

    @precondition(lambda self: self.flights)
    @rule(nth=NUMBERS)
    def fill(self, nth):
        self.land(self.flights.pop(nth % len(self.flights)))

    def land(self, flight: Flight) -> None:
        extensions = {FIELDS: pack_fields(flight.fields)} if flight.fields else {}
        name, life = flight.grant[:2], flight.life
        sealed = seal(
            flight.key.form, flight.key.digest, *name, flight.grant.snapshot, TTL, extensions, flight.body
        )  # fmt: skip

        def command() -> None:
            now = self.place.now()
            lease = self.promises.holder(flight.key, name, now)
            said = self.place.do(self.place.store.fill(flight.key, *name, sealed, life))
            self.promises.filled(flight.key, flight.grant, (TTL, flight.body), life, said, now)
            needed = said in {"moved", "lost"} or (said == "unkept" and lease is not None and lease.want)
            self.check_tape(flight, needed=needed, outcome=SHARED)

        self.send(command)

    @precondition(lambda self: self.flights)
    @rule(nth=NUMBERS, failed=st.booleans(), hint=st.sampled_from([4_000, 132_000]))
    def release(self, nth, failed, hint):
        self.give_back(self.flights.pop(nth % len(self.flights)), failed=failed, hint=hint)

    def give_back(self, flight: Flight, *, failed: bool, hint: int) -> None:
        name = flight.grant[:2]
        ending = Ending(FAILED, "Timeout") if failed else Ending(SHARED, "refused", flight.body)

        def command() -> None:
            now = self.place.now()
            lease = self.promises.holder(flight.key, name, now)
            # After some failures in a row, a rest as long as they ask for would end on a tick.
            rest = 132_000 if lease is not None and lease.fails > 2 else hint
            work = self.place.store.release(flight.key, *name, ending, failed=failed, hint=rest)
            self.place.do(work)
            self.promises.released(flight.key, name, now, failed=failed, hint=rest)
            self.check_tape(flight, needed=lease is None or lease.want, outcome=ending.outcome)

        self.send(command)

    @precondition(lambda self: self.ghosts)
    @rule(nth=NUMBERS)
    def release_any(self, nth):
        """A claim whose reply was lost is given back, by its id."""
        key, flight = self.ghosts.pop(nth % len(self.ghosts))

        def command() -> None:
            now = self.place.now()
            self.place.do(self.place.store.release(key, flight, 0, Ending(FAILED)))
            self.promises.released(key, (flight, 0), now, failed=False, hint=0)

        self.send(command)

    @precondition(lambda self: self.flights)
    @rule(nth=NUMBERS)
    def renew(self, nth):
        flight = self.flights[nth % len(self.flights)]

        def command() -> None:
            now = self.place.now()
            (said,) = self.place.link.renew([Held(flight.key, *flight.grant[:2])], BEAT)
            self.promises.renewed(flight.key, flight.grant[:2], BEAT, said, now)

        self.send(command)

    @precondition(lambda self: self.flights)
    @rule(nth=NUMBERS)
    def crash(self, nth):
        self.flights.pop(nth % len(self.flights))

    @precondition(lambda self: any(question.entry for question in self.promises.questions.values()))
    @rule(nth=NUMBERS, cap=st.sampled_from([244_000, 484_000, 88_000]), wrong=st.integers(0, 9))
    def extend(self, nth, cap, wrong):
        entries = [(key, one.entry) for key, one in self.promises.questions.items() if one.entry is not None]
        key, entry = entries[nth % len(entries)]
        name = (entry.name[0], entry.name[1] + (wrong == 0))

        def command() -> None:
            now = self.place.now()
            said = self.place.do(self.place.store.extend(key, *name, 140_000, cap))
            self.promises.extended(key, name, 140_000, cap, said, now)

        self.send(command)

    # what else happens

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(0, 12))
    def late(self, back):
        """A command sent before arrives once more, or only now."""
        command = self.sent[-1 - back % len(self.sent)]
        self.promises.step += 1
        command()
        for key in self.keys:
            self.check_entry(key)

    @rule(ms=TICKS)
    def tick(self, ms):
        self.place.tick(ms)

    @rule(ms=TICKS, nth=QUESTIONS, limits=LIMITS, ends=st.sampled_from("af"))
    def tick_and_look_up(self, ms, nth, limits, ends):
        """What is old is only seen by who asks."""
        self.place.tick(ms)
        self.lookup(nth, (), limits, ends)

    @rule(nth=QUESTIONS, what=st.sampled_from(DISTURBANCES), fields=st.sampled_from([(1,), (2,), (1, 2)]))
    def disturb(self, nth, what, fields):
        """Invalidate, forget, evict: one rule, or else there would be more of this than of all the rest."""
        getattr(self, what)(self.keys[nth], fields)

    def invalidate(self, _key: Any, fields: tuple[int, ...]) -> None:
        def command() -> None:
            self.place.do(self.place.store.invalidate(fields))
            self.promises.invalidated(fields)

        self.send(command)

    def invalidate_everything(self, _key: Any, _fields: tuple[int, ...]) -> None:
        def command() -> None:
            self.place.do(self.place.store.invalidate((), everything=True))
            self.promises.invalidated(EVERYTHING)

        self.send(command)

    def forget(self, key: Any, _fields: tuple[int, ...]) -> None:
        def command() -> None:
            self.place.do(self.place.store.forget(key))
            self.promises.forgotten(key)

        self.send(command)

    def evict_generations(self, _key: Any, _fields: tuple[int, ...]) -> None:
        self.promises.step += 1
        self.place.evict_generations()
        self.promises.lost_generations()

    def evict_entry(self, key: Any, _fields: tuple[int, ...]) -> None:
        self.promises.step += 1
        self.place.evict_entry(key)
        self.promises.lost_entry(key)

    def evict_lease(self, key: Any, _fields: tuple[int, ...]) -> None:
        self.promises.step += 1
        self.place.evict_lease(key)
        self.promises.lost_lease(key)

    # what is always so

    def check_entry(self, key: Any) -> None:
        """What is stored is what was filled, under the generation of its lease: nothing is ever stamped anew."""
        data = self.place.do(self.place.store.entry(key))
        question, now = self.promises.questions[key], self.place.now()
        if data is None and question.entry is not None and question.entry.over(now):
            question.entry = None  # dropped; it must not come back if the clock steps back
        entry = question.entry
        must((data is None) == (entry is None), "stored and not filled, or the reverse", data, entry)
        if entry is None or data is None:
            return
        head = read_entry(data, key.digest, key.form)
        must((head.fill, head.order) == entry.name, "P2: another entry than the last one filled", head, entry)
        must((head.epoch, head.clock) == entry.grant.snapshot, "an entry that was stamped anew", head, entry)
        must(bytes(entry_body(data, head)) == entry.body, "another body", entry)
        found = tuple(date + self.place.passed for date in (head.created, head.fresh, head.stale, head.error))
        dates = (entry.created, entry.fresh, entry.stale, entry.error)
        must(all(abs(one - two) < SLACK for one, two in zip(found, dates, strict=True)), "other dates", found, dates)

    def check_snapshot(self, key: Any, grant: Grant) -> None:
        """A new grant carries the generation of this moment."""
        if self.promises.questions[key].lease is not None and self.promises.began[grant[:2]] == self.promises.step:
            generations = self.place.do(self.place.store.look(key, ())).generations
            must(grant.snapshot == generations[:2], "a grant of another generation", grant, generations)

    def check_tape(self, flight: Flight, *, needed: bool, outcome: bytes) -> None:
        """Who was told to follow finds how it ended, and nobody else's answer."""
        log = self.place.do(self.place.store.tape(flight.key, *flight.grant[:2]))
        ending = None if log is None else read_ending(log)
        must(ending is not None or not needed, "a flight that ended without a word", flight)
        if ending is not None and ending.outcome == SHARED:
            must(ending.body == flight.body, "another flight's answer on the tape", ending, flight)
        must(not needed or ending is None or ending.outcome == outcome, "ended otherwise", ending, outcome)
