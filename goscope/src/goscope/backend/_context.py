"""What all providers of one open store share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, NamedTuple
from weakref import WeakSet

import msgspec

from .._tools.clock import Clock
from .._tools.codec import encode
from ..errors import BackendUnavailable, ConfigurationError, ScopeNotOpen
from ..events import Event
from ..providers import LockHandle


class Fence(NamedTuple):
    """The grant that must still be current for a write to be applied."""

    stored_key: str
    token: int
    key: str


class StoreContext(msgspec.Struct, kw_only=True, weakref=True, eq=False):
    """What all providers of one open store share.

    ``store_id`` distinguishes this store from every other one, also from another of the same kind;
    it may be known only once the store is connected. ``encode`` gives the JSON text of a value; a
    store whose format carries less than JSON refuses the rest there. ``emit`` is set while a scope
    observes the adapter. ``forked`` is whether the adapter was connected before this process was
    forked. ``thread_id`` is the thread in which it was connected, 0 while it is not: a provider
    without I/O may compare that before it calls `check`. ``opened_at`` is when it was connected, in
    epoch milliseconds. ``on_close`` is called when the adapter
    disconnects: a provider registers there what wakes its waiters. `BaseAdapter` calls `open` and
    `close`.
    """

    clock: Clock
    prefix: str = ""
    store_id: str = ""
    default_lock_ttl_ms: int = 30_000
    encode: Callable[[Any], str] = encode
    emit: Callable[[Event], None] | None = None
    forked: bool = False
    name: str = "the adapter"
    on_close: list[Callable[[], None]] = []
    thread_id: int = 0
    opened_at: int = 0
    _loop: asyncio.AbstractEventLoop | None = None

    def open(self, name: str) -> None:
        """Let the providers be used in this event loop; errors name the adapter by ``name``."""
        self.name = name
        self._loop = asyncio.get_running_loop()
        self.thread_id = get_ident()
        self.opened_at = self.clock.wall_ms()
        self.forked = False
        _open_contexts.add(self)

    def close(self) -> None:
        """Refuse every later use, and wake those who wait."""
        self._loop, self.thread_id = None, 0
        _open_contexts.discard(self)
        for callback in self.on_close:
            callback()

    def check(self) -> None:
        """Raise unless the adapter is connected, and in this event loop.

        Raises `ScopeNotOpen` if it is not connected, `BackendUnavailable` in another event loop and
        after a fork.
        """
        # The thread first, since before Python 3.12 asking for the loop costs a system call. In one
        # thread only one loop runs at a time; a loop may have been moved to another thread.
        if get_ident() != self.thread_id and (
            self._loop is None or self._loop is not asyncio.get_running_loop()
        ):
            raise self._unusable()

    @property
    def is_orphaned(self) -> bool:
        """Whether the event loop that the adapter was connected in is closed."""
        return self._loop is not None and self._loop.is_closed()

    def _unusable(self) -> ScopeNotOpen | BackendUnavailable:
        if self.forked:
            return BackendUnavailable(
                f"{self.name} was connected before this process was forked, and cannot be used "
                f"after it. Connect an adapter in the child, or start the child with the method "
                f"'spawn'"
            )
        if self._loop is None:
            return ScopeNotOpen(
                f"{self.name} is not connected: use it inside `async with`, or await connect()"
            )
        return BackendUnavailable(
            f"{self.name} was connected in another event loop. Connect an adapter in this one"
        )

    def fence(self, handle: LockHandle | None) -> Fence | None:
        """The fence that a handle stands for.

        Raises `ConfigurationError` for the handle of an in-memory lock or of another store: its
        token is not one of this store.
        """
        if handle is None:
            return None
        if handle.fencing_token is None:
            raise ConfigurationError(
                f"the lock on {handle.key!r} is in memory and cannot fence a write: "
                f"open the backend with locks='shared' to get one that can"
            )
        if handle.store_id != self.store_id:
            raise ConfigurationError(
                f"the lock on {handle.key!r} belongs to another store and cannot fence a write "
                f"to this one: acquire the lock from the adapter that does the write"
            )
        return Fence(handle.stored_key, handle.fencing_token, handle.key)


_open_contexts: Final[WeakSet[StoreContext]] = WeakSet()


def _after_fork() -> None:
    """Refuse the parent's adapters in the child: what they hold belongs to the parent."""
    for context in _open_contexts:
        context._loop, context.thread_id, context.forked = None, 0, True
    _open_contexts.clear()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
