"""A worker process: calls all features of goscope in random order, and logs every action.

supervisor.py runs it as ``python -m tests.stress.worker FOLDER NAME SEED``. It prints "ready" when
its scope is open, and exits when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

from goscope import Scope, TaskContext
from goscope.errors import (
    BackendBusy,
    CircuitOpen,
    LeaseLost,
    LockTimeout,
    OperationInProgress,
    TaskAlreadyRunning,
)

from .event_log import NS_PER_MS, NS_PER_S, Entry, Log, now
from .recorder import record_calls
from .store import open_scope

LEASE_MS: Final = 1_000
"""The ttl of all leases with renewal."""

SHORT_LEASE_MS: Final = 150
"""The ttl of the locks without renewal, whose holders may exceed it."""

COMPUTED_TTL_MS: Final = 700
ENTRY_TTL_MS: Final = 500
KEY_PERIOD_NS: Final = NS_PER_S // 2
"""The time between two new keys of idempotent calls."""

CLIENTS: Final = 6
TASK_LENGTH: Final = 10
STALL_THRESHOLD_MS: Final = 200
"""An event loop delay above this is logged as a stall."""

EXPECTED: Final = (
    *(BackendBusy, CircuitOpen, LeaseLost, LockTimeout, OperationInProgress, TaskAlreadyRunning),
    ConnectionError,  # raised by the bodies
)


class Client:
    """Runs one operation after another. Each worker has several, which contend like processes."""

    def __init__(self, gs: Scope, log: Log, name: str, rng: random.Random) -> None:
        self._gs = gs
        self._log = log
        self._name = name
        self._rng = rng
        # Time-based, so that they exceed the numbers of a killed predecessor with this name.
        self._numbers = itertools.count(now() // NS_PER_MS)

    async def work_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            operation = self._rng.choice(OPERATIONS)
            entry = self._log.begin("operation", operation.__name__)
            try:
                await operation(self)
            except EXPECTED as exc:
                entry.error(exc)
            else:
                entry.end()
            await asyncio.sleep(self._rng.uniform(0, 0.02))

    # --- locks ----------------------------------------------------------------------------------

    async def lock(self) -> None:
        """Increment a counter under a lock; after the loss of the lock, try it once more."""
        key = f"stock:{self._rng.randrange(3)}"
        asked = now()
        async with self._gs.lock(key, ttl=f"{LEASE_MS}ms", wait="5s") as handle:
            waited_ms = (now() - asked) // NS_PER_MS
            hold = self._log.begin("hold", f"lock:{key}", value=waited_ms)
            try:
                for _ in range(self._rng.randrange(2, 6)):
                    hold.step()
                    await self._count_under(key, handle)
                    await self._pause(5, 40)
            except asyncio.CancelledError:
                await self._count_under(key, handle)
                raise
            hold.end()

    async def overstay(self) -> None:
        """Write under a lock that may expire between the writes, and sometimes extend it."""
        key = f"short:{self._rng.randrange(2)}"
        handle = await self._gs.lock(key, ttl=f"{SHORT_LEASE_MS}ms").try_acquire()
        if handle is None:
            return
        for _ in range(3):
            await self._count_under(key, handle)
            await self._pause(10, 100)
        if self._rng.random() < 0.3:
            await handle.extend(f"{SHORT_LEASE_MS}ms")
        await handle.release()

    async def _count_under(self, key: str, handle: Any) -> None:
        count = await self._gs.cache.get(f"count:{key}", 0)
        await self._gs.cache.set(f"count:{key}", count + 1, fence=handle)

    # --- cache ----------------------------------------------------------------------------------

    async def fetch(self) -> None:
        """Read an entry, which the first client to miss it computes."""
        key = f"page:{self._rng.randrange(2)}"

        async def compute() -> str:
            body = self._log.begin("compute", f"lease:cache:{key}", value=COMPUTED_TTL_MS)
            return await self._work(body)

        entry = self._log.begin("get_or_set", key)
        try:
            # "raise": when a suspended process keeps the file locked, no value is computed without
            # a lease.
            value = await self._gs.cache.get_or_set(
                key, compute, ttl=f"{COMPUTED_TTL_MS}ms", on_store_error="raise"
            )
            entry.end(value)
        except ConnectionError as exc:
            entry.error(exc)

    async def increment(self) -> None:
        key = f"visits:{self._rng.randrange(2)}"
        entry = self._log.begin("cache.increment", key)
        await self._log_outcome(entry, self._gs.cache.increment(key))

    async def store(self) -> None:
        """Set a numbered entry with a tag, a ttl or neither, and then the latest number."""
        number = next(self._numbers)
        key = f"{self._name}:{number}"
        tag = self._rng.choice(("red", "green", None))
        ttl_ms = None if tag else self._rng.choice((ENTRY_TTL_MS, None))
        entry = self._log.begin("store", key, value={"tag": tag, "ttl_ms": ttl_ms})
        ttl = None if ttl_ms is None else f"{ttl_ms}ms"
        await self._log_outcome(
            entry, self._gs.cache.set(key, number, ttl, tags=[tag] if tag else [])
        )
        entry = self._log.begin("write", self._name, value=number)
        await self._log_outcome(entry, self._gs.cache.set(self._name, number))

    async def look_up(self) -> None:
        """Read the latest number of a client, and check whether a recent entry exists."""
        slot, client = self._rng.randrange(8), self._rng.randrange(CLIENTS)
        name = f"client:{slot}:{client}"
        number = await self._read(name)
        if number is None:
            return
        key = f"{name}:{number - self._rng.randrange(3)}"
        entry = self._log.begin("has", key)
        entry.end(await self._gs.cache.has(key))

    async def delete_by_tag(self) -> None:
        if self._rng.random() < 0.3:
            tag = self._rng.choice(("red", "green"))
            await self._log_outcome(
                self._log.begin("delete_by_tag", tag), self._gs.cache.delete_by_tag(tag)
            )

    async def _read(self, name: str) -> int | None:
        entry = self._log.begin("read", name)
        number: int | None = await self._gs.cache.get(name)
        entry.end(number)
        return number

    # --- circuit breakers -----------------------------------------------------------------------

    async def fail(self) -> None:
        """Fail in a circuit that counts failures and never opens."""
        await self._gs.circuit_breaker("counts", failure_threshold=10**9).call(self._failing)

    async def probe(self) -> None:
        """Call a service that is always down. Its circuit starts open, so each call is a probe."""

        async def down() -> None:
            await self._work(self._log.begin("down", "lease:circuit:down"))
            raise ConnectionError

        breaker = self._gs.circuit_breaker("down", failure_threshold=1, reset_timeout="30ms")
        await breaker.call(down)

    async def recover(self) -> None:
        """Call a service that fails sometimes."""
        breaker = self._gs.circuit_breaker(
            "recovers", failure_threshold=2, reset_timeout="50ms", success_threshold=2
        )
        async with breaker as call:
            await self._pause(1, 20)
            if self._rng.random() < 0.4:
                call.fail()

    async def _failing(self) -> None:
        raise ConnectionError

    # --- tasks and idempotent calls -------------------------------------------------------------

    async def task(self) -> None:
        """Run a task, or resume it."""
        task_id = f"etl:{self._rng.randrange(3)}"

        async def body(task: TaskContext[Any]) -> str:
            data = task.checkpoint.data
            work = self._log.begin("task_body", f"lease:task:{task_id}", value=data)
            run, done = data or (work.name, 0)
            for number in range(done + 1, TASK_LENGTH + 1):
                await self._pause(5, 60)
                work.step()
                await task.checkpoint.save((run, number))
            work.end()
            return cast(str, run)

        entry = self._log.begin("run", task_id)
        await self._log_outcome(entry, self._gs.tasks.run(task_id, body, max_checkpoints=3))

    async def idempotent_call(self) -> None:
        """Make a call that other clients also make, half of the time at the same moment."""
        if self._rng.random() < 0.5:
            await asyncio.sleep((KEY_PERIOD_NS - now() % KEY_PERIOD_NS) / NS_PER_S)
            key = f"charge:{now() // KEY_PERIOD_NS}"
        else:
            period = now() // KEY_PERIOD_NS - self._rng.choice((0, 0, 1, 2, 5))
            key = f"charge:{period}-{self._rng.randrange(3)}"

        async def execute() -> str:
            return await self._work(self._log.begin("execute", f"lease:idempotency:{key}"))

        entry = self._log.begin("idempotency.run_detailed", key)
        try:
            outcome = await self._gs.idempotency.run_detailed(key, execute)
        except ConnectionError as exc:
            entry.error(exc)
        else:
            entry.end(outcome.value)

    # --- helpers --------------------------------------------------------------------------------

    async def _log_outcome(self, entry: Entry, write: Awaitable[Any]) -> None:
        try:
            entry.end(await write)
        except EXPECTED as exc:
            entry.error(exc)
            raise

    async def _work(self, body: Entry) -> str:
        """A body: it may outlast a lease, fail, or suppress its cancellation."""
        steps = 30 if self._rng.random() < 0.1 else self._rng.randrange(9)
        suppress = self._rng.random() < 0.5
        try:
            for _ in range(steps):
                body.step()
                await self._pause(5, 80)
        except asyncio.CancelledError:
            if not suppress:
                raise
        if self._rng.random() < 0.1:
            body.error(ConnectionError())
            raise ConnectionError
        body.end()
        return body.name

    async def _pause(self, min_ms: int, max_ms: int) -> None:
        await asyncio.sleep(self._rng.uniform(min_ms, max_ms) / 1000)


OPERATIONS: Final[tuple[Callable[[Client], Awaitable[None]], ...]] = (
    *(Client.lock, Client.overstay),
    *(Client.fetch, Client.increment, Client.store, Client.look_up, Client.delete_by_tag),
    *(Client.fail, Client.probe, Client.recover),
    *(Client.task, Client.idempotent_call),
)


async def watch_loop(log: Log) -> None:
    """Log the stalls of this process, in which it cannot renew its leases."""
    before = now()
    while True:
        await asyncio.sleep(0.05)
        after = now()
        if after - before > STALL_THRESHOLD_MS * NS_PER_MS:
            log.mark("stall", value=after - before)
        before = after


def input_closed() -> asyncio.Event:
    """An event that is set when the parent closes standard input or dies."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def close() -> None:
        loop.remove_reader(sys.stdin)
        closed.set()

    loop.add_reader(sys.stdin, close)
    return closed


async def main(folder: Path, name: str, seed: str) -> None:
    stop = input_closed()
    log = Log(folder, name)
    slot = name.partition(".")[0]
    async with open_scope(folder, lease_ttl=f"{LEASE_MS}ms") as gs:
        record_calls(gs.persistence, log)
        watcher = asyncio.create_task(watch_loop(log))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                rng = random.Random(f"{seed}:{name}:{number}")
                client = Client(gs, log, f"client:{slot}:{number}", rng)
                group.create_task(client.work_until(stop))
        watcher.cancel()
    log.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
