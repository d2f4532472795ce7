"""A span around each lookup, and metrics; made only for caches that are instrumented.

The span is current while the upstream call runs, so that spans of HTTP clients become its children. That of a stream
which is called for here ends with the upstream stream; that of any other stream, when it opens.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from askonce.cache import foreign
from askonce.cache.base import base_of
from askonce.core.libraries import opentelemetry
from askonce.core.wording import spelled, with_method
from askonce.engine.question import Question
from askonce.events import Event, Status, Subject, observe_everywhere
from askonce.metrics.saved import spent_on
from askonce.metrics.series import LabelValues
from askonce.otel import conventions

NOTHING: Mapping[str, object] = {}
OPEN = 1000  # spans of calls that may be open at once; then the oldest is ended
SCOPE = "askonce"
KEY_SHOWN = 12  # hex digits: enough to find the entry by

_current: contextvars.ContextVar[LookupSpan | None] = contextvars.ContextVar("lookup span", default=None)


@spelled
def instrument(
    cache: Any = None,
    tracer_provider: foreign.TracerProvider | None = None,
    meter_provider: foreign.MeterProvider | None = None,
) -> Callable[[], None]:
    """Make spans and metrics of a `cache`'s lookups from now on (None: of all caches of this process, later ones too).

    `tracer_provider` and `meter_provider`: None for the application's. Returns a function that ends it. ConfigError if
    opentelemetry-api is not installed, UsageError if `cache` is no cache, or a provider is none. Nothing that
    OpenTelemetry raises reaches a caller of the cache.
    """
    base = None if cache is None else base_of(cache, "instrument")
    right = "one of OpenTelemetry's, with {}(), or None for the application's"
    with_method("tracer_provider", tracer_provider, "get_tracer", right.format("get_tracer"))
    with_method("meter_provider", meter_provider, "get_meter", right.format("get_meter"))
    made = Instrumentation(tracer_provider, meter_provider)
    return observe_everywhere(made, made.around) if base is None else base.events.observe(made, made.around)


class Instrumentation:
    """The Observer behind `instrument()`."""

    def __init__(
        self, tracer_provider: foreign.TracerProvider | None, meter_provider: foreign.MeterProvider | None
    ) -> None:
        from askonce import __version__

        self.trace = opentelemetry("trace")
        self.tracer = self.trace.get_tracer(SCOPE, __version__, tracer_provider)
        meter = opentelemetry("metrics").get_meter(SCOPE, __version__, meter_provider)
        self.durations = meter.create_histogram(
            conventions.DURATION,
            unit="s",
            description="Duration of a lookup, with its upstream call",
            explicit_bucket_boundaries_advisory=conventions.DURATION_BOUNDS,
        )
        self._lookups = meter.create_counter(
            conventions.LOOKUPS, unit="{lookup}", description="Lookups, by how they ended"
        )
        self._tokens = meter.create_histogram(
            conventions.TOKENS,
            unit="{token}",
            description="Tokens of upstream calls",
            explicit_bucket_boundaries_advisory=conventions.TOKEN_BOUNDS,
        )
        self.models, self._tenants, self._details = LabelValues(), LabelValues(), LabelValues()
        self.calling: dict[str, LookupSpan] = {}  # by the key that its call began with

    def around(self, question: Question) -> AbstractContextManager[object]:
        """What stands around a lookup."""
        return LookupSpan(self, question)

    def looked_up(self, outcome: str, status: Status, subject: Subject | None, entry: bytes | None) -> None:
        """Count a lookup, and say in its span how it ended."""
        proven = status.hit or status.stored
        said = {"askonce.outcome": outcome, "askonce.detail": self._details.of(status.detail, proven=proven)}
        if subject is not None:
            said["gen_ai.request.model"] = self.models.of(subject.model, proven=proven)
            said["askonce.tenant"] = self._tenants.of(subject.tenant, proven=proven)
        self._lookups.add(1, {name: value for name, value in said.items() if value})
        span = _current.get()
        if span is not None and outcome != "bypass":
            span.ended_as(outcome, status, entry)

    def happened(self, event: Event) -> None:
        """Learn which lookup makes a call, and when that ends: a stream perhaps after the lookup, or before."""
        if event.name == "call" and not event.data.get("refresh") and (span := _current.get()) is not None:
            span.called_for = event.key
            self.calling[event.key] = span
            if len(self.calling) > OPEN:
                self.calling.pop(next(iter(self.calling))).over(NOTHING)
        elif event.name == "called":
            span = self.calling.pop(event.key, None)
            asked = conventions.asked(None, str(event.data.get("model", ""))) if span is None else span.asked
            self._count_tokens(asked, event.data)
            if span is not None:
                span.over(event.data)

    def _count_tokens(self, asked: Mapping[str, Any], data: Mapping[str, object]) -> None:
        """Count the tokens of a call, which is paid: those of a hit are not used a second time."""
        for kind, name in (("input", "tokens_in"), ("output", "tokens_out")):
            if isinstance(tokens := data.get(name), int):
                self._tokens.record(tokens, self.bounded({**asked, "gen_ai.token.type": kind}))

    def bounded(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes for a metric: of few models."""
        model = said.get("gen_ai.request.model")
        return dict(said) if model is None else {**said, "gen_ai.request.model": self.models.of(model)}


