"""Cache entries. Companion rows hold tags and stale deadlines, which go-go-scope lacks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from goscope.backend import (
    PAGE_SIZE,
    BaseCacheProvider,
    Fence,
    StoreContext,
    StoredEntry,
    literal_prefix,
)

from .._engine.multi_row_insert import InsertRow, MultiRowInsert
from .._engine.protocol import Database, Row
from ..columns import digest, equivalent_rows, from_seconds, prefix_successor, seconds
from .fence import check_fence

MAX_DELETED_ROWS: Final = 100
"""The most entries that one write deletes: a few milliseconds of the write lock."""

_LIVE: Final = "(expires_at IS NULL OR expires_at > ?)"
_GET: Final = f"SELECT value FROM go_goscope_cache WHERE key = ? AND {_LIVE}"
_GET_MANY: Final = f"""
    SELECT key, value FROM go_goscope_cache
    WHERE key IN (SELECT value FROM json_each(?)) AND {_LIVE}
"""
_READ: Final = """
    SELECT c.value, c.expires_at, s.digest, s.stale_until, s.tags
    FROM go_goscope_cache AS c LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
    WHERE c.key = ?
"""
_REPLACE: Final = """
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value, expires_at = excluded.expires_at, created_at = excluded.created_at
"""
_INSERT: Final = "INSERT INTO go_goscope_cache (key, value, expires_at, created_at)"
_WRITE: Final = f"{_INSERT} VALUES (?, ?, ?, ?) {_REPLACE}"
_WRITE_WITHOUT_COMPANION: Final = MultiRowInsert(
    f"""
    {_INSERT} SELECT * FROM (VALUES {{rows}})
    WHERE NOT EXISTS (SELECT 1 FROM go_goscope_cache_companion WHERE key = column1) {_REPLACE}
    """,
    columns=4,
)
"""Skips entries that have a companion row. Most have none, and one statement takes half the time of
two."""
_DELETE: Final = "DELETE FROM go_goscope_cache WHERE key = ? RETURNING expires_at"
_DELETE_EXPIRED: Final = """
    DELETE FROM go_goscope_cache AS c
    WHERE c.key IN (SELECT value FROM json_each(?)) AND c.expires_at <= ? AND NOT EXISTS (
        SELECT 1 FROM go_goscope_cache_companion AS s WHERE s.key = c.key AND s.stale_until > ?
    )
"""
_ORPHANED: Final = """
    SELECT s.key FROM go_goscope_cache_companion AS s
    WHERE s.key IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (SELECT 1 FROM go_goscope_cache WHERE key = s.key)
"""
_PAGE: Final = f"""
    SELECT key FROM go_goscope_cache
    WHERE key >= ? AND key < ? AND {_LIVE} ORDER BY key LIMIT ?
"""
_MATCHING_PAGE: Final = f"""
    SELECT key FROM go_goscope_cache
    WHERE key >= ? AND key < ? AND {_LIVE} AND key GLOB ? ORDER BY key LIMIT ?
"""
_COUNT: Final = f"SELECT count(*) FROM go_goscope_cache WHERE key >= ? AND key < ? AND {_LIVE}"
_TAGGED: Final = "SELECT key FROM go_goscope_cache_tags WHERE tag = ? ORDER BY key"

_WRITE_COMPANION: Final = """
    INSERT INTO go_goscope_cache_companion (key, digest, stale_until, tags) VALUES (?, ?, ?, ?)
"""
_READ_TAGS: Final = "SELECT tags FROM go_goscope_cache_companion WHERE key = ?"
_DELETE_COMPANION: Final = "DELETE FROM go_goscope_cache_companion WHERE key = ?"
_WRITE_TAG: Final = "INSERT OR IGNORE INTO go_goscope_cache_tags (tag, key) VALUES (?, ?)"
_DELETE_TAG: Final = "DELETE FROM go_goscope_cache_tags WHERE tag = ? AND key = ?"

EXPIRED_PAGE: Final = """
    SELECT c.key, c.expires_at, c.rowid, s.stale_until
    FROM go_goscope_cache AS c LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
    WHERE (c.expires_at, c.rowid) > (?, ?) AND c.expires_at <= ?
    ORDER BY c.expires_at, c.rowid LIMIT ?
