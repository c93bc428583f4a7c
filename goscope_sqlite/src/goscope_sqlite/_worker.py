"""A thread for what would block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from ._lending import Lender

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Worker:
    """One thread that runs what it is given, in order. It starts with the first job."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lender = Lender()

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Run it in the thread. Cancelled, it leaves the work alone if that has begun.

        Raises `RuntimeError` when the interpreter shuts down and its threads have ended.
        """
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(self._executor, self._lender.run, work, *arguments)
        with self._lender.watching():
            return await outcome

    def stop(self) -> None:
        """End the thread after what it was given, without waiting for it."""
        self._executor.shutdown(wait=False)
