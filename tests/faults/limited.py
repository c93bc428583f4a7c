"""Programs that meet a limit of the system, one a function. Each prints "ok" at its end."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

from goscope import BackendFull, BackendUnavailable, GoscopeError, LockHandle, Scope
from goscope_sqlite import SQLiteAdapter

from .shim import Shim

CALLS: Final = 40


@contextmanager
def limit(which: int, value: int) -> Generator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


async def calls(adapter: SQLiteAdapter, stored: dict[str, Any], size: int) -> list[BaseException]:
    """Make many calls. The errors of those that failed."""
    failed: list[BaseException] = []
    for number in range(CALLS):
        key = f"{len(stored)}:{number}"
        try:
            value = "x" * size + str(number)
            await adapter.cache.set(key, value)
            stored[key] = value
            await adapter.cache.get(key)
            handle = await adapter.lock.acquire(key)
            if handle is not None:
                await handle.release()
        except GoscopeError as exc:
            failed.append(exc)
    return failed


async def check(adapter: SQLiteAdapter, path: Path, stored: dict[str, Any]) -> None:
    """Everything acknowledged is there, and the adapter works."""
    await adapter.cache.set("after", 1)
    for key, value in stored.items():
        assert await adapter.cache.get(key) == value, key
    await adapter.disconnect()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def no_descriptors(path: Path) -> None:
    """No descriptor is left: an open fails with a named error, open adapters go on."""
    adapter, stored = SQLiteAdapter(path, locks="shared"), dict[str, Any]()
    other = SQLiteAdapter(path)
    await adapter.connect()
    gs = Scope(persistence=SQLiteAdapter(path, locks="shared"))
    async with gs, gs.lock("held", ttl="1h"):
        with ExitStack() as taken:
            try:
                while True:
                    taken.callback(os.close, os.open("/dev/null", os.O_RDONLY))
            except OSError as exc:
                if exc.errno != errno.EMFILE:
                    raise
            await calls(adapter, stored, 10)
            try:
                await other.connect()
            except BackendUnavailable:
                pass
            else:
                await other.disconnect()
            assert await adapter.lock.acquire("held") is None, "taken from a live holder"
        assert await adapter.lock.acquire("held") is None, "taken from a live holder"
        await other.connect()
        await other.disconnect()
    await check(adapter, path, stored)


async def large_file(path: Path) -> None:
    """No file may grow, as on a full disk or at a quota."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    adapter, stored = SQLiteAdapter(path, locks="shared"), dict[str, Any]()
    await adapter.connect()
    assert not await calls(adapter, stored, 1000)
    with limit(resource.RLIMIT_FSIZE, (path.parent / f"{path.name}-wal").stat().st_size):
        failed = await calls(adapter, stored, 1000)
        assert failed
        assert all(isinstance(it, BackendFull | BackendUnavailable) for it in failed), failed
    assert not await calls(adapter, stored, 1000)
    await check(adapter, path, stored)


async def clock_steps(path: Path) -> None:
    """The wall clock is set: no lease ends, is lost or lives longer because of it."""
    shim, day_s = Shim(path.parent), 86_400
    async with SQLiteAdapter(path, locks="shared") as one, SQLiteAdapter(path) as two:
        for step in (day_s, -day_s, 0):
            lock = await one.lease.acquire("key", "1h")
            assert lock is not None
            shim.step_clock(step)
            assert await two.lease.acquire("key") is None, step
            assert await lock.extend("1h"), step
            assert await lock.is_valid(), step
            await lock.release()
            short: LockHandle | None = await one.lease.acquire(f"short:{step}", "20ms")
            assert short is not None
            shim.step_clock(-step)
            async with asyncio.timeout(60):
                while await two.lease.acquire(f"short:{step}", "1ms") is None:  # noqa: ASYNC110  # its ttl
                    await asyncio.sleep(0.005)
        shim.step_clock(0)
        await one.cache.set("day", 1, "1h")
        shim.step_clock(day_s)
        assert await one.cache.get("day") is None, "a ttl is of the wall clock"


PROGRAMS: Final[dict[str, Callable[[Path], Awaitable[None]]]] = {
    it.__name__: it for it in (no_descriptors, large_file, clock_steps)
}


async def main(name: str, path: Path) -> None:
    if name == "no_descriptors":
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    await PROGRAMS[name](path)
    sys.stdout.write("ok")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
