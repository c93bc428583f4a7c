"""The contract of `goscope.LockProvider`: expiry, extension and fencing tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ...maintenance import SupportsRevoke
from ...providers import LockHandle, SupportsRenew
from ._base import locks_of
from ._checks import rejects
from ._locks import LockTests, granted, held, strictly_grows, token_of
from ._samples import BAD_DURATIONS, BAD_KEYS


class LockLeaseConformance(LockTests, abstract=True):
    """A lock expires unless it is extended, and each later grant has a greater token."""

    # --- time --------------------------------------------------------------------------------

    @pytest.mark.parametrize("ttl", ["1m", 60_000, 60_000.0, timedelta(minutes=1), "0.5m30s"])
    async def test_lock_ttl_units(
        self, tmp_path: Path, role: str, ttl: timedelta | str | float
    ) -> None:
        """A ttl is a timedelta, a string with a unit, or a number of milliseconds."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", ttl)
            left = (await held(locks, "key")).expires_in_ms
            assert 50_000 < left <= 60_000, f"ttl={ttl!r} is 60000 ms, but {left} ms are left"

    async def test_lock_the_default_ttl_is_30_seconds(self, tmp_path: Path, role: str) -> None:
        """Without a ttl the lease runs for ``default_lock_ttl``, which is 30 s."""
        async with self.open_locks(tmp_path, role) as locks:
            assert await locks.acquire("key") is not None
            left = (await held(locks, "key")).expires_in_ms
            assert 20_000 < left <= 30_000, f"30000 ms are the default, but {left} ms are left"

    async def test_lock_an_expired_lock_is_free(self, tmp_path: Path, role: str) -> None:
        """An expired lock is granted to the next caller."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            await granted(locks, "key", "500ms")
            await self.advance(adapter, "600ms")
            assert await locks.holder("key") is None, "an expired lease still has a holder"
            assert await locks.acquire("key", "30s") is not None, "an expired lease was not free"

    async def test_lock_a_ttl_under_a_second_is_honoured(self, tmp_path: Path, role: str) -> None:
        """A lease of half a second is current right after the grant."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "500ms")
            assert await handle.is_valid(), "a ttl under a second was rounded to zero"
            assert await locks.acquire("key", "30s") is None, "the lock was granted twice"

    async def test_lock_the_handle_of_an_expired_lease_is_lost(
        self, tmp_path: Path, role: str
    ) -> None:
        """The handle reports its expiry without asking the store."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter, role), "key", "500ms")
            await self.advance(adapter, "600ms")
            assert handle.lost, "the lease expired, but lost is False"
            assert not await handle.is_valid(), "the lease expired, but is_valid() is True"

    # --- extend ------------------------------------------------------------------------------

    async def test_lock_extend_counts_from_now(self, tmp_path: Path, role: str) -> None:
        """An extension replaces the remaining time; it does not add to it."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "30s")
            assert await handle.extend("60s"), "a current lease was not extended"
            assert 50_000 < (await held(locks, "key")).expires_in_ms <= 60_000
            assert await handle.extend("10s"), "a current lease was not shortened"
            assert (await held(locks, "key")).expires_in_ms <= 10_000

    async def test_lock_an_extended_lease_outlives_its_first_ttl(
        self, tmp_path: Path, role: str
    ) -> None:
        """A lease that is extended in time does not expire at its first ttl."""
        async with self.open_adapter(tmp_path) as adapter:
            handle = await granted(locks_of(adapter, role), "key", "1s")
            await self.advance(adapter, "500ms")
            assert await handle.extend("30s")
            await self.advance(adapter, "700ms")
            assert await handle.is_valid(), "the extension did not move the expiry"
            assert not handle.lost, "the handle ignored its extension"

    async def test_lock_extend_is_false_once_expired(self, tmp_path: Path, role: str) -> None:
        """An expired lease cannot be extended, even if it is free."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            assert not await handle.extend("30s"), "handle.extend() revived an expired lease"
            assert not await locks.extend("key", "30s", "me"), "extend() revived an expired lease"
            assert await locks.holder("key") is None, "the expired lease is current again"

    async def test_lock_revoke_ends_one_grant_alone(self, tmp_path: Path, role: str) -> None:
        """``revoke`` ends the grant with its token; earlier and later tokens end nothing."""
        async with self.open_locks(tmp_path, role) as locks:
            if not isinstance(locks, SupportsRevoke):
                return
            await (await granted(locks, "key")).release()
            handle = await granted(locks, "key")
            token = token_of(handle)
            for other in (token - 1, token + 1):
                assert not await locks.revoke("key", other), "revoked without a grant"
            assert await handle.is_valid(), "revoke() ended another grant"
            assert await locks.revoke("key", token) is not False, "the grant was current"
            assert not await handle.is_valid(), "the grant is current after revoke()"
            assert not await locks.revoke("key", token), "revoked a second time"
            assert await locks.acquire("key") is not None, "the lock is not free after revoke()"

    async def test_lock_extend_is_false_after_release(self, tmp_path: Path, role: str) -> None:
        """A released handle cannot be extended."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            assert not await handle.extend("30s"), "a released lease was extended"
            assert await locks.holder("key") is None, "extend() acquired the lock"

    async def test_lock_a_taken_over_handle_extends_nothing(
        self, tmp_path: Path, role: str
    ) -> None:
        """An old handle cannot extend a later grant, not even one of its owner."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            old = await granted(locks, "key", "500ms", owner="me")
            await self.advance(adapter, "600ms")
            await granted(locks, "key", "30s", owner="me")
            assert not await old.extend("1h"), "a handle extended a later grant"
            left = (await held(locks, "key")).expires_in_ms
            assert left <= 30_000, "extend() of an old handle moved a later grant's expiry"

    # --- renew, where handles have it -------------------------------------------------------

    async def test_lock_renew_counts_from_now(self, tmp_path: Path, role: str) -> None:
        """A renewal of a current lease works as an extension."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", "30s")
            assert await renewed(handle, "60s") is not False, "a current lease was not renewed"
            assert await renewed(handle, "10s") is not False, "a current lease was not renewed"
            left = (await held(locks, "key")).expires_in_ms
            assert left <= 10_000 or await renewed(handle, "10s") is None

    async def test_lock_renew_holds_what_it_says(self, tmp_path: Path, role: str) -> None:
        """An expired lease that was renewed is held again; one that was not is free."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key", "500ms")
            await self.advance(adapter, "600ms")
            revived = await renewed(handle, "30s")
            taken = await locks.acquire("key", "30s")
            assert (taken is None) is bool(revived), "a renewed lease was granted to another owner"
            assert await handle.is_valid() is bool(revived)

    async def test_lock_renew_never_takes_from_a_later_grant(
        self, tmp_path: Path, role: str
    ) -> None:
        """A lease that another owner was granted in the meantime is lost."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            old = await granted(locks, "key", "500ms")
            await self.advance(adapter, "600ms")
            current = await granted(locks, "key", "30s")
            assert not await renewed(old, "1h"), "renew() took the lock from its holder"
            assert old.lost, "the lease was granted again, but lost is False"
            assert await current.is_valid(), "renew() of an old handle ended a later grant"

    async def test_lock_renew_is_false_after_release(self, tmp_path: Path, role: str) -> None:
        """A released handle cannot be renewed."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key")
            await handle.release()
            assert not await renewed(handle, "30s"), "a released lease was renewed"
            assert await locks.holder("key") is None, "renew() acquired the lock"

    async def test_lock_release_reports_whether_the_grant_was_current(
        self, tmp_path: Path, role: str
    ) -> None:
        """True for a current grant, False for one that another owner replaced; or None."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key")
            assert await handle.release() is not False, "a current grant was reported as lost"
            old = await granted(locks, "key", "500ms")
            await self.advance(adapter, "600ms")
            await granted(locks, "key", "30s")
            assert not await old.release(), "a replaced grant was reported as current"

    async def test_lock_extend_by_owner(self, tmp_path: Path, role: str) -> None:
        """The provider extends the lease of the given owner."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="me")
            assert await locks.extend("key", "60s", "me"), "the owner's lease was not extended"
            left = (await held(locks, "key")).expires_in_ms
            assert 50_000 < left <= 60_000, f"extended to 60000 ms, but {left} ms are left"

    async def test_lock_a_handle_follows_its_extension_by_owner(
        self, tmp_path: Path, role: str
    ) -> None:
        """is_valid() makes the handle see an extension by the provider."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = locks_of(adapter, role)
            handle = await granted(locks, "key", "500ms", owner="me")
            assert await locks.extend("key", "30s", "me")
            await self.advance(adapter, "600ms")
            assert await handle.is_valid(), "the extension did not move the expiry"
            assert not handle.lost, "is_valid() is True, but lost is True"

    async def test_lock_extend_by_another_owner_is_false(self, tmp_path: Path, role: str) -> None:
        """Another owner cannot extend the lease."""
        async with self.open_locks(tmp_path, role) as locks:
            await granted(locks, "key", "30s", owner="me")
            assert not await locks.extend("key", "60s", "you"), "another owner extended the lease"
            assert (await held(locks, "key")).expires_in_ms <= 30_000

    async def test_lock_extend_of_a_free_lock_is_false(self, tmp_path: Path, role: str) -> None:
        """extend() does not acquire a lock."""
        async with self.open_locks(tmp_path, role) as locks:
            assert not await locks.extend("key", "30s", "me"), "a free lock was extended"
            assert await locks.holder("key") is None, "extend() acquired a free lock"

    async def test_lock_extend_rejects_invalid_arguments(self, tmp_path: Path, role: str) -> None:
        """extend() checks its key and its ttl."""
        async with self.open_locks(tmp_path, role) as locks:
            handle = await granted(locks, "key", owner="me")
            await rejects("extend(key)", lambda key: locks.extend(key, "1s", "me"), BAD_KEYS)
            await rejects("extend(ttl)", lambda it: locks.extend("key", it, "me"), BAD_DURATIONS)
            await rejects("handle.extend(ttl)", handle.extend, BAD_DURATIONS)
            assert (await held(locks, "key")).expires_in_ms > 20_000, "the expiry was moved"

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
            assert token_of(new) > token_of(old), "the token counter was removed with the lease"

    async def test_lock_tokens_grow_over_expiry(self, tmp_path: Path) -> None:
        """The grant after an expiry has a greater token."""
        async with self.open_adapter(tmp_path) as adapter:
            leases = locks_of(adapter)
            old = await granted(leases, "key", "500ms")
            await self.advance(adapter, "600ms")
            new = await granted(leases, "key")
            assert token_of(new) > token_of(old), "the token of an expired lease was reused"

    async def test_lock_tokens_grow_across_keys(self, tmp_path: Path) -> None:
        """All keys share one counter, so a release may delete the record of its lease."""
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


async def renewed(handle: LockHandle, ttl: str) -> bool | None:
    """Renew the lease; None if handles of this store have no ``renew``."""
    return await handle.renew(ttl) if isinstance(handle, SupportsRenew) else None
