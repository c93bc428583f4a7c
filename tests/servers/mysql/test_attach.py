"""``attach``: opening a store without changing it, as ``goscope status`` does."""

from __future__ import annotations

import pytest

from goscope.errors import SchemaMismatch
from goscope.maintenance import SupportsAttach
from goscope_mysql.schema import VERSION, table_names

from . import databases
from .store import Store

pytestmark = pytest.mark.asyncio


async def rows(store: Store, prefix: str) -> dict[str, object]:
    """What each table holds."""
    async with databases.session(database=store.name) as other:
        found = {name for (name,) in await other.query("SHOW TABLES")}
        names = [it.strip("`") for it in table_names(prefix).values()]
        return {it: await other.query(f"SELECT * FROM {it}") for it in names if it in found}


async def test_attaching_changes_nothing_and_lists_nobody(store: Store) -> None:
    adapter = store.adapter(table_prefix="attached_")
    assert isinstance(adapter, SupportsAttach)
    async with store.adapter(table_prefix="attached_") as program:
        await program.cache.set("key", 1)
        before = await rows(store, "attached_")
        await adapter.attach()
        assert [it.key async for it in adapter.inspection.entries()] == ["key"]
        assert len([it async for it in adapter.inspection.processes()]) == 1
        assert adapter.context.store_id == program.context.store_id
        assert adapter._sweeper.schedule._task is None
        await adapter.disconnect()
        assert await rows(store, "attached_") == before
    async with adapter:
        assert len([it async for it in adapter.inspection.processes()]) == 1
    await adapter.attach()
    assert [it async for it in adapter.inspection.processes()] == []
    await adapter.disconnect()


async def test_attaching_creates_and_migrates_nothing(store: Store) -> None:
    adapter = store.adapter(table_prefix="old_")
    with pytest.raises(SchemaMismatch, match="do not exist"):
        await adapter.attach()
    assert await rows(store, "old_") == {}
    async with store.adapter(table_prefix="old_"):
        pass
    for version, advice in (
        (VERSION - 1, "Open the store once"),
        (VERSION + 1, "Upgrade goscope-mysql"),
    ):
        await store.administrate(
            f"UPDATE old_meta SET value = '{version}' WHERE name = 'schema_version'"
        )
        before = await rows(store, "old_")
        with pytest.raises(SchemaMismatch, match=f"version {version}.*{advice}"):
            await adapter.attach()
        assert not adapter.is_connected
        assert await rows(store, "old_") == before
