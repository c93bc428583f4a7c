"""Only the time of the server counts: neither clocks nor time zones of clients do."""

from __future__ import annotations

import time

import pytest

import goscope
from goscope.backend import SystemClock
from goscope_postgres._engine.clock import ServerClock

from .stores import Store, administrator
from .support import adapter_of

pytestmark = pytest.mark.asyncio

HOURS_MS = 3_600_000


@pytest.fixture(params=[-3, 5], ids=["clock 3 h behind", "clock 5 h ahead"])
def _wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock of this machine is set wrong."""
    right = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: right() + request.param * HOURS_MS * 1_000_000)


@pytest.mark.usefixtures("_wrong_clock")
async def test_the_clock_of_a_client_has_no_effect(store: Store) -> None:
    async with administrator() as other, adapter_of(store) as adapter:
        await adapter.cache.set("key", 1, "1h", stale_for="1h")
        await adapter.idempotency.set("key", 1, "1h")
        await adapter.circuit_breaker.record_failure("key", 1)
        handle = await adapter.lock.acquire("key", "1h")
        assert handle is not None
        now: int = await other.fetchval(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        )
        assert abs(adapter.clock.wall_ms() - now) < 60_000
        entry = await adapter.cache.get_entry("key")
        record = await adapter.idempotency.get("key")
        state = await adapter.circuit_breaker.get_state("key")
        holder = await adapter.lock.holder("key")
        assert entry is not None
        assert entry.expires_at is not None
        assert entry.stale_until is not None
        assert record is not None
        assert record.expires_at is not None
        assert state is not None
        assert state.last_failure_time is not None
        assert holder is not None
        assert abs(entry.expires_at - now - HOURS_MS) < 60_000
        assert abs(entry.stale_until - now - 2 * HOURS_MS) < 60_000
        assert abs(record.expires_at - now - HOURS_MS) < 60_000
        assert abs(state.last_failure_time - now) < 60_000
        assert abs(holder.since - now) < 60_000
        assert HOURS_MS - 60_000 < holder.expires_in_ms <= HOURS_MS


@pytest.mark.parametrize("zone", ["America/St_Johns", "Asia/Kathmandu"])
async def test_the_time_zone_of_a_session_has_no_effect(store: Store, zone: str) -> None:
    async with administrator() as other:
        await other.execute(f"ALTER ROLE {store.name} SET TimeZone = '{zone}'")
    async with adapter_of(store) as adapter:
        await adapter.cache.set("key", 1, "1h")
        assert await adapter.cache.get("key") == 1
        entry = await adapter.cache.get_entry("key")
        assert entry is not None
        assert entry.expires_at is not None
        assert abs(entry.expires_at - adapter.clock.wall_ms() - HOURS_MS) < 60_000


@pytest.mark.usefixtures("_wrong_clock")
async def test_a_circuit_resets_on_the_time_of_the_server(store: Store) -> None:
    async with goscope.Scope(persistence=adapter_of(store)) as gs:
        circuit = gs.circuit_breaker("key", failure_threshold=1, reset_timeout="1h")
        with pytest.raises(OSError, match="down"):
            await circuit.call(_fail)
        with pytest.raises(goscope.CircuitOpen) as info:
            await circuit.call(_fail)
        assert info.value.retry_after is not None
        assert 3540 < info.value.retry_after <= 3600


async def test_between_measurements_the_clock_runs_on_steady_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steady_ms = 1000

    def steady(_: SystemClock) -> int:
        return steady_ms

    monkeypatch.setattr(SystemClock, "steady_ms", steady)
    clock = ServerClock()
    clock.measured(5_000_000, 1000)
    steady_ms = 3500
    assert clock.wall_ms() == 5_002_500
    clock.measured(6_000_000, 3500)
    assert clock.wall_ms() == 6_000_000


async def _fail() -> None:
    raise OSError("down")
