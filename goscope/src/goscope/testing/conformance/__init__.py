"""The provider contract as test classes, for authors of backends (extra ``goscope[testing]``).

    class TestMyBackend(BackendConformance):
        capabilities = frozenset({Capability.PERSISTENT})
        processes = True

        @asynccontextmanager
        async def open_adapter(self, tmp_path, *, key_prefix=None):
            path = tmp_path / "store"
            async with MyAdapter(path, key_prefix=key_prefix, clock=self.clock) as adapter:
                yield adapter

pytest collects the whole contract, one named test a claim. ``processes = True`` adds what only
several processes can show. A backend with optional abilities inherits `WaitConformance`,
`EventsConformance` or `InspectionConformance` too. One whose store ends with its adapter inherits
`PrivateBackendConformance`; one that lacks a provider inherits `AdapterConformance`,
`FenceConformance`, `EventLoopConformance` and the parts it claims. `report` prints what was shown.
"""

from . import _rewrite as _rewrite  # first: it acts on what is imported after it
from ._base import Conformance
from .adapter import AdapterConformance
from .backend import BackendConformance, PrivateBackendConformance
from .cache import CacheConformance
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
from .wait import WaitConformance

__all__ = [
    "AdapterConformance",
    "BackendConformance",
    "CacheConformance",
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
    "PrivateStoreConformance",
    "ProcessConformance",
    "SharedStoreConformance",
    "WaitConformance",
]
