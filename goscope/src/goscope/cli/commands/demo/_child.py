"""The main function of every child process.

A child reads its job from standard input, and stops when standard input is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from ._plan import Plan
from ._store import Store


class Job(msgspec.Struct, frozen=True):
    """The parameters of a child. ``service`` is the URL of the service, "" in the service."""

    name: str
    plan: Plan
    store: Store
    folder: str
    service: str = ""


def run_child(
    work: Callable[[Job], Awaitable[None]],
    *,
    stop_on: Iterable[signal.Signals],
    ignore: Iterable[signal.Signals] = (),
) -> None:
    """Run ``work`` with the job in the first line of standard input.

    The work is cancelled by a signal in ``stop_on`` and by the end of standard input. The parent
    closes that pipe to stop its child; the kernel does it if the parent is killed.
    """
    for number in ignore:
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if line:
        asyncio.run(_run_until_stopped(work(msgspec.json.decode(line, type=Job)), stop_on))


async def _run_until_stopped(work: Awaitable[None], stop_on: Iterable[signal.Signals]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for number in stop_on:
        loop.add_signal_handler(number, task.cancel)
    loop.add_reader(sys.stdin, _cancel_at_end_of_input, loop, task)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _cancel_at_end_of_input(loop: asyncio.AbstractEventLoop, task: asyncio.Future[None]) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin)
        task.cancel()
