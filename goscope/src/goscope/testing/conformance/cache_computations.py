"""The contract of `goscope.CacheProvider` with the lease of a value that is being computed.

`goscope.Scope` computes the value of ``key`` under the lease ``cache:{key}`` and stores it with
that lease as its fence. A write that supersedes the computation ends the lease.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from ...backend import load_owner
from ...errors import LeaseLost
from ...providers import CacheProvider, LockHandle, PersistenceAdapter
from ._base import cache_of, locks_of
from ._cache import CacheTests
from ._locks import granted

Write: TypeAlias = Callable[[CacheProvider], Awaitable[object]]

TAG: Final = "computed"

SUPERSEDING: Final[dict[str, Write]] = {
    "set": lambda cache: cache.set("key", "newer"),
    "set with companions": lambda cache: cache.set("key", 1, "1h", tags=["tag"], stale_for="1h"),
    "set_many": lambda cache: cache.set_many({"other": 1, "key": "newer"}),
    "add": lambda cache: cache.add("key", "newer"),
    "increment": lambda cache: cache.increment("key"),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["other", "key"]),
    "clear": lambda cache: cache.clear(),
    "clear(key)": lambda cache: cache.clear("key"),
    "clear(pattern)": lambda cache: cache.clear("k*y"),
    "delete_by_tag": lambda cache: cache.delete_by_tag(TAG),
}
"""Writes after which a value whose computation began before them is out of date."""

REMOVING: Final = (
    "delete",
    "delete_many",
    "clear",
    "clear(key)",
    "clear(pattern)",
    "delete_by_tag",
)

UNRELATED: Final[dict[str, Write]] = {
    "set of another key": lambda cache: cache.set("key2", 1, tags=[TAG]),
    "delete of another key": lambda cache: cache.delete("key2"),
    "delete_many of other keys": lambda cache: cache.delete_many(["ke", "key2"]),
    "clear(pattern of other keys)": lambda cache: cache.clear("ke_*"),
    "delete_by_tag of another tag": lambda cache: cache.delete_by_tag("other"),
    "touch": lambda cache: cache.touch("key", "1h"),
    "prune": lambda cache: cache.prune(),
    "get": lambda cache: cache.get("key"),
    "get_entry": lambda cache: cache.get_entry("key"),
}
"""Calls that leave the computation in force."""


class CacheComputationConformance(CacheTests, abstract=True):
    """A write ends the lease under which the value that it supersedes is being computed."""

    @asynccontextmanager
    async def computing(
        self, tmp_path: Path, tags: tuple[str, ...] = (TAG,)
    ) -> AsyncGenerator[tuple[PersistenceAdapter, LockHandle]]:
        """An adapter and the lease of a computation of "key"."""
        async with self.open_adapter(tmp_path) as adapter:
            lease = await granted(locks_of(adapter), "cache:key", "1h", load_owner(tags))
            yield adapter, lease

    @pytest.mark.parametrize("name", SUPERSEDING)
    async def test_cache_a_write_ends_the_computation_it_supersedes(
        self, tmp_path: Path, name: str
    ) -> None:
        """The computed value is rejected, and the key can be computed anew at once."""
        async with self.computing(tmp_path) as (adapter, lease):
            cache = cache_of(adapter)
            await SUPERSEDING[name](cache)
            written = await cache.get_entry("key")
            with pytest.raises(LeaseLost):
                await cache.set("key", "computed", "1h", tags=[TAG], fence=lease)
            assert await cache.get_entry("key") == written, "an out-of-date value was stored"
            await granted(locks_of(adapter), "cache:key")

    @pytest.mark.parametrize("name", REMOVING)
    async def test_cache_removing_ends_the_computation_beside_an_entry(
        self, tmp_path: Path, name: str
    ) -> None:
        """An entry that is being refreshed is removed, and what replaces it is rejected.

        Also when the entry has the tag, and the lease of its refresh does not name it.
        """
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", "old", "500ms", tags=[TAG], stale_for="1h")
            await self.advance(adapter, "600ms")
            lease = await granted(locks_of(adapter), "cache:key", "1h")
            await SUPERSEDING[name](cache)
            with pytest.raises(LeaseLost):
                await cache.set("key", "computed", fence=lease)
            assert await cache.get_entry("key") is None, "an out-of-date value was stored"

    @pytest.mark.parametrize("name", UNRELATED)
    async def test_cache_other_calls_leave_a_computation_in_force(
        self, tmp_path: Path, name: str
    ) -> None:
        """A call that changes no value of the key leaves its lease alone."""
        async with self.computing(tmp_path) as (adapter, lease):
            await UNRELATED[name](cache_of(adapter))
            await _is_in_force(adapter, lease)

    async def test_cache_other_calls_leave_the_refresh_of_an_entry_in_force(
        self, tmp_path: Path
    ) -> None:
        """touch(), a refused add() and prune() leave the lease of a present key alone."""
        async with self.open_adapter(tmp_path) as adapter:
            cache = cache_of(adapter)
            await cache.set("key", "old", "1h")
            await cache.set("expired", "old", "500ms")
            lease = await granted(locks_of(adapter), "cache:key", "2h")
            second = await granted(locks_of(adapter), "cache:expired", "2h")
            await self.advance(adapter, "600ms")
            assert await cache.touch("key", "2h")
            assert not await cache.add("key", "refused")
            assert not await cache.touch("expired", "2h")
            await cache.prune()
            await _is_in_force(adapter, lease)
            await cache.set("expired", "computed", fence=second)

    async def test_cache_a_computation_stores_its_value_under_its_own_lease(
        self, tmp_path: Path
    ) -> None:
        """The fence of a write is not ended by it, so it can be written again and released."""
        async with self.computing(tmp_path) as (adapter, lease):
            await cache_of(adapter).set("key", 1, fence=lease)
            await cache_of(adapter).set("key", 2, "1h", tags=[TAG], fence=lease)
            assert await lease.is_valid(), "a computation ended its own lease"
            assert await lease.release() is not False, "a computation ended its own lease"

    async def test_cache_a_rejected_write_ends_no_computation(self, tmp_path: Path) -> None:
        """A write under a lost lease changes nothing, neither entries nor leases."""
        async with self.computing(tmp_path) as (adapter, lease):
            lost = await granted(locks_of(adapter), "guard")
            await lost.release()
            cache = cache_of(adapter)
            for write in (
                lambda: cache.set("key", 1, fence=lost),
                lambda: cache.add("key", 1, fence=lost),
                lambda: cache.delete("key", fence=lost),
            ):
                with pytest.raises(LeaseLost):
                    await write()
            await _is_in_force(adapter, lease)

    async def test_cache_a_fence_of_another_lease_supersedes_a_computation(
        self, tmp_path: Path
    ) -> None:
        """Only the computation's own lease as fence keeps it."""
        async with self.computing(tmp_path) as (adapter, lease):
            guard = await granted(locks_of(adapter), "guard")
            await cache_of(adapter).set("key", "newer", fence=guard)
            assert not await lease.is_valid(), "the write left the computation in force"

    @pytest.mark.parametrize("count", [1, 32, 33, 500])
    async def test_cache_each_tag_of_a_computation_ends_it(
        self, tmp_path: Path, count: int
    ) -> None:
        """A computation may have any number of tags."""
        tags = tuple(f"tag{number}" for number in range(count))
        async with self.open_adapter(tmp_path) as adapter:
            leases = locks_of(adapter)
            for tag in (tags[0], tags[-1]):
                lease = await granted(leases, "cache:key", "1h", load_owner(tags))
                await cache_of(adapter).delete_by_tag(tag)
                assert not await lease.is_valid(), f"{tag} of {count} tags left it in force"

    async def test_cache_leases_of_other_kinds_are_left_alone(self, tmp_path: Path) -> None:
        """No write of the cache ends a lease that is not ``cache:`` and the key."""
        async with self.open_adapter(tmp_path) as adapter:
            leases, cache = locks_of(adapter), cache_of(adapter)
            names = ("key", "idempotency:key", "circuit:key", "cache")
            others = [await granted(leases, name, "1h", load_owner([TAG])) for name in names]
            locks = locks_of(adapter, "lock")
            others.append(await granted(locks, "cache:key", "1h"))
            for write in SUPERSEDING.values():
                await cache.delete("key")
                await write(cache)
            assert [await other.is_valid() for other in others] == [True] * len(others)


async def _is_in_force(adapter: PersistenceAdapter, lease: LockHandle) -> None:
    """Fail unless the computation can still store its value."""
    assert await lease.is_valid(), "the call ended a computation that it does not supersede"
    await cache_of(adapter).set("key", "computed", fence=lease)
    assert await cache_of(adapter).get("key") == "computed"
