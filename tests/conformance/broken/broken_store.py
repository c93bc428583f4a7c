"""Backends with one bug each in the store or the adapter, and one without.

The docstring of a test class names the bug.
"""

# pyright: reportIncompatibleMethodOverride=false
# The overrides are wrong on purpose.

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from goscope.backend import Clock, SystemClock
from goscope.backend.records import (
    Records,
)
from goscope.errors import BackendBusy

from .correct import Broken, CorrectAdapter

T = TypeVar("T")


class TestCorrect(Broken):
    """Without a bug: the broken backends are variants of this one."""


class LeakyAdapter(CorrectAdapter):
    leaked = False

    async def change_records(self, change: Callable[[Records], T]) -> T:
        if self.leaked:
            raise BackendBusy("cannot start a transaction within a transaction")
        try:
            return await super().change_records(change)
        except asyncio.CancelledError:
            self.leaked = True
            raise


class TestLeakedTransactionOnCancel(Broken):
    """A cancelled write leaves its transaction open."""

    provider = "idempotency"
    adapter = LeakyAdapter


class SwallowingAdapter(CorrectAdapter):
    async def read_records(self, look: Callable[[Records], T]) -> T:
        try:
            return await super().read_records(look)
        except asyncio.CancelledError:
            return look(self.load())


class TestCancellationSwallowed(Broken):
    """A read swallows its cancellation."""

    adapter = SwallowingAdapter
    provider = "circuit"


class OtherClockAdapter(CorrectAdapter):
    @property
    def clock(self) -> Clock:
        return SystemClock()


class TestOtherClock(Broken):
    """``adapter.clock`` is not the clock of the store."""

    adapter = OtherClockAdapter
    provider = "lock"


class OtherDefaultTtlAdapter(CorrectAdapter):
    @property
    def default_lock_ttl_ms(self) -> int:
        return 60_000


class TestOtherDefaultTtl(Broken):
    """``default_lock_ttl_ms`` is not the ttl of a lease that is acquired without one."""

    adapter = OtherDefaultTtlAdapter
    provider = "lock"


class OneStoreIdAdapter(CorrectAdapter):
    async def _connect(self) -> None:
        await super()._connect()
        self.context.store_id = "store"


class TestOneStoreId(Broken):
    """All stores have one ``store_id``."""

    adapter = OneStoreIdAdapter
    provider = "lock"


class OwnStoreIdAdapter(CorrectAdapter):
    async def _connect(self) -> None:
        await super()._connect()
        self.context.store_id = str(id(self))


class TestStoreIdOfTheAdapter(Broken):
    """Each adapter on a store has another ``store_id``."""

    adapter = OwnStoreIdAdapter
    provider = "lock"
