"""A key-value store of py-key-value, as FastMCP takes it. Needs ``goscope[keyvalue]``.

mcp = FastMCP("shop", session_state_store=GoscopeKeyValue(gs))
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from key_value.aio.stores.base import (
    BaseDestroyCollectionStore,
    BaseDestroyStore,
    BaseStore,
    ManagedEntry,
)

from .._scope import Scope
from ._collection_key import collection_key, collection_prefix


class GoscopeKeyValue(BaseDestroyStore, BaseDestroyCollectionStore, BaseStore):
    """Collections in the cache of an open scope, under a namespace."""

    def __init__(
        self, gs: Scope, namespace: str = "key-value", *, default_collection: str | None = None
    ) -> None:
        self._gs = gs
        self._namespace = namespace
        super().__init__(default_collection=default_collection, stable_api=True)

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        (found,) = await self._get_managed_entries(collection=collection, keys=[key])
        return found

    async def _get_managed_entries(
        self, *, collection: str, keys: Sequence[str]
    ) -> list[ManagedEntry | None]:
        stored = self._keys(collection, keys)
        texts = await self._gs.cache.get_many(stored, type=str)
        load = self._serialization_adapter.load_json
        return [load(json_str=texts[key]) if key in texts else None for key in stored]

    async def _put_managed_entry(
        self, *, collection: str, key: str, managed_entry: ManagedEntry
    ) -> None:
        text = self._serialization_adapter.dump_json(
            entry=managed_entry, key=key, collection=collection
        )
        ttl = None if managed_entry.ttl is None else timedelta(seconds=managed_entry.ttl)
        (stored,) = self._keys(collection, [key])
        if ttl is not None and ttl <= timedelta(0):
            await self._gs.cache.delete(stored)  # it has expired on its way here
        else:
            await self._gs.cache.set(stored, text, ttl)

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._delete_managed_entries(keys=[key], collection=collection) == 1

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        return await self._gs.cache.delete_many(self._keys(collection, keys))

    async def _delete_collection(self, *, collection: str) -> bool:
        await self._gs.cache.clear(f"{collection_prefix(self._namespace, collection)}*")
        return True

    async def _delete_store(self) -> bool:
        await self._gs.cache.clear(f"{collection_prefix(self._namespace)}*")
        return True

    def _keys(self, collection: str, keys: Sequence[str]) -> list[str]:
        prefix = collection_prefix(self._namespace, collection)
        return [collection_key(prefix, key) for key in keys]
