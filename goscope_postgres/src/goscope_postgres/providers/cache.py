"""Cache entries: one row each, with tags and staleness as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from goscope.backend import (
    PAGE_SIZE,
    BaseCacheProvider,
    Fence,
    KeyedNotifier,
    NewEntry,
    StoreContext,
    StoredEntry,
    parse_counter,
    prefix_successor,
)

from .._engine.database import Database, Row
from ..schema import Tables
from .fence import FencedWrite
from .lock_queue import NOTIFY_QUEUE
from .pattern import matches, pattern_params
from .times import NOW, after, epoch_ms

_Write: TypeAlias = tuple[str, NewEntry]

_LIVE: Final = "expires_at > clock_timestamp()"
_GET: Final = f"SELECT value FROM {{cache}} WHERE key = $1 AND {_LIVE}"
_GET_MANY: Final = f"SELECT key, value FROM {{cache}} WHERE key = ANY($1) AND {_LIVE}"
_GET_ENTRY: Final = f"""
    SELECT value, {epoch_ms("expires_at")}, {epoch_ms("nullif(kept_until, expires_at)")}, tags,
        {epoch_ms("clock_timestamp()")}
    FROM {{cache}} WHERE key = $1
"""
_LOADS: Final = """
    load AS MATERIALIZED (
        SELECT l.key FROM {lease} AS l WHERE l.key = ANY($LOADS) AND NOT_FENCE
        ORDER BY l.key FOR UPDATE
    )
"""
"""The leases that guard computations of the values. They are locked before the entries, as a fenced
write locks its lease: another order would deadlock."""
_END: Final = "DELETE FROM {lease} AS l USING load WHERE l.key = load.key"
_ENDED: Final = f"ended AS ({_END} RETURNING l.key), {NOTIFY_QUEUE}"
"""Those who wait for the computations are notified: the write may be what they wait for."""
_AFTER_LOADS: Final = "(SELECT count(*) FROM load) >= 0"
_NOTIFIED: Final = "(SELECT count(*) FROM notified) >= 0"
"""Conditions that are true once the leases are locked, and once those who wait are notified."""


def _loads(parameter: str) -> str:
    """A CTE that locks the leases of the parameter; another CTE ends them."""
    return _LOADS.replace("$LOADS", parameter)


_REPLACE: Final = """
    ON CONFLICT (key) DO UPDATE SET
        value = excluded.value,
        expires_at = excluded.expires_at,
        kept_until = excluded.kept_until,
        tags = excluded.tags
"""
_STORE: Final = f"""
    INSERT INTO {{cache}} AS c (key, value, expires_at, kept_until, tags)
    SELECT $1, $2, {after("time", "$3::bigint")},
        {after("time", "($3 + coalesce($4::bigint, 0))")}, $5::text[]
    FROM (SELECT clock_timestamp() AS time OFFSET 0) AS present
    WHERE CONDITION
"""
_STORE_AFTER_LOADS: Final = _STORE.replace("CONDITION", f"IF_CURRENT AND {_AFTER_LOADS}")
_SET: Final = f"{_STORE_AFTER_LOADS} AND {_NOTIFIED} {_REPLACE}"
_NOT_COMPUTED: Final = "NOT EXISTS (SELECT 1 FROM {lease} WHERE key = $6)"
_SET_UNLESS_COMPUTED: Final = f"{_STORE.replace('CONDITION', _NOT_COMPUTED)} {_REPLACE} RETURNING 1"
"""Stores nothing while the value is being computed. Else it does what `_SET` does, and a set of one
caller takes a tenth less time."""
_ADD: Final = f"""
    {_loads("ARRAY[$6]")},
    added AS ({_STORE_AFTER_LOADS} {_REPLACE} WHERE c.expires_at <= clock_timestamp() RETURNING 1),
    {_ENDED.replace(_END, f"{_END} AND EXISTS (SELECT 1 FROM added)")}
