"""For authors of backends on an SQLite file: what runs the SQL of the providers.

A backend whose files differ from those of "sqlite" subclasses `goscope_sqlite.SQLiteAdapter` and
sets its ``format``. `goscope_sqlite.providers` holds the SQL and `goscope_sqlite.schema` the
tables; neither depends on the driver.
"""

from __future__ import annotations

from ._engine.connection import Settings
from ._engine.database import SQLiteDatabase
from ._engine.file import MEMORY, create_file, store_exists
from ._engine.place import Place
from ._engine.protocol import Database, Row

__all__ = [
    "MEMORY",
    "Database",
    "Place",
    "Row",
    "SQLiteDatabase",
    "Settings",
    "create_file",
    "store_exists",
]
