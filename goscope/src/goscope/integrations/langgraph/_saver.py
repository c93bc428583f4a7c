"""The saver."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final
from uuid import uuid4

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..._scope import Scope
from ...errors import CapabilityMissing, CheckpointConflict
from ...providers import Checkpoint as Row
from ...providers import CheckpointProvider
from ._rows import (
    PREFIX,
    Body,
    Commit,
    Place,
    Typed,
    Writes,
    commit_of,
    configurable,
    id_of,
    place_of,
    thread_root,
)

_FORK: Final = "__goscope_fork"
"""In a config: the checkpoint that a run was started from, and that was not the latest one."""

_FIRST_STEP: Final = -1


class GoscopeSaver(BaseCheckpointSaver[int]):
    """Saves the checkpoints of graphs, for their asynchronous methods (``graph.ainvoke``).

    The scope must be open, on a backend with checkpoints; to list threads and to delete, copy and
    prune them, also with inspection, else `CapabilityMissing`. Nothing expires: prune threads.
    """

    def __init__(self, gs: Scope, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._gs = gs

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint. Raises `CheckpointConflict` if another run has saved one first."""
        place, parent, checkpoint_id = place_of(config), get_checkpoint_id(config), checkpoint["id"]
        highest, latest = await self._latest(place, parent)
        if checkpoint_id != latest:
            if parent is None:
                continues = latest is None or not is_of_run(config, metadata)
            else:
                continues = parent in (latest, configurable(config).get(_FORK))
            if not continues:
                raise CheckpointConflict(place.commits, highest, highest)
        body = Body(
            place.thread,
            place.namespace,
            parent,
            self._dump(checkpoint),
            self._dump(get_serializable_checkpoint_metadata(config, metadata)),
        )
        await self._save(place.body(checkpoint_id), "1", 1, body)
        if checkpoint_id != latest:
            commit = Commit(place.thread, place.namespace, checkpoint_id)
            try:
                await self._save(place.commits, checkpoint_id, highest + 1, commit)
            except CheckpointConflict:
                await self._checkpoints.delete_all(place.body(checkpoint_id))
                raise
        return place.config(checkpoint_id)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save what a task has written before the next checkpoint."""
        task = place_of(config).writes(configurable(config)["checkpoint_id"])
        data = Writes(
            task_id,
            task_path,
            all(channel in WRITES_IDX_MAP for channel, _ in writes),
            [
                (WRITES_IDX_MAP.get(channel, index), channel, self._dump(value))
                for index, (channel, value) in enumerate(writes)
            ],
        )
        name = uuid4().hex
        while True:
            latest = await self._checkpoints.load_latest(task)
            try:
                await self._save(task, name, 1 if latest is None else latest.sequence + 1, data)
            except CheckpointConflict:
                continue  # a task that runs in parallel was first
            return

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, else the latest one of its thread."""
        place, checkpoint_id = place_of(config), get_checkpoint_id(config)
        _, latest = await self._latest(place, checkpoint_id)
        if checkpoint_id is None:
            return None if latest is None else await self._tuple(place, latest)
        found = await self._tuple(place, checkpoint_id)
        if found is not None and checkpoint_id != latest:
            configurable(found.config)[_FORK] = checkpoint_id
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints of a namespace, of a thread or of all threads, the latest first."""
        conf = configurable(config)
        wanted = conf.get("checkpoint_id")
        bound = None if before is None else get_checkpoint_id(before)
        if "thread_id" in conf and "checkpoint_ns" in conf:
            places: Iterable[Place] = [place_of(config)]
        else:
            thread = conf.get("thread_id")
            places = await self._places(None if thread is None else str(thread))
        ids = [
            (commit.checkpoint_id, place)
            for place in places
            for commit in map(commit_of, await self._commits(place))
            if wanted in (None, commit.checkpoint_id)
            and (bound is None or commit.checkpoint_id < bound)
        ]
        left = len(ids) if limit is None else limit
        for checkpoint_id, place in sorted(ids, reverse=True):
            if left <= 0:
                return
            found = await self._tuple(place, checkpoint_id)
            metadata: Any = {} if found is None else found.metadata
            if found is not None and all(metadata.get(k) == v for k, v in (filter or {}).items()):
                left -= 1
                yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete the thread in all its namespaces."""
        # The commits first: a thread that is half deleted shows no checkpoint.
        for task in sorted(await self._tasks(thread_id), key=lambda it: ":commits" not in it):
            await self._checkpoints.delete_all(task)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of the runs, in all threads."""
        for place in await self._places(None):
            for commit in map(commit_of, await self._commits(place)):
                found = await self._tuple(place, commit.checkpoint_id)
                if found is not None and found.metadata.get("run_id") in run_ids:
                    await self._delete(place, commit.checkpoint_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread. What the other thread has is kept."""
        for place in await self._places(source_thread_id):
            target = place._replace(thread=target_thread_id)
            for commit in map(commit_of, await self._commits(place)):
                await self._copy(place, target, commit.checkpoint_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete the threads (``"delete"``), or all but their latest checkpoints.

        An older one is kept, too, while a delta channel of the latest one is rebuilt from it.
        """
        for thread in thread_ids:
            if strategy != "keep_latest":
                await self.adelete_thread(thread)
                continue
            for place in await self._places(thread):
                _, latest = await self._latest(place)
                kept = await self._needed(place, latest)
                for commit in map(commit_of, await self._commits(place)):
                    if commit.checkpoint_id not in kept:
                        await self._delete(place, commit.checkpoint_id)

    async def _needed(self, place: Place, latest: str | None) -> set[str]:
        """The latest checkpoint, and the ancestors up to the snapshots of its delta channels."""
        needed: set[str] = set()
        found = None if latest is None else await self._tuple(place, latest)
        missing: set[str] | None = None
        while found is not None and (missing is None or missing):
            needed.add(found.checkpoint["id"])
            if missing is None:
                metadata: Any = found.metadata
                missing = set(metadata.get("counters_since_delta_snapshot") or ())
            missing -= set(found.checkpoint["channel_values"])
            parent = found.parent_config
            found = None if parent is None else await self._tuple(place, id_of(parent))
        return needed

    async def _tuple(self, place: Place, checkpoint_id: str) -> CheckpointTuple | None:
        row = await self._checkpoints.load_latest(place.body(checkpoint_id))
        if row is None:
            return None
        body = msgspec.convert(row.data, Body)
        return CheckpointTuple(
            place.config(checkpoint_id),
            self._load(body.checkpoint),
            self._load(body.metadata),
            None if body.parent is None else place.config(body.parent),
            await self._pending(place, checkpoint_id),
        )

    async def _pending(self, place: Place, checkpoint_id: str) -> list[PendingWrite]:
        """The writes to a checkpoint: of each task and index the first one, or what replaced it."""
        found: dict[tuple[str, int], tuple[str, PendingWrite]] = {}
        for row in await self._checkpoints.list(place.writes(checkpoint_id), type=Writes):
            data: Writes = row.data
            for index, channel, value in data.writes:
                if data.replaces or (data.task_id, index) not in found:
                    write = (data.task_id, channel, self._load(value))
                    found[data.task_id, index] = (data.task_path, write)
        ordered = sorted(found.items(), key=lambda it: (it[1][0], *it[0]))
        return [write for _, (_, write) in ordered]

    async def _copy(self, place: Place, target: Place, checkpoint_id: str) -> None:
        body = await self._checkpoints.load_latest(place.body(checkpoint_id))
        if body is None:
            return
        data = msgspec.structs.replace(msgspec.convert(body.data, Body), thread=target.thread)
        await self._save(target.body(checkpoint_id), "1", 1, data)
        for row in await self._checkpoints.list(place.writes(checkpoint_id)):
            await self._save(target.writes(checkpoint_id), uuid4().hex, row.sequence, row.data)
        highest, _ = await self._latest(target)
        commit = Commit(target.thread, target.namespace, checkpoint_id)
        await self._save(target.commits, checkpoint_id, highest + 1, commit)

    async def _delete(self, place: Place, checkpoint_id: str) -> None:
        """Delete a checkpoint. Its commit stays until the thread is deleted: it names nothing."""
        await self._checkpoints.delete_all(place.body(checkpoint_id))
        await self._checkpoints.delete_all(place.writes(checkpoint_id))

    async def _commits(self, place: Place) -> Sequence[Row]:
        return await self._checkpoints.list(place.commits, type=Commit)

    async def _latest(self, place: Place, expected: str | None = None) -> tuple[int, str | None]:
        """The highest sequence of the commits, and the latest checkpoint that was not deleted.

        An ``expected`` one is not looked up.
        """
        last = await self._checkpoints.load_latest(place.commits)
        if last is None:
            return 0, None
        if msgspec.convert(last.data, Commit).checkpoint_id == expected:
            return last.sequence, expected
        for row in reversed(await self._commits(place)):
            checkpoint_id = commit_of(row).checkpoint_id
            if await self._checkpoints.load_latest(place.body(checkpoint_id)) is not None:
                return last.sequence, checkpoint_id
        return last.sequence, None

    async def _places(self, thread: str | None) -> list[Place]:
        """The namespaces of a thread, or of all threads."""
        places: list[Place] = []
        for task in await self._tasks(thread):
            if task.endswith(":commits"):
                row = await self._checkpoints.load_latest(task)
                if row is not None:
                    commit = msgspec.convert(row.data, Commit)
                    places.append(Place(commit.thread, commit.namespace))
        return places

    async def _tasks(self, thread: str | None) -> list[str]:
        pattern = f"{PREFIX if thread is None else thread_root(thread)}*"
        return [task.id async for task in self._gs.inspect.tasks(pattern)]

    async def _save(self, task: str, name: str, sequence: int, data: Any) -> None:
        """Save a row under a name that no other writer gives to one of the task."""
        row = Row(
            id=f"{task}:{name}",
            task_id=task,
            sequence=sequence,
            timestamp=time.time_ns() // 1_000_000,
            data=data,
        )
        await self._checkpoints.save(row)

    @property
    def _checkpoints(self) -> CheckpointProvider:
        provider = self._gs.persistence.checkpoint
        if provider is None:
            raise CapabilityMissing(
                "of this scope", "checkpoint provider", "choose a backend that has one"
            )
        return provider

    def _dump(self, value: Any) -> Typed:
        return Typed(*self.serde.dumps_typed(value))

    def _load(self, typed: Typed) -> Any:
        return self.serde.loads_typed((typed.type, typed.data))


def is_of_run(config: RunnableConfig, metadata: CheckpointMetadata) -> bool:
    """Whether a graph saves it, which continues the latest checkpoint if there is one."""
    names: Iterable[str] = configurable(config)
    in_run = any(name.startswith("__pregel_") for name in names)
    return in_run or metadata.get("step") == _FIRST_STEP
