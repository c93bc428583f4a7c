"""Metrics, with the client of Prometheus."""

from __future__ import annotations

import json
import re

import pytest

from .libraries import require

require("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest

from goscope import Scope
from goscope.integrations.prometheus import measure_events
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .serving import EXAMPLES


async def run(registry: CollectorRegistry) -> str:
    """Use a scope, and return the metrics while it holds a lock and a circuit is open."""
    clock = FakeClock()
    adapter = MemoryAdapter(clock=clock)
    async with Scope(persistence=adapter, name="shop", observers=[measure_events(registry)]) as gs:

        @gs.cached("5m", key="price:{article}")
        async def price(article: str) -> int:
            await clock.advance("250ms")
            return 7

        await price("apple")
        await price("apple")
        with pytest.raises(OSError, match="down"):
            await gs.circuit_breaker("payments", failure_threshold=1).call(_fail)
        async with gs.lock("stock:42"):
            await clock.advance("2s")
            return generate_latest(registry).decode()


async def _fail() -> None:
    raise OSError("down")


@pytest.mark.asyncio
async def test_durations_are_in_seconds_and_labels_are_bounded() -> None:
    text = await run(CollectorRegistry())
    for line in (
        'goscope_cache_compute_seconds_sum{outcome="stored",scope="shop",'
        'template="price:{article}"} 0.25',
        'goscope_cache_lookup_seconds_count{outcome="hit",scope="shop",'
        'template="price:{article}"} 1.0',
        'goscope_events_total{event="CircuitOpened",scope="shop",template=""} 1.0',
        'goscope_locks_held{scope="shop"} 1.0',
        'goscope_circuits_open{scope="shop"} 1.0',
    ):
        assert f"{line}\n" in text
    assert not re.search("apple|stock:42|payments", text)


@pytest.mark.asyncio
async def test_gauges_fall_again() -> None:
    registry = CollectorRegistry()
    clock = FakeClock()
    observers = [measure_events(registry)]
    async with Scope(persistence=MemoryAdapter(clock=clock), observers=observers) as gs:
        breaker = gs.circuit_breaker("payments", failure_threshold=1, reset_timeout="30s")
        with pytest.raises(OSError, match="down"):
            await breaker.call(_fail)
        await clock.advance("31s")
        async with gs.lock("stock:42"), breaker:
            pass
        await breaker.reset()
    for name in ("goscope_locks_held", "goscope_circuits_open"):
        assert registry.get_sample_value(name, {"scope": "MemoryAdapter"}) == 0


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    registry = CollectorRegistry()
    measure_events(registry)
    exported = {metric.name for metric in registry.collect()}
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    expressions = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    assert expressions
    asked = {
        re.sub("_(bucket|count|sum|total)$", "", name)
        for expression in expressions
        for name in re.findall(r"goscope_\w+", expression)
    }
    assert asked - exported == set()
    assert exported - asked == set(), "the dashboard leaves these out"


def test_the_dashboard_has_the_format_of_grafana() -> None:
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    assert {"title", "schemaVersion", "panels", "templating", "time", "uid"} <= dashboard.keys()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    for panel in dashboard["panels"]:
        assert {"type", "title", "gridPos"} <= panel.keys()
        assert panel["gridPos"].keys() == {"h", "w", "x", "y"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
