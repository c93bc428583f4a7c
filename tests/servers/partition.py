"""A holder of a lock whose network is cut for longer than its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import pytest

from goscope import LeaseLost, LockHandle, PersistenceAdapter, Scope

logger: Final = logging.getLogger(__name__)


async def check_partition(
    near: PersistenceAdapter,
    far: PersistenceAdapter,
    *,
    cut: Callable[[], None],
    mend: Callable[[], None],
) -> None:
    """Cut the network of ``near`` while it holds a lock, and mend it after ``far`` has taken over.

    The body of the holder is cancelled, ``far`` takes over at its time, and a late fenced write is
    refused. The course of events is logged: see it with ``--log-cli-level INFO``.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    lines: list[str] = []

    def log(what: str) -> None:
        lines.append(f"{loop.time() - started:7.3f} s  {what}")

    async with Scope(persistence=near) as one, Scope(persistence=far) as two:
        holding: asyncio.Future[LockHandle] = loop.create_future()

        async def hold() -> None:
            async with one.lock("stock", ttl="1s") as handle:
                log(f"A holds the lock with token {handle.fencing_token}")
                holding.set_result(handle)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    log("A: the body is cancelled")
                    raise

        async def take_over() -> None:
            async with two.lock("stock", wait="30s") as handle:
                log(f"B holds the lock with token {handle.fencing_token}")
                await two.cache.set("stock", "B", fence=handle)

        holder = asyncio.create_task(hold())
        handle = await holding
        log("the network is cut")
        cut()
        other = asyncio.create_task(take_over())
        with pytest.raises(LeaseLost):
            await holder
        log("A: LeaseLost")
        await other
        mend()
        with pytest.raises(LeaseLost):
            await one.cache.set("stock", "A", fence=handle)
        log("A: its late fenced write is refused")
        assert await one.cache.get("stock") == "B"
    logger.info("\n%s", "\n".join(lines))
