"""`Scope`: opens a backend and hands out the building blocks on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from threading import get_ident
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from ._cache import Cache
from ._cache_loader import CacheLoader
from ._cache_outage import CacheOnStoreError
from ._cached import CachedFunction
from ._circuit import BreakerSettings, Circuits, FailureFilter, OnStoreError
from ._circuit_breaker import CircuitBreaker
from ._collection import Collection, Computations
from ._idempotency import Idempotency, Idempotent, idempotent
from ._idempotent_call import CallOptions
from ._inspect import Inspection
from ._key_template import FingerprintSource, KeySource
from ._lock import Lock
from ._observers import Observers
from ._result import refuse_bare_decorator
from ._result_policy import ResultTtl, When, check_when, result_ttl
from ._runtime import Runtime
from ._source import Source, open_runtime
from ._task_context import AfterWait, OnResume
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
from .providers import Capability, LockHandle, PersistenceAdapter

S = TypeVar("S")
T = TypeVar("T")
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

    ``name`` is what events call the scope: by default its URL without user, password and query,
    else the name of its backend or adapter. ``lease_ttl`` is how long the leases of features run
    between renewals, and thereby how long others wait for a process that hangs. ``requires`` makes
    `open` refuse a backend that lacks a capability. ``observers`` are called with each event.
    """

    def __init__(
        self,
        url: str | None = None,
        /,
        *,
        backend: str | None = None,
        persistence: PersistenceAdapter | None = None,
        name: str | None = None,
        lease_ttl: Duration = "10s",
        requires: Iterable[Capability] = (),
        observers: Sequence[Observer] = (),
        **options: Any,
    ) -> None:
        self._source = Source(url=url, backend=backend, options=options, adapter=persistence)
        self._name = None if name is None else check_key(name, "name")
        self._lease_ttl_ms = strict_milliseconds(lease_ttl, "lease_ttl")
        self._requires = _capabilities(requires)
        if callable(observers):
            raise TypeError(f"observers must be a list of functions: write [{observers!r}]")
        self._observers = Observers(observers)
        self._runtime: Runtime | None = None
        self._opening = False
        self._circuits = Circuits(self._open_runtime)
        self._loader = CacheLoader(self._open_runtime)
        self._computations = Computations()
        self.cache: Final = Cache(self._open_runtime, self._loader)
        self.tasks: Final = Tasks(self._open_runtime)
        self.idempotency: Final = Idempotency(self._open_runtime)
        self.inspect: Final = Inspection(self._open_runtime)

    def __repr__(self) -> str:
        state = "closed" if self._runtime is None else f"open on {self._runtime.name}"
        return f"<goscope.Scope {state}>"

    async def open(self) -> None:
        """Open the store.

        Raises `ConfigurationError` and `BackendError`; the scope then stays closed.
        """
        if self.is_open or self._opening:
            raise ConfigurationError("the scope is already open: close it first")
        # Imported here since entry points would double the time of `import goscope`.
        from ._plugins import plugin_observers

        self._opening = True
        self._observers.remove_plugins()  # those of the parent, if this process was forked
        try:
            plugins = plugin_observers()
            self._runtime = await open_runtime(
                self._source, self._name, self._observers, self._lease_ttl_ms, self._requires
            )
            self._observers.add_plugins(plugins)
        finally:
            self._opening = False

    async def close(self) -> None:
        """End background work and close the store. Does nothing when the scope is closed.

        Raises `ScopeNotOpen` in another event loop than the one in which it was opened; there it
        stays open.
        """
        runtime = self._runtime
        if runtime is None or runtime.forked:
            self._runtime = None
            return
        if not runtime.is_orphaned:
            runtime.check()
        self._runtime = None
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
        """Whether the scope is open, in this process."""
        return self._runtime is not None and not self._runtime.forked

    @property
    def persistence(self) -> PersistenceAdapter:
        """The adapter that the scope works on."""
        return self._require_open().adapter

    def _open_runtime(self) -> Runtime:
        """The runtime, for a call in the event loop in which the scope was opened."""
        runtime = self._runtime or self._require_open()
        # The thread first, since before Python 3.12 asking for the loop costs a system call.
        if runtime.thread != get_ident():
            runtime.check()
        return runtime

    def _require_open(self) -> Runtime:
        if self._runtime is None:
            raise ScopeNotOpen(
                "the scope is not open: use it inside `async with scope:`, or await scope.open()"
            )
        return self._runtime

    @overload
    async def transaction(
        self, work: Callable[[Any], Awaitable[T]], *, fence: LockHandle | None = None
    ) -> T: ...
    @overload
    async def transaction(
        self, work: Callable[[Any], T], *, fence: LockHandle | None = None
    ) -> T: ...

    async def transaction(
        self, work: Callable[[Any], Any], *, fence: LockHandle | None = None
    ) -> Any:
        """Run your own statements in a write transaction of the store; the result, committed.

        ``work`` is called with a connection of the driver, whose transaction goscope commits when
        it returns and rolls back when it raises. For SQLite it is a plain function of a
        ``sqlite3.Connection``, called in the thread that writes; for PostgreSQL and MySQL a
        coroutine function. It may be called again after a rollback, so it does nothing but execute
        statements. What it raises is raised here.

        With a fence that is no longer current, raises `LeaseLost`. Raises `ConfigurationError` for
        work that ends the transaction, `BackendError` for work that takes too long, and
        `CapabilityMissing` if the backend has no transactions. A cancelled call wrote everything or
        nothing.
        """
        return await self._open_runtime().require_transactions().run(work, fence=fence)

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
        30 s, by default), ``wait`` how long to wait for it: None sets no limit, 0 tries once. With
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

    def store(self, name: str) -> Collection:
        """The durable collection of this name, such as ``gs.store("sessions")``.

        It has the methods of the cache, and no call on the cache or on another collection touches
        it. A name has 1 to 64 letters, digits, ``_``, ``.`` or ``-``, else ``ValueError``.
        """
        return Collection(self._open_runtime, self._computations, name)

    def cached(
        self,
        ttl: ResultTtl,
        *,
        key: KeySource | None = None,
        tags: Sequence[str] = (),
        stale_for: Duration | None = None,
        when: When | None = None,
        on_store_error: CacheOnStoreError = "compute",
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], CachedFunction[P, R]]:
        """Cache the results of a coroutine function, as `Cache.get_or_set` does.

        ``key`` and ``tags`` are templates over the parameters, ``"user:{user_id}"``; the key may
        also be a function of the same arguments. Without a key it is the module, the qualified name
        and a digest of the arguments. ``ttl`` may be a function of the result. Results for which
        ``when(result)`` is false are returned but not stored. Results are decoded to the function's
        return annotation; one that JSON cannot be decoded to is a `ConfigurationError` at
        decoration. When the store fails, a call computes its result and returns it unstored; with
        ``on_store_error="raise"`` it raises `BackendError`.
        """
        refuse_bare_decorator(ttl, '@gs.cached("5m"), or @gs.cached(None) for no expiry')
        if isinstance(tags, str):
            raise TypeError(f"tags must be a sequence of strings, not one string: [{tags!r}]")
        checked_ttl, checked_when = result_ttl(ttl), check_when(when)
        stale_for_ms = ttl_milliseconds(stale_for, "stale_for")

        def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> CachedFunction[P, R]:
            return CachedFunction(
                self.cache,
                self._loader,
                function,
                checked_ttl,
                key=key,
                tags=tags,
                stale_for_ms=stale_for_ms,
                when=checked_when,
                on_store_error=on_store_error,
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
        refuse_bare_decorator(key, '@gs.circuit_breaker("payments")')
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
        task_id: KeySource,
        *,
        type: type[S],
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[S] | None = None,
    ) -> Resumable[S]: ...
    @overload
    def resumable(
        self,
        task_id: KeySource,
        *,
        type: None = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]: ...

    def resumable(
        self,
        task_id: KeySource,
        *,
        type: Any = None,
        max_checkpoints: int = 10,
        save_interval: Duration | None = None,
        wait: Duration | int | None = None,
        after_wait: AfterWait = "raise",
        on_resume: OnResume[Any] | None = None,
    ) -> Resumable[Any]:
        """Decorate a coroutine function or method of a task, to run as `Tasks.run` does.

        ``task_id`` is a template over the other parameters, ``"etl:{path}"``, or a function of
        them; callers pass only those.
        """
        refuse_bare_decorator(task_id, '@gs.resumable("etl:{path}")')
        options = task_options(type, max_checkpoints, save_interval, wait, after_wait, on_resume)

        def decorate(
            function: Callable[..., Coroutine[Any, Any, R]],
        ) -> Callable[..., Coroutine[Any, Any, R]]:
            return resumable(self.tasks, function, task_id, options)

        return decorate

    def idempotent(
        self,
        key: KeySource,
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: FingerprintSource | None = None,
    ) -> Idempotent:
        """Decorate a coroutine function to run once per key, as `Idempotency.run` does.

        ``key`` is a template over the parameters, ``"charge:{order_id}"``, or a function of the
        same arguments. ``fingerprint`` is a template too, a sequence of parameter names, or a
        function whose result stands for the payload. Raises `ConfigurationError` at decoration for
        a return annotation that JSON cannot be decoded to.
        """
        refuse_bare_decorator(key, '@gs.idempotent("charge:{order_id}")')
        options = CallOptions(result_ttl(ttl), wait_milliseconds(wait), check_when(when))

        def decorate(
            function: Callable[P, Coroutine[Any, Any, Any]],
        ) -> Callable[P, Coroutine[Any, Any, Any]]:
            return idempotent(self.idempotency, function, key, options, fingerprint)

        return decorate


def _capabilities(required: Iterable[Capability]) -> frozenset[Capability]:
    """Check ``requires``. Raises ``TypeError`` unless it holds capabilities."""
    found: list[object] = [required] if isinstance(required, (str, Capability)) else [*required]
    if found == [required] or not all(isinstance(item, Capability) for item in found):
        names = ", ".join(str(capability) for capability in Capability)
        raise TypeError(f"requires must be a set of capabilities, not {required!r}: {{{names}}}")
    return frozenset(required)
