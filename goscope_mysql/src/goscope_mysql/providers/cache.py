"""Cache entries."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from goscope.backend import (
    PAGE_SIZE,
    BaseCacheProvider,
    Fence,
    KeyedNotifier,
    NewEntry,
    StoreContext,
    StoredEntry,
    encode,
    lease_lost,
    owner_has,
    parse_counter,
)

from .._engine.connection import Result, Statement
from .._engine.database import Database
from ..columns import MATCHES, digest, matching, microseconds, placeholders
from .fence import GUARDED, RELEASE, check_fence, guard_params, lock_fence

T = TypeVar("T")

ROWS_PER_STATEMENT: Final = 200
"""How many rows one statement writes or deletes: a few milliseconds of their locks."""

LIVE: Final = "({cache}.expires_at IS NULL OR {cache}.expires_at > {now})"

_COLUMNS: Final = "(`key`, value, expires_at, kept_until, tagging, created_at)"
_NEW: Final = "?, ?, {now} + ?, {now} + ?, ?"
_GET: Final = f"SELECT value FROM {{cache}} WHERE `key` = ? AND {LIVE}"
_READ: Final = "SELECT value, expires_at, kept_until, {now} FROM {cache} WHERE `key` = ?"
# Replaces the row in place: the primary key is the only unique index.
_SET: Final = f"REPLACE INTO {{cache}} {_COLUMNS} VALUES ({_NEW}, {{now}})"
_SET_TAGGED: Final = f"""
    REPLACE INTO {{cache}} {_COLUMNS.replace("tagging", "tagging, tags")}
    VALUES ({_NEW}, ?, {{now}})
"""
_SET_UNLESS_COMPUTING: Final = f"""
    REPLACE INTO {{cache}} {_COLUMNS} SELECT {_NEW}, {{now}} FROM DUAL
    WHERE NOT EXISTS (SELECT 1 FROM {{leases}} AS held WHERE held.`key` = ? AND held.token <> 0)
"""
"""Does nothing while a value of the key is being computed: then the write has to end that lease.

