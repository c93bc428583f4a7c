"""One request of an ASGI application whose answer is sent once it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, TypeAlias

import msgspec

from .._tools.cancellation import finish_before_cancel

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIScope: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[[ASGIScope, Receive, Send], Awaitable[None]]

BODY_HEADERS: Final = frozenset({"content-encoding", "content-type"})
"""Headers that a body cannot be read without."""

_BYPASSES: Final = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
"""Extensions by which an application sends a file without showing its bytes."""


class Answer(msgspec.Struct, frozen=True):
    """What is stored of an answer. ``body`` is None if it was too large."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


class Exchange:
    """Runs the application in a task, so that its background work outlasts the stored answer.

    The end of the answer is held back until `finish`: a client that has seen the whole answer knows
    that it is stored. What the application streams before that is sent at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: ASGIScope,
        body: bytes,
        receive: Receive,
        send: Send,
        max_bytes: int,
        headers: Collection[str],
    ) -> None:
        self.is_streaming = False
        self._app = app
        self._scope = _without_bypasses(scope)
        self._body: bytes | None = body
        self._receive_more = receive
        self._send_now = send
        self._max_bytes = max_bytes
        self._headers = headers
        self._start: Message = {}
        self._last: Message = {}
        self._stored: bytearray | None = bytearray()
        self._task: asyncio.Future[None] | None = None
        loop = asyncio.get_running_loop()
        self._complete: asyncio.Future[None] = loop.create_future()
        self._released: asyncio.Future[None] = loop.create_future()

    @property
    def is_complete(self) -> bool:
        """Whether the application has given the whole answer."""
        return self._complete.done()

    async def run(self) -> Answer:
        """Run the application until its answer is complete. Raises what it raises before that.

        Cancelled, it ends the application first: its lease is released only after that.
        """
        self._task = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        try:
            await asyncio.wait({self._task, self._complete}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.abort()
            raise
        if not self.is_complete:
            await self._task
            raise RuntimeError("the application ended without an answer")
        stored = None if self._stored is None else bytes(self._stored)
        return Answer(self._start["status"], self._kept_headers(), stored)

    async def finish(self) -> None:
        """Send the rest of the answer, and wait for the background work of the application."""
        assert self._task is not None
        if not self.is_streaming:
            await self._send_now(self._start)
        await self._send_now(self._last)
        self._released.set_result(None)
        await self._task

    async def abort(self) -> None:
        """Cancel the application, if it runs, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await finish_before_cancel(asyncio.wait({self._task}))
            if not self._task.cancelled():
                self._task.exception()  # retrieved: the caller raises what made it abort

    async def _receive(self) -> Message:
        if self._body is None:
            return await self._receive_more()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] != "http.response.body":
            await self._send_now(message)
        else:
            self._keep(message.get("body", b""))
            if message.get("more_body", False):
                await self._stream(message)
            else:
                self._last = message
                self._complete.set_result(None)
                await self._released

    async def _stream(self, message: Message) -> None:
        if not self.is_streaming:
            self.is_streaming = True
            await self._send_now(self._start)
        await self._send_now(message)

    def _keep(self, chunk: bytes) -> None:
        if self._stored is not None:
            self._stored += chunk
            if len(self._stored) > self._max_bytes:
                self._stored = None

    def _kept_headers(self) -> list[tuple[str, str]]:
        """Only those on the list: others, such as cookies, are for one caller at one time."""
        named = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in self._start.get("headers", ())
        ]
        return [(name, value) for name, value in named if name in self._headers]


def _without_bypasses(scope: ASGIScope) -> ASGIScope:
    extensions: dict[str, Any] = scope.get("extensions") or {}
    kept = {name: value for name, value in extensions.items() if name not in _BYPASSES}
    return {**scope, "extensions": kept}