"""
_SET_MANY: Final = f"""
    {_loads("$6")},
    {_ENDED},
    stored AS (
        INSERT INTO {{cache}} AS c (key, value, expires_at, kept_until, tags)
        SELECT new.key, new.value, {after("time", "new.ttl")},
            {after("time", "(new.ttl + coalesce(new.stale_for, 0))")}, new.tags::text[]
        FROM (SELECT clock_timestamp() AS time OFFSET 0) AS present,
            unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])
                AS new (key, value, ttl, stale_for, tags)
        WHERE IF_CURRENT AND {_AFTER_LOADS} ORDER BY new.key COLLATE "C" {_REPLACE}
        RETURNING 1
    )
"""
"""Ordered by key: writes of several rows in other orders would deadlock."""
_FOUND: Final = """
    found AS MATERIALIZED (
        SELECT key FROM {cache} WHERE CONDITION ORDER BY key LIMIT ROWS FOR UPDATE LOCKED
    ),
    deleted AS (
        DELETE FROM {cache} AS c USING found WHERE c.key = found.key
        RETURNING c.key, c.expires_at > clock_timestamp() AS is_live
    )
"""


def _deleting(condition: str, *, rows: str = "ALL", locked: str = "") -> str:
    """CTEs that lock the rows in the order of their keys, as the other writes do, and delete."""
    found = _FOUND.replace("CONDITION", condition).replace("ROWS", rows)
    return found.replace("LOCKED", locked)


_DELETE: Final = f"""
    {_loads("$2")},
    {_ENDED},
    {_deleting(f"key = ANY($1) AND IF_CURRENT AND {_AFTER_LOADS}")}
"""
_END_MATCHING_LOADS: Final = f"""
    WITH ended AS (
        DELETE FROM {{lease}} WHERE key >= $1 AND key < $2 AND key LIKE $3
            AND ($4::text IS NULL OR strpos(owner, $4) > 0 OR right(owner, 2) = '#*')
        RETURNING key
    ),
    {NOTIFY_QUEUE}
    SELECT key FROM ended WHERE {_NOTIFIED}
"""
_DELETE_TAGGED: Final = f"""
    WITH tagged AS MATERIALIZED (
        SELECT key FROM {{cache}} WHERE tags @> ARRAY[$1] AND starts_with(key, $4)
        ORDER BY key LIMIT {PAGE_SIZE}
    ),
    {_loads("ARRAY(SELECT $2 || substr(key, $3) FROM tagged)").replace("NOT_FENCE", "true")},
    {_ENDED},
    {_deleting(f"key IN (SELECT key FROM tagged) AND tags @> ARRAY[$1] AND {_AFTER_LOADS}")}
    SELECT (SELECT count(*) FROM tagged), (SELECT count(*) FROM deleted WHERE is_live)
    WHERE {_NOTIFIED}
"""
_MATCHES: Final = matches("key")
_CLEAR: Final = f"""
    WITH {_deleting(_MATCHES, rows=str(PAGE_SIZE))} SELECT count(*), max(key) FROM deleted
"""
_PAGE: Final = f"""
    SELECT key FROM {{cache}} WHERE {_MATCHES} AND ({_LIVE} OR $6) ORDER BY key LIMIT $5
"""
_COUNT: Final = f"SELECT count(*) FROM {{cache}} WHERE key >= $1 AND key < $2 AND {_LIVE}"
_EXPIRED: Final = f"kept_until <= {NOW}"
_PRUNE: Final = f"""
    WITH {_deleting(f"key >= $1 AND key < $2 AND {_EXPIRED}", rows=str(PAGE_SIZE))}
    SELECT count(*) FROM deleted
"""
SWEEP: Final = f"""
    WITH {_deleting(_EXPIRED, rows="$1", locked="SKIP LOCKED")} SELECT count(*) FROM deleted
"""
_TOUCH: Final = f"""
    UPDATE {{cache}} SET expires_at = {after("time", "$2::bigint")}, kept_until =
        CASE WHEN $2::bigint IS NULL OR expires_at = 'infinity' THEN {after("time", "$2::bigint")}
        ELSE time + $2::bigint * interval '1 ms' + (kept_until - expires_at) END
    FROM (SELECT clock_timestamp() AS time OFFSET 0) AS present
    WHERE key = $1 AND {_LIVE} RETURNING 1