class LookupSpan(AbstractContextManager[None]):
    """The span of one lookup, or of a batch of them."""

    def __init__(self, made: Instrumentation, question: Question) -> None:
        self._made = made
        self._question = question
        self.called_for = ""
        self.asked = conventions.asked(question.operation, question.model)
        self.streamed = question.key.form == "s"
        self._exited = False
        self._error = self._failure = ""
        self._outcome = ""
        self._detail = ""
        self._stored = False
        self._lookups = self._hits = self._saved = 0

    def __enter__(self) -> None:
        made = self._made
        name = f"{self.asked['gen_ai.operation.name']} {self.asked.get('gen_ai.request.model', '')}".strip()
        self._span = made.tracer.start_span(name, kind=made.trace.SpanKind.CLIENT, attributes=self.asked)
        self._attached = opentelemetry("context").attach(made.trace.set_span_in_context(self._span))
        self._token = _current.set(self)
        if self.streamed:
            self._span.set_attribute("gen_ai.request.stream", value=True)

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self._detach()
        self._exited = True
        calling = self._made.calling.get(self.called_for) is self
        if calling and self.streamed and kind is None:
            return  # until the stream is over
        if calling:
            self._made.calling.pop(self.called_for, None)
        self.end(self._error if kind is None else kind.__qualname__)

    def over(self, data: Mapping[str, object]) -> None:
        """The call that this lookup made is over. `data`: of the event that says so."""
        self._error = str(data.get("error", ""))
        self._span.set_attributes(conventions.used(data))
        if self._exited:
            self.end(self._error)

    def _detach(self) -> None:
        try:
            _current.reset(self._token)
        except ValueError:  # closed by the garbage collector, in another context
            return
        opentelemetry("context").detach(self._attached)

    def ended_as(self, outcome: str, status: Status, entry: bytes | None) -> None:
        """Note how a lookup ended; `entry`: with this stored answer. Of a batch, the last miss counts."""
        if entry is not None:
            self._saved += spent_on(entry).tokens
        self._lookups += 1
        self._hits += status.hit
        if self._lookups == 1 or not status.hit:
            self._outcome, self._detail = outcome, status.detail
            self._failure = "" if entry is not None else _error_in(status.detail)
        self._stored = self._stored or status.stored

    def end(self, error: str) -> None:
        """End the span and count its duration. `error`: the type of what it ended in, or ""."""
        error = error or self._failure
        said = self.asked | {"askonce.outcome": self._outcome} if self._outcome else dict(self.asked)
        if error:
            said["error.type"] = error
        self._made.durations.record(time.perf_counter() - self._question.began, self._made.bounded(said))
        self._span.set_attributes(self._details() | said)
        if error:
            self._span.set_status(self._made.trace.StatusCode.ERROR)
        self._span.end()

    def _details(self) -> dict[str, Any]:
        key = self._question.key.text
        said: dict[str, Any] = {"askonce.key": key[:KEY_SHOWN]}
        if not self.streamed:  # whether a stream is stored shows after its end
            said["askonce.stored"] = self._stored
        if self._detail:
            said["askonce.detail"] = self._detail
        if self._saved:
            said["askonce.saved_tokens"] = self._saved
        if self._lookups > 1:
            said |= {"askonce.lookups": self._lookups, "askonce.hits": self._hits}
        return said


def _error_in(detail: str) -> str:
    """The type of the error that an answer is: of ``status-429`` HTTP's number, of ``upstream-timeout`` the word."""
    kind, _, word = detail.partition("-")
    return word if kind in {"status", "upstream"} else ""
