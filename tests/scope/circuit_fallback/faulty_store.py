"""A store of circuits whose requests fail on demand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from goscope import BackendBusy, BackendUnavailable, CircuitBreakerState, Scope
from goscope.backend import Fence
from goscope.backend.records import RecordCircuitBreakerStateProvider, RecordLockProvider
from goscope.memory import MemoryAdapter

Change: TypeAlias = Callable[[CircuitBreakerState | None], CircuitBreakerState | None]


class StoreFaults:
    """Which requests of a store fail at the moment."""

    reads = True
    writes = True

    def read(self) -> None:
        if not self.reads:
            raise BackendUnavailable("the store is down")

    def write(self) -> None:
        self.read()
        if not self.writes:
            raise BackendBusy("the store is locked")

    @contextmanager
    def store_down(self) -> Generator[None]:
        self.reads = False
        yield
        self.reads = True

    @contextmanager
    def read_only(self) -> Generator[None]:
        self.writes = False
        yield
        self.writes = True


class FailingLeases(RecordLockProvider):
    def __init__(self, adapter: MemoryAdapter, faults: StoreFaults) -> None:
        super().__init__(adapter.context, "lease", adapter)
        self._faults = faults

    async def _grant(self, key: str, owner: str, ttl_ms: int) -> int | None:
        self._faults.write()
        return await super()._grant(key, owner, ttl_ms)

    async def _release(self, key: str, token: int) -> bool:
        self._faults.write()
        return await super()._release(key, token)

    async def _remove(self, key: str) -> None:
        self._faults.write()
        await super()._remove(key)


class FailingStates(RecordCircuitBreakerStateProvider):
    def __init__(self, adapter: MemoryAdapter, faults: StoreFaults) -> None:
        super().__init__(adapter.context, adapter)
        self.before_next_write: Callable[[], Awaitable[None]] | None = None
        self._faults = faults

    async def _get(self, key: str) -> CircuitBreakerState | None:
        self._faults.read()
        return await super()._get(key)

    async def _update(self, key: str, change: Change, fence: Fence | None) -> None:
        self._faults.write()
        if self.before_next_write is not None:
            before, self.before_next_write = self.before_next_write, None
            await before()
        await super()._update(key, change, fence)


async def shared_state(gs: Scope) -> tuple[str, int]:
    """The state in the store."""
    assert gs.persistence.circuit_breaker is not None
    state = await gs.persistence.circuit_breaker.get_state("api") or CircuitBreakerState()
    return state.state, state.failure_count
