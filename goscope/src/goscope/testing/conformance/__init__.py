"""The provider contract as test classes, for authors of backends (extra ``goscope[testing]``).

    class TestMyBackend(BackendConformance):
        capabilities = frozenset({Capability.PERSISTENT})

        @asynccontextmanager
        async def open_adapter(self, tmp_path, *, key_prefix=None):
            async with MyAdapter(tmp_path / "store", key_prefix=key_prefix) as adapter:
                yield adapter

pytest collects the whole contract, one named test a claim. A backend with optional abilities
inherits `WaitConformance`, `EventsConformance` or `InspectionConformance` too. One whose store ends
with its adapter inherits `PrivateBackendConformance`; one that lacks a provider inherits
`AdapterConformance`, `FenceConformance` and the parts it claims. What only several processes can
show is not in these classes.
"""

from . import _rewrite as _rewrite  # first: it acts on what is imported after it
from ._base import Conformance
from .adapter import AdapterConformance
from .backend import BackendConformance, PrivateBackendConformance
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .events import EventsConformance
from .features import FeaturesConformance
from .fence import FenceConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance
from .lock import LockConformance
from .private_store import PrivateStoreConformance
from .shared_store import SharedStoreConformance
from .wait import WaitConformance

__all__ = [
    "AdapterConformance",
    "BackendConformance",
    "CacheConformance",
    "CheckpointConformance",
    "CircuitBreakerConformance",
    "Conformance",
    "EventsConformance",
    "FeaturesConformance",
    "FenceConformance",
    "IdempotencyConformance",
    "InspectionConformance",
    "LockConformance",
    "PrivateBackendConformance",
    "PrivateStoreConformance",
    "SharedStoreConformance",
    "WaitConformance",
]
