"""Renewing a lease while a body runs under it, and ending the body when the lease is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from ._lease_queue import Granted
from ._tools.cancellation import finish_before_cancel, retrieve_exception
from ._tools.clock import Clock, SystemClock
from ._tools.notifier import signalled_within, wait_with_timeout
from ._tools.running_time import running_time_limit
from .errors import GoscopeError, LeaseLost

ANSWER_TICKS: Final = 3
"""From the answer of a thread to the end of the task that awaits it: callback, future, task."""


class LeaseGuard:
    """Keeps a lease while a body runs, and ends the body when the lease is lost.

    The guard renews the lease at a third of its ttl. The lease is lost when a renewal is refused,
    or when none has succeeded by the deadline: the time read before the last successful request,
    plus the ttl. A body that blocked the event loop beyond the deadline has kept the guard from
    asking: the guard then asks once more, and the lease is lost only if another owner took it.

    A loss cancels the body's task and raises `LeaseLost` from the block, as ``asyncio.timeout``
    turns its cancellation into ``TimeoutError``:

    - a cancellation from outside wins,
    - else the body's own exception propagates, with a note that the lease was lost,
    - else `LeaseLost` is raised, also when the body swallowed the cancellation.

    Any task may leave the block; only the task that entered it is ever cancelled. On exit the guard
    disarms the watcher first and then releases the lease, which no cancellation interrupts. With
    ``cancel_body=False`` a loss only sets `lost`, and nothing is raised. ``on_lost`` is called once
    with the reason.
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
        self._lifetime_ms = ttl_ms  # from the last successful request to the deadline
        # `SupportsRenew`. A handle without it cannot keep an expired lease.
        self._renew_handle: Callable[[int], Awaitable[bool]] = getattr(
            granted.handle, "renew", granted.handle.extend
        )
        self._clock = clock
        self._key = key
        self._report_loss = on_lost
        self._renew = renew
        self._cancel_body = cancel_body
        self._requests = asyncio.Lock()
        self._rescheduled: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._body: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelling_at_loss = 0
        self._message = f"the lease on {key!r} was lost"  # of the guard's own cancellation
        self._reason: str | None = None
        self._armed = False
        self._cancelled = False
        self._released = False

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._reason is not None

    def start(self) -> None:
        """Renew the lease in the background, without a body, until `stop`."""
        self._armed = True
        self._schedule()

    def _schedule(self) -> None:
        """Start the watcher when it has something to do: most bodies end before."""
        if isinstance(self._clock, SystemClock):
            # A timer costs 2 us, a task that is cancelled at once 40 us and two ticks of the loop.
            delay_s = (self._next_moment() - self._clock.steady_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._start_watcher)
        else:
            self._start_watcher()

    def _start_watcher(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    def _stop_watcher(self) -> None:
        self._armed = False  # first: what expires during the release is not a loss
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def stop(self) -> bool | None:
        """Release the lease; whether it was current, None if unknown. Finishes before a cancel.

        Raises the store's error. Does nothing the second time, and then returns False.
        """
        self._stop_watcher()
        if self._watcher is None:
            return await self._release()  # it finishes before a cancel: no task, which costs 25 us
        return await finish_before_cancel(self._release_after(self._watcher))

    async def _release_after(self, watcher: asyncio.Task[None]) -> bool | None:
        await asyncio.wait([watcher])
        return await self._release()

    async def _release(self) -> bool | None:
        if self._released:
            return False
        was_current = await self.handle.release()
        self._released = True
        return was_current

    def abandon(self) -> bool:
        """Stop renewing without a body, as nobody can release it; whether it was renewed."""
        renewing = self._body is None and self._armed and not self._released
        if renewing:
            self._stop_watcher()
        return renewing

    async def extend(self, ttl_ms: int) -> bool:
        """Let the lease run for ``ttl_ms`` from now; False when it has expired or was lost.

        A longer ttl is the ttl of later renewals too. A shorter one moves the deadline, and the
        next renewal restores the ttl.
        """
        async with self._requests:  # a renewal that overtook this request would undo it
            if self._reason is not None or self._released:
                return False
            requested = self._clock.steady_ms()
            # Before the request, which a cancellation may leave without an answer.
            self._deadline = min(self._deadline, requested + ttl_ms)
            if not await self.handle.extend(ttl_ms):
                return False
            self._ttl_ms = max(self._ttl_ms, ttl_ms)
            self._set_deadline(requested, ttl_ms)
        if self._rescheduled is not None and not self._rescheduled.done():
            self._rescheduled.set_result(True)
        if self._timer is not None and self._watcher is None and self._armed:
            self._timer.cancel()
            self._schedule()
        return True

    async def is_current(self) -> bool:
        """Ask the store whether nobody has ended or taken the lease.

        One that has expired and that nobody took is renewed.
        """
        if await self.handle.is_valid():
            return True
        async with self._requests:
            if self._released:
                return False
            requested = self._clock.steady_ms()
            renewed = await self._renew_handle(self._ttl_ms)
            if renewed:
                self._set_deadline(requested, self._ttl_ms)
        return renewed

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
        self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        overdue = self._armed and self._clock.steady_ms() >= self._deadline
        ended = self._released
        if self._cancelled and self._body is not None:
            self._body.uncancel()
        was_current: bool | None = False
        failure: GoscopeError | None = None
        try:
            was_current = await self.stop()
        except GoscopeError as error:
            failure = error
        if overdue and not (was_current or ended or self.lost):
            # The watcher had no chance to see it; the store, or its failure, says so.
            self._record_loss(self._expiry_reason())
        if self._reason is not None and self._cancel_body and not ended:
            self._raise_loss(self._reason, exc)
        if failure is not None:
            if exc is None and self._cancel_body:
                raise failure
            if exc is not None:
                exc.add_note(f"and the lease could not be released: {failure}")

    def _raise_loss(self, reason: str, exc: BaseException | None) -> None:
        if self._is_cancelled_from_outside(exc):
            if not isinstance(exc, asyncio.CancelledError):
                raise asyncio.CancelledError from exc
        elif exc is None or isinstance(exc, asyncio.CancelledError):
            raise LeaseLost(self._key, reason) from exc
        else:
            exc.add_note(f"the lease on {self._key!r} was lost while it ran: {reason}")

    def _is_cancelled_from_outside(self, exc: BaseException | None) -> bool:
        body = self._body
        if body is None or body is not asyncio.current_task() or not self._cancelled:
            return isinstance(exc, asyncio.CancelledError)  # the guard has not cancelled this task
        if sys.version_info >= (3, 13):
            return body.cancelling() > self._cancelling
        # There a TaskGroup whose child fails while it exits leaves its own request behind, now or
        # in an exit that the body has handled before the loss.
        left_by_group = isinstance(exc, BaseExceptionGroup)
        if body.cancelling() > self._cancelling_at_loss + left_by_group:
            return True
        return body.cancelling() > self._cancelling and self._was_cancelled_before(exc)

    def _was_cancelled_before(self, exc: BaseException | None) -> bool:
        """Whether the exception is, or came while handling, another cancellation than our own."""
        while exc is not None:
            if isinstance(exc, asyncio.CancelledError) and exc.args[:1] != (self._message,):
                return True
            exc = exc.__context__
        return False

    async def _watch(self) -> None:
        """Renew until the lease is lost. Runs as a separate task: it never cancels itself."""
        while True:
            await self._wait_until_next_moment()
            reason = await self._renew_until_deadline() if self._renew else self._expiry_reason()
            if reason is not None:
                if self._body is not None and self._body.cancelling() > self._cancelling:
                    await asyncio.sleep(0)  # let the body see that request first, if it is new
                self._on_lost(reason)
                return

    def _next_moment(self) -> int:
        """The steady time of the next renewal, or of the loss without renewal."""
        return self._deadline - (self._lifetime_ms * 2 // 3 if self._renew else 0)

    async def _wait_until_next_moment(self) -> None:
        """Wait for it, wherever `extend` moves it meanwhile."""
        while (left_ms := self._next_moment() - self._clock.steady_ms()) > 0:
            self._rescheduled = asyncio.get_running_loop().create_future()
            if not await signalled_within(self._rescheduled, left_ms / 1000, self._clock):
                return

    async def _renew_until_deadline(self) -> str | None:
        """Renew the lease, retrying until the deadline; None, or the reason why it is lost."""
        error = ""
        while True:
            async with self._requests:
                requested = self._clock.steady_ms()
                left_ms = self._deadline - requested
                if left_ms <= 0:
                    if error:
                        return f"{self._expiry_reason()}{error}"
                    renewed = await self._renew_overdue()
                else:
                    renewed = await self._renew_once(left_ms)
                if renewed is True:
                    self._set_deadline(requested, self._ttl_ms)
                    return None
            if renewed is False:
                return "its renewal was refused: it was released or taken over"
            error = f" ({renewed})"
            retry_at = self._clock.steady_ms() + self._ttl_ms // 10 + 1
            await self._sleep_until(min(retry_at, self._deadline))

    async def _renew_once(self, left_ms: int) -> bool | str:
        """Request a renewal: the store's answer, or what went wrong within ``left_ms``."""
        request = asyncio.ensure_future(self._renew_handle(self._ttl_ms))
        request.add_done_callback(retrieve_exception)  # it may fail after it was given up
        try:
            if not await wait_with_timeout(request, left_ms / 1000, self._clock):
                # An answer that came while the body blocked the loop is a few ticks away.
                for _ in range(ANSWER_TICKS):
                    await asyncio.sleep(0)
                if not request.done():
                    return "the store did not answer"
            return "the store cancelled the request" if request.cancelled() else request.result()
        except Exception as exc:  # a backend may raise anything; the deadline bounds the attempts
            return str(exc)
        finally:
            request.cancel()

    async def _renew_overdue(self) -> bool | str:
        """Request a renewal after the deadline: nothing could be requested in time.

        The event loop was blocked, or the process suspended. The request runs in this task, not in
        another one, so that a store that answers without suspending answers before the body's next
        step. A body that blocks the loop once more does not use up its time.
        """
        try:
            async with running_time_limit(self._ttl_ms / 1000):
                return await self._renew_handle(self._ttl_ms)
        except TimeoutError:
            return "the store did not answer"
        except Exception as exc:  # as in `_renew_once`
            return str(exc)

    async def _sleep_until(self, moment: int) -> None:
        left_ms = moment - self._clock.steady_ms()
        if left_ms > 0:
            await self._clock.sleep(left_ms / 1000)

    def _set_deadline(self, requested: int, lifetime_ms: int) -> None:
        self._deadline = requested + lifetime_ms
        self._lifetime_ms = lifetime_ms

    def _on_lost(self, reason: str) -> None:
        if not self._armed:
            return  # the body has finished
        self._record_loss(reason)
        if self._cancel_body and self._body is not None:
            self._cancelled = True
            self._cancelling_at_loss = self._body.cancelling()
            self._body.cancel(self._message)

    def _record_loss(self, reason: str) -> None:
        self._reason = reason
        self._report_loss(reason)

    def _expiry_reason(self) -> str:
        """Why a lease whose deadline has passed is lost."""
        if self._renew:
            return "it was not renewed in time"
        return "it expired, and it is not renewed (renew=False)"
