"""A process that has the store of a test open and does what it is told."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._orders import Call, Grant, from_line, to_line

if TYPE_CHECKING:
    from ..conformance import Conformance

PATIENCE: Final = 30.0
"""Seconds a program may take to start, to answer or to end."""


class Program:
    """Another process with the store open. `running` starts and ends it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._orders: Final = process.stdin
        self._answers: Final = process.stdout

    async def call(
        self, target: str | Grant, method: str, *arguments: Any, times: int = 1, **options: Any
    ) -> Any:
        """Call a method of a provider, such as ``call("cache", "get", "key")``, or of a grant.

        A lock handle is answered as a `Grant`. What the method raises is raised here. With
        ``times`` above 1 that many calls are made at once, and their results or errors are a list.
        """
        self._orders.write(to_line(Call(target, method, arguments, options, times)))
        await self._orders.drain()
        return await self._answer()

    def suspend(self) -> None:
        """Stop the process where it is, as a debugger or a laptop's lid does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """End the process where it is, as the kernel does when memory is short."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def open(self) -> None:
        self._orders.write(b"open\n")
        assert await self._answer() == "open"

    async def ready(self) -> None:
        """Return when it has imported everything and may open the store."""
        assert await self._answer() == "ready"

    async def close(self) -> None:
        """Let it close the store and end; fail if it does not end well."""
        if self._process.returncode is None:
            self._orders.close()
            async with asyncio.timeout(PATIENCE):
                status = await self._process.wait()
            assert status == 0, f"a process that closed the store ended with status {status}"

    async def _answer(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            line = await self._answers.readline()
        assert line, f"process {self._process.pid} ended; what it printed says why"
        answer = from_line(line)
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def running(case: Conformance, folder: Path, count: int) -> AsyncGenerator[list[Program]]:
    """Start programs that open the store of the folder, all at the same moment.

    They are gone when the block ends, whatever happened in it.
    """
    programs: list[Program] = []
    try:
        for _ in range(count):
            program = Program(await _start(type(case), folder))
            programs.append(program)  # one by one: what was started is ended
        for program in programs:
            await program.ready()
        await asyncio.gather(*(program.open() for program in programs))
        yield programs
        for program in programs:
            await program.close()
    finally:
        for program in programs:
            await program.kill()


async def _start(case: type[Conformance], folder: Path) -> Process:
    if "<locals>" in case.__qualname__:
        raise TypeError(f"{case.__qualname__} cannot be imported by another process")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __package__ or ""),
        *(case.__module__, inspect.getfile(case), case.__qualname__, str(folder)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=PIPE,
        stdout=PIPE,
        limit=2**24,
    )
