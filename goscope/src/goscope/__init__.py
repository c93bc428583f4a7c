"""goscope: locks, cache, circuit breakers, checkpoints and idempotency for asyncio programs.

    gs = goscope.Scope("sqlite:///app.db?locks=shared")

    async with gs:
        async with gs.lock("stock:42", ttl="30s"):
            ...

Start with `Scope`. A backend implements the Protocols below, with the base classes of
`goscope.backend`; observers receive the records of `goscope.events`.
"""

from ._cache import Cache
from ._cached import CachedFunction
from ._circuit_breaker import CircuitBreaker
from ._collection import Collection
from ._idempotency import Idempotency, IdempotentResult
from ._inspect import Inspection
from ._lock import Lock
from ._outcome import Outcome
from ._progress import Progress
from ._scope import Scope
from ._task_context import TaskCheckpoint, TaskContext
from ._tasks import Tasks
from ._tools.duration import Duration
from ._tools.key import escape_pattern
from .errors import (
    BackendBusy,
    BackendCorrupt,
    BackendError,
    BackendFull,
    BackendLoadError,
    BackendUnavailable,
    CapabilityMissing,
    CheckpointConflict,
    CircuitOpen,
    ConfigurationError,
    CorruptValue,
    FingerprintMismatch,
    GoscopeError,
    InvalidOption,
    LeaseLost,
    LockTimeout,
    MemoryLockWarning,
    OperationInProgress,
    ResultNotStored,
    SchemaMismatch,
    ScopeNotOpen,
    SerializationError,
    TaskAlreadyRunning,
    UnknownBackend,
)
from .providers import (
    MISSING,
    CacheEntry,
    CacheProvider,
    CacheStats,
    Capability,
    Checkpoint,
    CheckpointProvider,
    CircuitBreakerState,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    IdempotencyRecord,
    InspectionProvider,
    LockHandle,
    LockHolder,
    LockProvider,
    PersistenceAdapter,
    SupportsAdoption,
    SupportsBackup,
    SupportsEvents,
    SupportsInspection,
    SupportsRenew,
    SupportsTransactions,
    SupportsWait,
    TransactionProvider,
)

__version__ = "0.1.0"

__all__ = [
    "MISSING",
    "BackendBusy",
    "BackendCorrupt",
    "BackendError",
    "BackendFull",
    "BackendLoadError",
    "BackendUnavailable",
    "Cache",
    "CacheEntry",
    "CacheProvider",
    "CacheStats",
    "CachedFunction",
    "Capability",
    "CapabilityMissing",
    "Checkpoint",
    "CheckpointConflict",
    "CheckpointProvider",
    "CircuitBreaker",
    "CircuitBreakerState",
    "CircuitBreakerStateProvider",
    "CircuitOpen",
    "Collection",
    "ConfigurationError",
    "CorruptValue",
    "Duration",
    "FingerprintMismatch",
    "GoscopeError",
    "Idempotency",
    "IdempotencyProvider",
    "IdempotencyRecord",
    "IdempotentResult",
    "Inspection",
    "InspectionProvider",
    "InvalidOption",
    "LeaseLost",
    "Lock",
    "LockHandle",
    "LockHolder",
    "LockProvider",
    "LockTimeout",
    "MemoryLockWarning",
    "OperationInProgress",
    "Outcome",
    "PersistenceAdapter",
    "Progress",
    "ResultNotStored",
    "SchemaMismatch",
    "Scope",
    "ScopeNotOpen",
    "SerializationError",
    "SupportsAdoption",
    "SupportsBackup",
    "SupportsEvents",
    "SupportsInspection",
    "SupportsRenew",
    "SupportsTransactions",
    "SupportsWait",
    "TaskAlreadyRunning",
    "TaskCheckpoint",
    "TaskContext",
    "Tasks",
    "TransactionProvider",
    "UnknownBackend",
    "escape_pattern",
]
