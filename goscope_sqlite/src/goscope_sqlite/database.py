"""For authors of backends whose store is an SQLite file: run the providers on another driver.

Subclass `BaseDatabase`, which opens, queues, commits in groups and closes, and give an instance of
it to a subclass of `goscope_sqlite.file_adapter.FileAdapter`. `goscope_sqlite.providers` hold the
SQL and `goscope_sqlite.schema` the tables; neither knows what runs it.
"""

from __future__ import annotations

from ._base_database import BaseDatabase
from ._batch import Batch, Write, WriteQueue, new_write
from ._connection import Settings, prepare_writer
from ._database import Database, Row
from ._errors import translate
from ._file import MEMORY
from ._reader import Reader
from ._wal import Checkpointer
from ._worker import Worker

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
