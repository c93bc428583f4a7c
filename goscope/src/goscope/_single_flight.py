"""One execution at a time for a key in this process; concurrent callers share its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ._lease_guard import LeaseGuard
from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from .errors import LeaseLost

T = TypeVar("T")


class WaitTimeout(Exception):
    """A wait for a lease or for a leader took too long. Never leaves the feature that waits."""


class Flight(Generic[T]):
    """A call in flight.

    ``guard`` keeps the lease of its leader, once it is granted. ``closed`` is whether it goes on
    without the store, which then cannot tell whether a later caller may share its outcome.
    """

    def __init__(self) -> None:
        self.outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.guard: LeaseGuard | None = None
        self.closed = False


class SingleFlight(Generic[T]):
    """Calls in flight, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[T]] = {}

    async def do(
        self,
        key: str,
        lead: Callable[[Flight[T], int | None], Awaitable[T]],
        *,
        clock: Clock,
        wait_ms: int | None = None,
        may_join: Callable[[Flight[T]], Awaitable[bool]] | None = None,
    ) -> T:
        """Run ``lead`` as the leader, or wait for the leader's result or error.

        ``lead`` gets the part of ``wait_ms`` that is left. When the leader is cancelled, loses its
        lease or times out, one of the waiters replaces it. A caller that ``may_join`` refuses
        becomes the leader of another flight, which later callers find instead. Raises
        `WaitTimeout` when another leader takes longer than ``wait_ms``.
        """
        started = clock.steady_ms()
        loop = asyncio.get_running_loop()
        # Not a flight of another loop, which is over: of the parent of this process, for example.
        while (flight := self._flights.get(key)) is not None and flight.outcome.get_loop() is loop:
            if may_join is not None and not await may_join(flight):
                if self._flights.get(key) in (flight, None):
                    break
                continue  # another caller was refused as well, and leads
            left_ms = None if wait_ms is None else started + wait_ms - clock.steady_ms()
            if left_ms is None:
                await asyncio.wait([flight.outcome])
            elif left_ms <= 0 or not await wait_with_timeout(flight.outcome, left_ms / 1000, clock):
                raise WaitTimeout
            if not flight.outcome.cancelled():
                return flight.outcome.result()
        left_ms = None if wait_ms is None else max(started + wait_ms - clock.steady_ms(), 0)
        flight = self._flights[key] = Flight()
        return await self._lead(key, flight, lead(flight, left_ms))

    async def _lead(self, key: str, flight: Flight[T], work: Awaitable[T]) -> T:
        outcome = flight.outcome
        try:
            result = await work
        except (asyncio.CancelledError, LeaseLost, WaitTimeout):
            outcome.cancel()
            raise
        except BaseException as exc:
            # Waiters re-raise an Exception; SystemExit and its like concern only the leader.
            if isinstance(exc, Exception):
                outcome.set_exception(exc)
                outcome.exception()  # retrieved: asyncio does not report it without waiters
            else:
                outcome.cancel()
            raise
        else:
            outcome.set_result(result)
            return result
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
