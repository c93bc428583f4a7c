"""``Scope``: opened, closed and opened again; what it refuses; whose adapter it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goscope import (
    BackendError,
    Capability,
    CapabilityMissing,
    ConfigurationError,
    Duration,
    PersistenceAdapter,
    Scope,
    ScopeNotOpen,
)
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .support import ForeignAdapter, PausedCall, Store, leases_of, ticks


async def nothing() -> None: ...


USES: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "lock": lambda gs: gs.lock("key").acquire(),
    "entered lock": lambda gs: gs.lock("key").__aenter__(),
    "try_lock": lambda gs: gs.lock("key").try_acquire(),
    "cache.get": lambda gs: gs.cache.get("key"),
    "cache.get_or_set": lambda gs: gs.cache.get_or_set("key", nothing),
    "breaker": lambda gs: gs.circuit_breaker("key").call(nothing),
    "entered breaker": lambda gs: gs.circuit_breaker("key").__aenter__(),
    "run": lambda gs: gs.tasks.run("key", lambda task: nothing()),
    "once": lambda gs: gs.idempotency.run("key", nothing),
    "idempotency.get": lambda gs: gs.idempotency.get("key"),
    "cached": lambda gs: gs.cached("5m", key="key")(nothing)(),
    "idempotent": lambda gs: gs.idempotent("key")(nothing)(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.asyncio
async def test_before_open_and_after_close_every_use_is_refused(
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
async def test_decorators_bind_before_it_is_open(store: Store) -> None:
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
async def test_open_and_close_by_hand(store: Store) -> None:
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
            await gs.idempotency.run("once", nothing)
            await gs.cache.get_or_set("other", nothing)
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
async def test_opening_twice_at_once_is_refused_too(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db")
    results = await asyncio.gather(gs.open(), gs.open(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ConfigurationError]
    await gs.close()


@pytest.mark.asyncio
async def test_a_scope_that_cannot_be_opened_stays_closed_and_can_be_tried_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "app.db"
    path.write_text("no database, but long enough to look like one" * 100)
    gs = Scope(backend="sqlite", path=path)
    with pytest.raises(BackendError):
        await gs.open()
    assert not gs.is_open
    path.unlink()
    async with gs:
        pass


@pytest.mark.asyncio
async def test_an_error_in_the_block_closes_it(store: Store) -> None:
    gs = store.scope()
    with pytest.raises(ZeroDivisionError):
        async with gs:
            _ = 1 / 0
    assert not gs.is_open


# --- adapters --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_adapter_it_connected_is_disconnected(tmp_path: Path) -> None:
    adapter = SQLiteAdapter(tmp_path / "app.db")
    async with Scope(persistence=adapter) as gs:
        assert gs.persistence is adapter
        assert adapter.is_connected
    assert not adapter.is_connected


@pytest.mark.asyncio
async def test_an_adapter_that_was_connected_before_stays_so(tmp_path: Path) -> None:
    async with SQLiteAdapter(tmp_path / "app.db") as adapter:
        async with Scope(persistence=adapter):
            pass
        assert adapter.is_connected


@pytest.mark.asyncio
async def test_an_adapter_needs_no_base_class() -> None:
    adapter: PersistenceAdapter = ForeignAdapter()
    async with Scope(persistence=adapter, observers=[str]) as gs:
        for use in PROVIDERS.values():
            await use(gs)
    assert not adapter.is_connected


@pytest.mark.parametrize("attribute", ["clock", "default_lock_ttl_ms", "capabilities"])
@pytest.mark.asyncio
async def test_an_adapter_that_lacks_an_attribute_is_refused_at_open(attribute: str) -> None:
    adapter = ForeignAdapter()
    delattr(adapter, attribute)
    gs = Scope(persistence=adapter)
    with pytest.raises(ConfigurationError, match=f"ForeignAdapter .* has no {attribute}"):
        await gs.open()
    assert not gs.is_open
    assert not adapter.is_connected


@pytest.mark.asyncio
async def test_prefixes_keep_two_scopes_on_one_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    one = Scope(backend="sqlite", path=path, key_prefix="one:", locks="shared")
    two = Scope(backend="sqlite", path=path, key_prefix="two:", locks="shared")
    async with one, two, one.lock("door", wait=0), two.lock("door", wait=0):
        await one.cache.set("key", 1)
        assert await two.cache.get("key") is None
        assert await one.idempotency.run("key", lambda: one.cache.get("key")) == 1
        assert await two.idempotency.run("key", lambda: two.cache.get("key")) is None


PROVIDERS: dict[str, Callable[[Scope], Awaitable[object]]] = {
    "lock": USES["lock"],
    "cache": USES["cache.get"],
    "circuit_breaker": USES["breaker"],
    "checkpoint": USES["run"],
    "idempotency": USES["once"],
}


@pytest.mark.parametrize(("provider", "use"), PROVIDERS.items(), ids=PROVIDERS)
@pytest.mark.asyncio
async def test_without_a_provider_its_feature_is_missing_and_the_others_work(
    provider: str, use: Callable[[Scope], Awaitable[object]]
) -> None:
    adapter = MemoryAdapter()
    setattr(adapter, provider, None)
    async with Scope(persistence=adapter) as gs:
        with pytest.raises(CapabilityMissing, match=r"MemoryAdapter.* has no .* provider"):
            await use(gs)
        for other, working in PROVIDERS.items():
            if other != provider:
                await working(gs)


@pytest.mark.asyncio
async def test_without_leases_there_is_no_scope() -> None:
    adapter = MemoryAdapter()
    setattr(adapter, "lease", None)  # noqa: B010  # a type checker refuses the plain form
    gs = Scope(persistence=adapter)
    with pytest.raises(CapabilityMissing, match="lease"):
        await gs.open()
    assert not gs.is_open
    assert not adapter.is_connected


@pytest.mark.asyncio
async def test_a_provider_that_lacks_methods_is_refused_at_open() -> None:
    adapter = MemoryAdapter()
    setattr(adapter, "cache", adapter.lock)  # noqa: B010  # a type checker refuses the plain form
    gs = Scope(persistence=adapter)
    with pytest.raises(
        ConfigurationError, match="cache is not a valid CacheProvider: MemoryLockProvider"
    ):
        await gs.open()
    assert not adapter.is_connected


# --- requirements ----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_required_capability_that_is_missing_is_refused_with_advice(
    tmp_path: Path,
) -> None:
    requires = {Capability.SHARED_LOCKS}
    gs = Scope(backend="sqlite", path=tmp_path / "app.db", requires=requires)
    with pytest.raises(CapabilityMissing, match="open it with locks='shared'") as caught:
        await gs.open()
    assert caught.value.backend == "sqlite"
    assert not gs.is_open
    async with Scope(backend="sqlite", path=tmp_path / "app.db", locks="shared", requires=requires):
        pass


@pytest.mark.asyncio
async def test_every_capability_has_some_advice() -> None:
    for capability in Capability:
        with pytest.raises(CapabilityMissing, match=f"no capability '{capability.value}': [a-z]"):
            await Scope(backend="memory", requires=[capability]).open()


# --- lease_ttl -------------------------------------------------------------------------------


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


# --- closing ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_closing_ends_background_work(store: Store) -> None:
    paused = PausedCall()
    async with store.scope() as gs:
        await gs.cache.get_or_set("key", nothing, ttl="1s", stale_for="1h")
        store.clock.step_wall("2s")
        await gs.cache.get_or_set("key", paused.run, ttl="1s", stale_for="1h")
        await paused.started()
        assert paused.running == 1
    assert paused.running == 0


class SlowAdapter(MemoryAdapter):
    """Takes its time to disconnect."""

    closed = False

    async def disconnect(self) -> None:
        await ticks(5)
        await super().disconnect()
        self.closed = True


@pytest.mark.asyncio
async def test_a_cancelled_close_goes_to_its_end() -> None:
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
async def test_who_holds_a_lock_while_it_closes_is_told_so(tmp_path: Path) -> None:
    """And a body's own error is not hidden by that."""
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
