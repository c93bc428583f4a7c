"""From the driver's exceptions to goscope's."""

from __future__ import annotations

import sqlite3
from typing import Final, TypeAlias

from goscope.errors import (
    BackendBusy,
    BackendCorrupt,
    BackendError,
    BackendFull,
    BackendUnavailable,
)

_Kind: TypeAlias = tuple[type[BackendError], str]

_BUSY: Final[_Kind] = (
    BackendBusy,
    "another connection kept the database locked for longer than busy_timeout. "
    "Find the transaction that stays open, or raise busy_timeout",
)
_INTERRUPTED: Final[_Kind] = (
    BackendBusy,
    "a process stopped in the very moment in which its commit becomes visible, and for 10 s nobody "
    "else could read or write. Find the suspended process, and resume or end it",
)
_FULL: Final[_Kind] = (
    BackendFull,
    "there is no room left for the database. Free some space; nothing stored was damaged",
)
_CORRUPT: Final[_Kind] = (
    BackendCorrupt,
    "the file is damaged or is no SQLite database; it was left as it is. "
    "Check the path, or restore the file from a backup",
)
_READ_ONLY: Final[_Kind] = (
    BackendUnavailable,
    "the database may not be written. Give this user write access to the file and its directory",
)
_CANNOT_OPEN: Final[_Kind] = (
    BackendUnavailable,
    "the database cannot be opened. Check that this user may read and write the file and its "
    "directory",
)
_DISK_FAILED: Final[_Kind] = (
    BackendUnavailable,
    "reading or writing the disk failed. Check the device and the system's log",
)
_CLOSED: Final[_Kind] = (
    BackendUnavailable,
    "the connection to the database was closed. Connect the adapter again",
)
_OTHER: Final[_Kind] = (
    BackendError,
    "SQLite refused the operation. This is likely a bug of goscope-sqlite; please report it",
)

_KINDS: Final[dict[int, _Kind]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _INTERRUPTED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_IOERR: _DISK_FAILED,
}


def is_busy(exc: sqlite3.Error) -> bool:
    """Whether the error only says that another connection was in the way."""
    return _primary_code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_undecodable(exc: sqlite3.Error) -> bool:
    """Whether a text in the database is no UTF-8: the one such error that is not SQLite's."""
    return isinstance(exc, sqlite3.OperationalError) and not _primary_code(exc)


def translate(exc: BaseException, path: str) -> BaseException:
    """Return goscope's error for one of sqlite3, with that as its cause; any other as it is."""
    if not isinstance(exc, sqlite3.Error):
        return exc
    if isinstance(exc, sqlite3.ProgrammingError):
        kind, sentence = _CLOSED
    else:
        kind, sentence = _KINDS.get(_primary_code(exc), _OTHER)
    error = kind(f"{path}: {sentence} (SQLite says: {exc})")
    error.__cause__ = exc
    return error


def _primary_code(exc: sqlite3.Error) -> int:
    """SQLite's result code without its extension; 0 for an error of the sqlite3 module itself."""
    code: int = getattr(exc, "sqlite_errorcode", 0)
    return code & 0xFF
