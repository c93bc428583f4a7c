"""Backends with one bug each in the reads of their cache.

The docstring of a test class names the bug.
"""


# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import re
from typing import Any

import msgspec

from goscope.backend import pattern_regex
from goscope.backend.records import (
    RecordCacheProvider,
)
from goscope.providers import CacheEntry

from .correct import Broken, broken


class NoneIsMissCache(RecordCacheProvider):
    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        value = await super().get(key, type=type)
        return default if value is None else value


class TestNoneAsMiss(Broken):
    """A stored None is treated as an absent entry."""

    provider = "cache"
    adapter = broken("cache", NoneIsMissCache)


class LikeCache(RecordCacheProvider):
    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        now = self.context.clock.wall_ms()
        like = pattern_regex(pattern).pattern.replace("_", ".")
        entries = sorted(await self._entries())
        kept = (key for key, entry in entries if with_expired or entry.is_live(now))
        return [key for key in kept if key > after and re.fullmatch(like, key, re.DOTALL)][:limit]


class TestLikeWildcard(Broken):
    """``_`` in a pattern or a prefix matches any character, as in LIKE."""

    provider = "cache"
    adapter = broken("cache", LikeCache)


class UnescapedCache(RecordCacheProvider):
    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        plain = pattern.replace("\0*", "*")
        return await super()._page(plain, after, limit, with_expired=with_expired)


class TestEscapedStarAsWildcard(Broken):
    """An escaped ``*`` matches any run of characters."""

    provider = "cache"
    adapter = broken("cache", UnescapedCache)


class UnsortedCache(RecordCacheProvider):
    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        page = await super()._page(pattern, after, limit, with_expired=with_expired)
        return page[-2::-1] + page[-1:]  # the last key starts the next page


class TestKeysOutOfOrder(Broken):
    """Keys are not sorted."""

    provider = "cache"
    adapter = broken("cache", UnsortedCache)


class RawIgnoringCache(RecordCacheProvider):
    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        return await super().get_entry(key, type=None if type is msgspec.Raw else type)


class TestRawEntryDecoded(Broken):
    """get_entry() decodes the value for the type ``msgspec.Raw``."""

    provider = "cache"
    adapter = broken("cache", RawIgnoringCache)
