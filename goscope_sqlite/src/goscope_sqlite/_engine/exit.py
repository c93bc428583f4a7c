"""Letting the process end although an adapter was never disconnected.

The thread of an aiosqlite connection is no daemon: the interpreter waits for it at exit, before
any ``atexit`` handler runs. A daemon thread of ours notices the end first and stops it.
"""

from __future__ import annotations

import threading
from typing import Final
from weakref import WeakKeyDictionary

import aiosqlite

_owners: Final[WeakKeyDictionary[aiosqlite.Connection, threading.Thread]] = WeakKeyDictionary()
_lock: Final = threading.Lock()
_watcher: threading.Thread | None = None


def stop_at_exit(connection: aiosqlite.Connection) -> None:
    """Stop the connection when the main thread and the calling one have ended, if still open."""
    global _watcher
    with _lock:
        _owners[connection] = threading.current_thread()
        if _watcher is None or not _watcher.is_alive():  # not alive: this is a forked child
            _watcher = threading.Thread(target=_watch, name="goscope-sqlite-exit", daemon=True)
            _watcher.start()


def forget(connection: aiosqlite.Connection) -> None:
    """Undo `stop_at_exit` for a connection that was closed."""
    with _lock:
        _owners.pop(connection, None)


def _watch() -> None:
    threading.main_thread().join()
    while _owners:
        with _lock:
            connection, owner = _owners.popitem()
        if not owner.daemon:
            owner.join()  # an event loop in a thread of its own outlives the main thread
        connection.stop()  # pyright: ignore[reportUnknownMemberType]  # aiosqlite: bare Future
