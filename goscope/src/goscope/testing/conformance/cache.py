"""The contract of `goscope.CacheProvider`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ...errors import CorruptValue, SerializationError
from ...providers import MISSING, CacheEntry, CacheProvider, CacheStats
from ._base import Conformance, cache_of
from ._tables import BAD_DURATIONS, BAD_KEYS, ODD_KEYS, UNSTORABLE, VALUES, refuses, same, turns

Cache = CacheProvider

METHODS_WITH_KEYS: Final[dict[str, Callable[[Cache, Any], Awaitable[object]]]] = {
    "get": lambda cache, key: cache.get(key),
    "set": lambda cache, key: cache.set(key, 1),
    "add": lambda cache, key: cache.add(key, 1),
    "delete": lambda cache, key: cache.delete(key),
    "has": lambda cache, key: cache.has(key),
    "touch": lambda cache, key: cache.touch(key, "1s"),
    "increment": lambda cache, key: cache.increment(key),
    "get_entry": lambda cache, key: cache.get_entry(key),
    "get_many": lambda cache, key: cache.get_many(["fine", key]),
    "set_many": lambda cache, key: cache.set_many({"fine": 1, key: 1}),
    "delete_many": lambda cache, key: cache.delete_many(["fine", key]),
    "delete_by_tag": lambda cache, key: cache.delete_by_tag(key),
    "set(tags=)": lambda cache, key: cache.set("fine", 1, tags=["fine", key]),
}

METHODS_WITH_TTLS: Final[dict[str, Callable[[Cache, Any], Awaitable[object]]]] = {
    "set": lambda cache, ttl: cache.set("new", 1, ttl),
    "add": lambda cache, ttl: cache.add("new", 1, ttl),
    "increment": lambda cache, ttl: cache.increment("new", 1, ttl),
    "set_many": lambda cache, ttl: cache.set_many({"new": 1}, ttl),
    "set(stale_for=)": lambda cache, ttl: cache.set("new", 1, "1s", stale_for=ttl),
}

WRITES: Final[dict[str, Callable[[Cache, Any], Awaitable[object]]]] = {
    "set": lambda cache, value: cache.set("new", value),
    "add": lambda cache, value: cache.add("new", value),
    "set_many": lambda cache, value: cache.set_many({"fine": 1, "new": value}),
}

USER_KEYS: Final = (
    "user:1", "user:2", "user_1", "user%1", "user?1", "user[1]", "user*1", "User:1", "USER:1",
    "user:", "user", "user:1:name", "xuser:1", "user\n1",
)  # fmt: skip


@dataclass
class Point:
    x: int
    y: int


class CacheConformance(Conformance, abstract=True):
    """Entries with expiry, staleness and tags; every single operation is atomic."""

    @asynccontextmanager
    async def open_cache(self, tmp_path: Path) -> AsyncGenerator[CacheProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield cache_of(adapter)

    # --- values ------------------------------------------------------------------------------

    async def test_cache_get_of_an_absent_key_is_the_default(self, tmp_path: Path) -> None:
        """An absent key gives None, or the default that was passed."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get("absent") is None
            assert await cache.get("absent", MISSING) is MISSING, "the default was not returned"

    async def test_cache_a_stored_none_is_a_hit(self, tmp_path: Path) -> None:
        """A stored None is told from an absent key."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", None)
            assert await cache.get("key", MISSING) is None, "a stored None was taken for a miss"
            assert await cache.has("key"), "has() takes a stored None for a miss"
            assert not await cache.add("key", 1), "add() takes a stored None for a miss"
            assert await cache.get_many(["key"]) == {"key": None}

    async def test_cache_values_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Whatever JSON carries comes back equal and of the same type."""
        async with self.open_cache(tmp_path) as cache:
            for value in VALUES:
                await cache.set("key", value)
                found = await cache.get("key", MISSING)
                assert same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_cache_set_replaces_the_value(self, tmp_path: Path) -> None:
        """The last value that was set is the one that is there."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", {"old": True})
            await cache.set("key", "new")
            assert await cache.get("key") == "new"

    async def test_cache_a_value_that_is_changed_later_stays_as_stored(
        self, tmp_path: Path
    ) -> None:
        """What the caller does to its object after set() does not reach the store."""
        async with self.open_cache(tmp_path) as cache:
            value = {"list": [1]}
            await cache.set("key", value)
            value["list"].append(2)
            assert await cache.get("key") == {"list": [1]}, "the store kept the caller's object"

    async def test_cache_every_reader_gets_a_copy_of_its_own(self, tmp_path: Path) -> None:
        """What one reader does to its object does not reach the next one."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", [1])
            (await cache.get("key")).append(2)
            (await cache.get_many(["key"]))["key"].append(3)
            entry = await cache.get_entry("key")
            assert entry is not None
            entry.value.append(4)
            assert await cache.get("key") == [1], "readers share one object"

    async def test_cache_type_decodes_the_value(self, tmp_path: Path) -> None:
        """``type`` builds what the caller asks for, in each of the reading methods."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", Point(1, 2))
            assert await cache.get("key") == {"x": 1, "y": 2}
            assert await cache.get("key", type=Point) == Point(1, 2)
            assert await cache.get_many(["key"], type=Point) == {"key": Point(1, 2)}
            entry = await cache.get_entry("key", type=Point)
            assert entry is not None
            assert entry.value == Point(1, 2)

    async def test_cache_a_value_of_another_type_is_a_miss(self, tmp_path: Path) -> None:
        """What does not decode to the wanted type is a miss, not an error, and stays stored."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", "text")
            assert await cache.get("key", MISSING, type=Point) is MISSING
            assert await cache.get_many(["key"], type=Point) == {}
            assert await cache.get_entry("key", type=Point) is None
            assert await cache.get("key") == "text", "a mere read removed the entry"

    @pytest.mark.parametrize("method", WRITES)
    async def test_cache_values_that_json_cannot_carry_are_refused(
        self, tmp_path: Path, method: str
    ) -> None:
        """NaN, infinities and objects without JSON form are errors, and nothing is written."""
        async with self.open_cache(tmp_path) as cache:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await WRITES[method](cache, value)
            assert await cache.keys() == [], "a refused write left something behind"

    async def test_cache_a_refused_set_keeps_the_old_entry(self, tmp_path: Path) -> None:
        """A value that cannot be stored does not cost the one that is there."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", "old")
            with pytest.raises(SerializationError):
                await cache.set("key", float("nan"))
            assert await cache.get("key") == "old"

    # --- keys --------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_cache_bad_keys_are_refused(self, tmp_path: Path, method: str) -> None:
        """Each method that takes a key or a tag refuses what is none, and writes nothing."""
        async with self.open_cache(tmp_path) as cache:
            call = METHODS_WITH_KEYS[method]
            await refuses(f"cache.{method}", lambda key: call(cache, key), BAD_KEYS)
            assert await cache.keys() == [], "a refused call wrote something"

    async def test_cache_513_characters_are_too_many(self, tmp_path: Path) -> None:
        """The limit is 512 characters, no matter how many bytes."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("🔑" * 512, 1)
            with pytest.raises(ValueError, match="512"):
                await cache.set("k" * 513, 1)

    async def test_cache_keys_are_told_apart(self, tmp_path: Path) -> None:
        """Keys that differ in anything, case and spaces included, are different entries."""
        async with self.open_cache(tmp_path) as cache:
            for number, key in enumerate(ODD_KEYS):
                await cache.set(key, number)
            for number, key in enumerate(ODD_KEYS):
                assert await cache.get(key) == number, f"{key[:40]!r} was taken for another key"
            assert await cache.keys() == sorted(ODD_KEYS)

    # --- expiry ------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", METHODS_WITH_TTLS)
    async def test_cache_bad_ttls_are_refused(self, tmp_path: Path, method: str) -> None:
        """Each method that takes a duration refuses what is none, and writes nothing."""
        async with self.open_cache(tmp_path) as cache:
            call = METHODS_WITH_TTLS[method]
            await refuses(f"cache.{method}", lambda ttl: call(cache, ttl), BAD_DURATIONS)
            assert not await cache.has("new"), "a refused call wrote something"

    async def test_cache_touch_refuses_bad_ttls(self, tmp_path: Path) -> None:
        """A ttl that is none leaves the entry's expiry as it is."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1)
            await refuses("cache.touch", lambda ttl: cache.touch("key", ttl), BAD_DURATIONS)
            assert await expiry(cache, "key") is None, "a refused touch() moved the expiry"

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_cache_ttl_units(self, tmp_path: Path, ttl: timedelta | str | float) -> None:
        """A ttl is a timedelta, a string with units, or a number of milliseconds."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("reference", 1, "1s")
            await cache.set("key", 1, ttl)
            reference, found = await expiry(cache, "reference"), await expiry(cache, "key")
            assert reference is not None
            assert found is not None, "an entry with a ttl has no expiry"
            assert 59_000 <= found - reference < 69_000, f"ttl={ttl!r} is not 60000 ms"

    async def test_cache_expires_at_is_epoch_milliseconds(self, tmp_path: Path) -> None:
        """Times in records are integers of epoch milliseconds."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h")
            found = await expiry(cache, "key")
            assert type(found) is int, f"expires_at is {found!r}, not an int"
            assert 1_500_000_000_000 < found < 10_000_000_000_000, "not epoch milliseconds"

    async def test_cache_an_expired_entry_is_absent(self, tmp_path: Path) -> None:
        """Past its expiry an entry is gone for every method, swept or not."""
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
        """An entry with a ttl of half a second is there at first."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "500ms")
            assert await cache.get("key") == 1, "a ttl under a second was rounded to zero"

    async def test_cache_an_entry_lives_until_its_expiry(self, tmp_path: Path) -> None:
        """An entry is not dropped early by rounding to whole seconds."""
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
        """A set without ttl takes away the expiry of the set before."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms", stale_for="1h")
            await cache.set("key", 1)
            entry = await cache.get_entry("key")
            assert entry == CacheEntry(value=1, expires_at=None), "old times were kept"
            await self.advance(adapter, "600ms")
            assert await cache.get("key") == 1

    async def test_cache_touch_counts_from_now(self, tmp_path: Path) -> None:
        """A touched entry expires its new ttl from now, sooner or later than before."""
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
        """Touching with None lets the entry live for ever."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h")
            assert await cache.touch("key", None)
            assert await expiry(cache, "key") is None
            assert await cache.get("key") == 1

    async def test_cache_touch_of_an_absent_key_is_false(self, tmp_path: Path) -> None:
        """Touching creates nothing."""
        async with self.open_cache(tmp_path) as cache:
            assert not await cache.touch("key", "1h")
            assert not await cache.has("key"), "touch() created an entry"

    async def test_cache_touch_keeps_value_and_tags(self, tmp_path: Path) -> None:
        """Touching changes nothing but the times."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", [1], "1h", tags=["tag"])
            await cache.touch("key", "2h")
            assert await cache.get("key") == [1]
            assert await cache.delete_by_tag("tag") == 1, "touch() lost the entry's tags"

    async def test_cache_touch_keeps_the_time_an_entry_may_be_stale(self, tmp_path: Path) -> None:
        """The stale deadline moves with the expiry, and goes with it."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1h", stale_for="10m")
            assert await cache.touch("key", "2h")
            entry = await cache.get_entry("key")
            assert entry is not None
            assert entry.expires_at is not None
            assert entry.stale_until == entry.expires_at + 600_000, "it was stale for 10 minutes"
            assert await cache.touch("key", None)
            entry = await cache.get_entry("key")
            assert entry is not None
            assert entry.stale_until is None, "an entry without expiry never gets stale"

    # --- staleness ---------------------------------------------------------------------------

    async def test_cache_get_entry_shows_a_live_entry(self, tmp_path: Path) -> None:
        """A live entry is not stale and carries both its times."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, "1m", stale_for="10m")
            entry = await cache.get_entry("key")
            assert isinstance(entry, CacheEntry), "get_entry() must return a goscope.CacheEntry"
            assert entry.value == 1
            assert not entry.is_stale
            assert entry.expires_at is not None
            assert entry.stale_until == entry.expires_at + 600_000, "stale counts from the expiry"

    async def test_cache_get_entry_of_an_absent_key_is_none(self, tmp_path: Path) -> None:
        """There is no entry where none was stored."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get_entry("key") is None

    async def test_cache_a_stale_entry_is_served_by_get_entry_alone(self, tmp_path: Path) -> None:
        """Past its expiry a stale entry is absent for all methods but get_entry()."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms", stale_for="1h")
            await self.advance(adapter, "600ms")
            entry = await cache.get_entry("key")
            assert entry is not None, "the entry went at its expiry, but may be served stale"
            assert entry.is_stale, "past its expiry an entry is stale"
            assert entry.value == 1
            assert not await cache.has("key"), "has() found a stale entry"
            assert await cache.get("key", MISSING) is MISSING, "get() served a stale entry"
            assert await cache.keys() == [], "keys() listed a stale entry"
            assert not await cache.touch("key", "1h"), "touch() revived a stale entry"

    async def test_cache_a_stale_entry_is_gone_after_its_time(self, tmp_path: Path) -> None:
        """Past ``stale`` not even get_entry() serves it."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", 1, "300ms", stale_for="300ms")
            await self.advance(adapter, "700ms")
            assert await cache.get_entry("key") is None, "a stale entry outlived its time"

    async def test_cache_stale_needs_a_ttl(self, tmp_path: Path) -> None:
        """An entry that never expires cannot get stale: asking for it is a ValueError."""
        async with self.open_cache(tmp_path) as cache:
            with pytest.raises(ValueError, match="ttl"):
                await cache.set("key", 1, stale_for="1h")

    async def test_cache_a_stale_entry_can_be_replaced_and_deleted(self, tmp_path: Path) -> None:
        """For add() a stale entry is absent; delete() removes it too."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            for key in ("added", "deleted"):
                await cache.set(key, "old", "500ms", stale_for="1h")
            await self.advance(adapter, "600ms")
            assert await cache.add("added", "new"), "add() took a stale entry for a live one"
            assert await cache.get("added") == "new"
            await cache.delete("deleted")
            assert await cache.get_entry("deleted") is None, "delete() left a stale entry"

    # --- add, delete, increment --------------------------------------------------------------

    async def test_cache_add_stores_only_what_is_absent(self, tmp_path: Path) -> None:
        """The first add() wins, the second changes neither value nor expiry."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.add("key", "first") is True
            assert await cache.add("key", "second", "1h") is False
            assert await cache.get_entry("key") == CacheEntry(value="first", expires_at=None)

    async def test_cache_add_takes_an_expired_key(self, tmp_path: Path) -> None:
        """An expired entry does not stand in the way, and its ttl is not inherited."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", "old", "500ms", tags=["old"])
            await self.advance(adapter, "600ms")
            assert await cache.add("key", "new"), "an expired entry stood in the way of add()"
            assert await cache.get_entry("key") == CacheEntry(value="new", expires_at=None)
            assert await cache.delete_by_tag("old") == 0, "the new entry inherited the old tags"

    async def test_cache_one_of_many_concurrent_adds_wins(self, tmp_path: Path) -> None:
        """Of concurrent add() calls exactly one stores its value."""
        async with self.open_cache(tmp_path) as cache:
            added = await asyncio.gather(*(cache.add("key", number) for number in range(20)))
            assert sum(added) == 1, f"{sum(added)} of 20 concurrent add() calls stored a value"
            assert await cache.get("key") == added.index(True), "the winner's value is not there"

    async def test_cache_delete_tells_whether_there_was_an_entry(self, tmp_path: Path) -> None:
        """A deleted entry is gone, and deleting it again is False."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", None)
            assert await cache.delete("key") is True
            assert not await cache.has("key")
            assert await cache.delete("key") is False

    async def test_cache_increment_starts_at_zero(self, tmp_path: Path) -> None:
        """An absent counter starts at 0; steps may be greater than 1, or negative."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.increment("key") == 1
            assert await cache.increment("key", 10) == 11
            assert await cache.increment("key", -12) == -1
            assert await cache.increment("key", 0) == -1
            assert await cache.get("key") == -1, "get() does not show the counter as an integer"

    async def test_cache_concurrent_increments_all_count(self, tmp_path: Path) -> None:
        """n concurrent increments add n, and each caller gets another number."""
        async with self.open_cache(tmp_path) as cache:
            counts = await asyncio.gather(*(cache.increment("key") for _ in range(50)))
            assert sorted(counts) == list(range(1, 51)), "concurrent increments were lost"

    async def test_cache_increment_sets_its_ttl_at_creation_only(self, tmp_path: Path) -> None:
        """A counter's window is not moved by those who count in it."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.increment("key", 5, "1s")
            await self.advance(adapter, "500ms")
            assert await cache.increment("key", 1, "1h") == 6
            await self.advance(adapter, "700ms")
            assert not await cache.has("key"), "a later increment moved the counter's expiry"
            assert await cache.increment("key", 1, "1h") == 1, "an expired counter went on"

    async def test_cache_increment_keeps_an_entry_as_it_is(self, tmp_path: Path) -> None:
        """Counting on a value that was set keeps its expiry and its tags."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 5, "1h", tags=["tag"])
            before = await expiry(cache, "key")
            assert await cache.increment("key", 1, "2h") == 6
            assert await expiry(cache, "key") == before, "increment() moved the expiry"
            assert await cache.delete_by_tag("tag") == 1, "increment() lost the entry's tags"

    @pytest.mark.parametrize("value", ["text", 1.5, None, True, [1], "7"])
    async def test_cache_increment_of_what_is_no_integer_is_an_error(
        self, tmp_path: Path, value: object
    ) -> None:
        """Counting on something else is a CorruptValue error and leaves it as it is."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", value)
            with pytest.raises(CorruptValue) as caught:
                await cache.increment("key")
            assert caught.value.key == "key", "the error must name the key, without any prefix"
            assert same(await cache.get("key"), value), "a refused increment changed the value"

    @pytest.mark.parametrize("by", [1.0, True, "1", None])
    async def test_cache_increment_steps_must_be_integers(self, tmp_path: Path, by: Any) -> None:
        """A step that is no integer is a TypeError."""
        async with self.open_cache(tmp_path) as cache:
            with pytest.raises(TypeError):
                await cache.increment("key", by)
            assert not await cache.has("key")

    # --- many at a time ----------------------------------------------------------------------

    async def test_cache_get_many_returns_what_is_there(self, tmp_path: Path) -> None:
        """Absent keys are left out, stored ones keep the caller's names."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1)
            await cache.set("none", None)
            found = await cache.get_many(["one", "absent", "none", "one"])
            assert found == {"one": 1, "none": None}

    async def test_cache_set_many_stores_all(self, tmp_path: Path) -> None:
        """All values are stored, with the one ttl, and old ones replaced."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", "old", "1s", tags=["tag"])
            await cache.set_many({"one": 1, "two": [2]}, "1h")
            assert await cache.get_many(["one", "two"]) == {"one": 1, "two": [2]}
            assert await expiry(cache, "one") == await expiry(cache, "two") is not None
            assert await cache.delete_by_tag("tag") == 0, "set_many() kept the old entry's tags"

    async def test_cache_delete_many_counts_what_was_there(self, tmp_path: Path) -> None:
        """Only live entries count, each of them once."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("expired", 0, "500ms")
            await self.advance(adapter, "600ms")
            await cache.set_many({"one": 1, "two": 2, "three": 3})
            assert await cache.delete_many(["one", "two", "absent", "one", "expired"]) == 2
            assert await cache.keys() == ["three"]

    async def test_cache_many_of_nothing_is_nothing(self, tmp_path: Path) -> None:
        """Empty arguments are allowed and do nothing."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get_many([]) == {}
            await cache.set_many({})
            assert await cache.delete_many([]) == 0

    async def test_cache_thousands_at_a_time(self, tmp_path: Path) -> None:
        """The methods for many keys have no limit that a store's own limits would show."""
        values = {f"key{number:05}": number for number in range(3_000)}
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(values, "1h")
            assert await cache.get_many(list(values)) == values
            assert await cache.keys() == list(values)
            assert await cache.delete_many(list(values)) == len(values)

    async def test_cache_one_string_is_no_sequence_of_keys(self, tmp_path: Path) -> None:
        """A lone string in place of many is a TypeError, not a string of one-letter keys."""
        async with self.open_cache(tmp_path) as cache:
            for call in (cache.get_many("key"), cache.delete_many("key")):
                with pytest.raises(TypeError):
                    await call
            with pytest.raises(TypeError):
                await cache.set("key", 1, tags="tag")

    async def test_cache_a_cancelled_set_many_happens_whole_or_not(self, tmp_path: Path) -> None:
        """Wherever it is cancelled, either all values are stored or none, and the store goes on."""
        async with self.open_cache(tmp_path) as cache:
            for count in range(10):
                task = asyncio.create_task(cache.set_many({"one": count, "two": count}))
                await turns(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                found = await cache.get_many(["one", "two"])
                assert found.get("one") == found.get("two"), f"half a write: {found}"
            await cache.set("after", 1)
            assert await cache.get("after") == 1, "the store was left unusable"

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
    async def test_cache_patterns(
        self, tmp_path: Path, pattern: str, matches: tuple[str, ...]
    ) -> None:
        """``*`` is any run of characters, every other character itself, and case counts.

        Three methods take patterns: what keys() and scan() list is what clear() removes.
        """
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(USER_KEYS, 1))
            assert await cache.keys(pattern) == sorted(matches)
            assert [key async for key in cache.scan(pattern)] == sorted(matches)
            await cache.clear(pattern)
            assert await cache.keys() == sorted(set(USER_KEYS) - set(matches))

    async def test_cache_stars_do_not_share_characters(self, tmp_path: Path) -> None:
        """The literal parts of a pattern match one after the other, never overlapping."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many({"aba": 1, "abba": 1, "abab": 1})
            assert await cache.keys("ab*ba") == ["abba"]

    async def test_cache_patterns_of_many_stars_are_matched_in_no_time(
        self, tmp_path: Path
    ) -> None:
        """A pattern comes from the program's users; matching must not try every combination."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("a" * 512, 1)
            start = time.monotonic()
            assert await cache.keys("*a" * 100 + "*b") == []
            assert time.monotonic() - start < 5, "matching takes exponential time"

    async def test_cache_clear_without_pattern_removes_all(self, tmp_path: Path) -> None:
        """Everything goes, also what is stale."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("stale", 1, "500ms", stale_for="1h", tags=["tag"])
            await self.advance(adapter, "600ms")
            await cache.set("live", 1, tags=["tag"])
            await cache.clear()
            assert await cache.keys() == []
            assert await cache.get_entry("stale") is None, "clear() left a stale entry"
            assert await cache.delete_by_tag("tag") == 0, "clear() left tags behind"

    async def test_cache_bad_patterns_are_refused(self, tmp_path: Path) -> None:
        """A pattern is a key in which ``*`` has a meaning; what is no key is no pattern."""

        async def scan(pattern: Any) -> object:
            return [key async for key in cache.scan(pattern)]

        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1)
            bad = [entry for entry in BAD_KEYS if entry.value is not None]
            await refuses("cache.keys(pattern)", cache.keys, bad)
            await refuses("cache.scan(pattern)", scan, bad)
            await refuses("cache.clear(pattern)", cache.clear, bad)
            assert await cache.has("key"), "a refused clear() removed something"

    async def test_cache_keys_and_scan_are_sorted(self, tmp_path: Path) -> None:
        """Keys come in the order of their code points, whatever the order of writing."""
        names = ["b", "a", "ä", "Z", "🔑", "\uffee", "ab", "a:", "B", "10", "9"]
        async with self.open_cache(tmp_path) as cache:
            for name in names:
                await cache.set(name, 1)
            assert await cache.keys() == sorted(names)
            assert [key async for key in cache.scan()] == sorted(names)

    async def test_cache_scan_crosses_pages(self, tmp_path: Path) -> None:
        """Every key is met exactly once, however many pages there are."""
        names = [f"key{number:05}" for number in range(2_500)]
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(names, 1))
            assert [key async for key in cache.scan("key*")] == names

    async def test_cache_scan_survives_writes(self, tmp_path: Path) -> None:
        """Keys that are there all the time are met exactly once, whatever happens to others."""
        names = [f"key{number:05}" for number in range(0, 3_000, 2)]
        async with self.open_cache(tmp_path) as cache:
            await cache.set_many(dict.fromkeys(names, 1))
            met: list[str] = []
            async for key in cache.scan():
                met.append(key)
                if len(met) % 300 == 0:
                    await cache.set(f"key{len(met):05}x", 1)
                    await cache.delete(f"key{len(met):05}x")
            assert [key for key in met if key in set(names)] == names

    # --- tags --------------------------------------------------------------------------------

    async def test_cache_delete_tag_removes_what_carries_the_tag(self, tmp_path: Path) -> None:
        """Entries with the tag go and are counted; those without it, or alike, stay."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1, tags=["red", "round"])
            await cache.set("two", 2, "1h", tags=["red"])
            await cache.set("three", 3, tags=["Red", "red ", "re_", "r*"])
            await cache.set("red", 4)
            assert await cache.delete_by_tag("red") == 2
            assert await cache.keys() == ["red", "three"]

    async def test_cache_delete_tag_takes_no_patterns(self, tmp_path: Path) -> None:
        """A tag is a name: ``*`` stands for itself in it."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("one", 1, tags=["red"])
            for tag in ("*", "r*", "r_d", "%", "RED"):
                assert await cache.delete_by_tag(tag) == 0, f"tag {tag!r} was taken for 'red'"

    async def test_cache_set_replaces_the_tags(self, tmp_path: Path) -> None:
        """An entry that is set again has the new tags only, also with the same value."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, tags=["old"])
            await cache.set("key", 1, tags=["new"])
            assert await cache.delete_by_tag("old") == 0, "the old tags still apply"
            assert await cache.delete_by_tag("new") == 1
            await cache.set("key", 1, tags=["old"])
            await cache.set("key", 1)
            assert await cache.delete_by_tag("old") == 0, "the old tags still apply"

    async def test_cache_tags_go_with_their_entry(self, tmp_path: Path) -> None:
        """What was deleted and stored again without tags has none."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", 1, tags=["tag"])
            await cache.delete("key")
            await cache.set("key", 1)
            assert await cache.delete_by_tag("tag") == 0, "the tags outlived their entry"
            await cache.set("key", 1, tags=["tag"])
            await cache.delete_many(["key"])
            await cache.add("key", 1)
            assert await cache.delete_by_tag("tag") == 0, "the tags outlived their entry"

    async def test_cache_delete_tag_of_an_unknown_tag_is_zero(self, tmp_path: Path) -> None:
        """There is nothing to remove where no entry carries the tag."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.delete_by_tag("tag") == 0

    # --- stats and prune ---------------------------------------------------------------------

    async def test_cache_stats_count_entries_hits_and_misses(self, tmp_path: Path) -> None:
        """Live entries are counted in the store, lookups since the adapter connected."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("expired", 0, "500ms")
            await self.advance(adapter, "600ms")
            await cache.set("one", None)
            await cache.get("one")
            await cache.get("expired")
            await cache.get("absent")
            await cache.get_many(["one", "absent"])
            assert await cache.stats() == CacheStats(entries=1, hits=2, misses=3)

    async def test_cache_prune_removes_what_has_expired(self, tmp_path: Path) -> None:
        """Expired entries go and are counted, unless the store was faster; others stay."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            for number in range(3):
                await cache.set(f"expired{number}", 1, "500ms")
            await cache.set("stale", 1, "500ms", stale_for="1h")
            await cache.set("live", 1, "1h")
            await cache.set("for ever", 1)
            await self.advance(adapter, "600ms")
            assert await cache.prune() in range(4), "more was pruned than had expired"
            assert await cache.keys() == ["for ever", "live"]
            assert await cache.get_entry("stale") is not None, "prune() removed a stale entry"
            assert await cache.prune() == 0, "prune() counted something twice"

    async def test_cache_it_answers_as_a_plain_model_does(self, tmp_path: Path) -> None:
        """Whatever the history of calls; hypothesis shows the shortest bad one."""
        from .machines.cache import CacheMachine  # hypothesis takes long to import

        await CacheMachine.compare(self, tmp_path)


async def expiry(cache: CacheProvider, key: str) -> int | None:
    """When a live entry expires."""
    entry = await cache.get_entry(key)
    assert entry is not None, f"{key!r} is stored, but get_entry() is None"
    return entry.expires_at
