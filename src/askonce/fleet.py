"""The fleet thread: one a process and store, for sync and async caches alike.

It beats for every lease that this process holds, hears the words that other processes say about keys somebody here
waits for, and probes a store in trouble. It is a thread, and has a connection of its own, because an event loop that is
blocked for ten seconds, or a caller's thread deep in an upstream call, must not lose a lease for it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from askonce.beat import Beat
from askonce.core.heat import Warmth
from askonce.core.keys import Key
from askonce.core.tape import ALIVE, Word
from askonce.drive import drive
from askonce.ear import Ear, Owner, Party, Signal
from askonce.events import log
from askonce.ownership import Busy, OwnedLock
from askonce.store import TIMEOUT, Link, Store, StoreTrouble
from askonce.store.wakeup import Wakeup
from askonce.users import Users

if TYPE_CHECKING:
    from askonce.scribe import Scribe

HEARTBEAT = 5.0  # s: a lease not renewed for so long may be taken by whoever waits
BEAT = 1.5  # s between renewals
PROBE = 0.5  # s between probes of a store in trouble
PUSH = 1.0  # s that hits are gathered before they are told to the store
PAUSE = 0.25  # s before a broken link is tried again
IDLE = 60.0
LAUNCH = 0.5  # s that a thread may take to begin before another is started; one of them runs


class Breaker:
    """Whether the store is left alone. Opens on one refusal, or two timeouts in a row; a probe alone closes it."""

    def __init__(self) -> None:
        self.open = False
        self.kind = ""
        self._timeouts = 0

    def worked(self) -> None:
        """The store answered a caller."""
        self._timeouts = 0

    def failed(self, kind: str) -> bool:
        """The store did not; True when that opened the breaker."""
        self._timeouts = self._timeouts + 1 if kind == "store-timeout" else 0
        if self.open or not (kind == "store-refused" or self._timeouts >= 2):
            return False
        self.open, self.kind = True, kind
        return True

    def close(self) -> None:
        """A probe succeeded."""
        self.open, self.kind, self._timeouts = False, "", 0


class Fleet:
    """The thread, and what it keeps: beats, parties, the breaker. Started by the first who needs it."""

    heartbeat = HEARTBEAT
    rhythm = BEAT

    def __init__(self, store: Store) -> None:
        self.breaker = Breaker()
        self.users = Users(self.wake)
        self._deferred: deque[Callable[[], object]] = deque()
        self._store = store.blocking()  # of its own: no connection of a cache's may live as long as the fleet
        self._link: Link | None = None
        self._beats: dict[Beat, None] = {}
        self._parties: dict[Key, Party] = {}
        self._changed: deque[Party] = deque()  # that have their first ear, or none any more
        self._forsaken: deque[tuple[Key, bytes]] = deque()
        self._warm: dict[Key, tuple[Warmth, Callable[[Key], None]]] = {}
        self._next_push = 0.0
        self._scribes: dict[Scribe, None] = {}
        self._hurried: set[tuple[bytes, int]] = set()  # (id, order)
        self._running = OwnedLock()
        self._thread: threading.Thread | None = None
        self._began = -LAUNCH
        self._missed = False
        self._stopping = False
        self._wakeup = Wakeup()
        self._next_beat = 0.0
        self._next_probe = 0.0

    # what callers use, from any thread

    def defer(self, work: Callable[[], object]) -> None:
        """Do something in the background thread, if there is one. Takes no lock: what a finaliser may call."""
        self._deferred.append(work)
        self.wake()

    def beat(self, beat: Beat) -> None:
        """Keep a lease alive, until `still`; or see, before it is granted, whether anybody still asks for it."""
        self._due()
        self._beats[beat] = None
        self._start()

    def _due(self) -> None:
        if not (self._beats or self._parties):
            self._next_beat = time.monotonic() + self.rhythm

    def hurry(self, flight: tuple[bytes, int]) -> None:
        """Beat for this flight now, and so learn whether it is waited for."""
        self._hurried.add(flight)
        self.wake()

    def still(self, beat: Beat) -> None:
        """The flight is over."""
        self._beats.pop(beat, None)

    def listen(self, key: Key, signal: Signal, owner: Owner | None = None) -> Ear:
        """An ear for words about `key`; its signal rings when they are sure to arrive."""
        self._due()
        while True:
            party = self._parties.get(key) or self._parties.setdefault(key, Party(key, self._look))
            ear = Ear(party, signal, owner)
            party.ears[ear] = None
            if self._parties.get(key) is party:
                break
            party.ears.pop(ear, None)  # it ended before it could see us
        ear.again = party.in_force
        if not party.subscribed:
            self._changed.append(party)
        self._start()
        return ear

    def _look(self, party: Party) -> None:
        """A party may be over."""
        self._changed.append(party)
        self.wake()

    def forsake(self, key: Key, flight: bytes) -> None:
        """Give back a lease that may have been granted to `flight`, without anybody waiting for it."""
        self._forsaken.append((key, flight))
        self._start()

    def warm(self, key: Key, warmth: Warmth, slid: Callable[[Key], None]) -> None:
        """Add its hits to a key's count in the store, within a second; `slid` is called if that lengthened its life."""
        first = not self._warm
        self._warm[key] = (warmth, slid)
        if first:
            self._next_push = time.monotonic() + PUSH
            self._start()

    def scribble(self, scribe: Scribe) -> None:
        """Append what is new of a stream to its log, now."""
        self._scribes[scribe] = None
        self._start()

    def trouble(self, kind: str) -> bool:
        """A caller met trouble; True when the breaker opened by it."""
        opened = self.breaker.failed(kind)
        if opened:
            self._next_probe = time.monotonic() + PROBE
            self._start()
        return opened

    def wake(self) -> None:
        """Make the thread look at its list again. Takes no lock."""
        self._wakeup.set()
        link = self._link
        if link is not None:
            link.wake()

    def waiting(self) -> int:
        """How many callers wait for other processes."""
        return sum(len(party.ears) for party in list(self._parties.values()))

    def stop(self) -> None:
        """End the thread and close its link."""
        self._stopping = True
        self.wake()
        if self._thread is None:
            drive(self._store.close())
        elif self._thread is not threading.current_thread():
            self._thread.join(2 * TIMEOUT + 1)

    # the thread

    def _start(self) -> None:
        """See to it that the thread runs. Where none can be started (none is left, Python ends) the next use may."""
        now = time.monotonic()
        if not (self._running.held or self._stopping) and now - self._began >= LAUNCH:
            self._began = now
            try:
                self._launch()
            except BaseException:
                self._began = now - LAUNCH
                raise
        self.wake()

    def _launch(self) -> None:
        thread = threading.Thread(target=self._run, name="askonce-fleet", daemon=True)
        try:
            thread.start()
        except Exception as error:  # noqa: BLE001 - a full memory too is not the caller's to hear of
            self._began -= LAUNCH
            if not self._missed:
                self._missed = True
                log.warning("askonce has no background thread (%s): leases are not renewed until one starts", error)
        else:
            self._missed = False

    def _run(self) -> None:
        with contextlib.suppress(Busy):  # another one is at it
            self._running.run(self._work, 0.0)

    def _work(self) -> None:
        self._thread = threading.current_thread()
        while not (self._stopping or self.users.over()):
            self._wakeup.wait(0)
            try:
                self._turn()
            except StoreTrouble as trouble:
                log.debug("the fleet's link: %s", trouble)
                self._wakeup.wait(PAUSE)
            except Exception:  # noqa: BLE001 - whatever it is, it is logged
                # The thread must outlive a bug in a link: without it every lease of the process would die.
                log.exception("the fleet thread of askonce stumbled")
                self._wakeup.wait(PAUSE)
        if self._link is not None:
            self._link.close()
        drive(self._store.close())

    def _turn(self) -> None:
        while self._deferred:
            self._deferred.popleft()()
        if self._link is None:
            self._link = self._store.link()
        if self.breaker.open:
            self._probe()
        self._obey()
        self._give_back()
        now = time.monotonic()
        if (self._beats or self._parties) and now >= self._next_beat:
            self._next_beat = now + self.rhythm
            self._hurried.clear()
            self._renew(now, None)
        elif self._hurried:
            self._renew(now, {self._hurried.pop() for _ in range(len(self._hurried))})
        if self._scribes:
            self._write()
        if self._warm and now >= self._next_push:
            self._push()
        words, ready = self._link.poll(self._patience())
        for key in ready:
            self._in_force(key)
        for key, word in words:
            party = self._parties.get(key)
            if party is not None:
                party.hear(word)

    def _patience(self) -> float:
        if self._changed or self._forsaken or self._scribes or self._hurried or self._deferred or self._stopping:
            return 0.0
        due = [IDLE]
        if self._beats or self._parties:
            due.append(self._next_beat - time.monotonic())
        if self.breaker.open:
            due.append(self._next_probe - time.monotonic())
        if self._warm:
            due.append(self._next_push - time.monotonic())
        return max(0.0, min(due))

    def _obey(self) -> None:
        while self._changed:
            party = self._changed[0]
            if party.ears:
                self._open(party)
            elif self._parties.get(party.key) is party:
                self._end(party)
            self._changed.popleft()

    def _open(self, party: Party) -> None:
        assert self._link is not None
        if not party.subscribed:
            self._link.subscribe(party.key)
            party.subscribed = True

    def _end(self, party: Party) -> None:
        assert self._link is not None
        del self._parties[party.key]
        if not party.ears:
            self._link.unsubscribe(party.key)
            return
        # Somebody came between the look and the end; another may have found no party, and made one.
        other = self._parties.setdefault(party.key, party)
        if other is not party:
            other.subscribed, other.in_force = party.subscribed, party.in_force
            for ear in list(party.ears):
                other.ears[ear] = None
                ear.party = other
            for ear in list(other.ears):
                ear.ring(None)

    def _give_back(self) -> None:
        assert self._link is not None
        while self._forsaken:
            key, flight = self._forsaken.popleft()  # tried once: a lease that nobody renews dies in seconds
            self._link.release(key, flight)

    def _in_force(self, key: Key) -> None:
        party = self._parties.get(key)
        if party is not None:
            party.in_force = True
            for ear in list(party.ears):
                ear.ring(None)

    def _bury(self) -> None:
        """Take from owners who do not live any more what they hold here, before it is renewed once more."""
        for beat in list(self._beats):
            if not beat.alive():
                beat.gone()
        for party in list(self._parties.values()):
            for ear in list(party.ears):
                if ear.owner is not None and not ear.owner.alive():
                    party.leave(ear)

    def _renew(self, now: float, only: Collection[tuple[bytes, int]] | None) -> None:
        assert self._link is not None
        if only is None:
            self._bury()
            for beat in list(self._beats):
                if now >= beat.until:
                    self.still(beat)
        beats = [beat for beat in list(self._beats) if beat.order and (only is None or (beat.id, beat.order) in only)]
        held = [beat for beat in beats if not beat.lost]
        lost = [beat for beat in beats if beat.lost]
        said = self._link.renew([beat.held for beat in held], int(self.heartbeat * 1000)) if held else []
        for beat, word in zip(held, said, strict=True):
            if word == "lost":
                beat.lose()
                lost.append(beat)
            elif word == "want":
                beat.want()
        for beat in lost:
            # Those who were told to follow this flight may still have its answer, and can learn of it only from here.
            self._link.say(beat.key, Word(ALIVE, beat.id, beat.order))

    def _write(self) -> None:
        while self._scribes:
            scribe, _ = self._scribes.popitem()
            scribe.flush(self._store)

    def _push(self) -> None:
        store = self._store
        warm = [(key, *self._warm.pop(key)) for key in list(self._warm)]
        for key, warmth, slid in warm:
            head, threshold = warmth.head, warmth.terms.hot_threshold
            hot = drive(store.count(key, warmth.taken(), warmth.window)) >= threshold
            slide = warmth.slide() if hot else None
            if slide is not None and drive(store.extend(key, head.fill, head.order, *slide)):
                slid(key)

    def _probe(self) -> None:
        now = time.monotonic()
        if now < self._next_probe:
            return
        self._next_probe = now + PROBE
        assert self._link is not None
        self._link.probe()
        self.breaker.close()
        for user in self.users.alive():
            user.back()
