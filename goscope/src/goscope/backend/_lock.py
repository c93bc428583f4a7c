"""Base class of lock providers that keep their leases in the store."""

# pyright: reportPrivateUsage=false
# A handle calls the primitives of its provider, which are for backends to fill in, not for users.

from __future__ import annotations

import asyncio
import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Final, Literal

from ..errors import LeaseLost
from ..providers import LockHolder, Milliseconds
from ._cancellation import settle
from ._context import Fence, StoreContext
from ._duration import milliseconds
from ._key import MAX_KEY_LENGTH, MAX_LEASE_KEY_LENGTH, check_key

LockNamespace = Literal["lock", "lease"]


_serial = itertools.count(1)
_process = ""


def _name_process() -> None:
    """Name this process once: asking for its id costs as much as the rest of a lock in memory."""
    global _process  # a fork gives the child another one
    _process = f"{os.getpid()}-{os.urandom(4).hex()}"


_name_process()
if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_name_process)


def new_owner() -> str:
    """An owner name that nobody else has, and that says which process it comes from."""
    return f"{_process}-{next(_serial)}"


class StoredLockHandle:
    """One grant of a lock in the store. ``stored_key`` and ``store_id`` make it a fence."""

    __slots__ = (
        "_deadline",
        "_lost",
        "_provider",
        "_released",
        "fencing_token",
        "key",
        "owner",
        "store_id",
        "stored_key",
    )

    def __init__(
        self, provider: BaseLockProvider, key: str, owner: str, token: int, deadline: int
    ) -> None:
        self.key: Final = key
        self.owner: Final = owner
        self.fencing_token: Final = token
        self.stored_key: Final = provider.stored(key)
        # Of the store that made the grant: the provider may be connected to another one later.
        self.store_id: Final = provider.context.store_id
        self._provider = provider
        self._deadline = deadline
        self._lost = False
        self._released = False

    def __repr__(self) -> str:
        return f"<lock {self.key!r} token={self.fencing_token} owner={self.owner!r}>"

    @property
    def lost(self) -> bool:
        clock = self._provider.context.clock
        return self._lost or (not self._released and clock.steady_ms() >= self._deadline)

    async def release(self) -> None:
        """Give the lock back. Runs to its end when the caller is cancelled."""
        if not self._released:
            await settle(self._provider._release(self.stored_key, self.fencing_token))
            self._released = True

    async def extend(self, ttl: Milliseconds) -> bool:
        ttl_ms = milliseconds(ttl, "ttl")
        if self._released:
            return False
        asked = self._provider.context.clock.steady_ms()
        if await self._provider._extend(self.stored_key, self.fencing_token, ttl_ms):
            # Counted from before the request: the store's own clock reading came later.
            self._deadline = asked + ttl_ms
            return True
        self._lost = True
        return False

    async def is_valid(self) -> bool:
        if self._released:
            return False
        asked = self._provider.context.clock.steady_ms()
        holder = await self._provider._holder(self.stored_key)
        if (
            holder is None
            or holder.fencing_token != self.fencing_token
            or holder.expires_in_ms <= 0
        ):
            self._lost = True
            return False
        # The lease may have been extended under the owner's name.
        self._deadline = asked + holder.expires_in_ms
        return True


class BaseLockProvider(ABC):
    """Locks as leases in the store: fill in the five primitives.

    Each primitive is atomic, and takes the stored key, that is the prefix, ``lock:`` or
    ``lease:``, and the key. Expiry is measured on ``context.clock``'s steady time, or on the
    server's own clock.
    """

    def __init__(self, context: StoreContext, namespace: LockNamespace) -> None:
        self.context: Final = context
        self.namespace: Final = namespace

    def stored(self, key: str) -> str:
        """The key under which the store knows the lock. Raises as `check_key` does."""
        limit = MAX_LEASE_KEY_LENGTH if self.namespace == "lease" else MAX_KEY_LENGTH
        return f"{self.context.prefix}{self.namespace}:{check_key(key, limit=limit)}"

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        stored = self.stored(key)
        owner = new_owner() if owner is None else check_key(owner, "owner")
        context = self.context
        ttl_ms = context.default_lock_ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        asked = context.clock.steady_ms()
        granting = asyncio.ensure_future(self._grant(stored, owner, ttl_ms))
        try:
            token = await settle(granting)
        except asyncio.CancelledError:
            if not granting.cancelled() and granting.exception() is None:
                granted = granting.result()
                if granted is not None:
                    await settle(self._release(stored, granted))
            raise
        if token is None:
            return None
        return StoredLockHandle(self, key, owner, token, asked + ttl_ms)

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        stored = self.stored(key)
        ttl_ms = milliseconds(ttl, "ttl")
        holder = await self._holder(stored)
        if holder is None or holder.owner != owner or holder.fencing_token is None:
            return False
        # By token: whoever took the lock since the line above keeps it as it is.
        return await self._extend(stored, holder.fencing_token, ttl_ms)

    async def force_release(self, key: str) -> None:
        await settle(self._remove(self.stored(key)))

    async def holder(self, key: str) -> LockHolder | None:
        holder = await self._holder(self.stored(key))
        return None if holder is None or holder.expires_in_ms <= 0 else holder

    @abstractmethod
    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        """Take the lock if nobody holds it; the new token, greater than every earlier one.

        Whether it was granted must be known even when the awaiting task is cancelled: it is
        awaited to the end, and released if the caller was cancelled.
        """

    @abstractmethod
    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        """Let the grant run for ``ttl_ms`` from now; False when it expired or is not in force."""

    @abstractmethod
    def _release(self, key: str, token: int) -> Awaitable[None]:
        """End the grant with this token and no other."""

    @abstractmethod
    def _remove(self, key: str) -> Awaitable[None]:
        """End whatever grant there is."""

    @abstractmethod
    def _holder(self, key: str) -> Awaitable[LockHolder | None]:
        """The grant as stored, also when it has expired."""


def refused(fence: Fence) -> LeaseLost:
    """The error for a write whose fence is no longer in force."""
    return LeaseLost(
        fence.key, f"its token {fence.token} is no longer in force, and the write was not applied"
    )
