"""A scope in a Starlette application. Needs ``goscope[starlette]``.

app = Starlette(
    routes=[Route("/health", health), ...],
    lifespan=lifespan(gs),
    exception_handlers=exception_handlers(),
)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from .._scope import Scope
from ..errors import GoscopeError
from ._problem import PROBLEMS, Problem

A = TypeVar("A", bound=Starlette)
Handler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]

STATE: Final = "goscope"
"""The name of the scope in the state of requests: ``request.state.goscope``."""

_log = logging.getLogger("goscope")


def lifespan(
    gs: Scope, inner: Callable[[A], AbstractAsyncContextManager[Any]] | None = None
) -> Callable[[A], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """A lifespan that opens the scope at startup and closes it at shutdown.

    ``inner`` is the application's own lifespan: it runs while the scope is open, and its state is
    kept.
    """

    @asynccontextmanager
    async def opened(app: A) -> AsyncGenerator[Mapping[str, Any]]:
        async with gs:
            if inner is None:
                yield {STATE: gs}
            else:
                async with inner(app) as state:
                    yield {**(state or {}), STATE: gs}

    return opened


def get_scope(connection: HTTPConnection) -> Scope:
    """The scope of the application that serves the request or the websocket."""
    gs: Scope | None = getattr(connection.state, STATE, None)
    if gs is None:
        raise RuntimeError("this application has no scope: create it with lifespan=lifespan(gs)")
    return gs


def exception_handlers() -> dict[int | type[Exception], Handler]:
    """Handlers for the errors that a client can do something about.

    `CircuitOpen`, `LockTimeout` and a store that fails are 503 with ``Retry-After``;
    `OperationInProgress` and `TaskAlreadyRunning` are 409; `FingerprintMismatch` is 422. An answer
    does not have the text of the error, which names keys and hosts: that is logged.
    """
    return {cls: _handler(problem) for cls, problem in PROBLEMS.items()}


def _handler(problem: Problem) -> Handler:
    # A coroutine function: a plain one would run in a thread.
    async def answer(request: Request, exc: Any) -> Response:
        _log.info("%s %s: %s", request.method, request.url.path, exc)
        return Response(problem.body(), problem.status, problem.headers(exc))

    return answer


async def health(request: Request) -> Response:
    """An endpoint: 200 if the store of the scope answers, else 503. It reads and writes nothing."""
    try:
        gs = get_scope(request)
        lease = gs.persistence.lease
        if lease is not None:
            await lease.holder("health")
    except GoscopeError as exc:
        _log.warning("health check: %s", exc)
        return JSONResponse({"status": "unavailable"}, 503)
    return JSONResponse({"status": "ok"})
