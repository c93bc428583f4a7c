"""Listing what the store holds: a page of SCAN at a time, and a script that describes its keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from goscope.backend import (
    BaseInspectionProvider,
    CircuitRow,
    EntryRow,
    LeaseRow,
    Page,
    ResultRow,
    StoreContext,
    TaskRow,
    WaiterRow,
    pattern_regex,
)
from goscope.errors import ConfigurationError
from goscope.inspection import ProcessInfo

from .._server.client_name import read_client_list
from .._server.script import Script
from .._server.server import KeyType, Server
from ..keys import Keys
from .checkpoint import decode_checkpoint, task_of
from .circuit_breaker import decode_state
from .grant import decode_grant
from .pattern import scan_pattern

_LEASES: Final = Script(
    """
local found = {}
for lease = 1, #KEYS, 2 do
    local lock, grant = unpack(KEYS, lease, lease + 1)
    local record, owner = unpack(redis.call('MGET', grant, lock))
    table.insert(found, {record, owner, redis.call('PTTL', lock)})
end
return found
""",
    "no-writes",
)
_WAITERS: Final = Script(
    """
local found = {}
local us = now_us()
for lease = 1, #KEYS, 2 do
    local queue, alive = unpack(KEYS, lease, lease + 1)
    local waiters = {}
    local queued = redis.call('ZRANGE', queue, 0, -1, 'WITHSCORES')
    for waiter = 1, #queued, 2 do
        local deadline = redis.call('ZSCORE', alive, queued[waiter])
        if deadline and tonumber(deadline) * 1000 > us then
            local waited_us = us - tonumber(queued[waiter + 1])
            table.insert(waiters, {queued[waiter], math.floor(waited_us / 1000)})
        end
    end
    table.insert(found, waiters)
end
return found
""",
    "no-writes",
)
_ENTRIES: Final = Script(
    """
local found = {}
for entry = 1, #KEYS, 2 do
    local main, companion = unpack(KEYS, entry, entry + 1)
    local row = false
    -- Each entry has one key that lists it: its companion if it has one.
    if ARGV[(entry + 1) / 2] == tostring(redis.call('EXISTS', companion)) then
        local stale_for, tags = unpack(redis.call('HMGET', companion, 'stale_for', 'tags'))
        local kept = stale_for and redis.call('PTTL', companion)
        local is_text, size = pcall(redis.call, 'STRLEN', main)
        if is_text and redis.call('EXISTS', main) == 1 then
            row = {size, redis.call('PTTL', main), kept, tags}
        elseif is_text and kept and kept <= tonumber(stale_for) then
            -- With more time left it has not expired: another program has deleted it.
            row = {redis.call('HSTRLEN', companion, 'text'), 0, kept, tags}
        end
    end
    table.insert(found, row)
end
return found
""",
    "no-writes",
)
_RESULTS: Final = Script(
    """
local found = {}
for result = 1, #KEYS, 2 do
    local main, companion = unpack(KEYS, result, result + 1)
    local size = redis.call('STRLEN', main)
    local described = redis.call('GET', companion)
    local fingerprint = described and string.sub(described, 41)
    table.insert(found, size > 0 and {size, redis.call('PTTL', main), fingerprint})
end
return found
""",
    "no-writes",
)
_TASKS: Final = Script(
    """
