"""The background thread: one for each process and store, for sync and async caches alike.

It renews every lease of this process, receives other processes' notices about keys that a caller here waits for, and
probes a store in trouble. It is a thread with its own connection: a lease must not be lost because an event loop is
blocked for ten seconds, or because a caller's thread is deep in an upstream call.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from askonce.core.breaker import SILENT, Breaker, Direction, StoreBreakers
from askonce.core.hot_keys import KeyHits
from askonce.core.keys import Key
from askonce.events import log
from askonce.flight.accounts import Accounts
from askonce.flight.bookings import TALLY_KEY
from askonce.flight.heartbeat import Heartbeat
from askonce.flight.heartbeats import Heartbeats, give_back
from askonce.flight.hit_counts import TOLD, HitCounts
from askonce.flight.link_trouble import LinkTrouble
from askonce.flight.listening import Listening
from askonce.flight.note_queue import NoteQueue
from askonce.flight.probes import Probes
from askonce.flight.users import Unflushed, Users
from askonce.runtime.drive import drive
from askonce.runtime.exits import ending, start_thread
from askonce.runtime.ownership import Busy, OwnedLock
from askonce.runtime.wakeup import Wakeup
from askonce.store import TIMEOUT, Link, Store, StoreTrouble

HEARTBEAT = 5.0  # s: a lease that was not renewed for so long may be taken by a waiting caller
RENEWAL = 1.5  # s between renewals
PAUSE = 0.25  # s before a broken link is made again; doubled each time the new one breaks at once
LONGEST_PAUSE = 0.5
SLICE = 0.05  # s of other work between two checks of what is due
BATCH = 128  # commands in one round trip
IDLE = 60.0
LAUNCH = 0.5  # s for a thread to begin; after that another one is started, and one of them runs


class BackgroundThread(Listening):
    """The thread and its data: heartbeats, wait lists, breakers. Started when it is first needed."""

    heartbeat = HEARTBEAT
    rhythm = RENEWAL

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.breakers = StoreBreakers()
        self.users = Users(self.wake)
        self.boards = weakref.WeakValueDictionary[int, Any]()  # of the caches of this process that use the store
        self._deferred: deque[Callable[[], object]] = deque()
        self._store = store.blocking()  # its own: no cache's connection may live as long as this thread
        self._heartbeats = Heartbeats()
        self._to_send: deque[Callable[[Store], object]] = deque()
        self._to_release: deque[tuple[Key, bytes, bool]] = deque()
        self.hits = HitCounts(self._store.visits, self.start)
        self.accounts = Accounts(self.start)
        self.notes = NoteQueue(self.start)
        self._probes = Probes(self.breakers, self._store)
        self._unflushed: dict[Unflushed, None] = {}
        self._running = OwnedLock()
        self._thread: threading.Thread | None = None
        self._began = -LAUNCH
        self._missed = False
        self._stopping = False
        self._over = False
        self._wakeup = Wakeup()
        self._link_trouble = LinkTrouble(self.users, self.breakers)
        self._pause = PAUSE
        self._last_error = ""

    # called from any thread

    @property
    def runs(self) -> bool:
        """Whether the thread runs."""
        return self._running.held

    def defer(self, work: Callable[[], object]) -> None:
        """Run `work` in the background thread, if it runs. Takes no lock, so a finaliser may call it."""
        self._deferred.append(work)
        self.wake()

    def keep_alive(self, heartbeat: Heartbeat) -> None:
        """Keep a lease alive until `stop_renewing`. Before the lease is granted, only watch whether its owner lives."""
        self._due()
        self._heartbeats.add(heartbeat)
        self.start(wake=not self._heartbeats.watched)

    def _due(self) -> None:
        if not (self._heartbeats or self._wait_lists):
            self._heartbeats.next = time.monotonic() + self.rhythm

    def renew_now(self, flight: tuple[bytes, int]) -> None:
        """Renew this flight's lease now; the reply says whether another process waits for it."""
        self._heartbeats.renew_now(flight)
        self.wake()

    def stop_renewing(self, heartbeat: Heartbeat) -> None:
        """Stop renewing: the flight is over."""
        self._heartbeats.discard(heartbeat)

    def send(self, work: Callable[[Store], object]) -> None:
        """Call `work` with the thread's own store, in the background: it sends what was paid for."""
        self._to_send.append(work)
        self.start()

    def release(self, key: Key, flight: bytes, *, failed: bool = False) -> None:
        """Give back a lease that may have been granted to `flight`, in the background; `failed` as in Store.release."""
        self._to_release.append((key, flight, failed))
        self.start()

    def warm(self, key: Key, key_hits: KeyHits, slid: Callable[[Key], None]) -> None:
        """Add a key's hits to its count in the store, within a second. Calls `slid` if that lengthens its life."""
        self.hits.add(key, key_hits, slid)

    def flush(self, writer: Unflushed) -> None:
        """Have the thread call `writer.flush` now."""
        self._unflushed[writer] = None
        self.start()

    def trouble(self, trouble: StoreTrouble, direction: Direction) -> list[Breaker]:
        """Count a caller's store trouble; return the breakers that it opened."""
        if trouble.at == "key":
            return []
        connecting = trouble.at == "connecting"
        opened = self.breakers.failed(trouble.primary, direction, trouble.kind, connecting=connecting)
        if opened:
            self._probes.begin()
            self.start()
        return opened

    def writes(self, key: Key) -> bool:
        """Whether writes about a key are tried."""
        return not self.breakers.open_at(self._store.primary(key), "write")

    @property
    def state(self) -> str:
        """The state of the background connection: ``ok``, ``idle`` if none was needed yet, or its trouble."""
        trouble = self._link_trouble.kind
        return trouble or ("idle" if self._link is None else "ok")

    def wake(self) -> None:
        """Make the thread check its work again. Takes no lock."""
        self._wakeup.set()
        link = self._link
        if link is not None:
            link.wake()

    def stop(self) -> None:
        """End the thread and close its link."""
        self._stopping = True
        self.wake()
        if self._thread is None:
            drive(self._store.close())
        elif self._thread is not threading.current_thread():
            self._thread.join(2 * TIMEOUT + 1)

    def start(self, *, wake: bool = True) -> None:
        """Make sure the thread runs. If none can be started (none is left, Python ends), the next use tries again."""
        now = time.monotonic()
        if not (self._running.held or self._stopping) and now - self._began >= LAUNCH:
            self._began = now
            try:
                self._launch()
            except BaseException:
                self._began = now - LAUNCH
                raise
        if wake:
            self.wake()

    def _launch(self) -> None:
        if start_thread("askonce-background", self._run) is not None:
            self._missed = False
            return
        self._began -= LAUNCH
        if not (self._missed or ending()):
            self._missed = True
            log.warning("askonce cannot start its background thread: leases are not renewed until it starts")

    # runs in the thread

    def _run(self) -> None:
        """Run until nothing needs the thread. An exception ends it early only if it was about to end anyway."""
        while not self._over:
            try:
                self._running.run(self._work, 0.0)
            except Busy:
                return  # another thread does this work
            except BaseException as error:  # noqa: BLE001 - the leases must be renewed whatever went wrong here
                self._on_error(error)

    def _work(self) -> None:
        self._thread = threading.current_thread()
        while not (self._stopping or self.users.over()):
            self._wakeup.wait(0)
            try:
                self._turn()
            except StoreTrouble as trouble:
                self._on_trouble(trouble)
            except Exception as error:  # noqa: BLE001 - any error is logged
                # The thread must outlive a bug in a link: otherwise every lease of the process would expire.
                self._on_error(error)
            else:
                self._on_success()
        self._over = True
        self._finish_deferred()
        self._unlink()
        self._probes.end()
        drive(self._store.close())

    def _finish_deferred(self) -> None:
        """Do what was handed to this thread while its last user left: nothing else will do it."""
        try:
            while self._deferred:
                self._deferred.popleft()()
            while self._to_send:
                self._send()
            while self._to_release:
                self._give_back()
            drive(self._store.tell(TOLD))
            self.accounts.end(self._store)
            self.notes.end(self._store)
        except Exception as error:  # noqa: BLE001 - the thread ends in any case
            log.debug("left undone: %r", error)

    def _on_trouble(self, trouble: StoreTrouble) -> None:
        """The link broke or cannot be made."""
        self._link_trouble.met(trouble)
        self._rest()

    def _rest(self) -> None:
        """Wait before the next attempt. Each lookup wakes this thread, and must not make it connect each time."""
        until = time.monotonic() + self._pause
        while (left := until - time.monotonic()) > 0 and not (self._stopping or self._deferred or self.users.over()):
            self._wakeup.wait(left)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _on_error(self, error: BaseException) -> None:
        if self._last_error != repr(error):
            self._last_error = repr(error)
            log.exception("an exception in the background thread of askonce; the thread continues")
        self._unlink()
        self._unsubscribed()
        self._rest()

    def _on_success(self) -> None:
        # Of several primaries, one may have trouble: the others' work must not wait for it.
        part = self._link.trouble if self._link is not None else None
        if part is not None:
            self._link_trouble.met(part)
        elif self._link_trouble.over() or self._last_error:
            self._last_error = ""
            self._probes.hurry()
        self._pause = PAUSE

    def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _turn(self) -> None:
        """Do what is due first, then a slice of the rest."""
        while self._deferred:
            self._deferred.popleft()()
        if self._probes.due() <= 0:
            self._probes.probe(self._recovered)
        if self._link is None:
            self._link = self._store.link()
        self._do_due(self._link)
        self._update_subscriptions()
        self._do_rest()
        notices, ready = self._link.poll(self._patience())
        for key in ready:
            self._in_force(key)
        for key, notice in notices:
            wait_list = self._wait_lists.get(key)
            if wait_list is not None:
                wait_list.notify(notice)
        if notices:
            time.sleep(0)  # the woken threads run first: the rest of a turn cost each a tenth of a millisecond

    def _do_due(self, link: Link) -> None:
        if (self._heartbeats or self._wait_lists) and time.monotonic() >= self._heartbeats.next:
            self._reap()
            self._heartbeats.renew(link, self.heartbeat, self.rhythm)
        elif self._heartbeats.urgent:
            self._heartbeats.renew_urgent(link, self.heartbeat)

    def _do_rest(self) -> None:
        """Do what may be late: for one slice, or until the next renewal is due."""
        until = time.monotonic() + SLICE
        if self._heartbeats:
            until = min(until, self._heartbeats.next)
        rest = (self._to_send, self._send), (self._to_release, self._give_back), (self._unflushed, self._write)
        for more, work in rest:
            while more and time.monotonic() < until:
                work()
        if self.breakers.shut:
            self.hits.forget(lambda key: not self.writes(key))
            self.notes.forget()
        while self.hits.due() <= 0 and time.monotonic() < until:
            self.hits.send(self._store)
        if self.accounts.due() <= 0:
            self.accounts.send(self._store, writes=self.writes(TALLY_KEY))
        while self.notes.due() <= 0 and time.monotonic() < until:
            self.notes.send(self._store)

    def _patience(self) -> float:
        self._heartbeats.unwatched()
        to_do = self._changed or self._to_send or self._to_release or self._unflushed
        if to_do or self._heartbeats.urgent or self._deferred or self._stopping:
            return 0.0
        rest = min(IDLE, self._probes.due(), self.hits.due(), self.accounts.due(), self.notes.due())
        return self._heartbeats.watch(rest, self.rhythm, waited_for=bool(self._wait_lists))

    def _send(self) -> None:
        self._to_send.popleft()(self._store)

    def _give_back(self) -> None:
        some = [self._to_release.popleft() for _ in range(min(BATCH, len(self._to_release)))]
        drive(self._store.together([partial(give_back, *one) for one in some]))  # one attempt: they expire in seconds

    def _reap(self) -> None:
        """Take back what owners that no longer live hold here, before it is renewed again."""
        self._heartbeats.reap()
        for wait_list in list(self._wait_lists.values()):
            for waiter in list(wait_list.waiters):
                if waiter.owner is not None and not waiter.owner.alive():
                    wait_list.leave(waiter)

    def _write(self) -> None:
        some = [self._unflushed.popitem()[0] for _ in range(min(BATCH, len(self._unflushed)))]
        try:
            drive(self._store.together([writer.flush for writer in some]))
        except StoreTrouble:
            raise
        except BaseException:
            self._unflushed |= dict.fromkeys(some)  # remote readers must not wait for the next part
            raise

    def _recovered(self, primary: str, breaker: Breaker, kind: str) -> None:
        """A probe closed a breaker of a primary: report it."""
        if kind == "store-readonly" or kind in SILENT:
            self._store.reconnect(primary)  # other connections may still lead to the old server, or nowhere
        for user in self.users.alive():
            user.recovered(breaker.direction, kind)
