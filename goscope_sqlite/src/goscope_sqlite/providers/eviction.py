"""Evicting cache entries, and giving free pages of the file back.

Entries with a ttl go first, those that expire soonest before the others; then those without, the
oldest write first. Collections are not part of the cache and stay.
"""

from __future__ import annotations

import sqlite3
from time import perf_counter
from typing import Final, NamedTuple

from .._engine.protocol import Database
from .cache import delete_orphaned_companions

STEP_S: Final = 0.002
"""How long one step may hold the write lock, roughly."""

CHUNK_ROWS: Final = 10
"""How many entries are deleted before the step looks at the clock and the size again."""

COUNTED_ROWS: Final = 10_000
"""How many rows one read counts: other reads wait behind it for a few milliseconds."""

EVICTABLE: Final = """
    typeof(key) = 'text' AND (key GLOB 'cache:*' OR NOT (key GLOB '*collection:*'
        AND instr(':' || key, ':collection:') IN (1, instr(key, ':') + 1)))
"""
"""Whether a key is one of the cache: a prefix contains no colon, and is none of these words."""

INDEX: Final = "idx_cache_eviction"
_CREATE_INDEX: Final = f"""
    CREATE INDEX IF NOT EXISTS {INDEX} ON go_goscope_cache (expires_at, created_at)
    WHERE {EVICTABLE}
"""
_HAS_INDEX: Final = f"SELECT 1 FROM sqlite_master WHERE name = '{INDEX}'"
_EVICT: Final = f"""
    DELETE FROM go_goscope_cache WHERE rowid IN (
        SELECT rowid FROM go_goscope_cache INDEXED BY {INDEX}
        WHERE {EVICTABLE} AND expires_at {{condition}} ORDER BY {{order}} LIMIT ?
    ) RETURNING CAST(key AS BLOB)
"""
_EVICT_EXPIRING: Final = _EVICT.format(condition="IS NOT NULL", order="expires_at, created_at")
_EVICT_OLDEST: Final = _EVICT.format(condition="IS NULL", order="created_at")
_COUNT: Final = f"""
    SELECT count(*), sum({EVICTABLE}), max(key) FROM (
        SELECT key FROM go_goscope_cache
        WHERE key > CAST(? AS TEXT) AND key < x'' ORDER BY key LIMIT {COUNTED_ROWS}
    )
"""
_PAGES: Final = """
    SELECT page_size, page_count, freelist_count, auto_vacuum
    FROM pragma_page_size, pragma_page_count, pragma_freelist_count, pragma_auto_vacuum
"""


class Pages(NamedTuple):
    """The pages of a file. ``vacuum`` is 2 if free ones can be given back."""

    size: int
    total: int
    free: int
    vacuum: int

    @property
    def used(self) -> int:
        return self.total - self.free

    @property
    def used_bytes(self) -> int:
        return self.used * self.size


class Evicted(NamedTuple):
    """What one step has evicted, and the bytes of the pages that are still in use."""

    rows: int
    used_bytes: int


async def create_index(database: Database) -> None:
    """Create the index of the entries in the order of eviction, unless it exists."""
    if not await database.read_all(_HAS_INDEX, ()):
        await database.submit(_create_index)


async def count_entries(database: Database) -> int:
    """How many entries the cache has, under all prefixes. Reads all keys, in pages."""
    total, rows, after = 0, COUNTED_ROWS, ""
    while rows == COUNTED_ROWS:
        ((rows, entries, after),) = await database.read_all(_COUNT, (after,))
        total += entries or 0
    return total


async def read_pages(database: Database) -> Pages:
    """The pages of the file, as other connections see them."""
    return Pages(*(await database.read_all(_PAGES, ()))[0])


def evict(connection: sqlite3.Connection, rows: int, target_bytes: int) -> Evicted:
    """Evict up to so many entries, as part of a write.

    It ends earlier when the pages in use take no more than ``target_bytes``, and after a while.
    """
    deadline, evicted = perf_counter() + STEP_S, 0
    pages = _pages(connection)
    while evicted < rows and pages.used_bytes > target_bytes:
        limit = min(CHUNK_ROWS, rows - evicted)
        found = connection.execute(_EVICT_EXPIRING, (limit,)).fetchall()
        if not found:
            found = connection.execute(_EVICT_OLDEST, (limit,)).fetchall()
        if not found:
            break
        delete_orphaned_companions(connection, [key.decode(errors="replace") for (key,) in found])
        evicted += len(found)
        pages = _pages(connection)
        if perf_counter() >= deadline:
            break
    return Evicted(evicted, pages.used_bytes)


def vacuum(connection: sqlite3.Connection, pages: int) -> int:
    """Give up to so many free pages back, as part of a write; how many are left.

    It ends earlier after a while.
    """
    deadline = perf_counter() + STEP_S
    for _ in range(pages):
        # One page a call, whatever its argument: sqlite3 runs only the first step of a statement
        # that has no columns.
        connection.execute("PRAGMA incremental_vacuum(1)")
        if perf_counter() >= deadline:
            break
    return _pages(connection).free


def _create_index(connection: sqlite3.Connection) -> None:
    connection.execute(_CREATE_INDEX)


def _pages(connection: sqlite3.Connection) -> Pages:
    return Pages(*connection.execute(_PAGES).fetchall()[0])
