"""What an event costs: a lookup and a lock without observers, and with each of ours.

    python -m bench.observers

Prints a table. A lookup emits one event, a block of a lock four; both are in memory, where they
take the least time themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from goscope import Scope
from goscope.events import Event, Observer
from goscope.integrations import opentelemetry, prometheus
from goscope.integrations.logging import log_events

ROUNDS: Final = 15
CALLS: Final = 500


def _ignore(event: Event) -> None:
    """The least that an observer can do."""


def _logged(level: int) -> Observer:
    logger = logging.getLogger(f"bench.observers.{level}")
    logger.setLevel(level)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return log_events(logger)


def observers() -> dict[str, Sequence[Observer]]:
    """The observers that are measured, by what the table calls them."""
    meters = MeterProvider([InMemoryMetricReader()])
    return {
        "no observer": (),
        "an observer that does nothing": (_ignore,),
        "logging, level too low": (_logged(logging.WARNING),),
        "logging": (_logged(logging.DEBUG),),
        "Prometheus": (prometheus.measure_events(CollectorRegistry()),),
        "OpenTelemetry, metrics": (opentelemetry.measure_events(meters),),
        "OpenTelemetry, spans": (opentelemetry.trace_events(TracerProvider()),),
    }


async def _microseconds(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - started) / CALLS * 1e6


async def measure(rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """The fastest round of a lookup and of a block of a lock, in microseconds, for each observer.

    Not the median: other processes on the machine only add to such short times.
    """
    samples: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):  # each round measures all of them: what disturbs it disturbs all
        for name, observing in observers().items():
            async with Scope(backend="memory", observers=observing) as gs:
                await gs.cache.set("key", 1)

                async def lookup(gs: Scope = gs) -> None:
                    await gs.cache.get("key")

                async def lock(gs: Scope = gs) -> None:
                    async with gs.lock("key"):
                        pass

                found = await _microseconds(lookup), await _microseconds(lock)
            samples.setdefault(name, []).append(found)
    return {
        name: (
            min(lookup for lookup, _ in found),
            min(lock for _, lock in found),
        )
        for name, found in samples.items()
    }


def table(times: dict[str, tuple[float, float]]) -> str:
    """The times as a table in Markdown."""
    lines = ["| observer | lookup (1 event), µs | lock (4 events), µs |", "| --- | --- | --- |"]
    lines += [f"| {name} | {get:.1f} | {lock:.1f} |" for name, (get, lock) in times.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(asyncio.run(measure())))
