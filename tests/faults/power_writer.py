"""The program whose writes and syncs are recorded. A mark says what was acknowledged.

Each write is numbered, and changes two tables. The store is closed and opened in between, and its
WAL is checkpointed many times.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from goscope_sqlite import SQLiteAdapter
from goscope_sqlite._engine import connection, wal

from .shim import Shim

WRITES_A_SESSION: Final = 25

LIMIT: Final = "WAL_LIMIT_BYTES"
FEW: Final = "FEW_FRAMES"


async def main(folder: Path, trace: Path, durability: Any, writes: Any, sessions: int) -> None:
    shim = Shim(folder)
    shim.record(trace)
    number = 0

    async def write(adapter: SQLiteAdapter, it: int) -> None:
        await adapter.cache.set(f"{it}", f"{it}" * (600 if it % 5 else 6000), tags=["tag"])
        shim.mark(f"{it}")

    for session in range(sessions):
        async with SQLiteAdapter(
            folder / "store.db", durability=durability, writes=writes, sweep_interval="1h"
        ) as adapter:
            while number < WRITES_A_SESSION * (session + 1):
                together = 3 if number % 4 == 0 else 1
                numbers = range(number, number + together)
                await asyncio.gather(*(write(adapter, it) for it in numbers))
                number += together


if __name__ == "__main__":
    for module in (wal, connection):
        setattr(module, LIMIT, 64 * 1024)
    setattr(wal, FEW, 4)  # several copies in one checkpoint
    store, records, durable, place, count = sys.argv[1:]
    asyncio.run(main(Path(store), Path(records), durable, place, int(count)))
