"""The contract of `goscope.CacheProvider`: atomic writes of one entry and of many."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ...errors import CorruptValue
from ...providers import CacheEntry
from ._base import cache_of
from ._cache import CacheTests, expiry
from ._checks import is_same, run_ticks


class CacheWriteConformance(CacheTests, abstract=True):
    """Every write is atomic, for one entry and for many."""

    # --- add, delete, increment --------------------------------------------------------------

    async def test_cache_add_stores_only_what_is_absent(self, tmp_path: Path) -> None:
        """The first add() wins, the second changes neither value nor expiry."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.add("key", "first") is True
            assert await cache.add("key", "second", "1h") is False
            assert await cache.get_entry("key") == CacheEntry(value="first", expires_at=None)

    async def test_cache_add_replaces_an_expired_entry(self, tmp_path: Path) -> None:
        """add() replaces an expired entry and inherits nothing of it."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", "old", "500ms", tags=["old"])
            await self.advance(adapter, "600ms")
            assert await cache.add("key", "new"), "add() treats an expired entry as live"
            assert await cache.get_entry("key") == CacheEntry(value="new", expires_at=None)
            assert await cache.delete_by_tag("old") == 0, "the new entry inherited the old tags"

    async def test_cache_one_of_many_concurrent_adds_wins(self, tmp_path: Path) -> None:
        """Of concurrent add() calls exactly one stores its value."""
        async with self.open_cache(tmp_path) as cache:
            added = await asyncio.gather(*(cache.add("key", number) for number in range(20)))
            assert sum(added) == 1, f"{sum(added)} of 20 concurrent add() calls stored a value"
            assert await cache.get("key") == added.index(True), "it is another value"

    async def test_cache_delete_returns_whether_there_was_an_entry(self, tmp_path: Path) -> None:
        """delete() returns True for a live entry, and False the second time."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", None)
            assert await cache.delete("key") is True
            assert not await cache.has("key")
            assert await cache.delete("key") is False

    async def test_cache_increment_starts_at_zero(self, tmp_path: Path) -> None:
        """An absent counter starts at 0; a step may be greater than 1, zero or negative."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.increment("key") == 1
            assert await cache.increment("key", 10) == 11
            assert await cache.increment("key", -12) == -1
            assert await cache.increment("key", 0) == -1
            assert await cache.get("key") == -1, "get() does not return the counter as an integer"

    async def test_cache_concurrent_increments_all_count(self, tmp_path: Path) -> None:
        """n concurrent increments add n, and each caller gets another number."""
        async with self.open_cache(tmp_path) as cache:
            counts = await asyncio.gather(*(cache.increment("key") for _ in range(50)))
            assert sorted(counts) == list(range(1, 51)), "concurrent increments were lost"

    async def test_cache_increment_sets_its_ttl_at_creation_only(self, tmp_path: Path) -> None:
        """A later increment does not move the expiry of the counter."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.increment("key", 5, "1s")
            await self.advance(adapter, "500ms")
            assert await cache.increment("key", 1, "1h") == 6
            await self.advance(adapter, "700ms")
            assert not await cache.has("key"), "a later increment moved the counter's expiry"
            assert await cache.increment("key", 1, "1h") == 1, "an expired counter was continued"

    async def test_cache_increment_keeps_expiry_and_tags(self, tmp_path: Path) -> None:
        """Incrementing a value that was set keeps its expiry and its tags."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 5, "1h", tags=["tag"])
            before = await expiry(cache, "key")
            assert await cache.increment("key", 1, "2h") == 6
            assert await expiry(cache, "key") == before, "increment() moved the expiry"
            assert await cache.delete_by_tag("tag") == 1, "increment() lost the entry's tags"

    @pytest.mark.parametrize("value", ["text", 1.5, None, True, [1], "7"])
    async def test_cache_increment_of_a_non_integer_raises(
        self, tmp_path: Path, value: object
    ) -> None:
        """Incrementing any other value raises CorruptValue and does not change it."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", value)
            with pytest.raises(CorruptValue) as caught:
                await cache.increment("key")
            assert caught.value.key == "key", "the error must have the key without its prefix"
            assert is_same(await cache.get("key"), value), "a failed increment changed the value"

    @pytest.mark.parametrize("by", [1.0, True, "1", None])
    async def test_cache_increment_steps_must_be_integers(self, tmp_path: Path, by: Any) -> None:
        """A step that is not an integer raises TypeError."""
        async with self.open_cache(tmp_path) as cache:
            with pytest.raises(TypeError):
                await cache.increment("key", by)
            assert not await cache.has("key")

    # --- many at a time ----------------------------------------------------------------------

    async def test_cache_get_many_returns_live_entries(self, tmp_path: Path) -> None:
        """The result has the keys of the caller, without the absent ones."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1)
            await cache.set("none", None)
            found = await cache.get_many(["one", "absent", "none", "one"])
            assert found == {"one": 1, "none": None}

    async def test_cache_set_many_stores_all(self, tmp_path: Path) -> None:
        """set_many() stores all values with one ttl and replaces old entries."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", "old", "1s", tags=["tag"])
            await cache.set_many({"one": 1, "two": [2]}, "1h")
            assert await cache.get_many(["one", "two"]) == {"one": 1, "two": [2]}
            assert await expiry(cache, "one") == await expiry(cache, "two") is not None
            assert await cache.delete_by_tag("tag") == 0, "set_many() kept the old entry's tags"

    async def test_cache_delete_many_counts_live_entries(self, tmp_path: Path) -> None:
        """Only live entries count, each of them once."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("expired", 0, "500ms")
            await self.advance(adapter, "600ms")
            await cache.set_many({"one": 1, "two": 2, "three": 3})
            assert await cache.delete_many(["one", "two", "absent", "one", "expired"]) == 2
            assert await cache.keys() == ["three"]

    async def test_cache_accepts_no_keys(self, tmp_path: Path) -> None:
        """Empty arguments are valid and change nothing."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get_many([]) == {}
            await cache.set_many({})
            assert await cache.delete_many([]) == 0

    async def test_cache_handles_thousands_of_keys_in_one_call(self, tmp_path: Path) -> None:
        """The methods for many keys do not expose a limit of the store."""
        values = {f"key{number:05}": number for number in range(3_000)}
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(values, "1h")
            assert await cache.get_many(list(values)) == values
            assert await cache.keys() == list(values)
            assert await cache.delete_many(list(values)) == len(values)

    async def test_cache_rejects_a_string_as_sequence_of_keys(self, tmp_path: Path) -> None:
        """A string instead of a sequence of keys raises TypeError."""
        async with self.open_cache(tmp_path) as cache:
            for call in (cache.get_many("key"), cache.delete_many("key")):
                with pytest.raises(TypeError):
                    await call
            with pytest.raises(TypeError):
                await cache.set("key", 1, tags="tag")

    async def test_cache_a_cancelled_set_many_is_atomic(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, all values are stored or none, and the store still works."""
        async with self.open_cache(tmp_path) as cache:
            for count in range(10):
                task = asyncio.create_task(cache.set_many({"one": count, "two": count}))
                await run_ticks(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                found = await cache.get_many(["one", "two"])
                assert found.get("one") == found.get("two"), f"a write was applied in part: {found}"
            await cache.set("after", 1)
            assert await cache.get("after") == 1, "the store is unusable"
