"""Spans and metrics, with the SDK of OpenTelemetry."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from .libraries import require

require("opentelemetry.sdk", "starlette", "uvicorn", "httpx")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from goscope import Scope
from goscope.integrations.opentelemetry import measure_events, trace_events
from goscope.integrations.starlette import lifespan
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from .serving import served


class Traces:
    """A provider of tracers, and the spans that it has exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.spans if span.name == name)
        return span

    def tree(self) -> str:
        """The spans as lines, each indented below its parent, with their events."""
        return "".join(self._lines(None, ""))

    def _lines(self, parent: int | None, indent: str) -> Iterator[str]:
        below = [
            span
            for span in self.spans
            if (None if span.parent is None else span.parent.span_id) == parent
        ]
        for span in sorted(below, key=lambda it: it.start_time or 0):
            yield f"{indent}{span.name}\n"
            yield from (f"{indent}  * {event.name}\n" for event in span.events)
            yield from self._lines(context_of(span).span_id, f"{indent}  ")


def context_of(span: ReadableSpan) -> trace.SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


@pytest.fixture
def traces() -> Traces:
    return Traces()


def scope(traces: Traces) -> Scope:
    observer = trace_events(traces.provider, backend="memory")
    return Scope(persistence=MemoryAdapter(), name="shop", observers=[observer])


TREE = """\
GET /prices/apple
  * goscope.CacheMiss
  goscope.cache.compute price:{article}
    * goscope.LockAcquired
    * goscope.LockReleased
    goscope.lock
      goscope.circuit.call
        asking the shop
"""


@pytest.mark.asyncio
async def test_one_trace_of_a_request(traces: Traces) -> None:
    gs = scope(traces)
    breaker = gs.circuit_breaker("shop")

    @gs.cached("5m", key="price:{article}")
    async def price(article: str) -> int:
        async with gs.lock(f"stock:{article}"):
            return await breaker.call(ask)

    async def ask() -> int:
        with traces.tracer.start_as_current_span("asking the shop"):
            return 7

    async def show(request: Request) -> PlainTextResponse:
        with traces.tracer.start_as_current_span(f"GET {request.url.path}"):
            return PlainTextResponse(str(await price(request.path_params["article"])))

    app = Starlette(routes=[Route("/prices/{article}", show)], lifespan=lifespan(gs))
    async with served(app) as client:
        assert (await client.get("/prices/apple")).text == "7"
    assert traces.tree() == TREE
    assert len({context_of(span).trace_id for span in traces.spans}) == 1
    compute = traces.named("goscope.cache.compute price:{article}")
    assert dict(compute.attributes or {}) == {
        "goscope.scope": "shop",
        "goscope.template": "price:{article}",
        "goscope.outcome": "stored",
    }


@pytest.mark.asyncio
async def test_a_failed_body_is_a_failed_span(traces: Traces) -> None:
    async with scope(traces) as gs:
        with pytest.raises(KeyError):
            async with gs.lock("stock:42"):
                raise KeyError("secret")
    span = traces.named("goscope.lock")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "KeyError"
    assert "secret" not in span.to_json()
    assert "stock" not in span.to_json()


@pytest.mark.asyncio
async def test_a_cancelled_body_is_no_error(traces: Traces) -> None:
    async with scope(traces) as gs:

        async def hold() -> None:
            async with gs.lock("stock:42"):
                task.cancel()
                await asyncio.sleep(0)

        task = asyncio.create_task(hold())
        await asyncio.wait([task])
    assert traces.named("goscope.lock").status.status_code is trace.StatusCode.UNSET


@pytest.mark.asyncio
async def test_keys_are_attributes_only_when_asked_for(traces: Traces) -> None:
    observer = trace_events(traces.provider, backend="sqlite-bun", keys=True)
    async with Scope(backend="memory", observers=[observer]) as gs, gs.lock("stock:42"):
        pass
    attributes = traces.named("goscope.lock").attributes or {}
    assert attributes["goscope.key"] == "stock:42"
    assert attributes["db.system.name"] == "sqlite"


@pytest.mark.asyncio
async def test_blocks_that_end_out_of_order_leave_no_span_behind(traces: Traces) -> None:
    async with scope(traces) as gs:
        first, second = gs.lock("first"), gs.lock("second")
        await first.__aenter__()
        await second.__aenter__()
        await first.__aexit__(None, None, None)
        await second.__aexit__(None, None, None)
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert len(traces.spans) == 2


@pytest.mark.asyncio
async def test_a_block_that_another_task_leaves_ends_its_span(
    traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    async with scope(traces) as gs:

        async def numbers() -> AsyncGenerator[int]:
            async with gs.lock("numbers"):
                yield 1

        generator = numbers()
        await anext(generator)
        await asyncio.create_task(_close(generator))
    assert len(traces.spans) == 1
    assert caplog.records == []


async def _close(generator: AsyncGenerator[int]) -> None:
    await generator.aclose()


def metrics(reader: InMemoryMetricReader) -> dict[str, Metric]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scoped in resource.scope_metrics
        for metric in scoped.metrics
    }


@pytest.mark.asyncio
async def test_metrics() -> None:
    reader = InMemoryMetricReader()
    observer = measure_events(MeterProvider([reader]), backend="postgres")
    clock = FakeClock()
    adapter = MemoryAdapter(clock=clock)
    async with Scope(persistence=adapter, name="shop", observers=[observer]) as gs:
        breaker = gs.circuit_breaker("secret-circuit", failure_threshold=1)
        with contextlib.suppress(OSError):
            await breaker.call(_fail)
        async with gs.lock("secret-key"):
            await clock.advance("2s")
            during = metrics(reader)
        await gs.cache.get("secret-entry")
        found = metrics(reader)
    assert "secret" not in str(found)
    assert found["goscope.lock.hold.duration"].unit == "s"
    hold = point(found["goscope.lock.hold.duration"])
    assert (hold.count, hold.sum) == (1, 2.0)
    assert dict(hold.attributes) == {
        "goscope.scope": "shop",
        "db.system.name": "postgresql",
        "goscope.outcome": "released",
    }
    call = point(found["goscope.circuit.call.duration"])
    assert call.attributes["error.type"] == "OSError"
    assert value_of(during["goscope.locks.held"]) == 1
    assert value_of(found["goscope.locks.held"]) == 0
    assert value_of(found["goscope.circuits.open"]) == 1


def point(metric: Metric) -> Any:
    """The only point of a metric."""
    (found,) = metric.data.data_points
    return found


def value_of(metric: Metric) -> int:
    return int(point(metric).value)


async def _fail() -> None:
    raise OSError
