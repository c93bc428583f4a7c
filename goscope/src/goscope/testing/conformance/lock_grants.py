"""The contract of `goscope.LockProvider`: granting and releasing a lock."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ...providers import LockHandle
from ._base import locks_of
from ._checks import HANG_S, rejects, run_ticks
from ._locks import LockTests, granted, held
from ._samples import BAD_DURATIONS, BAD_KEYS, ODD_KEYS


class LockGrantConformance(LockTests, abstract=True):
    """A lock is granted to one caller at a time, and released by its grant alone."""

    # --- acquire -----------------------------------------------------------------------------

    async def test_lock_acquire_grants_a_free_lock(self, tmp_path: Path, role: str) -> None:
        """A free lock is granted to the caller."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await locks.acquire("key", "30s")
            assert handle is not None, "a free lock was not granted"
            assert isinstance(handle, LockHandle), "the handle lacks members of LockHandle"
            assert handle.key == "key", "the handle must have the key of the caller"
            assert await handle.is_valid(), "a handle must be valid right after the grant"
            assert not handle.lost, "a handle must not be lost right after the grant"

    async def test_lock_acquire_is_none_while_another_owner_holds_it(
        self, tmp_path: Path, role: str
    ) -> None:
        """Another owner cannot acquire a held lock."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", owner="first")
            second = await locks.acquire("key", "30s", owner="second")
            assert second is None, "the lock was granted twice"

    async def test_lock_acquire_is_none_for_the_same_owner(self, tmp_path: Path, role: str) -> None:
        """The owner cannot acquire its own lock again: locks are not reentrant."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", owner="me")
            again = await locks.acquire("key", "30s", owner="me")
            assert again is None, "the owner acquired its own lock again"

    async def test_lock_acquire_never_waits(self, tmp_path: Path, role: str) -> None:
        """acquire() returns at once while the lock is held."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "1h")
            async with asyncio.timeout(HANG_S):
                assert await locks.acquire("key", "30s") is None, "the lock was granted twice"

    async def test_lock_a_failed_acquire_changes_nothing(self, tmp_path: Path, role: str) -> None:
        """A caller that does not get the lock changes neither its owner nor its expiry."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="first")
            await locks.acquire("key", "1h", owner="second")
            holder = await held(locks, "key")
            assert holder.owner == "first", "a failed acquire replaced the owner"
            assert holder.expires_in_ms <= 30_000, "a failed acquire moved the expiry"

    async def test_lock_one_of_many_concurrent_callers_gets_the_lock(
        self, tmp_path: Path, role: str
    ) -> None:
        """Concurrent acquires of one lock grant it exactly once."""
        async with self.open_locks(tmp_path, role) as locks:
            grants = await asyncio.gather(*(locks.acquire("key", "30s") for _ in range(20)))
            count = sum(grant is not None for grant in grants)
            assert count == 1, f"20 concurrent callers got {count} grants of one lock"

    async def test_lock_different_keys_are_different_locks(self, tmp_path: Path, role: str) -> None:
        """Keys that differ at all, even in case or spaces, are separate locks."""
        async with self.open_locks(tmp_path, role) as locks:
            for key in ODD_KEYS:
                handle = await locks.acquire(key, "30s")
                assert handle is not None, f"key {key[:40]!r} was mistaken for another"

    async def test_lock_a_handle_has_the_name_of_its_owner(self, tmp_path: Path, role: str) -> None:
        """The handle has the owner that acquire() was given."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", owner="nightly import")
            assert handle.owner == "nightly import"

    async def test_lock_default_owners_differ(self, tmp_path: Path, role: str) -> None:
        """Without an owner each grant gets a unique owner."""
        async with self.open_locks(tmp_path, role) as locks:
            first, second = await granted(locks, "one"), await granted(locks, "two")
            assert first.owner, "the default owner is empty"
            assert first.owner != second.owner, "two grants have the same default owner"

    async def test_lock_acquire_rejects_invalid_keys(self, tmp_path: Path, role: str) -> None:
        """An invalid key raises ValueError or TypeError."""
        async with self.open_locks(tmp_path, role) as locks:
            await rejects("acquire(key)", locks.acquire, BAD_KEYS)

    async def test_lock_acquire_rejects_invalid_owners(self, tmp_path: Path, role: str) -> None:
        """An owner must be a valid key; only None means a default owner."""
        async with self.open_locks(tmp_path, role) as locks:
            bad = [entry for entry in BAD_KEYS if entry.value is not None]
            await rejects("acquire(owner=)", lambda it: locks.acquire("key", "1s", it), bad)
            assert await locks.holder("key") is None, "a rejected acquire granted the lock"

    async def test_lock_acquire_rejects_invalid_ttls(self, tmp_path: Path, role: str) -> None:
        """An invalid ttl is rejected and nothing is granted."""
        async with self.open_locks(tmp_path, role) as locks:
            await rejects("acquire(ttl=)", lambda ttl: locks.acquire("key", ttl), BAD_DURATIONS)
            assert await locks.holder("key") is None, "a rejected acquire granted the lock"

    async def test_lock_keys_of_512_characters_are_allowed(self, tmp_path: Path, role: str) -> None:
        """A key of the maximum length works; the length counts characters, not bytes."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "é" * 512)

    async def test_lock_a_lease_key_can_contain_the_longest_key(self, tmp_path: Path) -> None:
        """The key of a feature's lease is a kind, a colon and a key of up to 512 characters."""
        async with self.open_locks(tmp_path, "lease") as leases:
            await granted(leases, "idempotency:" + "k" * 512)

    async def test_lock_and_lease_are_separate_namespaces(self, tmp_path: Path) -> None:
        """A lock never excludes a lease of the same key."""
        async with self.open_adapter(tmp_path) as adapter:
            locks, leases = locks_of(adapter, "lock"), locks_of(adapter, "lease")
            await granted(locks, "key")
            lease = await leases.acquire("key", "30s")
            assert lease is not None, "adapter.lock and adapter.lease share their keys"
            await leases.force_release("key")
            assert await locks.holder("key"), "releasing a lease released the lock of the same key"

    # --- the identity of a grant -------------------------------------------------------------

    async def test_lock_a_handle_has_the_stored_key_of_its_lock(
        self, tmp_path: Path, role: str
    ) -> None:
        """``stored_key`` is the same for each grant of a lock and differs between locks."""
        async with self.open_locks(tmp_path, role) as locks:
            first, other = await granted(locks, "key"), await granted(locks, "other")
            await first.release()
            again = await granted(locks, "key")
            assert isinstance(first.stored_key, str)
            assert first.stored_key == again.stored_key, "one lock has two stored keys"
            assert first.stored_key != other.stored_key, "two locks have one stored key"

    async def test_lock_and_lease_have_different_stored_keys(self, tmp_path: Path) -> None:
        """The stored key of a lock never equals that of a lease."""
        async with self.open_adapter(tmp_path) as adapter:
            lock = await granted(locks_of(adapter, "lock"), "key")
            lease = await granted(locks_of(adapter, "lease"), "key")
            assert lock.stored_key != lease.stored_key, "a lock and a lease have one stored key"

    async def test_lock_leases_of_one_store_have_one_store_id(self, tmp_path: Path) -> None:
        """Every lease has the ``store_id`` of its store, which is not empty."""
        async with self.open_locks(tmp_path, "lease") as leases:
            first, second = await granted(leases, "one"), await granted(leases, "two")
            assert isinstance(first.store_id, str)
            assert first.store_id, "a lease has no store_id"
            assert first.store_id == second.store_id, "two leases of one store name two stores"

    async def test_lock_a_lease_of_another_store_has_another_store_id(self, tmp_path: Path) -> None:
        """``store_id`` distinguishes a store from every other one."""
        other_path = tmp_path / "other"
        other_path.mkdir()
        async with self.open_adapter(tmp_path) as adapter, self.open_adapter(other_path) as other:
            one, two = (
                await granted(locks_of(adapter), "key"),
                await granted(locks_of(other), "key"),
            )
            assert one.store_id != two.store_id, "two stores have the same store_id"

    # --- release -----------------------------------------------------------------------------

    async def test_lock_release_frees_the_lock(self, tmp_path: Path, role: str) -> None:
        """A released lock is free at once."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            assert await locks.holder("key") is None, "a released lock still has a holder"
            assert not await handle.is_valid(), "a released handle is still valid"
            assert await locks.acquire("key", "30s") is not None, "a released lock was not granted"

    async def test_lock_release_is_idempotent(self, tmp_path: Path, role: str) -> None:
        """The second release does nothing."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            await handle.release()
            assert await locks.holder("key") is None

    async def test_lock_release_never_frees_a_later_grant(self, tmp_path: Path, role: str) -> None:
        """A handle whose lease was taken over releases nothing, not even a grant of its owner."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            old = await granted(locks, "key", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            new = await granted(locks, "key", "30s", owner="me")
            await old.release()
            assert await new.is_valid(), "releasing an old handle freed a later grant"

    async def test_lock_a_second_release_never_frees_a_later_grant(
        self, tmp_path: Path, role: str
    ) -> None:
        """A second release does not end a grant that was made in between."""
        async with self.open_locks(tmp_path, role) as locks:
            old = await granted(locks, "key", owner="me")
            await old.release()
            new = await granted(locks, "key", owner="me")
            await old.release()
            assert await new.is_valid(), "a second release freed a later grant"
            assert not await old.is_valid(), "an old handle is valid for a later grant"

    async def test_lock_force_release_frees_the_lock(self, tmp_path: Path, role: str) -> None:
        """A forced release ends the grant, and the handle reports the loss."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await locks.force_release("key")
            assert await locks.holder("key") is None, "force_release() left a holder"
            assert not await handle.is_valid(), "the handle is still valid"
            assert handle.lost, "is_valid() is False, but lost is False"
            assert not await handle.extend("30s"), "the handle can still be extended"
            assert await locks.acquire("key", "30s") is not None, "the lock was not granted"

    async def test_lock_force_release_of_a_free_lock_does_nothing(
        self, tmp_path: Path, role: str
    ) -> None:
        """Force-releasing a free lock is not an error."""
        async with self.open_locks(tmp_path, role) as locks:
            await locks.force_release("key")
            assert await locks.acquire("key", "30s") is not None

    async def test_lock_force_release_does_not_affect_other_locks(
        self, tmp_path: Path, role: str
    ) -> None:
        """force_release() treats its key as a name, not as a pattern or a prefix."""
        async with self.open_locks(tmp_path, role) as locks:
            others = [await granted(locks, key) for key in ("key2", "axb", "KEY")]
            for key in ("key", "a_b", "a%", "*", "a*"):
                await locks.force_release(key)
            for handle in others:
                assert await handle.is_valid(), f"{handle.key!r} was released with another key"

    async def test_lock_force_release_and_holder_reject_invalid_keys(
        self, tmp_path: Path, role: str
    ) -> None:
        """Every method checks its key."""
        async with self.open_locks(tmp_path, role) as locks:
            await rejects("force_release(key)", locks.force_release, BAD_KEYS)
            await rejects("holder(key)", locks.holder, BAD_KEYS)

    # --- cancellation ------------------------------------------------------------------------

    async def test_lock_a_cancelled_acquire_leaves_the_lock_free(
        self, tmp_path: Path, role: str
    ) -> None:
        """Wherever acquire() is cancelled, the lock is free once the cancellation is raised."""
        async with self.open_locks(tmp_path, role) as locks:
            for count in range(12):
                task = asyncio.create_task(locks.acquire("key", "30s"))
                await run_ticks(count)
                task.cancel()
                handle = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(handle, BaseException):
                    holder = await locks.holder("key")
                    assert holder is None, f"cancelled after {count} ticks, it kept the lock"
                else:  # it finished before the cancellation arrived
                    assert handle is not None, "a free lock was not granted"
                    await handle.release()

    async def test_lock_a_cancelled_release_still_releases(self, tmp_path: Path, role: str) -> None:
        """A release that has started runs to the end when it is cancelled."""
        async with self.open_locks(tmp_path, role) as locks:
            for count in range(1, 8):
                handle = await granted(locks, "key")
                task = asyncio.create_task(handle.release())
                await run_ticks(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                holder = await locks.holder("key")
                assert holder is None, f"cancelled after {count} ticks, it kept the lock"

    # --- holder ------------------------------------------------------------------------------

    async def test_lock_holder_is_none_for_a_free_lock(self, tmp_path: Path, role: str) -> None:
        """A lock that was never acquired has no holder."""
        async with self.open_locks(tmp_path, role) as locks:
            assert await locks.holder("key") is None

    async def test_lock_holder_describes_the_grant(self, tmp_path: Path, role: str) -> None:
        """The record has the owner, host, pid, token and remaining time of the grant."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "30s", owner="me")
            holder = await held(locks, "key")
            assert holder.owner == "me"
            assert holder.host, "the holder's host is empty"
            assert holder.pid == os.getpid(), "the holder's pid is not the pid of this process"
            assert 20_000 < holder.expires_in_ms <= 30_000
            assert holder.fencing_token == handle.fencing_token

    async def test_lock_since_is_when_the_lock_was_granted(self, tmp_path: Path, role: str) -> None:
        """``since`` is epoch milliseconds of the grant, and an extension does not move it."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "early")
            since = (await held(locks, "early")).since
            await self.advance(adapter, "500ms")
            await handle.extend("30s")
            await granted(locks, "late")
            later = (await held(locks, "late")).since
            assert since > 1_500_000_000_000, "since is not epoch milliseconds"
            assert 400 <= later - since < 60_000, "since does not count milliseconds"
            assert (await held(locks, "early")).since == since, "extend() moved `since`"
