"""Clients that call the same objects at once, in several processes, and log each call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from goscope import CheckpointConflict, Scope
from goscope.providers import Checkpoint, LockHandle

from ..stress.event_log import NS_PER_MS, Log, now

CLIENTS: Final = 3
CALLS_A_KEY: Final = 12
"""How many calls a client makes before it uses another key: a history stays short."""
KEY_NS: Final = 20 * NS_PER_MS
"""How long clients use a key that they choose by the time."""


class Objects:
    """The calls of one client, each on the object of the moment."""

    def __init__(self, gs: Scope, log: Log, name: str, rng: random.Random) -> None:
        self.gs = gs
        self._log = log
        self._name = name
        self._rng = rng
        self._number = 0

    async def run(self, calls: int) -> None:
        for self._number in range(calls):
            kind = self._rng.choice(KINDS)
            await kind(self, self.key())
            if self._rng.random() < 0.5:
                await asyncio.sleep(self._rng.uniform(0, 0.002))

    def key(self) -> str:
        """The key of the next call."""
        return f"{self._number // CALLS_A_KEY}"

    async def _logged(self, name: str, key: str, call: Awaitable[Any], argument: Any = None) -> Any:
        entry = self._log.begin(name, key, value=argument)
        result = await call
        entry.end(result)
        return result

    async def register(self, key: str) -> None:
        name = self._rng.choice(("get", "get", "set", "add", "delete"))
        stored, value = f"register:{key}", f"{self._name}.{self._number}"
        cache = self.gs.cache
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "get": lambda: self.get(stored),
            "set": lambda: cache.set(stored, value),
            "add": lambda: cache.add(stored, value),
            "delete": lambda: cache.delete(stored),
        }
        await self._logged(f"register.{name}", key, calls[name](), value)

    async def counter(self, key: str) -> None:
        await self._logged("counter.increment", key, self.increment(f"counter:{key}"))

    async def lock(self, key: str) -> None:
        entry = self._log.begin("lock.acquire", key)
        handle = await self.acquire(f"lock:{key}")
        entry.end(None if handle is None else handle.fencing_token)
        if handle is not None:
            await asyncio.sleep(self._rng.uniform(0, 0.002))
            await self._logged("lock.release", key, handle.release(), handle.fencing_token)

    async def checkpoints(self, key: str) -> None:
        provider = self.gs.persistence.checkpoint
        assert provider is not None
        if self._rng.random() < 0.4:
            entry = self._log.begin("checkpoints.load_latest", key)
            latest = await provider.load_latest(key)
            entry.end(0 if latest is None else latest.sequence)
            return
        sequence = self._rng.randrange(1, 50)
        entry = self._log.begin("checkpoints.save", key, value=sequence)
        id_ = f"{self._name}.{self._number}"
        entry.end(
            await self.save(
                Checkpoint(id=id_, task_id=key, sequence=sequence, timestamp=1, data=None)
            )
        )

    async def once(self, key: str) -> None:
        value = f"{self._name}.{self._number}"

        async def execute() -> str:
            await asyncio.sleep(self._rng.uniform(0, 0.002))
            return value

        await self._logged("once.run", key, self.run_once(key, execute), value)

    # --- what a planted bug replaces ------------------------------------------------------------

    async def get(self, key: str) -> Any:
        return await self.gs.cache.get(key)

    async def increment(self, key: str) -> int:
        return await self.gs.cache.increment(key)

    async def acquire(self, key: str) -> LockHandle | None:
        assert self.gs.persistence.lock is not None
        return await self.gs.persistence.lock.acquire(key, "1h")

    async def save(self, checkpoint: Checkpoint) -> bool:
        assert self.gs.persistence.checkpoint is not None
        try:
            await self.gs.persistence.checkpoint.save(checkpoint)
        except CheckpointConflict:
            return False
        return True

    async def run_once(self, key: str, execute: Callable[[], Awaitable[str]]) -> tuple[str, bool]:
        outcome = await self.gs.idempotency.run_detailed(key, execute)
        return outcome.value, outcome.replayed


class MomentaryObjects(Objects):
    """The clients of all processes call the objects of the moment, whenever a process began."""

    def key(self) -> str:
        return f"{now() // KEY_NS}"


KINDS: Final[tuple[Callable[[Objects, str], Awaitable[None]], ...]] = (
    *(Objects.register, Objects.counter, Objects.lock),
    *(Objects.checkpoints, Objects.once),
)


async def call(
    folder: Path, name: str, seed: str, calls: int, objects: type[Objects] = Objects
) -> None:
    """Let some clients call; the log of the process is in the folder."""
    log = Log(folder, name)
    async with (
        Scope(
            backend="sqlite", path=str(folder / "store.db"), locks="shared", busy_timeout="60s"
        ) as gs,
        asyncio.TaskGroup() as group,
    ):
        for number in range(CLIENTS):
            own = f"{name}.{number}"
            group.create_task(objects(gs, log, own, random.Random(f"{seed}:{own}")).run(calls))
    log.close()


def work(folder: str, name: str, seed: str, calls: int, objects: type[Objects] = Objects) -> None:
    """The target of a process."""
    asyncio.run(call(Path(folder), name, seed, calls, objects))
