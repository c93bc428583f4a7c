"""A worker process: imports the shards that no other worker is importing."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

import msgspec

from .... import CircuitOpen, OperationInProgress, Scope, TaskAlreadyRunning, TaskContext
from . import _airports, _records
from ._airports import Airport
from ._child import Job, run_child
from ._client import Place, ServiceClient, ServiceFailed
from ._recorder import Recorder
from ._records import Record, Shard
from ._store import TTL, Position, charge_key, circuit, country_key, shard_key, task_id

SHARD_RETRY_INTERVAL_S: Final = 0.1
MIN_CIRCUIT_PAUSE_S: Final = 0.01
MAX_CIRCUIT_PAUSE_S: Final = 0.25
"""While a probe runs, ``retry_after`` is the rest of its lease; the circuit may close sooner."""


class Imported(msgspec.Struct, frozen=True):
    """The result of importing a record: its place, and the receipt of its charge."""

    name: str
    place: Place
    receipt: int


class Importer:
    """Imports shards until no worker has any left."""

    def __init__(self, gs: Scope, service: ServiceClient, job: Job) -> None:
        self._gs = gs
        self._service = service
        self._worker = job.name
        self._batch = job.plan.batch
        self._shards = _records.split(_records.load(job.plan.records))
        job.plan.rng("order").shuffle(self._shards)
        self._circuit = circuit(gs)
        self._has_table = _airports.is_in_file(gs, job.store)

    async def import_all(self) -> None:
        """Import one shard after another; retry later the shards of other workers."""
        pending = list(self._shards)
        while pending:
            for shard in pending:
                if await self._import_shard(shard):
                    pending.remove(shard)
                    break  # start over, so that the shard of a dead worker comes first
            else:
                await asyncio.sleep(SHARD_RETRY_INTERVAL_S)

    async def _import_shard(self, shard: Shard) -> bool:
        """Import a shard unless it is done; False while another worker is importing it."""

        async def run_task() -> int:
            return await self._gs.tasks.run(
                task_id(shard.number),
                lambda task: self._import_batches(shard, task),
                type=Position,
                max_checkpoints=2,
                wait=0,
            )

        try:
            await self._gs.idempotency.run(shard_key(shard.number), run_task, ttl=TTL, wait=0)
        except (OperationInProgress, TaskAlreadyRunning):
            return False
        return True

    async def _import_batches(self, shard: Shard, task: TaskContext[Position]) -> int:
        """Import the rest of a shard in batches, and save a checkpoint after each batch."""
        begin = 0 if task.checkpoint.data is None else task.checkpoint.data.done
        for first in range(begin, shard.size, self._batch):
            batch = shard.records[first : first + self._batch]
            async with asyncio.TaskGroup() as group:
                imports = [group.create_task(self._import_record(record)) for record in batch]
            done = first + len(batch)
            rows = [each.result() for each in imports]
            await task.checkpoint.save(
                Position(done, self._worker),
                progress=100 * done / shard.size,
                within=_airports.inserting(rows) if self._has_table else None,
            )
        return shard.size

    async def _import_record(self, record: Record) -> Airport:
        place = await self._gs.cache.get_or_set(
            country_key(record.place), lambda: self._look_up(record), ttl=TTL, type=Place
        )

        async def charge() -> Imported:
            charged = await self._service.charge(record)
            return Imported(record.name, place, charged.receipt)

        imported = await self._gs.idempotency.run(
            charge_key(record.icao), charge, ttl=TTL, type=Imported
        )
        return Airport(record.icao, imported.name, imported.receipt, self._worker)

    async def _look_up(self, record: Record) -> Place:
        """Call the service through the circuit until it answers."""
        while True:
            try:
                return await self._circuit.call(lambda: self._service.place(record))
            except CircuitOpen as exc:
                pause = max(exc.retry_after or 0, MIN_CIRCUIT_PAUSE_S)
                await asyncio.sleep(min(pause, MAX_CIRCUIT_PAUSE_S))
            except ServiceFailed:
                pass  # the circuit has counted the failure and decides about the next call


async def work(job: Job) -> None:
    """Import until every shard is done or this is cancelled, which releases the leases."""
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
    run_child(work, stop_on=[signal.SIGINT, signal.SIGTERM])
