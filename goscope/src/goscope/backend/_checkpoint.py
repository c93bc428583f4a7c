"""Base class of checkpoint providers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from .._tools.codec import DecodeError, decode
from .._tools.integer import check_integer
from .._tools.key import check_key
from ..errors import CheckpointConflict, CorruptValue
from ..providers import Checkpoint, LockHandle
from ._context import Fence, StoreContext


class StoredCheckpoint(NamedTuple):
    """A checkpoint as a backend keeps it: ids with the prefix, data as text."""

    id: str
    task_id: str
    sequence: int
    timestamp: int
    progress: float
    text: str
    estimated_time_remaining: int | None


class BaseCheckpointProvider(ABC):
    """Checkpoints by task: fill in the five primitives, each of them atomic.

    ``prefix_ids`` is False for formats whose ids carry no prefix.
    """

    def __init__(self, context: StoreContext, *, prefix_ids: bool = True) -> None:
        self.context: Final = context
        self._prefix = context.prefix if prefix_ids else ""

    async def save(self, checkpoint: Checkpoint, *, fence: LockHandle | None = None) -> None:
        row = self.encode(checkpoint)
        await self._save(row, self.context.fence(fence))

    async def load(self, checkpoint_id: str) -> Checkpoint | None:
        row = await self._load(self._stored(checkpoint_id, "checkpoint_id"))
        return None if row is None else self._decode(row)

    async def load_latest(self, task_id: str) -> Checkpoint | None:
        row = await self._load_latest(self._stored(task_id))
        return None if row is None else self._decode(row)

    async def list(self, task_id: str, *, type: Any = None) -> Sequence[Checkpoint]:
        return [self._decode(row, type) for row in await self._list(self._stored(task_id))]

    async def cleanup(
        self, task_id: str, keep_count: int, *, fence: LockHandle | None = None
    ) -> None:
        stored = self._stored(task_id)
        check_integer("keep_count", keep_count, 0)
        await self._trim(stored, keep_count, self.context.fence(fence))

    async def delete_all(self, task_id: str, *, fence: LockHandle | None = None) -> None:
        await self._trim(self._stored(task_id), 0, self.context.fence(fence))

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _save(self, row: StoredCheckpoint, fence: Fence | None) -> None:
        """Store the row if its sequence is above the task's highest, or replace the latest one.

        `check` raises the conflict otherwise. With a fence that is not current, raise
        ``lease_lost(fence)`` and change nothing.
        """

    @abstractmethod
    async def _load(self, checkpoint_id: str) -> StoredCheckpoint | None: ...

    @abstractmethod
    async def _load_latest(self, task_id: str) -> StoredCheckpoint | None: ...

    @abstractmethod
    async def _list(self, task_id: str) -> Sequence[StoredCheckpoint]:
        """The rows of the task, lowest sequence first."""

    @abstractmethod
    async def _trim(self, task_id: str, keep: int, fence: Fence | None) -> None:
        """Remove all but the ``keep`` rows of the highest sequence."""

    # --- helpers -----------------------------------------------------------------------------

    def check(
        self, row: StoredCheckpoint, latest: StoredCheckpoint | None, known: StoredCheckpoint | None
    ) -> None:
        """Raise `CheckpointConflict` unless the row may be saved.

        ``latest`` is the task's row of the highest sequence, ``known`` the one with the row's id.
        """
        is_above = latest is None or row.sequence > latest.sequence
        replaces = latest is not None and (latest.id, latest.sequence) == (row.id, row.sequence)
        if not replaces and (known is not None or not is_above):
            highest = None if latest is None else latest.sequence
            raise CheckpointConflict(row.task_id[len(self._prefix) :], row.sequence, highest)

    def _stored(self, key: str, what: str = "task_id") -> str:
        return self._prefix + check_key(key, what)

    def encode(self, checkpoint: Checkpoint) -> StoredCheckpoint:
        """Check the checkpoint, and return the row to store."""
        check_integer("sequence", checkpoint.sequence, 0)
        check_integer("timestamp", checkpoint.timestamp)
        if checkpoint.estimated_time_remaining is not None:
            remaining = checkpoint.estimated_time_remaining
            check_integer("estimated_time_remaining", remaining)
        if not math.isfinite(checkpoint.progress):
            raise ValueError(f"progress must be a finite number, not {checkpoint.progress!r}")
        return StoredCheckpoint(
            id=self._stored(checkpoint.id, "checkpoint id"),
            task_id=self._stored(checkpoint.task_id),
            sequence=checkpoint.sequence,
            timestamp=checkpoint.timestamp,
            progress=checkpoint.progress,
            text=self.context.encode(checkpoint.data),
            estimated_time_remaining=checkpoint.estimated_time_remaining,
        )

    def _decode(self, row: StoredCheckpoint, type: Any = None) -> Checkpoint:
        strip = len(self._prefix)
        task_id = str(row.task_id)[strip:]  # of another program's row, it may be anything
        try:
            _check_types(row)
            data: Any = decode(row.text, type)
        except DecodeError as exc:
            raise CorruptValue(task_id, str(exc)) from exc
        return Checkpoint(
            id=row.id[strip:],
            task_id=task_id,
            sequence=row.sequence,
            timestamp=row.timestamp,
            data=data,
            progress=row.progress,
            estimated_time_remaining=row.estimated_time_remaining,
        )


def _check_types(row: tuple[Any, ...]) -> None:
    """Raise `DecodeError` for a row that another program wrote with other types."""
    checkpoint_id, task_id, sequence, timestamp, progress, _, remaining = row
    integers = (sequence, timestamp, 0 if remaining is None else remaining)
    if not (
        isinstance(checkpoint_id, str)
        and isinstance(task_id, str)
        and all(type(integer) is int for integer in integers)
        and isinstance(progress, int | float)
        and math.isfinite(progress)
    ):
        raise DecodeError(f"its columns do not have the types of a checkpoint: {row!r:.200}")
