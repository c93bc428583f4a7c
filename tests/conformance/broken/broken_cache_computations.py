"""Backends whose cache has one bug each with the leases of values that are being computed.

The docstring of a test class names the bug.
"""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

from collections.abc import Callable, Mapping

from goscope.backend import Fence, NewEntry, StoredEntry
from goscope.backend.records import RecordCacheProvider

from .correct import Broken, broken

Change = Callable[[StoredEntry | None], StoredEntry | None]


class IndifferentCache(RecordCacheProvider):
    def load_lease(self, key: str) -> str:
        return f"unused:{key}"


class TestComputationNotEnded(Broken):
    """A write leaves the computation that it supersedes in force."""

    provider = "cache"
    adapter = broken("cache", IndifferentCache)


class UntaggedComputationsCache(RecordCacheProvider):
    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        return await super()._end_loads(pattern, mark) if mark is None else []


class TestTagsOfComputationsIgnored(Broken):
    """delete_by_tag() knows only the tags of stored entries."""

    provider = "cache"
    adapter = broken("cache", UntaggedComputationsCache)


class EveryTagCache(RecordCacheProvider):
    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        return await super()._end_loads(pattern, None)


class TestAnyTagEndsComputations(Broken):
    """delete_by_tag() ends all computations, whatever their tags."""

    provider = "cache"
    adapter = broken("cache", EveryTagCache)


class EagerCache(RecordCacheProvider):
    async def _update(
        self, key: str, change: Change, fence: Fence | None, *, ends_load: bool = True
    ) -> None:
        await super()._update(key, change, fence)


class TestTouchEndsComputations(Broken):
    """touch() supersedes a computation although it changes no value."""

    provider = "cache"
    adapter = broken("cache", EagerCache)


class SelfEndingCache(RecordCacheProvider):
    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        await super()._set(entries, fence)
        if fence is not None:
            for key in entries:
                await self._end_loads(self.load_lease(key), None)


class TestOwnComputationEnded(Broken):
    """A computation ends its own lease when it stores its value."""

    provider = "cache"
    adapter = broken("cache", SelfEndingCache)
