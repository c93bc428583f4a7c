"""One call through a circuit: its admission, and the effect of its outcome on the circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import msgspec

from ._circuit import Circuit, CircuitStore
from ._lease_guard import LeaseGuard
from ._runtime import UNOBSERVED_RUN, error_details
from .errors import BackendError, CircuitOpen, GoscopeError, LeaseLost
from .events import (
    CircuitCallCompleted,
    CircuitCallFailed,
    CircuitCallStarted,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRejected,
)
from .providers import CircuitBreakerState, LockHandle

PROBE_RETRY_MS: Final = 1_000
"""``retry_after`` while another call probes, which may end at any moment."""


class Call:
    """One call through a circuit; `fail` marks it as failed although it raises nothing."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        # Where the state is read and the outcome written: the shared store or the fallback.
        self._store = circuit.shared
        self._observed_state = CircuitBreakerState()
        self._writing = False
        self._probe: LeaseGuard | None = None
        self._failed = False
        self._counted: int | None = None  # the failures in a row, if this call was counted as one
        self._run = UNOBSERVED_RUN

    def fail(self) -> None:
        """Count this call as a failure."""
        self._failed = True

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BackendError as failure:
            await self._enter_fallback(self._fall_back(failure))
        else:
            if self._circuit.fallback is not None and self._probe is None:
                # The store answers reads, but has not accepted a write again.
                await self._enter_fallback(self._circuit.fallback)
        runtime = self._circuit.runtime
        if runtime.observers.active:
            self._run = runtime.start_run(CircuitCallStarted, self._circuit.key)
        return self

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        # No separate coroutine, which would cost as much as the rest of a call without observers.
        if self._circuit.runtime.observers.active:
            return self._leave_observed(exc_type, exc)
        return self._leave(exc_type, exc)

    async def _leave_observed(
        self, exc_type: type[BaseException] | None, exc: BaseException | None
    ) -> None:
        try:
            await self._leave(exc_type, exc)
        except BaseException as raised:
            self._report_end(raised)
            raise
        self._report_end(exc)

    def _report_end(self, exc: BaseException | None) -> None:
        circuit, run = self._circuit, self._run
        if exc is None and not self._failed:
            circuit.emit(CircuitCallCompleted, run.since, run_id=run.id)
            return
        details = {"error_type": None, "error": ""} if exc is None else error_details(exc)
        circuit.emit(
            CircuitCallFailed, run.since, failure_count=self._counted, run_id=run.id, **details
        )

    async def _leave(self, exc_type: type[BaseException] | None, exc: BaseException | None) -> None:
        try:
            await self._record(exc)
        except GoscopeError as failure:
            # The body's own exception matters more than that it could not be counted.
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
        if self._probe is None:
            return
        try:
            await self._probe.__aexit__(exc_type, exc, None)
        except BackendError:
            # The lease expires by itself.
            if self._circuit.settings.on_store_error == "raise":
                raise

    async def _enter(self) -> None:
        """Enter as one of many if the circuit is closed, else as its probe."""
        self._observed_state = await self._read_state()
        if self._observed_state.state != "closed":
            await self._start_probe()

    async def _enter_fallback(self, fallback: CircuitStore) -> None:
        """Enter by the state of the fallback."""
        shared = self._observed_state
        self._store = fallback
        await self._enter()
        if self._probe is None:
            # Only the probe of the fallback writes its outcome there; others try the store first.
            self._store = self._circuit.shared
            if shared.failure_count:
                self._observed_state = shared

    async def _read_state(self) -> CircuitBreakerState:
        """Read the state. A failure after it is the failure of a write."""
        self._writing = False
        state = await self._store.states.get_state(self._circuit.key)
        self._on_answer(writing=False)
        self._writing = True
        return state or CircuitBreakerState()

    async def _start_probe(self) -> None:
        """Take the only probe slot, or raise `CircuitOpen`."""
        self._reject_while_open(self._observed_state)
        runtime, leases, lease = self._circuit.runtime, self._store.leases, self._circuit.lease
        granted = await leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=0)
        if granted is None:
            holder = await leases.provider.holder(lease)
            self._reject(min(PROBE_RETRY_MS, 0 if holder is None else holder.expires_in_ms))
        guard = runtime.guard(granted, self._circuit.key)
        await guard.__aenter__()
        try:
            needed = await self._enter_half_open(guard.handle)
        except BaseException as exc:
            await guard.__aexit__(type(exc), exc, None)
            if isinstance(exc, LeaseLost):
                self._reject(PROBE_RETRY_MS)  # force_open or its like has seized the lease
            raise
        if needed:
            self._probe = guard
        else:
            await guard.__aexit__(None, None, None)

    async def _enter_half_open(self, fence: LockHandle) -> bool:
        """Make the circuit half-open under the probe's lease; False when it needs no probe."""
        # Another probe may have ended between the first read and the grant.
        self._observed_state = await self._read_state()
        self._reject_while_open(self._observed_state)
        if self._observed_state.state == "open":
            self._observed_state = msgspec.structs.replace(self._observed_state, state="half-open")
            await self._store.states.set_state(self._circuit.key, self._observed_state, fence=fence)
            self._circuit.emit(CircuitHalfOpened)
        return self._observed_state.state != "closed"

    def _reject_while_open(self, state: CircuitBreakerState) -> None:
        if state.state != "open":
            return
        if state.last_failure_time is None:
            self._reject(None)  # forced open
        reset_ms = self._circuit.settings.reset_timeout_ms
        left_ms = state.last_failure_time + reset_ms - self._circuit.runtime.clock.wall_ms()
        # A failure further in the future means that the wall clock was set back, which must not
        # keep the circuit open until the clock has caught up.
        if 0 < left_ms <= 2 * reset_ms:
            self._reject(min(left_ms, reset_ms))

    def _reject(self, left_ms: int | None) -> NoReturn:
        self._circuit.emit(CircuitRejected)
        raise CircuitOpen(self._circuit.key, None if left_ms is None else left_ms / 1000)

    async def _record(self, exc: BaseException | None) -> None:
        failed = self._has_failed(exc)
        if failed is None or self._is_healthy(failed):
            return
        try:
            await self._write(failed, self._probe)
        except BackendError as failure:
            self._store = self._fall_back(failure)
            # As an ordinary call: a probe's lease in the store means nothing in the fallback.
            await self._write(failed, None)

    def _has_failed(self, exc: BaseException | None) -> bool | None:
        """Whether the call failed; None when its outcome says nothing about the service."""
        if isinstance(exc, (GoscopeError, asyncio.CancelledError)):
            return None
        if self._failed or (exc is not None and self._circuit.settings.counts(exc)):
            return True
        return False if exc is None or isinstance(exc, Exception) else None

    def _is_healthy(self, failed: bool) -> bool:
        """Whether there is nothing to write: a success that is no probe and follows no failure."""
        return not failed and self._probe is None and not self._observed_state.failure_count

    async def _write(self, failed: bool, probe: LeaseGuard | None) -> None:
        if failed:
            await self._record_failure(probe)
        elif probe is not None:
            await self._record_probe_success(probe.handle)
        else:
            await self._read_state()
            # Only while still closed: a call from before it opened must not close the circuit.
            await self._store.states.record_success(self._circuit.key, expected="closed")
        self._on_answer(writing=True)

    async def _record_failure(self, probe: LeaseGuard | None) -> None:
        threshold = self._circuit.settings.failure_threshold
        before = await self._read_state()
        count = await self._store.states.record_failure(
            self._circuit.key, threshold, fence=None if probe is None else probe.handle
        )
        self._counted = count
        # Of several failures that found the circuit half-open, only the first one opens it.
        reopened = before.state == "half-open" and count == before.failure_count + 1
        if count == threshold or reopened:
            self._circuit.emit(CircuitOpened, failure_count=count)

    async def _record_probe_success(self, fence: LockHandle) -> None:
        key, states = self._circuit.key, self._store.states
        successes = self._observed_state.success_count + 1
        if successes < self._circuit.settings.success_threshold:
            now = self._circuit.runtime.clock.wall_ms()
            state = msgspec.structs.replace(
                self._observed_state, success_count=successes, last_success_time=now
            )
            await states.set_state(key, state, fence=fence)
        else:
            await states.record_success(key, fence=fence)
            self._circuit.emit(CircuitClosed)

    def _fall_back(self, failure: BackendError) -> CircuitStore:
        """Enter the fallback, or raise the error if ``on_store_error`` says so."""
        if self._circuit.settings.on_store_error == "raise":
            raise failure
        return self._circuit.enter_fallback(failure, writing=self._writing)

    def _on_answer(self, *, writing: bool) -> None:
        if self._store is self._circuit.shared:
            self._circuit.leave_fallback(writing=writing)
