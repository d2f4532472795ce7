"""The fleet thread: one a process and store, for sync and async caches alike.

It beats for every lease that this process holds, hears the words that other processes say about keys somebody here
waits for, and probes a store in trouble. It is a thread, and has a connection of its own, because an event loop that is
blocked for ten seconds, or a caller's thread deep in an upstream call, must not lose a lease for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from askonce.core.heat import Warmth
from askonce.core.keys import Key
from askonce.core.tape import ALIVE, Word
from askonce.drive import drive
from askonce.ear import Ear, Party, Signal
from askonce.events import log
from askonce.store import TIMEOUT, Held, Link, Store, StoreTrouble
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


class Beat:
    """A lease that the fleet thread keeps alive. `lost` is set, once, when somebody else has it."""

    def __init__(self, held: Held, until: float, on_lost: Callable[[], None]) -> None:
        self.held = held
        self.until = until
        self.lost = False
        self.wanted = False  # somebody in another process waits
        self.on_want: Callable[[], object] | None = None
        self._on_lost = on_lost

    def want(self) -> None:
        """The store said that it is waited for; kept for a stream that is not open yet."""
        self.wanted = True
        if self.on_want is not None:
            self.on_want()

    def lose(self) -> None:
        """The store said so."""
        if not self.lost:
            self.lost = True
            self._on_lost()


class Fleet:
    """The thread, and what it keeps: beats, parties, the breaker. Started by the first who needs it."""

    heartbeat = HEARTBEAT
    rhythm = BEAT

    def __init__(self, store: Store) -> None:
        self.breaker = Breaker()
        self.lock = threading.RLock()
        self.users = Users(self.wake)
        self._deferred: deque[Callable[[], object]] = deque()
        self._store = store.blocking()  # of its own: no connection of a cache's may live as long as the fleet
        self._link: Link | None = None
        self._beats: set[Beat] = set()
        self._parties: dict[Key, Party] = {}
        self._commands: deque[tuple[str, Party]] = deque()
        self._forsaken: deque[tuple[Key, bytes]] = deque()
        self._warm: dict[Key, tuple[Warmth, Callable[[Key], None]]] = {}
        self._next_push = 0.0
        self._scribes: set[Scribe] = set()
        self._hurried: set[tuple[bytes, int]] = set()  # (id, order)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._wakeup = Wakeup()
        self._next_beat = 0.0
        self._next_probe = 0.0

    # what callers use, from any thread

    def defer(self, work: Callable[[], object]) -> None:
        """Do something in the background thread, if there is one. Takes no lock: what a finaliser may call."""
        self._deferred.append(work)
        self.wake()

    def beat(self, held: Held, life: float, on_lost: Callable[[], None]) -> Beat:
        """Keep a lease alive, for at most `life` s, until `still`."""
        beat = Beat(held, time.monotonic() + life, on_lost)
        with self.lock:
            if not self._beats:
                self._next_beat = time.monotonic() + self.rhythm
            self._beats.add(beat)
        self._start()
        return beat

    def hurry(self, flight: tuple[bytes, int]) -> None:
        """Beat for this flight now, and so learn whether it is waited for."""
        with self.lock:
            self._hurried.add(flight)
        self.wake()

    def still(self, beat: Beat) -> None:
        """The flight is over."""
        with self.lock:
            self._beats.discard(beat)

    def listen(self, key: Key, signal: Signal) -> Ear:
        """An ear for words about `key`; its signal rings when they are sure to arrive."""
        with self.lock:
            party = self._parties.get(key)
            if party is None:
                party = self._parties[key] = Party(key, self.lock, self._left)
                self._commands.append(("subscribe", party))
            ear = Ear(party, signal)
            party.ears.append(ear)
            ear.again = party.in_force
        self._start()
        return ear

    def _left(self, party: Party) -> None:
        """A caller left; an empty party is over."""
        with self.lock:
            if party.ears or self._parties.get(party.key) is not party:
                return
            del self._parties[party.key]
            self._commands.append(("unsubscribe", party))
        self.wake()

    def forsake(self, key: Key, flight: bytes) -> None:
        """Give back a lease that may have been granted to `flight`, without anybody waiting for it."""
        self._forsaken.append((key, flight))
        self._start()

    def warm(self, key: Key, warmth: Warmth, slid: Callable[[Key], None]) -> None:
        """Add its hits to a key's count in the store, within a second; `slid` is called if that lengthened its life."""
        with self.lock:
            first = not self._warm
            self._warm[key] = (warmth, slid)
            if first:
                self._next_push = time.monotonic() + PUSH
        if first:
            self._start()

    def scribble(self, scribe: Scribe) -> None:
        """Append what is new of a stream to its log, now."""
        with self.lock:
            self._scribes.add(scribe)
        self._start()

    def trouble(self, kind: str) -> bool:
        """A caller met trouble; True when the breaker opened by it."""
        with self.lock:
            opened = self.breaker.failed(kind)
            if opened:
                self._next_probe = time.monotonic() + PROBE
        if opened:
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
        with self.lock:
            return sum(len(party.ears) for party in self._parties.values())

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
        with self.lock:
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="askonce-fleet", daemon=True)
                self._thread.start()
                return
        self.wake()

    def _run(self) -> None:
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
        if self._beats and now >= self._next_beat:
            self._next_beat = now + self.rhythm
            self._renew(now, None)
        elif self._hurried:
            self._renew(now, self._hurried)
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
        if self._commands or self._forsaken or self._scribes or self._hurried or self._deferred or self._stopping:
            return 0.0
        due = [IDLE]
        if self._beats:
            due.append(self._next_beat - time.monotonic())
        if self.breaker.open:
            due.append(self._next_probe - time.monotonic())
        if self._warm:
            due.append(self._next_push - time.monotonic())
        return max(0.0, min(due))

    def _obey(self) -> None:
        assert self._link is not None
        while self._commands:
            what, party = self._commands[0]
            if what == "subscribe":
                self._link.subscribe(party.key)
            elif party.key not in self._parties:
                self._link.unsubscribe(party.key)
            self._commands.popleft()

    def _give_back(self) -> None:
        assert self._link is not None
        while self._forsaken:
            key, flight = self._forsaken.popleft()  # tried once: a lease that nobody renews dies in seconds
            self._link.release(key, flight)

    def _in_force(self, key: Key) -> None:
        with self.lock:
            party = self._parties.get(key)
            if party is None:
                return
            party.in_force = True
            ears = list(party.ears)
        for ear in ears:
            ear.ring(None)

    def _renew(self, now: float, only: Collection[tuple[bytes, int]] | None) -> None:
        assert self._link is not None
        with self.lock:
            self._hurried = set()
            if only is None:
                self._beats = {beat for beat in self._beats if now < beat.until}
            beats = [beat for beat in self._beats if only is None or beat.held[1:] in only]
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
            self._link.say(beat.held.key, Word(ALIVE, beat.held.id, beat.held.order))

    def _write(self) -> None:
        with self.lock:
            scribes, self._scribes = self._scribes, set()
        for scribe in scribes:
            scribe.flush(self._store)

    def _push(self) -> None:
        with self.lock:
            warm, self._warm = self._warm, {}
        store = self._store
        for key, (warmth, slid) in warm.items():
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
        with self.lock:
            self.breaker.close()
        for user in self.users.alive():
            user.back()
