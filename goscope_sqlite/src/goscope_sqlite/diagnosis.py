"""What ``goscope doctor`` checks of a file. It opens the file read-only, and changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from threading import Event
from typing import Any, Final

from goscope._tools.clock import SystemClock, boot_id
from goscope.backend import ProcessIdentity
from goscope.errors import BackendError, ConfigurationError, InvalidOption
from goscope.maintenance import Finding, Level

from ._engine.connection import MINIMUM_SQLITE, WAL_LIMIT_BYTES
from ._engine.errors import translate
from ._engine.file import check_path
from ._engine.wal import MAX_SIZE
from ._open_processes import live_processes
from ._storage import connect_read_only, file_size, journal_mode
from ._thread import in_thread
from ._wal_readers import wal_readers
from .schema import VERSION, check_current

LONG_READ_S: Final = 1.0
"""How long a read may pin the WAL before it is reported."""

MAX_BACKLOG: Final = 10_000
"""How many expired rows a store may keep. The sweeper removes more than that in a second."""

MAX_WAL_FACTOR: Final = MAX_SIZE + 1
"""A WAL of so many times its limit is not checkpointed: the writes wait before."""

CLOCK_TOLERANCE_S: Final = 60

_WAL_RESET_FIXED: Final = (3, 51, 3)
"""Up to 3.51.2, two connections that write and checkpoint at the same time may corrupt the file.

goscope's own checkpoints exclude that; another program's do not.
"""

_EXPIRED: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM go_goscope_cache AS c
            LEFT JOIN go_goscope_cache_companion AS s ON s.key = c.key
            WHERE c.expires_at <= ?1 AND coalesce(s.stale_until, 0) <= ?1 * 1000
        UNION ALL SELECT 1 FROM go_goscope_idempotency WHERE expires_at <= ?1
        LIMIT ?2
    )
"""
_LAST_WRITE: Final = """
    SELECT max(time) FROM (
        SELECT max(created_at) AS time FROM go_goscope_cache
        UNION ALL SELECT max(created_at) FROM go_goscope_idempotency
        UNION ALL SELECT max(acquired_at) / 1000 FROM go_goscope_locks
    )
"""
_STUCK: Final = """
    SELECT count(*) FROM go_goscope_locks WHERE boot_id = ? AND expires_at <= ?
"""


async def diagnose_file(options: Any) -> Sequence[Finding]:
    """Check the file that the options name; ``Backend.diagnose``."""
    return await in_thread(_diagnose, options)


def _diagnose(_: Event, options: Any) -> list[Finding]:
    findings = [_sqlite_version()]
    try:
        path = check_path(options.path, "the store", allow_shared=options.allow_shared_filesystem)
    except ConfigurationError as exc:
        reason = exc.args[0] if not isinstance(exc, InvalidOption) else str(exc)
        return [*findings, _finding("file", "error", reason, "Put the file on a local disk")]
    if not os.path.exists(path):
        return [*findings, _finding("file", "error", f"there is no file {path}", "Check the path")]
    findings += [_permissions(path), _free_space(path)]
    # Before any connection exists: closing a descriptor drops the locks that SQLite has.
    readers = wal_readers(path, LONG_READ_S) if file_size(f"{path}-wal") else []
    findings += [_wal(path, readers)]
    try:
        with closing(connect_read_only(path)) as connection:
            findings += _contents(connection, path, options)
    except sqlite3.Error as exc:
        findings.append(_failure("database", translate(exc, path)))
    return findings


def _contents(connection: sqlite3.Connection, path: str, options: Any) -> Iterator[Finding]:
    """The checks that read the database. One that fails does not keep the next from being made."""
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("journal", lambda: _journal(path)),
        ("schema", lambda: _schema(connection, path)),
        ("integrity", lambda: _integrity(connection)),
        ("expired", lambda: _backlog(connection)),
        ("leases", lambda: _leases(connection)),
        ("locks", lambda: _locks(connection, options)),
        ("clock", lambda: _clock(connection)),
    )
    for name, check in checks:
        try:
            yield check()
        except sqlite3.Error as exc:
            yield _failure(name, translate(exc, path))
        except BackendError as exc:
            yield _failure(name, exc)


def _sqlite_version() -> Finding:
    version = sqlite3.sqlite_version_info
    if version < MINIMUM_SQLITE:
        advice = "Use a newer Python, or one built against SQLite 3.35 or newer"
        return _finding("sqlite", "error", f"SQLite {sqlite3.sqlite_version} is too old", advice)
    if version < _WAL_RESET_FIXED:
        advice = "Let no other program checkpoint the file, or use SQLite 3.51.3 or newer"
        return _finding("sqlite", "note", f"SQLite {sqlite3.sqlite_version}", advice)
    return _finding("sqlite", "ok", f"SQLite {sqlite3.sqlite_version}")


