"""Fences: a write is applied only while the lease that guards it is current."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from goscope.backend import Fence, lease_lost

from .._engine.database import Row
from ..schema import Tables

_FENCED: Final = """
    WITH fence AS MATERIALIZED (
        SELECT 1 FROM {lease} WHERE key = $KEY AND token = $TOKEN FOR SHARE
    ),
    CTES
    written AS (WRITE)
    SELECT (SELECT count(*) FROM fence) = 1, (SELECT * FROM written)
"""
"""It locks the row of the lease: a takeover waits for the write, or the write sees the takeover.

With no lock, or with FOR KEY SHARE, a write that waits for its own row would be applied after a
takeover has returned.
"""


_CHECK: Final = "SELECT 1 FROM {lease} WHERE key = $1 AND token = $2 FOR SHARE"


class Writer(Protocol):
    """Runs a statement: a database, or a transaction on it."""

    async def write(self, sql: str, *arguments: Any) -> list[Row]: ...


async def check_fence(writer: Writer, tables: Tables, fence: Fence | None) -> None:
    """Raise `LeaseLost` unless the fence is current, as it stays until the transaction ends."""
    if fence is not None and not await writer.write(tables.fill(_CHECK), *fence[:2]):
        raise lease_lost(fence)


class FencedWrite:
    """A write with and without a fence.

    Its SQL returns one value or nothing. Each condition has the marker ``IF_CURRENT``, or
    ``NOT_FENCE`` for a lease ``l`` other than the fence. ``ctes`` are those that the SQL selects
    from.
    """

    def __init__(self, tables: Tables, sql: str, ctes: str = "") -> None:
        parameters = max(int(number) for number in re.findall(r"\$(\d+)", f"{ctes} {sql}"))
        fenced = _FENCED.replace("CTES", f"{ctes}," if ctes else "").replace("WRITE", sql)
        fenced = fenced.replace("$KEY", f"${parameters + 1}")
        fenced = fenced.replace("$TOKEN", f"${parameters + 2}")
        plain = f"WITH {ctes} {sql}" if ctes else sql
        plain = plain.replace("IF_CURRENT", "true").replace("NOT_FENCE", "true")
        fenced = fenced.replace("IF_CURRENT", "(SELECT count(*) FROM fence) = 1")
        self.plain: Final = tables.fill(plain)
        self._fenced: Final = tables.fill(
            fenced.replace("NOT_FENCE", f"l.key <> ${parameters + 1} AND IF_CURRENT").replace(
                "IF_CURRENT", "(SELECT count(*) FROM fence) = 1"
            )
        )

    async def run(self, writer: Writer, fence: Fence | None, *arguments: Any) -> Any:
        """Execute it. Return what it returns, or None.

        Raises `LeaseLost` if the fence is not current; nothing is then changed.
        """
        if fence is None:
            rows = await writer.write(self.plain, *arguments)
            return rows[0][0] if rows else None
        sql = self._fenced
        [(is_current, value)] = await writer.write(sql, *arguments, *fence[:2])
        if not is_current:
            raise lease_lost(fence)
        return value
