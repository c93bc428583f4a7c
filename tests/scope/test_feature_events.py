"""The events that each feature emits, and their documentation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from goscope import BackendBusy, LeaseLost, Scope, TaskContext
from goscope.events import Event, OperatorAction
from goscope.testing import FakeClock, override, record_events

from .support import PausedCall, ticks

pytestmark = pytest.mark.asyncio


class FeatureCalls:
    """Makes each feature emit all its events."""

    def __init__(self, gs: Scope, clock: FakeClock) -> None:
        self._gs = gs
        self._clock = clock

    async def lock(self) -> None:
        paused = PausedCall()

        async def enter() -> None:
            async with self._gs.lock("door", ttl="9s"):
                await paused.run()

        holder = asyncio.create_task(enter())
        await paused.started()
        with pytest.raises(TimeoutError):
            await self._gs.lock("door", wait=0).acquire()
        paused.resume()
        await holder
        with pytest.raises(LeaseLost):
            await self._outlive_lease()

    async def _outlive_lease(self) -> None:
        async with self._gs.lock("door", ttl="9s", renew=False):
            await self._clock.advance("10s")
            await ticks()

    async def cache(self) -> None:
        async def value() -> int:
            return 1

        async def failing() -> int:
            raise ZeroDivisionError

        for factory in (value, failing):
            await self._gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
            await self._clock.advance("6m")
        await self._gs.cache.set("wrong", "text")
        await self._gs.cache.get("wrong", type=int)

    async def cache_outage(self) -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise BackendBusy

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self._gs.persistence.cache, "get", fail)
            await self._gs.cache.get_or_set("outage", ticks)
        await self._clock.advance("1s")
        await self._gs.cache.get_or_set("outage", ticks)

    async def circuit_breaker(self) -> None:
        breaker = self._gs.circuit_breaker("api", failure_threshold=1, reset_timeout="1m")

        async def down() -> None:
            raise ConnectionError

        await asyncio.gather(breaker.call(down), return_exceptions=True)
        await asyncio.gather(breaker.call(down), return_exceptions=True)
        await self._clock.advance("2m")
        await breaker.call(ticks)
        await breaker.reset()

    async def circuit_fallback(self) -> None:
        breaker = self._gs.circuit_breaker("local", on_store_error="local")

        async def fail(key: str) -> None:
            raise BackendBusy

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self._gs.persistence.circuit_breaker, "get_state", fail)
            await breaker.call(ticks)
        await breaker.call(ticks)

    async def task(self) -> None:
        async def body(task: TaskContext[Any]) -> None:
            if not task.resumed:
                await task.checkpoint.save(1)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await self._gs.tasks.run("etl", body)
        await self._gs.tasks.run("etl", body)

    async def idempotent_call(self) -> None:
        async def failing() -> int:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await self._gs.idempotency.run("key", failing)
        await self._gs.idempotency.run("key", ticks)
        await self._gs.idempotency.run("key", ticks)


async def test_each_feature_emits_its_events() -> None:
    gs, clock = Scope(backend="memory"), FakeClock()
    features = FeatureCalls(gs, clock)
    calls: list[Awaitable[None]] = [
        features.lock(),
        features.cache(),
        features.cache_outage(),
        features.circuit_breaker(),
        features.circuit_fallback(),
        features.task(),
        features.idempotent_call(),
    ]
    with override(gs, clock=clock), record_events(gs) as events:
        async with gs:
            for call in calls:
                await call
    of_the_command = {OperatorAction}
    assert {type(event) for event in events} == set(Event.__subclasses__()) - of_the_command


async def test_the_documentation_lists_every_event_with_its_attributes() -> None:
    """One row each, with the attributes that not every event has in the second column."""
    page = Path(__file__).parents[2] / "docs" / "events.md"
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", page.read_text(), re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", attributes)) for name, attributes in rows}
    assert documented == {
        event.__name__: set(event.__struct_fields__) - set(Event.__struct_fields__)
        for event in Event.__subclasses__()
    }
