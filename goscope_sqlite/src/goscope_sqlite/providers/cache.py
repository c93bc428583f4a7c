"""Cache entries. Companion rows hold tags and stale deadlines, which go-go-scope lacks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from goscope._tools.codec import DecodeError, decode
from goscope._tools.integer import MAX_INTEGER
from goscope.backend import (
    ANY_TAG,
    PAGE_SIZE,
    BaseCacheProvider,
    Fence,
    KeyedNotifier,
    NewEntry,
    StoreContext,
    StoredEntry,
    literal_prefix,
    prefix_successor,
)

from .._engine.protocol import Database, Row
from ..columns import (
    MAX_SECONDS,
    START,
    Position,
    digest,
    equivalent_rows,
    from_seconds,
    is_integer,
    seconds,
)
from .fence import check_fence
from .lock import remove
from .pattern import glob
from .unreadable import UnreadableRows

T = TypeVar("T")

MAX_DELETED_ROWS: Final = 100
"""The most entries that one write deletes: a few milliseconds of the write lock."""

NO_LEASE: Final = ""
"""No lease has this key."""

_LIVE: Final = f"(expires_at IS NULL OR expires_at > ? AND expires_at <= {MAX_SECONDS})"
_GET: Final = f"SELECT value FROM go_goscope_cache WHERE key = ? AND {_LIVE}"
_HAS: Final = f"SELECT value IS NOT NULL FROM go_goscope_cache WHERE key = ? AND {_LIVE}"
_GET_MANY: Final = f"""
    SELECT key, value FROM go_goscope_cache
    WHERE key IN (SELECT value FROM json_each(?)) AND {_LIVE}
"""
_READ: Final = """
    SELECT CAST(c.value AS BLOB), c.expires_at, CAST(s.digest AS BLOB), s.stale_until,
        CAST(s.tags AS BLOB)
    FROM go_goscope_cache AS c LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
    WHERE c.key = ?
"""
_REPLACE: Final = """
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, expires_at = excluded.expires_at, created_at = excluded.created_at
"""
_INSERT: Final = "INSERT INTO go_goscope_cache (key, value, expires_at, created_at)"
_WRITE: Final = f"{_INSERT} VALUES (?, ?, ?, ?) {_REPLACE}"
_WRITE_WITHOUT_COMPANION: Final = f"""
    {_INSERT} SELECT column1, column2, column3, column4 FROM (VALUES (?, ?, ?, ?, ?))
    WHERE NOT EXISTS (SELECT 1 FROM go_goscope_cache_companion WHERE key = column1)
        AND NOT EXISTS (SELECT 1 FROM go_goscope_locks WHERE key = column5) {_REPLACE}
"""
"""Skips an entry that has a companion row, or is being computed: column5 is the load lease. Most
are neither, and one statement takes half the time of two."""
_DELETE: Final = f"DELETE FROM go_goscope_cache WHERE key = CAST(? AS TEXT) RETURNING {_LIVE}"
_IS_STALE: Final = f"s.stale_until > ? AND s.stale_until <= {MAX_INTEGER}"
_DELETE_EXPIRED: Final = f"""
    DELETE FROM go_goscope_cache AS c
    WHERE c.rowid IN (SELECT value FROM json_each(?)) AND c.expires_at <= ? AND NOT EXISTS (
        SELECT 1 FROM go_goscope_cache_companion AS s WHERE s.key = c.key AND {_IS_STALE}
    )
