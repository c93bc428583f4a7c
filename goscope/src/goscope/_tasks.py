"""``gs.tasks`` and ``@gs.resumable``: long work that resumes where it stopped."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, overload

from ._key_template import KeySource, key_maker
from ._lease_guard import LeaseGuard
from ._lease_queue import Granted
from ._progress import Progress
from ._result import require_coroutine_function, require_type, result_of
from ._runtime import Runtime
from ._task_context import (
    DEFAULT_SAVE_INTERVAL_MS,
    AfterWait,
    OnResume,
    TaskCheckpoint,
    TaskContext,
    TaskOptions,
)
from ._task_finish import last_finish, record_finish
from ._tools.cancellation import finish_before_cancel
from ._tools.duration import Duration, strict_milliseconds, wait_milliseconds
from ._tools.key import check_key
from ._tools.process import is_running
from .errors import ConfigurationError, GoscopeError, TaskAlreadyRunning
from .events import TaskCompleted, TaskFailed, TaskResumed, TaskStarted
from .providers import LockHolder

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
        self._running: Final[set[tuple[Runtime, str]]] = set()

    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[S]], Coroutine[Any, Any, R]],
        *,
        type: type[S],
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[S] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[S]], R],
        *,
        type: type[S],
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[S] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[Any]], Coroutine[Any, Any, R]],
        *,
        type: None = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[Any] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[Any]], R],
        *,
        type: None = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[Any] | None = None,
    ) -> R: ...

    async def run(
        self,
        task_id: str,
        fn: Callable[[TaskContext[Any]], Any],
        *,
        type: Any = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[Any] | None = None,
    ) -> Any:
        """Run ``fn(task)`` under the task's lease, from its last checkpoint on.

        ``fn`` is a plain or a coroutine function.
        ``task.checkpoint.data`` is decoded to ``type``. The last ``max_checkpoints`` checkpoints
        are kept; ``save_interval`` (5 s) is how often updates are saved. Success deletes the
        checkpoints, failure and death keep them for the next run. ``on_resume(task)`` is called,
        and awaited if it returns an awaitable, once before ``fn`` and only when the run starts from
        a checkpoint of an earlier one; its error ends the run as one of ``fn`` does.

        An owner that is gone, or whose lease expires, is replaced. While another one runs the task,
        ``wait`` is how long to wait for it. None, as everywhere, sets no limit, and a task need not
        wait for an owner that is known to be alive, because its process exists or it has renewed
        its lease: that raises `TaskAlreadyRunning`. ``wait=0`` raises it whenever the lease is
        held. With a duration it is raised once that is over.

        A run that waited takes over from an owner that failed or died, and resumes. If the owner
        has finished the task, ``after_wait`` decides: ``"raise"`` raises `TaskAlreadyRunning` with
        ``finished`` set, so that the task is not done twice; ``"run"`` runs it again.
        """
        options = task_options(type, max_checkpoints, save_interval, wait, after_wait, on_resume)
        return await self.run_with(options, task_id, fn)

    async def run_with(
        self,
        options: TaskOptions,
        task_id: str,
        fn: Callable[[TaskContext[Any]], Any],
        template: str | None = None,
    ) -> Any:
        """As `run`, with options that are checked already."""
        check_key(task_id, "task_id")
        runtime = self._runtime()
        progress = Progress(runtime.clock)
        checkpoint = TaskCheckpoint[Any](runtime, task_id, progress, options, template)
        granted = await self._acquire(runtime, task_id, options)
        self._running.add((runtime, task_id))
        try:
            run = runtime.start_run(TaskStarted, task_id, template=template)
            try:
                async with runtime.guard(granted, task_id, template=template) as guard:
                    task = TaskContext(task_id, checkpoint, progress)
                    result = await _run(runtime, task, guard, fn, options.on_resume, template)
            except BaseException as exc:
                runtime.fail_run(TaskFailed, task_id, run, exc, template=template)
                raise
            runtime.emit(TaskCompleted, task_id, run.since, template=template, run_id=run.id)
            return result
        finally:
            self._running.discard((runtime, task_id))

    async def _acquire(self, runtime: Runtime, task_id: str, options: TaskOptions) -> Granted:
        """Acquire the task's lease. Raises `TaskAlreadyRunning`."""
        lease, leases = f"task:{task_id}", runtime.leases
        finish = await last_finish(runtime, task_id)  # first, so that a later one is noticed
        granted = await leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=0)
        if granted is not None:
            return granted
        holder = await leases.provider.holder(lease)
        if options.wait_ms:
            granted = await leases.acquire(lease, runtime.lease_ttl_ms, wait_ms=options.wait_ms)
        elif options.wait_ms is None and not self._is_alive(runtime, task_id, holder):
            granted = await _wait_for_takeover(runtime, lease, holder)
        if granted is None:
            raise TaskAlreadyRunning(task_id, await leases.provider.holder(lease) or holder)
        if options.after_wait == "raise":
            await _release_if_finished(runtime, task_id, granted, finish)
        return granted

    def _is_alive(self, runtime: Runtime, task_id: str, holder: LockHolder | None) -> bool:
        """Whether the owner is known to be alive, without waiting for it to renew its lease."""
        if (runtime, task_id) in self._running:
            return True
        return holder is not None and is_running(holder.host, holder.pid)


