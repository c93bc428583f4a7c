"""The changes that the page offers. A form carries the record that it has shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from .... import Scope
from ....inspection import CircuitInfo, LeaseInfo, TaskInfo
from ....providers import CacheEntry, IdempotencyRecord
from ..._changes import (
    CircuitChange,
    EntryName,
    change_circuit,
    delete_entry,
    delete_task,
    forget_result,
    read_entry,
    read_result,
    release_lease,
)
from ..._exit import NotFound, Refused
from ..._units import moment, size


class ShownValue(msgspec.Struct, frozen=True, kw_only=True):
    """An entry or a result as a form carries it: a digest stands for the text."""

    key: str
    collection: str | None = None
    size_bytes: int
    expires_at: int | None
    digest: str

    @classmethod
    def of(cls, name: EntryName, stored: CacheEntry | IdempotencyRecord) -> ShownValue:
        text = bytes(stored.value)
        return cls(
            key=name.key,
            collection=name.collection,
            size_bytes=len(text),
            expires_at=stored.expires_at,
            digest=sha256(text).hexdigest(),
        )

    @property
    def name(self) -> EntryName:
        return EntryName(self.collection, self.key)


class Action(NamedTuple):
    """One kind of change: of which record, what its button and its question say, and doing it.

    With ``read`` a link carries the `EntryName` that is read to get the record. ``page`` is where
    the record is listed.
    """

    record: type[Any]
    label: str
    question: Callable[[Any], str]
    done: str
    change: Callable[[Scope, Any], Awaitable[object]]
    read: Callable[[Scope, EntryName], Awaitable[Any]] | None = None
    page: Callable[[Any], str] = lambda _: "/"

    @property
    def linked(self) -> type[Any]:
        """What a link carries."""
        return self.record if self.read is None else EntryName


def _lease(it: LeaseInfo) -> str:
    return (
        f"Release {it.kind} {it.key!r} (token {it.fencing_token}) of {it.owner}, host {it.host}, "
        f"pid {it.pid}?"
    )


def _task(it: TaskInfo) -> str:
    return (
        f"Delete the {it.checkpoints} checkpoints ({size(it.size_bytes)}) of task {it.id!r}, the "
        f"last one saved {moment(it.saved_at)}?"
    )


def _circuit(question: str, it: CircuitInfo) -> str:
    return question.format(repr(it.key))


async def _change(change: CircuitChange, gs: Scope, it: CircuitInfo) -> None:
    await change_circuit(gs, it, change)


def _described(it: ShownValue) -> str:
    kept = "without an end" if it.expires_at is None else f"until {moment(it.expires_at)}"
    return f"({size(it.size_bytes)}, kept {kept})"


def _entry(it: ShownValue) -> str:
    return f"Delete {it.name} {_described(it)}?"


def _result(it: ShownValue) -> str:
    return (
        f"Delete the result of call {it.key!r} {_described(it)}, so that the next call with this "
        f"key runs?"
    )


async def _read_entry(gs: Scope, name: EntryName) -> ShownValue:
    entry = await read_entry(gs, name)
    if entry is None:
        raise NotFound(f"there is no {name}")
    return ShownValue.of(name, entry)


async def _delete_entry(gs: Scope, shown: ShownValue) -> None:
    entry = await read_entry(gs, shown.name)
    if entry is None or ShownValue.of(shown.name, entry) != shown:
        raise Refused(f"nothing was deleted: {shown.name} has changed since it was shown")
    await delete_entry(gs, shown.name, entry)


async def _read_result(gs: Scope, name: EntryName) -> ShownValue:
    return ShownValue.of(name, await read_result(gs, name.key))


async def _forget(gs: Scope, shown: ShownValue) -> None:
    result = await read_result(gs, shown.key)
    if ShownValue.of(shown.name, result) != shown:
        raise Refused(f"nothing was deleted: the result of {shown.key!r} has changed")
    await forget_result(gs, shown.key, result)


def cache_page_of(collection: str | None) -> str:
    """The page that lists a collection, or the cache."""
    return "/cache" if collection is None else f"/cache?{urlencode({'collection': collection})}"


def _cache_page(it: ShownValue) -> str:
    return cache_page_of(it.collection)


def _calls_page(_: ShownValue) -> str:
    return "/calls"


ACTIONS: Final[dict[str, Action]] = {
    "release": Action(LeaseInfo, "Release", _lease, "The lease was released.", release_lease),
    "delete": Action(TaskInfo, "Delete", _task, "The checkpoints were deleted.", delete_task),
    "open": Action(
        CircuitInfo,
        "Open",
        partial(_circuit, "Force circuit {} open, so that every call is rejected?"),
        "The circuit is forced open.",
        partial(_change, "open"),
    ),
    "close": Action(
        CircuitInfo,
        "Close",
        partial(_circuit, "Force circuit {} closed, so that calls are admitted?"),
        "The circuit is closed.",
        partial(_change, "close"),
    ),
    "reset": Action(
        CircuitInfo,
        "Reset",
        partial(_circuit, "Forget the state of circuit {}?"),
        "The circuit was reset.",
        partial(_change, "reset"),
    ),
    "delete-entry": Action(
        ShownValue,
        "Delete",
        _entry,
        "The entry was deleted.",
        _delete_entry,
        _read_entry,
        _cache_page,
    ),
    "forget": Action(
        ShownValue,
        "Forget",
        _result,
        "The result was deleted.",
        _forget,
        _read_result,
        _calls_page,
    ),
}
"""The changes by the name that URLs have for them."""
