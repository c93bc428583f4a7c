"""Another process with a scope on the file of a test: the program that peers.py starts.

It says "ready" when the scope is open. Each line that comes in is an order as JSON: what to call,
how many times at once, and what the body does. It is answered by a line of JSON: for each of the
calls its result, or the name of its error. A body that begins writes its process into a journal.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from goscope import Scope, TaskContext


class Order:
    """What came in as one line."""

    def __init__(
        self,
        folder: Path,
        call: str,
        *,
        times: int = 1,
        gate: str | None = None,
        deaf: bool = False,
        fails: bool = False,
        saves: tuple[int, ...] = (),
        late_saves: tuple[int, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self.call = call
        self.times = times
        self.options = options or {}
        self._folder = folder
        self._gate = gate
        self._deaf = deaf
        self._fails = fails
        self._saves = saves
        self._late_saves = late_saves

    async def body(self) -> int:
        """What is to happen once: stays until its gate is open, deaf if told to its event loop."""
        with (self._folder / "journal").open("a") as journal:
            journal.write(f"{os.getpid()}\n")
        while self._gate and not (self._folder / self._gate).exists():
            if self._deaf:
                time.sleep(0.005)  # noqa: ASYNC251  # so that the next step is its own
            else:
                await asyncio.sleep(0.005)
        if self._fails:
            raise ZeroDivisionError
        return os.getpid()

    async def task(self, task: TaskContext[int]) -> int | None:
        """The body of a task: saves before and behind its gate; tells where it began."""
        began_at = task.checkpoint.data
        for done in self._saves:
            await task.checkpoint.save(done)
        await self.body()
        for done in self._late_saves:
            await task.checkpoint.save(done)
        return began_at


async def obey(gs: Scope, order: Order) -> Any:
    """Carry out one call of an order."""
    match order.call:
        case "get_or_set":
            return await gs.cache.get_or_set("key", order.body, **order.options)
        case "once":
            once = await gs.idempotency.run_detailed("key", order.body, **order.options)
            return [once.value, once.replayed]
        case "run":
            return await gs.tasks.run("key", order.task, **order.options)
        case "circuit":
            return await gs.circuit_breaker("key", **order.options).call(order.body)
        case "force_open" | "force_close" | "reset":
            return await getattr(gs.circuit_breaker("key", **order.options), order.call)()
        case unknown:
            raise ValueError(unknown)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(folder: Path, settings: dict[str, Any]) -> None:
    async with Scope(backend="sqlite", path=folder / "app.db", **settings) as gs:
        say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = Order(folder, **json.loads(line))
            calls = (obey(gs, order) for _ in range(order.times))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            say(json.dumps([_plain(answer) for answer in answers]))


def _plain(answer: Any) -> Any:
    return type(answer).__name__ if isinstance(answer, BaseException) else answer


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
