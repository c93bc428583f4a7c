"""The commands that work on a store, called in this process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from goscope import Scope, TaskContext
from goscope.cli import main


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[Any]:
        """The lines of JSON."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


class Operator:
    """Calls commands on the store in the file of one test."""

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.use(path)

    def use(self, path: Path) -> None:
        """Work on the store in this file from now on."""
        self.path = path
        self.url = f"sqlite:///{path}?locks=shared"
        self._monkeypatch.setenv("GOSCOPE_URL", self.url)

    def __call__(self, *arguments: str) -> Ran:
        """Run a command."""
        self._capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as exc:  # argparse
            code = int(exc.code or 0)
        captured = self._capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    async def run(self, *arguments: str) -> Ran:
        """Run a command while the event loop of the test runs."""
        return await asyncio.to_thread(self, *arguments)

    def answer(self, text: str, before: Callable[[], Awaitable[object]] | None = None) -> None:
        """Let a terminal answer the next question; ``before`` runs while it is asked."""

        class Terminal:
            def isatty(self) -> bool:
                return True

            def readline(self) -> str:
                if before is not None:
                    run_beside(before)
                return f"{text}\n"

        self._monkeypatch.setattr("sys.stdin", Terminal())

    @asynccontextmanager
    async def scope(self) -> AsyncGenerator[Scope]:
        """The store as its program has it open."""
        async with Scope(self.url) as gs:
            yield gs

    def prepare(self, *steps: Callable[[Scope], Awaitable[object]]) -> None:
        """Let a program do this with the store, and end."""

        async def run() -> None:
            async with self.scope() as gs:
                for step in steps:
                    await step(gs)

        run_beside(run)

    def contents(self) -> dict[str, bytes]:
        """All files of the folder."""
        return {it.name: it.read_bytes() for it in self.path.parent.iterdir()}


@contextmanager
def process(program: str, *arguments: str) -> Generator[int]:
    """The pid of a Python process that has printed a line, and ends with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline()
            yield started.pid
            started.communicate(b"")
        finally:
            started.kill()


OPEN = """if True:
    import asyncio, sys
    from goscope import Scope

    async def main():
        async with Scope(sys.argv[1]):
            print("open", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""
"""A program that opens the store of a URL until its input ends."""


def run_beside(work: Callable[[], Awaitable[object]]) -> None:
    """Run asynchronous work to its end in another event loop, as another program would."""
    failures: list[BaseException] = []

    async def call() -> None:
        await work()

    def run() -> None:
        try:
            asyncio.run(call())
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def half_done(gs: Scope) -> None:
    """A task that fails after its first checkpoint."""

    async def body(task: TaskContext[list[int]]) -> None:
        task.progress.update(40)
        await task.checkpoint.save([1, 2, 3])
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await gs.tasks.run("etl:1", body)


async def locked(gs: Scope) -> None:
    """A lock that its holder leaves behind."""
    assert gs.persistence.lock is not None
    assert await gs.persistence.lock.acquire("door", "1h", "job-7")


async def charged(gs: Scope) -> None:
    """A result of an idempotent call."""
    await gs.idempotency.run("charge:1", lambda: {"paid": True}, fingerprint="f")


async def cached(gs: Scope) -> None:
    """Three cache entries."""
    await gs.cache.set("user:1", {"name": "Ada"}, "1h", tags=["users"])
    await gs.cache.set("user:2", "evil \x1b[31m", "1h")
    await gs.cache.set("settings", [1], None)


async def opened_circuit(gs: Scope) -> None:
    """A circuit that opens after five failures."""

    def fail() -> None:
        raise ConnectionError

    for _ in range(5):
        with pytest.raises(ConnectionError):
            await gs.circuit_breaker("pay").call(fail)
