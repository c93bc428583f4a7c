"""The work that the contract of transactions runs, on a connection of sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from goscope.testing.conformance import TransactionsConformance


class SQLiteTransactions(TransactionsConformance, abstract=True):
    def work(self, *statements: str, error: BaseException | None = None) -> Callable[[Any], Any]:
        def work(connection: sqlite3.Connection) -> list[Any]:
            rows: list[Any] = []
            for statement in statements:
                rows = connection.execute(statement.format(account="account")).fetchall()
            if error is not None:
                raise error
            return rows

        return work
