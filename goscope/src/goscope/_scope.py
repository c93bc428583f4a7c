"""`Scope`: opens a backend and hands out locks, cache, circuit breakers, tasks and once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeAlias, TypeVar, overload

from ._cache import Cache
from ._cached import CachedFunction
from ._circuit import BreakerSettings, Circuits, Counts, OnStoreError
from ._circuit_breaker import CircuitBreaker
from ._fill import Filler
from ._idempotency import Idempotency, Once, idempotent
from ._lock import Lock, try_lock
from ._observers import Observers
from ._runtime import Runtime
from ._task import OnResume, Resumable, Task, Tasks, resumable
from .backend import (
    BaseAdapter,
    Clock,
    SystemClock,
    check_key,
    settle,
    strict_milliseconds,
    wait_milliseconds,
)
from .errors import CapabilityMissing, ConfigurationError, ScopeNotOpen
from .events import Observer
from .providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockHandle,
    LockProvider,
    PersistenceAdapter,
    SupportsEvents,
)

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")
P = ParamSpec("P")

Duration: TypeAlias = "timedelta | str"

_PROTOCOLS: Final[dict[str, type]] = {
    "lock": LockProvider,
    "lease": LockProvider,
    "cache": CacheProvider,
    "circuit_breaker": CircuitBreakerStateProvider,
    "checkpoint": CheckpointProvider,
    "idempotency": IdempotencyProvider,
}

_ADVICE: Final = {
    Capability.SHARED_LOCKS: "open it with locks='shared', if it has that option",
    Capability.PERSISTENT: "give it a file instead of memory, or choose a backend that persists",
}


class Scope:
    """One store, opened by ``async with``, and the building blocks on it.

    Settings come from a URL (``Scope("sqlite:///app.db")``), from keywords
    (``Scope(backend="sqlite", path="app.db")``), from an adapter built by hand
    (``Scope(persistence=adapter)``), or, for ``Scope()`` alone, from ``GOSCOPE_URL``,
    ``goscope.toml`` or ``[tool.goscope]`` in ``pyproject.toml``, read when it opens.

    Durations are a ``timedelta`` or a string such as ``"30s"``; a bare number is a ``TypeError``.
    Decorators bind before the scope is open, so a web application declares them at import; any
    use before that raises `ScopeNotOpen`. A closed scope may be opened again, in another event
    loop too. An adapter the scope connected is disconnected when it closes; one that was
    connected before stays so.

    ``lease_ttl`` is how long the leases of features run between renewals, and thereby how long
    others wait for a process that hangs. ``requires`` refuses at open a backend that lacks a
    capability. ``observers`` are called with each event.
    """

    def __init__(
        self,
        url: str | None = None,
        /,
        *,
        backend: str | None = None,
        persistence: PersistenceAdapter | None = None,
        lease_ttl: Duration = "10s",
        requires: Iterable[Capability] = (),
        observers: Sequence[Observer] = (),
        **options: Any,
    ) -> None:
        if persistence is not None and (url is not None or backend is not None or options):
            raise ConfigurationError(
                "give a scope an adapter (persistence=), or settings to open one from, not both"
            )
        self._url = url
        self._backend = backend
        self._options = options
        self._persistence = persistence
        self._lease_ttl_ms = strict_milliseconds(lease_ttl, "lease_ttl")
        self._requires = frozenset(requires)
        self._observers = Observers(observers)
        self._clock: Clock | None = None
        self._runtime: Runtime | None = None
        self._opening = False
        self._circuits = Circuits(self._open_runtime)
        self._tasks = Tasks(self._open_runtime)
        self._filler = Filler(self._open_runtime)
        self.cache: Final = Cache(self._open_runtime, self._filler)
        self.idempotency: Final = Idempotency(self._open_runtime)

    def __repr__(self) -> str:
        state = "closed" if self._runtime is None else f"open on {self._runtime.name}"
        return f"<goscope.Scope {state}>"

    # --- opening and closing --------------------------------------------------------------------

    async def open(self) -> None:
        """Open the store. Raises `ConfigurationError` and `BackendError`; it stays closed then."""
        if self._runtime is not None or self._opening:
            raise ConfigurationError("the scope is open already: close it first")
        self._opening = True
        try:
            await self._open()
        finally:
            self._opening = False

    async def _open(self) -> None:
        plugins = _plugin_observers()
        adapter, name = self._adapter()
        clock = _clock_of(adapter, self._clock)
        owned = not adapter.is_connected
        if owned:
            await adapter.connect()
        try:
            self._check(adapter, name)
            self._runtime = Runtime(adapter, name, clock, self._observers, self._lease_ttl_ms)
        except BaseException:
            if owned:
                await settle(adapter.disconnect())
            raise
        self._owns_adapter = owned
        self._plugins = plugins
        for observer in plugins:
            self._observers.add(observer)
        if isinstance(adapter, SupportsEvents):
            adapter.observe(self._observers.emit)

    async def close(self) -> None:
        """End background work and close the store. Does nothing when it is closed."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        for observer in self._plugins:
            self._observers.remove(observer)
        await settle(self._shut_down(runtime))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether the scope is open."""
        return self._runtime is not None

    @property
    def persistence(self) -> PersistenceAdapter:
        """The adapter the scope works on."""
        return self._open_runtime().adapter

    # --- building blocks ------------------------------------------------------------------------

    def lock(
        self,
        key: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | int | None = None,
        renew: bool = True,
    ) -> Lock:
        """A lock by name, for ``async with`` or ``acquire()``.

        ``ttl`` is how long the lease runs between renewals (the backend's ``default_lock_ttl``,
        30 s, by default), ``wait`` how long to wait for it: None without limit, 0 try once. With
        ``renew=False`` the lease is not renewed, and the body is cancelled when it runs out.
        Whether the lock excludes other processes depends on the backend: for SQLite, open it
        with ``locks="shared"``.
        """
        return Lock(
            self._open_runtime,
            check_key(key),
            None if ttl is None else strict_milliseconds(ttl, "ttl"),
            wait_milliseconds(wait),
            renew,
        )

    async def try_lock(self, key: str, *, ttl: Duration | None = None) -> LockHandle | None:
        """Take the lock if it is free, else None. The caller releases the handle."""
        runtime = self._open_runtime()
        ttl_ms = runtime.lock_ttl_ms if ttl is None else strict_milliseconds(ttl, "ttl")
        granted = await try_lock(runtime, check_key(key), ttl_ms, 0)
        return None if granted is None else granted.handle

    def cached(
        self,
        ttl: Duration | None,
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        stale: Duration | None = None,
        when: Callable[[Any], bool] | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], CachedFunction[P, R]]:
        """Cache the results of a coroutine function, as `Cache.get_or_set` does.

        ``key`` and ``tags`` are templates over the parameters, ``"user:{user_id}"``. Without a
        key it is module, qualified name and a digest of the arguments. Results for which
        ``when(result)`` is false are returned but not stored. Results are decoded to the
        function's return annotation.
        """
        ttl_ms = None if ttl is None else strict_milliseconds(ttl, "ttl")
        stale_ms = None if stale is None else strict_milliseconds(stale, "stale")

        def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> CachedFunction[P, R]:
            return CachedFunction(
                self.cache,
                self._filler,
                function,
                ttl_ms,
                key=key,
                tags=tags,
                stale_ms=stale_ms,
                when=when,
            )

        return decorate

    def circuit_breaker(
        self,
        key: str,
        *,
        max_failures: int = 5,
        reset_timeout: Duration = "30s",
        success_threshold: int = 1,
        counts: Counts = Exception,
        counts_result: Callable[[Any], bool] | None = None,
        on_store_error: OnStoreError = "raise",
    ) -> CircuitBreaker:
        """The circuit ``key``: a decorator, a context manager, and ``call(fn)``.

        It opens after ``max_failures`` failures in a row, lets a probe through
        ``reset_timeout`` after the last one, and closes after ``success_threshold`` successful
        probes. ``counts`` are the exceptions that count as failures, ``counts_result`` tells
        results that do. One key has one set of settings: another raises `ConfigurationError`.

        ``on_store_error`` says what becomes of a call when the store fails: ``"raise"`` lets it
        raise `BackendError`, ``"local"`` counts the circuit in this process, closed at first,
        with the same settings, until the store answers again.
        """
        settings = BreakerSettings(
            max_failures,
            strict_milliseconds(reset_timeout, "reset_timeout"),
            success_threshold,
            counts,
            on_store_error,
        )
        self._circuits.declare(check_key(key), settings)
        return CircuitBreaker(self._circuits, key, settings, counts_result)

    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[Task[S]], Awaitable[R]],
        *,
        state: type[S],
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[S] | None = None,
    ) -> R: ...
    @overload
    async def run(
        self,
        task_id: str,
        fn: Callable[[Task[Any]], Awaitable[R]],
        *,
        state: None = None,
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> R: ...

    async def run(
        self,
        task_id: str,
        fn: Callable[[Task[Any]], Awaitable[R]],
        *,
        state: type[Any] | None = None,
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> R:
        """Run ``fn(task)`` under the task's lease, from its last checkpoint on.

        ``state`` is the type ``task.checkpoint.data`` is decoded to. The last ``keep``
        checkpoints are kept; ``interval`` (5 s) is how often updates are saved. Success deletes
        the checkpoints, failure and death keep them for the next run. Raises
        `TaskAlreadyRunning` when another owner is seen alive, after ``wait`` if given; an owner
        that is gone is replaced. ``on_resume(task)`` is called, and awaited if it gives an
        awaitable, once before ``fn`` and only when the run starts from a checkpoint of an earlier
        one; its error ends the run as one of ``fn`` does.
        """
        return await self._tasks.run(
            task_id,
            fn,
            state=state,
            keep=keep,
            interval_ms=None if interval is None else strict_milliseconds(interval, "interval"),
            wait_ms=wait_milliseconds(wait),
            on_resume=on_resume,
        )

    @overload
    def resumable(
        self,
        task_id: str,
        *,
        state: type[S],
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[S] | None = None,
    ) -> Resumable[S]: ...
    @overload
    def resumable(
        self,
        task_id: str,
        *,
        state: None = None,
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]: ...

    def resumable(
        self,
        task_id: str,
        *,
        state: type[Any] | None = None,
        keep: int = 10,
        interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]:
        """Let a coroutine function or method of a task and more arguments run as `run` does.

        ``task_id`` is a template over the other parameters, ``"etl:{path}"``.
        """
        interval_ms = None if interval is None else strict_milliseconds(interval, "interval")
        wait_ms = wait_milliseconds(wait)

        def decorate(
            function: Callable[..., Coroutine[Any, Any, R]],
        ) -> Callable[..., Coroutine[Any, Any, R]]:
            return resumable(
                self._tasks,
                function,
                task_id,
                state=state,
                keep=keep,
                interval_ms=interval_ms,
                wait_ms=wait_ms,
                on_resume=on_resume,
            )

        return decorate

    @overload
    async def once(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> T: ...
    @overload
    async def once(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...

    async def once(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> Any:
        """Run ``fn`` once per key and replay its result until ``ttl`` is over (None: for ever).

        A duplicate in flight is waited for, up to ``wait`` (0: not at all), then
        `OperationInProgress` is raised. ``fingerprint`` stands for the payload: another one under
        the same key is a `FingerprintMismatch`. Errors are not remembered. At most one execution
        runs at a time; when its process dies, the call runs once more. A call that waits for its
        own key gets a ``RuntimeError``.
        """
        once = await self.once_detailed(
            key, fn, ttl=ttl, wait=wait, fingerprint=fingerprint, type=type
        )
        return once.value

    @overload
    async def once_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> Once[T]: ...
    @overload
    async def once_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> Once[T]: ...

    async def once_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> Once[Any]:
        """As `once`, and tell whether the result was replayed."""
        return await self.idempotency.once(
            key,
            fn,
            ttl_ms=None if ttl is None else strict_milliseconds(ttl, "ttl"),
            wait_ms=wait_milliseconds(wait),
            fingerprint=fingerprint,
            type=type,
        )

    def idempotent(
        self,
        key: str,
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: str | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Let a coroutine function run once per key, as `once` does.

        ``key`` and ``fingerprint`` are templates over the parameters, ``"charge:{order_id}"``.
        """
        ttl_ms = None if ttl is None else strict_milliseconds(ttl, "ttl")
        wait_ms = wait_milliseconds(wait)

        def decorate(
            function: Callable[P, Coroutine[Any, Any, R]],
        ) -> Callable[P, Coroutine[Any, Any, R]]:
            return idempotent(
                self.idempotency,
                function,
                key,
                ttl_ms=ttl_ms,
                wait_ms=wait_ms,
                fingerprint=fingerprint,
            )

        return decorate

    # --- helpers --------------------------------------------------------------------------------

    def _open_runtime(self) -> Runtime:
        if self._runtime is None:
            raise ScopeNotOpen(
                "the scope is not open: use it inside `async with scope:`, or await scope.open()"
            )
        return self._runtime

    def _adapter(self) -> tuple[PersistenceAdapter, str]:
        if self._persistence is not None:
            return self._persistence, type(self._persistence).__name__
        # Imported here since entry points and URLs would double the time `import goscope` takes.
        from ._settings import resolve

        settings = resolve(self._url, self._backend, self._options)
        return settings.open(), settings.backend.name

    def _check(self, adapter: PersistenceAdapter, name: str) -> None:
        """Refuse an adapter that does not keep the contract or lacks what is required."""
        for attribute, protocol in _PROTOCOLS.items():
            provider = getattr(adapter, attribute, None)
            if provider is not None and not isinstance(provider, protocol):
                raise ConfigurationError(
                    f"{name}.{attribute} is no {protocol.__name__}: "
                    f"{type(provider).__name__} lacks some of its methods"
                )
        for capability in self._requires - adapter.capabilities:
            advice = _ADVICE.get(capability, "choose a backend that has it")
            raise CapabilityMissing(name, f"capability {capability.value!r}", advice)

    async def _shut_down(self, runtime: Runtime) -> None:
        await runtime.stop()
        if isinstance(runtime.adapter, SupportsEvents):
            runtime.adapter.observe(None)
        if self._owns_adapter:
            await runtime.adapter.disconnect()


def _clock_of(adapter: PersistenceAdapter, wanted: Clock | None) -> Clock:
    """The clock of the adapter, set to the wanted one: leases and their renewal share it."""
    if isinstance(adapter, BaseAdapter):
        if wanted is not None:
            adapter.context.clock = wanted
        return adapter.context.clock
    if wanted is not None:
        raise ConfigurationError(
            f"{type(adapter).__name__} takes no clock: it is no goscope.backend.BaseAdapter"
        )
    return SystemClock()


def _plugin_observers() -> Sequence[Observer]:
    # Imported here for the same reason as the settings.
    from ._plugins import plugin_observers

    return plugin_observers()
