"""The contract of `goscope.providers.SupportsInspection`, an optional ability of an adapter."""

from __future__ import annotations

from pathlib import Path

from ...providers import LockHolder, PersistenceAdapter, SupportsInspection
from ._base import Conformance, locks_of
from ._locks import granted, held


class InspectionConformance(Conformance, abstract=True):
    """The adapter lists the locks and leases that the store holds."""

    async def test_inspection_lists_no_released_lease(self, tmp_path: Path) -> None:
        """The list is empty before the first grant and after the last release."""
        async with self.open_adapter(tmp_path) as adapter:
            assert await listed(adapter) == {}
            await (await granted(locks_of(adapter), "key")).release()
            assert await listed(adapter) == {}, "a released lease is listed"

    async def test_inspection_lists_each_lease_with_its_holder(self, tmp_path: Path) -> None:
        """The list has each lease under its stored key, with the record that holder() returns."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            leases = locks_of(adapter)
            for key in ("one", "two:2", "🔑"):
                await granted(leases, key, owner=f"owner of {key}")
            found = await listed(adapter)
            assert sorted(found) == ["shop:lease:one", "shop:lease:two:2", "shop:lease:🔑"]
            for key in ("one", "two:2", "🔑"):
                holder, listed_holder = await held(leases, key), found[f"shop:lease:{key}"]
                assert listed_holder.owner == holder.owner == f"owner of {key}"
                assert listed_holder.fencing_token == holder.fencing_token

    async def test_inspection_lists_locks_and_leases(self, tmp_path: Path) -> None:
        """A lock in the store is listed beside a lease of its key; one in memory need not be."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter, "lock"), "key")
            await granted(locks_of(adapter), "key")
            found = await listed(adapter)
            assert "lease:key" in found
            assert "lock:key" in found or handle.fencing_token is None


async def listed(adapter: PersistenceAdapter) -> dict[str, LockHolder]:
    """The holders that the adapter lists, by stored key."""
    assert isinstance(adapter, SupportsInspection), "the adapter has no held_locks()"
    return {key: holder async for key, holder in adapter.held_locks()}
