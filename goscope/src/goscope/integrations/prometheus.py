"""Events as Prometheus metrics. Needs ``goscope[prometheus]``.

    Scope(..., observers=[measure_events()])

With several workers set ``PROMETHEUS_MULTIPROC_DIR``, as prometheus-client describes: the metrics
of all of them are added up. Labels are bounded: the scope, the template, the outcome, the name of
the event. Keys are no labels.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from ..events import Event, Observer
from ._measures import DURATIONS, MEASURES, Duration, HeldAndOpen, outcome_of

LABELS: Final = ("scope", "template")


def measure_events(registry: CollectorRegistry = REGISTRY) -> Observer:
    """An observer that measures durations, in seconds, and counts every event.

    ``goscope_lock_wait_seconds`` and its like are histograms, ``goscope_events_total`` counts
    events by their name, ``goscope_locks_held`` and ``goscope_circuits_open`` are gauges. Call it
    once per registry, and give its result to every scope: a registry refuses a second metric of
    one name (``ValueError``).
    """
    # Cached, since looking up a child of a metric takes longer than changing it.
    histograms = {duration: cache(_histogram(duration, registry).labels) for duration in DURATIONS}
    events = Counter("goscope_events", "Events of goscope", (*LABELS, "event"), registry=registry)
    counter = cache(events.labels)
    held = Gauge(
        "goscope_locks_held",
        "Locks held by blocks",
        ("scope",),
        registry=registry,
        multiprocess_mode="livesum",
    )
    circuits = Gauge(
        "goscope_circuits_open",
        "Circuits that a process last saw open, the highest number of any process",
        ("scope",),
        registry=registry,
        multiprocess_mode="livemax",  # they share the circuits: a sum would count them repeatedly
    )
    gauges = HeldAndOpen()

    def observe(event: Event) -> None:
        kind, scope, template = type(event), event.scope, event.template or ""
        counter(scope, template, kind.__name__).inc()
        measure = MEASURES.get(kind)
        if measure is not None:
            duration, usual = measure
            histogram = histograms[duration](scope, template, outcome_of(event, usual))
            histogram.observe(event.duration_ms / 1000)
        if change := gauges.held_by(event):
            held.labels(scope).inc(change)
        if change := gauges.opened_by(event):
            circuits.labels(scope).inc(change)

    return observe


def _histogram(duration: Duration, registry: CollectorRegistry) -> Histogram:
    return Histogram(
        f"goscope_{duration.name.replace('.', '_')}_seconds",
        duration.description,
        (*LABELS, "outcome"),
        buckets=duration.buckets_s,
        registry=registry,
    )
