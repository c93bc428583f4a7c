"""Base class of lock providers that keep their leases in the store."""

# pyright: reportPrivateUsage=false
# A handle calls the primitives of its provider; the underscore hides them from users.

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

from .._tools.cancellation import finish_before_cancel
from .._tools.duration import milliseconds
from .._tools.key import MAX_KEY_LENGTH, MAX_LEASE_KEY_LENGTH, check_key
from .._tools.notifier import KeyedNotifier
from .._tools.polling import poll_interval_ms
from .._tools.process import unique_name
from ..errors import LeaseLost
from ..providers import LockHolder, Milliseconds
from ._context import Fence, StoreContext

LockNamespace: TypeAlias = Literal["lock", "lease"]
"""``lock`` holds the locks of users, ``lease`` those of goscope's features."""


class StoredLockHandle:
    """One grant of a lock in the store; its token fences writes to it."""

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
        # The provider may be connected to another store later, the grant stays with this one.
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

    async def release(self) -> bool | None:
        """Release the lock. Runs to the end when the caller is cancelled."""
        if self._released:
            return False
        try:
            ending = self._provider._release(self.stored_key, self.fencing_token)
            was_current = await finish_before_cancel(ending)
            self._released = True
            self._lost = self._lost or was_current is False
        finally:
            self._provider.notifier.notify(self.stored_key)
        return was_current

    async def extend(self, ttl: Milliseconds) -> bool:
        return await self._move_expiry(self._provider._extend, ttl)

    async def renew(self, ttl: Milliseconds) -> bool:
        if self.lost:
            # A read first: where reads do not suspend, a loss is known before any task runs.
            holder = await self._provider._holder(self.stored_key)
            if holder is None or holder.fencing_token != self.fencing_token:
                self._lost = True
                return False
        return await self._move_expiry(self._provider._renew, ttl)

    async def _move_expiry(
        self, request: Callable[[str, int, int], Awaitable[bool]], ttl: Milliseconds
    ) -> bool:
        ttl_ms = milliseconds(ttl, "ttl")
        if self._released:
            return False
        requested = self._provider.context.clock.steady_ms()
        if await request(self.stored_key, self.fencing_token, ttl_ms):
            # From before the request: the store reads its clock later.
            self._deadline = requested + ttl_ms
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
        # The lease may have been extended by the owner's name.
        self._deadline = asked + holder.expires_in_ms
        return True


