"""``gs.run`` and ``@gs.resumable``: long work that goes on where it stopped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

from ._key_template import KeyTemplate
from ._lease import Granted, LeaseGuard
from ._progress import Progress
from ._result import require_coroutine_function
from ._runtime import Runtime
from .backend import UndecodableText, check_key, convert, settle
from .errors import ConfigurationError, CorruptValue, GoscopeError, TaskAlreadyRunning
from .events import CheckpointResumed, CheckpointSaved, TaskCompleted
from .providers import Checkpoint, CheckpointProvider, LockHandle

S = TypeVar("S")
Instance = TypeVar("Instance")
R = TypeVar("R")
P = ParamSpec("P")

DEFAULT_INTERVAL_MS: Final = 5_000


class TaskCheckpoint(Generic[S]):
    """The saved state of a running task.

    `save` is committed when it returns. `update` only remembers: it is saved every ``interval``
    and when the task ends without success, so a killed process loses at most an interval.
    """

    def __init__(
        self,
        runtime: Runtime,
        task_id: str,
        progress: Progress,
        *,
        state: type[S] | None,
        keep: int,
        interval_ms: int,
    ) -> None:
        self._runtime = runtime
        self._provider: CheckpointProvider = runtime.require(
            runtime.adapter.checkpoint, "checkpoint"
        )
        self._task_id = task_id
        self._progress = progress
        self._state = state
        self._keep = keep
        self._interval_ms = interval_ms
        self._fence: LockHandle | None = None
        self._saving = asyncio.Lock()
        self._unsaved = False
        self._updates = 0
        self._saver: asyncio.Task[None] | None = None
        self._rows = 0
        self.data: S | None = None
        """The last saved or updated state, None before the first."""
        self.sequence = 0
        """The sequence of the last saved checkpoint, 0 before the first."""

    async def save(self, data: S, *, progress: float | None = None) -> None:
        """Save the state, and the percentage done if given; committed when this returns.

        Raises `LeaseLost` when another owner took the task over, `SerializationError` for data
        JSON cannot carry; nothing is saved then.
        """
        if progress is not None:
            self._progress.update(progress)
        async with self._saving:
            await settle(asyncio.ensure_future(self._save(data)))

    def update(self, data: S, *, progress: float | None = None) -> None:
        """Remember the state; it is saved every interval and at an exit without success."""
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
        latest = await self._provider.load_latest(self._task_id)
        if latest is None:
            return False
        try:
            self.data = convert(latest.data, self._state)
        except UndecodableText as exc:
            raise CorruptValue(self._task_id, str(exc)) from exc
        self.sequence = latest.sequence
        self._rows = self._keep  # unknown, so the first save trims
        self._progress.resume(latest.progress)
        return True

    async def _save(self, data: S | None) -> None:
        """Save; never cancelled on its way, so that `sequence` stays what the store has."""
        began = self._runtime.clock.steady_ms()
        updates = self._updates
        checkpoint = Checkpoint(
            id=os.urandom(16).hex(),
            task_id=self._task_id,
            sequence=self.sequence + 1,
            timestamp=self._runtime.clock.wall_ms(),
            data=data,
            progress=self._progress.percentage,
            estimated_time_remaining=self._progress.eta_ms,
        )
        await self._provider.save(checkpoint, fence=self._fence)
        self.sequence = checkpoint.sequence
        if updates == self._updates:  # else a newer state came meanwhile and waits to be saved
            self.data = data
            self._unsaved = False
        await self._trim()
        if self._runtime.observers.active:
            self._runtime.observers.emit(
                CheckpointSaved(
                    key=self._task_id,
                    duration_ms=self._runtime.clock.steady_ms() - began,
                    sequence=checkpoint.sequence,
                    progress=checkpoint.progress,
                )
            )

    async def _trim(self) -> None:
        self._rows += 1
        if self._rows > self._keep:
            await self._provider.cleanup(self._task_id, self._keep, fence=self._fence)
            self._rows = self._keep

    async def _save_unsaved(self) -> None:
        async with self._saving:
            if self._unsaved:
                await settle(asyncio.ensure_future(self._save(self.data)))

    async def _save_every_interval(self) -> None:
        while True:
            await self._runtime.clock.sleep(self._interval_ms / 1000)
            # What cannot be saved now is tried again at the next interval and at the exit, where
            # the error is noted; a lost lease ends the body by itself.
            with contextlib.suppress(GoscopeError):
                await self._save_unsaved()

    async def _stop(self) -> None:
        """Stop saving by interval; what was not saved stays unsaved."""
        if self._saver is not None:
            self._saver.cancel()
            await asyncio.wait([self._saver])
            self._saver = None

    async def _discard(self) -> None:
        """Remove all checkpoints: the task is done."""
        await self._provider.delete_all(self._task_id, fence=self._fence)


class Task(Generic[S]):
    """What a resumable function works with: its id, its checkpoint and its progress."""

    def __init__(self, task_id: str, checkpoint: TaskCheckpoint[S], progress: Progress) -> None:
        self.id: Final = task_id
        self.checkpoint: Final = checkpoint
        self.progress: Final = progress
        self.resumed = False
        """Whether it starts from a checkpoint of an earlier run."""


OnResume: TypeAlias = Callable[[Task[S]], Awaitable[object] | object]
"""Called with a task that starts from a checkpoint of an earlier run; its result is ignored."""


class Tasks:
    """The resumable tasks of one scope."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._running: Final[set[str]] = set()

    async def run(
        self,
        task_id: str,
        fn: Callable[[Task[Any]], Awaitable[R]],
        *,
        state: type[Any] | None,
        keep: int,
        interval_ms: int | None,
        wait_ms: int | None,
        on_resume: OnResume[Any] | None,
    ) -> R:
        """Run ``fn(task)`` under the task's lease, from its last checkpoint on."""
        check_key(task_id, "task_id")
        if type(keep) is not int or keep < 1:
            raise ValueError(f"keep must be an int of at least 1, not {keep!r}")
        runtime = self._runtime()
        progress = Progress(runtime.clock)
        checkpoint = TaskCheckpoint[Any](
            runtime,
            task_id,
            progress,
            state=state,
            keep=keep,
            interval_ms=interval_ms or DEFAULT_INTERVAL_MS,
        )
        granted = await self._own(runtime, task_id, wait_ms)
        self._running.add(task_id)
        try:
            async with runtime.guard(granted, task_id) as guard:
                task = Task(task_id, checkpoint, progress)
                return await _run(runtime, task, guard, fn, on_resume)
        finally:
            self._running.discard(task_id)

    async def _own(self, runtime: Runtime, task_id: str, wait_ms: int | None) -> Granted:
        """Take the task's lease. Raises `TaskAlreadyRunning` when its owner is alive."""
        lease, ttl_ms, leases = f"task:{task_id}", runtime.lease_ttl_ms, runtime.leases
        granted = await leases.acquire(lease, ttl_ms, wait_ms=wait_ms or 0)
        if granted is None and wait_ms is None and task_id not in self._running:
            granted = await _outlast(runtime, lease)
        if granted is None:
            raise TaskAlreadyRunning(task_id, await leases.provider.holder(lease))
        return granted


