"""Base class of idempotency providers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final, NamedTuple

from .._tools.codec import DecodeError, decode
from .._tools.duration import milliseconds
from .._tools.key import check_key
from ..errors import CorruptValue
from ..providers import IdempotencyRecord, LockHandle, Milliseconds
from ._context import Fence, StoreContext


class StoredResult(NamedTuple):
    """A result as a backend keeps it; ``expires_at`` in epoch milliseconds, None for never."""

    text: str
    expires_at: int | None
    fingerprint: str | None = None

    def is_live(self, now: int) -> bool:
        return self.expires_at is None or self.expires_at > now


class BaseIdempotencyProvider(ABC):
    """Results by key: fill in the three primitives, each of them atomic.

    The stored key is the prefix and the key. ``now`` is the wall time in epoch milliseconds.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context: Final = context

    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        row = await self._get(self._stored(key), self.context.clock.wall_ms())
        if row is None:
            return None
        try:
            value = decode(row.text, type)
        except DecodeError as exc:
            raise CorruptValue(key, str(exc)) from exc
        return IdempotencyRecord(
            value=value, expires_at=row.expires_at, fingerprint=row.fingerprint
        )

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        fingerprint: str | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        stored = self._stored(key)
        now = self.context.clock.wall_ms()
        expires_at = None if ttl is None else now + milliseconds(ttl, "ttl")
        row = StoredResult(self.context.encode(value), expires_at, fingerprint)
        checked = self.context.fence(fence)
        lease = f"{self.context.prefix}lease:{lease_key(key)}"
        ends_lease = checked is not None and checked.stored_key == lease
        await self._set(stored, row, now, checked, ends_lease)

    async def delete(self, key: str) -> bool:
        return await self._delete(self._stored(key), self.context.clock.wall_ms())

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _get(self, key: str, now: int) -> StoredResult | None:
        """The live result."""

    @abstractmethod
    async def _set(
        self, key: str, row: StoredResult, now: int, fence: Fence | None, ends_lease: bool
    ) -> None:
        """Store the result, and with ``ends_lease`` end the fence's lease in the same transaction.

        With a fence that is not current, raise ``lease_lost(fence)`` and change nothing.
        """

    @abstractmethod
    async def _delete(self, key: str, now: int) -> bool:
        """Forget the result; whether there was a live one."""

    def _stored(self, key: str) -> str:
        return self.context.prefix + check_key(key)


def lease_key(key: str) -> str:
    """The lease that guards the call with this idempotency key."""
    return f"idempotency:{key}"
