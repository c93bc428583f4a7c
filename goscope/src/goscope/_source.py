"""Where a scope gets its adapter from, and opening it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ._observers import Observers
from ._runtime import Runtime
from ._tools.cancellation import finish_before_cancel
from ._tools.clock import Clock
from .errors import CapabilityMissing, ConfigurationError
from .providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    InspectionProvider,
    LockProvider,
    PersistenceAdapter,
)

_PROTOCOLS: Final[dict[str, type]] = {
    "lock": LockProvider,
    "lease": LockProvider,
    "cache": CacheProvider,
    "circuit_breaker": CircuitBreakerStateProvider,
    "checkpoint": CheckpointProvider,
    "idempotency": IdempotencyProvider,
    "inspection": InspectionProvider,
}

_ADVICE: Final = {
    Capability.SHARED_LOCKS: "open it with locks='shared', if it has that option",
    Capability.PERSISTENT: "give it a file instead of memory, or choose a backend that persists",
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a scope opens: an adapter, or settings to open one from; tests replace it as a whole."""

    url: str | None = None
    backend: str | None = None
    options: Mapping[str, Any] = {}
    adapter: PersistenceAdapter | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        _check_types(self.url, self.backend, self.adapter)
        settings = self.url is not None or self.backend is not None or self.options
        if self.adapter is not None and settings:
            raise ConfigurationError(
                "give a scope an adapter (persistence=), or settings to open one from, not both"
            )

    def open(self) -> tuple[PersistenceAdapter, str, str]:
        """The adapter, what errors call it, and what events call a scope on it.

        Raises `ConfigurationError`.
        """
        if self.adapter is not None:
            name = type(self.adapter).__name__
            return self._with_clock(self.adapter), name, name
        # Imported here since entry points and URLs would double the time of `import goscope`.
        from ._settings import resolve

        settings = resolve(self.url, self.backend, self.options)
        return self._with_clock(settings.open()), settings.backend.name, settings.name

    def _with_clock(self, adapter: PersistenceAdapter) -> PersistenceAdapter:
        if self.clock is not None:
            from .backend import BaseAdapter  # here, since only tests replace the clock

            if not isinstance(adapter, BaseAdapter):
                raise ConfigurationError(
                    f"{type(adapter).__name__} takes no clock: "
                    f"it is not a goscope.backend.BaseAdapter"
                )
            adapter.context.clock = self.clock
        return adapter


def _check_types(url: object, backend: object, adapter: object) -> None:
    """Refuse the mistakes of untyped callers. Raises ``TypeError``."""
    if not isinstance(url, str | None):
        raise TypeError(
            f"the URL of a scope must be a string, not {type(url).__name__}: for a file write "
            f"Scope(backend='sqlite', path=...)"
        )
    if not isinstance(backend, str | None):
        raise TypeError(
            f"backend must be a name such as 'sqlite', not {type(backend).__name__}: pass an "
            f"adapter as persistence="
        )
    if adapter is not None and (isinstance(adapter, type) or not hasattr(adapter, "connect")):
        raise TypeError(
            f"persistence must be an adapter, such as SQLiteAdapter('app.db'), not {adapter!r}"
        )


async def open_runtime(
    source: Source,
    scope: str | None,
    observers: Observers,
    lease_ttl_ms: int,
    requires: Iterable[Capability],
) -> Runtime:
    """Connect the adapter unless it is connected. On an error it stays as it was."""
    adapter, name, default_scope = source.open()
    owned = not adapter.is_connected
    if owned:
        await adapter.connect()
    try:
        _check_adapter(adapter, name, requires)
        return Runtime(
            adapter,
            name,
            observers,
            lease_ttl_ms,
            owns_adapter=owned,
            scope=default_scope if scope is None else scope,
        )
    except BaseException:
        if owned:
            await finish_before_cancel(adapter.disconnect())
        raise


def _check_adapter(adapter: PersistenceAdapter, name: str, requires: Iterable[Capability]) -> None:
    """Refuse an adapter that breaks the contract or lacks a required capability.

    Raises `ConfigurationError` and `CapabilityMissing`.
    """
    for attribute, protocol in _PROTOCOLS.items():
        provider = getattr(adapter, attribute, None)
        if provider is not None and not isinstance(provider, protocol):
            raise ConfigurationError(
                f"{name}.{attribute} is not a valid {protocol.__name__}: "
                f"{type(provider).__name__} lacks some of its methods"
            )
    for attribute in ("clock", "default_lock_ttl_ms", "capabilities"):
        if not hasattr(adapter, attribute):
            raise ConfigurationError(
                f"{name} is not a valid PersistenceAdapter: it has no {attribute}"
            )
    for capability in frozenset(requires) - adapter.capabilities:
        advice = _ADVICE.get(capability, "choose a backend that has it")
        raise CapabilityMissing(name, f"capability {capability.value!r}", advice)
