"""Adapters of a scope: their disconnection, what they must have, and required capabilities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from goscope import Capability, CapabilityMissing, ConfigurationError, PersistenceAdapter, Scope
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .support import ForeignAdapter
from .uses import PROVIDERS


@pytest.mark.asyncio
async def test_an_adapter_that_the_scope_connected_is_disconnected(tmp_path: Path) -> None:
    adapter = SQLiteAdapter(tmp_path / "app.db")
    async with Scope(persistence=adapter) as gs:
        assert gs.persistence is adapter
        assert adapter.is_connected
    assert not adapter.is_connected


@pytest.mark.asyncio
async def test_an_adapter_that_was_connected_before_stays_connected(tmp_path: Path) -> None:
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
async def test_scopes_with_different_prefixes_share_a_file_but_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    one = Scope(backend="sqlite", path=path, key_prefix="one:", locks="shared")
    two = Scope(backend="sqlite", path=path, key_prefix="two:", locks="shared")
    async with one, two, one.lock("door", wait=0), two.lock("door", wait=0):
        await one.cache.set("key", 1)
        assert await two.cache.get("key") is None
        assert await one.idempotency.run("key", lambda: one.cache.get("key")) == 1
        assert await two.idempotency.run("key", lambda: two.cache.get("key")) is None


@pytest.mark.parametrize(("provider", "use"), PROVIDERS.items(), ids=PROVIDERS)
@pytest.mark.asyncio
async def test_without_a_provider_its_feature_raises_and_the_others_work(
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
async def test_a_scope_needs_leases() -> None:
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
async def test_every_missing_capability_comes_with_advice() -> None:
    for capability in Capability:
        with pytest.raises(CapabilityMissing, match=f"no capability '{capability.value}': [a-z]"):
            await Scope(backend="memory", requires=[capability]).open()
