"""A worker process with a scope on the file of a test; `workers` starts this program.

It prints "ready" when the scope is open. Each line of its input is a request as JSON, and it
answers with one line of JSON: for each call of the request its result or the name of its error.
A body that starts writes the id of its process into the journal.
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
from goscope.events import CacheMiss, Event
from goscope.testing import record_events


class Request:
    """One line of the input: what to call, how many times at once, and what the body does."""

    def __init__(
        self,
        folder: Path,
        call: str,
        *,
        times: int = 1,
        until: str | None = None,
        blocks_loop: bool = False,
        fails: bool = False,
        saves: tuple[int, ...] = (),
        late_saves: tuple[int, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self.call = call
        self.times = times
        self.options = options or {}
        self._folder = folder
        self._until = until
        self._blocks_loop = blocks_loop
        self._fails = fails
        self._saves = saves
        self._late_saves = late_saves
        self._events: list[Event] = []

    async def run(self, gs: Scope) -> list[Any]:
        """Make all calls at once; their results and errors."""
        with record_events(gs) as self._events:
            calls = (self._run_call(gs) for _ in range(self.times))
            return await asyncio.gather(*calls, return_exceptions=True)

    async def _run_call(self, gs: Scope) -> Any:
        match self.call:
            case "get_or_set":
                return await gs.cache.get_or_set("key", self._body, **self.options)
            case "delete":
                return await gs.cache.delete("key")
            case "delete_by_tag":
                return await gs.cache.delete_by_tag("tag")
            case "clear":
                return await gs.cache.clear()
            case "run_idempotent":
                result = await gs.idempotency.run_detailed("key", self._body, **self.options)
                return [result.value, result.replayed]
            case "run_task":
                tasks: Any = gs.tasks  # with options of any type, no overload is the one
                return await tasks.run("key", self._task, **self.options)
            case "call_resumable":
                return await gs.resumable("key", **self.options)(self._task)()
            case "call_circuit":
                return await gs.circuit_breaker("key", **self.options).call(self._body)
            case "force_open" | "force_close" | "reset":
                return await getattr(gs.circuit_breaker("key", **self.options), self.call)()
            case unknown:
                raise ValueError(unknown)

    async def _body(self) -> int:
        """Run until the file ``until`` exists; return the id of the process."""
        with (self._folder / "journal").open("a") as journal:
            journal.write(f"{os.getpid()}\n")
        while self._until and not (self._folder / self._until).exists():
            if self._blocks_loop:
                time.sleep(0.005)  # noqa: ASYNC251  # so that nothing else runs before its next step
            else:
                await asyncio.sleep(0.005)
        if self._fails:
            if self.call == "get_or_set":
                await self._wait_for_callers()
            raise ZeroDivisionError
        return os.getpid()

    async def _wait_for_callers(self) -> None:
        """Return when all callers in this process wait for the value."""
        while self._misses() < self.times:  # noqa: ASYNC110  # it happens once a run
            await asyncio.sleep(0.005)

    def _misses(self) -> int:
        return sum(isinstance(event, CacheMiss) for event in self._events)

    async def _task(self, task: TaskContext[int]) -> int | None:
        """The body of a task, which saves before and after `_body`; the state it started from."""
        started_from = task.checkpoint.data
        for state in self._saves:
            await task.checkpoint.save(state)
        await self._body()
        for state in self._late_saves:
            await task.checkpoint.save(state)
        return started_from


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(folder: Path, settings: dict[str, Any]) -> None:
    async with Scope(backend="sqlite", path=folder / "app.db", **settings) as gs:
        print_line("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            results = await Request(folder, **json.loads(line)).run(gs)
            print_line(json.dumps([_plain(result) for result in results]))


def _plain(result: Any) -> Any:
    return type(result).__name__ if isinstance(result, BaseException) else result


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