class BaseLockProvider(ABC):
    """Locks as leases in the store: fill in the five primitives.

    ``notifier`` wakes the waiters of this process, by stored key; a backend notifies it when it
    ends a grant in any other way than through these methods.

    Each primitive is atomic. It takes the stored key, which is the prefix, ``lock:`` or
    ``lease:``, and the key. A store measures expiry on the steady time of ``context.clock``, or on
    the server's own clock.
    """

    def __init__(self, context: StoreContext, namespace: LockNamespace) -> None:
        self.context: Final = context
        self.namespace: Final = namespace
        self.notifier: Final = KeyedNotifier()
        context.on_close.append(self.notifier.notify_all)

    def stored(self, key: str) -> str:
        """The key under which the store keeps the lock. Raises ``ValueError`` if it is invalid."""
        limit = MAX_LEASE_KEY_LENGTH if self.namespace == "lease" else MAX_KEY_LENGTH
        return f"{self.context.prefix}{self.namespace}:{check_key(key, limit=limit)}"

    async def acquire(
        self, key: str, ttl: Milliseconds | None = None, owner: str | None = None
    ) -> StoredLockHandle | None:
        stored = self.stored(key)
        owner = unique_name() if owner is None else check_key(owner, "owner")
        context = self.context
        ttl_ms = context.default_lock_ttl_ms if ttl is None else milliseconds(ttl, "ttl")
        asked = context.clock.steady_ms()
        granting = asyncio.ensure_future(self._grant(stored, owner, ttl_ms))
        try:
            token = await finish_before_cancel(granting, may_withdraw=True)
        except asyncio.CancelledError:
            if not granting.cancelled() and granting.exception() is None:
                granted = granting.result()
                if granted is not None:
                    await finish_before_cancel(self._release(stored, granted))
            raise
        if token is None:
            return None
        return StoredLockHandle(self, key, owner, token, asked + ttl_ms)

    async def adopt(self, key: str, holder: LockHolder) -> StoredLockHandle | None:
        stored, owner = self.stored(key), check_key(holder.owner, "owner")
        milliseconds(holder.expires_in_ms, "expires_in_ms")
        asked = self.context.clock.steady_ms()
        token = await finish_before_cancel(self._adopt(stored, holder))
        if token is None:
            return None
        return StoredLockHandle(self, key, owner, token, asked + holder.expires_in_ms)

    async def extend(self, key: str, ttl: Milliseconds, owner: str) -> bool:
        stored = self.stored(key)
        ttl_ms = milliseconds(ttl, "ttl")
        holder = await self._holder(stored)
        if holder is None or holder.owner != owner or holder.fencing_token is None:
            return False
        # By token: a grant that was made since the line above is not extended.
        return await self._extend(stored, holder.fencing_token, ttl_ms)

    async def force_release(self, key: str) -> None:
        stored = self.stored(key)
        try:
            await finish_before_cancel(self._remove(stored))
        finally:
            self.notifier.notify(stored)

    async def revoke(self, key: str, fencing_token: int) -> bool | None:
        """End the grant with this token and no other; whether it was current, None if unknown."""
        stored = self.stored(key)
        try:
            return await finish_before_cancel(self._release(stored, fencing_token))
        finally:
            self.notifier.notify(stored)

    async def holder(self, key: str) -> LockHolder | None:
        holder = await self._holder(self.stored(key))
        return None if holder is None or holder.expires_in_ms <= 0 else holder

    async def wait_released(self, key: str, timeout: Milliseconds | None = None) -> bool:
        """Return True when the lock may be free, False after ``timeout``.

        A release through this provider is noticed at once, one elsewhere by polling, and the
        expiry of the lease at its time. A backend overrides this where it knows more.
        """
        stored, clock = self.stored(key), self.context.clock
        started = clock.steady_ms()
        deadline = None if timeout is None else started + milliseconds(timeout, "timeout")
        while True:
            holder = await self._holder(stored)
            if holder is None or holder.expires_in_ms <= 0:
                return True
            now = clock.steady_ms()
            pause_ms = min(poll_interval_ms(now - started), holder.expires_in_ms)
            if deadline is not None:
                if deadline <= now:
                    return False
                pause_ms = min(pause_ms, deadline - now)
            self.context.check()  # it may have been closed during the read
            if await self.notifier.wait(stored, pause_ms / 1000, clock):
                self.context.check()  # it may be the adapter that closes

    @abstractmethod
    def _grant(self, key: str, owner: str, ttl_ms: int) -> Awaitable[int | None]:
        """Grant the lock if it is free; the new token, greater than every earlier one.

        `acquire` awaits this to the end also when its caller is cancelled, and then releases the
        lock if it was granted.
        """

    @abstractmethod
    def _extend(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        """Let the grant run for ``ttl_ms`` from now; False when it expired or is not current."""

    def _adopt(self, key: str, holder: LockHolder) -> Awaitable[int | None]:
        """As `_grant`, for the holder of a lock in another store, whose process is not this one.

        The new token is greater than ``holder.fencing_token`` too, and so are all later ones, also
        if the lock is held. This body leaves that to the counter: override it, unless the counter
        is a time that every clock in reach is below.
        """
        return self._grant(key, holder.owner, holder.expires_in_ms)

    def _renew(self, key: str, token: int, ttl_ms: int) -> Awaitable[bool]:
        """As `_extend`, also when it has expired: a store that still knows it lets it run again."""
        return self._extend(key, token, ttl_ms)

    @abstractmethod
    def _release(self, key: str, token: int) -> Awaitable[bool | None]:
        """End the grant with this token and no other; whether it was current, None if unknown."""

    @abstractmethod
    def _remove(self, key: str) -> Awaitable[None]:
        """End the current grant, whatever its token."""

    @abstractmethod
    def _holder(self, key: str) -> Awaitable[LockHolder | None]:
        """The grant as stored, also when it has expired."""


def lease_lost(fence: Fence) -> LeaseLost:
    """The error for a write whose fence is not current any more."""
    return LeaseLost(
        fence.key, f"its token {fence.token} is no longer current, and the write was not applied"
    )
