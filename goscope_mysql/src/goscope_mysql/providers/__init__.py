"""The five providers: their SQL, and the decoding of rows."""

from .cache import MySQLCacheProvider
from .checkpoint import MySQLCheckpointProvider
from .circuit_breaker import MySQLCircuitBreakerStateProvider
from .idempotency import MySQLIdempotencyProvider
from .inspection import MySQLInspectionProvider
from .lock import MySQLLockProvider
from .transactions import MySQLTransactionProvider

__all__ = [
    "MySQLCacheProvider",
    "MySQLCheckpointProvider",
    "MySQLCircuitBreakerStateProvider",
    "MySQLIdempotencyProvider",
    "MySQLInspectionProvider",
    "MySQLLockProvider",
    "MySQLTransactionProvider",
]
