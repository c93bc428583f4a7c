"""``on_store_error``: raise the store's error, or fall back to this process."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from goscope import (
    BackendBusy,
    BackendUnavailable,
    CircuitBreakerState,
    CircuitOpen,
    ConfigurationError,
    Scope,
)
from goscope.events import CircuitStoreRecovered
from goscope.testing import FakeClock, record_events
from goscope_sqlite import SQLiteAdapter

from ..circuits import ServiceDown, fail, fail_times, work
from ..support import without_runs
from .faulty_store import StoreFaults

pytestmark = pytest.mark.asyncio


async def test_by_default_the_stores_error_is_raised_before_the_body_runs(
    gs: Scope, faults: StoreFaults
) -> None:
    breaker = gs.circuit_breaker("api")

    async def must_not_run() -> None:
        pytest.fail("the circuit should have rejected the call")

    with faults.store_down(), pytest.raises(BackendUnavailable):
        await breaker.call(must_not_run)


async def test_by_default_an_outcome_that_cannot_be_recorded_is_reported(
    gs: Scope, faults: StoreFaults
) -> None:
    breaker = gs.circuit_breaker("api")
    await fail_times(breaker, 1)
    with faults.read_only():
        with pytest.raises(BackendBusy):
            await breaker.call(work)
        with pytest.raises(ServiceDown) as caught:
            await breaker.call(fail)
    assert "could not record it: the store is locked" in caught.value.__notes__[0]


async def test_store_errors_do_not_change_the_circuit(gs: Scope, faults: StoreFaults) -> None:
    breaker = gs.circuit_breaker("api", failure_threshold=1)
    with faults.store_down():
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await breaker.call(fail)
    assert await breaker.call(work) == 7


async def test_on_store_error_is_one_of_the_settings_that_must_agree(gs: Scope) -> None:
    gs.circuit_breaker("api", on_store_error="local")
    with pytest.raises(ConfigurationError, match="other settings"):
        gs.circuit_breaker("api")


async def test_on_store_error_is_raise_or_local(gs: Scope) -> None:
    other: Any = "ignore"
    with pytest.raises(ValueError, match="'raise' or 'local', not 'ignore'"):
        gs.circuit_breaker("api", on_store_error=other)
    gs.circuit_breaker("api", on_store_error="local")


async def test_a_locked_file_is_a_store_that_only_reads(tmp_path: Path, clock: FakeClock) -> None:
    """It answers reads all the time; only the last failure is written to it."""
    path = tmp_path / "store.db"
    adapter = SQLiteAdapter(path, busy_timeout="20ms", clock=clock)
    async with Scope(persistence=adapter) as gs:
        breaker = gs.circuit_breaker("api", failure_threshold=2, on_store_error="local")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            await fail_times(breaker, 2)
            with pytest.raises(CircuitOpen):
                await breaker.call(work)
            assert await breaker.state() == CircuitBreakerState()
        finally:
            other.close()
        await clock.advance("30s")
        assert await breaker.call(work) == 7
        with record_events(gs) as events:
            await fail_times(breaker, 1)
        assert [type(event) for event in without_runs(events)] == [CircuitStoreRecovered]
        assert (await breaker.state()).failure_count == 1
