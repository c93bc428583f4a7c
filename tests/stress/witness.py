"""Writes down every grant, renewal, release and guarded write of an open adapter."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

from goscope.errors import GoscopeError
from goscope_sqlite import SQLiteAdapter

from .record import Entry, Log

METHODS: Final = {
    "cache": ("set",),
    "circuit_breaker": ("set_state", "record_failure", "record_success"),
    "checkpoint": ("save", "cleanup", "delete_all"),
    "idempotency": ("set",),
}
"""The methods that take a fence and that goscope's features, or the workers, call."""

WRITES: Final = [f"{ability}.{method}" for ability in METHODS for method in METHODS[ability]]


def witness(adapter: SQLiteAdapter, log: Log) -> None:
    """Let the adapter's providers tell the log what they are asked and what they answer."""
    for locks in (adapter.lock, adapter.lease):
        for primitive, what in (("_grant", "grant"), ("_extend", "renew"), ("_release", "release")):
            setattr(locks, primitive, _told(getattr(locks, primitive), what, log))
    for ability, methods in METHODS.items():
        provider = getattr(adapter, ability)
        for method in methods:
            told = _written(getattr(provider, method), f"{ability}.{method}", log)
            setattr(provider, method, told)


def _told(primitive: Callable[..., Awaitable[Any]], what: str, log: Log) -> Callable[..., Any]:
    """A primitive of locks; its own future is returned, which knows how to be cancelled."""

    def call(key: str, *arguments: Any) -> Awaitable[Any]:
        token = None if what == "grant" else arguments[0]
        ttl_ms = None if what == "release" else arguments[1]
        entry = log.begin(what, key, token=token, value=ttl_ms)
        future = asyncio.ensure_future(primitive(key, *arguments))
        future.add_done_callback(functools.partial(_answered, entry))
        return future

    return call


def _answered(entry: Entry, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return  # it may have happened or not
    error = future.exception()
    if error is None:
        entry.end(future.result())
    else:
        entry.error(error)


def _written(method: Callable[..., Awaitable[Any]], what: str, log: Log) -> Callable[..., Any]:
    """A write of a provider; one that is cancelled has begun and never ends."""

    async def call(target: Any, *arguments: Any, fence: Any = None, **options: Any) -> Any:
        key, value = _described(target, arguments)
        token = None if fence is None else fence.fencing_token
        stored = "" if fence is None else fence.stored_key
        entry = log.begin(what, key, token=token, fence=stored, value=value)
        try:
            result = await method(target, *arguments, fence=fence, **options)
        except GoscopeError as exc:
            entry.error(exc)
            raise
        entry.end(result)
        return result

    return call


def _described(target: Any, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """The key and the value of a write; those of a checkpoint are its task's and its data."""
    if isinstance(target, str):
        return target, getattr(arguments[0], "state", arguments[0]) if arguments else None
    return target.task_id, target.data
