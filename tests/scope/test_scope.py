"""``Scope``: opening and closing, uses while it is closed, and its lease ttl."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goscope import BackendError, ConfigurationError, Duration, Scope, ScopeNotOpen
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .support import PausedCall, Store, leases_of, ticks
from .uses import USES, do_nothing


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.asyncio
async def test_a_closed_scope_refuses_every_use(
    use: Callable[[Scope], Awaitable[object]],
) -> None:
    gs = Scope(backend="memory")
    with pytest.raises(ScopeNotOpen, match="async with scope"):
        await use(gs)
    async with gs:
        await use(gs)
    with pytest.raises(ScopeNotOpen):
        await use(gs)


@pytest.mark.asyncio
async def test_persistence_is_the_adapter(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db")
    with pytest.raises(ScopeNotOpen):
        _ = gs.persistence
    async with gs:
        assert isinstance(gs.persistence, SQLiteAdapter)
        assert gs.persistence.is_connected


@pytest.mark.asyncio
async def test_decorators_bind_before_the_scope_is_open(store: Store) -> None:
    gs = store.scope()
    breaker = gs.circuit_breaker("api")

    @gs.cached("5m", key="double:{number}")
    async def double(number: int) -> int:
        return 2 * number

    @gs.idempotent("once:{number}")
    async def once(number: int) -> int:
        return number

    @gs.resumable("run:{number}")
    async def run(task: Any, number: int) -> int:
        return number

    async with gs:
        assert await double(1) == 2
        assert await once(1) == 1
        assert await run(1) == 1
        assert await breaker(once)(1) == 1


@pytest.mark.asyncio
async def test_open_and_close_change_is_open(store: Store) -> None:
    gs = store.scope()
    states = [gs.is_open]
    for change in (gs.open, gs.close, gs.close):
        await change()
        states.append(gs.is_open)
    assert states == [False, True, False, False]


def test_a_closed_scope_can_be_opened_again_in_another_loop(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db", locks="shared")
    lock = gs.lock("door")

    async def use(value: int) -> object:
        async with gs, lock:
            before = await gs.cache.get("key")
            await gs.cache.set("key", value)
            await gs.idempotency.run("once", do_nothing)
            await gs.cache.get_or_set("other", do_nothing)
            return before

    assert [asyncio.run(use(value)) for value in (1, 2, 3)] == [None, 1, 2]


@pytest.mark.asyncio
async def test_opening_twice_is_refused(store: Store) -> None:
    gs = store.scope()
    async with gs:
        with pytest.raises(ConfigurationError, match="already open"):
            await gs.open()
        assert gs.is_open


@pytest.mark.asyncio
async def test_opening_twice_concurrently_is_refused(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db")
    results = await asyncio.gather(gs.open(), gs.open(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ConfigurationError]
    await gs.close()


@pytest.mark.asyncio
async def test_a_scope_that_cannot_be_opened_stays_closed_and_can_be_tried_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "app.db"
    path.write_text("not a database, but long enough to look like one" * 100)
    gs = Scope(backend="sqlite", path=path)
    with pytest.raises(BackendError):
        await gs.open()
    assert not gs.is_open
    path.unlink()
    async with gs:
        pass


@pytest.mark.asyncio
async def test_an_error_in_the_block_closes_the_scope(store: Store) -> None:
    gs = store.scope()
    with pytest.raises(ZeroDivisionError):
        async with gs:
            _ = 1 / 0
    assert not gs.is_open


@pytest.mark.parametrize("lease_ttl", ["60s", timedelta(seconds=60)])
@pytest.mark.asyncio
async def test_lease_ttl_is_how_long_the_leases_of_features_run(
    store: Store, lease_ttl: Duration
) -> None:
    paused = PausedCall()
    async with store.scope(lease_ttl=lease_ttl) as gs:
        call = asyncio.create_task(gs.idempotency.run("key", paused.run))
        await paused.started()
        holder = await leases_of(gs).holder("idempotency:key")
        assert holder is not None
        assert holder.expires_in_ms == 60_000
        paused.resume()
        await call


@pytest.mark.parametrize(("value", "error"), [(10, TypeError), ("0s", ValueError)])
def test_an_invalid_lease_ttl_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Scope(backend="memory", lease_ttl=value)


@pytest.mark.asyncio
async def test_closing_ends_background_work(store: Store) -> None:
    paused = PausedCall()
    async with store.scope() as gs:
        await gs.cache.get_or_set("key", do_nothing, ttl="1s", stale_for="1h")
        store.clock.step_wall("2s")
        await gs.cache.get_or_set("key", paused.run, ttl="1s", stale_for="1h")
        await paused.started()
        assert paused.running == 1
    assert paused.running == 0


class SlowAdapter(MemoryAdapter):
    """An adapter that takes several ticks to disconnect."""

    closed = False

    async def disconnect(self) -> None:
        await ticks(5)
        await super().disconnect()
        self.closed = True


@pytest.mark.asyncio
async def test_a_cancelled_close_runs_to_its_end() -> None:
    adapter = SlowAdapter()
    gs = Scope(persistence=adapter)
    await gs.open()
    closing = asyncio.create_task(gs.close())
    await ticks(2)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert adapter.closed


@pytest.mark.asyncio
async def test_closing_while_a_lock_is_held_raises_from_its_block(tmp_path: Path) -> None:
    """It does not hide the body's own error."""
    gs = Scope(backend="sqlite", path=tmp_path / "app.db", locks="shared")
    await gs.open()
    with pytest.raises(ScopeNotOpen):
        async with gs.lock("door"):
            await gs.close()
    await gs.open()
    with pytest.raises(ZeroDivisionError) as caught:
        await fail_after_closing(gs)
    assert "could not be released" in caught.value.__notes__[0]


async def fail_after_closing(gs: Scope) -> None:
    async with gs.lock("gate"):
        await gs.close()
        _ = 1 / 0
