"""``gs.circuit_breaker``: spare a failing service, and let one probe at a time find it healed."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, NoReturn, ParamSpec, Self, TypeAlias, TypeVar

import msgspec

from ._lease import LeaseGuard
from ._result import require_coroutine_function
from ._runtime import Runtime
from .errors import CircuitOpen, GoscopeError, LeaseLost
from .events import CircuitClosed, CircuitHalfOpened, CircuitOpened, CircuitRejected, Event
from .providers import CircuitBreakerState, CircuitBreakerStateProvider, LockHandle

T = TypeVar("T")
P = ParamSpec("P")

PROBE_MS: Final = 1_000
"""How long callers are told to wait beside a running probe, which may end at any moment."""

Counts: TypeAlias = "type[BaseException] | tuple[type[BaseException], ...]"


class BreakerSettings(msgspec.Struct, frozen=True):
    """What makes a circuit open and close again."""

    max_failures: int
    reset_timeout_ms: int
    success_threshold: int
    counts: Counts

    def __post_init__(self) -> None:
        for name in ("max_failures", "success_threshold"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, not {value!r}")


class CircuitBreaker:
    """One circuit, shared by all processes on the store.

    Use it as a decorator, as ``async with breaker as call`` (``call.fail()`` marks a failure that
    raises nothing), or as ``await breaker.call(fn)``. Closed: calls run in parallel. Open: they
    raise `CircuitOpen`. Half-open, that is ``reset_timeout`` after the last failure: one probe at
    a time in all processes; its success closes the circuit, its failure opens it again. When the
    probing process dies, the slot is free once its lease ends. goscope's own errors and
    cancellations never count; exceptions that ``counts`` does not name are successes.
    """

    def __init__(
        self,
        runtime: Callable[[], Runtime],
        key: str,
        settings: BreakerSettings,
        counts_result: Callable[[Any], bool] | None,
    ) -> None:
        self.key: Final = key
        self.settings: Final = settings
        self._counts_result = counts_result
        self._runtime = runtime
        self._entered: defaultdict[asyncio.Task[Any] | None, list[Call]] = defaultdict(list)

    def __repr__(self) -> str:
        return f"<goscope.CircuitBreaker {self.key!r}>"

    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Let every call of a coroutine function go through the circuit."""
        require_coroutine_function(function)

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(lambda: function(*args, **kwargs))

        return wrapper

    async def call(self, fn: Callable[[], Awaitable[T]]) -> T:
        """Run ``fn`` through the circuit. Raises `CircuitOpen` without running it."""
        async with Call(self._runtime(), self.key, self.settings) as call:
            result = await fn()
            if self._counts_result is not None and self._counts_result(result):
                call.fail()
            return result

    async def state(self) -> CircuitBreakerState:
        """The stored state of the circuit."""
        return await _provider(self._runtime()).get_state(self.key) or CircuitBreakerState()

    async def __aenter__(self) -> Call:
        call = Call(self._runtime(), self.key, self.settings)
        await call.__aenter__()
        self._entered[asyncio.current_task()].append(call)
        return call

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        call = self._entered[task].pop()
        if not self._entered[task]:
            del self._entered[task]
        await call.__aexit__(exc_type, exc, traceback)


