"""The changes that an operator makes, refused if the record is not the one that was shown.

Each takes the lease that guards the record, compares, and changes it under that lease. So nothing
of goscope changes it in between. Each emits `OperatorAction`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from .. import Scope
from .._tools.key import check_key, escape_pattern
from ..errors import CapabilityMissing, LeaseLost
from ..events import OperatorAction
from ..inspection import CircuitInfo, LeaseInfo, TaskInfo
from ..maintenance import SupportsRevoke
from ..providers import (
    CacheEntry,
    CacheProvider,
    CircuitBreakerState,
    IdempotencyRecord,
    LockHandle,
)
from ._exit import NotFound, Refused, UsageError
from ._find import find_lease, find_task

LEASE_TTL_MS: Final = 10_000

CircuitChange: TypeAlias = Literal["open", "close", "reset"]


class EntryName(NamedTuple):
    """Names an entry of a collection, or with None of the cache."""

    collection: str | None
    key: str

    def __str__(self) -> str:
        place = "" if self.collection is None else f" of collection {self.collection!r}"
        return f"entry {self.key!r}{place}"

    @property
    def full_key(self) -> str:
        """The key as leases and events name it."""
        return self.key if self.collection is None else f"{self.collection}:{self.key}"

    @property
    def lease(self) -> str:
        """The lease that guards the computation of its value."""
        return f"{'cache' if self.collection is None else 'collection'}:{self.full_key}"


def report(gs: Scope, action: str, key: str) -> None:
    """Emit that an operator has changed the store."""
    gs._open_runtime().emit(OperatorAction, key, action=action)


async def release_lease(gs: Scope, lease: LeaseInfo) -> bool | None:
    """End this grant and no later one; None if a server forgot whether it was current."""
    adapter = gs.persistence
    provider: object = adapter.lock if lease.kind == "lock" else adapter.lease
    if not isinstance(provider, SupportsRevoke):
        raise _missing(gs, "way to end a grant by its token")
    if lease.fencing_token is None:
        raise Refused("the lease cannot be read, so it has no token: delete it in the store")
    key = lease.key if lease.kind in ("lock", "other") else f"{lease.kind}:{lease.key}"
    ended = await provider.revoke(key, lease.fencing_token)
    if ended is False:
        raise await _moved_on(gs, lease)
    report(gs, "locks release", lease.key)
    return ended


async def _moved_on(gs: Scope, lease: LeaseInfo) -> Refused:
    now = await find_lease(gs, lease.key, lease.kind)
    found = (
        "is free"
        if now is None
        else f"has token {now.fencing_token}, of {now.owner} (host {now.host}, pid {now.pid})"
    )
    return Refused(
        f"nothing was released: {lease.kind} {lease.key!r} with token {lease.fencing_token} has "
        f"ended, and now {found}"
    )


async def change_circuit(gs: Scope, shown: CircuitInfo, change: CircuitChange) -> None:
    """Force the circuit open or closed, or reset it."""
    breaker = gs.circuit_breaker(shown.key)
    expected = shown.state or CircuitBreakerState()
    if change == "open":
        done = await breaker.force_open(expected=expected)
    elif change == "close":
        done = await breaker.force_close(expected=expected)
    else:
        done = await breaker.reset(expected=expected)
    if not done:
        raise Refused(f"nothing was changed: circuit {shown.key!r} has changed since it was shown")
    report(gs, f"circuits {change}", shown.key)


async def delete_task(gs: Scope, shown: TaskInfo) -> None:
    """Delete the checkpoints of a task that nobody runs."""
    checkpoints = gs.persistence.checkpoint
    if checkpoints is None:
        raise _missing(gs, "checkpoint provider")
    async with _lease(gs, f"task:{shown.id}", f"task {shown.id!r} is running") as lease:
        now = await find_task(gs, shown.id)
        # Without a prefix, the lease of a task with one is another than that which is held here.
        if (
            now is not None
            and now.lease is not None
            and now.lease.fencing_token != (lease.fencing_token)
            and now.is_running
        ):
            raise Refused(f"nothing was deleted: task {shown.id!r} is running")
        if now is None or (now.sequence, now.saved_at, now.checkpoints) != (
            shown.sequence,
            shown.saved_at,
            shown.checkpoints,
        ):
            raise Refused(f"nothing was deleted: task {shown.id!r} has changed since it was shown")
        await checkpoints.delete_all(shown.id, fence=lease)
    report(gs, "tasks delete", shown.id)


async def forget_result(gs: Scope, key: str, shown: IdempotencyRecord) -> None:
    """Delete the result of an idempotent call, so that the next call runs."""
    results = gs.persistence.idempotency
    if results is None:
        raise _missing(gs, "idempotency provider")
    async with _lease(gs, f"idempotency:{key}", f"a call with key {key!r} is in flight"):
        now = await results.get(key, type=msgspec.Raw)
        if not _are_equal(now, shown):
            raise Refused(f"nothing was deleted: the result of {key!r} has changed")
        await results.delete(key)
    report(gs, "idempotency forget", key)


async def read_result(gs: Scope, key: str) -> IdempotencyRecord:
    """The result of an idempotent call, with its stored text. Raises `NotFound`."""
    results = gs.persistence.idempotency
    record = None if results is None else await results.get(key, type=msgspec.Raw)
    if record is None:
        raise not_found("result of a call", key)
    return record


async def delete_entry(gs: Scope, name: EntryName, shown: CacheEntry) -> None:
    """Delete the entry, unless it was written since it was shown."""
    async with _entry(gs, name, shown) as (entries, lease):
        await entries.delete(name.key, fence=lease)
    report(gs, "cache delete", name.full_key)


async def is_listed(gs: Scope, name: EntryName) -> bool:
    """Whether there is an entry that has not expired, readable or not."""
    listed = gs.inspect.entries(escape_pattern(name.key), collection=name.collection)
    return any([it.expires_in_ms is None or it.expires_in_ms > 0 async for it in listed])


async def delete_unread(gs: Scope, name: EntryName) -> None:
    """Delete the entry, whatever its value is."""
    await _entries(gs, name.collection).delete(name.key)
    report(gs, "cache delete", name.full_key)


async def set_entry(
    gs: Scope, name: EntryName, shown: CacheEntry | None, text: str, ttl_ms: int | None
) -> None:
    """Store the JSON text, unless the entry was written since it was shown; None: absent."""
    async with _entry(gs, name, shown) as (entries, lease):
        await entries.set(name.key, msgspec.Raw(text.encode()), ttl_ms, fence=lease)
    report(gs, "cache set", name.full_key)


async def read_entry(gs: Scope, name: EntryName) -> CacheEntry | None:
    """The entry with its stored text, None if it is absent.

    Raises `CorruptValue` if the value of a collection does not decode, `UsageError` for a name that
    no entry can have.
    """
    entries = _entries(gs, name.collection)
    try:
        check_key(name.full_key)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    return await entries.get_entry(name.key, type=msgspec.Raw)


def _entries(gs: Scope, collection: str | None) -> CacheProvider:
    cache = gs.persistence.cache
    if cache is None:
        raise _missing(gs, "cache provider")
    return cache if collection is None else cache.collection(collection)


@asynccontextmanager
async def _entry(
    gs: Scope, name: EntryName, shown: CacheEntry | None
) -> AsyncGenerator[tuple[CacheProvider, LockHandle]]:
    """The fence of a write to the entry: each other write to it ends that lease."""
    changed = Refused(f"nothing was changed: {name} has changed since it was shown")
    async with _lease(gs, name.lease, f"{name} is being computed") as lease:
        if not _are_equal(await read_entry(gs, name), shown):
            raise changed
        try:
            yield _entries(gs, name.collection), lease
        except LeaseLost:
            raise changed from None


@asynccontextmanager
async def _lease(gs: Scope, key: str, held: str) -> AsyncGenerator[LockHandle]:
    """Hold the lease that guards a record. Raises `Refused` if it is held."""
    leases = gs.persistence.lease
    assert leases is not None  # a scope does not open without
    lease = await leases.acquire(key, LEASE_TTL_MS)
    if lease is None:
        holder = await leases.holder(key)
        by = "" if holder is None else f" by {holder.owner} (host {holder.host}, pid {holder.pid})"
        raise Refused(f"nothing was changed: {held}{by}. Wait, or release its lease first")
    try:
        yield lease
    finally:
        await lease.release()


def _are_equal(
    now: CacheEntry | IdempotencyRecord | None, shown: CacheEntry | IdempotencyRecord | None
) -> bool:
    """Whether value and expiry are the same. Neither is the time left, which passes."""
    if now is None or shown is None:
        return now is shown
    return bytes(now.value) == bytes(shown.value) and now.expires_at == shown.expires_at


def not_found(kind: str, key: str) -> NotFound:
    """The error for a record that does not exist."""
    return NotFound(f"there is no {kind} {key!r}")


def _missing(gs: Scope, ability: str) -> CapabilityMissing:
    name = type(gs.persistence).__name__
    return CapabilityMissing(name, ability, "its backend has to provide one")