async def _release_if_finished(
    runtime: Runtime, task_id: str, granted: Granted, finish: int | None
) -> None:
    """Raise `TaskAlreadyRunning` if the task was finished since ``finish`` was read."""
    try:
        if await last_finish(runtime, task_id) in (finish, None):
            return
    except BaseException:
        await finish_before_cancel(asyncio.ensure_future(granted.handle.release()))
        raise
    await finish_before_cancel(asyncio.ensure_future(granted.handle.release()))
    raise TaskAlreadyRunning(task_id, None, finished=True)


async def _wait_for_takeover(
    runtime: Runtime, lease: str, holder: LockHolder | None
) -> Granted | None:
    """Acquire the lease when it ends; None as soon as its owner renews it."""
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
    fn: Callable[[TaskContext[Any]], Any],
    on_resume: OnResume[Any] | None,
    template: str | None,
) -> Any:
    checkpoint = task.checkpoint
    try:
        task.resumed = await checkpoint._load(guard.handle)
        if task.resumed:
            await _report_resumed(runtime, task, on_resume, template)
        result = await result_of(fn, task)
        await checkpoint._end()
    except BaseException as exc:
        # In a task, since a second cancellation must not lose the state.
        saving = asyncio.ensure_future(checkpoint._end_and_save())
        try:
            await finish_before_cancel(saving)
        except GoscopeError as failure:
            exc.add_note(f"and its last state could not be saved: {failure}")
        raise
    await checkpoint._discard()
    await record_finish(runtime, task.id)
    return result


async def _report_resumed(
    runtime: Runtime,
    task: TaskContext[Any],
    on_resume: OnResume[Any] | None,
    template: str | None,
) -> None:
    sequence, progress = task.checkpoint.sequence, task.progress.percentage
    runtime.emit(TaskResumed, task.id, template=template, sequence=sequence, progress=progress)
    if on_resume is not None:
        returned = on_resume(task)
        if inspect.isawaitable(returned):
            await returned


def task_options(
    type: Any,
    max_checkpoints: int,
    save_interval: Duration | None,
    wait: Duration | int | None,
    after_wait: AfterWait,
    on_resume: OnResume[Any] | None,
) -> TaskOptions:
    """Check the options of a task. Raises ``TypeError`` and ``ValueError``."""
    require_type(type)
    return TaskOptions(
        type=type,
        max_checkpoints=max_checkpoints,
        save_interval_ms=DEFAULT_SAVE_INTERVAL_MS
        if save_interval is None
        else strict_milliseconds(save_interval, "save_interval"),
        wait_ms=wait_milliseconds(wait),
        after_wait=after_wait,
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
    key: KeySource,
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
    signature = inspect.signature(function).replace(parameters=parameters)
    task_id = key_maker(key, signature, function)

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> R:
        result: R = await tasks.run_with(
            options,
            task_id.render(args, kwargs),
            lambda task: function(*args[:position], task, *args[position:], **kwargs),
            task_id.template,
        )
        return result

    # What callers pass, which is what frameworks look for.
    wrapper.__signature__ = signature  # type: ignore[attr-defined]  # inspect reads it
    return wrapper
