"""One Python process of the run on a shared file: ``worker.py FILE NAME SECONDS``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter

from goscope.providers import Checkpoint
from goscope_bun_compat import BunSQLiteAdapter

TASKS = 4


async def work(adapter: BunSQLiteAdapter, name: str, until: float, done: Counter[str]) -> None:
    """Do what ``hammer`` of the service does, under a name of its own."""
    number = 0
    while time.time() < until:
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


async def main(path: str, name: str, seconds: float) -> None:
    done: Counter[str] = Counter()
    until = time.time() + seconds
    async with BunSQLiteAdapter(path, busy_timeout="10s") as adapter:
        tasks = (work(adapter, f"{name}-{number}", until, done) for number in range(TASKS))
        await asyncio.gather(*tasks)
    print(json.dumps(done))  # noqa: T201  # its outcome, for the test


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
