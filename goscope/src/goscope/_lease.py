"""Waiting for leases, renewing them, and ending a body whose lease was lost.

Every feature that must not run twice at once holds a lease: `LeaseQueue` waits for it, and
`LeaseGuard` keeps it while a body runs under it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from ._tools.cancellation import finish_before_cancel, retrieve_exception
from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from ._tools.polling import poll_interval_ms
from .errors import GoscopeError, LeaseLost
from .providers import LockHandle, LockProvider, SupportsWait

FINISHED_CHECK_MS: Final = 250
"""How often a waiter checks whether another owner has finished the work it waits for."""


class Granted(NamedTuple):
    """A lease that was just granted; it runs at least until the steady time ``deadline``."""

    handle: LockHandle
    deadline: int


class LeaseQueue:
    """Acquires leases of one provider, first come, first served within this process."""

    def __init__(self, provider: LockProvider, clock: Clock) -> None:
        self.provider: Final = provider
        self._clock = clock
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._waitable = provider if isinstance(provider, SupportsWait) else None

    async def acquire(
        self,
        key: str,
        ttl_ms: int,
        *,
        wait_ms: int | None = None,
        finished: Callable[[], Awaitable[bool]] | None = None,
    ) -> Granted | None:
        """Acquire the lease, waiting up to ``wait_ms`` (None: no limit, 0: try once).

        Returns None when the time is over, or once ``finished()`` says that the lease is no longer
        needed. A cancelled caller leaves neither a lease nor a ticket in the queue behind.
        """
        queue = self._queues.setdefault(key, deque())
        started = self._clock.steady_ms()
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(ticket)
        try:
            if queue[0] is not ticket and not await self._wait_for_head(ticket, wait_ms):
                return None
            return await self._acquire_as_head(key, ttl_ms, started, wait_ms, finished)
        finally:
            self._dequeue(key, queue, ticket)

    async def _wait_for_head(self, ticket: asyncio.Future[None], wait_ms: int | None) -> bool:
        if wait_ms is None:
            await ticket
            return True
        return await wait_with_timeout(ticket, wait_ms / 1000, self._clock)

    def _dequeue(
        self, key: str, queue: deque[asyncio.Future[None]], ticket: asyncio.Future[None]
    ) -> None:
        queue.remove(ticket)
        if not queue:
            self._queues.pop(key, None)
        elif not queue[0].done():
            queue[0].set_result(None)

    async def _acquire_as_head(
        self,
        key: str,
        ttl_ms: int,
        started: int,
        wait_ms: int | None,
        finished: Callable[[], Awaitable[bool]] | None,
    ) -> Granted | None:
        """Try, and wait for a release, until the lease is granted; for the head of the queue."""
        became_head = self._clock.steady_ms()
        while True:
            requested = self._clock.steady_ms()
            handle = await self.provider.acquire(key, ttl_ms)
            if handle is not None:
                return Granted(handle, requested + ttl_ms)
            now = self._clock.steady_ms()
            left_ms = None if wait_ms is None else started + wait_ms - now
            if left_ms is not None and left_ms <= 0:
                return None
            waiting = self._wait_released(key, now - became_head, left_ms)
            if finished is None:
                await waiting
            elif await self._wait_or_finish(finished, waiting):
                return None

    async def _wait_or_finish(
        self, finished: Callable[[], Awaitable[bool]], waiting: Coroutine[Any, Any, None]
    ) -> bool:
        """Wait for the release, and return whether the work was finished by then."""
        task = asyncio.ensure_future(waiting)
        try:
            while not await wait_with_timeout(task, FINISHED_CHECK_MS / 1000, self._clock):
                if await finished():
                    return True
            await task
            return await finished()
        finally:
            task.cancel()

    async def _wait_released(self, key: str, waited_ms: int, left_ms: int | None) -> None:
        if self._waitable is not None:
            await self._waitable.wait_released(key, left_ms)
            return
        pause_ms = poll_interval_ms(waited_ms)
        if left_ms is not None:
            pause_ms = min(pause_ms, left_ms)
        await self._clock.sleep(pause_ms / 1000)


class LeaseGuard:
    """Keeps a lease while a body runs, and ends the body when the lease is lost.

    The guard renews the lease at a third of its ttl. The lease is lost when a renewal is refused,
    or when none has succeeded by the deadline: the time read before the last successful request,
    plus the ttl. Then the guard cancels the body's task and raises `LeaseLost` from the block, as
    ``asyncio.timeout`` turns its cancellation into ``TimeoutError``:

    - a cancellation from outside wins,
    - else the body's own exception propagates, with a note that the lease was lost,
    - else `LeaseLost` is raised, also when the body swallowed the cancellation, and when it blocked
      the event loop beyond the deadline and left nothing to cancel.

    On exit the guard disarms the watcher first and then releases the lease, which no cancellation
    interrupts. With ``cancel_body=False`` a loss only sets `lost`, and nothing is raised.
    ``on_lost`` is called once with the reason.
    """

    def __init__(
        self,
        granted: Granted,
        ttl_ms: int,
        *,
        clock: Clock,
        key: str,
        on_lost: Callable[[str], None],
        renew: bool = True,
        cancel_body: bool = True,
    ) -> None:
        self.handle: Final = granted.handle
        self._deadline = granted.deadline
        self._ttl_ms = ttl_ms
        self._clock = clock
        self._key = key
        self._report_loss = on_lost
        self._renew = renew
        self._cancel_body = cancel_body
        self._reason: str | None = None
        self._armed = False
        self._cancelled = False
        self._released = False

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._reason is not None

    def disarm(self) -> None:
        """Stop cancelling the body: from here on its fence refuses what must be refused.

        Call it before a last write that ends the lease. A renewal right after that write is
        refused and would otherwise cancel a body that has succeeded.
        """
        self._armed = False

    def mark_released(self) -> None:
        """Note that the body's last write has ended the lease, so that nothing is released."""
        self._released = True

    async def __aenter__(self) -> Self:
        body = asyncio.current_task()
        assert body is not None  # a coroutine always runs in a task
        self._body = body
        self._cancelling = body.cancelling()
        self._armed = True
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._check_deadline_on_exit()
        if self._cancelled:
            self._body.uncancel()
        failure = await self._release()
        if self._reason is not None and self._cancel_body and not self._released:
            self._raise_loss(self._reason, exc)
        if failure is not None:
            if exc is None and self._cancel_body:
                raise failure
            if exc is not None:
                exc.add_note(f"and the lease could not be released: {failure}")

    def _check_deadline_on_exit(self) -> None:
        """Record a loss that the watcher could not see because the body blocked the event loop.

        The exit raises it in the body's own step: nothing is left to cancel.
        """
        expired = self._clock.steady_ms() >= self._deadline and self.handle.lost
        if expired and self._armed and self._reason is None:
            self._record_loss(self._expiry_reason())

    def _raise_loss(self, reason: str, exc: BaseException | None) -> None:
        if self._body.cancelling() > self._cancelling:
            if not isinstance(exc, asyncio.CancelledError):
                raise asyncio.CancelledError from exc
        elif exc is None or isinstance(exc, asyncio.CancelledError):
            raise LeaseLost(self._key, reason) from exc
        else:
            exc.add_note(f"the lease on {self._key!r} was lost while it ran: {reason}")

    async def _release(self) -> GoscopeError | None:
        """Stop watching and release the lease; the error if the store failed to."""
        self._watcher.cancel()  # first: what expires during the release is not a loss
        try:
            await finish_before_cancel(asyncio.ensure_future(self._stop()))
        except GoscopeError as failure:
            return failure
        return None

    async def _stop(self) -> None:
        await asyncio.wait([self._watcher])
        if not self._released:
            await self.handle.release()

    async def _watch(self) -> None:
        """Renew until the lease is lost. Runs as a separate task: it never cancels itself."""
        while True:
            if self._renew:
                await self._sleep_until(self._deadline - self._ttl_ms * 2 // 3)
                reason = await self._renew_until_deadline()
            else:
                await self._sleep_until(self._deadline)
                reason = self._expiry_reason()
            if reason is not None:
                self._on_lost(reason)
                return

    async def _sleep_until(self, moment: int) -> None:
        left_ms = moment - self._clock.steady_ms()
        if left_ms > 0:
            await self._clock.sleep(left_ms / 1000)

    async def _renew_until_deadline(self) -> str | None:
        """Renew the lease, retrying until the deadline; None, or the reason why it is lost."""
        error = ""
        while True:
            requested = self._clock.steady_ms()
            left_ms = self._deadline - requested
            if left_ms <= 0:
                return f"{self._expiry_reason()}{error}"
            renewed = await self._renew_once(left_ms)
            if renewed is True:
                self._deadline = requested + self._ttl_ms
                return None
            if renewed is False:
                return "its renewal was refused: it expired, was released or was taken over"
            error = f" ({renewed})"
            retry_at = self._clock.steady_ms() + self._ttl_ms // 10 + 1
            await self._sleep_until(min(retry_at, self._deadline))

    async def _renew_once(self, left_ms: int) -> bool | str:
        """Request a renewal: the store's answer, or what went wrong within ``left_ms``."""
        request = asyncio.ensure_future(self.handle.extend(self._ttl_ms))
        request.add_done_callback(retrieve_exception)  # it may fail after it was given up
        try:
            if not await wait_with_timeout(request, left_ms / 1000, self._clock):
                return "the store did not answer"
            return "the store cancelled the request" if request.cancelled() else request.result()
        except Exception as exc:  # a backend may raise anything; the deadline bounds the attempts
            return str(exc)
        finally:
            request.cancel()

    def _on_lost(self, reason: str) -> None:
        if not self._armed:
            return  # the body has finished
        self._record_loss(reason)
        if self._cancel_body:
            self._cancelled = True
            self._body.cancel()

    def _record_loss(self, reason: str) -> None:
        self._reason = reason
        self._report_loss(reason)

    def _expiry_reason(self) -> str:
        """Why a lease whose deadline has passed is lost."""
        if self._renew:
            return "it was not renewed in time"
        return "it expired, and it is not renewed (renew=False)"
