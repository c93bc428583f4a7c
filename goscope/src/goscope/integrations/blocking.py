"""A scope for synchronous code: Flask, Django, Celery, scripts. Needs ``goscope[blocking]``.

    with BlockingScope(gs) as blocking:
        with blocking.lock("stock:42", ttl="30s"):
            ...
        user = blocking.call(load_user, 42)

An event loop in a thread serves all threads of the process: it runs the same code that
asynchronous programs run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeAlias, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .._circuit_breaker import CircuitBreaker
from .._circuit_call import Call
from .._scope import Scope
from .._tools.duration import Duration
from ..errors import ConfigurationError, ScopeNotOpen
from ..providers import LockHandle

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class BlockingScope:
    """Opens a scope in the event loop of a new thread, for every other thread.

    Open it once per process, and after a fork: in the worker, not in its parent. Closing it ends
    every call and every block that is left in other threads. ``with`` does both.
    """

    def __init__(self, gs: Scope) -> None:
        self._gs = gs
        self._portal: BlockingPortal | None = None
        self._exits = ExitStack()

    def open(self) -> None:
        """Start the thread, and open the scope in it. Raises what `Scope.open` raises."""
        if self._portal is not None:
            raise ConfigurationError("the scope is already open: close it first")
        with ExitStack() as exits:
            portal = exits.enter_context(start_blocking_portal(name="goscope"))
            # Else it would wait for blocks of threads that do not end.
            exits.callback(portal.call, portal.stop, True)
            exits.enter_context(_Block(portal, self._gs))
            self._exits = exits.pop_all()
        self._portal = portal

    def close(self) -> None:
        """Close the scope, and end the thread. Does nothing when it is closed."""
        self._portal = None
        self._exits.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def call(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a coroutine function in the event loop; return its result or raise its error.

        Anything of the scope: ``call(gs.cache.get, "key")``, or a function that it decorates. To
        run several steps in one call, pass a function of yours. If the thread is interrupted, the
        function is cancelled.
        """
        called: Future[R] = self._running().start_task_soon(_in_task, _call(fn, args, kwargs))
        try:
            return called.result()
        except BaseException:
            called.cancel()
            raise

    def lock(
        self,
        key: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | int | None = None,
        renew: bool = True,
    ) -> AbstractContextManager[LockHandle]:
        """As `Scope.lock`, for ``with``.

        goscope renews the lease in the background. It cannot interrupt a thread: if the lease is
        lost, `LeaseLost` is raised at the end of the block. Read ``handle.lost`` before a step that
        must not happen then, or pass ``fence=handle`` to a write.
        """
        return _Block(self._running(), self._gs.lock(key, ttl=ttl, wait=wait, renew=renew))

    def circuit(self, breaker: CircuitBreaker) -> AbstractContextManager[Call]:
        """One call through a circuit breaker, for ``with``: `CircuitOpen` if it is open."""
        return _Block(self._running(), breaker)

    def _running(self) -> BlockingPortal:
        if self._portal is None:
            raise ScopeNotOpen(
                "the scope is not open: use it inside `with BlockingScope(gs):`, or call open()"
            )
        return self._portal


async def _call(
    fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return await fn(*args, **kwargs)


async def _in_task(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a task that is cancelled once, as asyncio does.

    A scope of anyio that is cancelled would cancel every await that follows, so that no cleanup
    could release a lock.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
    return task.result()


class _Block(Generic[T]):
    """An asynchronous block around the code of a thread; one task enters and leaves it.

    Not the portal's own: that one would enter the block for nobody, and keep a lock forever, when
    the thread that waits for it is interrupted.
    """

    def __init__(self, portal: BlockingPortal, block: AbstractAsyncContextManager[T]) -> None:
        self._portal = portal
        self._block = block
        self._left = anyio.Event()
        self._exit: _ExcInfo = (None, None, None)
        self._task: Future[None] | None = None

    def __enter__(self) -> T:
        entered: Future[T] = Future()
        try:
            self._task = self._portal.start_task_soon(_in_task, self._run(entered))
            return entered.result()
        except BaseException:
            # Also when it is interrupted before it knows the task: that leaves the block at once.
            self._portal.start_task_soon(self._leave)
            if self._task is not None:
                self._task.cancel()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit = (exc_type, exc, traceback)
        self._portal.call(self._leave)
        assert self._task is not None
        self._task.result()

    async def _leave(self) -> None:
        self._left.set()

    async def _run(self, entered: Future[T]) -> None:
        try:
            value = await self._block.__aenter__()
        except BaseException as exc:
            entered.set_exception(exc)
            raise
        entered.set_result(value)
        try:
            await self._left.wait()
        finally:  # also when it is cancelled, because its lease is lost
            await self._block.__aexit__(*self._exit)
