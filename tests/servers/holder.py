"""A program that holds a lock, and prints what happens to it. Its argument is the URL of a store.

Once it has lost the lock it waits for a line on its standard input, and then writes too late.
"""

from __future__ import annotations

import asyncio
import sys
import time

from goscope import LeaseLost, LockHandle, Scope
from goscope.errors import BackendUnavailable


def say(what: str) -> None:
    """Print the time, which is the same on every host of this machine, and what has happened."""
    print(time.monotonic(), what, flush=True)  # noqa: T201  # its parent reads it


async def hold(gs: Scope) -> LockHandle:
    """Hold the lock until it is lost; its handle."""
    handle: LockHandle | None = None
    try:
        async with gs.lock("stock", ttl="1s") as handle:
            say(f"holds the lock with token {handle.fencing_token}")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("the body is cancelled")
                raise
    except LeaseLost:
        say("LeaseLost")
    assert handle is not None
    return handle


async def write_late(gs: Scope, handle: LockHandle) -> None:
    while True:
        try:
            await gs.cache.set("stock", "A", fence=handle)
        except LeaseLost:
            say("its late fenced write is refused")
            break
        except BackendUnavailable:
            continue  # on a connection from before
        else:
            say("its late fenced write was applied")
            break
    say(f"reads {await gs.cache.get('stock')}")


async def main(url: str) -> None:
    async with Scope(url) as gs:
        handle = await hold(gs)
        await asyncio.to_thread(sys.stdin.readline)
        await write_late(gs, handle)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
