"""Base class of the providers of circuit breaker state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, get_args

import msgspec

from .._tools.choice import must_be
from .._tools.integer import check_integer
from .._tools.key import check_key
from ..providers import CircuitBreakerState, CircuitState, LockHandle
from ._context import Fence, StoreContext


class BaseCircuitBreakerStateProvider(ABC):
    """Circuit state by stored key: fill in ``_get``, ``_set`` and ``_update``.

    The stored key is the prefix, ``circuit:`` and the key. A backend overrides the primitives with
    a body where it has something faster, or has its own clock to take the times from.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context: Final = context

    async def get_state(self, key: str) -> CircuitBreakerState | None:
        return await self._get(self._stored(key))

    async def set_state(
        self, key: str, state: CircuitBreakerState, *, fence: LockHandle | None = None
    ) -> None:
        stored = self._stored(key)
        if state.state not in get_args(CircuitState):
            raise ValueError(
                f"the state of a circuit {must_be(state.state, get_args(CircuitState))}"
            )
        check_integer("failure_count", state.failure_count, 0)
        check_integer("success_count", state.success_count, 0)
        for name in ("last_failure_time", "last_success_time"):
            time: int | None = getattr(state, name)
            if time is not None:
                check_integer(name, time)
        await self._set(stored, state, self.context.fence(fence))

    async def record_failure(
        self, key: str, max_failures: int, *, fence: LockHandle | None = None
    ) -> int:
        stored = self._stored(key)
        check_integer("max_failures", max_failures, 1)
        return await self._record_failure(stored, max_failures, self.context.fence(fence))

    async def record_success(
        self, key: str, *, expected: CircuitState | None = None, fence: LockHandle | None = None
    ) -> None:
        stored = self._stored(key)
        await self._record_success(stored, expected, self.context.fence(fence))

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _get(self, key: str) -> CircuitBreakerState | None: ...

    @abstractmethod
    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        """Replace the state, whatever it was.

        With a fence that is not current, raise ``lease_lost(fence)`` and change nothing.
        """

    async def _update(
        self,
        key: str,
        change: Callable[[CircuitBreakerState | None], CircuitBreakerState | None],
        fence: Fence | None,
    ) -> None:
        """Replace the state by ``change(state)``, atomically; None leaves it as it is.

        ``change`` may be called more than once. With a fence that is not current, raise
        ``lease_lost(fence)`` and change nothing.

        Needed unless ``_record_failure`` and ``_record_success`` are both overridden.
        """
        raise NotImplementedError

    def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> Awaitable[int]:
        """Count a failure, atomically; the new count."""
        count = 0
        now = self.context.clock.wall_ms()

        def change(old: CircuitBreakerState | None) -> CircuitBreakerState:
            nonlocal count
            state = old or CircuitBreakerState()
            count = state.failure_count + 1
            opens = state.state == "half-open" or count >= max_failures
            forced_open = state.state == "open" and state.last_failure_time is None
            return msgspec.structs.replace(
                state,
                state="open" if opens else state.state,
                failure_count=count,
                last_failure_time=None if forced_open else now,
                success_count=0,
            )

        async def record() -> int:
            await self._update(key, change, fence)
            return count

        return record()

    async def _record_success(
        self, key: str, expected: CircuitState | None, fence: Fence | None
    ) -> None:
        now = self.context.clock.wall_ms()

        def change(old: CircuitBreakerState | None) -> CircuitBreakerState | None:
            state = old or CircuitBreakerState()
            if expected is not None and state.state != expected:
                return None
            return CircuitBreakerState(
                last_failure_time=state.last_failure_time, last_success_time=now
            )

        await self._update(key, change, fence)

    def _stored(self, key: str) -> str:
        return f"{self.context.prefix}circuit:{check_key(key)}"
