"""The contract of `goscope.InspectionProvider`, an optional ability of an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pytest

from ..._tools.key import escape_pattern
from ...backend import this_process
from ...inspection import CollectionInfo, LeaseInfo, LeaseKind, TaskInfo, Total
from ...providers import Capability, CircuitBreakerState, PersistenceAdapter
from ._base import Conformance, cache_of, checkpoints_of, circuits_of, idempotency_of, locks_of
from ._listings import Listing, inspection_of, key_of, listings_of
from ._locks import granted, held
from ._samples import BAD_KEYS, ODD_KEYS, checkpoint

T = TypeVar("T")

MANY: Final = 501
"""More records than two pages of `goscope.backend.BaseInspectionProvider`."""

CREATED_WITHIN_MS: Final = 60_000
"""How far a stored time may be from the clock of the adapter, which may not be the store's."""

USER_KEYS: Final = ("user:1", "user_1", "user%1", "user?1", "user[1]", "user*1", "USER:1", "user:")

MATCHES: Final = {
    "*": USER_KEYS,
    "user:*": ("user:1", "user:"),
    "user_*": ("user_1",),
    "user%*": ("user%1",),
    "user?1": ("user?1",),
    "user[1]": ("user[1]",),
    "user*1": ("user:1", "user_1", "user%1", "user?1", "user*1"),
    escape_pattern("user*1"): ("user*1",),
    escape_pattern("user*") + "*": ("user*1",),
    "*:1": ("user:1", "USER:1"),
    "user:1": ("user:1",),
    "absent*": (),
}
"""The keys above that match a pattern."""


