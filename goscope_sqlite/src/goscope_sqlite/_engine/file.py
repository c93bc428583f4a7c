"""Checking the path of the database: whether SQLite works there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from goscope.errors import InvalidOption

MEMORY: Final = ":memory:"

MOUNTINFO = Path("/proc/self/mountinfo")
"""Where Linux lists the mounted file systems. Other systems have no such file and no check."""

# fmt: off  # a long list, one entry a line
_NETWORK: Final = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb2",
        "smb3",
        "smbfs",
    }
)
# fmt: on
_OCTAL = re.compile(r"\\([0-7]{3})")


def check_path(path: str, source: str) -> str:
    """Return the absolute path. Raises `InvalidOption` where no database can be opened.

    SQLite needs file locks and shared memory, which network file systems do not provide.
    """
    if path == MEMORY:
        return path
    if not path or path.startswith("file:") or "\0" in path:
        raise _refused(path, source, "it must be the path of a file, or ':memory:'")
    absolute = os.path.abspath(path)
    parent = os.path.dirname(absolute)
    if os.path.isdir(absolute):
        raise _refused(path, source, "it is a directory: name a file in it")
    if not os.path.isdir(parent):
        raise _refused(path, source, f"the directory {parent} does not exist: create it first")
    kind = _file_system(parent)
    if kind in _NETWORK:
        raise _refused(
            path,
            source,
            f"it is on a network file system ({kind}), where SQLite's locks do not work and data "
            f"can be lost: put the file on a local disk, or use a server backend",
        )
    return absolute


def _refused(path: str, source: str, reason: str) -> InvalidOption:
    return InvalidOption("path", source, f"{path!r} cannot be used: {reason}")


def _file_system(directory: str) -> str:
    """The type of the file system of the directory; "" if unknown."""
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = os.path.realpath(directory)
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