"""
_NOT_TEXT: Final = "key IS NULL OR key >= x''"
"""A key of another type, which no scope can read: in SQLite's order blobs come after all texts."""
_DELETE_NOT_TEXT: Final = f"""
    DELETE FROM go_goscope_cache WHERE rowid IN (
        SELECT rowid FROM go_goscope_cache WHERE {_NOT_TEXT} LIMIT {MAX_DELETED_ROWS}
    )
"""
_ORPHANED: Final = """
    SELECT s.key FROM go_goscope_cache_companion AS s
    WHERE s.key IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (SELECT 1 FROM go_goscope_cache WHERE key = s.key)
"""
_PAGE: Final = f"""
    SELECT key FROM go_goscope_cache
    WHERE key >= CAST(? AS TEXT) AND key < ? AND (? OR {_LIVE}) ORDER BY key LIMIT ?
"""
_MATCHING_PAGE: Final = f"""
    SELECT key FROM go_goscope_cache
    WHERE key >= CAST(? AS TEXT) AND key < ? AND (? OR {_LIVE}) AND key GLOB ?
    ORDER BY key LIMIT ?
"""
_ROWID: Final = "SELECT rowid FROM go_goscope_cache WHERE key = CAST(? AS TEXT)"
_COUNT: Final = f"SELECT count(*) FROM go_goscope_cache WHERE key >= ? AND key < ? AND {_LIVE}"
_END_LOADS_OF: Final = """
    DELETE FROM go_goscope_locks WHERE key IN (SELECT value FROM json_each(?))
"""
_END_LOADS: Final = """
    DELETE FROM go_goscope_locks
    WHERE key >= ? AND key < ? AND key GLOB ?
        AND (? IS NULL OR instr(owner, ?) OR substr(owner, ?) = ?)
    RETURNING CAST(key AS BLOB)
"""
_TAGGED: Final = "SELECT key FROM go_goscope_cache_tags WHERE tag = ? ORDER BY key"

_WRITE_COMPANION: Final = """
    INSERT INTO go_goscope_cache_companion (key, digest, stale_until, tags) VALUES (?, ?, ?, ?)
"""
_READ_TAGS: Final = """
    SELECT CAST(tags AS BLOB) FROM go_goscope_cache_companion WHERE key = CAST(? AS TEXT)
"""
_DELETE_COMPANION: Final = """
    DELETE FROM go_goscope_cache_companion WHERE key = CAST(? AS TEXT)
"""
_WRITE_TAG: Final = "INSERT OR IGNORE INTO go_goscope_cache_tags (tag, key) VALUES (?, ?)"
_DELETE_TAG: Final = """
    DELETE FROM go_goscope_cache_tags WHERE tag = ? AND key = CAST(? AS TEXT)
"""

EXPIRED_PAGE: Final = f"""
    SELECT c.expires_at, c.rowid, c.key, {_IS_STALE}
    FROM go_goscope_cache AS c LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
    WHERE (c.expires_at, c.rowid) > (?, ?) AND c.expires_at <= ?
    ORDER BY c.expires_at, c.rowid LIMIT ?
"""