A computation that begins after this has looked for one began after the call.
"""
_SET_GUARDED: Final = f"REPLACE INTO {{cache}} {_COLUMNS} SELECT {_NEW}, {{now}} {GUARDED}"
_TAG: Final = """
    INSERT INTO {cache_tags} (tag, entry, `key`, tagging) VALUES (?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE `key` = ?, tagging = ?
"""

# LAST_INSERT_ID(x) reports x as the outcome: 0 if the entry is live and stays as it is. The expiry
# comes last, since assignments see the earlier ones.
_ADD: Final = f"""
    INSERT INTO {{cache}} {_COLUMNS} VALUES ({_NEW}, LAST_INSERT_ID({{now}}))
    ON DUPLICATE KEY UPDATE
        created_at = IF({LIVE}, {{cache}}.created_at + LAST_INSERT_ID(0), LAST_INSERT_ID({{now}})),
        value = IF({LIVE}, {{cache}}.value, ?),
        kept_until = IF({LIVE}, {{cache}}.kept_until, {{now}} + ?),
        tagging = IF({LIVE}, {{cache}}.tagging, NULL),
        expires_at = IF({LIVE}, {{cache}}.expires_at, {{now}} + ?)
"""
_END_LOAD_IF_ADDED: Final = (
    "UPDATE {leases} SET token = 0, expires_at = 0 "
    "WHERE `key` = ? AND token <> 0 AND LAST_INSERT_ID() <> 0"
)
_TOUCH: Final = f"""
    UPDATE {{cache}}
    SET kept_until = {{now}} + ? + COALESCE(kept_until - expires_at, 0), expires_at = {{now}} + ?
    WHERE `key` = ? AND {LIVE}
"""
_LOCK: Final = f"""
    INSERT INTO {{cache}} {_COLUMNS} VALUES (?, '', 0, 0, NULL, 0)
    ON DUPLICATE KEY UPDATE `key` = {{cache}}.`key`
"""
"""Locks the row of an entry; an absent one gets a row that has expired."""
_SET_TEXT: Final = "UPDATE {cache} SET value = ? WHERE `key` = ?"
_PAGE: Final = f"SELECT `key` FROM {{cache}} WHERE {MATCHES}"
_IN_ORDER: Final = "ORDER BY `key` LIMIT ?"
_LIVE_PAGE: Final = f"{_PAGE} AND {LIVE} {_IN_ORDER}"
_WHOLE_PAGE: Final = f"{_PAGE} {_IN_ORDER}"
_COUNT: Final = f"SELECT COUNT(*) FROM {{cache}} WHERE {MATCHES} AND {LIVE}"
_TAGGED: Final = """
    SELECT t.`key`, t.tagging FROM {cache_tags} AS t
    JOIN {cache} AS c ON c.`key` = t.`key` AND c.tagging = t.tagging
    WHERE t.tag = ? ORDER BY t.`key`
"""
_HELD: Final = f"SELECT `key`, token, owner FROM {{leases}} WHERE {MATCHES} AND token <> 0"
_EXPIRED: Final = "SELECT `key` FROM {cache} WHERE kept_until <= {now} LIMIT ?"
_EXPIRED_OF: Final = (
    f"SELECT `key` FROM {{cache}} WHERE {MATCHES} AND kept_until <= {{now}} LIMIT ?"
)


class MySQLCacheProvider(BaseCacheProvider):
    """Cache entries, one row each."""

    def __init__(
        self, context: StoreContext, database: Database, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context, lease_notifier)
        self._database = database

    async def _get(self, key: str) -> str | None:
        rows = await self._database.read(_GET, (key,))
        return rows[0][0] if rows else None

    async def _get_many(self, keys: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for chunk in _chunks(keys, PAGE_SIZE):
            sql = f"SELECT `key`, value FROM {{cache}} WHERE {_among(chunk)} AND {LIVE}"
            found.update(await self._database.query(sql, chunk))
        return found

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        rows = await self._database.read(_READ, (key,))
        return _decode(rows[0]) if rows else None

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        loads = self._loads_to_end(entries, fence)
        if len(entries) == 1:
            [(key, entry)] = entries.items()
            if not entry.tags:
                row = (key, *_values(entry), None)
                if fence is None:
                    result = await self._database.write(_SET_UNLESS_COMPUTING, (*row, *loads))
                    if result.affected:
                        return
                elif not loads:
                    result = await self._database.write(_SET_GUARDED, (*row, *guard_params(fence)))
                    if not result.affected:
                        raise lease_lost(fence)
                    return
        storing = [it for key in sorted(entries) for it in _store(key, entries[key])]
        await self._write([*_end_leases(loads), *storing], fence)

    async def _add(self, key: str, entry: NewEntry, fence: Fence | None) -> bool:
        text, expires_in, kept_for = _values(entry)
        adding: list[Statement] = [
            (_ADD, (key, text, expires_in, kept_for, None, text, kept_for, expires_in))
        ]
        ending = [(_END_LOAD_IF_ADDED, (load,)) for load in self._loads_to_end([key], fence)]
        return (await self._write([*adding, *ending], fence))[0].insert_id > 0

    async def _touch(self, key: str, ttl_ms: int | None) -> bool:
        expires_in = microseconds(ttl_ms)
        return (await self._database.write(_TOUCH, (expires_in, expires_in, key))).affected > 0

    async def _increment(self, key: str, by: int, ttl_ms: int | None) -> int:
        def decide(results: Sequence[Result]) -> tuple[list[Statement], int]:
            _, (_, _, rows) = results
            if not rows:
                text = self.context.encode(by)
                return [(_SET, (key, *_values(NewEntry(text, ttl_ms)), None)), *ending], by
            total = parse_counter(rows[0][0]) + by
            return [(_SET_TEXT, (self.context.encode(total), key)), *ending], total

        ending = _end_leases([self.load_lease(key)])
        locking = [(_LOCK, (key,)), (f"{_GET} FOR UPDATE", (key,))]
        return await self._database.transact(locking, decide)

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        deleted = 0
        for chunk in _chunks(sorted(keys), ROWS_PER_STATEMENT):
            sql = f"DELETE FROM {{cache}} WHERE {_among(chunk)}"
            deleting: list[Statement] = [(f"{sql} AND {LIVE}", chunk), (sql, chunk)]
            ending = _end_leases(self._loads_to_end(chunk, fence))
            results = await self._write([*deleting, *ending], fence)
            deleted += results[0].affected
        return deleted

    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        rows = await self._database.read(_HELD, matching(pattern))
        held = [(key, token) for key, token, owner in rows if owner_has(owner, mark)]
        for chunk in _chunks(sorted(held), ROWS_PER_STATEMENT):
            await self._database.write_all([(RELEASE, lease) for lease in chunk])
        return [key for key, _ in held]

    async def _clear(self, pattern: str) -> None:
        # One pass through the keys in order: concurrent writes cannot prolong it.
        after = ""
        while page := await self._page(pattern, after, PAGE_SIZE, with_expired=True):
            await self._delete(page, None)
            after = page[-1]

    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        sql = _WHOLE_PAGE if with_expired else _LIVE_PAGE
        rows = await self._database.read(sql, (*matching(pattern, after), limit))
        return [row[0] for row in rows]

    async def _delete_by_tag(self, tag: str) -> int:
        deleted = 0
        rows = await self._database.read(_TAGGED, (digest(tag),))
        # A tag of the cache may have the name of a collection's tag, or of another prefix's.
        rows = [row for row in rows if row[0].startswith(self._namespace)]
        for chunk in _chunks(rows, ROWS_PER_STATEMENT):
            keys = [key for key, _ in chunk]
            tagged = [value for row in chunk for value in row]
            pairs = ", ".join(["(?, ?)"] * len(chunk))
            # Not the entries that have been replaced since they were read.
            sql = f"DELETE FROM {{cache}} WHERE {_among(keys)} AND (`key`, tagging) IN ({pairs})"
            parameters = (*keys, *tagged)
            deleting: list[Statement] = [(f"{sql} AND {LIVE}", parameters), (sql, parameters)]
            ending = _end_leases([self.load_lease(key) for key in keys])
            results = await self._database.write_all([*deleting, *ending])
            deleted += results[0].affected
        return deleted

    async def _count(self, namespace: str) -> int:
        count: int = (await self._database.read(_COUNT, matching(f"{namespace}*")))[0][0]
        return count

    async def _prune(self, namespace: str) -> int:
        pruned = 0
        parameters = (*matching(f"{namespace}*"), ROWS_PER_STATEMENT)
        while rows := await self._database.read(_EXPIRED_OF, parameters):
            pruned += await remove_expired(self._database, sorted(key for (key,) in rows))
        return pruned

    def _loads_to_end(self, keys: Iterable[str], fence: Fence | None) -> list[str]:
        """The load leases that a write to the keys ends: all but its own fence."""
        loads = [self.load_lease(key) for key in sorted(keys)]
        return loads if fence is None else [it for it in loads if it != fence.stored_key]

    async def _write(
        self, statements: Sequence[Statement], fence: Fence | None
    ) -> Sequence[Result]:
        """Run the statements in one transaction, unless the fence is not current any more."""
        if fence is None:
            return await self._database.write_all(statements)
        return await self._database.transact(
            [*lock_fence(fence), *statements], lambda results: ([], check_fence(results, fence))
        )


async def expired_keys(database: Database, limit: int) -> list[str]:
    """Entries of all prefixes that can no longer be served."""
    return [row[0] for row in await database.read(_EXPIRED, (limit,))]


async def remove_expired(database: Database, keys: list[str]) -> int:
    """Delete those entries that can still not be served. Return how many."""
    sql = f"DELETE FROM {{cache}} WHERE {_among(keys)} AND kept_until <= {{now}}"
    return (await database.write_all([(sql, keys)]))[0].affected


def _store(key: str, entry: NewEntry) -> Iterator[Statement]:
    """The statements that store one entry."""
    if not entry.tags:
        yield _SET, (key, *_values(entry), None)
        return
    tagging = secrets.randbits(62)
    yield _SET_TAGGED, (key, *_values(entry), tagging, encode(entry.tags))
    for tag in sorted(map(digest, entry.tags)):
        yield _TAG, (tag, digest(key), key, tagging, key, tagging)


def _end_leases(keys: Sequence[str]) -> list[Statement]:
    """The statements that end the leases, whatever their tokens."""
    if not keys:
        return []
    sql = f"UPDATE {{leases}} SET token = 0, expires_at = 0 WHERE {_among(keys)} AND token <> 0"
    return [(sql, keys)]


def _values(entry: NewEntry) -> tuple[str, int | None, int | None]:
    """The text, and in how many microseconds it expires and ceases to be kept."""
    if entry.ttl_ms is None:
        return entry.text, None, None
    kept_ms = entry.ttl_ms + (entry.stale_for_ms or 0)
    return entry.text, entry.ttl_ms * 1000, kept_ms * 1000


def _decode(row: Sequence[Any]) -> tuple[StoredEntry, int]:
    """The entry, and the server's time."""
    text, expires_at, kept_until, now = row
    if expires_at is None:
        return StoredEntry(text), now // 1000
    stale_until = kept_until // 1000 if kept_until > expires_at else None
    return StoredEntry(text, expires_at // 1000, stale_until), now // 1000


def _among(keys: Sequence[str]) -> str:
    """The condition that the key is one of these."""
    return f"`key` IN ({placeholders(len(keys))})"


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
