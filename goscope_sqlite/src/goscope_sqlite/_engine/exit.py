"""Letting the process exit although an adapter was never disconnected.

The thread of an aiosqlite connection is not a daemon: at exit the interpreter waits for it forever,
before any ``atexit`` handler runs. A daemon thread waits for the main thread and stops it.
"""

from __future__ import annotations

import os
import threading
from typing import Final
from weakref import WeakKeyDictionary

import aiosqlite

_owners: Final[WeakKeyDictionary[aiosqlite.Connection, threading.Thread]] = WeakKeyDictionary()
_lock = threading.Lock()
_watcher: threading.Thread | None = None


def stop_at_exit(connection: aiosqlite.Connection) -> None:
    """Stop the connection once the main thread and the calling thread have ended."""
    global _watcher
    with _lock:
        _owners[connection] = threading.current_thread()
        if _watcher is None or not _watcher.is_alive():  # the child of a fork has no watcher
            _watcher = threading.Thread(target=_watch, name="goscope-sqlite-exit", daemon=True)
            _watcher.start()


def unregister(connection: aiosqlite.Connection) -> None:
    """Undo `stop_at_exit` for a connection that was closed."""
    with _lock:
        _owners.pop(connection, None)


def _watch() -> None:
    threading.main_thread().join()
    while _owners:
        with _lock:
            connection, owner = _owners.popitem()
        if not owner.daemon:
            owner.join()  # an event loop in another thread may outlive the main thread
        connection.stop()  # pyright: ignore[reportUnknownMemberType]  # aiosqlite's annotation is a bare Future


def _after_fork() -> None:
    """Forget the parent's connections, whose threads do not exist in the child."""
    global _lock
    _lock = threading.Lock()
    _owners.clear()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
