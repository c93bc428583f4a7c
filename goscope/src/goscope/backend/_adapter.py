"""Base class of adapters."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from .._tools.cancellation import finish_before_cancel
from .._tools.clock import Clock, SystemClock
from .._tools.codec import encode as encode_json
from .._tools.duration import Milliseconds, milliseconds
from .._tools.key import check_prefix
from ..events import Event
from ..providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
)
from ._context import StoreContext


class BaseAdapter(ABC):
    """An adapter that owns its providers: fill in ``_connect`` and ``_disconnect``.

    A subclass assigns the providers it has; the others stay None. ``capabilities`` is a class or
    instance attribute. Use an adapter as ``async with adapter``, or give it to a scope, which
    connects it.
    """

    lock: LockProvider | None = None
    lease: LockProvider | None = None
    cache: CacheProvider | None = None
    circuit_breaker: CircuitBreakerStateProvider | None = None
    checkpoint: CheckpointProvider | None = None
    idempotency: IdempotencyProvider | None = None
    capabilities: frozenset[Capability] = frozenset()

    _connected = False
    _lifecycle: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

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
    def clock(self) -> Clock:
        """The clock that the providers measure time with."""
        return self.context.clock

    @property
    def default_lock_ttl_ms(self) -> int:
        """How long a lock's lease runs when the caller does not say, in milliseconds."""
        return self.context.default_lock_ttl_ms

    @property
    def is_connected(self) -> bool:
        return self._connected and not self.context.forked

    async def connect(self) -> None:
        """Open the store. Does nothing when it is open; concurrent callers wait for the first call.

        A failed or cancelled attempt leaves the adapter closed, and the next caller tries again.
        """
        await self._open_with(self._connect)

    async def _open_with(self, connect: Callable[[], Awaitable[None]]) -> None:
        async with self._lifecycle_lock():
            if not self.is_connected:
                await connect()
                self._connected = True
                self.context.open(repr(self))

    async def disconnect(self) -> None:
        """Finish what was submitted and close the store. Does nothing when it is closed.

        Runs to the end when the caller is cancelled; otherwise the store would stay half open.
        From another event loop it raises `BackendUnavailable`, and the store stays open.
        """
        await finish_before_cancel(self._close())

    async def _close(self) -> None:
        async with self._lifecycle_lock():
            if self.is_connected:
                if not self.context.is_orphaned:
                    self.context.check()
                self._connected = False
                self.context.close()
                await self._disconnect()

    def _lifecycle_lock(self) -> asyncio.Lock:
        """The lock of `connect` and `disconnect`; each event loop gets its own."""
        loop = asyncio.get_running_loop()
        if self._lifecycle is None or self._lifecycle[0] is not loop:
            self._lifecycle = loop, asyncio.Lock()
        return self._lifecycle[1]

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
        if self._connected and not self.context.forked:
            warnings.warn(
                f"{self!r} was never disconnected: use `async with`, or await disconnect()",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )

    def observe(self, emit: Callable[[Event], None] | None) -> None:
        """Send events that only providers can emit, such as corrupt entries, to ``emit``."""
        self.context.emit = emit

    @abstractmethod
    async def _connect(self) -> None:
        """Open the store. On an error nothing stays open."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close what ``_connect`` opened."""
