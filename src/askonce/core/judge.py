"""The Judge of the answers to one question, in every form: a value, a body of HTTP, items, a stream.

Only this module makes a Verdict, and nothing is stored without one. An answer is returned, shared with its followers
and not stored if it calls for an action, is cut, refused or empty, used a search, or is not what was demanded.

`store_if` is asked last: it may refuse an answer that passed, and cannot store one that was refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypedDict

from askonce.core.expiry import end_of, may_end
from askonce.core.policy import Terms
from askonce.core.providers import Api, bounded
from askonce.core.providers.answers import Answer, breaks_json, dicts, failed, field_names, reason_of
from askonce.core.providers.expected import PLAIN, Expected
from askonce.core.providers.items import ItemScan
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.parts import answers_in, parts_of
from askonce.core.providers.patterns import pattern
from askonce.core.providers.scan import StreamScan
from askonce.core.providers.sources import carries_sources
from askonce.core.providers.usage import Bill, bills_of
from askonce.core.upstream import everybodys, of_the_moment

__all__ = ["Judge", "Judged", "RecordingJudge", "Verdict", "Verdicts", "judge_answer", "refused"]


class Verdict(NamedTuple):
    """Whether an answer may be stored: `reason` is "" if it may, else one word.

    `life`: ms for which it is valid by its own word, None if it does not say. `age`: its age in ms when it came.
    """

    reason: str
    life: int | None = None
    age: int = 0


Verdicts = tuple[Verdict, tuple[Bill, ...]]  # on an answer, and what its price depends on
Answers = Iterable[tuple[Answer, Api | None]]  # those in a value (answers_in)


def refused(reason: str) -> Verdict:
    """The verdict on an error or a failure; ValueError for an empty reason."""
    if not reason:
        raise ValueError("only a Judge says that an answer may be stored")
    return Verdict(reason)


class _Sources(TypedDict):
    searched: str
    given: bool


def _wanted(_: object) -> str:
    return ""


def _fits(_: list[Answer]) -> str:
    return ""


class Judge:
    """Judges the answers to one question.

    `api`: named by the path. `unwanted`: the reason of store_if, "" if it wants an answer. `age`: ms, of an answer that
    came out of a cache further up. `misfit`: why an answer, or events of one, cannot belong to the question, "" if they
    may (core.providers.fits). `where`: the URL that the answer comes from, or "". `sent`: when it was sent by the
    provider's own clock, s since 1970; 0.0 if that is not known.
    """

    keeps_empty = False  # whether an empty stream is kept

    def __init__(
        self,
        terms: Terms,
        expected: Expected = PLAIN,
        api: Api | None = None,
        unwanted: Callable[[object], str] = _wanted,
        age: int = 0,
        misfit: Callable[[list[Answer]], str] = _fits,
        where: str = "",
        sent: Callable[[], float] = float,
    ) -> None:
        self.bills: tuple[Bill, ...] = ()  # of the answer that was judged last
        self.where = where
        self._terms = terms
        self._expected = expected
        self._api = api
        self._unwanted = unwanted
        self._age = age
        self._misfit = misfit
        self._sent = sent

    def value(self, value: object, body: bytes, now: float) -> Verdict:
        """The verdict on a returned value, `body` in JSON. A value of no API may be stored. `now`: s since 1970."""
        return self._whole(None, value, body, now)

    def reply(self, status: int, body: bytes, now: float) -> Verdict:
        """The verdict on a whole answer of HTTP."""
        if status != 200:
            return Verdict(f"status-{status}")
        try:
            value = bounded.loads(body)
        except ValueError:
            return Verdict("not-json")
        return self._whole(self._api, value, body, now)

    def _whole(self, api: Api | None, value: object, body: bytes, now: float) -> Verdict:
        """The verdict on an answer in one piece, of this API if it is known."""
        found, names = _unwrapped(value), None
        if api:
            names = field_names([found])
            self.bills = bills_of([(found, api)], self.where)
            reason = self._api_reason(api, value, names) or self._misfit_reason(value, ())
        else:
            answers = list(answers_in(found))
            self.bills = bills_of(answers, self.where)
            reason = self._refusal(value, found, answers) or self._misfit_reason(value, answers)
        return self._final(reason, value, found, body, now, names=names)

    def stream(self, content_type: str = "") -> Judged:
        """A judged scan of an HTTP stream, fed with bytes."""
        return Judged(self, StreamScan(self._api, self._terms.tool_calls, content_type, **self._sources()))

    def items(self) -> Judged:
        """A judged scan of a stream of items, each fed as JSON."""
        return Judged(self, ItemScan(self._terms.tool_calls, **self._sources()))

    def _sources(self) -> _Sources:
        return {"searched": self._terms.searched, "given": self._expected.given}

    def scanned(self, scan: StreamScan, now: float) -> Verdict:
        """The verdict on a stream that was scanned to its end."""
        if reason := scan.verdict():
            return Verdict(reason)
        values = scan.items if isinstance(scan, ItemScan) else scan.values
        names = field_names(values) if isinstance(scan, ItemScan) else scan.names()
        made = scan.answer() if self._expected.json or may_end(names, scan.body) else None
        if made or not self._expected.json:
            reason = self._json_reason(*made) if made else ""
        elif all(isinstance(item, str) for item in values) and breaks_json(values):
            reason = "invalid-json"
        reason = reason or self._stream_misfit(scan)
        return self._final(reason, values, values, scan.body, now, names=names, dates=bool(made))

    def _misfit_reason(self, value: object, answers: Answers) -> str:
        """Why it does not fit its request. `answers`: those in it."""
        if self._misfit is _fits:
            return ""
        whole = [value] if self._api else [one for one, named in answers if named]
        return self._misfit(dicts(whole))

    def _stream_misfit(self, scan: StreamScan) -> str:
        return self._misfit(scan.values) if self._misfit is not _fits and scan.recognised() else ""

    def refusal(self, value: object) -> str:
        """Why a value may not be stored, whatever store_if says; "" if it may."""
        found = _unwrapped(value)
        return self._refusal(value, found, answers_in(found))

    def _refusal(self, value: object, found: object, answers: Answers) -> str:
        if value is None or (isinstance(value, str) and not value.strip()):
            return "empty"
        if failed(value):
            return "error"
        if isinstance(found, str):  # the call returned only the text of an answer
            return "invalid-json" if self._expected.json and breaks_json(found) else ""
        reasons = [self._part_reason(one, api) for one, api in answers]
        # An empty one may be one of several, or stand beside data of the user's.
        return next((one for one in reasons if one not in ("", "empty")), "empty" if {*reasons} == {"empty"} else "")

    def _part_reason(self, found: Answer, api: Api | None) -> str:
        if api:
            return self._api_reason(api, found)
        terms, parts = self._terms, parts_of(found)
        reason = next(filter(None, (reason_of(part, terms.tool_calls, terms.searched) for part in parts)), "")
        if not reason and terms.searched != "store" and carries_sources(found, given=self._expected.given):
            return "searched"
        return reason or ("invalid-json" if self._expected.json and any(breaks_json(one.said) for one in parts) else "")

    def _api_reason(self, api: Api, value: Any, names: set[str] | None = None) -> str:
        terms = self._terms
        reason = api.verdict(value, terms.tool_calls, terms.searched, given=self._expected.given, names=names)
        return reason or self._json_reason(api, value)

    def _json_reason(self, api: Api, answer: Answer) -> str:
        """``invalid-json`` if JSON was demanded and the answer is something else."""
        if self._expected.json and any(breaks_json(part.said) for part in api.parts(answer)):
            return "invalid-json"
        return ""

    def _final(
        self,
        reason: str,
        value: object,
        found: object,
        body: bytes,
        now: float,
        *,
        names: set[str] | None = None,
        dates: bool = False,
    ) -> Verdict:
        """The last checks of a storable answer: its own end, then store_if."""
        if reason:
            return Verdict(reason)
        names = field_names([found]) if names is None else names
        life = self._life(found, now, dates=dates) if may_end(names, body) else None
        if life is not None and life <= 0:
            return Verdict("expired")
        return Verdict(self._unwanted(value), life, self._age)

    def _life(self, value: object, now: float, *, dates: bool) -> int | None:
        dates = dates or bool(self._api or _is_object(value) or any(answers_in(value)))
        now = max(now, self._sent())  # the clock here may be behind the one that the end is of
        end = end_of(value, now, dates=dates)
        return None if end is None else int((end - now) * 1000)


class RecordingJudge(Judge):
    """The judge of a recording: keeps all but refusals of the moment and answers that are not whole."""

    keeps_empty = True

    def value(self, value: object, body: bytes, now: float) -> Verdict:  # noqa: ARG002 - kept for ever
        """The verdict on a returned value."""
        return Verdict("error" if of_the_moment(value) else self._misfit_reason(value, answers_in(_unwrapped(value))))

    def reply(self, status: int, body: bytes, now: float) -> Verdict:
        """The verdict on a whole answer of HTTP."""
        if everybodys(status):
            return Verdict(f"status-{status}")
        try:
            value = bounded.loads(body)
        except ValueError:
            return Verdict("not-json" if status == 200 else "")
        return self.value(value, body, now)

    def scanned(self, scan: StreamScan, now: float) -> Verdict:  # noqa: ARG002
        """The verdict on a stream that was scanned to its end."""
        reason = scan.verdict()
        genuine = reason not in _DOUBTFUL or self._genuine(scan, reason)
        return Verdict(self._stream_misfit(scan) if genuine else reason)

    @staticmethod
    def _genuine(scan: StreamScan, reason: str) -> bool:
        """Whether a doubtful stream is a genuine answer to this request."""
        if reason == "error":
            return not any(map(of_the_moment, scan.values))
        # Items end with their iterator; an API's own word for "not ended yet" may be its last.
        return reason == "incomplete" and (isinstance(scan, ItemScan) or scan.answer() is not None)


_DOUBTFUL = frozenset({"incomplete", "error", "not-sse", "too-large", "unrecognised"})


class Judged:
    """A stream that is judged as it passes (askonce.stream.tape.Scan)."""

    def __init__(self, judge: Judge, scan: StreamScan) -> None:
        self.feed = scan.feed
        self.whole = scan.whole
        self.usage = scan.usage
        self._judge = judge
        self._scan = scan

    def verdict(self, now: float) -> Verdict:
        """The verdict, if what was fed is all of the stream."""
        return self._judge.scanned(self._scan, now)

    def bills(self) -> tuple[Bill, ...]:
        """What its price depends on, also if it was cut off."""
        return self._scan.bills(self._judge.where)


def judge_answer(value: object, terms: Terms) -> str:
    """Why the answer to a plain question may not be stored; "" if it may, as a value of no API may."""
    return Judge(terms).refusal(value)


_NAMED = pattern(r"(?:cachedContents|files|operations|batches)/[\w-]+")


def _is_object(value: object) -> bool:
    """Whether it is another object of a provider's API by its own word: a file, a container, an upload."""
    if not isinstance(value, dict):
        return False
    named = isinstance(value.get("name"), str) and bool(_NAMED.fullmatch(value["name"]))
    return named or (isinstance(value.get("object"), str) and not _API_OBJECT.isdisjoint(value))


_API_OBJECT = frozenset({"id", "created", "created_at"})


def _unwrapped(value: object) -> object:
    # Some calls return response.text or model_dump_json(): an API's answer as a string.
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return bounded.loads(value)
    except ValueError:
        return value
