"""The Leader makes a flight's upstream call under its lease, and lands the answer where others can read it.

An answer that may be stored goes to the store. One that may not goes to the flight's tape, for the callers that were
told to follow. Callers of this process get it either way. The caller decides which call is made, and how its answer
is judged: a Call returns an Answer.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from askonce.core import upstream
from askonce.core.judge import refused
from askonce.core.lease import Grant
from askonce.core.model import DURATION, FIELDS, Lifetime, Sealed, pack_fields, seal, whole
from askonce.core.providers.usage import Bill, Usage, usage_in
from askonce.core.tape import FAILED, SHARED, Ending
from askonce.engine.accounting import CALL, Accounting
from askonce.engine.answer import Answer, Landed, Landing, lifetime_of, sent, unsent
from askonce.engine.noting import Noting
from askonce.engine.question import Question
from askonce.events import Events
from askonce.flight.background import BackgroundThread
from askonce.flight.board import Board
from askonce.flight.flight import Flight, NoResult, Unshared, within
from askonce.flight.guarded_store import GuardedStore
from askonce.flight.heartbeat import LastWrite, Work
from askonce.runtime.mode import Mode
from askonce.store import Store, StoreTrouble
from askonce.stream.pump import Pump
from askonce.stream.tape import Cut, Opened, Tape
from askonce.stream.writer import LogWriter

Call = Callable[[], Awaitable[Answer | Opened]]


class Leader:
    """Runs the flights of one engine."""

    def __init__(self, guarded: GuardedStore, board: Board, mode: Mode) -> None:
        self._mode = mode
        self._guarded = guarded
        self._store = guarded.store
        self._background: BackgroundThread = guarded.background
        self._events: Events = guarded.events
        self._board = board
        self._codec = guarded.codec
        self.accounting = Accounting(guarded)
        self.noting = Noting(guarded)

    async def run(self, flight: Flight, question: Question, call: Call) -> None:
        """Make the upstream call and land it. The call's errors are landed; only SystemExit and its like are raised."""
        self._lead(flight, question)
        self._events.emit("call", question.key.text, refresh=flight.is_refresh, **question.said)
        brought: Answer | Opened | None = None
        pump: Pump | None = None
        try:
            brought = await within([flight], call)
        except Exception as error:  # noqa: BLE001 - any upstream error: it is landed, and raised in join
            await self._land_error(flight, question, error)
        except GeneratorExit as error:
            self._brought_nothing([(flight, question)], error)
            raise  # its event loop is gone, so nothing can be awaited; the background thread finds its owner gone
        except BaseException as error:
            if not isinstance(brought, Answer):
                await self._land_cut_off(flight, question, error)
            raise
        else:
            if isinstance(brought, Opened):
                pump = flight.pump = self._pump(flight, question, brought)
            else:
                await self._land_answer(flight, question, brought)
        finally:
            if pump is None and not isinstance(sys.exception(), GeneratorExit):
                if not flight.done:
                    await self._unlanded(flight, question, brought)
                self._over(flight)
        if pump is not None:
            await self._streams(flight, pump)

    async def _unlanded(self, flight: Flight, question: Question, brought: Answer | Opened | None) -> None:
        """An interrupt came between a call and its landing, or even before its answer was to be sent to the store."""
        if isinstance(brought, Opened):
            await brought.source.close()
        elif brought is not None and unsent(flight):
            self._answered(flight, question, brought)

    async def _land_cut_off(self, flight: Flight, question: Question, error: BaseException) -> None:
        """Give the lease back: an exception that is no error of upstream ended the call."""
        self._brought_nothing([(flight, question)], error)
        self.lost(flight, "cut-off")
        await self._return(flight, Ending(FAILED, "gone"), NoResult(error), failed=flight.is_refresh)
        flight.land(error=NoResult(error))

    async def _land_error(self, flight: Flight, question: Question, error: Exception) -> None:
        """Give the lease back, with a backoff if the error calls for one, and land the error.

        Nobody gets what a call that was left off makes of its cancellation, nor is that trouble of upstream.
        """
        self._brought_nothing([(flight, question)], error)
        ending, left = self._failed(question, error), bool(flight.left_off)
        failed = not left and self._failed_for(flight, error)
        self.noting.ended(flight, question, ending.detail, failed=not isinstance(error, Unshared))
        shared = NoResult(error) if left else error
        await self._return(flight, ending, shared, failed=failed, hint=upstream.hint_of(error))
        flight.land(error=shared)

    async def _land_answer(self, flight: Flight, question: Question, answer: Answer) -> None:
        """Book the call, store its answer if that is allowed, and land it."""
        landing = self._answered(flight, question, answer)
        flight.land(await self._send_last(flight) or self._landed_by(flight, landing, None))

    def _answered(self, flight: Flight, question: Question, answer: Answer) -> Landing:
        """Book a call; the store's work for its answer, which is the flight's last write from here on."""
        flight.answered = True
        seconds = time.monotonic() - flight.began
        answer = self.accounting.paid(flight, question, answer, seconds)
        self._called(question, seconds, flight.paid.cost.usage)
        self.accounting.took(CALL, seconds)
        return self._landing(flight, question, answer, seconds)

    def _called(self, question: Question, seconds: float, usage: Usage | None, error: str = "") -> None:
        """Emit the event of a call's end; with the tokens that it told, if somebody listens."""
        told: dict[str, Any] = usage._asdict() if usage is not None and self._events.observed else {}
        self._events.emit("called", question.key.text, seconds=seconds, error=error, **told, **question.said)

    def _usage(self, bills: Sequence[Bill]) -> Usage | None:
        return usage_in(bills) if self._events.observed else None

    def _brought_nothing(self, group: Sequence[tuple[Flight, Question]], error: BaseException) -> None:
        self.accounting.failed(group, time.monotonic() - group[0][0].began, error)

    @staticmethod
    def _failed_for(flight: Flight, error: BaseException) -> bool:
        """Whether an error delays the next attempt. Trouble does, and every failed refresh except a refused one.

        A refusal of the request itself, such as a revoked key, must reach a caller as soon as possible. A Cut says that
        a stream was left or interrupted here, which is no trouble of upstream.
        """
        in_trouble = upstream.trouble(error) and not isinstance(error, Cut)
        return bool(in_trouble) or (flight.is_refresh and upstream.status_of(error) is None)

    def _failed(self, question: Question, error: Exception) -> Ending:
        """Emit the event of a call without an answer, and return its ending."""
        name, why = ("unstored", error.detail) if isinstance(error, Unshared) else ("failed", type(error).__name__)
        self._events.emit(name, question.key.text, why, **question.said)
        if name == "unstored":
            self.accounting.unstored(why)
        return Ending(FAILED, why)

    def _over(self, flight: Flight) -> None:
        why = sys.exception()  # the cause, if the flight has not landed yet
        self._board.end(flight, why if isinstance(why, Exception) else NoResult(why))

    def _pump(self, flight: Flight, question: Question, opened: Opened) -> Pump:
        def handed_over(error: BaseException | None) -> None:
            self._stream_over(flight, question, pump, error, "")
            self._over(flight)

        async def landed(error: BaseException | None, refusal: str) -> None:
            self._stream_over(flight, question, pump, error, refusal)
            await self._send_last(flight)
            self._over(flight)

        pump = Pump(opened, Tape(opened.meta), self._mode, question.terms.max_answer_bytes, landed, handed_over)
        return pump

    async def _streams(self, flight: Flight, pump: Pump) -> None:
        """Land when there is something to read. The flight goes on, and ends with its pump."""
        if (heartbeat := flight.heartbeat) is not None:
            writer = pump.writer = LogWriter(flight, pump.tape, self._background, self._codec)
            heartbeat.on_want = writer.want
            if heartbeat.wanted:
                writer.want()
            writer.on_want = wanted = partial(self._wanted, flight, pump, heartbeat.until)
            if writer.wanted:
                wanted()
        pump.awaited = not flight.is_refresh
        flight.land(pump)
        if self._mode.asynchronous or flight.is_refresh:  # a stream in a caller's thread is read by its reader
            await pump.run()

    @staticmethod
    def _wanted(flight: Flight, pump: Pump, until: float) -> None:
        """Another process reads a stream: it goes on without a reader here, as long as its lease is renewed."""
        if pump.abandoned and flight.cancel is None:
            pump.within(until - time.monotonic())
        pump.run_without_readers()

    def _stream_over(
        self, flight: Flight, question: Question, pump: Pump, error: BaseException | None, refusal: str
    ) -> None:
        """Make a stream's end its flight's last write, once, with the end of its log for other processes."""
        if flight.last is None and not flight.over:
            self._taped(flight, question, pump, error, refusal)
            self._end_log(flight, pump, refusal or (type(error).__name__[:64] if error is not None else ""))

    def _end_log(self, flight: Flight, pump: Pump, why: str) -> None:
        if (last := flight.last) is not None and pump.writer is not None:
            last.work = partial(self._with_log, pump.writer, Ending(FAILED if why else SHARED, why), last.work)

    def _taped(self, flight: Flight, question: Question, pump: Pump, error: BaseException | None, refusal: str) -> None:
        """What the store is asked at a stream's end: to store it if it is whole, else to take the lease back."""
        seconds, why = time.monotonic() - flight.began, type(error).__name__ if error is not None else ""
        bills = pump.scan.bills()
        self._called(question, seconds, self._usage(bills), why)
        if pump.abandoned:
            self._events.emit("abandoned", question.key.text, pump.abandoned, tokens=pump.scan.usage())
        self.accounting.took(CALL, seconds)
        if refusal or error is not None:
            unread = Answer(None, refused(refusal or why), bills=bills)
            self.accounting.cut(flight, question, unread, seconds)
        if refusal:
            self._unstored(question, refusal)
            self.noting.ended(flight, question, refusal)
            self._returning(flight, Ending(FAILED, refusal), NoResult(), failed=flight.is_refresh)
        elif error is not None:
            self._events.emit("failed", question.key.text, type(error).__name__, **question.said)
            ending = Ending(FAILED, type(error).__name__)
            self.noting.ended(flight, question, ending.detail, failed=True)
            self._returning(flight, ending, NoResult(), failed=self._failed_for(flight, error))
        else:
            answer = Answer(pump.tape.log(), pump.scan.verdict(time.time()), bills=bills)
            answer = self.accounting.paid(flight, question, answer, seconds)
            landing = self._landing(flight, question, answer, seconds)
            if landing.work is None:
                self._landed_by(flight, landing, None)

    async def abandon(self, flight: Flight) -> None:
        """Give up the lease of a call that runs in a thread and cannot be ended: others need not wait for it."""
        await self._return(flight, Ending(FAILED, "closed"), NoResult(), failed=flight.is_refresh)

    async def give_up(self, flights: Sequence[Flight]) -> None:
        """The interpreter ends first: set a backoff for these flights, over a connection that needs no event loop."""
        store = self._store.blocking()
        for flight in flights:
            if flight.last is None:
                self.lost(flight, "exit")
                self._returning(flight, Ending(FAILED, "exit"), NoResult(), failed=True)
            if (last := flight.last) is not None:
                last.over(await last.ask(store))
            flight.last, flight.returned = None, True
            self._board.end(flight)
        await store.close()

    def lost(self, flight: Flight, why: str) -> None:
        """Emit the event of a refresh that ends before its call. Any other call has a caller that gets an error."""
        if flight.is_refresh and not flight.dropped:
            flight.dropped = True
            self._events.emit("dropped", flight.key.text, why)
            self._events.warn_once(
                "refresh-lost", "a refresh was dropped (%s): its call may be paid, and its answer is not stored", why
            )

    def _lead(self, flight: Flight, question: Question) -> None:
        """Renew the lease from now on, for as long as a call may take."""
        if flight.heartbeat is not None:
            flight.heartbeat.until = time.monotonic() + question.terms.max_flight
            flight.heartbeat.on_lost = partial(self._lease_lost, flight)

    def _lease_lost(self, flight: Flight) -> None:
        if not (flight.ends() or flight.over):  # else its own last write ended it, before a renewal under way
            self._events.emit("lost", flight.key.text)

    async def _with_log(self, writer: LogWriter, ending: Ending, work: Work, store: Store) -> object:
        """End a log for other processes, and then what it is the log of."""
        with contextlib.suppress(StoreTrouble):  # counted; followers find a log without an end, and report that
            await self._guarded(writer.key, writer.finish(store, ending))
        return await work(store)

    async def _send_last(self, flight: Flight) -> object:
        """Send a flight's last write, if it has one; return what the reply comes to.

        If this is interrupted, the flight's end hands it over to the background thread.
        """
        if (last := flight.last) is None:
            return None
        try:
            said = await last.ask(self._store)
        except Exception:
            flight.last = None  # a bug of a store's: it would meet it again
            raise
        return sent(flight, last, said)

    def _landing(self, flight: Flight, question: Question, answer: Answer, seconds: float) -> Landing:
        """The store's work for an answer, which is booked. It is the flight's last write from here on."""
        landing = self._judged(flight, question, answer, seconds)
        if landing.work is not None:
            shared = Landed(answer, stored=False, detail=landing.detail)
            over = partial(self._landed_by, flight, landing)
            flight.last = LastWrite(landing.work, partial(self._guarded, flight.key), over, shared)
        return landing

    def _judged(self, flight: Flight, question: Question, answer: Answer, seconds: float) -> Landing:
        """Whether an answer is stored, or its lease is given back with it."""
        detail = answer.verdict.reason
        if answer.body is not None and len(answer.body) > question.terms.max_answer_bytes:
            detail = detail or "too-large"
        noted = partial(self.noting.ended, flight, question, seconds=seconds)
        if flight.grant is None:
            return Landing(answer, detail, None, note=noted)
        if detail or answer.body is None:
            self._unstored(question, detail)
            shared = Ending(SHARED, detail, answer.body) if answer.body is not None else Ending(FAILED, detail)
            failed = bool(answer.trouble) or (flight.is_refresh and not detail.startswith("status-"))
            return Landing(answer, detail, self._release(flight, shared, failed=failed, hint=answer.hint), note=noted)
        life = lifetime_of(question.terms, answer.verdict)
        work = self._fill(flight.grant, question, answer, seconds, life)
        return Landing(answer, "", work, True, question.said, partial(noted, life=life))

    def _unstored(self, question: Question, detail: str) -> None:
        self._events.emit("unstored", question.key.text, detail, **question.said)
        self.accounting.unstored(detail)

    def _landed_by(self, flight: Flight, landing: Landing, said: object) -> Landed:
        """How the flight landed, by the store's reply."""
        answer, detail = landing.answer, landing.detail
        if not landing.fills:
            if landing.work is not None:
                self._returned(flight, said)
            self._note(landing, detail or "no-lease")
            return Landed(answer, stored=False, detail=detail)
        flight.returned = True  # after trouble too: the work may still arrive, so the lease is left to its deadline
        verdict = said.kind if isinstance(said, StoreTrouble) else str(said)
        self._events.emit(*self._said(verdict, flight.key.text), **landing.said)
        if verdict != "stored":
            self.accounting.unstored(verdict)
        self._note(landing, "" if verdict == "stored" else verdict)
        return Landed(answer, stored=verdict == "stored", detail="" if verdict in {"stored", "unkept"} else verdict)

    @staticmethod
    def _note(landing: Landing, unstored: str) -> None:
        if landing.note is not None:
            landing.note(unstored)

    @staticmethod
    def _said(verdict: str, key: str) -> tuple[str, str, str]:
        if verdict == "stored":
            return "stored", key, ""
        return ("refused" if verdict in {"lost", "moved"} else "unstored"), key, verdict

    def _fill(self, grant: Grant, question: Question, answer: Answer, seconds: float, life: Lifetime) -> Work:
        """The store's work that stores an answer."""
        sealed, key = self._sealed(grant, question, answer, seconds), question.key
        return lambda store: store.fill(key, grant.id, grant.order, sealed, life)

    def _sealed(self, grant: Grant, question: Question, answer: Answer, seconds: float) -> Sealed:
        extensions = {
            **question.extensions(),
            **answer.extensions,
            FIELDS: pack_fields(question.fields),
            DURATION: whole(int(seconds * 1000)),
        }
        key, terms, body = question.key, question.terms, answer.body or b""
        ttl = int(terms.ttl * 1000)
        ends = answer.verdict.life is not None or not terms.hot_ttl or terms.max_age <= terms.ttl  # it does not slide
        if self._codec.writes:
            return self._codec.seal(key, grant.id, grant.order, grant.snapshot, ttl, extensions, body, ends=ends)
        return seal(key.form, key.digest, grant.id, grant.order, grant.snapshot, ttl, extensions, body, ends=ends)

    def _release(self, flight: Flight, ending: Ending, *, failed: bool = False, hint: int = 0) -> Work | None:
        """The store's work that gives the lease back; None if there is no lease."""
        grant, key = flight.grant, flight.key
        if grant is None:
            return None
        if failed:
            self._events.emit("backoff", key.text)
        ending = self._codec.close_ending(key, grant.id, ending)
        return lambda store: store.release(key, grant.id, grant.order, ending, failed=failed, hint=hint)

    @staticmethod
    def _returned(flight: Flight, said: object) -> None:
        # After trouble, which is counted, the background thread tries once more.
        flight.returned = flight.returned or not isinstance(said, StoreTrouble)

    def _returning(
        self, flight: Flight, ending: Ending, error: Exception, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Make giving the lease back, if there is one, the flight's last write; `error` is for its callers."""
        work = self._release(flight, ending, failed=failed, hint=hint)
        if work is not None:
            over = partial(self._returned, flight)
            flight.last = LastWrite(work, partial(self._guarded, flight.key), over, error=error)

    async def _return(
        self, flight: Flight, ending: Ending, error: Exception, *, failed: bool = False, hint: int = 0
    ) -> None:
        """Give the lease back, if there is one and the store can be reached."""
        self._returning(flight, ending, error, failed=failed, hint=hint)
        await self._send_last(flight)
