"""Which processes have the file open: one row for each connected adapter."""

from __future__ import annotations

import sqlite3
from typing import Final

from goscope._tools.clock import boot_id, is_another_boot
from goscope._tools.process import unique_name
from goscope.backend import ProcessIdentity, StoreContext, is_alive, this_process
from goscope.inspection import ProcessInfo

from ._engine.database import SQLiteDatabase
from ._engine.protocol import Row

_COLUMNS: Final = "id, boot_id, host, pid, pid_namespace, started, opened_at"
_READ: Final = f"SELECT rowid, {_COLUMNS} FROM go_goscope_processes"
_TYPES: Final = [int, str, str, str, int, str, str, int]
_ANY_OTHER: Final = """
    SELECT 1 FROM go_goscope_processes
    WHERE pid <> ? OR started <> ? OR pid_namespace <> ? OR host <> ? LIMIT 1
"""
_ADD: Final = (
    f"INSERT OR REPLACE INTO go_goscope_processes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_REMOVE: Final = "DELETE FROM go_goscope_processes WHERE id = ?"
_REMOVE_ROW: Final = "DELETE FROM go_goscope_processes WHERE rowid = ?"


class OpenProcesses:
    """The processes that have one file open, and the row of this adapter among them.

    The row tells others about this process, and no promise depends on it: neither opening nor
    closing waits until it can be written. A process that was killed leaves its row behind, and the
    next one that opens the file removes it.
    """

    def __init__(self, context: StoreContext, database: SQLiteDatabase) -> None:
        self._context = context
        self._database = database
        self._id = ""
        self.list_this(True)

    def list_this(self, listed: bool) -> None:
        """Whether the next opening of the file adds the row of this adapter."""
        self._database.after_open = self._add if listed else None
        self._database.before_close = self._remove if listed else None

    async def others(self) -> list[ProcessIdentity]:
        """The other processes that have the file open, as far as can be known."""
        me = this_process()
        mine = (me.pid, me.started, me.namespace, me.host)
        # Usually none, and then this is all: a point read, which needs no thread.
        if await self._database.read_one(_ANY_OTHER, mine) is None:
            return []
        rows = await self._database.read_all(_READ, ())
        return [
            process for row in rows if not self._is_gone(row) and (process := _process(row)) != me
        ]

    async def listed(self) -> list[ProcessInfo]:
        """All processes that have the file open, one record for each connected adapter."""
        rows = await self._database.read_all(_READ, ())
        return [self._describe(row) for row in rows if _is_readable(row)]

    def _describe(self, row: Row) -> ProcessInfo:
        process = _process(row)
        alive = False if self._is_gone(row) else is_alive(process)
        return ProcessInfo(host=process.host, pid=process.pid, opened_at=row[-1], is_alive=alive)

    def _add(self, connection: sqlite3.Connection) -> None:
        self._id = unique_name()
        for row in connection.execute(_READ).fetchall():
            if self._is_gone(row):
                connection.execute(_REMOVE_ROW, (row[0],))
        me = this_process()
        process = (me.host, me.pid, me.namespace, me.started)
        opened_at = self._context.clock.wall_ms()
        # The machine's boot, whatever clock the adapter has: this is about processes.
        connection.execute(_ADD, (self._id, boot_id(), *process, opened_at))

    def _remove(self, connection: sqlite3.Connection) -> None:
        connection.execute(_REMOVE, (self._id,))

    def _is_gone(self, row: Row) -> bool:
        """Whether the process has ended, or another program wrote a row that names none."""
        return (
            not _is_readable(row) or is_another_boot(row[2], boot_id()) or _process(row).is_gone()
        )


def live_processes(connection: sqlite3.Connection) -> list[ProcessIdentity]:
    """The other processes that have the file open, as far as can be known."""
    me, now = this_process(), boot_id()
    processes = {
        _process(row)
        for row in connection.execute(_READ).fetchall()
        if _is_readable(row) and not is_another_boot(row[2], now)
    }
    return sorted(it for it in processes if it != me and not it.is_gone())


def _is_readable(row: Row) -> bool:
    """Whether goscope wrote the row."""
    return list(map(type, row)) == _TYPES


def _process(row: Row) -> ProcessIdentity:
    host, pid, namespace, started = row[3:7]
    return ProcessIdentity(host, pid, namespace, started)