class SQLiteCacheProvider(BaseCacheProvider):
    """Cache entries, one row each. ``on_written`` is called with the length of written texts."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        lease_notifier: KeyedNotifier,
        on_written: Callable[[int], None],
    ) -> None:
        super().__init__(context, lease_notifier)
        self._database = database
        self._on_written = on_written
        self._unreadable = UnreadableRows()

    async def _get(self, key: str) -> str | None:
        row = await self._database.read_one(_GET, (key, self.context.clock.wall_ms() / 1000))
        return None if row is None else row[0]

    async def _has(self, key: str) -> bool:
        row = await self._database.read_one(_HAS, (key, self.context.clock.wall_ms() / 1000))
        return row is not None and bool(row[0])

    async def _get_many(self, keys: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        now = self.context.clock.wall_ms() / 1000
        for chunk in _chunks(keys, PAGE_SIZE):
            found.update(await self._database.read_all(_GET_MANY, (json.dumps(chunk), now)))
        return found

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else (_decode(row), self.context.clock.wall_ms())

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        now = self.context.clock.wall_ms()
        self._on_written(sum(len(entry.text) for entry in entries.values()))
        if fence is None and len(entries) == 1:
            [(key, new)] = entries.items()
            text, ttl_ms, stale_for_ms, tags = new
            if stale_for_ms is None and not tags:
                expires_at = None if ttl_ms is None else now + ttl_ms
                row = _row(key, text, expires_at, now, self.load_lease(key))
                if await self._database.submit(
                    partial(_write_plain, row=row), rows=equivalent_rows(text), autocommit=True
                ):
                    return

        stored = {key: entry.written_at(now) for key, entry in entries.items()}
        rows = sum(equivalent_rows(entry.text) for entry in entries.values())
        loads = {key: self._load_to_end(key, fence) for key in entries}

        def store(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            _write_all(connection, stored, now, loads)

        await self._database.submit(store, rows=rows)

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
        *,
        ends_load: bool = True,
    ) -> None:
        now = self.context.clock.wall_ms()
        load = self._load_to_end(key, fence) if ends_load else NO_LEASE

        def update(connection: sqlite3.Connection) -> int:
            check_fence(connection, fence)
            old = _read(connection, key)
            new = change(old)
            if new is None:
                remove(connection, load)
                _delete(connection, key, now)
            elif new is not old:
                _write(connection, key, new, now, load)
                return len(new.text)
            return 0

        self._on_written(await self._database.submit(update))

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        now = self.context.clock.wall_ms()
        deleted = 0
        for chunk in _chunks(keys, MAX_DELETED_ROWS):
            loads = [self._load_to_end(key, fence) for key in chunk]
            deleted += await self._database.submit(
                partial(_delete_all, keys=chunk, loads=loads, now=now, fence=fence),
                rows=len(chunk),
            )
        return deleted

    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        start = literal_prefix(pattern)
        bounds = (start, prefix_successor(start), glob(pattern))

        def end(connection: sqlite3.Connection) -> list[str]:
            marks = (mark, mark, -len(ANY_TAG), ANY_TAG)
            rows = connection.execute(_END_LOADS, (*bounds, *marks)).fetchall()
            return [row[0].decode(errors="replace") for row in rows]

        return await self._database.submit(end, autocommit=True)

    def _load_to_end(self, key: str, fence: Fence | None) -> str:
        """The load lease that a write to the key ends; `NO_LEASE` if it is the write's own."""
        load = self.load_lease(key)
        return NO_LEASE if fence is not None and fence.stored_key == load else load

    async def _clear(self, pattern: str) -> None:
        # One pass through the keys in order: concurrent writes cannot prolong it.
        after: str | bytes = ""
        while page := await self._stored_page(pattern, after, PAGE_SIZE, with_expired=True):
            await self._delete([key for key in page if isinstance(key, str)], None)
            for key in page:
                if isinstance(key, bytes):
                    await self._database.submit(partial(_delete, key=key, now=0))
            after = page[-1]
        if pattern == f"{self.context.prefix}cache:*":
            while await self._database.submit(_delete_not_text, rows=MAX_DELETED_ROWS):
                pass

    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        keys: list[str] = []
        position: str | bytes = after
        while missing := limit - len(keys):
            page = await self._stored_page(pattern, position, missing, with_expired=with_expired)
            keys += [key for key in page if isinstance(key, str)]
            for unreadable in page:
                if isinstance(unreadable, bytes):
                    await self._report_unreadable(unreadable)
            if len(page) < missing:
                break
            position = page[-1]
        return keys

    async def _stored_page(
        self, pattern: str, after: str | bytes, limit: int, *, with_expired: bool
    ) -> list[str | bytes]:
        """The next keys in the file; those that are not UTF-8, which nobody can read, as bytes."""
        now = self.context.clock.wall_ms()
        start = literal_prefix(pattern)
        last = after.encode() if isinstance(after, str) else after
        lowest = max(start.encode(), last + b"\0")  # keeps it one range scan
        bounds = (lowest, prefix_successor(start), with_expired, seconds(now))
        if pattern == f"{start}*":  # the bounds suffice, and GLOB would cost the most
            rows = await self._database.read_all(_PAGE, (*bounds, limit))
        else:
            rows = await self._database.read_all(_MATCHING_PAGE, (*bounds, glob(pattern), limit))
        return [row[0] for row in rows]

    async def _report_unreadable(self, key: bytes) -> None:
        for (rowid,) in await self._database.read_all(_ROWID, (key,)):
            reason = f"its key {key!r:.60} is not UTF-8. `clear` removes it"
            self._unreadable.report("go_goscope_cache", rowid, reason)

    async def _tagged(self, tag: str) -> list[str]:
        keys = [row[0] for row in await self._database.read_all(_TAGGED, (tag,))]
        # Without a prefix, a tag may have the name of another scope's tag with its prefix.
        return [key for key in keys if isinstance(key, str) and key.startswith(self._namespace)]

    async def _delete_by_tag(self, tag: str) -> int:
        now = self.context.clock.wall_ms()
        deleted = 0
        for chunk in _chunks(await self._tagged(tag), MAX_DELETED_ROWS):
            loads = {key: self.load_lease(key) for key in chunk}
            deleted += await self._database.submit(
                partial(_delete_tagged, loads=loads, now=now, tag=tag), rows=len(chunk)
            )
        return deleted

    async def _count(self, namespace: str) -> int:
        now = seconds(self.context.clock.wall_ms())
        parameters = (namespace, prefix_successor(namespace), now)
        rows = await self._database.read_all(_COUNT, parameters)
        count: int = rows[0][0]
        return count

    async def _prune(self, namespace: str) -> int:
        now = self.context.clock.wall_ms()
        position: Position | None = START
        pruned = 0
        while position is not None:
            rows, position = await expired_page(self._database, position, now, PAGE_SIZE)
            mine = [row for row in rows if isinstance(row.key, str)]
            mine = [row for row in mine if str(row.key).startswith(namespace)]
            for chunk in _chunks(mine, MAX_DELETED_ROWS):
                pruned += await self._database.submit(
                    partial(remove_expired, rows=chunk, now=now), rows=len(chunk)
                )
        return pruned


