"""Replacing a store with a backup."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

from goscope.backend import ProcessIdentity
from goscope.errors import BackendCorrupt, ConfigurationError
from goscope.maintenance import OnProgress

from ._engine.errors import translate
from ._engine.file import MEMORY, create_file
from ._open_processes import live_processes
from ._storage import connect_read_only
from ._thread import in_thread
from .schema import check_current

STEP_PAGES: Final = 256
"""How many pages one step copies, 1 MiB: in between the copy can be cancelled."""

_TOKEN: Final = "SELECT value FROM go_goscope_meta WHERE key = 'token'"
_OF_PROCESSES: Final = ("go_goscope_locks", "go_goscope_lock_queue", "go_goscope_processes")
"""What belongs to processes that do not use the restored store."""


async def restore_file(options: Any, source: str, on_progress: OnProgress) -> None:
    """Replace the store that the options name with a backup; ``Backend.restore``."""
    await in_thread(_restore, options.path, source, on_progress)


def _restore(stop: Event, path: str, source: str, on_progress: OnProgress) -> None:
    """Replace the file in one transaction. Leases end, and tokens stay above all earlier ones.

    Raises `ConfigurationError` while a process has the store open, and for a source that is not a
    store; then nothing is changed.
    """
    if path == MEMORY:
        raise ConfigurationError("a store in memory cannot be restored: name a file")
    _check_source(source, path)
    _refuse_open(path)
    prepared = f"{path}.restore-{secrets.token_hex(4)}"
    try:
        create_file(prepared)
        with closing(connect_read_only(source)) as backup:
            _copy(stop, backup, prepared, on_progress)
        _end_leases(prepared, _last_token(path))
        create_file(path)
        with closing(_connect(path)) as store, closing(_connect(prepared)) as copy:
            # All pages in one step, thus in one transaction; again while others lock the file.
            copy.backup(store, progress=partial(_report, stop, None))
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        _remove(prepared)


def _copy(
    stop: Event, source: sqlite3.Connection, target: str, on_progress: OnProgress | None
) -> None:
    """Copy what the source holds, in steps."""
    with closing(_connect(target)) as copy:
        source.backup(copy, pages=STEP_PAGES, progress=partial(_report, stop, on_progress), sleep=0)


def _report(
    stop: Event, on_progress: OnProgress | None, _: int, remaining: int, total: int
) -> None:
    """What a copy calls after each step. Raises `_Stopped`."""
    if stop.is_set():
        raise _Stopped
    if on_progress is not None:
        on_progress(total - remaining, total)


class _Stopped(Exception):
    """The copy was cancelled."""


def _check_source(source: str, path: str) -> None:
    """Raise `ConfigurationError` for a source that cannot be restored."""
    if not os.path.isfile(source):
        raise ConfigurationError(f"{source}: there is no such file. Nothing was restored")
    if os.path.exists(path) and os.path.samefile(source, path):
        raise ConfigurationError(f"{source} is the store itself. Nothing was restored")
    try:
        with closing(connect_read_only(source)) as connection:
            check_current(connection, source)
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as exc:
        raise translate(exc, source) from exc
    if problems != ["ok"]:
        raise BackendCorrupt(f"{source} is damaged: {'; '.join(problems)}. Nothing was restored")


def _refuse_open(path: str) -> None:
    """Raise `ConfigurationError` while another process has the store open, or may have."""
    if not os.path.exists(path):
        return
    try:
        with closing(connect_read_only(path)) as connection:
            processes = live_processes(connection)
    except sqlite3.Error as exc:
        raise ConfigurationError(
            f"{path} is damaged, or is not a current goscope store ({exc}), so nobody knows which "
            f"processes use it. Nothing was restored. Stop them, and move the file away first"
        ) from exc
    if processes:
        raise ConfigurationError(
            f"{path} is open in {', '.join(map(_name, processes))}. Nothing was restored. Stop "
            f"these processes first"
        )


def _name(process: ProcessIdentity) -> str:
    return f"process {process.pid} on {process.host}"


def _last_token(path: str) -> int:
    """The last fencing token of the store that is replaced; 0 without one."""
    if not os.path.exists(path):
        return 0
    with closing(connect_read_only(path)) as connection:
        rows = connection.execute(_TOKEN).fetchall()
    return rows[0][0] if rows and isinstance(rows[0][0], int) else 0


def _end_leases(path: str, last_token: int) -> None:
    """End every lease, and let later tokens be above those of the store that is replaced."""
    with closing(_connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in _OF_PROCESSES:
            connection.execute(f"DELETE FROM {table}")
        connection.execute(
            "UPDATE go_goscope_meta SET value = max(value, ?) WHERE key = 'token'", (last_token,)
        )
        connection.execute("COMMIT")
        # What is copied page by page: the mode that the store has.
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _remove(path: str) -> None:
    for name in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
        Path(name).unlink(missing_ok=True)
