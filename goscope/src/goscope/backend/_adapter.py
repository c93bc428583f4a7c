"""Base class of adapters."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from ..events import Event
from ..providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    Milliseconds,
)
from ._cancellation import settle
from ._clock import Clock, SystemClock
from ._context import StoreContext
from ._duration import milliseconds
from ._json import encode as encode_json
from ._key import check_prefix


class BaseAdapter(ABC):
    """An adapter that owns its providers: fill in ``_connect`` and ``_disconnect``.

    A subclass assigns the providers it has; those it leaves alone are None. ``capabilities`` is a
    class or instance attribute. An adapter is used as ``async with adapter`` or connected by the
    scope it is given to.
    """

    lock: LockProvider | None = None
    lease: LockProvider | None = None
    cache: CacheProvider | None = None
    circuit_breaker: CircuitBreakerStateProvider | None = None
    checkpoint: CheckpointProvider | None = None
    idempotency: IdempotencyProvider | None = None
    capabilities: frozenset[Capability] = frozenset()

    _connected = False
    _gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def __init__(
        self,
        *,
        key_prefix: str | None = None,
        default_lock_ttl: Milliseconds = "30s",
        clock: Clock | None = None,
        encode: Callable[[Any], str] = encode_json,
    ) -> None:
        self.context: Final = StoreContext(
            clock=clock or SystemClock(),
            prefix=check_prefix(key_prefix),
            default_lock_ttl_ms=milliseconds(default_lock_ttl, "default_lock_ttl"),
            encode=encode,
        )

    @property
    def default_lock_ttl_ms(self) -> int:
        """How long a lock's lease runs when its caller does not say, in milliseconds."""
        return self.context.default_lock_ttl_ms

    @property
    def is_connected(self) -> bool:
        return self._connected

    async def connect(self) -> None:
        """Open the store. Does nothing when it is open; who comes meanwhile waits for the first.

        A failed or cancelled attempt leaves the adapter closed, and the next caller tries again.
        """
        async with self._one_at_a_time():
            if not self._connected:
                await self._connect()
                self._connected = True

    async def disconnect(self) -> None:
        """Finish what was submitted and close the store. Does nothing when it is closed.

        Runs to its end when the caller is cancelled: half a store would be left open otherwise.
        """
        await settle(self._close())

    async def _close(self) -> None:
        async with self._one_at_a_time():
            if self._connected:
                self._connected = False
                await self._disconnect()

    def _one_at_a_time(self) -> asyncio.Lock:
        """What connecting and disconnecting hold; new in each event loop, as a lock has one."""
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = loop, asyncio.Lock()
        return self._gate[1]

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def __del__(self) -> None:
        if self._connected:
            warnings.warn(
                f"{self!r} was never disconnected: use `async with`, or await disconnect()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def observe(self, emit: Callable[[Event], None] | None) -> None:
        """Send what only the providers see, such as corrupt entries, to ``emit``."""
        self.context.emit = emit

    @abstractmethod
    async def _connect(self) -> None:
        """Open the store, or leave nothing open behind an error."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close what ``_connect`` opened."""
