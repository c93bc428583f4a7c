"""One worker process: takes shards nobody is at, and imports their records."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

import msgspec

from .... import CircuitOpen, OperationInProgress, Scope, TaskAlreadyRunning, TaskContext
from . import _records
from ._child import Job, run_child
from ._client import Place, ServiceClient, ServiceFailed
from ._recorder import Recorder
from ._records import Record, Shard
from ._store import TTL, Position, charge_key, circuit, country_key, shard_key, task_id

LOOK_AGAIN_SECONDS: Final = 0.1
SHORTEST_PAUSE_SECONDS: Final = 0.01
LONGEST_PAUSE_SECONDS: Final = 0.25
"""Beside a probe the circuit can only promise to be free when the probe's lease has run out."""


class Imported(msgspec.Struct, frozen=True):
    """The result of a record: what it was enriched with, and the receipt of its only charge."""

    name: str
    place: Place
    receipt: int


class Importer:
    """Imports shards until all are done, by whomever."""

    def __init__(self, gs: Scope, service: ServiceClient, job: Job) -> None:
        self._gs = gs
        self._service = service
        self._worker = job.name
        self._batch = job.plan.batch
        self._shards = _records.split(_records.load(job.plan.records))
        job.plan.chance("order").shuffle(self._shards)
        self._circuit = circuit(gs)

    async def import_all(self) -> None:
        """Import one shard after the other; what others are at is looked at again later."""
        pending = list(self._shards)
        while pending:
            for shard in pending:
                if await self._import_shard(shard):
                    pending.remove(shard)
                    break  # from the start again: the shard of a worker that died comes first
            else:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _import_shard(self, shard: Shard) -> bool:
        """Import a shard unless it is imported; False while somebody else is at it."""

        async def import_once() -> int:
            task = task_id(shard.number)
            return await self._gs.tasks.run(
                task,
                lambda task: self._import(shard, task),
                type=Position,
                max_checkpoints=2,
                wait=0,
            )

        try:
            await self._gs.idempotency.run(shard_key(shard.number), import_once, ttl=TTL, wait=0)
        except (OperationInProgress, TaskAlreadyRunning):
            return False
        return True

    async def _import(self, shard: Shard, task: TaskContext[Position]) -> int:
        """Import what is left of a shard, batch by batch, each with its checkpoint."""
        begin = 0 if task.checkpoint.data is None else task.checkpoint.data.done
        for first in range(begin, shard.size, self._batch):
            batch = shard.records[first : first + self._batch]
            async with asyncio.TaskGroup() as group:
                for record in batch:
                    group.create_task(self._import_record(record))
            done = first + len(batch)
            await task.checkpoint.save(
                Position(done, self._worker), progress=100 * done / shard.size
            )
        return shard.size

    async def _import_record(self, record: Record) -> None:
        place = await self._gs.cache.get_or_set(
            country_key(record.place), lambda: self._ask(record), ttl=TTL, type=Place
        )

        async def charge() -> Imported:
            charged = await self._service.charge(record)
            return Imported(record.name, place, charged.receipt)

        await self._gs.idempotency.run(charge_key(record.icao), charge, ttl=TTL)

    async def _ask(self, record: Record) -> Place:
        """Ask the service through the circuit, as often as it takes."""
        while True:
            try:
                return await self._circuit.call(lambda: self._service.place(record))
            except CircuitOpen as exc:
                pause = max(exc.retry_after or 0, SHORTEST_PAUSE_SECONDS)
                await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))
            except ServiceFailed:
                pass  # the circuit counted it and decides what becomes of the next call


async def work(job: Job) -> None:
    """Import until nothing is left, or until cancelled: then leases are given back."""
    recorder = Recorder(job.name)
    async with (
        job.store.scope([recorder]) as gs,
        ServiceClient(job.service, job.name) as service,
        asyncio.TaskGroup() as group,
    ):
        recording = group.create_task(recorder.write(gs.cache))
        await Importer(gs, service, job).import_all()
        await recorder.flush()
        recording.cancel()


if __name__ == "__main__":
    run_child(work, leave_on=[signal.SIGINT, signal.SIGTERM])
