"""The whole contract in one class, without the optional abilities, and its part about locks."""

from __future__ import annotations

from ._base import Conformance
from .adapter import AdapterConformance
from .cache import CacheConformance
from .capabilities import CapabilityConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .event_loop import EventLoopConformance
from .features import FeaturesConformance
from .fence import FenceConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance
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
    """What a single adapter with every provider can verify."""


class BackendConformance(_EveryProvider, SharedStoreConformance, ProcessConformance, abstract=True):
    """The contract of a backend with every provider, whose store several adapters can open."""


class PrivateBackendConformance(_EveryProvider, PrivateStoreConformance, abstract=True):
    """The contract of a backend with every provider, whose store ends with its adapter."""


class _LocksOfEveryProvider(
    CapabilityConformance, LockConformance, FenceConformance, abstract=True
):
    """The tests that depend on where an adapter with every provider keeps its locks."""

    def provides(self, contract: type[Conformance]) -> bool:
        # The fenced writes of every provider are tested. Inspection is optional.
        return contract is not InspectionConformance or isinstance(self, contract)


class BackendLockConformance(
    _LocksOfEveryProvider, SharedStoreConformance, ProcessConformance, abstract=True
):
    """The part of `BackendConformance` for a variant that differs only in its locks.

    Test one configuration of the backend with `BackendConformance`, and those that differ from it
    in an option such as ``locks=`` with this class: capabilities, locks, fences, adapters that
    share a store, and processes.
    """


class PrivateBackendLockConformance(_LocksOfEveryProvider, PrivateStoreConformance, abstract=True):
    """The part of `PrivateBackendConformance` for a variant that differs only in its locks."""
