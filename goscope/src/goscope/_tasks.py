"""``gs.tasks`` and ``@gs.resumable``: long work that resumes where it stopped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, overload

from ._key_template import KeyTemplate
from ._lease_guard import LeaseGuard
from ._lease_queue import Granted
from ._progress import Progress
from ._result import require_coroutine_function
from ._runtime import Runtime
from ._task_context import (
    DEFAULT_SAVE_INTERVAL_MS,
    OnResume,
    TaskCheckpoint,
    TaskContext,
    TaskOptions,
)
from ._tools.duration import Duration, strict_milliseconds, wait_milliseconds
from ._tools.key import check_key
from .errors import ConfigurationError, GoscopeError, TaskAlreadyRunning
from .events import TaskCompleted, TaskResumed

S = TypeVar("S")
Instance = TypeVar("Instance")
R = TypeVar("R")
P = ParamSpec("P")

RENEWAL_TOLERANCE_DIVISOR: Final = 6
"""Two readings of one expiry differ by less than a sixth of the ttl, a renewal moves it by more."""


class Tasks:
    """The resumable tasks of one scope."""

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._running: Final[set[str]] = set()

    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[S]], Awaitable[R]],
        *,
        type: type[S],
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[S] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[Any]], Awaitable[R]],
        *,
        type: None = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> R: ...

    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[Any]], Awaitable[R]],
        *,
        type: Any = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> R:
        """Run ``fn(task)`` under the task's lease, from its last checkpoint on.

        ``task.checkpoint.data`` is decoded to ``type``. The last ``max_checkpoints`` checkpoints
        are kept; ``save_interval`` (5 s) is how often updates are saved. Success deletes the
        checkpoints, failure and death keep them for the next run. Raises `TaskAlreadyRunning` when
        another owner is known to be alive, after ``wait`` if given; an owner that is gone is
        replaced. ``on_resume(task)`` is called, and awaited if it returns an awaitable, once before
        ``fn`` and only when the run starts from a checkpoint of an earlier one; its error ends the
        run as one of ``fn`` does.
        """
        options = task_options(type, max_checkpoints, save_interval, wait, on_resume)
        return await self.run_with(options, task_id, fn)

    async def run_with(
        self, options: TaskOptions, task_id: str, fn: Callable[[TaskContext[Any]], Awaitable[R]]
    ) -> R:
        """As `run`, with options that are checked already."""
        check_key(task_id, "task_id")
        runtime = self._runtime()
        progress = Progress(runtime.clock)
        checkpoint = TaskCheckpoint[Any](runtime, task_id, progress, options)
        granted = await self._acquire(runtime, task_id, options.wait_ms)
        self._running.add(task_id)
        try:
            async with runtime.guard(granted, task_id) as guard:
                task = TaskContext(task_id, checkpoint, progress)
                return await _run(runtime, task, guard, fn, options.on_resume)
        finally:
            self._running.discard(task_id)

    async def _acquire(self, runtime: Runtime, task_id: str, wait_ms: int | None) -> Granted:
        """Acquire the task's lease. Raises `TaskAlreadyRunning` when its owner is alive."""
        lease, leases = f"task:{task_id}", runtime.leases
        granted = await leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=wait_ms or 0)
        if granted is None and wait_ms is None and task_id not in self._running:
            granted = await _wait_for_takeover(runtime, lease)
        if granted is None:
            raise TaskAlreadyRunning(task_id, await leases.provider.holder(lease))
        return granted


async def _wait_for_takeover(runtime: Runtime, lease: str) -> Granted | None:
    """Acquire the lease when it expires; None as soon as its owner renews it."""
    holder = await runtime.leases.provider.holder(lease)
    left_ms = 0 if holder is None else holder.expires_in_ms
    tolerance_ms = runtime.lease_ttl_ms // RENEWAL_TOLERANCE_DIVISOR
    expiry = runtime.clock.steady_ms() + left_ms + tolerance_ms

    async def renewed() -> bool:
        now = await runtime.leases.provider.holder(lease)
        return now is not None and runtime.clock.steady_ms() + now.expires_in_ms > expiry

    return await runtime.leases.acquire(
        lease, runtime.lease_ttl_ms, wait_ms=left_ms + tolerance_ms, finished=renewed
    )


async def _run(
    runtime: Runtime,
    task: TaskContext[Any],
    guard: LeaseGuard,
    fn: Callable[[TaskContext[Any]], Awaitable[R]],
    on_resume: OnResume[Any] | None,
) -> R:
    started = runtime.event_start()
    checkpoint = task.checkpoint
    task.resumed = await checkpoint._load(guard.handle)
    try:
        if task.resumed:
            await _report_resumed(runtime, task, on_resume)
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
    runtime.emit(TaskCompleted, task.id, started)
    return result


async def _report_resumed(
    runtime: Runtime, task: TaskContext[Any], on_resume: OnResume[Any] | None
) -> None:
    sequence, progress = task.checkpoint.sequence, task.progress.percentage
    runtime.emit(TaskResumed, task.id, sequence=sequence, progress=progress)
    if on_resume is not None:
        returned = on_resume(task)
        if inspect.isawaitable(returned):
            await returned


def task_options(
    type: Any,
    max_checkpoints: int,
    save_interval: Duration | None,
    wait: Duration | int | None,
    on_resume: OnResume[Any] | None,
) -> TaskOptions:
    """Check the options of a task. Raises ``TypeError`` and ``ValueError``."""
    return TaskOptions(
        type=type,
        max_checkpoints=max_checkpoints,
        save_interval_ms=DEFAULT_SAVE_INTERVAL_MS
        if save_interval is None
        else strict_milliseconds(save_interval, "save_interval"),
        wait_ms=wait_milliseconds(wait),
        on_resume=on_resume,
    )


class Resumable(Protocol[S]):
    """Decorates a function, or a method, that takes a task; returned by ``gs.resumable(...)``."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext[S], P], Coroutine[Any, Any, R]], /
    ) -> Callable[P, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self,
        function: Callable[Concatenate[Instance, TaskContext[S], P], Coroutine[Any, Any, R]],
        /,
    ) -> Callable[Concatenate[Instance, P], Coroutine[Any, Any, R]]: ...


def resumable(
    tasks: Tasks,
    function: Callable[..., Coroutine[Any, Any, R]],
    template: str,
    options: TaskOptions,
) -> Callable[..., Coroutine[Any, Any, R]]:
    """Wrap a coroutine function of a task and more arguments; callers pass only the latter."""
    require_coroutine_function(function)
    parameters = list(inspect.signature(function).parameters.values())
    position = 1 if parameters and parameters[0].name in ("self", "cls") else 0
    if len(parameters) <= position:
        raise ConfigurationError(
            f"{function.__qualname__} must take the task as its first argument"
        )
    del parameters[position]
    task_id = KeyTemplate(template, inspect.Signature(parameters))

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> R:
        return await tasks.run_with(
            options,
            task_id.render(args, kwargs),
            lambda task: function(*args[:position], task, *args[position:], **kwargs),
        )

    return wrapper
