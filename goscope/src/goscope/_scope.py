"""`Scope`: opens a backend and hands out the building blocks on it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from ._cache import Cache
from ._cache_loader import CacheLoader
from ._cached import CachedFunction
from ._circuit import BreakerSettings, Circuits, FailureFilter, OnStoreError
from ._circuit_breaker import CircuitBreaker
from ._idempotency import Idempotency, idempotent
from ._lock import Lock
from ._observers import Observers
from ._runtime import Runtime
from ._source import Source, open_runtime
from ._task_context import OnResume
from ._tasks import Resumable, Tasks, resumable, task_options
from ._tools.cancellation import finish_before_cancel
from ._tools.duration import (
    Duration,
    strict_milliseconds,
    ttl_milliseconds,
    wait_milliseconds,
)
from ._tools.key import check_key
from .errors import ConfigurationError, ScopeNotOpen
from .events import Observer
from .providers import Capability, PersistenceAdapter

S = TypeVar("S")
R = TypeVar("R")
P = ParamSpec("P")


class Scope:
    """One store, opened by ``async with``, and the building blocks on it.

    Settings come from a URL (``Scope("sqlite:///app.db")``), from keywords
    (``Scope(backend="sqlite", path="app.db")``), from an adapter that you made
    (``Scope(persistence=adapter)``), or, for ``Scope()`` alone, from ``GOSCOPE_URL``,
    ``goscope.toml`` or ``[tool.goscope]`` in ``pyproject.toml``, read when it opens.

    Durations are a ``timedelta`` or a string such as ``"30s"``; a bare number is a ``TypeError``.
    Decorators bind before the scope is open, so a web application declares them at import; any
    other use before that raises `ScopeNotOpen`. A closed scope may be opened again, in another
    event loop too. An adapter that the scope connected is disconnected when it closes; one that
    was connected before stays connected.

    ``lease_ttl`` is how long the leases of features run between renewals, and thereby how long
    others wait for a process that hangs. ``requires`` makes `open` refuse a backend that lacks a
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
        self._source = Source(url=url, backend=backend, options=options, adapter=persistence)
        self._lease_ttl_ms = strict_milliseconds(lease_ttl, "lease_ttl")
        self._requires = frozenset(requires)
        self._observers = Observers(observers)
        self._runtime: Runtime | None = None
        self._opening = False
        self._circuits = Circuits(self._open_runtime)
        self._loader = CacheLoader(self._open_runtime)
        self.cache: Final = Cache(self._open_runtime, self._loader)
        self.tasks: Final = Tasks(self._open_runtime)
        self.idempotency: Final = Idempotency(self._open_runtime)

    def __repr__(self) -> str:
        state = "closed" if self._runtime is None else f"open on {self._runtime.name}"
        return f"<goscope.Scope {state}>"

    async def open(self) -> None:
        """Open the store.

        Raises `ConfigurationError` and `BackendError`; the scope then stays closed.
        """
        if self._runtime is not None or self._opening:
            raise ConfigurationError("the scope is already open: close it first")
        # Imported here since entry points would double the time of `import goscope`.
        from ._plugins import plugin_observers

        self._opening = True
        try:
            plugins = plugin_observers()
            self._runtime = await open_runtime(
                self._source, self._observers, self._lease_ttl_ms, self._requires
            )
            self._observers.add_plugins(plugins)
        finally:
            self._opening = False

    async def close(self) -> None:
        """End background work and close the store. Does nothing when the scope is closed."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        self._observers.remove_plugins()
        await finish_before_cancel(runtime.close())

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
        """The adapter that the scope works on."""
        return self._open_runtime().adapter

    def _open_runtime(self) -> Runtime:
        if self._runtime is None:
            raise ScopeNotOpen(
                "the scope is not open: use it inside `async with scope:`, or await scope.open()"
            )
        return self._runtime

    def lock(
        self,
        key: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | int | None = None,
        renew: bool = True,
    ) -> Lock:
        """A lock by name, for ``async with``, ``acquire()`` and ``try_acquire()``.

        ``ttl`` is how long the lease runs between renewals (the backend's ``default_lock_ttl``,
        30 s, by default), ``wait`` how long to wait for it: None without limit, 0 try once. With
        ``renew=False`` the lease is not renewed, and the body is cancelled when it expires.
        Whether the lock excludes other processes depends on the backend: for SQLite, open it
        with ``locks="shared"``.
        """
        return Lock(
            self._open_runtime,
            check_key(key),
            ttl_milliseconds(ttl),
            wait_milliseconds(wait),
            renew,
        )

    def cached(
        self,
        ttl: Duration | None,
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        stale_for: Duration | None = None,
        when: Callable[[Any], bool] | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], CachedFunction[P, R]]:
        """Cache the results of a coroutine function, as `Cache.get_or_set` does.

        ``key`` and ``tags`` are templates over the parameters, ``"user:{user_id}"``. Without a
        key it is the module, the qualified name and a digest of the arguments. Results for which
        ``when(result)`` is false are returned but not stored. Results are decoded to the
        function's return annotation.
        """
        ttl_ms = ttl_milliseconds(ttl)
        stale_for_ms = ttl_milliseconds(stale_for, "stale_for")

        def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> CachedFunction[P, R]:
            return CachedFunction(
                self.cache,
                self._loader,
                function,
                ttl_ms,
                key=key,
                tags=tags,
                stale_for_ms=stale_for_ms,
                when=when,
            )

        return decorate

    def circuit_breaker(
        self,
        key: str,
        *,
        failure_threshold: int = 5,
        reset_timeout: Duration = "30s",
        success_threshold: int = 1,
        on: FailureFilter = Exception,
        on_result: Callable[[Any], bool] | None = None,
        on_store_error: OnStoreError = "raise",
    ) -> CircuitBreaker:
        """The circuit ``key``: a decorator, a context manager, and ``call(fn)``.

        It opens after ``failure_threshold`` failures in a row, admits a probe ``reset_timeout``
        after the last one, and closes after ``success_threshold`` successful probes. ``on`` selects
        the exceptions that count as failures, by type or by a function of the exception;
        ``on_result(result)`` is true for results that count as failures. One key has one set of
        settings: another raises `ConfigurationError`.

        ``on_store_error`` is what a call does when the store fails: ``"raise"`` raises
        `BackendError`; ``"local"`` keeps the circuit in this process, closed at first and with the
        same settings, until the store works again.
        """
        settings = BreakerSettings(
            failure_threshold,
            strict_milliseconds(reset_timeout, "reset_timeout"),
            success_threshold,
            on,
            on_store_error,
        )
        self._circuits.declare(check_key(key), settings)
        return CircuitBreaker(self._circuits, key, settings, on_result)

    @overload
    def resumable(
        self,
        task_id: str,
        *,
        type: type[S],
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[S] | None = None,
    ) -> Resumable[S]: ...
    @overload
    def resumable(
        self,
        task_id: str,
        *,
        type: None = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]: ...

    def resumable(
        self,
        task_id: str,
        *,
        type: Any = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]:
        """Decorate a coroutine function or method of a task, to run as `Tasks.run` does.

        ``task_id`` is a template over the other parameters, ``"etl:{path}"``; callers pass only
        those.
        """
        options = task_options(type, max_checkpoints, save_interval, wait, on_resume)

        def decorate(
            function: Callable[..., Coroutine[Any, Any, R]],
        ) -> Callable[..., Coroutine[Any, Any, R]]:
            return resumable(self.tasks, function, task_id, options)

        return decorate

    def idempotent(
        self,
        key: str,
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: str | None = None,
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Decorate a coroutine function to run once per key, as `Idempotency.run` does.

        ``key`` and ``fingerprint`` are templates over the parameters, ``"charge:{order_id}"``.
        """
        ttl_ms, wait_ms = ttl_milliseconds(ttl), wait_milliseconds(wait)
        return lambda function: idempotent(
            self.idempotency, function, key, ttl_ms=ttl_ms, wait_ms=wait_ms, fingerprint=fingerprint
        )
