"""Renewing a lease while a body runs under it, and ending the body when the lease is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ._lease_queue import Granted
from ._tools.cancellation import finish_before_cancel, retrieve_exception
from ._tools.clock import Clock
from ._tools.notifier import wait_with_timeout
from .errors import GoscopeError, LeaseLost


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
