"""Kills one worker with SIGKILL in the middle of a shard."""

from __future__ import annotations

import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from typing import Final

from .... import Scope
from ._plan import Plan
from ._records import Shard
from ._snapshot import ShardState, Snapshot, take
from ._store import KILLED, TTL, Kill


class FaultInjector:
    """Picks a worker, and kills it after part of the import."""

    def __init__(self, gs: Scope, plan: Plan, shards: Sequence[Shard]) -> None:
        self._gs = gs
        self._shards: Final = shards
        rng = plan.rng("kill")
        self._min_done = plan.records * rng.uniform(0.2, 0.35)
        self._victim_share = rng.random()

    async def kill_if_due(self, snapshot: Snapshot, workers: Mapping[str, Process]) -> Kill | None:
        """Kill the victim if enough records are imported and it is in the middle of a shard."""
        victim = sorted(workers)[int(self._victim_share * len(workers))]
        process = workers[victim]
        if snapshot.done < self._min_done or not snapshot.shard_of(victim):
            return None
        if process.returncode is not None:
            return None
        state = await self._kill_within_shard(victim, process)
        if state is None:
            return None
        await process.wait()
        kill = Kill(victim, state.shard.number, state.done)
        await self._gs.cache.set(KILLED, kill, TTL)
        return kill

    async def _kill_within_shard(self, victim: str, process: Process) -> ShardState | None:
        """Suspend the victim and check again: it may have left the shard since the snapshot."""
        process.send_signal(signal.SIGSTOP)
        state: ShardState | None = None
        try:
            state = (await take(self._gs, self._shards)).shard_of(victim)
        finally:
            process.send_signal(signal.SIGCONT if state is None else signal.SIGKILL)
        return state
