"""The contract of `goscope.LockProvider`, for ``adapter.lock`` and ``adapter.lease`` alike."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ...providers import LockHandle, LockHolder, LockProvider
from ._base import Conformance, locks_of
from ._tables import BAD_DURATIONS, BAD_KEYS, ODD_KEYS, refuses, turns


class LockConformance(Conformance, abstract=True):
    """Leases that end when released or when their time is up, and are never granted twice."""

    @pytest.fixture(params=["lock", "lease"])
    def role(self, request: pytest.FixtureRequest) -> str:
        """Which of the adapter's two lock providers is tested."""
        role: str = request.param
        return role

    @asynccontextmanager
    async def open_locks(self, tmp_path: Path, role: str) -> AsyncGenerator[LockProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield locks_of(adapter, role)

    # --- acquire -----------------------------------------------------------------------------

    async def test_lock_acquire_grants_a_free_lock(self, tmp_path: Path, role: str) -> None:
        """A free lock is granted to whoever asks."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await locks.acquire("key", "30s")
            assert handle is not None, "a lock nobody holds was not granted"
            assert isinstance(handle, LockHandle), "the handle lacks members of LockHandle"
            assert handle.key == "key", "the handle must show the key as it was given"
            assert await handle.is_valid(), "a handle must be valid right after the grant"
            assert not handle.lost, "a handle must not be lost right after the grant"

    async def test_lock_acquire_is_none_while_another_holds_it(
        self, tmp_path: Path, role: str
    ) -> None:
        """A held lock is refused to another owner."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", owner="first")
            second = await locks.acquire("key", "30s", owner="second")
            assert second is None, "the lock was granted twice"

    async def test_lock_acquire_is_none_for_the_same_owner(self, tmp_path: Path, role: str) -> None:
        """A held lock is refused to its own owner too: locks are not reentrant."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", owner="me")
            again = await locks.acquire("key", "30s", owner="me")
            assert again is None, "an owner got its own lock a second time"

    async def test_lock_acquire_never_waits(self, tmp_path: Path, role: str) -> None:
        """Acquire answers at once while the lock is held."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key")
            async with asyncio.timeout(5):  # of real time; the lease runs for 30 s
                assert await locks.acquire("key", "30s") is None, "the lock was granted twice"

    async def test_lock_a_refused_acquire_changes_nothing(self, tmp_path: Path, role: str) -> None:
        """Who holds a lock, and for how long, is not touched by others who ask for it."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="first")
            await locks.acquire("key", "1h", owner="second")
            holder = await held(locks, "key")
            assert holder.owner == "first", "a refused acquire replaced the owner"
            assert holder.expires_in_ms <= 30_000, "a refused acquire moved the expiry"

    async def test_lock_one_of_many_concurrent_callers_gets_the_lock(
        self, tmp_path: Path, role: str
    ) -> None:
        """Concurrent acquires of one lock grant it exactly once."""
        async with self.open_locks(tmp_path, role) as locks:
            grants = await asyncio.gather(*(locks.acquire("key", "30s") for _ in range(20)))
            count = sum(grant is not None for grant in grants)
            assert count == 1, f"20 concurrent callers got {count} grants of one lock"

    async def test_lock_different_keys_are_different_locks(self, tmp_path: Path, role: str) -> None:
        """Keys that differ in anything, case and spaces included, never exclude one another."""
        async with self.open_locks(tmp_path, role) as locks:
            for key in ODD_KEYS:
                handle = await locks.acquire(key, "30s")
                assert handle is not None, f"key {key[:40]!r} was taken for another one"

    async def test_lock_an_owner_name_is_kept(self, tmp_path: Path, role: str) -> None:
        """The handle shows the owner it was acquired for."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", owner="nightly import")
            assert handle.owner == "nightly import"

    async def test_lock_owners_without_a_name_differ(self, tmp_path: Path, role: str) -> None:
        """Without an owner each grant gets a name of its own."""
        async with self.open_locks(tmp_path, role) as locks:
            first, second = await granted(locks, "one"), await granted(locks, "two")
            assert first.owner, "the default owner's name is empty"
            assert first.owner != second.owner, "two grants were given the same owner's name"

    async def test_lock_acquire_refuses_bad_keys(self, tmp_path: Path, role: str) -> None:
        """A key that is none is a ValueError or TypeError."""
        async with self.open_locks(tmp_path, role) as locks:
            await refuses("acquire(key)", locks.acquire, BAD_KEYS)

    async def test_lock_acquire_refuses_bad_owners(self, tmp_path: Path, role: str) -> None:
        """An owner must be what a key must be; only None means any."""
        async with self.open_locks(tmp_path, role) as locks:
            bad = [entry for entry in BAD_KEYS if entry.value is not None]
            await refuses("acquire(owner=)", lambda it: locks.acquire("key", "1s", it), bad)
            assert await locks.holder("key") is None, "a refused acquire left a grant behind"

    async def test_lock_acquire_refuses_bad_ttls(self, tmp_path: Path, role: str) -> None:
        """A ttl that is no duration is refused and nothing is granted."""
        async with self.open_locks(tmp_path, role) as locks:
            await refuses("acquire(ttl=)", lambda ttl: locks.acquire("key", ttl), BAD_DURATIONS)
            assert await locks.holder("key") is None, "a refused acquire left a grant behind"

    async def test_lock_keys_of_512_characters_are_allowed(self, tmp_path: Path, role: str) -> None:
        """The longest key works, counted in characters."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "é" * 512)

    async def test_lock_a_lease_can_be_named_after_the_longest_key(self, tmp_path: Path) -> None:
        """A feature's lease is its kind, a colon and a key, which may have 512 characters."""
        async with self.open_locks(tmp_path, "lease") as leases:
            await granted(leases, "idempotency:" + "k" * 512)

    async def test_lock_lock_and_lease_are_two_namespaces(self, tmp_path: Path) -> None:
        """A lock never excludes a lease of the same key."""
        async with self.open_adapter(tmp_path) as adapter:
            locks, leases = locks_of(adapter, "lock"), locks_of(adapter, "lease")
            await granted(locks, "key")
            lease = await leases.acquire("key", "30s")
            assert lease is not None, "adapter.lock and adapter.lease share their keys"
            await leases.force_release("key")
            assert await locks.holder("key"), "releasing a lease released the lock of that name"

    # --- time --------------------------------------------------------------------------------

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_lock_ttl_units(
        self, tmp_path: Path, role: str, ttl: timedelta | str | float
    ) -> None:
        """A ttl is a timedelta, a string with units, or a number of milliseconds."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", ttl)
            left = (await held(locks, "key")).expires_in_ms
            assert 50_000 < left <= 60_000, f"ttl={ttl!r} is 60000 ms, but {left} ms are left"

    async def test_lock_the_default_ttl_is_30_seconds(self, tmp_path: Path, role: str) -> None:
        """Without a ttl the lease runs for the adapter's default_lock_ttl."""
        async with self.open_locks(tmp_path, role) as locks:
            assert await locks.acquire("key") is not None
            left = (await held(locks, "key")).expires_in_ms
            assert 20_000 < left <= 30_000, f"30000 ms are the default, but {left} ms are left"

    async def test_lock_an_expired_lock_is_free(self, tmp_path: Path, role: str) -> None:
        """A lease that ran out is granted to the next caller."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            await granted(locks, "key", "500ms")
            await self.advance(adapter, "600ms")
            assert await locks.holder("key") is None, "an expired lease still has a holder"
            assert await locks.acquire("key", "30s") is not None, "an expired lease still excludes"

    async def test_lock_a_ttl_under_a_second_is_honoured(self, tmp_path: Path, role: str) -> None:
        """A lease of half a second is in force at first."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "500ms")
            assert await handle.is_valid(), "a ttl under a second was rounded to zero"
            assert await locks.acquire("key", "30s") is None, "the lock was granted twice"

    async def test_lock_the_handle_of_an_expired_lease_is_lost(
        self, tmp_path: Path, role: str
    ) -> None:
        """A handle tells without asking the store that its time ran out."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter, role), "key", "500ms")
            await self.advance(adapter, "600ms")
            assert handle.lost, "the lease ran out, but the handle's `lost` is False"
            assert not await handle.is_valid(), "the lease ran out, but is_valid() is True"

    # --- extend ------------------------------------------------------------------------------

    async def test_lock_extend_counts_from_now(self, tmp_path: Path, role: str) -> None:
        """An extension replaces the time that was left; it does not add to it."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "30s")
            assert await handle.extend("60s"), "a lease in force was not extended"
            assert 50_000 < (await held(locks, "key")).expires_in_ms <= 60_000
            assert await handle.extend("10s"), "a lease in force was not shortened"
            assert (await held(locks, "key")).expires_in_ms <= 10_000

    async def test_lock_an_extended_lease_outlives_its_first_ttl(
        self, tmp_path: Path, role: str
    ) -> None:
        """A lease that is extended in time is not lost when its first ttl is over."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter, role), "key", "1s")
            await self.advance(adapter, "500ms")
            assert await handle.extend("30s")
            await self.advance(adapter, "700ms")
            assert await handle.is_valid(), "the extension did not move the expiry"
            assert not handle.lost, "the handle forgot its extension"

    async def test_lock_extend_is_false_once_expired(self, tmp_path: Path, role: str) -> None:
        """An expired lease is not revived, even if nobody took it."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            assert not await handle.extend("30s"), "handle.extend() revived an expired lease"
            assert not await locks.extend("key", "30s", "me"), "extend() revived an expired lease"
            assert await locks.holder("key") is None, "the expired lease is in force again"

    async def test_lock_extend_is_false_after_release(self, tmp_path: Path, role: str) -> None:
        """A released handle cannot be extended."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            assert not await handle.extend("30s"), "a released lease was extended"
            assert await locks.holder("key") is None, "extend() took the lock again"

    async def test_lock_a_taken_over_handle_extends_nothing(
        self, tmp_path: Path, role: str
    ) -> None:
        """An old handle cannot extend the grant that followed it, not even of the same owner."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            old = await granted(locks, "key", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            await granted(locks, "key", "30s", owner="me")
            assert not await old.extend("1h"), "a handle extended a later grant"
            left = (await held(locks, "key")).expires_in_ms
            assert left <= 30_000, "extend() of an old handle moved a later grant's expiry"

    async def test_lock_extend_by_owner(self, tmp_path: Path, role: str) -> None:
        """The provider extends the lease of the owner it is told."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="me")
            assert await locks.extend("key", "60s", "me"), "the owner's lease was not extended"
            left = (await held(locks, "key")).expires_in_ms
            assert 50_000 < left <= 60_000, f"60000 ms from now were asked for, {left} ms are left"

    async def test_lock_a_handle_follows_its_extension_by_owner(
        self, tmp_path: Path, role: str
    ) -> None:
        """A handle that asks the store learns that its lease was extended elsewhere."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key", "500ms", owner="me")
            assert await locks.extend("key", "30s", "me")
            await self.advance(adapter, "600ms")
            assert await handle.is_valid(), "the extension did not move the expiry"
            assert not handle.lost, "is_valid() is True, and yet the handle is lost"

    async def test_lock_extend_by_another_owner_is_false(self, tmp_path: Path, role: str) -> None:
        """Nobody extends the lease of somebody else."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="me")
            assert not await locks.extend("key", "60s", "you"), "another owner extended the lease"
            assert (await held(locks, "key")).expires_in_ms <= 30_000

    async def test_lock_extend_of_a_free_lock_is_false(self, tmp_path: Path, role: str) -> None:
        """Extending does not acquire."""
        async with self.open_locks(tmp_path, role) as locks:
            assert not await locks.extend("key", "30s", "me"), "a free lock was extended"
            assert await locks.holder("key") is None, "extend() took a free lock"

    async def test_lock_extend_refuses_bad_arguments(self, tmp_path: Path, role: str) -> None:
        """Extend checks its key and its ttl."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", owner="me")
            await refuses("extend(key)", lambda key: locks.extend(key, "1s", "me"), BAD_KEYS)
            await refuses("extend(ttl)", lambda it: locks.extend("key", it, "me"), BAD_DURATIONS)
            await refuses("handle.extend(ttl)", handle.extend, BAD_DURATIONS)
            assert (await held(locks, "key")).expires_in_ms > 20_000, "the expiry was moved"

    # --- release -----------------------------------------------------------------------------

    async def test_lock_release_frees_the_lock(self, tmp_path: Path, role: str) -> None:
        """A released lock is granted to the next caller at once."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            assert await locks.holder("key") is None, "a released lock still has a holder"
            assert not await handle.is_valid(), "a released handle still says it is valid"
            assert await locks.acquire("key", "30s") is not None, "a released lock still excludes"

    async def test_lock_release_is_idempotent(self, tmp_path: Path, role: str) -> None:
        """Releasing twice does nothing the second time."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            await handle.release()
            assert await locks.holder("key") is None

    async def test_lock_release_never_frees_a_later_grant(self, tmp_path: Path, role: str) -> None:
        """A handle whose lease was taken over releases nothing, not even of the same owner."""
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
        """Releasing again leaves the grant alone that was made in between."""
        async with self.open_locks(tmp_path, role) as locks:
            old = await granted(locks, "key", owner="me")
            await old.release()
            new = await granted(locks, "key", owner="me")
            await old.release()
            assert await new.is_valid(), "a second release freed a later grant"
            assert not await old.is_valid(), "an old handle took a later grant for its own"

    async def test_lock_force_release_frees_the_lock(self, tmp_path: Path, role: str) -> None:
        """A forced release takes the lock away from its holder, who can find out."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await locks.force_release("key")
            assert await locks.holder("key") is None, "force_release() left a holder"
            assert not await handle.is_valid(), "the handle is still valid"
            assert handle.lost, "is_valid() was False, and yet the handle is not lost"
            assert not await handle.extend("30s"), "the handle can still be extended"
            assert await locks.acquire("key", "30s") is not None, "the lock still excludes"

    async def test_lock_force_release_of_a_free_lock_does_nothing(
        self, tmp_path: Path, role: str
    ) -> None:
        """Forcing a lock that nobody holds is no error."""
        async with self.open_locks(tmp_path, role) as locks:
            await locks.force_release("key")
            assert await locks.acquire("key", "30s") is not None

    async def test_lock_force_release_leaves_other_locks_alone(
        self, tmp_path: Path, role: str
    ) -> None:
        """A forced release takes its key for a name, not for a pattern or a prefix."""
        async with self.open_locks(tmp_path, role) as locks:
            others = [await granted(locks, key) for key in ("key2", "axb", "KEY")]
            for key in ("key", "a_b", "a%", "*", "a*"):
                await locks.force_release(key)
            for handle in others:
                assert await handle.is_valid(), f"{handle.key!r} was released with another key"

    async def test_lock_force_release_and_holder_refuse_bad_keys(
        self, tmp_path: Path, role: str
    ) -> None:
        """Every method checks its key."""
        async with self.open_locks(tmp_path, role) as locks:
            await refuses("force_release(key)", locks.force_release, BAD_KEYS)
            await refuses("holder(key)", locks.holder, BAD_KEYS)

    # --- cancellation ------------------------------------------------------------------------

    async def test_lock_a_cancelled_acquire_leaves_nothing_behind(
        self, tmp_path: Path, role: str
    ) -> None:
        """Wherever an acquire is cancelled, the lock is free when the cancellation arrives."""
        async with self.open_locks(tmp_path, role) as locks:
            for count in range(12):
                task = asyncio.create_task(locks.acquire("key", "30s"))
                await turns(count)
                task.cancel()
                handle = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(handle, BaseException):
                    holder = await locks.holder("key")
                    assert holder is None, f"cancelled after {count} turns, it kept the lock"
                else:  # it was done before the cancellation arrived
                    assert handle is not None, "a free lock was not granted"
                    await handle.release()

    async def test_lock_a_cancelled_release_happens(self, tmp_path: Path, role: str) -> None:
        """A release that was begun is finished, cancelled or not."""
        async with self.open_locks(tmp_path, role) as locks:
            for count in range(1, 8):
                handle = await granted(locks, "key")
                task = asyncio.create_task(handle.release())
                await turns(count)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                holder = await locks.holder("key")
                assert holder is None, f"cancelled after {count} turns, it kept the lock"

    # --- who holds it ------------------------------------------------------------------------

    async def test_lock_holder_is_none_for_a_free_lock(self, tmp_path: Path, role: str) -> None:
        """Nobody holds a lock that was never taken."""
        async with self.open_locks(tmp_path, role) as locks:
            assert await locks.holder("key") is None

    async def test_lock_holder_tells_who_and_how_long(self, tmp_path: Path, role: str) -> None:
        """The holder's record names owner, host, process and the time that is left."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "30s", owner="me")
            holder = await held(locks, "key")
            assert holder.owner == "me"
            assert holder.host, "the holder's host is empty"
            assert holder.pid == os.getpid(), "the holder's pid is not that of this process"
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

    # --- fencing tokens ----------------------------------------------------------------------

    async def test_lock_leases_have_fencing_tokens(self, tmp_path: Path) -> None:
        """Every lease carries a positive integer token."""
        async with self.open_locks(tmp_path, "lease") as leases:
            token = (await granted(leases, "key")).fencing_token
            assert type(token) is int, f"a lease's fencing token is {token!r}"
            assert token > 0

    async def test_lock_tokens_grow_over_release(self, tmp_path: Path) -> None:
        """The grant after a release has a greater token."""
        async with self.open_locks(tmp_path, "lease") as leases:
            tokens: list[int] = []
            for _ in range(5):
                handle = await granted(leases, "key")
                tokens.append(token_of(handle))
                await handle.release()
            assert strictly_grows(tokens), f"tokens must grow with each grant: {tokens}"

    async def test_lock_tokens_grow_over_force_release(self, tmp_path: Path) -> None:
        """The grant after a forced release has a greater token."""
        async with self.open_locks(tmp_path, "lease") as leases:
            old = await granted(leases, "key")
            await leases.force_release("key")
            new = await granted(leases, "key")
            assert token_of(new) > token_of(old), "the token counter went with the lease"

    async def test_lock_tokens_grow_over_expiry(self, tmp_path: Path) -> None:
        """The grant after an expiry has a greater token."""
        async with self.open_adapter(tmp_path) as adapter:
            leases = locks_of(adapter)
            old = await granted(leases, "key", "500ms")
            await self.advance(adapter, "600ms")
            new = await granted(leases, "key")
            assert token_of(new) > token_of(old), "an expired lease's token was given again"

    async def test_lock_tokens_grow_across_keys(self, tmp_path: Path) -> None:
        """One counter serves all keys, so releasing a lease may delete all trace of it."""
        async with self.open_locks(tmp_path, "lease") as leases:
            tokens = [token_of(await granted(leases, f"key{n}")) for n in range(5)]
            assert strictly_grows(tokens), f"tokens must grow with each grant: {tokens}"

    async def test_lock_an_extension_keeps_the_token(self, tmp_path: Path) -> None:
        """A renewed lease is the same grant."""
        async with self.open_locks(tmp_path, "lease") as leases:
            handle = await granted(leases, "key")
            token = handle.fencing_token
            await handle.extend("60s")
            assert handle.fencing_token == token
            assert (await held(leases, "key")).fencing_token == token

    async def test_lock_it_answers_as_a_plain_model_does(self, tmp_path: Path, role: str) -> None:
        """Whatever the history of calls; hypothesis shows the shortest bad one."""
        from .machines.lock import MACHINES  # hypothesis takes long to import

        await MACHINES[role].compare(self, tmp_path)


async def granted(
    locks: LockProvider, key: str, ttl: timedelta | str | float = "30s", owner: str | None = None
) -> LockHandle:
    """Acquire a lock that must be free."""
    handle = await locks.acquire(key, ttl, owner)
    assert handle is not None, f"lock {key[:40]!r} is free, but was not granted"
    return handle


async def held(locks: LockProvider, key: str) -> LockHolder:
    """Return the holder of a lock that must be held."""
    holder = await locks.holder(key)
    assert holder is not None, f"lock {key!r} is held, but holder() is None"
    assert isinstance(holder, LockHolder), "holder() must return a goscope.LockHolder"
    return holder


def token_of(handle: LockHandle) -> int:
    assert handle.fencing_token is not None, "a lease has no fencing token"
    return handle.fencing_token


def strictly_grows(tokens: list[int]) -> bool:
    return all(one < two for one, two in itertools.pairwise(tokens))
