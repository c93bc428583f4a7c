"""For authors of backends on an SQLite file: running the providers on another driver.

Subclass `BaseDatabase`, which opens the file, queues and groups writes, and closes it. Pass an
instance to a subclass of `goscope_sqlite.file_adapter.FileAdapter`. `goscope_sqlite.providers`
holds the SQL and `goscope_sqlite.schema` the tables; neither depends on the driver.
"""

from __future__ import annotations

from ._engine.base import BaseDatabase
from ._engine.batch import Batch, Write, WriteQueue, new_write
from ._engine.connection import Settings, prepare_writer
from ._engine.errors import translate
from ._engine.file import MEMORY
from ._engine.protocol import Database, Row
from ._engine.reader import Reader
from ._engine.wal import Checkpointer
from ._engine.worker import Worker

__all__ = [
    "MEMORY",
    "BaseDatabase",
    "Batch",
    "Checkpointer",
    "Database",
    "Reader",
    "Row",
    "Settings",
    "Worker",
    "Write",
    "WriteQueue",
    "new_write",
    "prepare_writer",
    "translate",
]
