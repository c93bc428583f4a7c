"""Running work at most once at a time, in all processes that share the store.

A process first agrees on a leader among its own callers; the leader waits for the key's lease,
looks again whether another process has stored the outcome, and only then runs the work. Everyone
who waited in the process shares the leader's outcome.

Work whose lease was ended, because its outcome is superseded, goes on if its body is not cancelled.
A caller that comes later does not share it, but runs the work anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from ._lease_guard import LeaseGuard
from ._reentrancy_guard import ReentrancyGuard
from ._runtime import Runtime
from ._single_flight import Flight, SingleFlight, WaitTimeout
from .errors import BackendError

T = TypeVar("T")
Outcome = TypeVar("Outcome", covariant=True)


class Work(Protocol[Outcome]):
    """What is to run once: one object for each caller."""

    @property
    def key(self) -> str:
        """What errors and events call it."""
        ...

    @property
    def template(self) -> str | None:
        """What events name as the template of its key."""
        ...

    @property
    def lease(self) -> str:
        """The lease that it runs under."""
        ...

    @property
    def owner(self) -> str | None:
        """The owner of that lease; None for a generated name."""
        ...

    @property
    def answer_ms(self) -> int | None:
        """How long the store may take to grant or refuse the lease."""
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


class LocalWork(Protocol[Outcome]):
    """What can run without the store."""

    @property
    def key(self) -> str:
        """What errors call it."""
        ...

    async def execute_unstored(self) -> Outcome:
        """Do the work."""
        ...


class RunOnce(Generic[T]):
    """The work in flight in this process, by key."""

    def __init__(self) -> None:
        self._flights = SingleFlight[T]()
        self._local_flights = SingleFlight[T]()
        self._reentrancy = ReentrancyGuard()

    async def share(
        self,
        runtime: Runtime,
        work: Work[T],
        wait_ms: int | None = None,
        *,
        fallback: Callable[[BackendError], Awaitable[T]] | None = None,
    ) -> T:
        """Run the work, or share the outcome of whoever runs it in this process.

        Waits up to ``wait_ms`` (None: no limit, 0: not at all), then raises `WaitTimeout`. Raises
        ``RuntimeError`` for work that waits for its own key. When the store fails, the outcome is
        that of the ``fallback`` of the caller that runs the work.
        """
        if wait_ms != 0:
            self._reentrancy.check(work.key)

        async def lead(flight: Flight[T], left_ms: int | None) -> T:
            try:
                return await self._lead(runtime, work, left_ms, flight)
            except BackendError as failure:
                if fallback is None:
                    raise
                flight.closed = True
                return await fallback(failure)

        return await self._flights.do(
            work.key,
            lead,
            clock=runtime.clock,
            wait_ms=wait_ms,
            may_join=None if work.cancel_body else _is_current,
        )

    async def share_locally(self, runtime: Runtime, work: LocalWork[T]) -> T:
        """As `share`, without the store: at most once at a time in this process."""
        self._reentrancy.check(work.key)

        async def lead(flight: Flight[T], left_ms: int | None) -> T:
            with self._reentrancy.running(work.key):
                return await work.execute_unstored()

        return await self._local_flights.do(work.key, lead, clock=runtime.clock)

    def forget_local(self) -> None:
        """Let no later caller share what `share_locally` runs now."""
        self._local_flights = SingleFlight[T]()

    async def lead(self, runtime: Runtime, work: Work[T], wait_ms: int | None = None) -> T:
        """Run the work once its lease is granted; share nothing within this process.

        Waits and raises as `share` does.
        """
        if wait_ms != 0:
            self._reentrancy.check(work.key)
        return await self._lead(runtime, work, wait_ms)

    async def _lead(
        self,
        runtime: Runtime,
        work: Work[T],
        wait_ms: int | None,
        flight: Flight[T] | None = None,
    ) -> T:
        found: T | None = None

        async def finished() -> bool:
            nonlocal found
            found = await work.stored()
            return found is not None

        while True:
            granted = await runtime.leases.acquire(
                work.lease,
                runtime.lease_ttl_ms,
                wait_ms=wait_ms,
                finished=finished,
                owner=work.owner,
                answer_ms=work.answer_ms,
            )
            if granted is not None:
                break
            if found is None:
                found = await work.stored()
            if found is not None:
                return found
            if wait_ms is not None:
                raise WaitTimeout
        async with runtime.guard(
            granted, work.key, template=work.template, cancel_body=work.cancel_body
        ) as guard:
            if flight is not None:
                flight.guard = guard
            # Another process may have stored it between the first look and the grant.
            found = await work.stored()
            if found is not None:
                return found
            with self._reentrancy.running(work.key):
                return await work.execute(guard)


async def _is_current(flight: Flight[T]) -> bool:
    """Whether nothing has superseded what the flight computes; before its grant nothing can."""
    if flight.guard is None or flight.closed:
        return not flight.closed
    return await flight.guard.is_current()
