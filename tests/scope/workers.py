"""Worker processes with a scope on the file of a test; see worker.py for what they run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from goscope import LockProvider
from goscope.backend import SystemClock

from .support import wait_until

PROGRAM: Final = Path(__file__).with_name("worker.py")

PATIENCE_S: Final = 60.0
"""Seconds that a worker may take to start, to answer or to end."""

EXPIRING: Final = "3s"
"""A lease that expires while a test runs: long enough to start the body that overslept it."""

GRACE_S: Final = 0.5
"""Seconds in which a process may make a mistake; a loaded machine can hide one, not cause one."""


class Worker:
    """A worker process. `workers` starts and ends it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._requests: Final = process.stdin
        self._results: Final = process.stdout
        self.pid: Final = process.pid

    async def call(self, call: str, **request: Any) -> list[Any]:
        """Send a request, see `worker.Request`; the results of its calls or the names of errors."""
        self.send(call, **request)
        return await self.results()

    def send(self, call: str, **request: Any) -> None:
        """Send a request and do not wait for its results."""
        self._requests.write(json.dumps({"call": call, **request}).encode() + b"\n")

    async def results(self) -> list[Any]:
        """The results of the earliest request that has not returned any."""
        results: list[Any] = json.loads(await self._line())
        return results

    async def ready(self) -> None:
        assert await self._line() == b"ready\n"

    def suspend(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """Kill the process unless it has ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """Let the process close its scope and end successfully, unless it was killed."""
        if self._process.returncode is None:
            self._requests.close()
            async with asyncio.timeout(PATIENCE_S):
                assert await self._process.wait() == 0

    async def _line(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            line = await self._results.readline()
        assert line, f"process {self.pid} ended; what it printed says why"
        return line


@asynccontextmanager
async def workers(
    folder: Path, count: int, *, lease_ttl: str = "1h", **settings: Any
) -> AsyncGenerator[list[Worker]]:
    """Processes with an open scope on one file. They have ended when the block ends.

    Unless a test needs leases that expire, no process is too slow to renew one.
    """
    started: list[Worker] = []
    try:
        for _ in range(count):
            process = await _start(folder, {"lease_ttl": lease_ttl, **settings})
            started.append(Worker(process))  # one by one, so that every started one is ended
        for worker in started:
            await worker.ready()
        yield started
        for worker in started:
            await worker.close()
    finally:
        for worker in started:
            await worker.kill()


async def _start(folder: Path, settings: dict[str, Any]) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, PROGRAM, folder, json.dumps(settings)), stdin=PIPE, stdout=PIPE
    )


def journal(folder: Path) -> list[int]:
    """The processes of all bodies that started, in that order."""
    path = folder / "journal"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def bodies_started(folder: Path, count: int) -> None:
    """Wait until so many bodies have started."""
    await wait_until(lambda: len(journal(folder)) >= count)


def end_bodies(folder: Path, name: str = "end") -> None:
    """End the bodies that run until this file exists."""
    (folder / name).touch()


async def outlive_lease(leases: LockProvider, key: str) -> None:
    """Wait until the lease would have expired if its holder had not renewed it."""
    holder = await leases.holder(key)
    assert holder is not None
    expiry = SystemClock().steady_ms() + holder.expires_in_ms
    await wait_until(lambda: SystemClock().steady_ms() > expiry)


async def call_all(callers: Sequence[Worker], call: str, **request: Any) -> list[Any]:
    """The results of all workers, which get the request at the same time."""
    for worker in callers:
        worker.send(call, **request)
    return [result for worker in callers for result in await worker.results()]


async def call_all_during_body(
    folder: Path, callers: Sequence[Worker], call: str, **request: Any
) -> list[Any]:
    """The results of all workers, which call while the body of the first one runs."""
    for worker in callers:
        worker.send(call, until="end", **request)
    await bodies_started(folder, 1)
    await asyncio.sleep(GRACE_S)
    end_bodies(folder)
    return [result for worker in callers for result in await worker.results()]