"""
_INCREMENT: Final = f"""
    WITH {_loads("ARRAY[$4]").replace("NOT_FENCE", "true")}, {_ENDED}
    INSERT INTO {{cache}} AS c (key, value, expires_at, kept_until)
    SELECT $1, $2, {after("time", "$3::bigint")}, {after("time", "$3::bigint")}
    FROM (SELECT clock_timestamp() AS time OFFSET 0) AS present
    WHERE {_AFTER_LOADS} AND {_NOTIFIED}
    ON CONFLICT (key) DO UPDATE SET
        value = CASE WHEN c.{_LIVE} THEN (c.value::numeric + excluded.value::numeric)::text
            ELSE excluded.value END,
        expires_at = CASE WHEN c.{_LIVE} THEN c.expires_at ELSE excluded.expires_at END,
        kept_until = CASE WHEN c.{_LIVE} THEN c.kept_until ELSE excluded.kept_until END,
        tags = CASE WHEN c.{_LIVE} THEN c.tags END
    WHERE c.value ~ '^-?(0|[1-9][0-9]*)$' OR c.expires_at <= clock_timestamp()
    RETURNING value
"""


class PostgresCacheProvider(BaseCacheProvider):
    """Cache entries in the database. Calls that come together share a statement."""

    def __init__(
        self,
        context: StoreContext,
        database: Database,
        tables: Tables,
        lease_notifier: KeyedNotifier,
    ) -> None:
        super().__init__(context, lease_notifier)
        self._database = database
        self._sql = {name: tables.fill(sql) for name, sql in _STATEMENTS.items()}
        self._sql_set = FencedWrite(
            tables, f"{_SET} RETURNING 1", f"{_loads('ARRAY[$6]')}, {_ENDED}"
        )
        self._sql_add = FencedWrite(tables, f"SELECT count(*) FROM added WHERE {_NOTIFIED}", _ADD)
        self._sql_set_many = FencedWrite(
            tables, f"SELECT count(*) FROM stored WHERE {_NOTIFIED}", _SET_MANY
        )
        self._sql_delete = FencedWrite(
            tables, f"SELECT count(*) FROM deleted WHERE is_live AND {_NOTIFIED}", _DELETE
        )
        self._gets = database.batcher(self._get_batch, lambda _: 1, is_write=False)
        self._sets = database.batcher(self._set_batch, lambda it: len(it[1].text), is_write=True)

    async def _get(self, key: str) -> str | None:
        self._database.check()
        return await self._gets.read(key)

    async def _get_batch(self, keys: list[str]) -> list[str | None]:
        if len(keys) == 1:
            rows = await self._database.execute(self._sql["get"], keys[0], attempts_if_lost=2)
            return [rows[0][0] if rows else None]
        rows = await self._database.execute(self._sql["get_many"], keys, attempts_if_lost=2)
        texts = _texts(rows)
        return [texts.get(key) for key in keys]

    async def _get_many(self, keys: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), PAGE_SIZE):
            page = keys[start : start + PAGE_SIZE]
            found.update(_texts(await self._database.read(self._sql["get_many"], page)))
        return found

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        rows = await self._database.read(self._sql["get_entry"], key)
        if not rows:
            return None
        text, expires_at, stale_until, tags, now = rows[0]
        return StoredEntry(text, expires_at, stale_until, tuple(tags or ())), now

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        if fence is None and len(entries) == 1:
            self._database.check()
            await self._sets.submit(next(iter(entries.items())))
        elif len(entries) == 1:
            [write] = entries.items()
            await self._sql_set.run(self._database, fence, *self._row(write))
        else:
            columns = self._columns(list(entries.items()))
            await self._sql_set_many.run(self._database, fence, *columns)

    async def _set_batch(self, writes: list[_Write]) -> list[None]:
        self._database.on_write(len(writes))
        if len(writes) == 1:
            row = self._row(writes[0])
            if not await self._database.execute(self._sql["set_unless_computed"], *row):
                await self._database.execute(self._sql_set.plain, *row)
        else:
            # The last write of a key replaces the others of the batch: they ran concurrently.
            columns = self._columns(list(dict(writes).items()))
            await self._database.execute(self._sql_set_many.plain, *columns)
        return [None] * len(writes)

    async def _add(self, key: str, entry: NewEntry, fence: Fence | None) -> bool:
        return bool(await self._sql_add.run(self._database, fence, *self._row((key, entry))))

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        deleted = 0
        for start in range(0, len(keys), PAGE_SIZE):
            page = keys[start : start + PAGE_SIZE]
            loads = list(map(self.load_lease, page))
            deleted += await self._sql_delete.run(self._database, fence, page, loads)
        return deleted

    async def _touch(self, key: str, ttl_ms: int | None) -> bool:
        return bool(await self._database.write(self._sql["touch"], key, ttl_ms))

    async def _increment(self, key: str, by: int, ttl_ms: int | None) -> int:
        while True:
            text, load = self.context.encode(by), self.load_lease(key)
            rows = await self._database.write(self._sql["increment"], key, text, ttl_ms, load)
            if rows:
                return parse_counter(rows[0][0])
            found = await self._get(key)
            if found is not None:  # else it has expired since
                parse_counter(found)

    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        sql = self._sql["end_matching_loads"]
        return [row[0] for row in await self._database.write(sql, *pattern_params(pattern), mark)]

    async def _clear(self, pattern: str) -> None:
        # One pass through the keys in order: concurrent writes cannot prolong it.
        position, full = "", PAGE_SIZE
        while full == PAGE_SIZE:
            arguments = (position, *pattern_params(pattern))
            [(full, position)] = await self._database.write(self._sql["clear"], *arguments)

    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        arguments = (after, *pattern_params(pattern), limit, with_expired)
        return [row[0] for row in await self._database.read(self._sql["page"], *arguments)]

    async def _delete_by_tag(self, tag: str) -> int:
        lease_start, rest = self.load_lease(self.context.prefix), len(self.context.prefix) + 1
        # A tag of the cache may have the name of a collection's tag, or of another prefix's.
        arguments = (tag, lease_start, rest, self._namespace)
        deleted, full = 0, PAGE_SIZE
        while full == PAGE_SIZE:
            [(full, live)] = await self._database.write(self._sql["delete_tagged"], *arguments)
            deleted += live
        return deleted

    async def _count(self, namespace: str) -> int:
        bounds = (namespace, prefix_successor(namespace))
        count: int = (await self._database.read(self._sql["count"], *bounds))[0][0]
        return count

    async def _prune(self, namespace: str) -> int:
        bounds = (namespace, prefix_successor(namespace))
        pruned, full = 0, PAGE_SIZE
        while full == PAGE_SIZE:
            full = (await self._database.write(self._sql["prune"], *bounds))[0][0]
            pruned += full
        return pruned

    def _row(self, write: _Write) -> tuple[object, ...]:
        """The parameters of the insert of one entry."""
        key, entry = write
        tags = list(entry.tags) or None
        return key, entry.text, entry.ttl_ms, entry.stale_for_ms, tags, self.load_lease(key)

    def _columns(self, writes: Sequence[_Write]) -> tuple[list[object], ...]:
        """The parameters of the insert of several entries: one array a column."""
        return (
            [key for key, _ in writes],
            [entry.text for _, entry in writes],
            [entry.ttl_ms for _, entry in writes],
            [entry.stale_for_ms for _, entry in writes],
            [_array(entry.tags) for _, entry in writes],
            [self.load_lease(key) for key, _ in writes],
        )


_STATEMENTS: Final = {
    "get": _GET,
    "get_many": _GET_MANY,
    "get_entry": _GET_ENTRY,
    "set_unless_computed": _SET_UNLESS_COMPUTED,
    "touch": _TOUCH,
    "end_matching_loads": _END_MATCHING_LOADS,
    "increment": _INCREMENT,
    "clear": _CLEAR,
    "page": _PAGE,
    "delete_tagged": _DELETE_TAGGED,
    "count": _COUNT,
    "prune": _PRUNE,
}


def _texts(rows: list[Row]) -> dict[str, str]:
    return {row[0]: row[1] for row in rows}


def _array(tags: tuple[str, ...]) -> str | None:
    """The tags as the text of an array, since arrays of arrays must be rectangular."""
    if not tags:
        return None
    escaped = (tag.replace("\\", "\\\\").replace('"', '\\"') for tag in tags)
    return "{" + ",".join(f'"{tag}"' for tag in escaped) + "}"
