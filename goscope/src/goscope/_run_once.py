"""Running work at most once at a time, in all processes that share the store.

A process first agrees on a leader among its own callers; the leader waits for the key's lease,
looks again whether another process has stored the outcome, and only then runs the work. Everyone
who waited in the process shares the leader's outcome.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from ._lease_guard import LeaseGuard
from ._reentrancy_guard import ReentrancyGuard
from ._runtime import Runtime
from ._single_flight import SingleFlight, WaitTimeout

T = TypeVar("T")
Outcome = TypeVar("Outcome", covariant=True)


class Work(Protocol[Outcome]):
    """What is to run once: one object for each caller."""

    @property
    def key(self) -> str:
        """What errors and events call it."""
        ...

    @property
    def lease(self) -> str:
        """The lease that it runs under."""
        ...

    @property
    def cancel_body(self) -> bool:
        """Whether it ends when its lease is lost; else its last write finds that out."""
        ...

    async def stored(self) -> Outcome | None:
        """The outcome if it is stored, by whatever process."""
        ...

    async def execute(self, guard: LeaseGuard) -> Outcome:
        """Do the work and store the outcome under the lease."""
        ...


class RunOnce(Generic[T]):
    """The work in flight in this process, by key."""

    def __init__(self) -> None:
        self._flights = SingleFlight[T]()
        self._reentrancy = ReentrancyGuard()

    async def share(self, runtime: Runtime, work: Work[T], wait_ms: int | None = None) -> T:
        """Run the work, or share the outcome of whoever runs it in this process.

        Waits up to ``wait_ms`` (None: no limit, 0: not at all), then raises `WaitTimeout`. Raises
        ``RuntimeError`` for work that waits for its own key.
        """
        if wait_ms != 0:
            self._reentrancy.check(work.key)
        return await self._flights.do(
            work.key,
            lambda left_ms: self._lead(runtime, work, left_ms),
            clock=runtime.clock,
            wait_ms=wait_ms,
        )

    async def lead(self, runtime: Runtime, work: Work[T], wait_ms: int | None = None) -> T:
        """Run the work once its lease is granted; share nothing within this process.

        Waits and raises as `share` does.
        """
        if wait_ms != 0:
            self._reentrancy.check(work.key)
        return await self._lead(runtime, work, wait_ms)

    async def _lead(self, runtime: Runtime, work: Work[T], wait_ms: int | None) -> T:
        found: T | None = None

        async def finished() -> bool:
            nonlocal found
            found = await work.stored()
            return found is not None

        while True:
            granted = await runtime.leases.acquire(
                work.lease, runtime.lease_ttl_ms, wait_ms=wait_ms, finished=finished
            )
            if granted is not None:
                break
            if found is None:
                found = await work.stored()
            if found is not None:
                return found
            if wait_ms is not None:
                raise WaitTimeout
        async with runtime.guard(granted, work.key, cancel_body=work.cancel_body) as guard:
            # Another process may have stored it between the first look and the grant.
            found = await work.stored()
            if found is not None:
                return found
            with self._reentrancy.running(work.key):
                return await work.execute(guard)