local mark = '"data":'
-- The size of the data in the text of a checkpoint, and the text without its data. Nothing before
-- the data contains the mark: it is not part of any string, where a quote follows a backslash.
local function measure(name)
    local size = redis.call('STRLEN', name)
    local head = redis.call('GETRANGE', name, 0, 1023)
    local _, last = string.find(head, mark, 1, true)
    if not last then
        head = redis.call('GET', name) or ''
        _, last = string.find(head, mark, 1, true)
    end
    if not last then
        return 0, head
    end
    -- Behind the data are at most numbers, such as the estimate of the time that remains.
    local before, tail = string.sub(redis.call('GETRANGE', name, -256, -1), 1, -2), '}'
    local field = string.match(before, ',"%a+":[%w.+-]+$')
    while field and string.sub(field, 2, #mark + 1) ~= mark do
        before, tail = string.sub(before, 1, -1 - #field), field .. tail
        field = string.match(before, ',"%a+":[%w.+-]+$')
    end
    return size - last - #tail, string.sub(head, 1, last) .. 'null' .. tail
end
local found = {}
for _, task in ipairs(KEYS) do
    local count, total, latest = 0, 0, false
    for _, name in ipairs(redis.call('ZRANGE', task, 0, -1)) do
        if redis.call('EXISTS', name) == 1 then
            local size, text = measure(name)
            count, total, latest = count + 1, total + size, text
        end
    end
    table.insert(found, count > 0 and {count, total, latest})
end
return found
""",
    "no-writes",
)


class RedisInspectionProvider(BaseInspectionProvider):
    """Lists the keys of the store, also those that go-go-scope wrote."""

    def __init__(self, context: StoreContext, server: Server, keys: Keys) -> None:
        super().__init__(context)
        self._server = server
        self._keys = keys
        self._companions: Final = keys.companion("entry", "")
        self.lists_this = True
        """Whether this process counts as one that has the store open, even if it has no name."""
        self._queues: Final = keys.companion("queue", "")
        self._results_start: Final = f"{context.prefix}idempotency:"
        self._tasks_start: Final = f"{context.prefix}checkpoint:"

    async def _leases(self, pattern: str, after: str, limit: int) -> Page[LeaseRow]:
        names, following = await self._scan(self._keys.space, pattern, after, "string")
        pairs = [(name, self._keys.companion("grant", self._keys.stored(name))) for name in names]
        found = await self._describe(_LEASES, pairs, limit)
        rows = (
            _lease(self._keys.stored(name), answer)
            for (name, _), answer in zip(pairs, found, strict=True)
            if answer[1] is not None
        )
        return Page(rows, following)

    async def _waiters(self, pattern: str, after: str, limit: int) -> Page[WaiterRow]:
        names, following = await self._scan(self._queues, pattern, after, "zset")
        stored = [name[len(self._queues) :] for name in names]
        pairs = [(self._queues + key, self._keys.companion("alive", key)) for key in stored]
        found = await self._describe(_WAITERS, pairs, limit)
        rows = (
            WaiterRow(key, name.decode(), _pid(name), waited_ms)
            for key, waiters in zip(stored, found, strict=True)
            for name, waited_ms in waiters
        )
        return Page(rows, following)

    async def _circuits(self, pattern: str, after: str, limit: int) -> Page[CircuitRow]:
        names, following = await self._scan(self._keys.space, pattern, after, "string")
        texts: list[bytes | None] = []
        if names:
            texts = await self._server.call("MGET", *names, repeatable=True)
        rows = (
            _circuit(self._keys.stored(name), text)
            for name, text in zip(names, texts, strict=True)
            if text is not None
        )
        return Page(rows, following)

    async def _tasks(self, pattern: str, after: str, limit: int) -> Page[TaskRow]:
        prefix = self.context.prefix
        wider = f"{self._tasks_start}{pattern[len(prefix) :]}*"  # the name may have a colon more
        names, following = await self._scan(self._keys.space, wider, after, "zset")
        matches = pattern_regex(pattern).fullmatch
        strip = len(self._keys.space + self._tasks_start)
        ids = {name: f"{prefix}{task}" for name in names if (task := task_of(name[strip:]))}
        ids = {name: task for name, task in ids.items() if matches(task)}
        found = await self._describe(_TASKS, [(name,) for name in ids], limit)
        rows = (
            _task(task, answer)
            for task, answer in zip(ids.values(), found, strict=True)
            if answer is not None
        )
        return Page(rows, following)

    async def _results(self, pattern: str, after: str, limit: int) -> Page[ResultRow]:
        prefix = self.context.prefix
        start = self._keys.name(self._results_start)
        names, following = await self._scan(start, pattern[len(prefix) :], after, "string")
        stored = [prefix + name[len(start) :] for name in names]
        pairs = [
            (name, self._keys.companion("fingerprint", key))
            for name, key in zip(names, stored, strict=True)
        ]
        found = await self._describe(_RESULTS, pairs, limit)
        rows = (
            _result(key, answer)
            for key, answer in zip(stored, found, strict=True)
            if answer is not None
        )
        return Page(rows, following)

    async def _entries(self, pattern: str, after: str, limit: int) -> Page[EntryRow]:
        # One pass over the entries and the companions, which outlive those that may be stale.
        anywhere = f"*{pattern}"
        names, following = await self._scan(self._keys.space, anywhere, after)
        matches = pattern_regex(pattern).fullmatch
        strip, strip_companion = len(self._keys.space), len(self._companions)
        listed: list[tuple[str, int]] = []
        for name in names:
            if matches(name[strip:]):
                listed.append((name[strip:], 0))
            elif name.startswith(self._companions) and matches(name[strip_companion:]):
                listed.append((name[strip_companion:], 1))
        pairs = [(self._keys.space + key, self._companions + key) for key, _ in listed]
        found = await self._describe(_ENTRIES, pairs, limit, [it for _, it in listed])
        strip_tag = len(self._keys.companion("tag", ""))
        rows = (
            _entry(key, answer, strip_tag)
            for (key, _), answer in zip(listed, found, strict=True)
            if answer is not None
        )
        return Page(rows, following)

    async def _processes(self) -> Sequence[ProcessInfo]:
        try:
            clients = await self._server.call("CLIENT", "LIST", "TYPE", "normal", repeatable=True)
        except ConfigurationError:  # this user may not list the clients
            clients = b""
        found = read_client_list(clients, self._keys.hash_tag, self._server.connector.address.db)
        return found or (await super()._processes() if self.lists_this else ())

    # --- helpers -----------------------------------------------------------------------------

    async def _scan(
        self, start: str, pattern: str, after: str, only: KeyType | None = None
    ) -> tuple[list[str], str | None]:
        """The names on a page, each once, and the cursor of the next page."""
        names, following = await self._server.scan_page(
            scan_pattern(start, pattern), after, only=only
        )
        return list(dict.fromkeys(names)), following

    async def _describe(
        self,
        script: Script,
        keys: Sequence[tuple[str, ...]],
        limit: int,
        arguments: Sequence[int] = (),
    ) -> list[Any]:
        """The answers of a script about the keys, ``limit`` at a time, so that no run is long."""
        found: list[Any] = []
        for first in range(0, len(keys), limit):
            names = [name for group in keys[first : first + limit] for name in group]
            these = arguments[first : first + limit]
            found += await self._server.run(script, names, *these, repeatable=True)
        return found


def _lease(key: str, answer: Sequence[Any]) -> LeaseRow:
    try:
        holder = decode_grant(*answer)
    except ValueError:  # another program has changed it
        holder = None
    if holder is None:
        return LeaseRow(key, "", "", 0, 0, 0, None, None)
    return LeaseRow(
        key=key,
        owner=holder.owner,
        host=holder.host,
        pid=holder.pid,
        acquired_at=holder.since,
        expires_in_ms=holder.expires_in_ms,
        token=holder.fencing_token,
        is_alive=None,  # no server knows that
    )


def _circuit(key: str, text: bytes) -> CircuitRow:
    try:
        return CircuitRow(key, decode_state(text))
    except (msgspec.MsgspecError, UnicodeError):  # another program has changed it
        return CircuitRow(key, None)


def _task(task_id: str, answer: Sequence[Any]) -> TaskRow:
    checkpoints, size_bytes, text = answer
    try:
        latest = decode_checkpoint(text)
    except (msgspec.MsgspecError, UnicodeError):  # another program has changed it
        return TaskRow(task_id, checkpoints, size_bytes, 0, 0.0, None, 0)
    remaining = latest.estimated_time_remaining
    return TaskRow(
        id=task_id,
        checkpoints=checkpoints,
        size_bytes=size_bytes,
        sequence=latest.sequence,
        progress=latest.progress,
        estimated_time_remaining=None if remaining is None else int(remaining),
        saved_at=int(latest.timestamp),
    )


def _result(key: str, answer: Sequence[Any]) -> ResultRow:
    size_bytes, left_ms, fingerprint = answer
    return ResultRow(
        key=key,
        size_bytes=size_bytes,
        expires_in_ms=_left_ms(left_ms),
        created_at=None,
        fingerprint=None if fingerprint is None else fingerprint.decode(errors="replace"),
    )


def _entry(key: str, answer: Sequence[Any], strip_tag: int) -> EntryRow:
    size_bytes, left_ms, stale_left_ms, tags = answer
    names: list[str] = [] if tags is None else json.loads(tags)
    return EntryRow(
        key=key,
        size_bytes=size_bytes,
        expires_in_ms=_left_ms(left_ms),
        created_at=None,
        stale_expires_in_ms=stale_left_ms,
        tags=tuple(name[strip_tag:] for name in names),
    )


def _left_ms(answer: int) -> int | None:
    """A time to live as PTTL answers it."""
    return None if answer == -1 else max(answer, 0)


def _pid(waiter: bytes) -> int | None:
    """The process that a waiter is named after."""
    pid = waiter.partition(b"-")[0]
    return int(pid) if pid.isdigit() else None
