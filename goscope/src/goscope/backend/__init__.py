"""For authors of backends: the record to register, and base classes that keep the shared rules.

Keys, prefixes, durations and JSON are checked and converted in the base classes; a backend fills
in primitives on stored keys and texts. `goscope.memory` is the implementation to read first. A
store that is small enough to be read and replaced whole needs only
`goscope.backend.records.RecordAdapter`.
"""

from .._tools.cancellation import finish_before_cancel
from .._tools.clock import Clock, SystemClock
from .._tools.codec import DecodeError, encode
from .._tools.duration import milliseconds
from .._tools.key import literal_prefix, pattern_regex
from .._tools.notifier import KeyedNotifier
from .._tools.polling import poll_interval_ms
from .._tools.process import ProcessIdentity, this_process
from ..providers import Capability
from ._adapter import BaseAdapter
from ._backend import Backend
from ._cache import PAGE_SIZE, BaseCacheProvider, StoredEntry, parse_counter
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._context import Fence, StoreContext
from ._idempotency import BaseIdempotencyProvider, StoredResult
from ._lock import BaseLockProvider, LockNamespace, lease_lost
from ._memory_lock import MemoryLockProvider
from ._options import Locks, check_choice, path_from_url
from ._sweeping import SweepSchedule

__all__ = [
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
    "DecodeError",
    "Fence",
    "KeyedNotifier",
    "LockNamespace",
    "Locks",
    "MemoryLockProvider",
    "ProcessIdentity",
    "StoreContext",
    "StoredCheckpoint",
    "StoredEntry",
    "StoredResult",
    "SweepSchedule",
    "SystemClock",
    "check_choice",
    "encode",
    "finish_before_cancel",
    "lease_lost",
    "literal_prefix",
    "milliseconds",
    "parse_counter",
    "path_from_url",
    "pattern_regex",
    "poll_interval_ms",
    "this_process",
]
