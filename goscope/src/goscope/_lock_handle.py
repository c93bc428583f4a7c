"""The handle of a lock that a scope has granted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Final

from ._lease_guard import LeaseGuard
from ._tools.duration import strict_milliseconds
from .providers import Milliseconds


class ScopeLockHandle:
    """A lock that is held, until its block ends or `release`.

    Durations are a ``timedelta`` or a string; a bare number is a ``TypeError``. While the scope
    renews the lease, `extend` moves the deadline that it renews by.
    """

    def __init__(self, guard: LeaseGuard, released: Callable[[], None]) -> None:
        self._guard: Final = guard
        self._inner: Final = guard.handle
        self._on_released = released

    def __repr__(self) -> str:
        return f"<goscope lock {self.key!r} token={self.fencing_token} owner={self.owner!r}>"

    def __del__(self) -> None:
        if self._guard.abandon():
            self._on_released()
            warnings.warn(
                f"{self!r} was never released: its lease is not renewed any more and will expire",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    @property
    def key(self) -> str:
        return self._inner.key

    @property
    def owner(self) -> str:
        return self._inner.owner

    @property
    def fencing_token(self) -> int | None:
        return self._inner.fencing_token

    @property
    def stored_key(self) -> str:
        return self._inner.stored_key

    @property
    def store_id(self) -> str:
        return self._inner.store_id

    @property
    def lost(self) -> bool:
        return self._guard.lost or self._inner.lost

    async def release(self) -> bool | None:
        """Release the lock; whether this grant was still current, None if that is unknown."""
        was_current = await self._guard.stop()
        self._on_released()
        return was_current

    async def extend(self, ttl: Milliseconds) -> bool:
        """Let the lease run for ``ttl`` from now. False once it has expired or was lost."""
        return await self._guard.extend(strict_milliseconds(ttl, "ttl"))

    async def is_valid(self) -> bool:
        """Ask the store whether the grant is still current."""
        return await self._inner.is_valid()
