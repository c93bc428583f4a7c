"""The contract of `goscope.CacheProvider`: expiry and staleness."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ...providers import MISSING, CacheEntry, CacheProvider
from ._base import cache_of
from ._cache import CacheTests, expiry
from ._checks import rejects
from ._samples import BAD_DURATIONS

Cache = CacheProvider

METHODS_WITH_TTLS: Final[dict[str, Callable[[Cache, Any], Awaitable[object]]]] = {
    "set": lambda cache, ttl: cache.set("new", 1, ttl),
    "add": lambda cache, ttl: cache.add("new", 1, ttl),
    "increment": lambda cache, ttl: cache.increment("new", 1, ttl),
    "set_many": lambda cache, ttl: cache.set_many({"new": 1}, ttl),
    "set(stale_for=)": lambda cache, ttl: cache.set("new", 1, "1s", stale_for=ttl),
}


class CacheExpiryConformance(CacheTests, abstract=True):
    """An expired entry is absent, but ``get_entry`` may serve it stale for a while."""

    # --- expiry ------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", METHODS_WITH_TTLS)
    async def test_cache_rejects_invalid_ttls(self, tmp_path: Path, method: str) -> None:
        """Each method rejects invalid durations and writes nothing."""
        async with self.open_cache(tmp_path) as cache:
            call = METHODS_WITH_TTLS[method]
            await rejects(f"cache.{method}", lambda ttl: call(cache, ttl), BAD_DURATIONS)
            assert not await cache.has("new"), "a rejected call wrote something"

    async def test_cache_touch_rejects_invalid_ttls(self, tmp_path: Path) -> None:
        """An invalid ttl does not change the expiry."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1)
            await rejects("cache.touch", lambda ttl: cache.touch("key", ttl), BAD_DURATIONS)
            assert await expiry(cache, "key") is None, "a rejected touch() moved the expiry"

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_cache_ttl_units(self, tmp_path: Path, ttl: timedelta | str | float) -> None:
        """A ttl is a timedelta, a string with a unit, or a number of milliseconds."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("reference", 1, "1s")
            await cache.set("key", 1, ttl)
            reference, found = await expiry(cache, "reference"), await expiry(cache, "key")
            assert reference is not None
            assert found is not None, "an entry with a ttl has no expiry"
            assert 59_000 <= found - reference < 69_000, f"ttl={ttl!r} is not 60000 ms"

    async def test_cache_expires_at_is_epoch_milliseconds(self, tmp_path: Path) -> None:
        """Times in records are integers in epoch milliseconds."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h")
            found = await expiry(cache, "key")
            assert type(found) is int, f"expires_at is {found!r}, not an int"
            assert 1_500_000_000_000 < found < 10_000_000_000_000, "not epoch milliseconds"

    async def test_cache_an_expired_entry_is_absent(self, tmp_path: Path) -> None:
        """Past its expiry an entry is absent for every method, swept or not."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms", tags=["tag"])
            await self.advance(adapter, "600ms")
            assert await cache.get("key", MISSING) is MISSING
            assert not await cache.has("key")
            assert await cache.keys() == []
            assert await cache.get_many(["key"]) == {}
            assert await cache.get_entry("key") is None
            assert not await cache.touch("key", "1h"), "touch() revived an expired entry"
            assert await cache.delete_by_tag("tag") == 0, "delete_by_tag() counted an expired entry"
            assert not await cache.delete("key"), "delete() counted an expired entry"

    async def test_cache_a_ttl_under_a_second_is_honoured(self, tmp_path: Path) -> None:
        """An entry with a ttl of half a second is live at first."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "500ms")
            assert await cache.get("key") == 1, "a ttl under a second was rounded to zero"

    async def test_cache_an_entry_lives_until_its_expiry(self, tmp_path: Path) -> None:
        """An entry does not expire early because its ttl was rounded to whole seconds."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "2s")
            await self.advance(adapter, "1s")
            assert await cache.get("key") == 1, "the entry expired a second too early"

    async def test_cache_an_entry_without_ttl_does_not_expire(self, tmp_path: Path) -> None:
        """No ttl means no expiry."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1)
            assert await expiry(cache, "key") is None

    async def test_cache_set_replaces_the_expiry(self, tmp_path: Path) -> None:
        """set() without a ttl removes the expiry of the previous set()."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms", stale_for="1h")
            await cache.set("key", 1)
            entry = await cache.get_entry("key")
            assert entry == CacheEntry(value=1, expires_at=None), "old times were kept"
            await self.advance(adapter, "600ms")
            assert await cache.get("key") == 1

    async def test_cache_touch_counts_from_now(self, tmp_path: Path) -> None:
        """A touched entry expires its new ttl from now, whether earlier or later than before."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("longer", 1, "500ms")
            await cache.set("shorter", 2, "1h")
            assert await cache.touch("longer", "1h"), "touch() did not find a live entry"
            assert await cache.touch("shorter", "500ms"), "touch() did not find a live entry"
            await self.advance(adapter, "600ms")
            assert await cache.get("longer") == 1, "touch() did not move the expiry"
            assert not await cache.has("shorter"), "touch() did not move the expiry"

    async def test_cache_touch_without_ttl_removes_the_expiry(self, tmp_path: Path) -> None:
        """An entry that is touched with None never expires."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h")
            assert await cache.touch("key", None)
            assert await expiry(cache, "key") is None
            assert await cache.get("key") == 1

    async def test_cache_touch_of_an_absent_key_is_false(self, tmp_path: Path) -> None:
        """touch() does not create an entry."""
        async with self.open_cache(tmp_path) as cache:
            assert not await cache.touch("key", "1h")
            assert not await cache.has("key"), "touch() created an entry"

    async def test_cache_touch_keeps_value_and_tags(self, tmp_path: Path) -> None:
        """touch() changes only the times."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", [1], "1h", tags=["tag"])
            await cache.touch("key", "2h")
            assert await cache.get("key") == [1]
            assert await cache.delete_by_tag("tag") == 1, "touch() lost the entry's tags"

    async def test_cache_touch_keeps_the_stale_duration(self, tmp_path: Path) -> None:
        """The stale deadline moves with the expiry, and is removed with it."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h", stale_for="10m")
            assert await cache.touch("key", "2h")
            entry = await cache.get_entry("key")
            assert entry is not None
            assert entry.expires_at is not None
            assert entry.stale_until == entry.expires_at + 600_000, "the stale duration changed"
            assert await cache.touch("key", None)
            entry = await cache.get_entry("key")
            assert entry is not None
            assert entry.stale_until is None, "an entry without expiry never becomes stale"

    # --- staleness ---------------------------------------------------------------------------

    async def test_cache_get_entry_returns_a_live_entry(self, tmp_path: Path) -> None:
        """A live entry is not stale and has both of its times."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1m", stale_for="10m")
            entry = await cache.get_entry("key")
            assert isinstance(entry, CacheEntry), "get_entry() must return a goscope.CacheEntry"
            assert entry.value == 1
            assert not entry.is_stale
            assert entry.expires_at is not None
            assert entry.stale_until == entry.expires_at + 600_000, "it is not from the expiry"
            assert entry.expires_in_ms is not None
            assert 0 < entry.expires_in_ms <= 60_000, "expires_in_ms is not what is left"
            await cache.set("forever", 1)
            entry = await cache.get_entry("forever")
            assert entry is not None
            assert entry.expires_in_ms is None, "an entry without expiry has time left"

    async def test_cache_get_entry_of_an_absent_key_is_none(self, tmp_path: Path) -> None:
        """get_entry() of an absent key returns None."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get_entry("key") is None

    async def test_cache_only_get_entry_serves_a_stale_entry(self, tmp_path: Path) -> None:
        """Past its expiry an entry is absent for every method except get_entry()."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms", stale_for="1h")
            await self.advance(adapter, "600ms")
            entry = await cache.get_entry("key")
            assert entry is not None, "the entry may be served stale, but is absent"
            assert entry.is_stale, "past its expiry an entry is stale"
            assert entry.value == 1
            assert not await cache.has("key"), "has() found a stale entry"
            assert await cache.get("key", MISSING) is MISSING, "get() served a stale entry"
            assert await cache.keys() == [], "keys() listed a stale entry"
            assert not await cache.touch("key", "1h"), "touch() revived a stale entry"

    async def test_cache_a_stale_entry_ends_at_its_stale_deadline(self, tmp_path: Path) -> None:
        """Past ``stale_until`` even get_entry() does not serve it."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "300ms", stale_for="300ms")
            await self.advance(adapter, "700ms")
            assert await cache.get_entry("key") is None, "a stale entry outlived its deadline"

    async def test_cache_stale_for_needs_a_ttl(self, tmp_path: Path) -> None:
        """An entry that never expires cannot become stale: ``stale_for`` raises ValueError."""
        async with self.open_cache(tmp_path) as cache:
            with pytest.raises(ValueError, match="ttl"):
                await cache.set("key", 1, stale_for="1h")

    async def test_cache_a_stale_entry_can_be_replaced_and_deleted(self, tmp_path: Path) -> None:
        """add() treats a stale entry as absent; delete() removes it."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            for key in ("added", "deleted"):
                await cache.set(key, "old", "500ms", stale_for="1h")
            await self.advance(adapter, "600ms")
            assert await cache.add("added", "new"), "add() treats a stale entry as live"
            assert await cache.get("added") == "new"
            await cache.delete("deleted")
            assert await cache.get_entry("deleted") is None, "delete() left a stale entry"
