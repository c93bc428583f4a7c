"""The table of airports, in the same file as the store: rows of the demo's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from .... import Scope, SupportsTransactions
from ._store import Store

_CREATE: Final = """
    CREATE TABLE IF NOT EXISTS demo_airport (
        icao TEXT NOT NULL, name TEXT NOT NULL, receipt INTEGER NOT NULL, worker TEXT NOT NULL
    )
"""
"""Without a key, so that a row which is written twice is seen."""

_INSERT: Final = "INSERT INTO demo_airport VALUES (?, ?, ?, ?)"
_SELECT: Final = "SELECT icao, name, receipt, worker FROM demo_airport"


class Airport(NamedTuple):
    """A row: an airport, the receipt of its charge, and the worker that wrote it."""

    icao: str
    name: str
    receipt: int
    worker: str


def is_in_file(gs: Scope, store: Store) -> bool:
    """Whether the store is a file in which the demo can have a table."""
    return store.path is not None and isinstance(gs.persistence, SupportsTransactions)


async def create(gs: Scope) -> None:
    """Create the table unless it exists."""
    await gs.transaction(lambda connection: connection.execute(_CREATE))


def inserting(rows: Sequence[Airport]) -> Callable[[sqlite3.Connection], object]:
    """Work that writes the rows, as part of a transaction."""
    return lambda connection: connection.executemany(_INSERT, rows)


async def read(gs: Scope) -> list[Airport]:
    """All rows."""

    def select(connection: sqlite3.Connection) -> list[Airport]:
        return [Airport._make(row) for row in connection.execute(_SELECT)]

    return await gs.transaction(select)
