"""One Python process on the shared file: ``worker.py FILE NAME SECONDS MIN_ROUNDS``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from goscope.providers import Checkpoint
from goscope_bun_compat import BunSQLiteAdapter

TASKS = 4


async def work(
    adapter: BunSQLiteAdapter, name: str, until: float, min_rounds: int, done: Counter[str]
) -> None:
    """Do the same as ``hammer`` of the service, under another name."""
    number = 0
    while time.time() < until or number < min_rounds:
        number += 1
        await adapter.cache.increment("count")
        done["increments"] += 1
        await adapter.circuit_breaker.record_failure("shared", 1_000_000_000)
        done["failures"] += 1
        entry = {"from": name, "number": number, "text": "é\u2028😀" * (number % 50)}
        await adapter.cache.set(f"{name}:{number}", entry, "1h")
        done["entries"] += 1
        await adapter.cache.set(f"brief:{name}", entry, "1s")
        await adapter.checkpoint.save(
            Checkpoint(
                id=f"{name}-{number}",
                task_id=name,
                sequence=number,
                timestamp=int(time.time() * 1000),
                data=entry,
                progress=number / 3,
            )
        )
        done["checkpoints"] += 1
        for key in await adapter.cache.keys("brief:*"):
            value = await adapter.cache.get(key)
            done["torn"] += value is not None and key != f"brief:{value['from']}"


async def main(path: str, name: str, seconds: float, min_rounds: int) -> None:
    done: Counter[str] = Counter()
    until = time.time() + seconds
    async with BunSQLiteAdapter(path, busy_timeout="60s") as adapter:
        await asyncio.gather(
            *(
                work(adapter, f"{name}-{number}", until, min_rounds // TASKS + 1, done)
                for number in range(TASKS)
            )
        )
    print(json.dumps(done))  # noqa: T201  # the report that the test reads


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
