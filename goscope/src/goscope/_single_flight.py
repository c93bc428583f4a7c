"""One execution at a time for a key in this process; concurrent callers share its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from .errors import LeaseLost

T = TypeVar("T")


class WaitTimeout(Exception):
    """A wait for a lease or for a leader took too long. Never leaves the feature that waits."""


class SingleFlight(Generic[T]):
    """Calls in flight, by key."""

    def __init__(self) -> None:
        self._flights: dict[str, asyncio.Future[T]] = {}

    async def do(
        self,
        key: str,
        lead: Callable[[int | None], Awaitable[T]],
        *,
        clock: Clock,
        wait_ms: int | None = None,
    ) -> T:
        """Run ``lead`` as the leader, or wait for the leader's result or error.

        ``lead`` gets the part of ``wait_ms`` that is left. When the leader is cancelled, loses its
        lease or times out, one of the waiters replaces it. Raises `WaitTimeout` when another
        leader takes longer than ``wait_ms``.
        """
        started = clock.steady_ms()
        while (flight := self._flights.get(key)) is not None:
            left_ms = None if wait_ms is None else started + wait_ms - clock.steady_ms()
            if left_ms is None:
                await asyncio.wait([flight])
            elif left_ms <= 0 or not await wait_with_timeout(flight, left_ms / 1000, clock):
                raise WaitTimeout
            if not flight.cancelled():
                return flight.result()
        left_ms = None if wait_ms is None else max(started + wait_ms - clock.steady_ms(), 0)
        return await self._lead(key, lead(left_ms))

    async def _lead(self, key: str, work: Awaitable[T]) -> T:
        flight: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            result = await work
        except (asyncio.CancelledError, LeaseLost, WaitTimeout):
            flight.cancel()
            raise
        except BaseException as exc:
            # Waiters re-raise an Exception; SystemExit and its like concern only the leader.
            if isinstance(exc, Exception):
                flight.set_exception(exc)
                flight.exception()  # retrieved, so that asyncio does not report it without waiters
            else:
                flight.cancel()
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            del self._flights[key]
