"""The progress of the import, read from the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from .... import Scope
from ._records import Shard
from ._store import Position, checkpoints, circuit, shard_key, task_id


class ShardState(NamedTuple):
    """The progress of one shard.

    ``position`` is its latest checkpoint, None before the first one and after the shard is done.
    """

    shard: Shard
    is_done: bool
    position: Position | None

    @property
    def done(self) -> int:
        """The number of imported records, according to the checkpoints."""
        if self.is_done:
            return self.shard.size
        return 0 if self.position is None else self.position.done


class Snapshot(NamedTuple):
    """The progress of all shards, and the state of the circuit."""

    shards: Sequence[ShardState]
    circuit: str

    @property
    def done(self) -> int:
        """The number of imported records, according to the checkpoints."""
        return sum(state.done for state in self.shards)

    def shard_of(self, worker: str) -> ShardState | None:
        """The shard that a worker is importing, None between two shards."""
        for state in self.shards:
            position = state.position
            if position is not None and position.worker == worker and state.done < state.shard.size:
                return state
        return None


async def take(gs: Scope, shards: Sequence[Shard]) -> Snapshot:
    """Read the progress of all shards."""
    states = [await _shard_state(gs, shard) for shard in shards]
    return Snapshot(states, (await circuit(gs).state()).state)


async def _shard_state(gs: Scope, shard: Shard) -> ShardState:
    if await gs.idempotency.get(shard_key(shard.number)) is not None:
        return ShardState(shard, True, None)
    latest = await checkpoints(gs).load_latest(task_id(shard.number))
    position = None if latest is None else msgspec.convert(latest.data, Position)
    return ShardState(shard, False, position)
