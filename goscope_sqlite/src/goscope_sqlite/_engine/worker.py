"""A thread for work that would block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from .starvation_guard import GilStarvationGuard

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Worker:
    """One thread that runs jobs in the order of submission. It starts with the first job."""

    def __init__(self, name: str, *, starvation_guard: bool = True) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._guard = GilStarvationGuard(starvation_guard)

    def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> asyncio.Future[T]:
        """Run the work in the thread. Cancelling the future does not interrupt work in progress.

        Raises `RuntimeError` when the interpreter shuts down and has ended the thread.
        """
        # Not a coroutine: asyncio cancels the task around one when the loop closes.
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(self._executor, self._guard.run, work, *arguments)
        self._guard.job_submitted()
        outcome.add_done_callback(lambda _: self._guard.job_finished())
        return outcome

    def stop(self) -> None:
        """End the thread after the submitted jobs, without waiting for it."""
        self._executor.shutdown(wait=False)
