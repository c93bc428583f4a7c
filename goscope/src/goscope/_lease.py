"""Waiting for leases, keeping them, and ending a body whose lease was lost.

Every feature that must happen once holds a lease: see `LeaseQueue` for how it is waited for and
`LeaseGuard` for what happens while a body runs under it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from ._observers import Observers
from .backend import Clock, settle, wait_until
from .errors import GoscopeError, LeaseLost
from .events import LockLost
from .providers import LockHandle, LockProvider, SupportsWait

FIRST_POLL_MS: Final = 2
LAST_POLL_MS: Final = 50
POLL_SHARE: Final = 0.05
"""Polling waits this share of the time waited so far, so that short waits stay short."""

LOOK_MS: Final = 250
"""How often a waiter looks whether what it waits for was finished without it."""


class Granted(NamedTuple):
    """A lease just granted; ``deadline`` is the steady time up to which it surely runs."""

    handle: LockHandle
    deadline: int


class LeaseQueue:
    """Grants of one lock provider, first come, first served within this process."""

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
        """Take the lease, waiting up to ``wait_ms`` (None: without limit, 0: try once).

        Returns None when the time is over, or once ``finished()`` says that the lease is not
        needed any more. A cancelled caller leaves neither a lease nor a place in the queue behind.
        """
        queue = self._queues.setdefault(key, deque())
        began = self._clock.steady_ms()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            if queue[0] is not turn and not await self._wait_turn(turn, wait_ms):
                return None
            return await self._acquire_first(key, ttl_ms, began, wait_ms, finished)
        finally:
            self._leave(key, queue, turn)

    async def _wait_turn(self, turn: asyncio.Future[None], wait_ms: int | None) -> bool:
        if wait_ms is None:
            await turn
            return True
        return await wait_until(turn, wait_ms / 1000, self._clock)

    def _leave(
        self, key: str, queue: deque[asyncio.Future[None]], turn: asyncio.Future[None]
    ) -> None:
        queue.remove(turn)
        if not queue:
            self._queues.pop(key, None)
        elif not queue[0].done():
            queue[0].set_result(None)

    async def _acquire_first(
        self,
        key: str,
        ttl_ms: int,
        began: int,
        wait_ms: int | None,
        finished: Callable[[], Awaitable[bool]] | None,
    ) -> Granted | None:
        """Try, and wait for a release, until the lease is granted; for the head of the queue."""
        first = self._clock.steady_ms()
        while True:
            asked = self._clock.steady_ms()
            handle = await self.provider.acquire(key, ttl_ms)
            if handle is not None:
                return Granted(handle, asked + ttl_ms)
            now = self._clock.steady_ms()
            left_ms = None if wait_ms is None else began + wait_ms - now
            if left_ms is not None and left_ms <= 0:
                return None
            waiting = self._wait_released(key, now - first, left_ms)
            if finished is None:
                await waiting
            elif await self._finishes(finished, waiting):
                return None

    async def _finishes(
        self, finished: Callable[[], Awaitable[bool]], waiting: Coroutine[Any, Any, None]
    ) -> bool:
        """Wait, looking now and then whether the lease is needed no more; whether it is not."""
        task = asyncio.ensure_future(waiting)
        try:
            while not await wait_until(task, LOOK_MS / 1000, self._clock):
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
        pause_ms = min(max(waited_ms * POLL_SHARE, FIRST_POLL_MS), LAST_POLL_MS)
        if left_ms is not None:
            pause_ms = min(pause_ms, left_ms)
        await self._clock.sleep(pause_ms / 1000)


class LeaseGuard:
    """Keep a lease while a body runs, and end the body when the lease is lost.

    The lease is renewed at a third of its ttl. It counts as lost when renewal says no, or when
    none has succeeded by the deadline, that is the clock read before the last successful request
    was submitted, plus the ttl. Then the body's task is cancelled and `LeaseLost` raised from the
    block, in the way ``asyncio.timeout`` turns its cancellation into ``TimeoutError``:

    - an outside cancellation wins,
    - else the body's own exception propagates, with a note that the lease was lost,
    - else `LeaseLost` is raised, also when the body swallowed the cancellation, and when it blocked
      the event loop beyond the deadline and left nothing to cancel.

    On exit the watcher is disarmed first, then the lease is released, which no cancellation
    interrupts. With ``cancel_body=False`` a loss is only told by `lost`, and nothing is raised.
    """

    def __init__(
        self,
        granted: Granted,
        ttl_ms: int,
        *,
        clock: Clock,
        observers: Observers,
        key: str,
        renew: bool = True,
        cancel_body: bool = True,
    ) -> None:
        self.handle: Final = granted.handle
        self._deadline = granted.deadline
        self._ttl_ms = ttl_ms
        self._clock = clock
        self._observers = observers
        self._key = key
        self._renew = renew
        self._cancel_body = cancel_body
        self._reason: str | None = None
        self._armed = False
        self._cancelled = False
        self._ended = False

    @property
    def lost(self) -> bool:
        """Whether the lease is known to be lost."""
        return self._reason is not None

    def disarm(self) -> None:
        """Cancel the body no more: what it still does is refused by its fence when it must be.

        For a last write that ends the lease itself. A renewal that comes just after it is refused,
        and would otherwise cancel a body that has succeeded.
        """
        self._armed = False

    def ended(self) -> None:
        """Tell that the body's last write has ended the lease: nothing is left to release."""
        self._ended = True

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
        self._see_overrun()
        if self._cancelled:
            self._body.uncancel()
        failure = await self._release()
        if self._reason is not None and self._cancel_body and not self._ended:
            self._raise_loss(self._reason, exc)
        if failure is not None:
            if exc is None and self._cancel_body:
                raise failure
            if exc is not None:
                exc.add_note(f"and the lease could not be released: {failure}")

    def _see_overrun(self) -> None:
        """Note the loss that a body kept the watcher from seeing, as one that blocks the loop does.

        It is raised by this exit, in the body's own step: nothing is left to cancel.
        """
        overrun = self._clock.steady_ms() >= self._deadline and self.handle.lost
        if overrun and self._armed and self._reason is None:
            self._note_loss(self._overrun())

    def _raise_loss(self, reason: str, exc: BaseException | None) -> None:
        if self._body.cancelling() > self._cancelling:
            if not isinstance(exc, asyncio.CancelledError):
                raise asyncio.CancelledError from exc
        elif exc is None or isinstance(exc, asyncio.CancelledError):
            raise LeaseLost(self._key, reason) from exc
        else:
            exc.add_note(f"the lease on {self._key!r} was lost meanwhile: {reason}")

    async def _release(self) -> GoscopeError | None:
        """Stop watching and give the lease back; the error if the store failed meanwhile."""
        self._watcher.cancel()  # first: a loss while the lease is given back is none
        try:
            await settle(asyncio.ensure_future(self._stop()))
        except GoscopeError as failure:
            return failure
        return None

    async def _stop(self) -> None:
        await asyncio.wait([self._watcher])
        if not self._ended:
            await self.handle.release()

    # --- the watcher: a task of its own, so that it never cancels the current one -------------

    async def _watch(self) -> None:
        while True:
            if self._renew:
                await self._sleep_until(self._deadline - self._ttl_ms * 2 // 3)
                reason = await self._extend()
            else:
                await self._sleep_until(self._deadline)
                reason = self._overrun()
            if reason is not None:
                self._lose(reason)
                return

    async def _sleep_until(self, moment: int) -> None:
        left_ms = moment - self._clock.steady_ms()
        if left_ms > 0:
            await self._clock.sleep(left_ms / 1000)

    async def _extend(self) -> str | None:
        """Renew the lease, trying again until the deadline; None, or why it is lost."""
        error = ""
        while True:
            asked = self._clock.steady_ms()
            left_ms = self._deadline - asked
            if left_ms <= 0:
                return f"{self._overrun()}{error}"
            renewed = await self._ask(left_ms)
            if renewed is True:
                self._deadline = asked + self._ttl_ms
                return None
            if renewed is False:
                return "renewing it was refused: it expired, was released or was taken over"
            error = f" ({renewed})"
            retry_at = self._clock.steady_ms() + self._ttl_ms // 10 + 1
            await self._sleep_until(min(retry_at, self._deadline))

    async def _ask(self, left_ms: int) -> bool | str:
        """One request for renewal: its answer, or what went wrong until the time was over."""
        request = asyncio.ensure_future(self.handle.extend(self._ttl_ms))
        request.add_done_callback(_see_exception)
        try:
            if not await wait_until(request, left_ms / 1000, self._clock):
                return "the store did not answer"
            return "the store gave the request up" if request.cancelled() else request.result()
        except Exception as exc:  # a backend may raise anything; the deadline bounds the attempts
            return str(exc)
        finally:
            request.cancel()

    def _lose(self, reason: str) -> None:
        if not self._armed:
            return  # the body is through
        self._note_loss(reason)
        if self._cancel_body:
            self._cancelled = True
            self._body.cancel()

    def _note_loss(self, reason: str) -> None:
        self._reason = reason
        if self._observers.active:
            self._observers.emit(LockLost(key=self._key, reason=reason))

    def _overrun(self) -> str:
        """Why a lease is lost whose deadline has passed."""
        if self._renew:
            return "it was not renewed in time"
        return "its time ran out, and it is not renewed (renew=False)"


def _see_exception(request: asyncio.Future[bool]) -> None:
    """Keep asyncio from reporting the error of a request that was given up."""
    if not request.cancelled():
        request.exception()
