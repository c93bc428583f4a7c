"""One call through a circuit: whether it is let in, and what its outcome does to the circuit."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, NoReturn, Self

import msgspec

from ._circuit import Circuit, CircuitStore
from ._lease import LeaseGuard
from .errors import BackendError, CircuitOpen, GoscopeError, LeaseLost
from .events import CircuitClosed, CircuitHalfOpened, CircuitOpened, CircuitRejected
from .providers import CircuitBreakerState, LockHandle

PROBE_MS: Final = 1_000
"""How long callers are told to wait beside a running probe, which may end at any moment."""


class Call:
    """One call through a circuit; `fail` marks it as failed though it raises nothing."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        # Where the state is looked at and the outcome goes; the process itself at times.
        self._store = circuit.shared
        self._seen = CircuitBreakerState()
        self._writing = False
        self._probe: LeaseGuard | None = None
        self._failed = False

    def fail(self) -> None:
        """Count this call as a failure."""
        self._failed = True

    async def __aenter__(self) -> Self:
        try:
            await self._enter()
        except BackendError as failure:
            await self._enter_local(self._store_failed(failure))
        else:
            if self._circuit.local is not None and self._probe is None:
                # The store answers, but has not done again what it refused.
                await self._enter_local(self._circuit.local)
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
        if self._probe is None:
            return
        try:
            await self._probe.__aexit__(exc_type, exc, None)
        except BackendError:
            # Its lease runs out by itself.
            if self._circuit.settings.on_store_error == "raise":
                raise

    # --- being let in ---------------------------------------------------------------------------

    async def _enter(self) -> None:
        """Go in as one of many if the circuit is closed, else as its probe."""
        self._seen = await self._look()
        if self._seen.state != "closed":
            await self._start_probe()

    async def _enter_local(self, local: CircuitStore) -> None:
        """Go in as the circuit in this process has it."""
        shared = self._seen
        self._store = local
        await self._enter()
        if self._probe is None:
            # The store is asked first for the outcome of all but a probe of this process.
            self._store = self._circuit.shared
            if shared.failure_count:
                self._seen = shared

    async def _look(self) -> CircuitBreakerState:
        """Read the state; what fails afterwards is a write."""
        self._writing = False
        state = await self._store.states.get_state(self._circuit.key)
        self._answered(writing=False)
        self._writing = True
        return state or CircuitBreakerState()

    async def _start_probe(self) -> None:
        """Take the only probe slot, or raise `CircuitOpen`."""
        self._reject_while_open(self._seen)
        runtime, leases, lease = self._circuit.runtime, self._store.leases, self._circuit.lease
        granted = await leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=0)
        if granted is None:
            holder = await leases.provider.holder(lease)
            self._reject(min(PROBE_MS, 0 if holder is None else holder.expires_in_ms))
        guard = runtime.guard(granted, self._circuit.key)
        await guard.__aenter__()
        try:
            needed = await self._enter_half_open(guard.handle)
        except BaseException as exc:
            await guard.__aexit__(type(exc), exc, None)
            if isinstance(exc, LeaseLost):
                self._reject(PROBE_MS)  # it was seized to decide by hand
            raise
        if needed:
            self._probe = guard
        else:
            await guard.__aexit__(None, None, None)

    async def _enter_half_open(self, fence: LockHandle) -> bool:
        """Make the circuit half-open under the probe's lease; False when it needs no probe."""
        # Another probe may have ended between the first look and the grant.
        self._seen = await self._look()
        self._reject_while_open(self._seen)
        if self._seen.state == "open":
            self._seen = msgspec.structs.replace(self._seen, state="half-open")
            await self._store.states.set_state(self._circuit.key, self._seen, fence=fence)
            self._circuit.emit(CircuitHalfOpened)
        return self._seen.state != "closed"

    def _reject_while_open(self, state: CircuitBreakerState) -> None:
        if state.state != "open":
            return
        if state.last_failure_time is None:
            self._reject(None)  # held open by hand
        reset_ms = self._circuit.settings.reset_timeout_ms
        left_ms = state.last_failure_time + reset_ms - self._circuit.runtime.clock.wall_ms()
        # A failure this far in the future means that the wall clock was set back: that must not
        # keep the circuit open until it has caught up.
        if 0 < left_ms <= 2 * reset_ms:
            self._reject(min(left_ms, reset_ms))

    def _reject(self, left_ms: int | None) -> NoReturn:
        self._circuit.emit(CircuitRejected)
        raise CircuitOpen(self._circuit.key, None if left_ms is None else left_ms / 1000)

    # --- what came of it ------------------------------------------------------------------------

    async def _record(self, exc: BaseException | None) -> None:
        failed = self._has_failed(exc)
        if failed is None or self._is_healthy(failed):
            return
        try:
            await self._write(failed, self._probe)
        except BackendError as failure:
            self._store = self._store_failed(failure)
            # As of an ordinary call: the lease of a probe in the store says nothing here.
            await self._write(failed, None)

    def _has_failed(self, exc: BaseException | None) -> bool | None:
        """Whether the call failed; None when its end says nothing about the service."""
        if isinstance(exc, (GoscopeError, asyncio.CancelledError)):
            return None
        if self._failed or isinstance(exc, self._circuit.settings.counts):
            return True
        return False if exc is None or isinstance(exc, Exception) else None

    def _is_healthy(self, failed: bool) -> bool:
        """Whether there is nothing to write: a success, of no probe and after no failure."""
        return not failed and self._probe is None and not self._seen.failure_count

    async def _write(self, failed: bool, probe: LeaseGuard | None) -> None:
        if failed:
            await self._record_failure(probe)
        elif probe is not None:
            await self._record_probe_success(probe.handle)
        else:
            await self._look()
            # Only while still closed: a call that began before must not close the circuit.
            await self._store.states.record_success(self._circuit.key, expected="closed")
        self._answered(writing=True)

    async def _record_failure(self, probe: LeaseGuard | None) -> None:
        limit = self._circuit.settings.max_failures
        before = await self._look()
        count = await self._store.states.record_failure(
            self._circuit.key, limit, fence=None if probe is None else probe.handle
        )
        # Of several failures that saw the circuit half-open, the first one has opened it.
        reopened = before.state == "half-open" and count == before.failure_count + 1
        if count == limit or reopened:
            self._circuit.emit(CircuitOpened, failure_count=count)

    async def _record_probe_success(self, fence: LockHandle) -> None:
        key, states = self._circuit.key, self._store.states
        successes = self._seen.success_count + 1
        if successes < self._circuit.settings.success_threshold:
            now = self._circuit.runtime.clock.wall_ms()
            state = msgspec.structs.replace(
                self._seen, success_count=successes, last_success_time=now
            )
            await states.set_state(key, state, fence=fence)
        else:
            await states.record_success(key, fence=fence)
            self._circuit.emit(CircuitClosed)

    # --- the store, and what stands in for it ---------------------------------------------------

    def _store_failed(self, failure: BackendError) -> CircuitStore:
        """The circuit in this process, if it is to be counted there; else raise the error."""
        if self._circuit.settings.on_store_error == "raise":
            raise failure
        return self._circuit.store_failed(failure, writing=self._writing)

    def _answered(self, *, writing: bool) -> None:
        if self._store is self._circuit.shared:
            self._circuit.store_answered(writing=writing)
