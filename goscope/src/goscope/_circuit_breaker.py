"""``gs.circuit_breaker``: stop calling a failing service until one probe at a time succeeds."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, overload

from ._circuit import BreakerSettings, Circuits
from ._circuit_call import Call
from ._left_block import leave_block
from ._result import require_coroutine_function, result_of
from .errors import LeaseLost
from .events import CircuitClosed, CircuitOpened, CircuitReset, Event
from .providers import CircuitBreakerState, CircuitBreakerStateProvider, LockHandle

T = TypeVar("T")
P = ParamSpec("P")

Write: TypeAlias = Callable[[CircuitBreakerStateProvider, LockHandle], Awaitable[None]]


class CircuitBreaker:
    """One circuit, shared by all processes on the store.

    Use it as a decorator, as ``async with breaker as call`` (``call.fail()`` marks a failure that
    raises nothing), or as ``await breaker.call(fn)``. Closed: calls run in parallel. Open: they
    raise `CircuitOpen`. Half-open, that is ``reset_timeout`` after the last failure: one probe at
    a time in all processes; its success closes the circuit, its failure opens it again. When the
    probing process dies, the slot is free once its lease expires. goscope's own errors and
    cancellations never count; exceptions that ``on`` does not select are successes.

    `force_open`, `force_close` and `reset` set the state for all processes. They take the slot
    from a running probe: its outcome is ignored, and `LeaseLost` ends it if it runs on. They raise
    `BackendError` whatever ``on_store_error`` says. If they raise or are cancelled, the change is
    atomic: it was applied fully or not at all. With ``expected`` they change nothing, and return
    False, if `state` is another one; only a failure of a call that is running can come in between.
    """

    def __init__(
        self,
        circuits: Circuits,
        key: str,
        settings: BreakerSettings,
        on_result: Callable[[Any], bool] | None,
    ) -> None:
        self.key: Final = key
        self.settings: Final = settings
        self._circuits = circuits
        self._on_result = on_result
        self._entered: list[tuple[asyncio.Task[Any] | None, Call]] = []

    def __repr__(self) -> str:
        return f"<goscope.CircuitBreaker {self.key!r}>"

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Decorate a coroutine function: every call goes through the circuit."""
        require_coroutine_function(function)

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(lambda: function(*args, **kwargs))

        return wrapper

    @overload
    async def call(self, fn: Callable[[], Awaitable[T]]) -> T: ...
    @overload
    async def call(self, fn: Callable[[], T]) -> T: ...

    async def call(self, fn: Callable[[], Any]) -> Any:
        """Run ``fn``, a plain or a coroutine function, through the circuit.

        Raises `CircuitOpen` without running it.
        """
        async with Call(self._circuits.get(self.key)) as call:
            result = await result_of(fn)
            if self._on_result is not None and self._on_result(result):
                call.fail()
            return result

    async def state(self) -> CircuitBreakerState:
        """The stored state of the circuit. Raises `BackendError` when the store fails."""
        states = self._circuits.get(self.key).shared.states
        return await states.get_state(self.key) or CircuitBreakerState()

    async def force_open(self, *, expected: CircuitBreakerState | None = None) -> bool:
        """Reject every call, probes included, until `force_close` or `reset`."""
        forced = CircuitBreakerState(state="open")  # no failure time, so no reset_timeout either
        return await self._force(
            lambda it, fence: it.set_state(self.key, forced, fence=fence),
            expected,
            partial(CircuitOpened, failure_count=0, forced=True),
        )

    async def force_close(self, *, expected: CircuitBreakerState | None = None) -> bool:
        """Admit calls from now on, as after a success: failures are counted from 0."""
        return await self._force(
            lambda it, fence: it.record_success(self.key, fence=fence),
            expected,
            partial(CircuitClosed, forced=True),
        )

    async def reset(self, *, expected: CircuitBreakerState | None = None) -> bool:
        """Forget the state of the circuit, as if it had never been called."""
        new = CircuitBreakerState()
        return await self._force(
            lambda it, fence: it.set_state(self.key, new, fence=fence), expected, CircuitReset
        )

    async def _force(
        self, write: Write, expected: CircuitBreakerState | None, event: Callable[..., Event]
    ) -> bool:
        """Write under the probe's lease, so that no probe runs and the last one is refused.

        The lease is seized from its holder. If that is another call of this method, its write is
        refused, and it seizes the lease in turn.
        """
        circuit = self._circuits.get(self.key)
        states, leases = circuit.shared.states, circuit.shared.leases.provider
        done = False
        while not done:
            granted = await leases.acquire(circuit.lease, circuit.runtime.lease_ttl_ms)
            if granted is None:
                await leases.force_release(circuit.lease)
                continue
            try:
                if expected not in (None, await self.state()):
                    return False
                await write(states, granted)
                done = True
            except LeaseLost:
                pass
            finally:
                await granted.release()
        circuit.leave_fallback(writing=True)
        circuit.emit(event)
        return True

    async def __aenter__(self) -> Call:
        call = Call(self._circuits.get(self.key))
        await call.__aenter__()
        self._entered.append((asyncio.current_task(), call))
        return call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _, call = leave_block(self._entered)
        await call.__aexit__(exc_type, exc, traceback)
