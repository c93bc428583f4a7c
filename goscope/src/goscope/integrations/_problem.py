"""Answers to a request that failed, as problem details (RFC 9457) with fixed texts.

The text of an error names keys, hosts and processes: it belongs in the log, not in an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import (
    BackendBusy,
    BackendUnavailable,
    CircuitOpen,
    FingerprintMismatch,
    GoscopeError,
    LeaseLost,
    LockTimeout,
    OperationInProgress,
    TaskAlreadyRunning,
)

RETRY_AFTER_S: Final = 1
"""When a client should try again, if the error does not know."""


class Problem(NamedTuple):
    """An answer, and whether the same request may succeed later."""

    status: int
    title: str
    retry: bool = False

    def body(self, type: str = "about:blank") -> bytes:
        """Its JSON text. ``type`` is the address of a page about the problem."""
        return msgspec.json.encode({"type": type, "title": self.title, "status": self.status})

    def headers(self, exc: BaseException | None = None) -> dict[str, str]:
        """Its headers, without its length. ``exc`` may know when to try again."""
        headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
        after: float | None = getattr(exc, "retry_after", RETRY_AFTER_S)
        if self.retry and after is not None:  # None: a circuit that is forced open
            headers["retry-after"] = str(max(math.ceil(after), 1))
        return headers


PROBLEMS: Final[Mapping[type[GoscopeError], Problem]] = MappingProxyType(
    {
        BackendBusy: Problem(503, "The store of this service is busy.", retry=True),
        BackendUnavailable: Problem(503, "The store of this service is unavailable.", retry=True),
        CircuitOpen: Problem(503, "A service that this one needs is unavailable.", retry=True),
        LeaseLost: Problem(503, "The request was interrupted.", retry=True),
        # Not 423, which says that the client has to unlock something first.
        LockTimeout: Problem(503, "Other requests kept this one waiting too long.", retry=True),
        OperationInProgress: Problem(
            409, "A request with this idempotency key is in progress.", retry=True
        ),
        TaskAlreadyRunning: Problem(409, "This task is already running.", retry=True),
        FingerprintMismatch: Problem(
            422, "This idempotency key was used for another request: use a new key."
        ),
    }
)
"""The answer to each error that a client can do something about."""


def problem_of(exc: BaseException) -> Problem | None:
    """The answer to the error, None if it is a mistake of the program."""
    return next((PROBLEMS[cls] for cls in type(exc).__mro__ if cls in PROBLEMS), None)


async def send_problem(
    send: Any, problem: Problem, exc: BaseException | None = None, type: str = "about:blank"
) -> None:
    """Send the answer through the ``send`` of an ASGI application."""
    body = problem.body(type)
    headers = {**problem.headers(exc), "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
