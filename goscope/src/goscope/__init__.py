"""goscope: locks, cache, circuit breakers, checkpoints and idempotency for asyncio programs.

    gs = goscope.Scope("sqlite:///app.db")

    async with gs:
        async with gs.lock("stock:42", ttl="30s"):
            ...

Start with `Scope`. A backend implements the Protocols below, with the base classes of
`goscope.backend`; observers receive the records of `goscope.events`.
"""

from ._cache import Cache
from ._cached import CachedFunction
from ._circuit_breaker import CircuitBreaker
from ._idempotency import Idempotency, IdempotentResult
from ._lock import Lock
from ._progress import Progress
from ._scope import Scope
from ._task_context import TaskCheckpoint, TaskContext
from ._tasks import Tasks
from ._tools.duration import Duration
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
    OperationInProgress,
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
    LockHandle,
    LockHolder,
    LockProvider,
    PersistenceAdapter,
    SupportsEvents,
    SupportsInspection,
    SupportsRenew,
    SupportsWait,
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
    "ConfigurationError",
    "CorruptValue",
    "Duration",
    "FingerprintMismatch",
    "GoscopeError",
    "Idempotency",
    "IdempotencyProvider",
    "IdempotencyRecord",
    "IdempotentResult",
    "InvalidOption",
    "LeaseLost",
    "Lock",
    "LockHandle",
    "LockHolder",
    "LockProvider",
    "LockTimeout",
    "OperationInProgress",
    "PersistenceAdapter",
    "Progress",
    "SchemaMismatch",
    "Scope",
    "ScopeNotOpen",
    "SerializationError",
    "SupportsEvents",
    "SupportsInspection",
    "SupportsRenew",
    "SupportsWait",
    "TaskAlreadyRunning",
    "TaskCheckpoint",
    "TaskContext",
    "Tasks",
    "UnknownBackend",
]
