"""The contract of `goscope.CacheProvider`: patterns, tags and counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest

from ..._tools.key import escape_pattern
from ...providers import CacheStats
from ._base import cache_of
from ._cache import CacheTests
from ._checks import HANG_S, rejects
from ._samples import BAD_KEYS

USER_KEYS: Final = (
    "user:1", "user:2", "user_1", "user%1", "user?1", "user[1]", "user*1", "User:1", "USER:1",
    "user:", "user", "user:1:name", "xuser:1", "user\n1",
)  # fmt: skip


class CachePatternConformance(CacheTests, abstract=True):
    """Entries are found and removed by pattern and by tag, and counted."""

    # --- patterns ----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("pattern", "matches"),
        [
            ("*", USER_KEYS),
            ("**", USER_KEYS),
            ("user:*", ("user:1", "user:2", "user:", "user:1:name")),
            ("user_*", ("user_1",)),
            ("user%*", ("user%1",)),
            ("user?1", ("user?1",)),
            ("user[1]", ("user[1]",)),
            ("[u]ser:1", ()),
            ("user:[12]", ()),
            ("user*1", ("user:1", "user_1", "user%1", "user?1", "user*1", "user\n1")),
            ("USER:*", ("USER:1",)),
            ("*:1", ("user:1", "User:1", "USER:1", "xuser:1")),
            ("u*:*e", ("user:1:name",)),
            ("user:1", ("user:1",)),
            ("user", ("user",)),
            ("*user", ("user",)),
            ("absent*", ()),
        ],
    )
    async def test_cache_star_is_the_only_wildcard(
        self, tmp_path: Path, pattern: str, matches: tuple[str, ...]
    ) -> None:
        """``*`` matches any run of characters, any other character only itself, in its case.

        keys() and scan() list what clear() removes.
        """
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(USER_KEYS, 1))
            assert await cache.keys(pattern) == sorted(matches)
            assert [key async for key in cache.scan(pattern)] == sorted(matches)
            await cache.clear(pattern)
            assert await cache.keys() == sorted(set(USER_KEYS) - set(matches))

    @pytest.mark.parametrize(
        ("pattern", "matches"),
        [
            (escape_pattern("a*"), ("a*",)),
            (escape_pattern("a*") + "*", ("a*", "a*b", "a**")),
            ("*" + escape_pattern("*"), ("a*", "a**", "\\*")),
            (escape_pattern("a**"), ("a**",)),
            ("\\*", ("\\*", "\\ab")),
            (escape_pattern("\\*"), ("\\*",)),
        ],
    )
    async def test_cache_an_escaped_star_stands_for_itself(
        self, tmp_path: Path, pattern: str, matches: tuple[str, ...]
    ) -> None:
        """`goscope.escape_pattern` makes ``*`` a character; a backslash always is one."""
        async with self.open_cache(tmp_path) as cache:
            keys = ("a", "a*", "a*b", "a**", "ab", "\\*", "\\ab")
            await cache.set_many(dict.fromkeys(keys, 1))
            assert await cache.keys(pattern) == sorted(matches)
            await cache.clear(pattern)
            assert await cache.keys() == sorted(set(keys) - set(matches))

    async def test_cache_literal_parts_of_a_pattern_do_not_overlap(self, tmp_path: Path) -> None:
        """The literal parts of a pattern match one after the other."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many({"aba": 1, "abba": 1, "abab": 1})
            assert await cache.keys("ab*ba") == ["abba"]

    async def test_cache_patterns_with_many_stars_match_in_polynomial_time(
        self, tmp_path: Path
    ) -> None:
        """Users may supply patterns, so matching must not try every combination."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("a" * 512, 1)
            start = time.monotonic()
            assert await cache.keys("*a" * 100 + "*b") == []
            assert time.monotonic() - start < HANG_S, "matching takes exponential time"

    async def test_cache_clear_without_pattern_removes_everything(self, tmp_path: Path) -> None:
        """clear() removes live and stale entries and their tags."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("stale", 1, "500ms", stale_for="1h", tags=["tag"])
            await self.advance(adapter, "600ms")
            await cache.set("live", 1, tags=["tag"])
            await cache.clear()
            assert await cache.keys() == []
            assert await cache.get_entry("stale") is None, "clear() left a stale entry"
            assert await cache.delete_by_tag("tag") == 0, "clear() left tags"

    async def test_cache_rejects_invalid_patterns(self, tmp_path: Path) -> None:
        """A pattern must be a valid key."""

        async def scan(pattern: Any) -> object:
            return [key async for key in cache.scan(pattern)]

        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1)
            bad = [entry for entry in BAD_KEYS if entry.value is not None]
            await rejects("cache.keys(pattern)", cache.keys, bad)
            await rejects("cache.scan(pattern)", scan, bad)
            await rejects("cache.clear(pattern)", cache.clear, bad)
            assert await cache.has("key"), "a rejected clear() removed something"

    async def test_cache_keys_and_scan_are_sorted(self, tmp_path: Path) -> None:
        """Keys are sorted by code point, whatever the order of the writes."""
        names = ["b", "a", "ä", "Z", "🔑", "\uffee", "ab", "a:", "B", "10", "9"]
        async with self.open_cache(tmp_path) as cache:
            for name in names:
                await cache.set(name, 1)
            assert await cache.keys() == sorted(names)
            assert [key async for key in cache.scan()] == sorted(names)

    async def test_cache_scan_yields_every_key_once(self, tmp_path: Path) -> None:
        """scan() yields every key exactly once, also when it reads several pages."""
        names = [f"key{number:05}" for number in range(2_500)]
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(names, 1))
            assert [key async for key in cache.scan("key*")] == names

    async def test_cache_scan_continues_during_writes(self, tmp_path: Path) -> None:
        """scan() yields a key that exists throughout exactly once, whatever is written."""
        names = [f"key{number:05}" for number in range(0, 3_000, 2)]
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(names, 1))
            found: list[str] = []
            async for key in cache.scan():
                found.append(key)
                if len(found) % 300 == 0:
                    await cache.set(f"key{len(found):05}x", 1)
                    await cache.delete(f"key{len(found):05}x")
            assert [key for key in found if key in set(names)] == names

    # --- tags --------------------------------------------------------------------------------

    async def test_cache_delete_by_tag_removes_tagged_entries(self, tmp_path: Path) -> None:
        """It removes and counts the entries with exactly this tag."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1, tags=["red", "round"])
            await cache.set("two", 2, "1h", tags=["red"])
            await cache.set("three", 3, tags=["Red", "red ", "re_", "r*"])
            await cache.set("red", 4)
            assert await cache.delete_by_tag("red") == 2
            assert await cache.keys() == ["red", "three"]

    async def test_cache_delete_by_tag_takes_no_pattern(self, tmp_path: Path) -> None:
        """A tag is a name, in which ``*`` is a literal."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1, tags=["red"])
            for tag in ("*", "r*", "r_d", "%", "RED"):
                assert await cache.delete_by_tag(tag) == 0, f"tag {tag!r} matched 'red'"

    async def test_cache_set_replaces_the_tags(self, tmp_path: Path) -> None:
        """An entry that is set again has only the new tags, also with the same value."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, tags=["old"])
            await cache.set("key", 1, tags=["new"])
            assert await cache.delete_by_tag("old") == 0, "the old tags still apply"
            assert await cache.delete_by_tag("new") == 1
            await cache.set("key", 1, tags=["old"])
            await cache.set("key", 1)
            assert await cache.delete_by_tag("old") == 0, "the old tags still apply"

    async def test_cache_tags_are_removed_with_their_entry(self, tmp_path: Path) -> None:
        """An entry that is deleted and stored again without tags has none."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, tags=["tag"])
            await cache.delete("key")
            await cache.set("key", 1)
            assert await cache.delete_by_tag("tag") == 0, "the tags outlived their entry"
            await cache.set("key", 1, tags=["tag"])
            await cache.delete_many(["key"])
            await cache.add("key", 1)
            assert await cache.delete_by_tag("tag") == 0, "the tags outlived their entry"

    async def test_cache_delete_by_tag_of_an_unknown_tag_is_zero(self, tmp_path: Path) -> None:
        """A tag that no entry has removes nothing."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.delete_by_tag("tag") == 0

    # --- stats and prune ---------------------------------------------------------------------

    async def test_cache_stats_count_entries_hits_and_misses(self, tmp_path: Path) -> None:
        """``entries`` counts live entries; hits and misses count from the connect."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            assert (await cache.stats()).hit_rate == 0.0, "there was no lookup"
            await cache.set("expired", 0, "500ms")
            await self.advance(adapter, "600ms")
            await cache.set("one", None)
            await cache.get("one")
            await cache.get("expired")
            await cache.get("absent")
            await cache.get_many(["one", "absent"])
            stats = await cache.stats()
            assert stats == CacheStats(entries=1, hits=2, misses=3)
            assert stats.hit_rate == 0.4

    async def test_cache_prune_removes_expired_entries(self, tmp_path: Path) -> None:
        """prune() removes and counts expired entries that no sweep has removed; others stay."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            for number in range(3):
                await cache.set(f"expired{number}", 1, "500ms")
            await cache.set("stale", 1, "500ms", stale_for="1h")
            await cache.set("live", 1, "1h")
            await cache.set("permanent", 1)
            await self.advance(adapter, "600ms")
            assert await cache.prune() in range(4), "prune() counted more than had expired"
            assert await cache.keys() == ["live", "permanent"]
            assert await cache.get_entry("stale") is not None, "prune() removed a stale entry"
            assert await cache.prune() == 0, "prune() counted something twice"
