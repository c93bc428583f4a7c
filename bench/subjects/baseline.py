"""The baseline: bare sqlite3 without an event loop, threads or argument checks."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import msgspec

from goscope_sqlite import SQLiteAdapter

from ..rows import expire
from ..sql import (
    CHECKPOINT,
    FAILURE,
    GET,
    GET_MANY,
    KEYS_PAGE,
    LATEST,
    PRUNE_PAGE,
    RELEASE,
    REMEMBER,
    REPLAY,
    SET,
    STATE,
    TAKE,
    TOKEN,
)
from ..subject import BATCH_KEYS, PAGE_ROWS, Operation, Subject
from ..values import large, small

PRUNE_PAGE_ROWS: Final = 100


class Bare(Subject):
    """A bare connection to a file with goscope's tables and pragmas."""

    is_async = False
    persistent_verbs = frozenset({"set", "remember"})
    cache_kib: ClassVar = 2 * 1024

    async def open(self) -> None:
        async with SQLiteAdapter(self.path):  # creates the tables
            pass
        self._connection = self._connect()
        self._execute = self._connection.cursor().execute
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    async def close(self) -> None:
        self._connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=30, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = NORMAL").fetchall()
        connection.execute(f"PRAGMA cache_size = -{self.cache_kib}").fetchall()
        return connection


class Baseline(Bare):
    """Bare sqlite3 with goscope's tables, pragmas and codec, and the page cache of its writers."""

    name = "sqlite3"
    about = "bare sqlite3, autocommit, WAL, synchronous=NORMAL, 2 MiB page cache, msgspec"

    def operations(self) -> Mapping[str, Operation]:
        return {
            "get": self.get,
            "set": self.set,
            "get_many": self.get_many,
            "set_many": self.set_many,
            "get_or_set": self.get,
            "count_failure": self.failure,
            "failure": self.failure,
            "healthy": self.healthy,
            "checkpoint": self.checkpoint,
            "remember": self.remember,
            "replay": self.replay,
            "shared_lock": self.shared_lock,
            "scoped_lock": self.shared_lock,
            "contend": self.contend,
            "keys": self.list_keys,
            "some_keys": self.some_keys,
            "expire": self.expire,
            "prune": self.prune,
            "reopen": self.reopen,
        }

    def get(self, number: int) -> Any:
        key = f"cache:{self.key(number)}"
        rows = self._execute(GET, (key, time.time())).fetchall()
        return self._decode(rows[0][0]) if rows else None

    def row(self, number: int) -> tuple[str, str, float, int]:
        """Return the parameters of `SET`."""
        now = time.time()
        text = self._encode(small(number)).decode()
        return f"cache:{self.key(number)}", text, now + 3600, int(now)

    def set(self, number: int) -> None:
        self._execute(SET, self.row(number)).fetchall()

    def get_many(self, number: int) -> Any:
        wanted = [f"cache:{self.key(number + more)}" for more in range(BATCH_KEYS)]
        keys = self._encode(wanted).decode()
        rows = self._execute(GET_MANY, (keys, time.time())).fetchall()
        return {key: self._decode(text) for key, text in rows}

    def set_many(self, number: int) -> None:
        self._execute("BEGIN IMMEDIATE")
        for more in range(BATCH_KEYS):
            self.set(number + more)
        self._execute("COMMIT")

    def failure(self, number: int) -> Any:
        now = time.time_ns() // 1_000_000
        key = f"circuit:{self.key(number)}"
        self._execute(FAILURE, (key, now)).fetchall()
        return self._execute(STATE, (key,)).fetchall()

    def healthy(self, number: int) -> Any:
        return self._execute(STATE, (f"circuit:{self.key(number)}",)).fetchall()

    def checkpoint(self, number: int) -> Any:
        task, row = self.checkpoint_row(number)
        self._execute(CHECKPOINT, row).fetchall()
        return self._decode(self._execute(LATEST, (task,)).fetchall()[0][0])

    def checkpoint_row(self, number: int) -> tuple[str, tuple[Any, ...]]:
        """Return the task and the parameters of `CHECKPOINT`."""
        task = f"task:{number % 10}"
        now = time.time_ns()
        text = self._encode(large(number)).decode()
        return task, (f"{now}", task, now, now // 1_000_000, 50, text)

    def remember(self, number: int) -> None:
        self._execute(REMEMBER, (self.key(number), time.time() + 3600)).fetchall()

    def replay(self, number: int) -> Any:
        rows = self._execute(REPLAY, (self.key(number), time.time())).fetchall()
        return self._decode(rows[0][0])

    def shared_lock(self, number: int) -> None:
        token = self._take(f"lock:{self.lock_key(number)}")
        self._execute(RELEASE, (f"lock:{self.lock_key(number)}", token)).fetchall()

    def contend(self, number: int) -> None:
        while (token := self._take("lock:contended")) is None:
            time.sleep(0.001)
        self._execute(RELEASE, ("lock:contended", token)).fetchall()

    def list_keys(self, number: int) -> int:
        return len(self._matching("cache:", "cache;"))

    def some_keys(self, number: int) -> int:
        return len(self._matching("cache:user:1", "cache:user:2", PAGE_ROWS))

    def expire(self, number: int) -> None:
        expire(self.path, self.keys)

    def prune(self, number: int) -> int:
        pruned = 0
        while True:
            now = time.time()
            removed = self._execute(PRUNE_PAGE, (now, PRUNE_PAGE_ROWS)).rowcount
            pruned += removed
            if removed < PRUNE_PAGE_ROWS:
                return pruned

    def reopen(self, number: int) -> None:
        connection = self._connect()
        connection.execute(GET, ("cache:user:0", time.time())).fetchall()
        connection.close()

    def _take(self, key: str) -> int | None:
        """Acquire the lease in its own transaction."""
        self._execute("BEGIN IMMEDIATE")
        token = self.take(self._execute, key)
        self._execute("COMMIT")
        return token

    def take(self, execute: Callable[..., sqlite3.Cursor], key: str) -> int | None:
        """Acquire the lease with a new fencing token if it is free, inside a transaction."""
        now = time.monotonic_ns() // 1_000_000
        token: int = execute(TOKEN).fetchall()[0][0]
        granted = execute(TAKE, (key, token, now + 30_000, now)).rowcount > 0
        return token if granted else None

    def _matching(self, after: str, end: str, limit: int = 1_000_000_000) -> list[str]:
        """Return the live keys, read in pages as goscope does to keep transactions short."""
        keys: list[str] = []
        while True:
            page = self._execute(KEYS_PAGE, (after, end, time.time(), PAGE_ROWS)).fetchall()
            keys += [row[0] for row in page]
            if len(page) < PAGE_ROWS or len(keys) >= limit:
                return keys
            after = f"{keys[-1]}\0"


class ReaderBaseline(Baseline):
    """The baseline with the page cache of goscope's readers."""

    name = "sqlite3 16 MiB"
    about = "sqlite3 with a 16 MiB page cache"
    cache_kib = 16 * 1024
