"""One of several processes on one file: does whatever goscope can do, in random order.

Run by conductor.py as ``python -m tests.stress.worker FOLDER WHO SEED``. Says "ready" when its
scope is open, comes to its end when its standard input is closed, and writes down what it does.
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
from goscope_sqlite import SQLiteAdapter

from .record import NS_PER_MS, NS_PER_S, Entry, Log, now
from .witness import witness

LEASE_MS: Final = 1_000
"""How long leases run: those of the features, and the locks that are renewed."""

BRIEF_MS: Final = 150
"""How long a lock runs that is not renewed, and whose holder may stay for longer."""

FETCHED_MS: Final = 700
LENT_MS: Final = 500
PERIOD_NS: Final = NS_PER_S // 2
"""How long the keys of idempotent calls are new."""

HANDS: Final = 6
TASK_LENGTH: Final = 10
STALL_MS: Final = 200
"""A process whose loop was late by more was held up, and says so."""

EXPECTED: Final = (
    *(BackendBusy, CircuitOpen, LeaseLost, LockTimeout, OperationInProgress, TaskAlreadyRunning),
    ConnectionError,  # what the bodies raise
)


class Hand:
    """Does one thing after another; a worker has several, so that tasks meet as processes do."""

    def __init__(self, gs: Scope, log: Log, name: str, choice: random.Random) -> None:
        self._gs = gs
        self._log = log
        self._name = name
        self._choice = choice
        # Greater than all that others wrote in this hand's name before, since time is.
        self._numbers = itertools.count(now() // NS_PER_MS)

    async def work_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            operation = self._choice.choice(OPERATIONS)
            entry = self._log.begin("operation", operation.__name__)
            try:
                await operation(self)
            except EXPECTED as exc:
                entry.error(exc)
            else:
                entry.end()
            await asyncio.sleep(self._choice.uniform(0, 0.02))

    # --- locks ----------------------------------------------------------------------------------

    async def lock(self) -> None:
        """Count under a lock; when it is lost, try to count once more."""
        key = f"stock:{self._choice.randrange(3)}"
        asked = now()
        async with self._gs.lock(key, ttl=f"{LEASE_MS}ms", wait="5s") as handle:
            waited_ms = (now() - asked) // NS_PER_MS
            hold = self._log.begin("hold", f"lock:{key}", value=waited_ms)
            try:
                for _ in range(self._choice.randrange(2, 6)):
                    hold.step()
                    await self._count_under(key, handle)
                    await self._pause(5, 40)
            except asyncio.CancelledError:
                await self._count_under(key, handle)
                raise
            hold.end()

    async def outstay(self) -> None:
        """Write under a lock before and after it may have run out; renew it at the end, or not."""
        key = f"brief:{self._choice.randrange(2)}"
        handle = await self._gs.lock(key, ttl=f"{BRIEF_MS}ms").try_acquire()
        if handle is None:
            return
        for _ in range(3):
            await self._count_under(key, handle)
            await self._pause(10, 100)
        if self._choice.random() < 0.3:
            await handle.extend(BRIEF_MS)
        await handle.release()

    async def _count_under(self, key: str, handle: Any) -> None:
        count = await self._gs.cache.get(f"counted:{key}", 0)
        await self._gs.cache.set(f"counted:{key}", count + 1, fence=handle)

    # --- cache ----------------------------------------------------------------------------------

    async def fetch(self) -> None:
        """Get what is computed when it is missing, by whoever comes first."""
        key = f"page:{self._choice.randrange(2)}"

        async def compute() -> str:
            body = self._log.begin("compute", f"lease:cache:{key}", value=FETCHED_MS)
            return await self._working(body)

        entry = self._log.begin("get_or_set", key)
        try:
            entry.end(await self._gs.cache.get_or_set(key, compute, ttl=f"{FETCHED_MS}ms"))
        except ConnectionError as exc:
            entry.error(exc)

    async def increment(self) -> None:
        key = f"visits:{self._choice.randrange(2)}"
        entry = self._log.begin("cache.increment", key)
        await self._written(entry, self._gs.cache.increment(key))

    async def store(self) -> None:
        """Store an entry with a tag, a ttl or neither, and then its number."""
        number = next(self._numbers)
        key = f"{self._name}:{number}"
        tag = self._choice.choice(("red", "green", None))
        ttl_ms = None if tag else self._choice.choice((LENT_MS, None))
        entry = self._log.begin("store", key, value={"tag": tag, "ttl_ms": ttl_ms})
        ttl = None if ttl_ms is None else f"{ttl_ms}ms"
        await self._written(entry, self._gs.cache.set(key, number, ttl, tags=[tag] if tag else []))
        entry = self._log.begin("write", self._name, value=number)
        await self._written(entry, self._gs.cache.set(self._name, number))

    async def look(self) -> None:
        """Read how far another one is, and whether a late entry of its is there."""
        slot, hand = self._choice.randrange(8), self._choice.randrange(HANDS)
        name = f"hand:{slot}:{hand}"
        number = await self._read(name)
        if number is None:
            return
        key = f"{name}:{number - self._choice.randrange(3)}"
        entry = self._log.begin("look", key)
        entry.end(await self._gs.cache.has(key))

    async def delete_by_tag(self) -> None:
        if self._choice.random() < 0.3:
            tag = self._choice.choice(("red", "green"))
            await self._written(
                self._log.begin("delete_by_tag", tag), self._gs.cache.delete_by_tag(tag)
            )

    async def _read(self, name: str) -> int | None:
        entry = self._log.begin("read", name)
        number: int | None = await self._gs.cache.get(name)
        entry.end(number)
        return number

    # --- circuit breakers -----------------------------------------------------------------------

    async def fail(self) -> None:
        """Fail through a circuit that counts and never opens."""
        await self._gs.circuit_breaker("counts", failure_threshold=10**9).call(self._failing)

    async def probe(self) -> None:
        """Call what never heals; its circuit was opened before, so that each call is a probe."""

        async def down() -> None:
            await self._working(self._log.begin("down", "lease:circuit:down"))
            raise ConnectionError

        breaker = self._gs.circuit_breaker("down", failure_threshold=1, reset_timeout="30ms")
        await breaker.call(down)

    async def heal(self) -> None:
        """Call what fails now and then."""
        breaker = self._gs.circuit_breaker(
            "heals", failure_threshold=2, reset_timeout="50ms", success_threshold=2
        )
        async with breaker as call:
            await self._pause(1, 20)
            if self._choice.random() < 0.4:
                call.fail()

    async def _failing(self) -> None:
        raise ConnectionError

    # --- tasks and idempotent calls -------------------------------------------------------------

    async def task(self) -> None:
        """Run a task, or go on with what another one left."""
        task_id = f"etl:{self._choice.randrange(3)}"

        async def body(task: TaskContext[Any]) -> str:
            own = self._log.begin("own", f"lease:task:{task_id}", value=task.checkpoint.data)
            run, done = task.checkpoint.data or (own.name, 0)
            for number in range(done + 1, TASK_LENGTH + 1):
                await self._pause(5, 60)
                own.step()
                await task.checkpoint.save((run, number))
            own.end()
            return cast(str, run)

        entry = self._log.begin("run", task_id)
        await self._written(entry, self._gs.tasks.run(task_id, body, max_checkpoints=3))

    async def once(self) -> None:
        """Make a call that others make as well, now or later; often all at the same moment."""
        if self._choice.random() < 0.5:
            await asyncio.sleep((PERIOD_NS - now() % PERIOD_NS) / NS_PER_S)
            key = f"charge:{now() // PERIOD_NS}"
        else:
            period = now() // PERIOD_NS - self._choice.choice((0, 0, 1, 2, 5))
            key = f"charge:{period}-{self._choice.randrange(3)}"

        async def execute() -> str:
            return await self._working(self._log.begin("execute", f"lease:idempotency:{key}"))

        entry = self._log.begin("idempotency.run_detailed", key)
        try:
            outcome = await self._gs.idempotency.run_detailed(key, execute)
        except ConnectionError as exc:
            entry.error(exc)
        else:
            entry.end(outcome.value)

    # --- what they have in common ---------------------------------------------------------------

    async def _written(self, entry: Entry, write: Awaitable[Any]) -> None:
        try:
            entry.end(await write)
        except EXPECTED as exc:
            entry.error(exc)
            raise

    async def _working(self, body: Entry) -> str:
        """What takes a while, now and then longer than a lease, may fail and may be stubborn."""
        steps = 30 if self._choice.random() < 0.1 else self._choice.randrange(9)
        stubborn = self._choice.random() < 0.5
        try:
            for _ in range(steps):
                body.step()
                await self._pause(5, 80)
        except asyncio.CancelledError:
            if not stubborn:
                raise
        if self._choice.random() < 0.1:
            body.error(ConnectionError())
            raise ConnectionError
        body.end()
        return body.name

    async def _pause(self, least_ms: int, most_ms: int) -> None:
        await asyncio.sleep(self._choice.uniform(least_ms, most_ms) / 1000)


OPERATIONS: Final[tuple[Callable[[Hand], Awaitable[None]], ...]] = (
    *(Hand.lock, Hand.outstay, Hand.fetch, Hand.increment, Hand.store, Hand.look),
    *(Hand.delete_by_tag, Hand.fail, Hand.probe, Hand.heal, Hand.task, Hand.once),
)


async def watch_loop(log: Log) -> None:
    """Write down when this process was held up: nobody can renew a lease then."""
    before = now()
    while True:
        await asyncio.sleep(0.05)
        after = now()
        if after - before > STALL_MS * NS_PER_MS:
            log.at("stall", value=after - before)
        before = after


def input_closed() -> asyncio.Event:
    """Set when whoever started this process has closed its input, or is gone."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def close() -> None:
        loop.remove_reader(sys.stdin)
        closed.set()

    loop.add_reader(sys.stdin, close)
    return closed


async def main(folder: Path, who: str, seed: str) -> None:
    over = input_closed()
    log = Log(folder, who)
    slot = who.partition(".")[0]
    settings: dict[str, Any] = {"locks": "shared", "sweep_interval": "500ms"}
    path = str(folder / "app.db")
    async with Scope(backend="sqlite", path=path, lease_ttl=f"{LEASE_MS}ms", **settings) as gs:
        witness(cast(SQLiteAdapter, gs.persistence), log)
        watching = asyncio.create_task(watch_loop(log))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            for number in range(HANDS):
                name = f"hand:{slot}:{number}"
                hand = Hand(gs, log, name, random.Random(f"{seed}:{who}:{number}"))
                group.create_task(hand.work_until(over))
        watching.cancel()
    log.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
