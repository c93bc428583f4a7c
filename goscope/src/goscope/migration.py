"""Moving what one store holds to another store, record by record: ``goscope migrate``.

What moves is what the prefix of the source sees. The source keeps everything. Where the destination
has another record for a key, that one stays, unless `migrate` is told to overwrite it. So a
migration may be stopped anywhere and run again.
"""

from __future__ import annotations

from asyncio import TaskGroup
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from ._record_kinds import KINDS, Kind, KindName, Store, adopt
from ._settings import resolve
from ._tools.process import this_process, unique_name
from .backend import BaseAdapter
from .errors import BackendCorrupt, CheckpointConflict, ConfigurationError
from .providers import LockHolder, PersistenceAdapter

__all__ = ["Difference", "KindName", "Migrated", "OnProgress", "exists", "migrate", "open_adapter"]

CONCURRENT_RECORDS: Final = 64
"""How many records are copied at the same time, so that their writes share a commit."""

LISTED_DIFFERENCES: Final = 100
"""How many differences of one kind are listed. All are counted."""

_TOKEN_LEASE_MS: Final = 10_000

_UNREADABLE: Final = (ValueError, BackendCorrupt)
"""What a record raises that another program has written; the others can still be read."""

OnProgress: TypeAlias = Callable[[KindName, int], None]
"""Called with a kind, and how many of its records have been read so far."""


class Difference(msgspec.Struct, frozen=True):
    """Why the stores do not hold the same record for a key."""

    key: str
    reason: str


class Migrated(msgspec.Struct):
    """What has become of the records of one kind.

    ``found`` were listed in the source. Of these ``moved`` were written, or would be in a dry run,
    ``present`` were in the destination already, ``kept`` differ there and were not overwritten,
    ``expired`` were not live any more, and ``unreadable`` could not be read or written.
    ``verified`` live ones are equal in both stores, compared after the last write; ``differing``
    are not, and ``extra`` ones are in the destination alone, such as those that the source has
    deleted since an earlier run. ``differences`` are the first 100 of what is kept, unreadable,
    differing or extra.
    """

    kind: KindName
    found: int = 0
    moved: int = 0
    present: int = 0
    kept: int = 0
    expired: int = 0
    unreadable: int = 0
    verified: int = 0
    differing: int = 0
    extra: int = 0
    differences: list[Difference] = []

    def note(self, key: str, reason: str) -> None:
        """Add a difference, as long as they are few, unless the key has one."""
        noted = any(it.key == key for it in self.differences)
        if not noted and len(self.differences) < LISTED_DIFFERENCES:
            self.differences.append(Difference(key, reason))


async def exists(url: str) -> bool | None:
    """Whether the store of a URL exists; None if its backend cannot tell. Creates nothing.

    Raises `ConfigurationError` for a URL that cannot be opened.
    """
    settings = resolve(url, None, {})
    check = settings.backend.exists
    return None if check is None else await check(settings.options)


def open_adapter(url: str) -> PersistenceAdapter:
    """The adapter of a URL, not connected yet, whose ``lock`` is the one in the store.

    Raises `ConfigurationError`.
    """
    settings = resolve(url, None, {})
    if hasattr(settings.options, "locks"):
        settings = resolve(url, None, {"locks": "shared"})
    return settings.open()