class Expired(NamedTuple):
    """An expired entry. Another program may have written a key of any type."""

    rowid: int
    key: object


async def expired_page(
    database: Database, after: Position, now: int, limit: int
) -> tuple[list[Expired], Position | None]:
    """The next expired entries that are not kept as stale, and the position of the next page.

    The position is None at the end. ``limit`` counts entries that are kept, too.
    """
    rows = await database.read_all(EXPIRED_PAGE, (now, *after, seconds(now), limit))
    expired = [Expired(rowid, key) for _, rowid, key, is_kept in rows if not is_kept]
    return expired, Position(*rows[-1][:2]) if len(rows) == limit else None


def remove_expired(connection: sqlite3.Connection, rows: Sequence[Expired], now: int) -> int:
    """Delete those entries that have expired and are not kept as stale, as part of a write."""
    # One statement: the thread releases the GIL for each, and has to get it back.
    rowids = json.dumps([row.rowid for row in rows])
    removed = connection.execute(_DELETE_EXPIRED, (rowids, seconds(now), now)).rowcount
    delete_orphaned_companions(connection, [row.key for row in rows])
    return removed


def delete_orphaned_companions(connection: sqlite3.Connection, keys: Iterable[object]) -> None:
    """Delete the companion rows of those keys that have no entry, as part of a write."""
    texts = json.dumps([key for key in keys if isinstance(key, str)])
    for (key,) in connection.execute(_ORPHANED, (texts,)).fetchall():
        delete_companion(connection, key)


def delete_companion(connection: sqlite3.Connection, key: str | bytes | None) -> None:
    """Delete the companion row and the tags of the entry, as part of a write."""
    # Read first: most entries have none, and a DELETE costs twice as much.
    for (tags,) in connection.execute(_READ_TAGS, (key,)).fetchall():
        connection.execute(_DELETE_COMPANION, (key,))
        connection.executemany(_DELETE_TAG, [(tag, key) for tag in _decode_tags(tags) or ()])


