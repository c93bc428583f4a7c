"""One execution at a time for a key in this process; everyone who came meanwhile shares it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from .backend import Clock, wait_until
from .errors import LeaseLost

T = TypeVar("T")


class GaveUp(Exception):
    """A leader, or who waited for one, ran out of time; never leaves the feature that waits."""


class Bodies:
    """Which task is at the work of which key, so that work which waits for itself is told.

    Only the task itself is looked for: one that it started may well wait, since it may outlive
    the work, and whether the work waits for it cannot be known.
    """

    def __init__(self) -> None:
        self._running: set[tuple[asyncio.Task[Any] | None, str]] = set()

    def refuse_own(self, key: str) -> None:
        """Raise ``RuntimeError`` when the current task is at the work of the key."""
        if (asyncio.current_task(), key) in self._running:
            raise RuntimeError(
                f"the work behind key {key!r} asks for {key!r} itself: it would wait for its own "
                f"end. Let it call what it needs directly, or give that a key of its own"
            )

    @contextmanager
    def running(self, key: str) -> Generator[None]:
        """Mark the block as the work of the key."""
        body = asyncio.current_task(), key
        self._running.add(body)
        try:
            yield
        finally:
            self._running.discard(body)


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

        ``lead`` is told how much of ``wait_ms`` is left. When the leader is cancelled, loses its
        lease or gives up, one of those who wait takes over. Raises `GaveUp` when another leader
        needs longer than ``wait_ms``.
        """
        began = clock.steady_ms()
        while (flight := self._flights.get(key)) is not None:
            left_ms = None if wait_ms is None else began + wait_ms - clock.steady_ms()
            if left_ms is None:
                await asyncio.wait([flight])
            elif left_ms <= 0 or not await wait_until(flight, left_ms / 1000, clock):
                raise GaveUp
            if not flight.cancelled():
                return flight.result()
        left_ms = None if wait_ms is None else max(began + wait_ms - clock.steady_ms(), 0)
        return await self._lead(key, lead(left_ms))

    async def _lead(self, key: str, work: Awaitable[T]) -> T:
        flight: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._flights[key] = flight
        try:
            result = await work
        except (asyncio.CancelledError, LeaseLost, GaveUp):
            flight.cancel()
            raise
        except BaseException as exc:
            # Waiters re-raise a real exception; leaving the program is the leader's own affair.
            if isinstance(exc, Exception):
                flight.set_exception(exc)
                flight.exception()  # seen, so that asyncio does not report it without waiters
            else:
                flight.cancel()
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            del self._flights[key]