async def _outlast(runtime: Runtime, lease: str) -> Granted | None:
    """Take the lease when it runs out; None as soon as it is seen renewed by a living owner."""
    holder = await runtime.leases.provider.holder(lease)
    left_ms = 0 if holder is None else holder.expires_in_ms
    # Two readings of one expiry differ by rounding and scheduling, a renewal moves it by more.
    tolerance_ms = runtime.lease_ttl_ms // 6
    expiry = runtime.clock.steady_ms() + left_ms + tolerance_ms

    async def renewed() -> bool:
        now = await runtime.leases.provider.holder(lease)
        return now is not None and runtime.clock.steady_ms() + now.expires_in_ms > expiry

    return await runtime.leases.acquire(
        lease, runtime.lease_ttl_ms, wait_ms=left_ms + tolerance_ms, finished=renewed
    )


async def _run(
    runtime: Runtime,
    task: Task[Any],
    guard: LeaseGuard,
    fn: Callable[[Task[Any]], Awaitable[R]],
    on_resume: OnResume[Any] | None,
) -> R:
    began = runtime.clock.steady_ms()
    checkpoint = task.checkpoint
    task.resumed = await checkpoint._load(guard.handle)
    try:
        if task.resumed:
            await _tell_resumed(runtime, task, on_resume)
        result = await fn(task)
    except BaseException as exc:
        await checkpoint._stop()
        try:
            await checkpoint._save_unsaved()
        except GoscopeError as failure:
            exc.add_note(f"and its last state could not be saved: {failure}")
        raise
    await checkpoint._stop()
    await checkpoint._discard()
    if runtime.observers.active:
        duration_ms = runtime.clock.steady_ms() - began
        runtime.observers.emit(TaskCompleted(key=task.id, duration_ms=duration_ms))
    return result


async def _tell_resumed(runtime: Runtime, task: Task[Any], on_resume: OnResume[Any] | None) -> None:
    if runtime.observers.active:
        runtime.observers.emit(
            CheckpointResumed(
                key=task.id,
                sequence=task.checkpoint.sequence,
                progress=task.progress.percentage,
            )
        )
    if on_resume is not None:
        answer = on_resume(task)
        if inspect.isawaitable(answer):
            await answer


class Resumable(Protocol[S]):
    """What ``@gs.resumable(...)`` makes of a function, or of a method, that takes a task."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Task[S], P], Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Instance, Task[S], P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[Instance, P], Coroutine[Any, Any, R]]: ...


def resumable(
    tasks: Tasks,
    function: Callable[..., Coroutine[Any, Any, R]],
    template: str,
    *,
    state: type[Any] | None,
    keep: int,
    interval_ms: int | None,
    wait_ms: int | None,
    on_resume: OnResume[Any] | None,
) -> Callable[..., Coroutine[Any, Any, R]]:
    """Wrap a coroutine function of a task and more arguments; callers pass only the latter."""
    require_coroutine_function(function)
    parameters = list(inspect.signature(function).parameters.values())
    place = 1 if parameters and parameters[0].name in ("self", "cls") else 0
    if len(parameters) <= place:
        raise ConfigurationError(
            f"{function.__qualname__} must take the task as its first argument"
        )
    del parameters[place]
    task_id = KeyTemplate(template, inspect.Signature(parameters))

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> R:
        return await tasks.run(
            task_id.render(args, kwargs),
            lambda task: function(*args[:place], task, *args[place:], **kwargs),
            state=state,
            keep=keep,
            interval_ms=interval_ms,
            wait_ms=wait_ms,
            on_resume=on_resume,
        )

    return wrapper
