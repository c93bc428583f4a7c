"""Other processes with a scope on the file of a test; see peer.py for what they do."""

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

from .support import wait_until

PROGRAM: Final = Path(__file__).with_name("peer.py")

PATIENCE: Final = 60.0
"""Seconds a process may take to start, to answer or to end."""


class Peer:
    """Another process. `peers` starts and ends it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._orders: Final = process.stdin
        self._lines: Final = process.stdout
        self.pid: Final = process.pid

    async def call(self, call: str, **order: Any) -> list[Any]:
        """Tell it what to call, see `peer.Order`; the results or the names of the errors."""
        self.tell(call, **order)
        return await self.answers()

    def tell(self, call: str, **order: Any) -> None:
        """Tell it what to call, and do not wait for it."""
        self._orders.write(json.dumps({"call": call, **order}).encode() + b"\n")

    async def answers(self) -> list[Any]:
        """What came of the call it was told."""
        answers: list[Any] = json.loads(await self._line())
        return answers

    async def ready(self) -> None:
        assert await self._line() == b"ready\n"

    def stop(self) -> None:
        """Suspend it where it is."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """End it where it is, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def close(self) -> None:
        """Let it close its scope and end well, unless it was killed."""
        if self._process.returncode is None:
            self._orders.close()
            async with asyncio.timeout(PATIENCE):
                assert await self._process.wait() == 0

    async def _line(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            line = await self._lines.readline()
        assert line, f"process {self.pid} ended; what it printed says why"
        return line


@asynccontextmanager
async def peers(folder: Path, count: int, **settings: Any) -> AsyncGenerator[list[Peer]]:
    """Processes with an open scope on one file. They are gone when the block ends."""
    started: list[Peer] = []
    try:
        for _ in range(count):
            started.append(await _start(folder, settings))  # noqa: PERF401  # what was started is ended
        for peer in started:
            await peer.ready()
        yield started
        for peer in started:
            await peer.close()
    finally:
        for peer in started:
            await peer.kill()


async def _start(folder: Path, settings: dict[str, Any]) -> Peer:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, PROGRAM, folder, json.dumps(settings)), stdin=PIPE, stdout=PIPE
    )
    return Peer(process)


def journal(folder: Path) -> list[int]:
    """The processes of all bodies that began, in their order."""
    path = folder / "journal"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def began(folder: Path, count: int) -> None:
    """Wait until so many bodies have begun."""
    await wait_until(lambda: len(journal(folder)) >= count)


def open_gate(folder: Path, name: str = "gate") -> None:
    """Let the bodies that wait for it through."""
    (folder / name).touch()


async def all_call(folder: Path, callers: Sequence[Peer], call: str, **order: Any) -> list[Any]:
    """The answers of all callers, which come while the first body is still at its gate."""
    for peer in callers:
        peer.tell(call, gate="gate", **order)
    await began(folder, 1)
    await asyncio.sleep(0.5)
    open_gate(folder)
    return [answer for peer in callers for answer in await peer.answers()]
