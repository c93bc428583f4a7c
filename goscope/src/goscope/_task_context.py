"""What a resumable function works with: its context and its checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, get_args

import msgspec

from ._progress import Progress
from ._runtime import Runtime
from ._tools.cancellation import finish_before_cancel
from ._tools.codec import DecodeError, checked, convert
from .errors import CorruptValue, GoscopeError, ScopeNotOpen
from .events import CheckpointSaved
from .providers import Checkpoint, CheckpointProvider, LockHandle

S = TypeVar("S")

AfterWait: TypeAlias = Literal["raise", "run"]
"""What a run does when the owner it waited for has finished the task."""

DEFAULT_SAVE_INTERVAL_MS: Final = 5_000


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a task runs and what it keeps; see `goscope.Scope.resumable`."""

    type: Any
    max_checkpoints: int
    save_interval_ms: int
    wait_ms: int | None
    after_wait: AfterWait
    on_resume: OnResume[Any] | None

    def __post_init__(self) -> None:
        if self.after_wait not in get_args(AfterWait):
            raise ValueError(f"after_wait must be 'raise' or 'run', not {self.after_wait!r}")
        kept: object = self.max_checkpoints
        if type(kept) is not int or kept < 1:
            raise ValueError(f"max_checkpoints must be an int of at least 1, not {kept!r}")


class TaskCheckpoint(Generic[S]):
    """The saved state of a running task.

    `save` is committed when it returns. `update` keeps the state in memory: it is saved every
    ``save_interval``, when the task fails and when the scope closes, so a killed process loses at
    most one interval.
    """

    def __init__(
        self,
        runtime: Runtime,
        task_id: str,
        progress: Progress,
        options: TaskOptions,
        template: str | None,
    ) -> None:
        self._runtime = runtime
        self._provider: CheckpointProvider = runtime.require(
            runtime.adapter.checkpoint, "checkpoint"
        )
        self._task_id = task_id
        self._progress = progress
        self._options = options
        self._template = template
        self._fence: LockHandle | None = None
        self._saving = asyncio.Lock()
        self._unsaved = False
        self._updates = 0
        self._ended = False
        self._scope_closed = False
        self._saver: asyncio.Task[None] | None = None
        self._rows = 0
        self.data: S | None = None
        """The last saved or updated state, None before the first."""
        self.sequence = 0
        """The sequence of the last saved checkpoint, 0 before the first."""

    async def save(
        self,
        data: S,
        *,
        progress: float | None = None,
        within: Callable[[Any], Any] | None = None,
    ) -> None:
        """Save the state, and the percentage done if given; committed when this returns.

        ``within`` is a function of a connection of the driver, as for `goscope.Scope.transaction`:
        what it writes to your own tables is committed together with the checkpoint, or neither is.

        Raises `LeaseLost` when another owner has taken the task over, `SerializationError` for
        data that JSON cannot carry, and what ``within`` raises; nothing is saved then.
        """
        if progress is not None:
            self._progress.update(progress)
        async with self._saving:
            await finish_before_cancel(asyncio.ensure_future(self._save(data, within)))

    def update(self, data: S, *, progress: float | None = None) -> None:
        """Keep the state; it is saved every ``save_interval``, when the task fails and on close.

        Raises `ScopeNotOpen` once the scope is closed, and ``RuntimeError`` once the run has ended:
        nothing would save it.
        """
        if self._scope_closed:
            raise ScopeNotOpen(
                f"the scope was closed while task {self._task_id!r} ran: its last state was saved, "
                f"and no later one can be. End the task before the scope"
            )
        if self._ended:
            raise RuntimeError(
                f"the run of task {self._task_id!r} has ended, and nothing saves its state any "
                f"more. Update the checkpoint while the function of the task runs"
            )
        if progress is not None:
            self._progress.update(progress)
        self.data = data
        self._updates += 1
        self._unsaved = True
        if self._saver is None:
            self._saver = asyncio.create_task(self._save_every_interval())

    async def _load(self, fence: LockHandle) -> bool:
        """Start from the last saved state under the lease; whether there is one."""
        self._fence = fence
        self._runtime.before_close.add(self._end_with_scope)
        latest = await self._provider.load_latest(self._task_id)
        if latest is None:
            return False
        try:
            self.data = convert(latest.data, self._options.type)
        except DecodeError as exc:
            raise CorruptValue(self._task_id, str(exc)) from exc
        self.sequence = latest.sequence
        self._rows = self._options.max_checkpoints  # unknown, so the first save trims
        self._progress.resume(latest.progress)
        return True

    async def _save(self, data: S | None, within: Callable[[Any], Any] | None = None) -> None:
        """Save; runs to the end, so that `sequence` stays what the store has."""
        started = self._runtime.event_start()
        updates = self._updates
        checkpoint = Checkpoint(
            id=os.urandom(16).hex(),
            task_id=self._task_id,
            sequence=self.sequence + 1,
            timestamp=self._runtime.clock.wall_ms(),
            data=checked(data, self._options.type),
            progress=self._progress.percentage,
            estimated_time_remaining=self._progress.eta_ms,
        )
        if within is None:
            await self._provider.save(checkpoint, fence=self._fence)
        else:
            transactions = self._runtime.require_transactions()
            await transactions.save(checkpoint, within, fence=self._fence)
        self.sequence = checkpoint.sequence
        if updates == self._updates:  # else a newer state is waiting to be saved
            self.data = data
            self._unsaved = False
        await self._trim()
        self._runtime.emit(
            CheckpointSaved,
            self._task_id,
            started,
            template=self._template,
            sequence=checkpoint.sequence,
            progress=checkpoint.progress,
        )

    async def _trim(self) -> None:
        self._rows += 1
        if self._rows > self._options.max_checkpoints:
            await self._provider.cleanup(
                self._task_id, self._options.max_checkpoints, fence=self._fence
            )
            self._rows = self._options.max_checkpoints

    async def _save_unsaved(self) -> None:
        async with self._saving:
            if self._unsaved:
                await finish_before_cancel(asyncio.ensure_future(self._save(self.data)))

    async def _save_every_interval(self) -> None:
        while True:
            await self._runtime.clock.sleep(self._options.save_interval_ms / 1000)
            # A failed save is repeated at the next interval and at the exit, which adds the error
            # as a note; a lost lease ends the body by itself.
            with contextlib.suppress(GoscopeError):
                await self._save_unsaved()

    async def _end(self) -> None:
        """Stop saving by interval, without saving what is unsaved."""
        self._ended = True
        self._runtime.before_close.discard(self._end_with_scope)
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.wait([self._saver])
            self._saver = None

    async def _end_and_save(self) -> None:
        """Stop saving by interval, and save what is unsaved."""
        await self._end()
        await self._save_unsaved()

    async def _end_with_scope(self) -> None:
        """Save what is unsaved, and refuse later updates: the body may run on."""
        self._scope_closed = True
        await self._end_and_save()

    async def _discard(self) -> None:
        """Remove all checkpoints: the task is done."""
        await self._provider.delete_all(self._task_id, fence=self._fence)


class TaskContext(Generic[S]):
    """What a resumable function works with: its id, its checkpoint and its progress."""

    def __init__(self, task_id: str, checkpoint: TaskCheckpoint[S], progress: Progress) -> None:
        self.id: Final = task_id
        self.checkpoint: Final = checkpoint
        self.progress: Final = progress
        self.resumed = False
        """Whether it resumes from a checkpoint of an earlier run."""


OnResume: TypeAlias = Callable[[TaskContext[S]], Awaitable[object] | object]
"""Called with a task that resumes from a checkpoint of an earlier run; its result is ignored."""
