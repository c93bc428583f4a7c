"""Letting the child of a fork use the files that its parent has open.

SQLite remembers in memory which locks its process has on a file, and a fork copies that memory but
not the locks. A connection that the child opens relies on locks that nobody has: when the parent
closes the file, SQLite removes the WAL while the child writes into it.

So the child first closes every inherited connection, which makes SQLite forget the file. That is
safe only if no thread was in the middle of a call and no transaction was open. A fork therefore
waits until the threads have finished their calls. Where that fails, or if the host application has
a connection to the file too, the child cannot open the file.
"""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import Final, Protocol
from weakref import WeakSet

from goscope.errors import BackendUnavailable

from .file import file_identity, open_files

MAX_WAIT_S: Final = 1.0
"""How long a fork waits for the calls of other threads. They take milliseconds, unless another
process keeps the file locked."""


class Forkable(Protocol):
    """What has connections that a child of a fork must close."""

    def after_fork(self, *, quiet: bool) -> None:
        """Become unusable in the child, and close the connections if no thread was using them."""
        ...


class _Calls:
    """The calls into SQLite that threads are in the middle of."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._running = 0
        self._forking = 0
        self.quiet = True

    def begin(self) -> None:
        """Begin a call, but not while the process forks."""
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._running += 1

    def end(self) -> None:
        """End a call."""
        with self._changed:
            self._running -= 1
            if self._forking:
                self._changed.notify_all()

    def hold(self) -> None:
        """Let no call begin, and wait for the others to finish."""
        with self._changed:
            self._forking += 1
            deadline = monotonic() + MAX_WAIT_S
            while self._running and (left_s := deadline - monotonic()) > 0:
                self._changed.wait(left_s)
            self.quiet = not self._running

    def resume(self) -> None:
        """Let calls begin again."""
        with self._changed:
            self._forking -= 1
            self._changed.notify_all()


_calls = _Calls()
_databases: Final[WeakSet[Forkable]] = WeakSet()
_unusable_files: Final[set[tuple[int | str, ...]]] = set()


def begin_call() -> None:
    """Begin a call into SQLite outside of the event loop; `end_call` ends it."""
    _calls.begin()


def end_call() -> None:
    """End a call that `begin_call` has begun, in the same process."""
    _calls.end()


def register(database: Forkable) -> None:
    """Call ``after_fork`` of the database in each child of a fork."""
    _databases.add(database)


def check_usable(path: str) -> None:
    """Raise `BackendUnavailable` if the parent of this process had the file open when it forked."""
    if _unusable_files and file_identity(path) in _unusable_files:
        raise BackendUnavailable(
            f"{path}: this process was forked while a connection to the file was in use or not "
            f"goscope's own, and SQLite's locks do not survive a fork. Open the file after the "
            f"fork only, or start the process with the multiprocessing method 'spawn'"
        )


def _before() -> None:
    if _databases:
        _calls.hold()


def _after_in_parent() -> None:
    if _databases:
        _calls.resume()


def _after_in_child() -> None:
    global _calls
    quiet, _calls = _calls.quiet or not _databases, _Calls()
    for database in list(_databases):
        database.after_fork(quiet=quiet)
    _unusable_files.update(identity for _, identity in open_files())


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
