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
    """A result as a backend keeps it; epoch milliseconds of the store, None for never."""

    text: str
    expires_at: int | None
    fingerprint: str | None = None

    def is_live(self, now: int) -> bool:
        return self.expires_at is None or self.expires_at > now


class NewResult(NamedTuple):
    """A result to write; ``ttl_ms`` is None for one that never expires."""

    text: str
    ttl_ms: int | None
    fingerprint: str | None = None

    def written_at(self, now: int) -> StoredResult:
        """The result as stored at ``now``, in epoch milliseconds."""
        expires_at = None if self.ttl_ms is None else now + self.ttl_ms
        return StoredResult(self.text, expires_at, self.fingerprint)


class BaseIdempotencyProvider(ABC):
    """Results by key: fill in the three primitives, each of them atomic.

    The stored key is the prefix and the key. Whether a result is live is decided on the clock of
    the store.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context: Final = context

    async def get(self, key: str, *, type: Any = None) -> IdempotencyRecord | None:
        stored = self._stored(key)
        try:
            row = await self._get(stored)
            if row is None:
                return None
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
        await self._set(*self.encode(key, value, ttl, fingerprint, fence))

    async def delete(self, key: str) -> bool:
        return await self._delete(self._stored(key))

    def encode(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None,
        fingerprint: str | None,
        fence: LockHandle | None,
    ) -> tuple[str, NewResult, Fence | None, bool]:
        """Check the arguments of `set`, and return those of the primitive."""
        stored = self._stored(key)
        ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        result = NewResult(self.context.encode(value), ttl_ms, fingerprint)
        checked = self.context.fence(fence)
        lease = f"{self.context.prefix}lease:{lease_key(key)}"
        ends_lease = checked is not None and checked.stored_key == lease
        return stored, result, checked, ends_lease

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _get(self, key: str) -> StoredResult | None:
        """The live result. `DecodeError` from here becomes `CorruptValue`."""

    @abstractmethod
    async def _set(
        self, key: str, result: NewResult, fence: Fence | None, ends_lease: bool
    ) -> None:
        """Store the result, and with ``ends_lease`` end the fence's lease in the same transaction.

        With a fence that is not current, raise ``lease_lost(fence)`` and change nothing.
        """

    @abstractmethod
    async def _delete(self, key: str) -> bool:
        """Forget the result; whether there was a live one."""

    def _stored(self, key: str) -> str:
        return self.context.prefix + check_key(key)


def lease_key(key: str) -> str:
    """The lease that guards the call with this idempotency key."""
    return f"idempotency:{key}"
