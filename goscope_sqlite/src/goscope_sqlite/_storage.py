"""The file as an operator sees it: how large it is, and opening it without changing it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any, Final

from goscope.errors import BackendUnavailable
from goscope.maintenance import StorageInfo

from ._engine.errors import translate
from ._engine.file import MEMORY
from .schema import check_current

FREE_BYTES: Final = """
    SELECT f.freelist_count * p.page_size FROM pragma_freelist_count AS f, pragma_page_size AS p
"""
VACUUM_WAIT_S: Final = 30


def check_attachable(_: Event, path: str) -> None:
    """Raise `BackendError` for a file that `connect` would have to create or migrate.

    Only reads.
    """
    if path == MEMORY:
        return
    if not os.path.exists(path):
        raise BackendUnavailable(f"{path}: there is no such file. Nothing was created")
    try:
        with closing(connect_read_only(path)) as connection:
            check_current(connection, path)
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc


def connect_read_only(path: str) -> sqlite3.Connection:
    """A connection that cannot write. Raises errors of sqlite3, later those of reading."""
    real = os.path.realpath(path)
    # Without a WAL nobody has the file open, and no file is created beside it.
    return _connect(real, "mode=ro" if _has_wal(real) else "mode=ro&immutable=1")


def journal_mode(path: str) -> str:
    """The journal mode of a file. Raises errors of sqlite3."""
    real = os.path.realpath(path)
    # An immutable file has none. A connection that may write removes the WAL that it creates.
    with closing(_connect(real, "mode=ro" if _has_wal(real) else "mode=rw")) as connection:
        mode: str = connection.execute("PRAGMA journal_mode").fetchall()[0][0]
    return mode


def _has_wal(real: str) -> bool:
    return os.path.exists(f"{real}-wal")


def _connect(real: str, mode: str) -> sqlite3.Connection:
    uri = f"{Path(real).as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def storage(path: str, free_bytes: Sequence[Sequence[Any]]) -> StorageInfo:
    """The sizes of the file and its WAL; 0 for what does not exist."""
    return StorageInfo(
        path=path,
        size_bytes=file_size(path),
        wal_bytes=file_size(f"{path}-wal"),
        free_bytes=free_bytes[0][0],
    )


def file_size(path: str) -> int:
    """The size of a file, 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def vacuum_file(_: Event, path: str) -> None:
    """Copy the live data into the smallest file it fits into. Raises `BackendError`."""
    if path == MEMORY:
        return
    try:
        with closing(
            sqlite3.connect(path, isolation_level=None, timeout=VACUUM_WAIT_S)
        ) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
            connection.execute("VACUUM")
            # Only a checkpoint makes the file shorter. Readers may delay it: then another one does.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