class Call:
    """One call through a circuit; `fail` marks it as failed though it raises nothing."""

    def __init__(self, runtime: Runtime, key: str, settings: BreakerSettings) -> None:
        self._runtime = runtime
        self._key = key
        self._settings = settings
        self._states = _provider(runtime)
        self._seen = CircuitBreakerState()
        self._probe: LeaseGuard | None = None
        self._failed = False

    def fail(self) -> None:
        """Count this call as a failure."""
        self._failed = True

    async def __aenter__(self) -> Self:
        self._seen = await self._states.get_state(self._key) or CircuitBreakerState()
        if self._seen.state != "closed":
            await self._start_probe()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._record(exc)
        except GoscopeError as failure:
            # The body's own exception says more than that it could not be counted.
            if exc is None and not isinstance(failure, LeaseLost):
                await self._end_probe(type(failure), failure)
                raise
            if exc is not None:
                exc.add_note(f"and the circuit could not record it: {failure}")
        except BaseException as interruption:
            await self._end_probe(type(interruption), interruption)
            raise
        await self._end_probe(exc_type, exc)

    async def _end_probe(
        self, exc_type: type[BaseException] | None, exc: BaseException | None
    ) -> None:
        if self._probe is not None:
            await self._probe.__aexit__(exc_type, exc, None)

    # --- being let in ---------------------------------------------------------------------------

    async def _start_probe(self) -> None:
        """Take the only probe slot, or raise `CircuitOpen`."""
        self._reject_while_open(self._seen)
        runtime = self._runtime
        lease = f"circuit:{self._key}"
        granted = await runtime.leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=0)
        if granted is None:
            holder = await runtime.leases.provider.holder(lease)
            self._reject(min(PROBE_MS, 0 if holder is None else holder.expires_in_ms))
        guard = runtime.guard(granted, self._key)
        await guard.__aenter__()
        try:
            needed = await self._enter_half_open(guard.handle)
        except BaseException as exc:
            await guard.__aexit__(type(exc), exc, None)
            raise
        if needed:
            self._probe = guard
        else:
            await guard.__aexit__(None, None, None)

    async def _enter_half_open(self, fence: LockHandle) -> bool:
        """Make the circuit half-open under the probe's lease; False when it needs no probe."""
        # Another probe may have ended between the first look and the grant.
        self._seen = await self._states.get_state(self._key) or CircuitBreakerState()
        self._reject_while_open(self._seen)
        if self._seen.state == "open":
            self._seen = msgspec.structs.replace(self._seen, state="half-open", success_count=0)
            await self._states.set_state(self._key, self._seen, fence=fence)
            self._emit(CircuitHalfOpened)
        return self._seen.state != "closed"

    def _reject_while_open(self, state: CircuitBreakerState) -> None:
        if state.state != "open":
            return
        since = state.last_failure_time or 0
        reset_ms = self._settings.reset_timeout_ms
        left_ms = since + reset_ms - self._runtime.clock.wall_ms()
        # A failure this far in the future means that the wall clock was set back: that must not
        # keep the circuit open until it has caught up.
        if 0 < left_ms <= 2 * reset_ms:
            self._reject(min(left_ms, reset_ms))

    def _reject(self, left_ms: int) -> NoReturn:
        self._emit(CircuitRejected)
        raise CircuitOpen(self._key, left_ms / 1000)

    # --- what came of it ------------------------------------------------------------------------

    async def _record(self, exc: BaseException | None) -> None:
        if self._failed or isinstance(exc, self._settings.counts):
            if not isinstance(exc, (GoscopeError, asyncio.CancelledError)):
                await self._record_failure()
        elif exc is None or (isinstance(exc, Exception) and not isinstance(exc, GoscopeError)):
            await self._record_success()

    async def _record_failure(self) -> None:
        count = await self._states.record_failure(
            self._key, self._settings.max_failures, fence=self._fence()
        )
        if self._probe is not None or count == self._settings.max_failures:
            self._emit(CircuitOpened, failure_count=count)

    async def _record_success(self) -> None:
        if self._probe is None:
            if self._seen.failure_count:
                # Only while still closed: a call that began before must not close the circuit.
                await self._states.record_success(self._key, expected="closed")
            return
        successes = self._seen.success_count + 1
        if successes < self._settings.success_threshold:
            state = msgspec.structs.replace(
                self._seen, success_count=successes, last_success_time=self._runtime.clock.wall_ms()
            )
            await self._states.set_state(self._key, state, fence=self._fence())
        else:
            await self._states.record_success(self._key, fence=self._fence())
            self._emit(CircuitClosed)

    def _fence(self) -> LockHandle | None:
        return None if self._probe is None else self._probe.handle

    def _emit(self, event: Callable[..., Event], **details: Any) -> None:
        if self._runtime.observers.active:
            self._runtime.observers.emit(event(key=self._key, **details))


def _provider(runtime: Runtime) -> CircuitBreakerStateProvider:
    return runtime.require(runtime.adapter.circuit_breaker, "circuit breaker")
