"""Records every grant, renewal, release and write of an open adapter in the event log."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from goscope.errors import GoscopeError
from goscope.providers import PersistenceAdapter

from .event_log import Entry, Log

PRIMITIVES: Final = ("grant", "extend", "renew", "release")
"""The primitives of a lock provider, without their underscore."""

METHODS: Final = {
    "cache": ("set",),
    "circuit_breaker": ("set_state", "record_failure", "record_success"),
    "checkpoint": ("save", "cleanup", "delete_all"),
    "idempotency": ("set",),
}
"""The methods that take a fence and are called by the features of goscope or by the workers."""

WRITES: Final = [f"{ability}.{method}" for ability in METHODS for method in METHODS[ability]]


def record_calls(adapter: PersistenceAdapter, log: Log) -> None:
    """Wrap the primitives and methods of the adapter so that each call is logged."""
    for locks in (adapter.lock, adapter.lease):
        for kind in PRIMITIVES:
            primitive = getattr(locks, f"_{kind}")
            setattr(locks, f"_{kind}", _logged_primitive(primitive, kind, log))
    for ability, methods in METHODS.items():
        provider = getattr(adapter, ability)
        for method in methods:
            logged = _logged_write(getattr(provider, method), f"{ability}.{method}", log)
            setattr(provider, method, logged)


def _logged_primitive(
    primitive: Callable[..., Awaitable[Any]], kind: str, log: Log
) -> Callable[..., Any]:
    """Log a lock primitive. Its own future is returned, so that a cancellation reaches it."""

    def call(key: str, *arguments: Any) -> Awaitable[Any]:
        if "task-finished:" in key:  # it tells waiters, and is replaced by force
            return primitive(key, *arguments)
        token = None if kind == "grant" else arguments[0]
        ttl_ms = None if kind == "release" else arguments[1]
        entry = log.begin(kind, key, token=token, value=ttl_ms)
        future = asyncio.ensure_future(primitive(key, *arguments))
        if future.done():  # a callback would run after the next steps of the caller
            _log_outcome(entry, future)
        else:
            future.add_done_callback(functools.partial(_log_outcome, entry))
        return future

    return call


def _log_outcome(entry: Entry, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return  # the outcome is unknown
    error = future.exception()
    if error is None:
        entry.end(future.result())
    else:
        entry.error(error)


def _logged_write(method: Callable[..., Awaitable[Any]], kind: str, log: Log) -> Callable[..., Any]:
    """Log a write of a provider. A cancelled one has no end: its outcome is unknown."""

    async def call(target: Any, *arguments: Any, fence: Any = None, **options: Any) -> Any:
        key, value = _key_and_value(target, arguments)
        token = None if fence is None else fence.fencing_token
        stored = "" if fence is None else fence.stored_key
        entry = log.begin(kind, key, token=token, fence=stored, value=value)
        try:
            result = await method(target, *arguments, fence=fence, **options)
        except GoscopeError as exc:
            entry.error(exc)
            raise
        entry.end(result)
        return result

    return call


def _key_and_value(target: Any, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """The key and the value of a write. For a checkpoint: the task id and the data."""
    if isinstance(target, str):
        return target, getattr(arguments[0], "state", arguments[0]) if arguments else None
    return target.task_id, target.data
