"""The providers: their SQL, and the decoding of rows, on any `Database`."""

from .cache import SQLiteCacheProvider
from .checkpoint import SQLiteCheckpointProvider
from .circuit_breaker import SQLiteCircuitBreakerStateProvider
from .idempotency import SQLiteIdempotencyProvider
from .inspection import SQLiteInspectionProvider
from .lock import SQLiteLockProvider
from .transactions import SQLiteTransactionProvider

__all__ = [
    "SQLiteCacheProvider",
    "SQLiteCheckpointProvider",
    "SQLiteCircuitBreakerStateProvider",
    "SQLiteIdempotencyProvider",
    "SQLiteInspectionProvider",
    "SQLiteLockProvider",
    "SQLiteTransactionProvider",
]
