"""A thread for what would block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from .starvation_guard import Lender

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Worker:
    """One thread that runs what it is given, in order. It starts with the first job."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._lender = Lender()

    def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        """Run it in the thread. Cancelling the future leaves the work alone if that has begun.

        Raises `RuntimeError` when the interpreter shuts down and its threads have ended.
        """
        # A future and no coroutine: a task around one would be cancelled when the loop closes.
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(self._executor, self._lender.run, work, *arguments)
        self._lender.sent()
        outcome.add_done_callback(lambda _: self._lender.returned())
        return outcome

    def stop(self) -> None:
        """End the thread after what it was given, without waiting for it."""
        self._executor.shutdown(wait=False)
