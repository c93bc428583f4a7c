"""The program that a process test starts: opens the store of a test class and executes commands.

Arguments: the module, the file and the name of the test class, and the folder of the store.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ...backend import SystemClock
from ...providers import LockHandle, PersistenceAdapter
from ._messages import Call, Grant, from_line, to_line
from ._program import LINE_LIMIT_BYTES


class OpensAdapter(Protocol):
    """What a program needs of a test class. It cannot import the kit, which imports it."""

    clock: Any

    def open_adapter(self, tmp_path: Path) -> AbstractAsyncContextManager[PersistenceAdapter]: ...


class RemoteAdapter:
    """Executes calls on an open adapter, and keeps the lock handles that they return."""

    def __init__(self, adapter: PersistenceAdapter) -> None:
        self._adapter = adapter
        self._handles: dict[int, LockHandle] = {}
        self._ids = itertools.count(1)
        self._background: asyncio.Task[None] | None = None

    async def answer(self, call: Call) -> object:
        """The result of the call, or the error it raised."""
        try:
            if call.times == 1:
                return await self._execute(call)
            calls = (self._execute(call) for _ in range(call.times))
            return await asyncio.gather(*calls, return_exceptions=True)
        except Exception as exc:
            return exc

    async def _execute(self, call: Call) -> object:
        arguments = [self._local(argument) for argument in call.arguments]
        options = {name: self._local(value) for name, value in call.options.items()}
        result = await getattr(self._target(call.target), call.method)(*arguments, **options)
        if not isinstance(result, LockHandle):
            return result
        grant = Grant(next(self._ids), result.fencing_token)
        self._handles[grant.id] = result
        return grant

    def _target(self, target: str | Grant) -> Any:
        if isinstance(target, Grant):
            return self._handles[target.id]
        return self if target == "program" else getattr(self._adapter, target)

    def _local(self, argument: object) -> object:
        return self._handles[argument.id] if isinstance(argument, Grant) else argument

    # --- methods of the target "program" -----------------------------------------------------

    async def lost(self, handle: LockHandle) -> bool:
        return handle.lost

    async def count_under_lease(self, rounds: int) -> None:
        """Increment the entry "counter" by a separate read and write under one lease."""
        lease, cache = self._adapter.lease, self._adapter.cache
        assert lease is not None
        assert cache is not None
        for _ in range(rounds):
            while (handle := await lease.acquire("counter", "60s")) is None:  # noqa: ASYNC110  # another process holds it
                await asyncio.sleep(0.002)
            count = await cache.get("counter", 0)
            await asyncio.sleep(0)
            await cache.set("counter", count + 1, fence=handle)
            await handle.release()

    async def keep_writing(self) -> None:
        """Write pairs of equal values in the background, until the process ends."""
        self._background = asyncio.create_task(self._write_pairs())

    async def _write_pairs(self) -> None:
        cache = self._adapter.cache
        assert cache is not None
        for number in itertools.count():
            await cache.set_many({"one": number, "two": number})
            await cache.set("acknowledged", number)


def load(module: str, file: str, name: str) -> type[OpensAdapter]:
    """The test class; from the file, unless the module of that name is that file."""
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        loaded = None
    if loaded is None or loaded.__file__ is None or not os.path.samefile(loaded.__file__, file):
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)
    return cast("type[OpensAdapter]", attrgetter(name)(loaded))


async def commands() -> AsyncIterator[bytes]:
    """The lines of the standard input."""
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield line
    finally:
        transport.close()


async def serve(case: OpensAdapter, folder: Path, answers: BinaryIO) -> None:
    """Open the store at the first line, then answer each following one until the input ends."""

    def send(answer: object) -> None:
        answers.write(to_line(answer))
        answers.flush()

    send("ready")
    lines = commands()
    await anext(lines)
    async with case.open_adapter(folder) as adapter:
        send("open")
        remote = RemoteAdapter(adapter)
        async for line in lines:
            send(await remote.answer(from_line(line)))


def main(module: str, file: str, name: str, folder: str) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps what the author's code prints apart from the answers
    case = load(module, file, name)()
    case.clock = SystemClock()
    asyncio.run(serve(case, Path(folder), answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
