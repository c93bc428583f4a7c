"""What all providers of one open store share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from .._tools.clock import Clock
from .._tools.codec import encode
from ..errors import ConfigurationError
from ..events import Event
from ..providers import LockHandle


class Fence(NamedTuple):
    """The grant that must still be current for a write to be applied."""

    stored_key: str
    token: int
    key: str


class StoreContext(msgspec.Struct, kw_only=True):
    """What all providers of one open store share.

    ``store_id`` distinguishes this store from every other one, also from another of the same kind;
    it may be known only once the store is connected. ``encode`` gives the JSON text of a value; a
    store whose format carries less than JSON refuses the rest there. ``emit`` is set while a scope
    observes the adapter.
    """

    clock: Clock
    prefix: str = ""
    store_id: str = ""
    default_lock_ttl_ms: int = 30_000
    encode: Callable[[Any], str] = encode
    emit: Callable[[Event], None] | None = None

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
