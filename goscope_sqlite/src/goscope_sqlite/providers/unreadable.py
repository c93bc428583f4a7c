"""Rows that another program wrote and goscope cannot read: they are skipped, and reported once."""

from __future__ import annotations

import logging
from typing import Final

logger: Final = logging.getLogger("goscope_sqlite")

MAX_REMEMBERED_ROWS: Final = 1000
"""After so many rows, further ones are not reported."""


class UnreadableRows:
    """The rows of one store that were reported."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, int]] = set()

    def report(self, table: str, rowid: int, reason: str) -> None:
        """Log a warning, once for each row."""
        if len(self._reported) < MAX_REMEMBERED_ROWS and (table, rowid) not in self._reported:
            self._reported.add((table, rowid))
            logger.warning("row %d of %s cannot be read and is skipped: %s", rowid, table, reason)
