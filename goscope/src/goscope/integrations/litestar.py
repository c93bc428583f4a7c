"""A store of Litestar in the cache of a scope. Needs ``goscope[litestar]``.

    app = Litestar(..., stores=stores(gs), lifespan=[gs])

Sessions, cached responses and rate limits are then shared by all workers, and survive a restart.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from litestar.stores.base import NamespacedStore
from litestar.stores.registry import StoreRegistry

from .._scope import Scope
from ._collection_key import collection_key, collection_prefix


class GoscopeStore(NamespacedStore):
    """Values in the cache of an open scope, under a namespace."""

    __slots__ = ("_gs", "_names", "_prefix")

    def __init__(self, gs: Scope, *names: str) -> None:
        self._gs = gs
        self._names = names or ("litestar",)
        self._prefix = collection_prefix(*self._names)

    def with_namespace(self, namespace: str) -> Self:
        """A store in a namespace of this one: `delete_all` of this one deletes its values, too."""
        return type(self)(self._gs, *self._names, namespace)

    async def set(
        self, key: str, value: str | bytes, expires_in: int | timedelta | None = None
    ) -> None:
        """Store a value. It never expires if ``expires_in``, in seconds, is None or 0."""
        data = value.encode() if isinstance(value, str) else value
        await self._gs.cache.set(self._key(key), data, _duration(expires_in))

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        """The value. ``renew_for`` seconds from now it expires, if it expires at all."""
        stored = self._key(key)
        value = await self._gs.cache.get(stored, type=bytes)
        renewed = _duration(renew_for)
        if value is not None and renewed is not None and await self.expires_in(key) is not None:
            await self._gs.cache.touch(stored, renewed)
        return value

    async def delete(self, key: str) -> None:
        """Delete the value, if there is one."""
        await self._gs.cache.delete(self._key(key))

    async def delete_all(self) -> None:
        """Delete all values of this namespace and of those in it."""
        await self._gs.cache.clear(f"{self._prefix}*")

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return await self._gs.cache.has(self._key(key))

    async def expires_in(self, key: str) -> int | None:
        """In how many seconds the value expires; None if there is none, or if it never does."""
        entry = await self._gs.cache.get_entry(self._key(key), type=bytes)
        if entry is None or entry.expires_in_ms is None or entry.expires_in_ms <= 0:
            return None
        return entry.expires_in_ms // 1000

    def _key(self, key: str) -> str:
        return collection_key(self._prefix, key)


def stores(gs: Scope) -> StoreRegistry:
    """A registry in which each name of a store is a namespace of the scope."""
    return StoreRegistry(default_factory=GoscopeStore(gs).with_namespace)


def _duration(seconds: int | timedelta | None) -> timedelta | None:
    if not seconds:
        return None
    return seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
