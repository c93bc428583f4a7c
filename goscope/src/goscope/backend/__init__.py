"""For authors of backends: what to register, and base classes that keep the shared rules.

Keys, prefixes, durations, JSON and the records live in the base classes; a backend fills in
primitives on stored keys and texts. `goscope.memory` is the implementation to read first. A store
that is small enough to be read and replaced whole needs only `RecordAdapter`.
"""

from ..providers import Capability
from ._adapter import BaseAdapter
from ._backend import Backend, path_from_url
from ._cache import PAGE_SIZE, BaseCacheProvider, StoredEntry, integer
from ._cancellation import ShieldableFuture, settle
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._clock import Clock, SystemClock
from ._context import Fence, StoreContext
from ._duration import milliseconds, strict_milliseconds, wait_milliseconds
from ._idempotency import BaseIdempotencyProvider, StoredResult, lease_key
from ._json import UndecodableText, convert, decode, encode
from ._key import (
    MAX_KEY_LENGTH,
    MAX_LEASE_KEY_LENGTH,
    check_key,
    check_pattern,
    check_prefix,
    literal_prefix,
    pattern_regex,
)
from ._lock import BaseLockProvider, LockNamespace, StoredLockHandle, new_owner, refused
from ._process import ProcessIdentity, this_process
from ._records import (
    RecordAdapter,
    RecordCacheProvider,
    RecordCheckpointProvider,
    RecordCircuitBreakerStateProvider,
    RecordIdempotencyProvider,
    RecordLockProvider,
    Records,
    RecordStore,
    StoredLease,
)
from ._turn import Turn
from ._waiters import Waiters, wait_until

__all__ = [
    "MAX_KEY_LENGTH",
    "MAX_LEASE_KEY_LENGTH",
    "PAGE_SIZE",
    "Backend",
    "BaseAdapter",
    "BaseCacheProvider",
    "BaseCheckpointProvider",
    "BaseCircuitBreakerStateProvider",
    "BaseIdempotencyProvider",
    "BaseLockProvider",
    "Capability",
    "Clock",
    "Fence",
    "LockNamespace",
    "ProcessIdentity",
    "RecordAdapter",
    "RecordCacheProvider",
    "RecordCheckpointProvider",
    "RecordCircuitBreakerStateProvider",
    "RecordIdempotencyProvider",
    "RecordLockProvider",
    "RecordStore",
    "Records",
    "ShieldableFuture",
    "StoreContext",
    "StoredCheckpoint",
    "StoredEntry",
    "StoredLease",
    "StoredLockHandle",
    "StoredResult",
    "SystemClock",
    "Turn",
    "UndecodableText",
    "Waiters",
    "check_key",
    "check_pattern",
    "check_prefix",
    "convert",
    "decode",
    "encode",
    "integer",
    "lease_key",
    "literal_prefix",
    "milliseconds",
    "new_owner",
    "path_from_url",
    "pattern_regex",
    "refused",
    "settle",
    "strict_milliseconds",
    "this_process",
    "wait_milliseconds",
    "wait_until",
]
