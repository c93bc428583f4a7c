"""Kills one worker with SIGKILL, surely in the middle of a shard."""

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


class Killer:
    """Watches for the moment in which its victim is to die."""

    def __init__(self, gs: Scope, plan: Plan, shards: Sequence[Shard]) -> None:
        self._gs = gs
        self._shards: Final = shards
        chance = plan.chance("kill")
        self._after = plan.records * chance.uniform(0.2, 0.35)
        self._choice = chance.random()

    async def look(self, snapshot: Snapshot, workers: Mapping[str, Process]) -> Kill | None:
        """Kill the victim if enough is imported and it is in the middle of a shard."""
        victim = sorted(workers)[int(self._choice * len(workers))]
        process = workers[victim]
        if snapshot.done < self._after or not snapshot.of(victim) or process.returncode is not None:
            return None
        state = await self._kill_in_the_middle(victim, process)
        if state is None:
            return None
        await process.wait()
        kill = Kill(victim, state.shard.number, state.done)
        await self._gs.cache.set(KILLED, kill, TTL)
        return kill

    async def _kill_in_the_middle(self, victim: str, process: Process) -> ShardState | None:
        """Stop the victim and look again: it may have finished the shard since the snapshot."""
        process.send_signal(signal.SIGSTOP)
        state: ShardState | None = None
        try:
            state = (await take(self._gs, self._shards)).of(victim)
        finally:
            process.send_signal(signal.SIGCONT if state is None else signal.SIGKILL)
        return state
