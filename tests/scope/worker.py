"""One of several processes on one file: run by test_processes.py, told what to do by arguments.

Says "ready" when its scope is open, begins when a line comes in, and prints what came of it as
one line of JSON. Everything that must happen once appends a line to a journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from goscope import Scope, Task


class Worker:
    """The things to do, each a method named as on the command line."""

    def __init__(self, gs: Scope, journal: str) -> None:
        self._gs = gs
        self._journal = journal

    async def journaled(self) -> int:
        """What must happen once; long enough that the others come meanwhile."""
        self._write()
        await asyncio.sleep(0.1)
        return os.getpid()

    def _write(self) -> None:
        with open(self._journal, "a") as file:
            file.write(f"{os.getpid()}\n")

    async def get_or_set(self) -> Any:
        return await asyncio.gather(
            *(self._gs.cache.get_or_set("key", self.journaled) for _ in range(10))
        )

    async def once(self) -> Any:
        return await asyncio.gather(*(self._gs.once("key", self.journaled) for _ in range(10)))

    async def probe(self) -> Any:
        """Call what is still down, through a circuit whose reset timeout is over."""
        breaker = self._gs.circuit_breaker("api", max_failures=1, reset_timeout="1h")

        async def down() -> None:
            await self.journaled()
            raise ConnectionError

        results = await asyncio.gather(
            *(breaker.call(down) for _ in range(10)), return_exceptions=True
        )
        return [type(result).__name__ for result in results]

    async def task(self) -> Any:
        """Save three states, then hang: whoever resumes says where."""

        async def body(task: Task[Any]) -> Any:
            if task.resumed:
                return task.checkpoint.data
            for done in (1, 2, 3):
                await task.checkpoint.save(done)
            say("saved")
            await asyncio.sleep(600)

        return await self._gs.run("etl", body)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(what: str, path: str, journal: str) -> None:
    async with Scope(backend="sqlite", path=path) as gs:
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        result = await getattr(Worker(gs, journal), what)()
    say(json.dumps(result))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
