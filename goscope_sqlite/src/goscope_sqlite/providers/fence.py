"""Fences: a write is applied only while the lease that guards it is current."""

from __future__ import annotations

import sqlite3
from typing import Final

from goscope.backend import Fence, lease_lost

_IS_CURRENT: Final = "SELECT 1 FROM go_goscope_locks WHERE key = ? AND token = ?"
_RELEASE: Final = "DELETE FROM go_goscope_locks WHERE key = ? AND token = ?"


def check_fence(connection: sqlite3.Connection, fence: Fence | None) -> None:
    """Raise `LeaseLost` unless the fence's grant is current. Call it first in a write."""
    if fence is not None:
        found = connection.execute(_IS_CURRENT, (fence.stored_key, fence.token)).fetchall()
        if not found:
            raise lease_lost(fence)


def end_lease(connection: sqlite3.Connection, key: str, token: int) -> bool:
    """End the grant with this token and no other, as part of a write; whether it was current."""
    return connection.execute(_RELEASE, (key, token)).rowcount > 0
