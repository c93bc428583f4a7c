"""Checkpoints: go-go-scope's sorted set of each task, and a string for each checkpoint.

go-go-scope names the set of task ``t:1`` as the first checkpoint of task ``t``. Here a task whose
name ends like that has another name on the server, and is not shared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from goscope.backend import BaseCheckpointProvider, Fence, StoreContext, StoredCheckpoint
from goscope.errors import CheckpointConflict, CorruptValue

from .._server.script import Script
from .._server.server import Server
from ..keys import Keys
from .fence import GUARD, check, guard

_LIKE_A_CHECKPOINT: Final = re.compile(r":\d+(:*)$", re.ASCII)

_SAVE: Final = Script(
    GUARD
    + """
if is_refused() then
    return 'fence'
end
local task, ids, own = KEYS[1], KEYS[2], KEYS[3]
local sequence, id, text = unpack(ARGV)
local name = task .. ':' .. sequence
local latest = redis.call('ZRANGE', task, -1, -1)[1]
local highest = latest and string.sub(latest, #task + 2)
local is_above = not latest or tonumber(sequence) > tonumber(highest)
local known = redis.call('GET', own)
local is_taken = known and redis.call('EXISTS', known) == 1
local replaces = latest == name and known == name
if not replaces and (is_taken or not is_above) then
    return {highest or false}
end
redis.call('SET', name, text)
redis.call('ZADD', task, sequence, name)
redis.call('HSET', ids, name, id)
redis.call('SET', own, name)
"""
)
"""Saves a checkpoint, or returns the highest sequence in a list."""
_LOAD: Final = Script(
    """
local name = redis.call('GET', KEYS[1])
return name and redis.call('GET', name)
""",
    "no-writes",
)
_LATEST: Final = Script(
    """
local name = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
return name and redis.call('GET', name)
""",
    "no-writes",
)
_LIST: Final = Script(
    """
local texts = {}
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    local text = redis.call('GET', name)
    if text then
        table.insert(texts, text)
    end
end
return texts
""",
    "no-writes",
)
_TRIM: Final = Script(
    GUARD
    + """
if is_refused() then
    return 'fence'
end
local task, ids = KEYS[1], KEYS[2]
local keep, id_space = unpack(ARGV)
for _, name in ipairs(redis.call('ZRANGE', task, 0, -1 - keep)) do
    redis.call('DEL', name)
    redis.call('ZREM', task, name)
    local id = redis.call('HGET', ids, name)
    if id then
        redis.call('DEL', id_space .. id)
        redis.call('HDEL', ids, name)
    end
end
""",
    "allow-oom",
)


class StoredText(msgspec.Struct, rename="camel", omit_defaults=True):
    """A checkpoint as JSON, with go-go-scope's names."""

    id: str
    task_id: str
    sequence: int
    timestamp: float
    progress: float = msgspec.field(default_factory=float)
    data: msgspec.Raw = msgspec.Raw(b"null")
    estimated_time_remaining: float | None = None


_decoder: Final = msgspec.json.Decoder(StoredText, strict=False)
_encoder: Final = msgspec.json.Encoder()


class RedisCheckpointProvider(BaseCheckpointProvider):
    """The checkpoints of tasks, one key each."""

    def __init__(self, context: StoreContext, server: Server, keys: Keys) -> None:
        super().__init__(context)
        self._server = server
        self._keys = keys
        self._id_space: Final = keys.companion("saved", "")

    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        task, ids = self._names(row.task_id)
        guards, token = guard(self._keys, fence, task)
        names = (task, ids, self._id_space + row.id, *guards)
        arguments = (row.sequence, row.id, self._encode_row(row), token)
        answer = check(await self._server.run(_SAVE, names, *arguments, replicated=True), fence)
        if answer is not None:
            [highest] = answer
            task_id = row.task_id[len(self._prefix) :]
            highest = None if highest is None else int(highest)
            raise CheckpointConflict(task_id, row.sequence, highest)

    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None:
        names = [self._id_space + checkpoint_id]
        return self._decode_row(
            checkpoint_id, await self._server.run(_LOAD, names, repeatable=True)
        )

    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None:
        names = self._names(task_id)[:1]
        return self._decode_row(task_id, await self._server.run(_LATEST, names, repeatable=True))

    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        names = self._names(task_id)[:1]
        texts = await self._server.run(_LIST, names, repeatable=True)
        return [row for text in texts if (row := self._decode_row(task_id, text)) is not None]

    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        task, ids = self._names(task_id)
        guards, token = guard(self._keys, fence, task)
        arguments = (keep, self._id_space, token)
        check(await self._server.run(_TRIM, (task, ids, *guards), *arguments), fence)

    # --- helpers -----------------------------------------------------------------------------

    def _names(self, task_id: str) -> tuple[str, str]:
        """The key of the task's sorted set, and that of the ids of its checkpoints."""
        stored = f"{self._prefix}checkpoint:{_name_of(task_id[len(self._prefix) :])}"
        return self._keys.name(stored), self._keys.companion("ids", stored)

    def _encode_row(self, row: StoredCheckpoint) -> bytes:
        strip = len(self._prefix)
        return _encoder.encode(
            StoredText(
                id=row.id[strip:],
                task_id=row.task_id[strip:],
                sequence=row.sequence,
                timestamp=row.timestamp,
                progress=row.progress,
                data=msgspec.Raw(row.text),
                estimated_time_remaining=row.estimated_time_remaining,
            )
        )

    def _decode_row(self, key: str, text: Any) -> StoredCheckpoint | None:
        if text is None:
            return None
        try:
            found = decode_checkpoint(text)
        except (msgspec.MsgspecError, UnicodeError) as exc:
            raise CorruptValue(key[len(self._prefix) :], str(exc)) from exc
        remaining = found.estimated_time_remaining
        return StoredCheckpoint(
            id=self._prefix + found.id,
            task_id=self._prefix + found.task_id,
            sequence=found.sequence,
            timestamp=int(found.timestamp),
            progress=found.progress,
            text=bytes(found.data).decode(),
            estimated_time_remaining=None if remaining is None else int(remaining),
        )


def decode_checkpoint(text: bytes) -> StoredText:
    """The fields of a checkpoint. Raises ``MsgspecError`` or ``UnicodeError`` for other texts."""
    return _decoder.decode(text)


def task_of(name: str) -> str | None:
    """The id of the task with this name on the server; None for one that goscope cannot load."""
    found = _LIKE_A_CHECKPOINT.search(name)
    if found is None:
        return name
    return name[:-1] if found[1] else None


def _name_of(task: str) -> str:
    return f"{task}:" if _LIKE_A_CHECKPOINT.search(task) else task
