"""Fences: a write is applied only while the lease that guards it is current.

Each statement that checks a fence locks the row of the lease until its transaction ends. Without
the lock a late write could be applied after another process has taken the lease over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from goscope.backend import Fence, lease_lost

from .._engine.connection import Result, Statement

GUARDED: Final = (
    "FROM {leases} AS fence WHERE fence.`key` = ? AND fence.token = ? LOCK IN SHARE MODE"
)
"""The source of an ``INSERT ... SELECT`` that inserts nothing unless the fence is current."""

RELEASE: Final = "UPDATE {leases} SET token = 0, expires_at = 0 WHERE `key` = ? AND token = ?"


def guard_params(fence: Fence) -> tuple[str, int]:
    """The parameters of `GUARDED` and `RELEASE`."""
    return fence.stored_key, fence.token


def lock_fence(fence: Fence | None) -> list[Statement]:
    """The beginning of a transaction that `check_fence` decides on."""
    return [] if fence is None else [(f"SELECT 1 {GUARDED}", guard_params(fence))]


def check_fence(results: Sequence[Result], fence: Fence | None) -> Sequence[Result]:
    """Raise `LeaseLost` unless the fence is current. Return the results after its own."""
    if fence is None:
        return results
    if not results[0].rows:
        raise lease_lost(fence)
    return results[1:]
