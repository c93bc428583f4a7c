"""The contract of a store that several adapters have open: two programs, or two prefixes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from ...backend import load_owner
from ...errors import CheckpointConflict, LeaseLost
from ...providers import MISSING, Capability, CircuitBreakerState, PersistenceAdapter
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from ._checks import run_ticks
from ._locks import granted, strictly_grows, token_of
from ._samples import checkpoint


class SharedStoreConformance(Conformance, abstract=True):
    """Two adapters on one store share everything; two prefixes in one store share nothing.

    If the ids of tasks and checkpoints have no prefix in the store, declare
    ``prefixed_tasks = False``: all prefixes then share tasks, and nothing else.
    """

    prefixed_tasks: ClassVar[bool] = True

    @asynccontextmanager
    async def open_two(
        self, tmp_path: Path
    ) -> AsyncGenerator[tuple[PersistenceAdapter, PersistenceAdapter]]:
        async with self.open_adapter(tmp_path) as one, self.open_adapter(tmp_path) as two:
            yield one, two

    @asynccontextmanager
    async def open_prefixes(
        self, tmp_path: Path
    ) -> AsyncGenerator[tuple[PersistenceAdapter, PersistenceAdapter]]:
        """Open two prefixes, of which one would match the other as a LIKE pattern."""
        async with (
            self.open_adapter(tmp_path, key_prefix="my_app:") as one,
            self.open_adapter(tmp_path, key_prefix="myXapp:") as two,
        ):
            yield one, two

    # --- one store ---------------------------------------------------------------------------

    async def test_shared_adapters_see_the_writes_of_one_another(self, tmp_path: Path) -> None:
        """Each adapter reads what the other wrote."""
        async with self.open_two(tmp_path) as (one, two):
            await cache_of(one).set("key", 1, "1h", tags=["tag"], stale_for="1h")
            await cache_of(one).collection("box").set("key", 2)
            await circuits_of(one).record_failure("key", 5)
            await checkpoints_of(one).save(checkpoint(1))
            await idempotency_of(one).set("key", 1, fingerprint="print")
            assert await cache_of(two).get_entry("key") == await cache_of(one).get_entry("key")
            assert await cache_of(two).collection("box").get("key") == 2
            assert await circuits_of(two).get_state("key") == await circuits_of(one).get_state(
                "key"
            )
            assert await checkpoints_of(two).load_latest("task") == checkpoint(1)
            assert await idempotency_of(two).get("key") == await idempotency_of(one).get("key")
            assert await cache_of(two).delete_by_tag("tag") == 1

    async def test_shared_leases_exclude_across_adapters(self, tmp_path: Path) -> None:
        """A lease is granted to one adapter at a time, and both see its holder."""
        async with self.open_two(tmp_path) as (one, two):
            lease = await granted(locks_of(one), "key", owner="first")
            assert await locks_of(two).acquire("key", "30s") is None, "granted twice"
            holder = await locks_of(two).holder("key")
            assert holder is not None, "the other adapter sees no holder"
            assert holder.owner == "first"
            await lease.release()
            assert await locks_of(two).acquire("key", "30s"), "a release was not visible"

    async def test_shared_locks_exclude_as_declared(self, tmp_path: Path) -> None:
        """``adapter.lock`` excludes other adapters, with a token if SHARED_LOCKS is declared.

        Without SHARED_LOCKS it is in memory, and need not exclude them.
        """
        async with self.open_two(tmp_path) as (one, two):
            handle = await granted(locks_of(one, "lock"), "key")
            shared = await locks_of(two, "lock").acquire("key", "30s") is None
            declared = Capability.SHARED_LOCKS in self.capabilities
            assert shared or not declared, "SHARED_LOCKS is declared, and two adapters got a lock"
            has_token = handle.fencing_token is not None
            assert has_token == declared, (
                f"SHARED_LOCKS is declared: {declared}, token: {has_token}"
            )

    async def test_shared_capabilities_are_tested_with_processes(self, tmp_path: Path) -> None:
        """PERSISTENT, SHARED_LOCKS and DISTRIBUTED need the tests of ``processes = True``."""
        declared = sorted(it.name for it in self.capabilities - {Capability.NOTIFICATIONS})
        assert self.processes or not declared, f"{declared}: declare `processes = True` too"

    async def test_shared_adapters_have_one_store_id(self, tmp_path: Path) -> None:
        """All leases of a store have its ``store_id``, also after reopening."""
        async with self.open_two(tmp_path) as (one, two):
            first, second = await granted(locks_of(one), "one"), await granted(locks_of(two), "two")
            assert first.store_id == second.store_id, "two adapters on one store name two stores"
        async with self.open_adapter(tmp_path) as adapter:
            later = await granted(locks_of(adapter), "three")
            assert later.store_id == first.store_id, "the store_id changed by reopening"

    async def test_shared_prefixes_have_different_stored_keys(self, tmp_path: Path) -> None:
        """The leases of two prefixes have one ``store_id`` and two stored keys."""
        async with self.open_prefixes(tmp_path) as (one, two):
            first, second = await granted(locks_of(one), "key"), await granted(locks_of(two), "key")
            assert first.stored_key != second.stored_key, "two prefixes have one stored key"
            assert first.store_id == second.store_id, "two prefixes of one store name two stores"

    async def test_shared_one_of_many_adapters_gets_the_lease(self, tmp_path: Path) -> None:
        """Concurrent acquires through two adapters grant a lease exactly once."""
        async with self.open_two(tmp_path) as (one, two):
            asking = (locks_of(it).acquire("key", "30s") for it in [one, two] * 10)
            count = sum(grant is not None for grant in await asyncio.gather(*asking))
            assert count == 1, f"20 concurrent callers got {count} grants of one lease"

    async def test_shared_tokens_grow_across_adapters(self, tmp_path: Path) -> None:
        """The adapters of a store share one counter."""
        async with self.open_two(tmp_path) as (one, two):
            tokens: list[int] = []
            for adapter in [one, two, one, two]:
                lease = await granted(locks_of(adapter), "key")
                tokens.append(token_of(lease))
                await lease.release()
            assert strictly_grows(tokens), f"tokens must grow with each grant: {tokens}"

    async def test_shared_a_lease_fences_writes_of_other_adapters(self, tmp_path: Path) -> None:
        """A lease of one adapter fences a write of another."""
        async with self.open_two(tmp_path) as (one, two):
            lease = await granted(locks_of(one), "key")
            await cache_of(two).set("key", 1, fence=lease)
            assert await cache_of(one).get("key") == 1

    async def test_shared_a_takeover_by_another_adapter_rejects_the_write(
        self, tmp_path: Path
    ) -> None:
        """A lease that another adapter took over permits no writes of its old holder."""
        async with self.open_two(tmp_path) as (one, two):
            old = await granted(locks_of(one), "key", "500ms")
            await self.advance(one, "600ms")
            await granted(locks_of(two), "key")
            with pytest.raises(LeaseLost):
                await cache_of(one).set("key", "late", fence=old)
            assert not await cache_of(one).has("key"), "a late write was applied"
            assert not await old.is_valid()
            assert old.lost

    async def test_shared_a_write_ends_computations_of_other_adapters(self, tmp_path: Path) -> None:
        """A value that is computed through one adapter is superseded through another."""
        async with self.open_two(tmp_path) as (one, two):
            cache = cache_of(two)
            for write in (
                lambda: cache.delete("key"),
                lambda: cache.clear("k*"),
                lambda: cache.delete_by_tag("tag"),
                lambda: cache.set("key", "newer"),
            ):
                lease = await granted(locks_of(one), "cache:key", "1h", load_owner(["tag"]))
                await write()
                with pytest.raises(LeaseLost):
                    await cache_of(one).set("key", "late", fence=lease)
            assert await cache_of(one).get("key") == "newer"

    async def test_shared_prefixes_do_not_end_one_anothers_computations(
        self, tmp_path: Path
    ) -> None:
        """The same key and tag under another prefix is another computation."""
        async with self.open_prefixes(tmp_path) as (one, two):
            lease = await granted(locks_of(one), "cache:key", "1h", load_owner(["tag"]))
            await cache_of(two).set("key", 1)
            await cache_of(two).delete("key")
            await cache_of(two).delete_by_tag("tag")
            await cache_of(two).clear()
            await cache_of(one).set("key", "computed", fence=lease)
            assert await cache_of(one).get("key") == "computed"

    async def test_shared_adds_and_increments_are_atomic_across_adapters(
        self, tmp_path: Path
    ) -> None:
        """Concurrent writes of two adapters are all applied."""
        async with self.open_two(tmp_path) as (one, two):
            caches = [cache_of(one), cache_of(two)] * 10
            added = await asyncio.gather(*(cache.add("added", 1) for cache in caches))
            assert sum(added) == 1, f"{sum(added)} of 20 concurrent add() calls stored a value"
            counts = await asyncio.gather(*(cache.increment("count") for cache in caches))
            assert sorted(counts) == list(range(1, 21)), "concurrent increments were lost"

    async def test_shared_failures_count_across_adapters(self, tmp_path: Path) -> None:
        """Concurrent failures of two adapters all count."""
        async with self.open_two(tmp_path) as (one, two):
            failing = (circuits_of(it).record_failure("key", 20) for it in [one, two] * 10)
            assert sorted(await asyncio.gather(*failing)) == list(range(1, 21))
            state = await circuits_of(one).get_state("key")
            assert state is not None
            assert (state.state, state.failure_count) == ("open", 20)

    async def test_shared_checkpoints_conflict_across_adapters(self, tmp_path: Path) -> None:
        """A save at a sequence that another adapter has saved is a conflict."""
        async with self.open_two(tmp_path) as (one, two):
            await checkpoints_of(one).save(checkpoint(1))
            await checkpoints_of(two).save(checkpoint(2))
            with pytest.raises(CheckpointConflict):
                await checkpoints_of(one).save(checkpoint(2, id="new"))
            assert await checkpoints_of(one).load_latest("task") == checkpoint(2)

    async def test_shared_a_completion_ends_the_lease_for_all_adapters(
        self, tmp_path: Path
    ) -> None:
        """Storing a result releases its lease for the other adapter too."""
        async with self.open_two(tmp_path) as (one, two):
            lease = await granted(locks_of(one), "idempotency:key")
            await idempotency_of(one).set("key", 1, fence=lease)
            assert await locks_of(two).acquire("idempotency:key", "30s") is not None

    # --- over time ---------------------------------------------------------------------------

    async def test_shared_records_survive_reopening(self, tmp_path: Path) -> None:
        """A reopened store has every record, with its times and tags."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", [1], "1h", tags=["tag"], stale_for="1h")
            await circuits_of(adapter).record_failure("key", 1)
            await checkpoints_of(adapter).save(checkpoint(1))
            await idempotency_of(adapter).set("key", None, "1h", fingerprint="print")
            before = await snapshot(adapter)
        async with self.open_adapter(tmp_path) as adapter:
            assert await snapshot(adapter) == before, "reopening lost a record"
            assert await cache_of(adapter).delete_by_tag("tag") == 1, "reopening lost tags"

    async def test_shared_tokens_grow_over_reopening(self, tmp_path: Path) -> None:
        """The token counter survives, even without a lease."""
        tokens: list[int] = []
        for _ in range(3):
            async with self.open_adapter(tmp_path) as adapter:
                lease = await granted(locks_of(adapter), "key")
                tokens.append(token_of(lease))
                await lease.release()
        assert strictly_grows(tokens), f"tokens must grow with each grant: {tokens}"

    async def test_shared_a_lease_survives_its_adapter(self, tmp_path: Path) -> None:
        """Closing an adapter does not release a lease; it expires at its time."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "key", "1s")
        async with self.open_adapter(tmp_path) as adapter:
            assert await locks_of(adapter).acquire("key", "30s") is None, "the lease ended early"
            await self.advance(adapter, "1100ms")
            await granted(locks_of(adapter), "key")

    async def test_shared_disconnect_finishes_submitted_writes(self, tmp_path: Path) -> None:
        """A write that started before disconnect() is applied, or raises."""
        async with self.open_adapter(tmp_path) as adapter:
            writes = [cache_of(adapter).set(f"key{number}", number) for number in range(20)]
            tasks = [asyncio.ensure_future(write) for write in writes]
            await run_ticks(1)
            await adapter.disconnect()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        async with self.open_adapter(tmp_path) as adapter:
            for number, result in enumerate(results):
                stored = await cache_of(adapter).has(f"key{number}")
                assert stored == (result is None), f"the caller got {result}, stored: {stored}"

    # --- two prefixes ------------------------------------------------------------------------

    async def test_shared_prefixes_do_not_share_cache_entries(self, tmp_path: Path) -> None:
        """A prefix does not read, list or count the entries of another."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await cache_of(one).set("key", 1, tags=["tag"])
            cache = cache_of(two)
            assert await cache.get("key", MISSING) is MISSING
            assert await cache.keys() == []
            assert await cache.keys("*key") == []
            assert (await cache.stats()).entries == 0
            assert await cache.delete_by_tag("tag") == 0, "another prefix's tag was deleted"
            assert await cache.add("key", 2), "another prefix's entry stood in the way"
            assert await cache_of(one).get("key") == 1, "another prefix's entry was replaced"

    async def test_shared_prefixes_do_not_clear_one_another(self, tmp_path: Path) -> None:
        """Clearing and pruning stay within the prefix, though ``_`` is a wildcard in SQL."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await cache_of(two).set("key", 1)
            await cache_of(two).set("short", 1, "500ms", stale_for="1h")
            await self.advance(one, "600ms")
            await cache_of(one).clear()
            await cache_of(one).clear("*")
            await cache_of(one).prune()
            assert await cache_of(two).keys() == ["key"], "another prefix was cleared"
            assert await cache_of(two).get_entry("short"), "another prefix was cleared"

    async def test_shared_keys_are_listed_without_their_prefix(self, tmp_path: Path) -> None:
        """Neither listed keys nor patterns contain the prefix."""
        async with self.open_prefixes(tmp_path) as (one, _):
            await cache_of(one).set("user:1", 1)
            assert await cache_of(one).keys("user:*") == ["user:1"]
            assert await cache_of(one).keys("my_app:*") == []
            assert (await granted(locks_of(one), "key")).key == "key"

    async def test_shared_no_prefix_and_a_prefix_do_not_share_cache_entries(
        self, tmp_path: Path
    ) -> None:
        """An adapter without a prefix sees only entries without a prefix."""
        async with (
            self.open_adapter(tmp_path) as plain,
            self.open_adapter(tmp_path, key_prefix="shop:") as shop,
        ):
            await cache_of(shop).set("key", 1)
            await cache_of(plain).set("shop:key", 2)
            await cache_of(plain).set("cache:key", 3)
            assert await cache_of(plain).keys() == ["cache:key", "shop:key"]
            assert await cache_of(shop).keys() == ["key"]
            await cache_of(plain).clear()
            assert await cache_of(shop).get("key") == 1, "clear() removed an entry of a prefix"

    async def test_shared_prefixes_do_not_share_collections(self, tmp_path: Path) -> None:
        """No call under a prefix, or without one, touches a collection under another."""
        async with (
            self.open_prefixes(tmp_path) as (one, two),
            self.open_adapter(tmp_path) as bare,
        ):
            await cache_of(one).collection("box").set("key", 1, tags=["tag"])
            for other in (cache_of(two), cache_of(bare)):
                box = other.collection("box")
                tag = "my_app:collection:box:tag"
                for entries in (other, box, other.collection("my_app")):
                    assert await entries.keys() == []
                    await entries.set("key", 2, tags=["tag", tag])
                    assert await entries.delete_by_tag(tag) == 1
                    assert await entries.delete_by_tag("collection:box:tag") == 0
                    await entries.clear("*key*")
                    await entries.clear()
            assert await cache_of(one).collection("box").get("key") == 1
            assert await cache_of(one).collection("box").delete_by_tag("tag") == 1

    @pytest.mark.parametrize("role", ["lock", "lease"])
    async def test_shared_prefixes_do_not_share_locks(self, tmp_path: Path, role: str) -> None:
        """A lock of one prefix does not exclude or release that of another."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await granted(locks_of(one, role), "key")
            assert await locks_of(two, role).holder("key") is None
            handle = await granted(locks_of(two, role), "key")
            await locks_of(one, role).force_release("key")
            assert await handle.is_valid(), "another prefix's lock was released"

    async def test_shared_prefixes_do_not_share_circuits(self, tmp_path: Path) -> None:
        """Failures count only in their prefix."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await circuits_of(one).record_failure("key", 1)
            assert await circuits_of(two).get_state("key") is None
            await circuits_of(two).set_state("key", CircuitBreakerState())
            state = await circuits_of(one).get_state("key")
            assert state is not None
            assert state.state == "open", "another prefix changed this one's circuit"

    async def test_shared_prefixes_do_not_share_results(self, tmp_path: Path) -> None:
        """A result of one prefix is absent in another."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await idempotency_of(one).set("key", 1)
            assert await idempotency_of(two).get("key") is None
            assert not await idempotency_of(two).delete("key")
            assert await idempotency_of(one).get("key"), "another prefix deleted the result"

    async def test_shared_prefixes_do_not_share_checkpoints(self, tmp_path: Path) -> None:
        """A task of one prefix is absent in another, unless ``prefixed_tasks`` is False."""
        async with self.open_prefixes(tmp_path) as (one, two):
            await checkpoints_of(one).save(checkpoint(5))
            store = checkpoints_of(two)
            if not self.prefixed_tasks:
                assert await store.load("task#5") == checkpoint(5)
                assert list(await store.list("task")) == [checkpoint(5)]
                return
            assert await store.load("task#5") is None
            assert list(await store.list("task")) == []
            await store.save(checkpoint(5))
            await store.delete_all("task")
            assert await checkpoints_of(one).load_latest("task") == checkpoint(5)


async def snapshot(adapter: PersistenceAdapter) -> list[object]:
    """One record of each provider."""
    return [
        await cache_of(adapter).get_entry("key"),
        await circuits_of(adapter).get_state("key"),
        await checkpoints_of(adapter).load_latest("task"),
        await idempotency_of(adapter).get("key"),
    ]
