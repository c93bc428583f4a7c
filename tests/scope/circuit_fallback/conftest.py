"""Fixtures: a circuit on a store whose requests fail on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from goscope import CircuitBreaker, Scope
from goscope.memory import MemoryAdapter
from goscope.testing import FakeClock

from ..support import lease_watchers
from .faulty_store import FailingLeases, FailingStates, StoreFaults


@pytest.fixture
def faults() -> StoreFaults:
    return StoreFaults()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture
async def gs(faults: StoreFaults, clock: FakeClock) -> AsyncIterator[Scope]:
    """A scope on a store with these faults."""
    adapter = MemoryAdapter(clock=clock)
    adapter.lease = FailingLeases(adapter, faults)
    adapter.circuit_breaker = FailingStates(adapter, faults)
    async with Scope(persistence=adapter) as scope:
        yield scope
        assert lease_watchers() == []


@pytest.fixture
def breaker(gs: Scope) -> CircuitBreaker:
    """Opens at the third failure, for 30 s, wherever it is counted."""
    return gs.circuit_breaker("api", failure_threshold=3, on_store_error="local")
