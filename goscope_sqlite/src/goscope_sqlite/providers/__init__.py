"""The five providers: their SQL, and the decoding of rows, on any `Database`."""

from .cache import SQLiteCacheProvider
from .checkpoint import SQLiteCheckpointProvider
from .circuit_breaker import SQLiteCircuitBreakerStateProvider
from .idempotency import SQLiteIdempotencyProvider
from .lock import SQLiteLockProvider

__all__ = [
    "SQLiteCacheProvider",
    "SQLiteCheckpointProvider",
    "SQLiteCircuitBreakerStateProvider",
    "SQLiteIdempotencyProvider",
    "SQLiteLockProvider",
]
