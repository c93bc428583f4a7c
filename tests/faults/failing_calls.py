"""The program whose system calls fail one after the other: for each n, the n-th call fails.

Prints how many calls failed. It ends with an error if a call raised what is not goscope's, if what
was acknowledged is missing, if something is there in part, or if the store does not work again.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from goscope import GoscopeError
from goscope.providers import Checkpoint, LockHandle
from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import wal

from .shim import Kind, Shim

HANG_S: Final = 60

LIMIT: Final = "WAL_LIMIT_BYTES"


class Fault(NamedTuple):
    """What happens to the n-th call."""

    error: int
    kinds: Kind = Kind.ALL
    sticky: bool = False
    short: bool = False


FAULTS: Final = {
    "EIO": Fault(errno.EIO),
    # Without locks: SQLite takes a lock that fails for one that is held, and tries for 10 s.
    "EIO from then on": Fault(errno.EIO, Kind.ALL & ~Kind.LOCK, sticky=True),
    "ENOSPC from then on": Fault(
        errno.ENOSPC, Kind.OPEN | Kind.WRITE | Kind.RESIZE | Kind.MAP, sticky=True
    ),
    "EMFILE": Fault(errno.EMFILE, Kind.OPEN),
    "ENOMEM": Fault(errno.ENOMEM, Kind.MAP | Kind.OPEN | Kind.LOCK),
    "short write": Fault(0, Kind.WRITE, short=True),
}


class Round:
    """One use of a store in which one call fails."""

    def __init__(self, path: Path, writes: Any, shim: Shim, fault: Fault, nth: int) -> None:
        self._path = path
        self._adapter = SQLiteAdapter(
            path, locks="shared", writes=writes, busy_timeout="2s", sweep_interval="1h"
        )
        self._shim = shim
        self._fault = fault
        self._nth = nth
        self.stored: dict[str, Any] = {}
        self.unsure: set[str] = set()

    async def run(self, *, while_opening: bool) -> int:
        """Use the store. The number of calls that could have failed."""
        if while_opening:
            self._fail()
            await self._try("open", self._adapter.connect())
            if not self._adapter.is_connected:
                seen = self._shim.stop_failing()
                await self._adapter.connect()
            else:
                await self._use("during")
                seen = self._shim.stop_failing()
        else:
            await self._adapter.connect()
            await self._use("before")
            self._fail()
            await self._use("during")
            seen = self._shim.stop_failing()
        await self._works_again()
        await self._adapter.disconnect()
        return seen

    async def close_with_failure(self) -> int:
        """Let a call fail while the store closes."""
        await self._adapter.connect()
        await self._use("before")
        self._fail()
        await self._try("close", self._adapter.disconnect())
        seen = self._shim.stop_failing()
        await self._adapter.disconnect()
        return seen

    def _fail(self) -> None:
        kinds, error = self._fault.kinds, self._fault.error
        sticky, short = self._fault.sticky, self._fault.short
        self._shim.fail(self._nth, kinds, error, sticky=sticky, short=short)

    async def _try(self, key: str, call: Awaitable[Any], value: Any = None) -> Any:
        self.unsure.add(key)
        try:
            async with asyncio.timeout(HANG_S):
                result = await call
        except GoscopeError:
            return None
        self.unsure.discard(key)
        if value is not None:
            self.stored[key] = value
        return result

    async def _use(self, name: str) -> None:
        it, cache = self._adapter, self._adapter.cache
        await self._try(f"cache:{name}", cache.set(name, 1, "1h", tags=["a", "b"]), 1)
        await self._try(f"cache:{name}:many", cache.set_many({f"{name}:many": 2}), 2)
        large = name * 20_000
        await self._try(f"cache:{name}:large", cache.set(f"{name}:large", large), large)
        await self._try("", cache.get(name))
        await self._try("", cache.keys())
        lock: LockHandle | None = await self._try("", it.lock.acquire(name, "1h"))
        if lock is not None:
            await self._try("", lock.release())
        saved = Checkpoint(id=name, task_id=name, sequence=1, timestamp=1, data=3)
        await self._try(f"checkpoint:{name}", it.checkpoint.save(saved), 3)
        await self._try(f"result:{name}", it.idempotency.set(name, 4), 4)
        await self._try("", it.circuit_breaker.record_failure(name, 5))

    async def _works_again(self) -> None:
        async with asyncio.timeout(HANG_S):
            await self._adapter.cache.set("after", 5)
            assert await self._adapter.cache.get("after") == 5
            lock = await self._adapter.lock.acquire("after")
            assert lock is not None
            await lock.release()
        self.stored["cache:after"] = 5

    def check(self) -> None:
        """Compare what was acknowledged with what plain sqlite3 finds."""
        with closing(sqlite3.connect(self._path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = {
                **_pairs(connection, "SELECT key, value FROM go_goscope_cache"),
                **_pairs(
                    connection, "SELECT 'checkpoint:' || id, data FROM go_goscope_checkpoints"
                ),
                **_pairs(connection, "SELECT 'result:' || key, value FROM go_goscope_idempotency"),
            }
            tags = connection.execute(
                "SELECT key, count(*) FROM go_goscope_cache_tags GROUP BY key"
            ).fetchall()
        for key, value in self.stored.items():
            assert found.get(key) == value, f"{key} was acknowledged: {found.get(key)!r:.80}"
        extra = found.keys() - self.stored.keys() - self.unsure
        assert not extra, f"nobody stored {extra}"
        assert all(n == 2 for _, n in tags), f"partial: {tags}"


def _pairs(connection: sqlite3.Connection, sql: str) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in connection.execute(sql)}


def main(folder: Path, name: str, writes: str, phase: str, first: int, step: int) -> int:
    """Let each step-th call fail; how many did."""
    shim = Shim(folder)
    fault = FAULTS[name]
    done, nth = 0, first
    while True:
        place = folder / f"{nth}"
        place.mkdir()
        running = Round(place / "store.db", writes, shim, fault, nth)
        if phase == "close":
            seen = asyncio.run(running.close_with_failure())
        else:
            seen = asyncio.run(running.run(while_opening=phase == "open"))
        try:
            running.check()
            left = [it for it in os.listdir("/proc/self/fd") if _is_in(it, folder)]
            assert not left, "the store is closed, and its files are open"
        except AssertionError as exc:
            exc.add_note(f"{name}, writes={writes}, while {phase}: call {nth} failed")
            raise
        assert threading.active_count() < 4, threading.enumerate()
        shutil.rmtree(place)
        if seen < nth:
            return done
        done, nth = done + 1, nth + step


def _is_in(descriptor: str, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder))
    except OSError:
        return False


if __name__ == "__main__":
    logging.disable()  # a failed checkpoint is a warning
    setattr(wal, LIMIT, 64 * 1024)  # several checkpoints in one round
    directory, error, place, when, begin, every = sys.argv[1:]
    failed = main(Path(directory), error, place, when, int(begin), int(every))
    sys.stdout.write(str(failed))
