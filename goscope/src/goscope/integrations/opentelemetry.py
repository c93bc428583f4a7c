"""Events as OpenTelemetry spans and metrics. Needs ``goscope[opentelemetry]``.

    Scope(..., observers=[trace_events(), measure_events()])

Attributes are bounded: the scope, the template and the outcome. Keys are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from ..events import (
    CacheComputed,
    CacheComputeFailed,
    CacheComputeStarted,
    CircuitCallCompleted,
    CircuitCallFailed,
    CircuitCallStarted,
    Event,
    IdempotentExecuted,
    IdempotentFailed,
    IdempotentStarted,
    LockBodyCompleted,
    LockBodyFailed,
    LockBodyStarted,
    Observer,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)
from ._measures import DURATIONS, MEASURES, HeldAndOpen, outcome_of

INSTRUMENTATION: Final = "goscope"

_STARTS: Final[Mapping[type[Event], str]] = MappingProxyType(
    {
        LockBodyStarted: "goscope.lock",
        CacheComputeStarted: "goscope.cache.compute",
        CircuitCallStarted: "goscope.circuit.call",
        TaskStarted: "goscope.task.run",
        IdempotentStarted: "goscope.idempotent.call",
    }
)
_ENDS: Final = (
    LockBodyCompleted,
    LockBodyFailed,
    CacheComputed,
    CacheComputeFailed,
    CircuitCallCompleted,
    CircuitCallFailed,
    TaskCompleted,
    TaskFailed,
    IdempotentExecuted,
    IdempotentFailed,
)
_FAILURES: Final = (
    LockBodyFailed,
    CacheComputeFailed,
    CircuitCallFailed,
    TaskFailed,
    IdempotentFailed,
)

_SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sqlite": "sqlite",
        "sqlite-bun": "sqlite",
        "postgres": "postgresql",
        "mysql": "mysql",
        "redis": "redis",
    }
)
"""What OpenTelemetry calls the database of a backend (``db.system.name``)."""

_RUN: Final = context.create_key("goscope-run")


class _Run:
    """A body that runs: its span, and the context that was current before it."""

    def __init__(self, span: Span, outside: Context) -> None:
        self.span: Final = span
        self.outside: Final = outside
        self.ended = False


def trace_events(
    tracer_provider: trace.TracerProvider | None = None,
    *,
    backend: str | None = None,
    keys: bool = False,
) -> Observer:
    """An observer that opens a span for each body that runs.

    What the body does has that span as its parent. What happens without a body, such as a lookup
    or a wait for a lock, becomes an event of the current span. ``backend`` is the name of the
    backend, for the attribute ``db.system.name``. Keys may be many and personal: they become the
    attribute ``goscope.key`` only with ``keys``.
    """
    tracer = trace.get_tracer(INSTRUMENTATION, tracer_provider=tracer_provider)
    runs: dict[int, _Run] = {}

    def attributes_of(event: Event) -> dict[str, str]:
        found = _attributes(event, backend)
        if keys:
            found["goscope.key"] = event.key
        return found

    def observe(event: Event) -> None:
        name = _STARTS.get(type(event))
        if name is not None:
            outside = context.get_current()
            label = name if event.template is None else f"{name} {event.template}"
            run = _Run(tracer.start_span(label, attributes=attributes_of(event)), outside)
            runs[event.run_id] = run  # type: ignore[attr-defined]  # every start has one
            inside = trace.set_span_in_context(run.span, outside)
            context.attach(context.set_value(_RUN, run, inside))
        elif isinstance(event, _ENDS):
            ended = runs.pop(event.run_id, None)
            if ended is not None:
                _end(ended, event)
        else:
            span = trace.get_current_span()
            if span.is_recording():
                span.add_event(f"goscope.{type(event).__name__}", attributes_of(event))

    return observe


def _end(run: _Run, event: Event) -> None:
    """End the span, and leave its context.

    Not by a token: another task may end a run, and blocks need not end in the reverse order.
    """
    if isinstance(event, _FAILURES) and event.error_type != "CancelledError":
        run.span.set_attribute("error.type", event.error_type or "failed")
        run.span.set_status(Status(StatusCode.ERROR))
    if type(event) in MEASURES:
        run.span.set_attribute("goscope.outcome", outcome_of(event, MEASURES[type(event)][1]))
    run.span.end()
    run.ended = True
    current = context.get_value(_RUN)
    while isinstance(current, _Run) and current.ended:
        context.attach(current.outside)
        current = context.get_value(_RUN)


def measure_events(
    meter_provider: metrics.MeterProvider | None = None, *, backend: str | None = None
) -> Observer:
    """An observer that measures durations, in seconds, and counts every event.

    ``goscope.lock.wait.duration`` and its like are histograms, ``goscope.events`` counts events by
    their name, ``goscope.locks.held`` and ``goscope.circuits.open`` go up and down.
    """
    meter = metrics.get_meter(INSTRUMENTATION, meter_provider=meter_provider)
    histograms = {
        duration: meter.create_histogram(
            f"goscope.{duration.name}.duration",
            "s",
            duration.description,
            explicit_bucket_boundaries_advisory=duration.buckets_s,
        )
        for duration in DURATIONS
    }
    events = meter.create_counter("goscope.events", "{event}", "Events of goscope")
    held = meter.create_up_down_counter("goscope.locks.held", "{lock}", "Locks held by blocks")
    circuits = meter.create_up_down_counter(
        "goscope.circuits.open", "{circuit}", "Circuits that this process last saw open"
    )
    gauges = HeldAndOpen()

    def observe(event: Event) -> None:
        attributes = _attributes(event, backend)
        events.add(1, {**attributes, "goscope.event": type(event).__name__})
        measure = MEASURES.get(type(event))
        if measure is not None:
            duration, usual = measure
            outcome = {"goscope.outcome": outcome_of(event, usual)}
            if (error_type := getattr(event, "error_type", None)) is not None:
                outcome["error.type"] = error_type
            histograms[duration].record(event.duration_ms / 1000, attributes | outcome)
        scope = {"goscope.scope": event.scope}
        if change := gauges.held_by(event):
            held.add(change, scope)
        if change := gauges.opened_by(event):
            circuits.add(change, scope)

    return observe


def _attributes(event: Event, backend: str | None) -> dict[str, str]:
    attributes = {"goscope.scope": event.scope}
    if event.template is not None:
        attributes["goscope.template"] = event.template
    if backend is not None and (system := _SYSTEMS.get(backend)) is not None:
        attributes["db.system.name"] = system
    return attributes
