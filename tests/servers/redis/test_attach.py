"""``attach``: opening a store without changing it, as ``goscope status`` does."""

from __future__ import annotations

import pytest

from goscope.errors import BackendUnavailable
from goscope.maintenance import SupportsAttach

from .servers import RedisServer

pytestmark = pytest.mark.asyncio


async def test_attaching_changes_nothing_and_lists_nobody(server: RedisServer) -> None:
    adapter = server.adapter()
    assert isinstance(adapter, SupportsAttach)
    with pytest.raises(BackendUnavailable, match="has not opened this store yet"):
        await adapter.attach()
    assert not adapter.is_connected
    assert await server.command("DBSIZE") == 0

    async with server.adapter() as program:
        await program.cache.set("key", 1)
        size = await server.command("DBSIZE")
        await adapter.attach()
        assert [it.key async for it in adapter.inspection.entries()] == ["key"]
        assert len([it async for it in adapter.inspection.processes()]) == 1
        assert adapter.context.store_id == program.context.store_id
        await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await adapter.cache.get("key") == 1  # also on another connection
        assert await server.command("DBSIZE") == size
        await adapter.disconnect()
    async with adapter:
        assert len([it async for it in adapter.inspection.processes()]) == 1
    await adapter.attach()
    assert [it async for it in adapter.inspection.processes()] == []
    await server.command("FLUSHALL")
    await server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(BackendUnavailable, match="lost its data"):
        await adapter.cache.get("key")
    assert await server.command("DBSIZE") == 0
    await adapter.disconnect()


async def test_a_user_who_may_not_list_clients_is_not_listed(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all", "-client")
    async with server.adapter():
        pass
    adapter = server.adapter(username="app", password="x")
    await adapter.attach()
    assert [it async for it in adapter.inspection.processes()] == []
    await adapter.disconnect()
