"""Sharing round trips: items that arrive while a batch is under way leave together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from goscope._tools.cancellation import ShieldableFuture
from goscope.errors import BackendBusy, BackendError, BackendUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_ITEMS: Final = 256
MAX_WEIGHT: Final = 1_000_000
"""A batch takes no more items once their weights add up to this."""

MAX_BATCHES: Final = 4
STALL_S: Final = 0.02
"""A batch that takes longer, such as one that waits for a lock, no longer delays the next one."""


class Batcher(Generic[Item, Result]):
    """Executes items in batches. A lone item is sent at once, without waiting for others.

    ``execute`` returns one result for each item, in order. An item whose caller was cancelled
    before its batch began is dropped; with ``is_write`` a later cancellation is raised when the
    batch has ended.
    """

    def __init__(
        self,
        execute: Callable[[list[Item]], Awaitable[list[Result]]],
        weight: Callable[[Item], int],
        *,
        is_write: bool,
    ) -> None:
        self._execute = execute
        self._weight = weight
        self._is_write = is_write
        self._waiting: list[tuple[Item, ShieldableFuture[Result]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._stall: asyncio.TimerHandle | None = None
        self._lone: asyncio.Future[None] | None = None

    async def read(self, item: Item) -> Result:
        """Execute an item; a lone one in the task of its caller, which saves a fifth of its time.

        If that is cancelled, its connection is given up.
        """
        if self._running or self._lone is not None:
            return await self.submit(item)
        lone = self._lone = asyncio.get_running_loop().create_future()
        try:
            return (await self._execute([item]))[0]
        finally:
            lone.set_result(None)
            self._lone = None
            if self._waiting and not self._running:
                self._start()

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """Submit an item; the future resolves to its result, or raises goscope's error."""
        loop = asyncio.get_running_loop()
        future: ShieldableFuture[Result] = ShieldableFuture(loop=loop)
        self._waiting.append((item, future))
        if not self._running and self._lone is None:
            self._start()
        elif self._stall is None:
            self._stall = loop.call_later(STALL_S, self._on_stall)
        return future

    async def drain(self) -> None:
        """Return when every submitted item has its result."""
        while self._running or self._lone is not None:
            await asyncio.wait([*self._running, *([self._lone] if self._lone else [])])

    def _on_stall(self) -> None:
        self._stall = None
        if len(self._running) < MAX_BATCHES:
            self._start()

    def _start(self) -> None:
        batch = self._take()
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._waiting:
            self._start()
        elif self._stall is not None and not self._running:
            self._stall.cancel()
            self._stall = None

    def _take(self) -> list[tuple[Item, ShieldableFuture[Result]]]:
        batch: list[tuple[Item, ShieldableFuture[Result]]] = []
        weight = taken = 0
        for item, future in self._waiting:
            if len(batch) == MAX_ITEMS or weight >= MAX_WEIGHT:
                break
            taken += 1
            if not future.done():  # else its caller was cancelled
                future.shielded = self._is_write
                batch.append((item, future))
                weight += self._weight(item)
        del self._waiting[:taken]
        return batch

    async def _run(self, batch: list[tuple[Item, ShieldableFuture[Result]]]) -> None:
        try:
            results = await self._execute([item for item, _ in batch])
        except (BackendUnavailable, BackendBusy) as exc:
            _fail(batch, exc)
        except BackendError as exc:
            if len(batch) == 1:
                _fail(batch, exc)
                return
            for one in batch:  # so that one item the server refuses fails alone
                await self._run([one])
        except BaseException as exc:  # cancelled with its loop
            _fail(batch, exc)
            raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _fail(batch: list[tuple[Item, ShieldableFuture[Result]]], exc: BaseException) -> None:
    for _, future in batch:
        if future.done():
            continue
        if isinstance(exc, Exception):
            future.set_exception(exc)
        else:
            future.shielded = False
            future.cancel()
