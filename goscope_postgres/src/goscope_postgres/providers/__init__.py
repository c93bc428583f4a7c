"""The providers: their SQL, and the decoding of rows."""

from .cache import PostgresCacheProvider
from .checkpoint import PostgresCheckpointProvider
from .circuit_breaker import PostgresCircuitBreakerStateProvider
from .idempotency import PostgresIdempotencyProvider
from .inspection import PostgresInspectionProvider
from .lock import PostgresLockProvider
from .transactions import PostgresTransactionProvider

__all__ = [
    "PostgresCacheProvider",
    "PostgresCheckpointProvider",
    "PostgresCircuitBreakerStateProvider",
    "PostgresIdempotencyProvider",
    "PostgresInspectionProvider",
    "PostgresLockProvider",
    "PostgresTransactionProvider",
]
