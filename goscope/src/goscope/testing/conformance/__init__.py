"""The provider contract as test classes, for authors of backends (extra ``goscope[testing]``).

    class TestMyBackend(BackendConformance):
        capabilities = frozenset({Capability.PERSISTENT})
        processes = True

        @asynccontextmanager
        async def open_adapter(self, tmp_path, *, key_prefix=None):
            path = tmp_path / "store"
            async with MyAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
                yield adapter

pytest collects the whole contract, one named test for each rule. ``processes = True`` adds the
tests that need several processes. A backend with optional abilities also inherits
`WaitConformance`, `EventsConformance`, `InspectionConformance` or `TransactionsConformance`. A
backend whose store ends with its adapter inherits `PrivateBackendConformance`. One that lacks a
provider inherits `AdapterConformance`, `FenceConformance`, `EventLoopConformance` and the parts it
implements.

Test one configuration of a backend like this. For a variant that differs from it only in its locks,
`BackendLockConformance` and `PrivateBackendLockConformance` run the tests that depend on locks.

`report` prints what the tests verified.
"""

from . import _rewrite as _rewrite  # first: it affects later imports
from ._base import Conformance
from .adapter import AdapterConformance
from .backend import (
    BackendConformance,
    BackendLockConformance,
    PrivateBackendConformance,
    PrivateBackendLockConformance,
)
from .cache import CacheConformance
from .capabilities import CapabilityConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .event_loop import EventLoopConformance
from .events import EventsConformance
from .features import FeaturesConformance
from .fence import FenceConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance
from .lock import LockConformance
from .private_store import PrivateStoreConformance
from .processes import ProcessConformance
from .shared_store import SharedStoreConformance
from .transactions import TransactionsConformance
from .wait import WaitConformance

__all__ = [
    "AdapterConformance",
    "BackendConformance",
    "BackendLockConformance",
    "CacheConformance",
    "CapabilityConformance",
    "CheckpointConformance",
    "CircuitBreakerConformance",
    "Conformance",
    "EventLoopConformance",
    "EventsConformance",
    "FeaturesConformance",
    "FenceConformance",
    "IdempotencyConformance",
    "InspectionConformance",
    "LockConformance",
    "PrivateBackendConformance",
    "PrivateBackendLockConformance",
    "PrivateStoreConformance",
    "ProcessConformance",
    "SharedStoreConformance",
    "TransactionsConformance",
    "WaitConformance",
]
