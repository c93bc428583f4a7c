"""The contract of `goscope.CacheProvider`: collections beside the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from ..._tools.load_owner import load_owner
from ...errors import CorruptValue
from ...providers import CacheProvider, LockHandle
from ._base import cache_of, locks_of
from ._cache import CacheTests
from ._checks import rejects
from ._locks import granted
from ._samples import ODD_KEYS, Bad

ENTRIES: Final = {"key": 1, "collection:box:key": 2, "cache:key": 3, "box:key": 4, "*": 5}

BAD_NAMES: Final = [
    pytest.param("", ValueError, id="empty"),
    pytest.param("a:b", ValueError, id="colon"),
    pytest.param("*", ValueError, id="star"),
    pytest.param("ä", ValueError, id="letter of another alphabet"),
    pytest.param("a\n", ValueError, id="line break"),
    pytest.param("a" * 65, ValueError, id="65 characters"),
    pytest.param(None, TypeError, id="None"),
    pytest.param(b"a", TypeError, id="bytes"),
]


class CacheCollectionConformance(CacheTests, abstract=True):
    """``collection(name)`` gives entries that no call on the cache touches."""

    async def test_cache_calls_leave_collections_alone(self, tmp_path: Path) -> None:
        """No call on the cache lists, counts, changes or removes an entry of a collection."""
        async with self.open_cache(tmp_path) as cache:
            box = cache.collection("box")
            await filled(box)
            await cache.set("other", 1, tags=["collection:box:tag", "tag"])
            assert await cache.keys() == ["other"]
            assert [key async for key in cache.scan()] == ["other"]
            assert (await cache.stats()).entries == 1
            assert await cache.get_many(list(ENTRIES)) == {}
            assert await cache.delete_many(list(ENTRIES)) == 0
            assert await cache.delete_by_tag("collection:box:tag") == 1
            assert await cache.delete_by_tag("tag") == 0
            await cache.set_many(dict.fromkeys(ENTRIES, 0), "1h")
            await cache.clear("*box*")
            await cache.clear("collection:*")
            await cache.clear()
            assert await everything(box) == ENTRIES

    async def test_cache_calls_on_a_collection_leave_everything_else_alone(
        self, tmp_path: Path
    ) -> None:
        """No call on a collection touches the cache or another collection."""
        async with self.open_cache(tmp_path) as cache:
            box, others = cache.collection("box"), [cache, cache.collection("bo")]
            others += [cache.collection(name) for name in ("BOX", "box.1", "cache", "collection")]
            for other in others:
                await filled(other)
            assert await box.keys() == []
            await box.set("mine", 1, tags=["tag"])
            assert (await box.stats()).entries == 1
            assert await box.delete_by_tag("tag") == 1
            await box.set_many(dict.fromkeys(ENTRIES, 0))
            await box.increment("key")
            await box.touch("key", "1h")
            assert await box.delete("key")
            await box.clear("*key")
            await box.clear()
            assert await everything(box) == {}
            for other in others:
                assert await everything(other) == ENTRIES
                assert await other.delete_by_tag("tag") == len(ENTRIES)

    async def test_cache_a_collection_is_there_for_whoever_names_it(self, tmp_path: Path) -> None:
        """Each call of collection() gives the entries of that name."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            for key in ODD_KEYS:
                if len(key) < 500:
                    await cache_of(adapter).collection("box-1._").set(key, key)
            assert set(await cache_of(adapter).collection("box-1._").keys()) == {
                key for key in ODD_KEYS if len(key) < 500
            }

    async def test_cache_a_collection_has_the_methods_of_the_cache(self, tmp_path: Path) -> None:
        """Expiry, staleness, counters and conditions are those of the cache."""
        async with self.open_adapter(tmp_path) as adapter:
            box = cache_of(adapter).collection("box")
            assert await box.add("added", None)
            assert not await box.add("added", 2)
            assert await box.get("added", "absent") is None
            assert await box.increment("count", 2, "1h") == 2
            await box.set("stale", 1, "200ms", stale_for="1h", tags=["tag"])
            await box.set("gone", 1, "200ms")
            await self.advance(adapter, "400ms")
            assert not await box.has("gone")
            stale = await box.get_entry("stale")
            assert stale is not None
            assert stale.is_stale
            assert not await box.touch("gone", "1h")
            assert await cache_of(adapter).prune() == 0
            assert await box.keys() == ["added", "count"]
            assert await box.get_many(["added", "gone", "count"]) == {"added": None, "count": 2}
            assert await box.delete_many(["added", "gone"]) == 1

    async def test_cache_a_collection_loses_no_value_that_does_not_fit(
        self, tmp_path: Path
    ) -> None:
        """A value of another type than the one that is asked for is an error and no miss."""
        async with self.open_cache(tmp_path) as cache:
            box = cache.collection("box")
            await box.set("key", "text")
            for read in (
                lambda: box.get("key", type=int),
                lambda: box.get_many(["key"], type=int),
                lambda: box.get_entry("key", type=int),
                lambda: box.increment("key"),
            ):
                with pytest.raises(CorruptValue, match="key"):
                    await read()
            assert await box.get("key") == "text"
            await cache.set("key", "text")
            assert await cache.get("key", 0, type=int) == 0, "it affects the cache"

    @pytest.mark.parametrize(("name", "error"), BAD_NAMES)
    async def test_cache_rejects_invalid_names_of_collections(
        self, tmp_path: Path, name: Any, error: type[Exception]
    ) -> None:
        """A name is 1 to 64 letters, digits, ``_``, ``.`` or ``-``."""
        async with self.open_cache(tmp_path) as cache:
            with pytest.raises(error):
                cache.collection(name)

    async def test_cache_the_name_of_a_collection_counts_as_part_of_its_keys(
        self, tmp_path: Path
    ) -> None:
        """Name, colon and key have at most 512 characters, and name, colon and tag."""
        async with self.open_cache(tmp_path) as cache:
            box = cache.collection("n" * 64)
            longest, too_long = "k" * (512 - 65), "k" * (512 - 64)
            await box.set(longest, 1, tags=[longest])
            assert await box.delete_by_tag(longest) == 1
            bad = [Bad(too_long, ValueError)]
            await rejects("collection.get", box.get, bad)
            await rejects("collection.delete_by_tag", box.delete_by_tag, bad)

    async def test_cache_writes_end_computations_of_their_own_collection_alone(
        self, tmp_path: Path
    ) -> None:
        """The lease of a value in a collection is ``collection:{name}:{key}``."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            box = cache.collection("box")

            async def computing(name: str) -> LockHandle:
                return await granted(locks_of(adapter), name, "1h", load_owner(["tag"]))

            in_cache, in_other = await computing("cache:key"), await computing("collection:o:key")
            for write in (
                lambda: box.set("key", 1),
                lambda: box.delete("key"),
                lambda: box.clear(),
                lambda: box.delete_by_tag("tag"),
            ):
                handle = await computing("collection:box:key")
                await write()
                assert not await handle.is_valid(), "the computation goes on"
            for handle in (in_cache, in_other):
                assert await handle.is_valid(), "the computation of something else has ended"
            mine = await computing("collection:box:key")
            await cache.set("key", 1)
            await cache.delete_by_tag("tag")
            await cache.clear()
            assert await mine.is_valid(), "the cache ended it"
            await box.set("key", 2, fence=mine)
            assert await box.get("key") == 2


async def filled(entries: CacheProvider) -> None:
    """Store the entries above, all with one tag."""
    for key, value in ENTRIES.items():
        await entries.set(key, value, tags=["tag"])


async def everything(entries: CacheProvider) -> dict[str, Any]:
    return dict(await entries.get_many(await entries.keys()))
