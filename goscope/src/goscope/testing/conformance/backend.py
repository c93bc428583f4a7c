"""The whole contract in one class, but for the optional abilities."""

from __future__ import annotations

from .adapter import AdapterConformance
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .event_loop import EventLoopConformance
from .features import FeaturesConformance
from .fence import FenceConformance
from .idempotency import IdempotencyConformance
from .lock import LockConformance
from .private_store import PrivateStoreConformance
from .processes import ProcessConformance
from .shared_store import SharedStoreConformance


class _EveryProvider(
    AdapterConformance,
    LockConformance,
    CacheConformance,
    CircuitBreakerConformance,
    CheckpointConformance,
    IdempotencyConformance,
    FenceConformance,
    FeaturesConformance,
    EventLoopConformance,
    abstract=True,
):
    """What one adapter with every provider can show."""


class BackendConformance(_EveryProvider, SharedStoreConformance, ProcessConformance, abstract=True):
    """The contract of a backend with every provider, whose store several adapters can open."""


class PrivateBackendConformance(_EveryProvider, PrivateStoreConformance, abstract=True):
    """The contract of a backend with every provider, whose store ends with its adapter."""
