"""Where a scope gets its adapter from, and opening it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ._observers import Observers
from ._runtime import Runtime
from ._tools.cancellation import finish_before_cancel
from ._tools.clock import Clock
from .backend import BaseAdapter
from .errors import CapabilityMissing, ConfigurationError
from .providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
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
        settings = self.url is not None or self.backend is not None or self.options
        if self.adapter is not None and settings:
            raise ConfigurationError(
                "give a scope an adapter (persistence=), or settings to open one from, not both"
            )

    def open(self) -> tuple[PersistenceAdapter, str]:
        """The adapter, and what errors call it. Raises `ConfigurationError`."""
        if self.adapter is not None:
            return self._with_clock(self.adapter), type(self.adapter).__name__
        # Imported here since entry points and URLs would double the time of `import goscope`.
        from ._settings import resolve

        settings = resolve(self.url, self.backend, self.options)
        return self._with_clock(settings.open()), settings.backend.name

    def _with_clock(self, adapter: PersistenceAdapter) -> PersistenceAdapter:
        if self.clock is not None:
            if not isinstance(adapter, BaseAdapter):
                raise ConfigurationError(
                    f"{type(adapter).__name__} takes no clock: "
                    f"it is not a goscope.backend.BaseAdapter"
                )
            adapter.context.clock = self.clock
        return adapter


async def open_runtime(
    source: Source, observers: Observers, lease_ttl_ms: int, requires: Iterable[Capability]
) -> Runtime:
    """Connect the adapter unless it is connected. On an error it stays as it was."""
    adapter, name = source.open()
    owned = not adapter.is_connected
    if owned:
        await adapter.connect()
    try:
        _check_adapter(adapter, name, requires)
        return Runtime(adapter, name, observers, lease_ttl_ms, owns_adapter=owned)
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
