"""The child processes of one run: the service and the workers. None of them outlives the run."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from ._child import Job

STOP_TIMEOUT_S: Final = 10
LAST_ERROR_LINES: Final = 12


class ChildFailed(Exception):
    """A child exited with an error. The message has its exit code and its last output."""


class Children:
    """Starts child processes, and stops them at the end of the block: the service last."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors
        self._errors.write_bytes(b"")  # errors of an earlier run
        self._service: Process | None = None
        self.workers: Final[dict[str, Process]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.gather(*map(_stop, self.workers.values()))
        if self._service is not None:
            await _stop(self._service)

    async def start_service(self, job: Job) -> str:
        """Start the service and return its URL."""
        self._service = await self._start("_service", job, stdout=PIPE)
        assert self._service.stdout is not None  # it is a pipe
        port = (await self._service.stdout.readline()).decode().strip()
        if not port:
            await self._service.wait()
            raise self._failure("the service", self._service)
        return f"http://127.0.0.1:{port}"

    async def start_worker(self, job: Job) -> None:
        """Start a worker with the name in its job."""
        self.workers[job.name] = await self._start("_worker", job, stdout=DEVNULL)

    def check(self, killed: str | None) -> bool:
        """Whether a worker is running. Raises `ChildFailed` if a child exited with an error."""
        for name, process in self.workers.items():
            if name != killed and process.returncode:
                raise self._failure(f"worker {name}", process)
        if self._service is not None and self._service.returncode is not None:
            raise self._failure("the service", self._service)
        return any(process.returncode is None for process in self.workers.values())

    async def _start(self, module: str, job: Job, *, stdout: int) -> Process:
        with self._errors.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", f"{__package__}.{module}"),
                stdin=PIPE,
                stdout=stdout,
                stderr=errors,
            )
        assert process.stdin is not None  # it is a pipe
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        return process

    def _failure(self, name: str, process: Process) -> ChildFailed:
        printed = self._errors.read_text(errors="replace").strip().splitlines()
        header = f"{name} exited with code {process.returncode}:"
        return ChildFailed("\n".join([header, *printed[-LAST_ERROR_LINES:]]))


async def _stop(process: Process) -> None:
    """Stop a child; kill it if it does not stop in time."""
    if process.returncode is not None:
        return
    assert process.stdin is not None  # it is a pipe
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