def _permissions(path: str) -> Finding:
    folder = os.path.dirname(path)
    if not os.access(path, os.R_OK | os.W_OK):
        advice = f"Give this user read and write access to {path}"
        return _finding("permissions", "error", "this user cannot read and write the file", advice)
    if not os.access(folder, os.W_OK | os.X_OK):
        advice = f"Give this user write access to {folder}: SQLite creates the WAL there"
        return _finding("permissions", "error", "this user cannot write to its folder", advice)
    found = os.stat(path)
    mode = stat.filemode(found.st_mode)
    if found.st_mode & stat.S_IROTH:
        advice = f"If its values are private: chmod o-rwx {path}"
        return _finding("permissions", "note", f"{mode}: every user can read it", advice)
    return _finding("permissions", "ok", mode)


def _free_space(path: str) -> Finding:
    free = shutil.disk_usage(os.path.dirname(path)).free
    needed = file_size(path) + file_size(f"{path}-wal")
    if free < WAL_LIMIT_BYTES * MAX_WAL_FACTOR:
        advice = "Free some space: writes fail when the disk is full"
        return _finding("disk", "error", f"{_mib(free)} are free", advice)
    if free < needed:
        advice = "A backup or a vacuum on this disk needs as much space as the file"
        return _finding(
            "disk", "note", f"{_mib(free)} are free, the file has {_mib(needed)}", advice
        )
    return _finding("disk", "ok", f"{_mib(free)} are free")


def _wal(path: str, readers: Sequence[int]) -> Finding:
    size = file_size(f"{path}-wal")
    pinned = ", ".join(map(str, readers))
    if size > WAL_LIMIT_BYTES * MAX_WAL_FACTOR:
        advice = (
            f"Process {pinned} reads in one long transaction, so that the WAL cannot be emptied: "
            f"end that transaction"
            if readers
            else "It shrinks when a process of goscope writes. If one does, look for long reads"
        )
        return _finding("wal", "warning", f"{_mib(size)}", advice)
    if readers:
        found = f"{_mib(size)}; process {pinned} has been reading for over {LONG_READ_S:g} s"
        return _finding("wal", "note", found, "A long read lets the WAL grow: end it soon")
    return _finding("wal", "ok", _mib(size))


def _journal(path: str) -> Finding:
    mode = journal_mode(path)
    if mode != "wal":
        advice = "Let no other program change it. goscope switches to WAL when it opens the file"
        return _finding("journal", "warning", f"journal mode {mode}", advice)
    return _finding("journal", "ok", "journal mode wal")


def _schema(connection: sqlite3.Connection, path: str) -> Finding:
    check_current(connection, path)
    return _finding("schema", "ok", f"version {VERSION}")


def _integrity(connection: sqlite3.Connection) -> Finding:
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(3)").fetchall()]
    if problems != ["ok"]:
        advice = "Stop its programs, and restore a backup: goscope restore"
        return _finding("integrity", "error", "; ".join(problems), advice)
    return _finding("integrity", "ok", "SQLite finds no damage")


def _backlog(connection: sqlite3.Connection) -> Finding:
    parameters = (int(time.time()), 100 * MAX_BACKLOG)
    count = connection.execute(_EXPIRED, parameters).fetchall()[0][0]
    found = f"{count:,} expired records are not removed yet"
    if count > MAX_BACKLOG:
        advice = "No process sweeps the file: open it for longer, or run goscope prune"
        return _finding("expired", "warning", found, advice)
    return _finding("expired", "ok", found)


def _leases(connection: sqlite3.Connection) -> Finding:
    count = connection.execute(_STUCK, (boot_id(), SystemClock().steady_ms())).fetchall()[0][0]
    if count:
        advice = "Their holders hung or were killed. Whoever wants them gets them: nothing to do"
        return _finding("leases", "note", f"{count:,} expired and were not released", advice)
    return _finding("leases", "ok", "none has expired without being released")


def _locks(connection: sqlite3.Connection, options: Any) -> Finding:
    processes = live_processes(connection)
    found = f"open in {len(processes)} processes"
    if options.locks != "shared" and len(processes) > 1:
        advice = "gs.lock is in memory here, and excludes no other process: set locks=shared"
        pids = ", ".join(_pid(process) for process in processes)
        return _finding("locks", "warning", f"{found} ({pids})", advice)
    return _finding("locks", "ok", found)


def _clock(connection: sqlite3.Connection) -> Finding:
    last = connection.execute(_LAST_WRITE).fetchall()[0][0]
    ahead_s = last - time.time() if isinstance(last, int | float) else 0
    if ahead_s > CLOCK_TOLERANCE_S:
        advice = "The clock was set back, so entries live for that much longer. Check the time"
        return _finding(
            "clock", "warning", f"a record was written {ahead_s:.0f} s from now", advice
        )
    return _finding("clock", "ok", "no record comes from the future")


def _failure(check: str, exc: BaseException) -> Finding:
    return _finding(check, "error", " ".join(str(exc).split()), "")


def _finding(check: str, level: Level, found: str, advice: str = "") -> Finding:
    return Finding(check=check, level=level, found=found, advice=advice)


def _pid(process: ProcessIdentity) -> str:
    return str(process.pid)


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.1f} MiB"