class InspectionConformance(Conformance, abstract=True):
    """The adapter lists what its store holds."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        super().pytest_generate_tests(metafunc)
        if "listing" in metafunc.fixturenames:
            listings = listings_of(self)
            metafunc.parametrize("listing", listings, ids=[it.name for it in listings])

    # --- every listing -----------------------------------------------------------------------

    async def test_inspection_of_an_empty_store_lists_nothing(
        self, tmp_path: Path, listing: Listing
    ) -> None:
        """A new store has no records."""
        async with self.open_adapter(tmp_path) as adapter:
            assert await listing.keys(adapter) == set()

    async def test_inspection_lists_keys_as_the_program_passed_them(
        self, tmp_path: Path, listing: Listing
    ) -> None:
        """A key comes back without the prefix of the adapter, and otherwise unchanged."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            for key in ODD_KEYS:
                await listing.write(adapter, key)
            assert await listing.keys(adapter) == {*ODD_KEYS}

    async def test_inspection_star_is_the_only_wildcard(
        self, tmp_path: Path, listing: Listing
    ) -> None:
        """``*`` matches any run of characters, any other character only itself, in its case."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            for key in USER_KEYS:
                await listing.write(adapter, key)
            for pattern, matches in MATCHES.items():
                assert await listing.keys(adapter, pattern) == {*matches}, f"pattern {pattern!r}"

    async def test_inspection_rejects_invalid_patterns_at_once(
        self, tmp_path: Path, listing: Listing
    ) -> None:
        """An invalid pattern is an error of the call, not of the iteration; None is everything."""
        async with self.open_adapter(tmp_path) as adapter:
            for value, error in BAD_KEYS:
                if value is not None:
                    with pytest.raises(error):
                        listing.iterate(adapter, value)

    async def test_inspection_lists_every_record_of_many(
        self, tmp_path: Path, listing: Listing
    ) -> None:
        """A listing of several pages leaves out no record."""
        async with self.open_adapter(tmp_path) as adapter:
            keys = {f"key{number}" for number in range(MANY)}
            for key in keys:
                await listing.write(adapter, key)
            found = await listing.keys(adapter)
            assert found == keys, f"{len(keys - found)} of {MANY} records are not listed"

    async def test_inspection_sees_its_prefix_alone(self, tmp_path: Path, listing: Listing) -> None:
        """The records of another prefix are not listed, also not of one that looks like it."""
        if listing.name == "tasks" and not getattr(self, "prefixed_tasks", True):
            return  # the format shares tasks among prefixes
        async with (
            self.open_adapter(tmp_path, key_prefix="my_app:") as one,
            self.open_adapter(tmp_path, key_prefix="myXapp:") as two,
        ):
            await listing.write(one, "mine")
            await listing.write(two, "others")
            assert await listing.keys(one) == {"mine"}
            assert await listing.keys(one, "*") == {"mine"}
            assert await listing.keys(two) == {"others"}

    async def test_inspection_ends_while_records_are_removed(self, tmp_path: Path) -> None:
        """Removing each record when it is listed skips no other one."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter)
            for number in range(MANY):
                await granted(locks, f"key{number}", "1h")
            async for lease in inspection_of(adapter).leases():
                await locks.force_release(lease.key)
            assert await keys(inspection_of(adapter).leases()) == set()

    # --- leases ------------------------------------------------------------------------------

    async def test_inspection_lists_no_released_lease(self, tmp_path: Path) -> None:
        """A lease is not listed any more once it is released."""
        async with self.open_adapter(tmp_path) as adapter:
            await (await granted(locks_of(adapter), "key")).release()
            assert await leases(adapter) == [], "a released lease is listed"

    async def test_inspection_lists_each_lease_with_its_holder(self, tmp_path: Path) -> None:
        """The record of a lease agrees with its handle and with what holder() returns."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            handles = {
                key: await granted(locks_of(adapter), key, "1h", f"owner of {key}")
                for key in ("one", "two:2", "🔑")
            }
            found = {lease.key: lease for lease in await leases(adapter)}
            assert found.keys() == handles.keys()
            for key, handle in handles.items():
                lease, holder = found[key], await held(locks_of(adapter), key)
                assert (lease.owner, lease.host, lease.pid) == (
                    handle.owner,
                    holder.host,
                    holder.pid,
                )
                assert lease.fencing_token == handle.fencing_token
                assert lease.acquired_at == holder.since
                assert abs(lease.expires_in_ms - holder.expires_in_ms) < 60_000
                assert lease.is_alive is not False, "the process of this test counts as gone"

    async def test_inspection_tells_what_a_lease_is_held_for(self, tmp_path: Path) -> None:
        """A lease has the kind of the feature that holds it, and the key that was passed to it."""
        names: dict[str, tuple[LeaseKind, str]] = {
            "cache:user:1": ("cache", "user:1"),
            "circuit:pay": ("circuit", "pay"),
            "task:etl": ("task", "etl"),
            "idempotency:charge:7": ("idempotency", "charge:7"),
            "collection:box:user:2": ("collection", "box:user:2"),
            "custom:thing": ("other", "custom:thing"),
            "plain": ("other", "plain"),
        }
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            for name in names:
                await granted(locks_of(adapter), name)
            found = await leases(adapter)
            assert {(lease.kind, lease.key) for lease in found} == {*names.values()}
            for kind, key in names.values():
                listed = inspection_of(adapter).leases(kind=kind)
                assert key in {lease.key async for lease in listed}
            assert await keys(inspection_of(adapter).leases(kind="task")) == {"etl"}
            assert await keys(inspection_of(adapter).leases("*:*")) == {
                "user:1", "charge:7", "box:user:2", "custom:thing",
            }  # fmt: skip
            with pytest.raises(ValueError, match="kind"):
                inspection_of(adapter).leases(kind="unknown")  # type: ignore[arg-type]  # on purpose

    async def test_inspection_lists_locks_beside_leases(self, tmp_path: Path) -> None:
        """A lock is listed as one, in memory or in the store, and only the lock by its kind."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            handle = await granted(locks_of(adapter, "lock"), "key", "1h", "me")
            await granted(locks_of(adapter), "key")
            found = await collected(inspection_of(adapter).leases("k*", kind="lock"))
            assert [(lease.kind, lease.key, lease.owner) for lease in found] == [
                ("lock", "key", "me")
            ]
            assert found[0].fencing_token == handle.fencing_token
            assert found[0].pid == this_process().pid
            kinds = {(lease.kind, lease.key) for lease in await leases(adapter)}
            assert kinds == {("lock", "key"), ("other", "key")}
            await handle.release()
            assert await keys(inspection_of(adapter).leases(kind="lock")) == set()

    @pytest.mark.parametrize("role", ["lock", "lease"])
    async def test_inspection_lists_an_expired_lease_as_expired(
        self, tmp_path: Path, role: str
    ) -> None:
        """A lease that expired, and that nobody took, is listed with no time left, if at all."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter, role), "key", "200ms")
            await self.advance(adapter, "400ms")
            found = await leases(adapter)
            assert all(lease.expires_in_ms <= 0 for lease in found), "it still runs in the list"
            await granted(locks_of(adapter, role), "key", "1h", "next")
            found = await leases(adapter)
            assert [lease.owner for lease in found] == ["next"]
            assert found[0].expires_in_ms > 0

    async def test_inspection_lists_no_mark_of_a_finished_task(self, tmp_path: Path) -> None:
        """The lease that tells waiters of a task that it has finished is held by nobody."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "task-finished:etl")
            assert await leases(adapter) == []
            assert (await inspection_of(adapter).totals()).leases == Total()

    # --- the features ------------------------------------------------------------------------

    async def test_inspection_lists_the_state_of_circuits(self, tmp_path: Path) -> None:
        """The record of a circuit has the state that get_state() returns."""
        async with self.open_adapter(tmp_path) as adapter:
            circuits = circuits_of(adapter)
            await circuits.record_failure("open", 1)
            await circuits.record_failure("closed", 5)
            half_open = CircuitBreakerState(
                state="half-open", failure_count=2, last_failure_time=5, success_count=1
            )
            await circuits.set_state("half-open", half_open)
            async for circuit in inspection_of(adapter).circuits():
                assert circuit.state == await circuits.get_state(circuit.key)

    async def test_inspection_lists_half_done_and_running_tasks(self, tmp_path: Path) -> None:
        """A task has its latest checkpoint, how many there are, and the lease that guards it."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            store = checkpoints_of(adapter)
            for sequence in (1, 2, 9):
                await store.save(checkpoint(sequence, "half done", "é"))
            await store.save(checkpoint(1, "running"))
            await granted(locks_of(adapter), "task:running", "1h", "me")
            started = await granted(locks_of(adapter), "task:just started", "1h")
            found = await tasks(adapter)
            assert found.keys() == {"half done", "running", "just started"}
            half_done = found["half done"]
            assert half_done == TaskInfo(
                id="half done",
                checkpoints=3,
                size_bytes=3 * len('"é"'.encode()),
                sequence=9,
                progress=0.0,
                saved_at=checkpoint(9).timestamp,
            )
            assert not half_done.is_running
            lease = found["running"].lease
            assert lease is not None
            assert (lease.kind, lease.key, lease.owner) == ("task", "running", "me")
            assert found["running"].is_running
            assert (found["just started"].checkpoints, found["just started"].sequence) == (0, None)
            assert found["just started"].is_running
            await started.release()
            await store.delete_all("half done")
            assert (await tasks(adapter)).keys() == {"running"}
            assert (await tasks(adapter, "half*")).keys() == set()

    async def test_inspection_lists_progress_and_estimate_of_tasks(self, tmp_path: Path) -> None:
        """The progress and the estimate are those of the latest checkpoint."""
        async with self.open_adapter(tmp_path) as adapter:
            for sequence, progress, remaining in ((1, 90.0, 1), (2, 12.5, 3_000)):
                saved = msgspec.structs.replace(
                    checkpoint(sequence), progress=progress, estimated_time_remaining=remaining
                )
                await checkpoints_of(adapter).save(saved)
            found = (await tasks(adapter))["task"]
            assert (found.progress, found.estimated_time_remaining) == (12.5, 3_000)

    async def test_inspection_lists_size_and_expiry_of_entries(self, tmp_path: Path) -> None:
        """The record of an entry has the size of its text, its times, and tags without prefix."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            cache = cache_of(adapter)
            await cache.set("plain", "äöü")
            await cache.set("full", [1], "1h", tags=["one", "two"], stale_for="2h")
            found = {entry.key: entry async for entry in inspection_of(adapter).entries()}
            plain, full = found["plain"], found["full"]
            assert plain.size_bytes == len('"äöü"'.encode())
            assert (plain.expires_in_ms, plain.stale_expires_in_ms, plain.tags) == (None, None, ())
            assert is_about(full.expires_in_ms, 3_600_000)
            assert is_about(full.stale_expires_in_ms, 3 * 3_600_000)
            assert {*full.tags} == {"one", "two"}
            now = adapter.clock.wall_ms()
            assert full.created_at is None or is_about(full.created_at, now)
            await cache.set("full", [1], "1h")
            [full] = await collected(inspection_of(adapter).entries("full"))
            assert (full.stale_expires_in_ms, full.tags) == (None, ())

    async def test_inspection_lists_collections_apart_from_the_cache(self, tmp_path: Path) -> None:
        """A collection has its own listing, its number of entries and the size of their texts."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            cache, inspection = cache_of(adapter), inspection_of(adapter)
            await cache.set("key", 1)
            await cache.collection("box").set("a:b", "é", tags=["tag"])
            await cache.collection("box").set("c", "abc", "1h")
            await cache.collection("bo").set("a", 1)
            assert await keys(inspection.entries()) == {"key"}
            [entry] = await collected(inspection.entries("a:*", collection="box"))
            assert (entry.key, entry.size_bytes, {*entry.tags}) == ("a:b", 4, {"tag"})
            assert await keys(inspection.entries(collection="box")) == {"a:b", "c"}
            assert await keys(inspection.entries(collection="b")) == set()
            assert await collected(inspection.collections()) == [
                CollectionInfo(name="bo", count=1, size_bytes=1),
                CollectionInfo(name="box", count=2, size_bytes=4 + 5),
            ]
            totals = await inspection.totals()
            assert totals.entries == Total(count=1, size_bytes=1)
            assert totals.collections == Total(count=3, size_bytes=1 + 4 + 5)
            with pytest.raises(ValueError, match="collection"):
                inspection.entries(collection="b:")

    async def test_inspection_lists_an_expired_entry_as_expired(self, tmp_path: Path) -> None:
        """An entry that is still stored after its expiry is listed with no time left."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("gone", 1, "200ms")
            await cache_of(adapter).set("stale", 1, "200ms", stale_for="1h")
            await self.advance(adapter, "400ms")
            async for entry in inspection_of(adapter).entries():
                assert entry.expires_in_ms is not None
                assert entry.expires_in_ms <= 0, f"{entry.key} is listed as live"

    async def test_inspection_lists_size_and_expiry_of_results(self, tmp_path: Path) -> None:
        """The record of a result has the size of its text, its time left and its fingerprint."""
        async with self.open_adapter(tmp_path) as adapter:
            results = idempotency_of(adapter)
            await results.set("forever", {"ü": 1})
            await results.set("full", None, "1h", fingerprint="payload")
            found = {result.key: result async for result in inspection_of(adapter).results()}
            assert found["forever"].size_bytes == len('{"ü":1}'.encode())
            assert (found["forever"].expires_in_ms, found["forever"].fingerprint) == (None, None)
            assert is_about(found["full"].expires_in_ms, 3_600_000)
            assert found["full"].fingerprint == "payload"
            created_at, now = found["full"].created_at, adapter.clock.wall_ms()
            assert created_at is None or is_about(created_at, now)
            await results.delete("full")
            assert await keys(inspection_of(adapter).results()) == {"forever"}

    # --- the store ---------------------------------------------------------------------------

    async def test_inspection_totals_count_what_is_listed(self, tmp_path: Path) -> None:
        """The totals are the numbers of the records, and the sizes of their texts."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            await granted(locks_of(adapter, "lock"), "key")
            await granted(locks_of(adapter), "task:one")
            await circuits_of(adapter).record_failure("circuit", 1)
            for sequence in (1, 2, 3):
                await checkpoints_of(adapter).save(checkpoint(sequence, "one", "ab"))
            await checkpoints_of(adapter).save(checkpoint(1, "two", "é"))
            await idempotency_of(adapter).set("result", "abc")
            await cache_of(adapter).set_many({"a": "é", "b": 10, "c": []})
            totals = await inspection_of(adapter).totals()
            assert totals.leases == Total(count=2)
            assert totals.waiters == Total()
            assert totals.circuits == Total(count=1)
            assert totals.tasks == Total(count=2)
            assert totals.checkpoints == Total(count=4, size_bytes=3 * 4 + 4)
            assert totals.results == Total(count=1, size_bytes=5)
            assert totals.entries == Total(count=3, size_bytes=4 + 2 + 2)
            assert totals.processes.count == len(
                await collected(inspection_of(adapter).processes())
            )

    async def test_inspection_lists_this_process(self, tmp_path: Path) -> None:
        """The process that has the adapter open is among those that have the store open."""
        async with self.open_adapter(tmp_path) as adapter:
            me, now = this_process(), adapter.clock.wall_ms()
            found = await collected(inspection_of(adapter).processes())
            mine = [it for it in found if (it.host, it.pid) == (me.host, me.pid)]
            assert mine, f"this process is not among {found}"
            assert all(it.is_alive is not False and is_about(it.opened_at, now) for it in mine)

    async def test_inspection_changes_nothing(self, tmp_path: Path) -> None:
        """A listing counts no hit or miss, takes no token, and removes nothing."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", 1, "1h", tags=["tag"], stale_for="1h")
            before = await cache_of(adapter).stats(), await cache_of(adapter).get_entry("key")
            token = (await granted(locks_of(adapter), "before")).fencing_token
            for listing in listings_of(self):
                await listing.keys(adapter)
            await inspection_of(adapter).totals()
            after = await cache_of(adapter).stats(), await cache_of(adapter).get_entry("key")
            assert after == before
            assert await keys(inspection_of(adapter).leases()) == {"before"}
            assert (await held(locks_of(adapter), "before")).fencing_token == token

    async def test_inspection_shows_what_a_process_left_behind(self, tmp_path: Path) -> None:
        """Leases of an adapter that was closed without releasing them stay listed."""
        async with self.open_adapter(tmp_path) as adapter:
            await granted(locks_of(adapter), "task:left", "1h")
        async with self.open_adapter(tmp_path) as adapter:
            left = {"left"} if Capability.PERSISTENT in self.capabilities else set[str]()
            assert await keys(inspection_of(adapter).leases(kind="task")) == left


async def collected(listing: AsyncIterator[T]) -> list[T]:
    return [record async for record in listing]


async def keys(listing: AsyncIterator[Any]) -> set[str]:
    return {key_of(record) async for record in listing}


async def leases(adapter: PersistenceAdapter) -> list[LeaseInfo]:
    return await collected(inspection_of(adapter).leases())


async def tasks(adapter: PersistenceAdapter, pattern: str | None = None) -> dict[str, TaskInfo]:
    return {task.id: task async for task in inspection_of(adapter).tasks(pattern)}


def is_about(found: int | None, expected: int) -> bool:
    """Whether a time is as expected, apart from how long the test and its machine take."""
    return found is not None and abs(found - expected) <= CREATED_WITHIN_MS
