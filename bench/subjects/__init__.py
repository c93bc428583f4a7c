"""The subjects: goscope, the baselines, its peers, and single components of goscope."""

from __future__ import annotations

from typing import Final

from ..subject import Subject
from .aiocache_memory import AiocacheMemory
from .aiosqlite_direct import AiosqliteDirect
from .asyncio_lock import AsyncioLock
from .baseline import Baseline, ReaderBaseline
from .breakers import Aiobreaker, Purgatory, Pybreaker
from .cashews_cache import CashewsDisk, CashewsMemory
from .components import ProvidersOnly, SharedTransactions, TwoConnections, WriterThread
from .diskcache_in_thread import DiskcacheInThread
from .filelock_async import FilelockAsync
from .goscope_backends import GoscopeMemory, GoscopeOnServer, GoscopeSQLite, GoscopeSQLiteBun
from .langgraph_saver import LanggraphPostgresSaver, LanggraphSaver
from .mysql_server import Asyncmy, GoscopeMySQL
from .postgres import AsyncpgConnection, AsyncpgPool, GoscopePostgres
from .queues import InLoopQueueOnly, QueueOnly
from .redis_server import (
    Aioredlock,
    CashewsRedis,
    GoscopeRedis,
    KeyValueRedis,
    RedisPy,
    RedisPyLock,
)

CACHES: Final[list[type[Subject]]] = [
    Baseline,
    ReaderBaseline,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteDirect,
    DiskcacheInThread,
    CashewsDisk,
    CashewsMemory,
    AiocacheMemory,
]
BREAKERS: Final[list[type[Subject]]] = [
    Baseline,
    ReaderBaseline,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteDirect,
    Pybreaker,
    Aiobreaker,
    Purgatory,
]
CHECKPOINTERS: Final[list[type[Subject]]] = [
    Baseline,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteDirect,
    LanggraphSaver,
]
REPLAYERS: Final[list[type[Subject]]] = [
    Baseline,
    ReaderBaseline,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
    AiosqliteDirect,
]
LOCKS: Final[list[type[Subject]]] = [
    AsyncioLock,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    GoscopeMemory,
]
SHARED_LOCKS: Final[list[type[Subject]]] = [
    Baseline,
    GoscopeSQLite,
    GoscopeSQLiteBun,
    AiosqliteDirect,
    FilelockAsync,
]
FILES: Final[list[type[Subject]]] = [Baseline, ReaderBaseline, GoscopeSQLite, GoscopeSQLiteBun]
"""Subjects that work on a file of many rows."""

COMPONENTS: Final[list[type[Subject]]] = [
    TwoConnections,
    WriterThread,
    SharedTransactions,
    ProvidersOnly,
    QueueOnly,
    InLoopQueueOnly,
]
"""Single components of goscope, which show where its time is spent."""

LOOPS: Final[list[type[Subject]]] = [GoscopeSQLite, GoscopeSQLiteBun, AiosqliteDirect]

MYSQL: Final[list[type[Subject]]] = [Asyncmy, GoscopeMySQL]
"""Subjects on a MySQL or MariaDB server."""
POSTGRES: Final[list[type[Subject]]] = [
    AsyncpgConnection,
    AsyncpgPool,
    GoscopePostgres,
    LanggraphPostgresSaver,
]
REDIS: Final[list[type[Subject]]] = [RedisPy, GoscopeRedis, CashewsRedis, KeyValueRedis]
REDIS_LOCKS: Final[list[type[Subject]]] = [RedisPy, GoscopeRedis, RedisPyLock, Aioredlock]
"""Subjects on a Redis server."""

SERVER_BACKENDS: Final[list[type[GoscopeOnServer]]] = [
    GoscopeMySQL,
    GoscopePostgres,
    GoscopeRedis,
]
"""goscope on each server."""

BY_NAME: Final = {
    subject.name: subject
    for subject in dict.fromkeys(
        [
            *CACHES,
            *BREAKERS,
            *CHECKPOINTERS,
            *REPLAYERS,
            *LOCKS,
            *SHARED_LOCKS,
            *COMPONENTS,
            *MYSQL,
            *POSTGRES,
            *REDIS,
            *REDIS_LOCKS,
        ]
    )
}
