"""Factories of cache values."""

from __future__ import annotations

from typing import Any

from goscope import Scope

from .support import Store


class CountingFactory:
    """A factory whose value is the number of its call."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> Any:
        self.calls += 1
        return {"call": self.calls}


async def fail() -> Any:
    raise ZeroDivisionError


async def store_stale(store: Store, gs: Scope, factory: CountingFactory) -> None:
    """Store a value under "key" that has expired and may be served stale for an hour."""
    await gs.cache.get_or_set("key", factory, ttl="5m", stale_for="1h")
    store.clock.step_wall("6m")
