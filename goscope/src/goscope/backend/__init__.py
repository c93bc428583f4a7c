"""For authors of backends: the record to register, and base classes that keep the shared rules.

Keys, prefixes, durations and JSON are checked and converted in the base classes; a backend fills
in primitives on stored keys and texts. `goscope.memory` is the implementation to read first. A
store that is small enough to be read and replaced whole needs only
`goscope.backend.records.RecordAdapter`.
"""

from .._tools.cancellation import finish_before_cancel
from .._tools.clock import UNKNOWN_BOOT, Clock, PreciseClock, SystemClock, is_another_boot
from .._tools.codec import DecodeError, encode
from .._tools.duration import milliseconds
from .._tools.key import literal_prefix, pattern_regex, prefix_successor, split_pattern
from .._tools.load_owner import ANY_TAG, load_owner, owner_has
from .._tools.notifier import KeyedNotifier
from .._tools.polling import poll_interval_ms
from .._tools.process import ProcessIdentity, is_alive, this_process
from ..providers import Capability
from ._adapter import BaseAdapter
from ._backend import Backend
from ._cache import PAGE_SIZE, BaseCacheProvider, NewEntry, StoredEntry, parse_counter
from ._checkpoint import BaseCheckpointProvider, StoredCheckpoint
from ._circuit_breaker import BaseCircuitBreakerStateProvider
from ._context import Fence, StoreContext
from ._idempotency import BaseIdempotencyProvider, NewResult, StoredResult
from ._inspection import (
    BaseInspectionProvider,
    CircuitRow,
    EntryRow,
    LeaseRow,
    Page,
    ResultRow,
    TaskRow,
    TotalKind,
    WaiterRow,
    page_by_key,
)
from ._lock import BaseLockProvider, LockNamespace, lease_lost
from ._memory_lock import MemoryLockProvider
from ._options import Locks, check_choice, check_locks, path_from_url
from ._sweeping import SweepSchedule
from ._transactions import BaseTransactionProvider

__all__ = [
    "ANY_TAG",
    "PAGE_SIZE",
    "UNKNOWN_BOOT",
    "Backend",
    "BaseAdapter",
    "BaseCacheProvider",
    "BaseCheckpointProvider",
    "BaseCircuitBreakerStateProvider",
    "BaseIdempotencyProvider",
    "BaseInspectionProvider",
    "BaseLockProvider",
    "BaseTransactionProvider",
    "Capability",
    "CircuitRow",
    "Clock",
    "DecodeError",
    "EntryRow",
    "Fence",
    "KeyedNotifier",
    "LeaseRow",
    "LockNamespace",
    "Locks",
    "MemoryLockProvider",
    "NewEntry",
    "NewResult",
    "Page",
    "PreciseClock",
    "ProcessIdentity",
    "ResultRow",
    "StoreContext",
    "StoredCheckpoint",
    "StoredEntry",
    "StoredResult",
    "SweepSchedule",
    "SystemClock",
    "TaskRow",
    "TotalKind",
    "WaiterRow",
    "check_choice",
    "check_locks",
    "encode",
    "finish_before_cancel",
    "is_alive",
    "is_another_boot",
    "lease_lost",
    "literal_prefix",
    "load_owner",
    "milliseconds",
    "owner_has",
    "page_by_key",
    "parse_counter",
    "path_from_url",
    "pattern_regex",
    "poll_interval_ms",
    "prefix_successor",
    "split_pattern",
    "this_process",
]
