"""What the tests of locks share: a test class with both lock providers, and steps with locks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ...providers import LockHandle, LockHolder, LockProvider
from ._base import Conformance, locks_of


class LockTests(Conformance, abstract=True):
    """Tests with the parameter ``role`` run for ``adapter.lock`` and for ``adapter.lease``."""

    @pytest.fixture(params=["lock", "lease"])
    def role(self, request: pytest.FixtureRequest) -> str:
        """The name of the lock provider to test."""
        role: str = request.param
        return role

    @asynccontextmanager
    async def open_locks(self, tmp_path: Path, role: str) -> AsyncGenerator[LockProvider]:
        async with self.open_adapter(tmp_path) as adapter:
            yield locks_of(adapter, role)


async def granted(
    locks: LockProvider, key: str, ttl: timedelta | str | float = "30s", owner: str | None = None
) -> LockHandle:
    """Acquire a lock that must be free."""
    handle = await locks.acquire(key, ttl, owner)
    assert handle is not None, f"lock {key[:40]!r} is free, but was not granted"
    return handle


async def held(locks: LockProvider, key: str) -> LockHolder:
    """Return the holder of a lock that must be held."""
    holder = await locks.holder(key)
    assert holder is not None, f"lock {key!r} is held, but holder() is None"
    assert isinstance(holder, LockHolder), "holder() must return a goscope.LockHolder"
    return holder


def token_of(handle: LockHandle) -> int:
    assert handle.fencing_token is not None, "a lease has no fencing token"
    return handle.fencing_token


def strictly_grows(tokens: list[int]) -> bool:
    return all(one < two for one, two in itertools.pairwise(tokens))