def _read(connection: sqlite3.Connection, key: str) -> StoredEntry | None:
    rows = connection.execute(_READ, (key,)).fetchall()
    try:
        return _decode(rows[0]) if rows else None
    except DecodeError:
        return None  # as for a reader: what nobody can read is not there


def _row(key: str, text: str, expires_at: int | None, now: int, load: str) -> Row:
    return key, text, None if expires_at is None else seconds(expires_at), now // 1000, load


def _write_all(
    connection: sqlite3.Connection,
    entries: Mapping[str, StoredEntry],
    now: int,
    loads: Mapping[str, str],
) -> None:
    for key, entry in entries.items():
        _write(connection, key, entry, now, loads[key])


def _write_plain(connection: sqlite3.Connection, row: Row) -> bool:
    """Store the row of an entry that needs no companion row. Return whether it had none, either."""
    return connection.execute(_WRITE_WITHOUT_COMPANION, row).rowcount > 0


def _write(
    connection: sqlite3.Connection, key: str, entry: StoredEntry, now: int, load: str
) -> None:
    """Store the entry and end the load lease."""
    row = _row(key, entry.text, entry.expires_at, now, load)
    if not _write_plain(connection, row):
        connection.execute(_WRITE, row[:-1])
        delete_companion(connection, key)
        remove(connection, load)
    if entry.tags or entry.stale_until is not None:
        tags = json.dumps(entry.tags)
        connection.execute(_WRITE_COMPANION, (key, digest(entry.text), entry.stale_until, tags))
        connection.executemany(_WRITE_TAG, [(tag, key) for tag in entry.tags])


def _delete(connection: sqlite3.Connection, key: str | bytes, now: int) -> bool:
    """Delete the entry. Return whether it was live."""
    rows = connection.execute(_DELETE, (key, seconds(now))).fetchall()
    delete_companion(connection, key)
    return bool(rows and rows[0][0])


def _delete_not_text(connection: sqlite3.Connection) -> int:
    """Delete some entries whose keys are not texts. Return how many."""
    return connection.execute(_DELETE_NOT_TEXT).rowcount


def _delete_all(
    connection: sqlite3.Connection,
    keys: Iterable[str],
    loads: list[str],
    now: int,
    fence: Fence | None,
) -> int:
    """Delete the entries and end the load leases. Return how many entries were live."""
    check_fence(connection, fence)
    connection.execute(_END_LOADS_OF, (json.dumps(loads),))
    return sum(_delete(connection, key, now) for key in keys)


def _delete_tagged(
    connection: sqlite3.Connection, loads: Mapping[str, str], now: int, tag: str
) -> int:
    """Delete the entries that still carry the tag, and end the load leases of those keys.

    Return how many were live.
    """
    deleted = 0
    for key, load in loads.items():
        entry = _read(connection, key)
        if entry is not None and tag in entry.tags:
            remove(connection, load)
            deleted += _delete(connection, key, now)
    return deleted


def _decode(row: Row) -> StoredEntry:
    """The entry in the row. Raises `DecodeError` for one that another program wrote differently."""
    stored, expires_at, described, stale_until, stored_tags = row
    try:
        text = stored.decode()
    except UnicodeDecodeError as exc:
        raise DecodeError(str(exc)) from exc
    entry = StoredEntry(text, from_seconds(expires_at))
    if described is None or described != digest(text).encode():  # no companion, or another text's
        return entry
    tags = _decode_tags(stored_tags)
    if tags is None or not (stale_until is None or is_integer(stale_until)):
        return entry
    return entry._replace(stale_until=stale_until, tags=tags)


def _decode_tags(stored: bytes) -> tuple[str, ...] | None:
    """The tags of a companion row; None for what another program wrote."""
    try:
        tags: tuple[str, ...] = decode(stored, tuple[str, ...])
    except DecodeError:
        return None
    return tags


def _chunks(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
