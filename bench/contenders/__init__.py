"""Everything that is compared: goscope, its limits, and its peers."""

from __future__ import annotations

from typing import Final

from ..contender import Contender
from .aiocache_memory import AiocacheMemory
from .aiosqlite_by_hand import AiosqliteByHand
from .asyncio_lock import AsyncioLock
from .breakers import Aiobreaker, Purgatory, Pybreaker
from .cashews_cache import CashewsDisk, CashewsMemory
from .diskcache_in_thread import DiskcacheInThread
from .filelock_async import FilelockAsync
from .goscope_backends import GoscopeMemory, GoscopeSQLite, GoscopeSQLiteBun
from .langgraph_saver import LanggraphSaver
from .limit import Limit, LimitOfReaders
from .parts import ProvidersAlone, SharedTransactions, TwoConnections, WritingThread
from .queues import QueueAlone, QueueInLoopAlone

CACHES: Final[list[type[Contender]]] = [
    Limit,
    LimitOfReaders,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteByHand,
    DiskcacheInThread,
    CashewsDisk,
    CashewsMemory,
    AiocacheMemory,
]
BREAKERS: Final[list[type[Contender]]] = [
    Limit,
    LimitOfReaders,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteByHand,
    Pybreaker,
    Aiobreaker,
    Purgatory,
]
CHECKPOINTERS: Final[list[type[Contender]]] = [
    Limit,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteByHand,
    LanggraphSaver,
]
REPLAYERS: Final[list[type[Contender]]] = [
    Limit,
    LimitOfReaders,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteByHand,
]
LOCKS: Final[list[type[Contender]]] = [
    AsyncioLock,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
]
SHARED_LOCKS: Final[list[type[Contender]]] = [
    Limit,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    AiosqliteByHand,
    FilelockAsync,
]
FILES: Final[list[type[Contender]]] = [Limit, LimitOfReaders, GoscopeSQLite, GoscopeSQLiteBun]
"""Those that can be given a file of many rows."""

PARTS: Final[list[type[Contender]]] = [
    TwoConnections,
    WritingThread,
    SharedTransactions,
    ProvidersAlone,
    QueueAlone,
    QueueInLoopAlone,
]
"""What explains the others."""

LOOPS: Final[list[type[Contender]]] = [GoscopeSQLite, GoscopeSQLiteBun, AiosqliteByHand]

BY_NAME: Final = {
    contender.name: contender
    for contender in dict.fromkeys(
        [*CACHES, *BREAKERS, *CHECKPOINTERS, *REPLAYERS, *LOCKS, *SHARED_LOCKS, *PARTS]
    )
}
