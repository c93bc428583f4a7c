"""A process that opens the store of a test and executes calls on it."""

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
from typing import Any, Final

from ._messages import Call, Grant, from_line, to_line

TIMEOUT_S: Final = 60.0
"""How long a program may take to start, to answer or to exit on a busy machine."""

LINE_LIMIT_BYTES: Final = 2**24


class Program:
    """Another process with the store open. `running` starts and ends it."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._commands: Final = process.stdin
        self._answers: Final = process.stdout

    async def call(
        self, target: str | Grant, method: str, *arguments: Any, times: int = 1, **options: Any
    ) -> Any:
        """Call a method of a provider, such as ``call("cache", "get", "key")``, or of a grant.

        Returns a lock handle as a `Grant`, and raises what the method raises. With ``times`` above
        1 it makes that many concurrent calls and returns a list of their results and errors.
        """
        self._commands.write(to_line(Call(target, method, arguments, options, times)))
        await self._commands.drain()
        return await self._answer()

    def suspend(self) -> None:
        """Stop the process where it is, as a debugger or a closed laptop does."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """Kill the process where it is, as the kernel does when it is out of memory."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def open(self) -> None:
        self._commands.write(b"open\n")
        assert await self._answer() == "open"

    async def ready(self) -> None:
        """Return when the process has imported everything and can open the store."""
        assert await self._answer() == "ready"

    async def close(self) -> None:
        """Make the process close the store and exit; fail unless it exits with 0."""
        if self._process.returncode is None:
            self._commands.close()
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._process.wait()
            assert status == 0, f"a process exited with status {status} after closing the store"

    async def _answer(self) -> Any:
        async with asyncio.timeout(TIMEOUT_S):
            line = await self._answers.readline()
        assert line, f"process {self._process.pid} exited; its output shows why"
        answer = from_line(line)
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def running(case: object, folder: Path, count: int) -> AsyncGenerator[list[Program]]:
    """Start programs that open the store of the folder with ``case``, all at the same moment.

    When the block ends, also with an error, none of them is running any more.
    """
    programs: list[Program] = []
    try:
        for _ in range(count):
            program = Program(await _start(type(case), folder))
            programs.append(program)  # one by one, so that every started process is killed
        for program in programs:
            await program.ready()
        await asyncio.gather(*(program.open() for program in programs))
        yield programs
        for program in programs:
            await program.close()
    finally:
        for program in programs:
            await program.kill()


async def _start(case: type[object], folder: Path) -> Process:
    if "<locals>" in case.__qualname__:
        raise TypeError(
            f"another process cannot import {case.__qualname__}: define the class in a module"
        )
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __package__ or ""),
        *(case.__module__, inspect.getfile(case), case.__qualname__, str(folder)),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_LIMIT_BYTES,
    )
