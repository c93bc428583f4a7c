"""The child's side of its life: it gets a job on its standard input, and ends with that."""

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
    """What a child works at. ``service`` is the URL of the service, "" for the service itself."""

    name: str
    plan: Plan
    store: Store
    folder: str
    service: str = ""


def run_child(
    work: Callable[[Job], Awaitable[None]],
    *,
    leave_on: Iterable[signal.Signals],
    ignore: Iterable[signal.Signals] = (),
) -> None:
    """Do the job that the first line of the standard input describes.

    The work is cancelled by a signal of ``leave_on``, and when the input ends: that is how the
    parent tells its child to leave, also by dying itself.
    """
    for number in ignore:
        signal.signal(number, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if line:
        asyncio.run(_work_until_told(work(msgspec.json.decode(line, type=Job)), leave_on))


async def _work_until_told(work: Awaitable[None], leave_on: Iterable[signal.Signals]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for number in leave_on:
        loop.add_signal_handler(number, task.cancel)
    loop.add_reader(sys.stdin, _leave_at_end_of_input, loop, task)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _leave_at_end_of_input(loop: asyncio.AbstractEventLoop, task: asyncio.Future[None]) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        loop.remove_reader(sys.stdin)
        task.cancel()
