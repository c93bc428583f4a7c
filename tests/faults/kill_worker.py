"""The process that is killed: it opens the store, uses it, closes it, and begins again.

Its log says what it began and what was acknowledged. Each line is one ``write``, so it survives the
process; a line that is missing counts as not acknowledged.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from goscope.providers import Checkpoint
from goscope_sqlite import SQLiteAdapter

STORE: Final = "store.db"
WITNESS: Final = "witness"
"""The file whose flock the holder of the lock takes. The kernel releases it with the process."""

MAX_CALLS: Final = 25
"""How many calls there are between an open and a close."""


class Worker:
    """Makes numbered calls and logs them. A number is used once in the life of a process."""

    def __init__(self, folder: Path, name: str, seed: str) -> None:
        self._folder = folder
        self._name = name
        self._rng = random.Random(f"{seed}:{name}")
        self._number = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._log = os.open(folder / f"{name}.log", flags, 0o600)

    async def run(self) -> None:
        """Work until the process is killed."""
        while True:
            self.note("opens", "-")
            async with SQLiteAdapter(
                self._folder / STORE,
                locks="shared",
                busy_timeout="60s",
                writes=self._rng.choice(("auto", "loop", "thread")),
                durability=self._rng.choice(("normal", "normal", "normal", "full")),
            ) as adapter:
                for _ in range(self._rng.randrange(1, MAX_CALLS)):
                    calls = (self._call(adapter) for _ in range(self._rng.choice((1, 1, 3))))
                    await asyncio.gather(*calls)
                self.note("closes", "-")
            self.note("closed", "-")

    def note(self, what: str, key: str, value: object = "") -> None:
        os.write(self._log, f"{what} {key} {value}\n".encode())

    async def _call(self, adapter: SQLiteAdapter) -> None:
        self._number += 1
        kind = self._rng.choice(KINDS)
        await kind(self, adapter, f"{self._name}.{self._number}", self._number)

    async def _noted(self, kind: str, key: str, call: Awaitable[Any], value: object = "") -> Any:
        self.note(f"begin-{kind}", key, value)
        result = await call
        self.note(f"done-{kind}", key, value)
        return result

    async def set(self, it: SQLiteAdapter, key: str, number: int) -> None:
        """Tags are rows of another table."""
        await self._noted("set", key, it.cache.set(key, number, tags=["a", "b"]), number)

    async def set_many(self, it: SQLiteAdapter, key: str, number: int) -> None:
        values = {f"{key}:{each}": number for each in range(3)}
        await self._noted("many", key, it.cache.set_many(values), number)

    async def delete(self, it: SQLiteAdapter, key: str, number: int) -> None:
        await it.cache.set(key, number)
        await self._noted("delete", key, it.cache.delete(key))

    async def increment(self, it: SQLiteAdapter, key: str, number: int) -> None:
        await self._noted("increment", "count", it.cache.increment("count"))

    async def fail(self, it: SQLiteAdapter, key: str, number: int) -> None:
        await self._noted("fail", "circuit", it.circuit_breaker.record_failure("circuit", 10**9))

    async def save(self, it: SQLiteAdapter, key: str, number: int) -> None:
        checkpoint = Checkpoint(id=key, task_id=key, sequence=number, timestamp=1, data=number)
        await self._noted("save", key, it.checkpoint.save(checkpoint), number)

    async def complete(self, it: SQLiteAdapter, key: str, number: int) -> None:
        """The result and the end of the lease are one transaction."""
        lease = await it.lease.acquire(f"idempotency:{key}", "1h")
        assert lease is not None
        call = it.idempotency.set(key, number, "1h", fence=lease)
        await self._noted("complete", key, call, number)

    async def lock(self, it: SQLiteAdapter, key: str, number: int) -> None:
        """The kernel's lock on the witness tells whether somebody else is inside."""
        self.note("begin-lock", "lock")
        handle = await it.lock.acquire("lock", "1h")
        if handle is None:
            return
        self.note("done-lock", "lock", handle.fencing_token)
        witness = os.open(self._folder / WITNESS, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.note("violation", "lock", handle.fencing_token)
        await asyncio.sleep(self._rng.uniform(0, 0.003))
        os.close(witness)
        await handle.release()


KINDS: Final[tuple[Callable[[Worker, SQLiteAdapter, str, int], Awaitable[None]], ...]] = (
    *(Worker.set, Worker.set_many, Worker.delete, Worker.increment, Worker.fail),
    *(Worker.save, Worker.complete, Worker.lock),
)


def work(folder: str, name: str, seed: str) -> None:
    """The target of the process."""
    worker = Worker(Path(folder), name, seed)
    try:
        asyncio.run(worker.run())
    except BaseException as exc:
        worker.note("error", type(exc).__name__, str(exc).replace("\n", " "))
        raise