async def migrate(
    source: PersistenceAdapter,
    destination: PersistenceAdapter | None,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Sequence[Migrated]:
    """Copy all records of the source to the destination, and compare both; the result by kind.

    The adapters are connected, and nothing else writes to the destination. In a dry run nothing is
    written or compared, and ``destination`` None stands for a store that does not exist yet.

    Raises `ConfigurationError` before any record is written: for one store given twice, for a store
    that lacks a provider, and for a destination that would grant fencing tokens which are not above
    those of the source. Raises `BackendError` while it runs. After an error or a cancellation, call
    it again.
    """
    if _is_one_store(source, destination):
        raise ConfigurationError(
            "source and destination are the same store, or one is a copy of the other's file: "
            "name another destination"
        )
    here, there = Store(source), None if destination is None else Store(destination)
    if there is not None and not dry_run:
        await _raise_tokens(here, there)
    copier = _Copier(here, there, overwrite, dry_run, on_progress)
    migrated = [await copier.copy(kind) for kind in KINDS]
    if not dry_run:
        for kind, result in zip(KINDS, migrated, strict=True):
            await copier.verify(kind, result)
    return migrated


class _Copier:
    """One run: two stores and the choices of the caller."""

    def __init__(
        self,
        source: Store,
        destination: Store | None,
        overwrite: bool,
        dry_run: bool,
        on_progress: OnProgress | None,
    ) -> None:
        self._source = source
        self._destination = destination
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._on_progress = on_progress

    async def copy(self, kind: Kind[Any]) -> Migrated:
        """Copy what the destination lacks."""
        result = Migrated(kind.name)

        async def copy_one(key: str) -> None:
            try:
                await self._copy_one(kind, key, result)
            except (*_UNREADABLE, CheckpointConflict) as exc:
                result.unreadable += 1
                result.note(key, f"cannot be moved: {exc}")

        if self._destination is not None:
            await kind.prepare(self._destination)
        async for keys in _chunks(kind, self._source):
            result.found += len(keys)
            await _for_each(copy_one, keys)
            if self._on_progress is not None:
                self._on_progress(kind.name, result.found)
        return result

    async def verify(self, kind: Kind[Any], result: Migrated) -> None:
        """Compare all live records of both stores, and change nothing."""
        destination = self._destination
        assert destination is not None  # only a dry run has none

        async def compare(key: str) -> None:
            other, problem = None, "is missing in the destination"
            try:
                other = await kind.read(destination, key)
            except _UNREADABLE:
                problem = "cannot be read in the destination"
            try:
                # After the other one: what has expired in both is not missing.
                record = await kind.read(self._source, key)
            except _UNREADABLE:
                return  # as noted when it was copied
            if record is None:
                return
            if other is not None and kind.are_equal(record, other):
                result.verified += 1
            else:
                result.differing += 1
                result.note(key, problem if other is None else "differs in the destination")

        async def look_for_more(key: str) -> None:
            try:
                if await kind.read(self._source, key) is not None:
                    return
                record = await kind.read(destination, key)
            except _UNREADABLE:
                return
            if record is not None and not kind.ends_soon(record):
                result.extra += 1
                result.note(key, "is in the destination alone")

        await kind.prepare(destination)
        async for keys in _chunks(kind, self._source):
            await _for_each(compare, keys)
        async for keys in _chunks(kind, destination):
            await _for_each(look_for_more, keys)

    async def _copy_one(self, kind: Kind[Any], key: str, result: Migrated) -> None:
        record = await kind.read(self._source, key)
        if record is None:
            result.expired += 1
            return
        destination = self._destination
        old = None if destination is None else await kind.read(destination, key)
        if old is not None and kind.are_equal(record, old):
            result.present += 1
        elif old is not None and not kind.may_replace(record, old, overwrite=self._overwrite):
            result.kept += 1
            if self._dry_run:
                result.note(key, "differs in the destination")
        else:
            if destination is not None and not self._dry_run:
                await kind.write(destination, key, record, old)
            result.moved += 1


async def _chunks(kind: Kind[Any], store: Store) -> AsyncIterator[list[str]]:
    """The keys of a store, some at a time."""
    keys: dict[str, None] = {}  # a store that scans its keys may list one twice
    async for key in kind.keys(store):
        keys[key] = None
        if len(keys) == CONCURRENT_RECORDS:
            yield list(keys)
            keys.clear()
    if keys:
        yield list(keys)


async def _for_each(work: Callable[[str], Any], keys: Sequence[str]) -> None:
    """Run the work for all keys at the same time. Raises the first error, without a group."""
    try:
        async with TaskGroup() as group:
            for key in keys:
                group.create_task(work(key))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _raise_tokens(source: Store, destination: Store) -> None:
    """Let each token that the destination grants from now on be above all of the source."""
    name = f"migration:{unique_name()}"
    granted = await source.lease.acquire(name, _TOKEN_LEASE_MS)
    assert granted is not None  # nobody else knows the name
    await granted.release()
    me = this_process()
    holder = LockHolder(
        owner=granted.owner,
        host=me.host,
        pid=me.pid,
        since=source.clock.wall_ms(),
        expires_in_ms=_TOKEN_LEASE_MS,
        fencing_token=granted.fencing_token,
    )
    adopted = await adopt(destination.lease, name, holder)
    assert adopted is not None
    await adopted.release()
    highest, next_one = granted.fencing_token or 0, adopted.fencing_token or 0
    if next_one <= highest:
        raise ConfigurationError(
            f"the fencing tokens of the destination, {next_one} is the next one, are not above "
            f"those of the source, up to {highest}: what compares them would refuse later "
            f"grants. Nothing was moved. Choose a backend that can raise its tokens, or set the "
            f"clock of its server"
        )


def _is_one_store(source: PersistenceAdapter, destination: PersistenceAdapter | None) -> bool:
    if not isinstance(source, BaseAdapter) or not isinstance(destination, BaseAdapter):
        return source is destination
    return source.context.store_id == destination.context.store_id
