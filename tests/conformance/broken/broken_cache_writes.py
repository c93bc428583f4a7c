"""Backends with one bug each in the writes of their cache.

The docstring of a test class names the bug.
"""


# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from goscope.backend import DecodeError, Fence, NewEntry, StoredEntry
from goscope.backend.records import (
    RecordCacheProvider,
)

from .correct import Broken, broken

Change = Callable[[StoredEntry | None], StoredEntry | None]


class LostUpdateCache(RecordCacheProvider):
    async def _update(
        self, key: str, change: Change, fence: Fence | None, *, ends_load: bool = True
    ) -> None:
        found = await self._get_entry(key)
        entry = change(None if found is None else found[0])
        await asyncio.sleep(0)
        await super()._update(key, lambda _: entry, fence, ends_load=ends_load)


class TestLostUpdate(Broken):
    """An entry is read, changed and written in separate steps."""

    provider = "cache"
    adapter = broken("cache", LostUpdateCache)


class NonAtomicAddCache(RecordCacheProvider):
    async def _add(self, key: str, entry: NewEntry, fence: Fence | None) -> bool:
        if await self._get(key) is not None:
            return False
        await self._set({key: entry}, fence)
        return True


class TestNonAtomicAdd(Broken):
    """add() reads, then writes, in separate steps."""

    provider = "cache"
    adapter = broken("cache", NonAtomicAddCache)


class SecondsCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        await super()._set({key: _in_seconds(entry) for key, entry in entries.items()}, fence)


def _in_seconds(entry: NewEntry) -> NewEntry:
    ttl_ms = entry.ttl_ms
    return entry if ttl_ms is None else entry._replace(ttl_ms=ttl_ms // 1000 * 1000)


class TestCacheTtlFloor(Broken):
    """Expiry is stored in whole seconds."""

    provider = "cache"
    adapter = broken("cache", SecondsCache)


class PartialBatchCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        for key, entry in entries.items():
            await super()._set({key: entry}, fence)


class TestPartialBatch(Broken):
    """set_many() writes each entry separately, and may be applied in part."""

    provider = "cache"
    adapter = broken("cache", PartialBatchCache)


class BlockingCache(RecordCacheProvider):
    async def _count(self, namespace: str) -> int:
        time.sleep(0.15)  # noqa: ASYNC251  # the bug
        return await super()._count(namespace)


class TestBlockingCall(Broken):
    """stats() blocks the event loop."""

    provider = "cache"
    adapter = broken("cache", BlockingCache)


class RecodingCache(RecordCacheProvider):
    async def set(self, key: str, value: Any, ttl: Any = None, **options: Any) -> None:
        await super().set(key, _recoded(value), ttl, **options)


def _recoded(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if type(value) is msgspec.Raw else value
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


class TestRawReencoded(Broken):
    """set() decodes and encodes a ``msgspec.Raw``."""

    provider = "cache"
    adapter = broken("cache", RecodingCache)


class ClearOfEverything(RecordCacheProvider):
    async def _clear(self, pattern: str) -> None:
        everything = pattern == f"{self._namespace}*"
        await super()._clear(f"{self.context.prefix}*" if everything else pattern)


class TestCollectionsCleared(Broken):
    """clear() removes every entry of the prefix, those of collections too."""

    provider = "cache"
    adapter = broken("cache", ClearOfEverything)


class TagsOfEveryNamespace(RecordCacheProvider):
    async def _delete_by_tag(self, tag: str) -> int:
        return await self._delete(await self._tagged(tag), None)


class TestTagsOfCollections(Broken):
    """delete_by_tag() takes the stored name of a tag for the tag, whatever carries it."""

    provider = "cache"
    adapter = broken("cache", TagsOfEveryNamespace)


class MissesInCollections(RecordCacheProvider):
    def _report_corrupt(self, key: str, exc: DecodeError) -> None:
        if not self._collection:
            super()._report_corrupt(key, exc)


class TestCollectionsMiss(Broken):
    """A collection treats a value that does not decode as absent."""

    provider = "cache"
    adapter = broken("cache", MissesInCollections)