"""


class SQLiteCacheProvider(BaseCacheProvider):
    """Cache entries, one row each."""

    def __init__(self, context: StoreContext, database: Database) -> None:
        super().__init__(context)
        self._database = database

    async def _get(self, key: str, now: int) -> str | None:
        row = await self._database.read_one(_GET, (key, now / 1000))
        return None if row is None else row[0]

    async def _get_many(self, keys: list[str], now: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for chunk in _chunks(keys, PAGE_SIZE):
            found.update(await self._database.read_all(_GET_MANY, (json.dumps(chunk), now / 1000)))
        return found

    async def _get_entry(self, key: str) -> StoredEntry | None:
        row = await self._database.read_one(_READ, (key,))
        return None if row is None else _decode(row)

    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        now = self.context.clock.wall_ms()
        rows = sum(equivalent_rows(entry.text) for entry in entries.values())
        if fence is None and len(entries) == 1:
            [(key, entry)] = entries.items()
            if _is_plain(entry) and await self._database.submit(
                InsertRow(_WRITE_WITHOUT_COMPANION, _row(key, entry, now)),
                rows=rows,
                autocommit=True,
            ):
                return

        def store(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            _write_all(connection, entries, now)

        await self._database.submit(store, rows=rows)

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
    ) -> None:
        now = self.context.clock.wall_ms()

        def update(connection: sqlite3.Connection) -> None:
            check_fence(connection, fence)
            old = _read(connection, key)
            new = change(old)
            if new is None:
                _delete(connection, key, now)
            elif new != old:
                _write(connection, key, new, now)

        await self._database.submit(update)

    async def _delete(self, keys: list[str], now: int, fence: Fence | None) -> int:
        deleted = 0
        for chunk in _chunks(keys, MAX_DELETED_ROWS):
            deleted += await self._database.submit(
                partial(_delete_all, keys=chunk, now=now, fence=fence), rows=len(chunk)
            )
        return deleted

    async def _clear(self, pattern: str) -> None:
        # One pass through the keys in order: concurrent writes cannot prolong it.
        after = ""
        while page := await self._page(pattern, after, PAGE_SIZE, -1):
            await self._delete(page, 0, None)
            after = page[-1]

    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        start = literal_prefix(pattern)
        lowest = max(start, f"{after}\0")  # keeps it one range scan
        bounds = (lowest, prefix_successor(start), seconds(now))
        if pattern == f"{start}*":  # the bounds suffice, and GLOB would cost the most
            rows = await self._database.read_all(_PAGE, (*bounds, limit))
        else:
            rows = await self._database.read_all(_MATCHING_PAGE, (*bounds, _glob(pattern), limit))
        return [row[0] for row in rows]

    async def _tagged(self, tag: str) -> list[str]:
        return [row[0] for row in await self._database.read_all(_TAGGED, (tag,))]

    async def _delete_by_tag(self, tag: str, now: int) -> int:
        deleted = 0
        for chunk in _chunks(await self._tagged(tag), MAX_DELETED_ROWS):
            deleted += await self._database.submit(
                partial(_delete_tagged, keys=chunk, now=now, tag=tag), rows=len(chunk)
            )
        return deleted

    async def _count(self, namespace: str, now: int) -> int:
        parameters = (namespace, prefix_successor(namespace), seconds(now))
        rows = await self._database.read_all(_COUNT, parameters)
        count: int = rows[0][0]
        return count

    async def _prune(self, namespace: str, now: int) -> int:
        position: Position | None = START
        pruned = 0
        while position is not None:
            keys, position = await expired_page(self._database, position, now, PAGE_SIZE)
            mine = [key for key in keys if key.startswith(namespace)]
            for chunk in _chunks(mine, MAX_DELETED_ROWS):
                pruned += await self._database.submit(
                    partial(remove_expired, keys=chunk, now=now), rows=len(chunk)
                )
        return pruned


class Position(NamedTuple):
    """The last entry of a page of expired entries."""

    expires_at: float
    rowid: int


START: Final = Position(float("-inf"), 0)


async def expired_page(
    database: Database, after: Position, now: int, limit: int
) -> tuple[list[str], Position | None]:
    """The next expired keys that are not kept as stale, and the position of the next page.

    The position is None at the end. ``limit`` counts entries that are kept, too.
    """
    rows = await database.read_all(EXPIRED_PAGE, (*after, seconds(now), limit))
    keys = [row[0] for row in rows if row[3] is None or row[3] <= now]
    return keys, Position(*rows[-1][1:3]) if len(rows) == limit else None


def remove_expired(connection: sqlite3.Connection, keys: Iterable[str], now: int) -> int:
    """Delete those entries that have expired and are not kept as stale, as part of a write."""
    # One statement: the thread releases the GIL for each, and has to get it back.
    wanted = json.dumps(list(keys))
    removed = connection.execute(_DELETE_EXPIRED, (wanted, seconds(now), now)).rowcount
    for (key,) in connection.execute(_ORPHANED, (wanted,)).fetchall():
        delete_companion(connection, key)
    return removed


def delete_companion(connection: sqlite3.Connection, key: str) -> None:
    """Delete the companion row and the tags of the entry, as part of a write."""
    # Read first: most entries have none, and a DELETE costs twice as much.
    for (tags,) in connection.execute(_READ_TAGS, (key,)).fetchall():
        connection.execute(_DELETE_COMPANION, (key,))
        connection.executemany(_DELETE_TAG, [(tag, key) for tag in json.loads(tags)])


def _read(connection: sqlite3.Connection, key: str) -> StoredEntry | None:
    rows = connection.execute(_READ, (key,)).fetchall()
    return _decode(rows[0]) if rows else None


def _is_plain(entry: StoredEntry) -> bool:
    """Whether the entry needs no companion row."""
    return not entry.tags and entry.stale_until is None


def _row(key: str, entry: StoredEntry, now: int) -> Row:
    expires_at = None if entry.expires_at is None else seconds(entry.expires_at)
    return key, entry.text, expires_at, now // 1000


def _write_all(
    connection: sqlite3.Connection, entries: Mapping[str, StoredEntry], now: int
) -> None:
    if all(map(_is_plain, entries.values())):
        rows = [_row(key, entry, now) for key, entry in entries.items()]
        if _WRITE_WITHOUT_COMPANION.execute(connection, rows) == len(rows):
            return
    for key, entry in entries.items():
        _write(connection, key, entry, now)


def _write(connection: sqlite3.Connection, key: str, entry: StoredEntry, now: int) -> None:
    row = _row(key, entry, now)
    if not _WRITE_WITHOUT_COMPANION.execute(connection, [row]):
        connection.execute(_WRITE, row)
        delete_companion(connection, key)
    if not _is_plain(entry):
        tags = json.dumps(entry.tags)
        connection.execute(_WRITE_COMPANION, (key, digest(entry.text), entry.stale_until, tags))
        connection.executemany(_WRITE_TAG, [(tag, key) for tag in entry.tags])


def _delete(connection: sqlite3.Connection, key: str, now: int) -> bool:
    """Delete the entry. Return whether it was live."""
    rows = connection.execute(_DELETE, (key,)).fetchall()
    delete_companion(connection, key)
    return bool(rows) and (rows[0][0] is None or rows[0][0] > seconds(now))


def _delete_all(
    connection: sqlite3.Connection, keys: Iterable[str], now: int, fence: Fence | None
) -> int:
    """Delete the entries. Return how many were live."""
    check_fence(connection, fence)
    return sum(_delete(connection, key, now) for key in keys)


def _delete_tagged(connection: sqlite3.Connection, keys: Iterable[str], now: int, tag: str) -> int:
    """Delete the entries that still carry the tag. Return how many were live."""
    deleted = 0
    for key in keys:
        entry = _read(connection, key)
        if entry is not None and tag in entry.tags:
            deleted += _delete(connection, key, now)
    return deleted


def _decode(row: Row) -> StoredEntry:
    text, expires_at, described, stale_until, tags = row
    if described is None or described != digest(text):  # no companion, or another text's
        return StoredEntry(text, from_seconds(expires_at))
    return StoredEntry(text, from_seconds(expires_at), stale_until, tuple(json.loads(tags)))


def _chunks(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _glob(pattern: str) -> str:
    """The pattern for SQLite's GLOB, where ``?`` and ``[`` are special too."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
