"""One connection for all callers: what they send at the same time shares a round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, TypeAlias

from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

Command: TypeAlias = tuple[str | bytes | int, ...]

GRACE_S: Final = 0.1
"""How long a late answer may still be read. The event loop was blocked, or there is none."""


class ConnectionLost(Exception):
    """The connection ended before the answer.

    ``sent`` is whether the server may have executed the command.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class PipelinedConnection:
    """A connection that sends commands without waiting for the answers to earlier ones.

    One task writes whatever was submitted since its last write, another one reads the answers,
    which arrive in the order of the commands. A cancelled caller disturbs neither of them: its
    command is withdrawn if it was not sent yet, else its answer is dropped.

    When the oldest answer is late by ``timeout_s``, every call fails with `ConnectionLost`.
    """

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._unsent: list[tuple[list[bytes], asyncio.Future[Any]]] = []
        self._sent: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self.lost_reason = ""
        """Why the connection accepts no more commands; "" while it does."""
        self._writer = self._loop.create_task(self._write())
        self._reader = self._loop.create_task(self._read())

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Send the command soon. The future gets the answer, or an error of redis-py.

        Raises `ConnectionLost` if the connection has ended.
        """
        if self.lost_reason:
            raise ConnectionLost(self.lost_reason, sent=False)
        future = self._loop.create_future()
        self._unsent.append((self._connection.pack_command(*command), future))
        if self._wake is not None:
            self._wake.set_result(None)
            self._wake = None
        return future

    async def close(self) -> None:
        """Accept no more, wait for the answers to what was submitted, then close."""
        self.lost_reason = self.lost_reason or "it was closed"
        if self._unsent or self._sent:
            self._idle = self._idle or self._loop.create_future()
            await self._idle
        self.fail(self.lost_reason)
        assert self._closing is not None
        await asyncio.wait([self._closing, self._writer, self._reader])

    def fail(self, reason: str) -> None:
        """End the connection. Every unanswered call fails with `ConnectionLost`."""
        if self._closing is not None:
            return
        self.lost_reason = reason
        for task in (self._writer, self._reader):
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        unsent, self._unsent = self._unsent, []
        for _, future in unsent:
            _set_exception(future, ConnectionLost(reason, sent=False))
        for future, _ in self._sent:
            _set_exception(future, ConnectionLost(reason, sent=True))
        self._sent.clear()
        self._report_idle()
        self._closing = self._loop.create_task(self._connection.disconnect(nowait=True))

    # --- the two tasks -----------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            if not self._unsent:
                self._wake = self._loop.create_future()
                await self._wake
            calls = [call for call in self._unsent if not call[1].cancelled()]
            self._unsent.clear()
            now = self._loop.time()
            self._sent.extend((future, now) for _, future in calls)
            if self._timer is None:
                self._timer = self._loop.call_later(self._timeout_s, self._check_late, None)
            packed = b"".join(part for parts, _ in calls for part in parts)
            try:
                await self._connection.send_packed_command(packed, check_health=False)
            except Exception as exc:  # whatever it is, no caller may wait for its answer
                self.fail(_reason(exc))
                return
            if not self._sent:
                self._report_idle()

    async def _read(self) -> None:
        read: Any = self._connection.read_response  # its answers have no types
        sent = self._sent
        while True:
            try:
                answer = await read(disable_decoding=True, disconnect_on_error=False)
            except Exception as exc:
                if not sent or not _is_answer(exc):
                    self.fail(_reason(exc))
                    return
                _set_exception(sent.popleft()[0], exc)
            else:
                future, _ = sent.popleft()
                if not future.done():
                    future.set_result(answer)
            if not sent and not self._unsent:
                self._report_idle()

    # --- helpers -----------------------------------------------------------------------------

    def _check_late(self, late: asyncio.Future[Any] | None) -> None:
        """Fail if the oldest answer is ``late``, or watch the oldest one from now on."""
        self._timer = None
        if not self._sent:
            return
        oldest, sent_at = self._sent[0]
        left_s = sent_at + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check_late, None)
        elif oldest is late:
            self.fail(f"there was no answer for {self._timeout_s:g} s")
        else:
            self._timer = self._loop.call_later(GRACE_S, self._check_late, oldest)

    def _report_idle(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def _is_answer(exc: Exception) -> bool:
    """Whether the server answered the command with this error, and still listens."""
    if isinstance(exc, ResponseError):
        return True
    # redis-py derives some answers, such as LOADING and NOAUTH, from its ConnectionError.
    return isinstance(exc, RedisConnectionError) and type(exc) is not RedisConnectionError


def _reason(exc: Exception) -> str:
    return str(exc).rstrip(".") or type(exc).__name__


def _set_exception(future: asyncio.Future[Any], exc: Exception) -> None:
    if not future.done():
        future.set_exception(exc)
