"""``attach``: opening a store without changing it, as ``goscope status`` does."""

from __future__ import annotations

import pytest

from goscope.errors import SchemaMismatch
from goscope.maintenance import SupportsAttach
from goscope_postgres.schema import VERSION

from .stores import Store, administrator
from .support import adapter_of

pytestmark = pytest.mark.asyncio


async def rows(store: Store) -> dict[str, object]:
    """What each table of goscope holds."""
    async with administrator() as other:
        names = await other.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'test_clock'",
            store.name,
        )
        return {
            name: await other.fetch(f"SELECT xmin::text, t.* FROM {store.name}.{name} AS t")
            for (name,) in names
        }


async def test_attaching_changes_nothing_and_lists_nobody(store: Store) -> None:
    adapter = adapter_of(store)
    assert isinstance(adapter, SupportsAttach)
    async with adapter_of(store) as program:
        await program.cache.set("key", 1)
        before = await rows(store)
        await adapter.attach()
        assert [it.key async for it in adapter.inspection.entries()] == ["key"]
        assert len([it async for it in adapter.inspection.processes()]) == 1
        assert adapter.context.store_id == program.context.store_id
        assert adapter.capabilities == program.capabilities
        assert adapter._sweeper.schedule._task is None
        await adapter.disconnect()
        assert await rows(store) == before
    async with adapter:
        assert len([it async for it in adapter.inspection.processes()]) == 1
    await adapter.attach()
    assert [it async for it in adapter.inspection.processes()] == []
    await adapter.disconnect()


async def test_attaching_creates_and_migrates_nothing(store: Store) -> None:
    adapter = adapter_of(store)
    with pytest.raises(SchemaMismatch, match="do not exist"):
        await adapter.attach()
    assert await rows(store) == {}
    async with adapter_of(store):
        pass
    for version, advice in (
        (VERSION - 1, "Open the store once"),
        (VERSION + 1, "Upgrade goscope-postgres"),
    ):
        await store.execute(f"UPDATE {{name}}.goscope_meta SET version = {version}")
        before = await rows(store)
        with pytest.raises(SchemaMismatch, match=f"version {version}.*{advice}"):
            await adapter.attach()
        assert not adapter.is_connected
        assert await rows(store) == before
