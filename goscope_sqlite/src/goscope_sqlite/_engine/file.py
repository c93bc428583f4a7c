"""Checking the path of the database: whether SQLite works there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import stat
from collections.abc import Generator
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from goscope.errors import BackendUnavailable, InvalidOption

MEMORY: Final = ":memory:"

DESCRIPTORS: Final = "/dev/fd"
"""Where Linux and macOS list the descriptors of a process."""

MOUNTINFO = Path("/proc/self/mountinfo")
"""Where Linux lists the mounted file systems. Other systems have no such file and no check."""

# fmt: off  # several to a line
_SHARED: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "drvfs",
        "gcsfuse",
        "glusterfs",
        "gpfs",
        "grpcfuse",
        "juicefs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "osxfs",
        "prl_fs",
        "rclone",
        "s3fs",
        "smb2",
        "smb3",
        "smbfs",
        "sshfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
        "vmhgfs-fuse",
    }
)
# fmt: on
"""File systems that other machines, or the host of a virtual machine, can write to. Their locks or
their shared memory do not reach across."""
_ANY_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE name GLOB 'go_goscope_*' LIMIT 1"
_OCTAL = re.compile(r"\\([0-7]{3})")


def check_path(path: str, source: str, *, allow_shared: bool = False) -> str:
    """Return the real path, without symlinks. Raises `InvalidOption` where SQLite cannot work.

    SQLite names the WAL after the real path. It needs file locks and shared memory, which file
    systems shared between machines do not provide; ``allow_shared`` says that only this one uses
    the file.
    """
    if path == MEMORY:
        return path
    if not path or path.startswith("file:") or "\0" in path:
        raise _refused(path, source, "it must be the path of a file, or ':memory:'")
    try:
        real = os.path.realpath(path)
    except OSError as exc:  # it is relative, and the working directory was deleted
        raise _refused(path, source, f"it cannot be found ({exc}): pass an absolute path") from exc
    parent = os.path.dirname(real)
    if os.path.isdir(real):
        raise _refused(path, source, "it is a directory: name a file in it")
    if not os.path.isdir(parent):
        raise _refused(path, source, f"the directory {parent} does not exist: create it first")
    kind = _file_system(real)
    if kind.removeprefix("fuse.") in _SHARED and not allow_shared:
        raise _refused(
            path,
            source,
            f"it is on a network file system or one shared with a host ({kind}), where SQLite's "
            f"locks do not work and data can be lost: put the file on a local disk, or use a "
            f"server backend. If no program outside of this machine opens the file, say "
            f"allow_shared_filesystem=True",
        )
    return real


def create_file(path: str) -> None:
    """Create a missing file for this user alone. SQLite would let every user read it.

    The umask may take away more. SQLite gives ``-wal`` and ``-shm`` the permissions of the file.
    """
    if path == MEMORY:
        return
    try:
        # Not open(): closing any descriptor of a file drops the locks SQLite has on it.
        os.mknod(path, 0o600 | stat.S_IFREG)
    except (AttributeError, PermissionError):  # on Windows and, for most users, on macOS
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError:
        pass  # it exists, or SQLite will say what is wrong


def is_disk_full(path: str) -> bool:
    """Whether no file can grow in the directory of the file, or none be created."""
    try:
        found = os.statvfs(os.path.dirname(path))
    except (AttributeError, OSError, ValueError):  # absent on Windows
        return False
    # Some file systems have no limit on the number of files, and report 0 of 0 as free.
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


async def store_exists(options: Any) -> bool:
    """Whether ``options.path`` is a file with goscope's tables. Creates and changes nothing.

    True also for a file that cannot be read: opening it says why.
    """
    return await asyncio.to_thread(_has_tables, options.path)


def _has_tables(path: str) -> bool:
    if path == MEMORY or not os.path.exists(path):
        return False
    real = os.path.realpath(path)
    # Without a WAL nobody has the file open, and no file is created beside it.
    mode = "mode=ro" if os.path.exists(f"{real}-wal") else "mode=ro&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{Path(real).as_uri()}?{mode}", uri=True)
        ) as connection:
            return bool(connection.execute(_ANY_TABLE).fetchall())
    except sqlite3.Error:
        return True


def file_identity(path: str) -> tuple[int | str, ...] | None:
    """What is the same for every path of one existing file; None for ":memory:"."""
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)
    except OSError:
        found = None
    # Some file systems of Windows have no inode numbers.
    return (found.st_dev, found.st_ino) if found and found.st_ino else (os.path.realpath(path),)


def open_files() -> Generator[tuple[int, tuple[int | str, ...]]]:
    """The descriptors of this process for regular files, with what `file_identity` says of each.

    Nothing where the system does not list them, as on Windows.
    """
    try:
        descriptors = os.listdir(DESCRIPTORS)
    except OSError:
        return
    for descriptor in map(int, descriptors):
        try:
            found = os.fstat(descriptor)
        except OSError:  # the listing's own, which is closed
            continue
        if stat.S_ISREG(found.st_mode):
            yield descriptor, (found.st_dev, found.st_ino)


def sync_file(path: str) -> None:
    """Wait until the disk has what this process wrote to a file that it has open.

    Uses a descriptor of SQLite: closing any other one drops the locks SQLite has on the file.
    """
    identity = file_identity(path)
    for descriptor, found in open_files():
        if found == identity:
            os.fsync(descriptor)
            return


CHECK_INTERVAL_S: Final = 0.001
"""How often to look whether the path names another file, which takes a system call."""


class OpenFile:
    """The file that is open, and whether its path still names it.

    Writes to a file without a name are lost, and its locks exclude nobody who opens the path. Until
    ``checked_until`` it is taken to be there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = file_identity(path)
        self.checked_until = 0.0

    def is_at_path(self) -> bool:
        """Whether the path named the file when that was last looked at, in this millisecond."""
        now = perf_counter()
        if now < self.checked_until:
            return True
        if file_identity(self._path) != self._identity:
            return False
        self.checked_until = now + CHECK_INTERVAL_S
        return True

    def gone(self) -> BackendUnavailable:
        """The error of a write that was not made because the path names another file, or none."""
        return BackendUnavailable(
            f"{self._path}: the file was deleted, replaced or moved while it was open, and the "
            f"write was not applied. Disconnect the adapter and connect it again. To copy or "
            f"replace the file of a running program, see `backup`"
        )


def _refused(path: str, source: str, reason: str) -> InvalidOption:
    return InvalidOption("path", source, f"{path!r} cannot be used: {reason}")


def _file_system(real: str) -> str:
    """The type of the file system of a real path; "" if unknown."""
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mounted = _unescape(before.split(" ")[4])
        # Of equal mount points the last one counts: it is mounted over the others.
        if len(mounted) >= len(found) and os.path.commonpath((mounted, real)) == mounted:
            found, kind = mounted, after.split(" ", 1)[0]
    return kind


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
