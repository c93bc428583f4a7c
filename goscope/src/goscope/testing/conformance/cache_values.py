"""The contract of `goscope.CacheProvider`: keys and values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ...errors import SerializationError
from ...providers import MISSING, CacheProvider
from ._cache import CacheTests
from ._checks import is_same, rejects
from ._samples import BAD_KEYS, ODD_KEYS, RAW_TEXT, UNSTORABLE, VALUES, Point

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

WRITES: Final[dict[str, Callable[[Cache, Any], Awaitable[object]]]] = {
    "set": lambda cache, value: cache.set("new", value),
    "add": lambda cache, value: cache.add("new", value),
    "set_many": lambda cache, value: cache.set_many({"fine": 1, "new": value}),
}


class CacheValueConformance(CacheTests, abstract=True):
    """A value comes back as it was stored, under its own key only."""

    # --- values ------------------------------------------------------------------------------

    async def test_cache_get_of_an_absent_key_is_the_default(self, tmp_path: Path) -> None:
        """get() of an absent key returns None, or the given default."""
        async with self.open_cache(tmp_path) as cache:
            assert await cache.get("absent") is None
            assert await cache.get("absent", MISSING) is MISSING, "the default was not returned"

    async def test_cache_a_stored_none_is_a_hit(self, tmp_path: Path) -> None:
        """A stored None is not an absent key."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", None)
            assert await cache.get("key", MISSING) is None, "get() treats a stored None as a miss"
            assert await cache.has("key"), "has() treats a stored None as a miss"
            assert not await cache.add("key", 1), "add() treats a stored None as a miss"
            assert await cache.get_many(["key"]) == {"key": None}

    async def test_cache_returns_values_unchanged(self, tmp_path: Path) -> None:
        """Every JSON value comes back equal and of the same type."""
        async with self.open_cache(tmp_path) as cache:
            for value in VALUES:
                await cache.set("key", value)
                found = await cache.get("key", MISSING)
                assert is_same(found, value), f"{value!r:.60} came back as {found!r:.60}"

    async def test_cache_set_replaces_the_value(self, tmp_path: Path) -> None:
        """get() returns the last value that was set."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", {"old": True})
            await cache.set("key", "new")
            assert await cache.get("key") == "new"

    async def test_cache_does_not_keep_the_callers_object(self, tmp_path: Path) -> None:
        """Changing the object after set() does not change the stored value."""
        async with self.open_cache(tmp_path) as cache:
            value = {"list": [1]}
            await cache.set("key", value)
            value["list"].append(2)
            assert await cache.get("key") == {"list": [1]}, "the store kept the caller's object"

    async def test_cache_gives_every_reader_a_separate_copy(self, tmp_path: Path) -> None:
        """Changing a value that was read does not change what is read next."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", [1])
            (await cache.get("key")).append(2)
            (await cache.get_many(["key"]))["key"].append(3)
            entry = await cache.get_entry("key")
            assert entry is not None
            entry.value.append(4)
            assert await cache.get("key") == [1], "readers share one object"

    async def test_cache_type_decodes_the_value(self, tmp_path: Path) -> None:
        """Each reading method decodes the value to ``type``."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", Point(1, 2))
            assert await cache.get("key") == {"x": 1, "y": 2}
            assert await cache.get("key", type=Point) == Point(1, 2)
            assert await cache.get_many(["key"], type=Point) == {"key": Point(1, 2)}
            entry = await cache.get_entry("key", type=Point)
            assert entry is not None
            assert entry.value == Point(1, 2)

    async def test_cache_a_value_of_another_type_is_a_miss(self, tmp_path: Path) -> None:
        """A value that does not decode to ``type`` is a miss, not an error, and stays stored."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", "text")
            assert await cache.get("key", MISSING, type=Point) is MISSING
            assert await cache.get_many(["key"], type=Point) == {}
            assert await cache.get_entry("key", type=Point) is None
            assert await cache.get("key") == "text", "a read removed the entry"

    @pytest.mark.parametrize("method", WRITES)
    async def test_cache_rejects_values_that_json_cannot_represent(
        self, tmp_path: Path, method: str
    ) -> None:
        """NaN, infinities and objects without a JSON form raise, and nothing is written."""
        async with self.open_cache(tmp_path) as cache:
            for value in UNSTORABLE:
                with pytest.raises(SerializationError):
                    await WRITES[method](cache, value)
            assert await cache.keys() == [], "a rejected write stored something"

    async def test_cache_a_rejected_set_keeps_the_old_entry(self, tmp_path: Path) -> None:
        """A value that cannot be stored does not replace the old one."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("key", "old")
            with pytest.raises(SerializationError):
                await cache.set("key", float("nan"))
            assert await cache.get("key") == "old"

    # --- raw text ----------------------------------------------------------------------------

    async def test_cache_reads_of_raw_return_the_stored_text(self, tmp_path: Path) -> None:
        """With ``type=msgspec.Raw`` the value is the stored JSON text, not decoded."""
        async with self.open_cache(tmp_path) as cache:
            for value in VALUES:
                await cache.set("key", value)
                for raw in (await cache.get("key", type=msgspec.Raw), await raw_entry(cache)):
                    assert type(raw) is msgspec.Raw, f"{raw!r:.60} is not a msgspec.Raw"
                    decoded = msgspec.json.decode(raw)
                    assert is_same(decoded, value), f"{value!r:.60} was stored as {decoded!r:.60}"
            assert await cache.get("absent", MISSING, type=msgspec.Raw) is MISSING

    async def test_cache_stores_raw_text_unchanged(self, tmp_path: Path) -> None:
        """A ``msgspec.Raw`` is stored as the text it holds, in each of the writing methods."""
        async with self.open_cache(tmp_path) as cache:
            for write in WRITES.values():
                await cache.delete("new")
                await write(cache, msgspec.Raw(RAW_TEXT))
                assert await cache.get("new") == {"b": 1, "a": [2.0]}
                raw = await cache.get("new", type=msgspec.Raw)
                assert raw is not None
                assert bytes(raw) == RAW_TEXT, f"{RAW_TEXT!r} was stored as {bytes(raw)!r}"

    async def test_cache_rejects_raw_text_that_is_not_json(self, tmp_path: Path) -> None:
        """A ``msgspec.Raw`` without a JSON value raises, and nothing is written."""
        async with self.open_cache(tmp_path) as cache:
            for text in (b"", b"{", b"NaN", b"1 2", b'"\xff"'):
                with pytest.raises(SerializationError):
                    await cache.set("key", msgspec.Raw(text))
            assert await cache.keys() == [], "a rejected write stored something"

    # --- keys --------------------------------------------------------------------------------

    @pytest.mark.parametrize("method", METHODS_WITH_KEYS)
    async def test_cache_rejects_invalid_keys(self, tmp_path: Path, method: str) -> None:
        """Each method rejects invalid keys and tags, and writes nothing."""
        async with self.open_cache(tmp_path) as cache:
            call = METHODS_WITH_KEYS[method]
            await rejects(f"cache.{method}", lambda key: call(cache, key), BAD_KEYS)
            assert await cache.keys() == [], "a rejected call wrote something"

    async def test_cache_rejects_keys_of_513_characters(self, tmp_path: Path) -> None:
        """The limit is 512 characters, whatever their size in bytes."""
        async with self.open_cache(tmp_path) as cache:
            await cache.set("🔑" * 512, 1)
            with pytest.raises(ValueError, match="512"):
                await cache.set("k" * 513, 1)

    async def test_cache_keys_are_distinct(self, tmp_path: Path) -> None:
        """Keys that differ at all, even in case or spaces, are separate entries."""
        async with self.open_cache(tmp_path) as cache:
            for number, key in enumerate(ODD_KEYS):
                await cache.set(key, number)
            for number, key in enumerate(ODD_KEYS):
                assert await cache.get(key) == number, f"{key[:40]!r} was mistaken for another"
            assert await cache.keys() == sorted(ODD_KEYS)


async def raw_entry(cache: CacheProvider) -> Any:
    """The value that get_entry() returns for the type ``msgspec.Raw``."""
    entry = await cache.get_entry("key", type=msgspec.Raw)
    assert entry is not None, "get_entry(type=msgspec.Raw) returned None for a live entry"
    return entry.value
